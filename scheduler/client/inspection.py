"""Inspects, evaluates, runs and exports a trial's model, in child processes that load TensorFlow."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasweep.scheduler.client.fetching import expect_model, model_file
from kerasweep.scheduler.local import children

if TYPE_CHECKING:
    from kerasweep.jobs.store.artifacts import ArtifactRef, Artifacts
    from kerasweep.jobs.store.models import SweepRecord, TrialRecord

_LOOK, _EXPORT = "kerasweep.workers.models.look", "kerasweep.workers.models.export"
_REBUILDING = "kerasweep.workers.models.rebuilding"


@dataclass(frozen=True)
class Bench:
    """A trial's model file with the job that trained it.

    Args:
        model: the model file, its digest checked.
        job: the job's file.
        arguments: the trial's arguments to the job's `load_data`.
        recipe: its arguments to all functions, for a model that only its job can build.
    """

    model: Path
    job: Path
    arguments: dict[str, Any]
    recipe: dict[str, Any]

    def layers(self) -> dict[str, Any]:
        """Return the model's layers with their shapes and parameter counts."""
        return children.ask(_LOOK, ["layers", *self._words])

    def evaluate(self, data: str | None) -> dict[str, Any]:
        """Return the model's loss and metrics on one part of the data, and which: `{"data", "metrics"}`.

        Args:
            data: train, validation or test; None for test, or validation if the job has no test data.
        """
        return children.ask(_LOOK, ["evaluate", *self._words, *self._data(data)])

    def predict(self, data: str | None, inputs: Path | None, limit: int | None) -> dict[str, Any]:
        """Return the model's outputs for a file of inputs, or for one part of the job's data."""
        words = [f"--input={inputs}"] if inputs else self._data(data)
        words += [f"--limit={limit}"] if limit is not None else []
        return children.ask(_LOOK, ["predict", *self._words, *words])

    def diagram(self, target: Path) -> None:
        """Draw the model into a .png, .svg or .pdf file."""
        children.ask(_LOOK, ["diagram", *self._words, f"--dest={target}"])

    def export(self, format_: str, folder: Path, words: Sequence[str] = ()) -> dict[str, Any]:
        """Write the model in another format, compared with the Keras model; return `export.json`."""
        wanted = [f"--format={format_}", f"--dest={folder}", "--force", *words]
        return children.ask(_EXPORT, [*self._words, *wanted])

    def rebuild(self) -> Any:
        """Build the model with its job in this process, and load the trial's weights into it."""
        rebuilding = importlib.import_module(_REBUILDING)
        return rebuilding.rebuild_alone(self.job, json.dumps(self.recipe), self.model)

    @property
    def _words(self) -> list[str]:
        return [f"--model={self.model}", f"--job={self.job}", f"--recipe={json.dumps(self.recipe)}"]

    def _data(self, part: str | None) -> list[str]:
        chosen = [] if part is None else [f"--data={part}"]
        return [*chosen, f"--arguments={json.dumps(self.arguments)}"]


@contextmanager
def lay_out(
    artifacts: Artifacts, sweep: SweepRecord, trial: TrialRecord, model: ArtifactRef | None
) -> Iterator[Bench]:
    """Yield a bench in a temporary folder.

    Raises:
        NoResult: the trial has no model.
        InputError: TensorFlow is not installed.
        Damaged: the model or the job's bundle does not match its recorded digest.
    """
    from kerasweep.jobs.code.bundle import unpack
    from kerasweep.jobs.code.program import read_program

    model = expect_model(sweep, trial, model)
    children.expect_keras("inspecting a model")
    with tempfile.TemporaryDirectory(prefix="kerasweep-") as name:
        folder = Path(name)
        file = folder / model_file(model)
        artifacts.fetch(model.key, model.sha256, file)
        bundle, entry = sweep.code_of(trial)
        unpack(artifacts.get(bundle.key, bundle.sha256), folder / "job")
        job = folder / "job" / entry
        arguments = read_program(job).route(trial.params)["load_data"]
        yield Bench(file, job, arguments, recipe_of(sweep, trial))


def recipe_of(sweep: SweepRecord, trial: TrialRecord) -> dict[str, Any]:
    """Return a trial's arguments to its job's functions, as plain values."""
    return {
        "params": {name: value for name, value in trial.params.items() if not name.startswith("training.")},
        "seed": trial.seed,
        "batch_size": sweep.spec.training_for(dict(trial.params)).batch_size,
        "trial": {
            "sweep": sweep.name,
            "sweep_id": sweep.id,
            "number": trial.number,
            "attempt": trial.attempt,
        },
    }
