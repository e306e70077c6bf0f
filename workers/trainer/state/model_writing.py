"""Writes a trial's model: as `.keras`, or as weights if Keras cannot serialise it."""

from __future__ import annotations

import copy
import random
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
from keras.src.backend.common import global_state
from keras.src.saving import saving_lib

from kerasweep.workers.trainer.job.seeding import PROCESS_RANDOM
from kerasweep.workers.trainer.symptoms import is_machine

_COUNTERS = "object_name_uids"
_MOST_SAID = 200  # characters of an error
_REBUILT = "`kerasweep evaluate`, `predict` and Sweep.load_model() rebuild it with build_model"


def loading_notes(model: keras.Model) -> list[str]:
    """Return what saving and loading the model will need, before it is trained; nothing for most models.

    Only the job's own classes are checked: Keras can save and load its own.
    """
    if all(_is_keras(part) for part in _parts(model)):
        return []
    with _names_and_draws_kept():
        try:
            saving_lib._serialize_model_as_json(model)
        except Exception as exc:  # noqa: BLE001 - the job's get_config may raise anything
            rule = f"Keras cannot serialise the model ({_said(exc)}), so only its weights are kept"
            return [f"{rule}; {_REBUILT}; a get_config on the class named makes it a .keras file"]
        found = [_remake(part) for part in _parts(model) if not _is_keras(part)]
    return list(dict.fromkeys(note for note in found if note))


def write_model(model: keras.Model, folder: Path) -> Path:
    """Write the model into a folder; return the file, `model.keras` or `model.weights.h5`.

    Raises:
        Exception: not even its weights can be written.
    """
    path = folder / "model.keras"
    try:
        model.save(path)
    except Exception as exc:
        if is_machine(exc):  # the disk's fault, not the model's
            raise
        path.unlink(missing_ok=True)
        path = folder / "model.weights.h5"
        model.save_weights(path)
    return path


def _parts(model: keras.Model) -> Iterator[Any]:
    yield model
    yield from model._flatten_layers(include_self=False)
    if model.optimizer is not None:
        yield model.optimizer
        yield getattr(model.optimizer, "_learning_rate", None)


def _is_keras(part: Any) -> bool:
    known = type(part).__module__.startswith(("keras.", "builtins"))
    return known and not isinstance(part, keras.layers.Lambda)


def _remake(part: Any) -> str | None:
    """Return what `load_model` needs for one of the model's parts."""
    name = type(part).__name__
    if isinstance(part, keras.layers.Lambda):
        return "keras.models.load_model needs safe_mode=False for this model: a Lambda layer holds code"
    if isinstance(part, keras.Model):
        return None
    try:
        type(part).from_config(part.get_config())
    except Exception as exc:  # noqa: BLE001 - the job's own code
        return (
            f"keras.models.load_model cannot make {name} from its configuration ({_said(exc)}); let its "
            f"__init__ take **kwargs and hand them to super().__init__(); until then {_REBUILT}"
        )
    return None


def _said(exc: BaseException) -> str:
    told = textwrap.shorten(str(exc), _MOST_SAID, placeholder=" …")
    return f"{type(exc).__name__}: {told}"


@contextmanager
def _names_and_draws_kept() -> Iterator[None]:
    """Leave no trace of layers created on trial: no names counted, no random numbers drawn."""
    with PROCESS_RANDOM:  # else another trial that builds its model would draw what this one puts back
        drawn, names = random.getstate(), copy.deepcopy(global_state.get_global_attribute(_COUNTERS))
        try:
            yield
        finally:
            random.setstate(drawn)
            global_state.set_global_attribute(_COUNTERS, names)
