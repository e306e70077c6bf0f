"""Loads a trial's model file with the classes that its job registers, and selects some of its outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from kerasweep.jobs.errors import InputError
from kerasweep.workers.models.answer import first_line
from kerasweep.workers.models.rebuilding import Recipe, rebuild
from kerasweep.workers.trainer.job.source import JobSource


@contextmanager
def job_classes(job: Path | None) -> Iterator[JobSource | None]:
    """Load the job's file, so that Keras finds the classes that it registers.

    Args:
        job: the job's file, or None if the model needs none of its classes.

    Raises:
        InputError: there is no such file, or it raises on import.
    """
    if job is None:
        yield None
        return
    if not job.is_file():
        raise InputError(
            f"the job must be a Python file, got {str(job)!r}\nGive the path of the sweep's job file"
        )
    try:
        source = JobSource(job.resolve().parent, job.name)
    except Exception as exc:
        raise InputError(
            f"the job's file must load, got {type(exc).__name__}: {first_line(exc)} ({job})\n"
            "Fix it, then try again"
        ) from exc
    with keras.saving.custom_object_scope(source.custom_objects):
        yield source


def open_model(
    path: Path, source: JobSource | None, recipe: Recipe | None, *, compiled: bool = False
) -> keras.Model:
    """Return a trial's model: from its file if Keras can load it, else rebuilt by its job.

    Args:
        path: a `.keras`, `.h5` or `.weights.h5` file.
        source: the job, loaded, or None.
        recipe: the trial's arguments to the job's functions; None if unknown.
        compiled: whether to restore loss, metrics and optimizer too.

    Raises:
        InputError: neither works.
    """
    bare = path.name.endswith(".weights.h5")
    if not bare:
        try:
            # A Lambda is the job's own code, and the job has already been run.
            return load_model_file(path, compiled=compiled, trusted=source is not None)
        except InputError:
            if source is None or recipe is None or path.suffix != ".keras" or not path.is_file():
                raise
    if source is None or recipe is None:
        raise InputError(
            f"weights alone need the job that builds their model, got none ({path})\n"
            "Give --job and --recipe, or name the sweep: `kerasweep evaluate SWEEP`"
        )
    return rebuild(source, recipe, path)


def load_model_file(path: Path, *, compiled: bool = False, trusted: bool = False) -> keras.Model:
    """Return the model in a `.keras` or `.h5` file.

    Args:
        path: the file.
        compiled: whether to restore loss, metrics and optimizer too.
        trusted: whether to run code in the file, such as that of a Lambda layer.

    Raises:
        InputError: no such file, not a model, or a model that needs an unregistered class.
    """
    if not path.is_file():
        raise InputError(
            f"the model must be a file, got {str(path)!r}\nFetch the model first: `kerasweep fetch`"
        )
    try:
        return keras.models.load_model(path, compile=compiled, safe_mode=not trusted)
    except Exception as exc:
        raise InputError(
            f"the model file must load in Keras {keras.version()}, got {type(exc).__name__}: "
            f"{first_line(exc)} ({path})\n"
            "If it needs classes of its job, give the job's file and register them there with "
            "keras.saving.register_keras_serializable"
        ) from exc


def keep_outputs(model: keras.Model, names: Sequence[str]) -> keras.Model:
    """Return the part of a functional model that leads to some of its outputs.

    Args:
        model: a functional model with several outputs.
        names: which outputs; one gives a model with that single output, several one with a dict.

    Raises:
        InputError: the model is not functional, or has no such output.
    """
    outputs = named_outputs(model)
    for name in names:
        if name not in outputs:
            known = ", ".join(outputs) or "none, since it is not functional"
            raise InputError(f"outputs are named by the model: {known}, got {name!r}\nName one of these")
    kept = {name: outputs[name] for name in names}
    return keras.Model(input_structure(model), next(iter(kept.values())) if len(kept) == 1 else kept)


def named_outputs(model: keras.Model) -> Mapping[str, Any]:
    """Return a functional model's outputs by name; nothing for other models."""
    names = getattr(model, "output_names", None) or ()
    return dict(zip(names, model.outputs, strict=True)) if names else {}


def input_structure(model: keras.Model) -> Any:
    """Return the model's input structure: symbolic tensors, or specs for a subclassed model.

    Raises:
        InputError: a model that was never built, or takes its inputs in several arguments.
    """
    # Keras' own export uses this attribute: `model.inputs` is flat and has lost the names of a dict.
    structure = getattr(model, "_inputs_struct", None)
    if structure is not None:
        return structure
    if getattr(model, "inputs", None):
        return model.inputs[0] if len(model.inputs) == 1 else list(model.inputs)
    shapes = (model.get_build_config() or {}).get("input_shape")
    if shapes is None:
        raise InputError(
            f"a subclassed model must be built and take one argument, got {type(model).__name__}\n"
            "Call it once on keras.Input in build_model, with several inputs as a dict"
        )
    return _specs(shapes, model.input_dtype)


def _specs(shapes: Any, dtype: str) -> Any:
    if isinstance(shapes, Mapping):
        return {name: _specs(shape, dtype) for name, shape in shapes.items()}
    if all(size is None or isinstance(size, int) for size in shapes):
        return keras.InputSpec(shape=(None, *shapes[1:]), dtype=dtype)
    return [_specs(shape, dtype) for shape in shapes]
