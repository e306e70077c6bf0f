"""Exports a model to another format, reads it back with that format's runtime, and compares the two.

python -m kerasweep.workers.models.export --model model.keras --format onnx --dest winner --job train.py
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasweep.jobs.errors import DestinationError, InputError
from kerasweep.jobs.sweepfile.rules import nearest
from kerasweep.workers.models.answer import answer, first_line
from kerasweep.workers.models.model_file import job_classes, keep_outputs, open_model
from kerasweep.workers.models.rebuilding import Recipe
from kerasweep.workers.models.runtimes import FORMATS, ModelFormat, flatten_outputs, match_outputs
from kerasweep.workers.models.samples import arrange, make_samples, read_samples

Array = NDArray[Any]

REPORT = "export.json"


@dataclass(frozen=True)
class Export:
    """The result of an export, as in `export.json`.

    Args:
        format: one of FORMATS.
        files: names in the destination, folders with a trailing slash.
        max_abs_deviation: the largest absolute deviation from the Keras model's outputs.
        tolerance: the largest that was allowed.
        samples: the number of inputs compared.
        versions: of what wrote it and what ran it.
    """

    format: str
    files: tuple[str, ...]
    max_abs_deviation: float
    tolerance: float
    samples: int
    versions: Mapping[str, str]


def convert(
    model_path: Path,
    format: str,
    dest: Path,
    samples: Array | Mapping[str, Array] | None = None,
    tolerance: float | None = None,
    *,
    job: Path | None = None,
    recipe: Recipe | None = None,
    outputs: Sequence[str] = (),
    force: bool = False,
) -> Export:
    """Export a model to another format and check it; an export that fails the check is removed.

    Args:
        model_path: a `.keras` or `.h5` file.
        format: one of FORMATS.
        dest: a folder, created if missing; `export.json` is written beside the export.
        samples: inputs to compare on, one array or one for each input by name; random ones by default.
        tolerance: the largest absolute deviation; by default the format's, times the largest output above 1.
        job: the job's file, for a model with its own classes.
        recipe: the trial's arguments to the job, for a model that only its job can build.
        outputs: keep only these of a functional model's outputs; all by default.
        force: overwrite existing files.

    Raises:
        InputError: an unknown format, file or output, a model that the format cannot hold, a missing package,
            or a deviation above the tolerance.
        DestinationError: the destination already holds such an export.
    """
    kind = _format(format)
    target = dest / kind.file
    if target.exists() and not force:
        raise DestinationError(
            f"an export never overwrites files, and {target} exists\nName another folder, or use --force"
        )
    dest.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=dest) as folder, job_classes(job) as source:
        model = open_model(model_path, source, recipe)
        model = keep_outputs(model, outputs) if outputs else model
        inputs = make_samples(model) if samples is None else arrange(model, samples)
        expected = flatten_outputs(model(inputs, training=False))
        written = Path(folder) / kind.file
        found = _write_and_run(kind, format, model, written, inputs)
        export = _judge(kind, format, expected, found, tolerance)
        _publish(written, target)
    (dest / REPORT).write_text(json.dumps(asdict(export), indent=2) + "\n", encoding="utf-8")
    return export


def deviation(expected: Mapping[str, Array], found: Mapping[str, Array]) -> float:
    """Return the largest absolute deviation; NaN against a number counts as infinite.

    Raises:
        InputError: the shapes differ.
    """
    greatest = 0.0
    for name, wanted in expected.items():
        got = found[name]
        if wanted.shape != got.shape:
            raise InputError(
                f"an export must keep the outputs' shapes, got {got.shape} for {wanted.shape} ({name!r})\n"
                "Choose another format"
            )
        wanted, got = wanted.astype(np.float64), got.astype(np.float64)
        same = (wanted == got) | (np.isnan(wanted) & np.isnan(got))
        with np.errstate(invalid="ignore"):
            apart = np.where(same, 0.0, np.abs(wanted - got))
        greatest = max(greatest, float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0)))
    return greatest


def _format(name: str) -> ModelFormat:
    if name not in FORMATS:
        raise InputError(
            f"the format must be one of {', '.join(FORMATS)}, got {name!r}\n{nearest(name, FORMATS)}"
        )
    return FORMATS[name]


def _write_and_run(kind: ModelFormat, format: str, model: Any, path: Path, inputs: Any) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # converters warn about their own deprecated calls
            kind.write(model, path)
            found = kind.run(path, model, inputs)
    except InputError:
        raise
    except Exception as exc:
        raise InputError(
            f"{format} must hold the whole model and run it, got {type(exc).__name__}: {first_line(exc)}\n"
            "Choose another format: weights.h5 holds every model"
        ) from exc
    return found if isinstance(found, Mapping) else flatten_outputs(found)


def _judge(
    kind: ModelFormat, format: str, expected: Mapping[str, Array], found: Any, tolerance: float | None
) -> Export:
    found = match_outputs(flatten_outputs(found), list(expected))
    greatest = max(
        (float(np.abs(np.nan_to_num(array)).max(initial=0.0)) for array in expected.values()), default=0.0
    )
    allowed = kind.tolerance * max(1.0, greatest) if tolerance is None else tolerance
    apart = deviation(expected, found)
    if not apart <= allowed:
        raise InputError(
            f"{format} must give the Keras model's outputs within {allowed:.3g}, got them {apart:.3g} apart\n"
            "Choose another format, or raise the tolerance if this is close enough"
        )
    rows = len(next(iter(expected.values())))
    return Export(
        format,
        (kind.file + ("/" if kind.file == "savedmodel" else ""),),
        apart,
        allowed,
        rows,
        _versions(kind),
    )


def _versions(kind: ModelFormat) -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("keras", "tensorflow", "tensorflow-cpu", "numpy", *kind.packages):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _publish(written: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    os.replace(written, target)


def main(arguments: Sequence[str] | None = None) -> int:
    """Export according to the command line; print one JSON line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m kerasweep.workers.models.export", description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--format", required=True, help=", ".join(FORMATS))
    parser.add_argument("--dest", type=Path, required=True, help="a folder")
    parser.add_argument("--job", type=Path, help="the job's file, for a model with its own classes")
    parser.add_argument("--recipe", type=Recipe.from_json, help="the trial's arguments to the job, as JSON")
    parser.add_argument("--outputs", default="", help="keep only these outputs, separated by commas")
    parser.add_argument("--samples", type=Path, help="inputs to compare on: .npy, .npz or .csv")
    parser.add_argument("--tolerance", type=float, help="largest absolute deviation")
    parser.add_argument("--force", action="store_true", help="overwrite existing files")
    given = parser.parse_args(arguments)
    return answer(lambda: asdict(_convert_as_told(given)))


def _convert_as_told(given: argparse.Namespace) -> Export:
    samples = None if given.samples is None else read_samples(given.samples)
    outputs = [name.strip() for name in given.outputs.split(",") if name.strip()]
    return convert(
        given.model,
        given.format,
        given.dest,
        samples,
        given.tolerance,
        job=given.job,
        recipe=given.recipe,
        outputs=outputs,
        force=given.force,
    )


if __name__ == "__main__":
    sys.exit(main())
