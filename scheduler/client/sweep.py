"""One sweep, from Python: its status, trials and winner, and how to steer it."""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasweep.jobs.errors import Halted, InputError, NoResult
from kerasweep.jobs.trial import SweepState, TrialKey, TrialState
from kerasweep.jobs.variants import Variant, ranked_variants, variants_of
from kerasweep.scheduler.client import notebook, report, troubles, wording
from kerasweep.scheduler.client.asking import Requests
from kerasweep.scheduler.client.forecast import Times, times_of
from kerasweep.scheduler.client.objects import ExportReport, Status, Trial, Trials, Winner

if TYPE_CHECKING:
    import pandas

    from kerasweep.jobs.store import models
    from kerasweep.jobs.store.artifacts import ArtifactRef
    from kerasweep.jobs.sweepfile.spec import SweepSpec
    from kerasweep.scheduler.client.connections import Connections
    from kerasweep.scheduler.client.inspection import Bench
    from kerasweep.scheduler.deciding.replay import Replay
    from kerasweep.scheduler.deciding.warming import WarmStart
    from kerasweep.scheduler.evidence.certificate import Certificate
    from kerasweep.scheduler.evidence.comparison import Comparison

_POLL_S = 0.5


class Sweep(Requests):
    """A recorded sweep; every call reads the records again.

    Args:
        client: connections to the store, such as a `Client`.
        record: the sweep as it was when it was looked up.
    """

    def __init__(self, client: Connections, record: models.SweepRecord) -> None:
        self.client, self.record = client, record

    def __repr__(self) -> str:
        return f"Sweep({self.name!r}, id={self.id!r}, {self.record.state})"

    @property
    def id(self) -> str:
        """Its id."""
        return self.record.id

    @property
    def name(self) -> str:
        """Its name."""
        return self.record.name

    @property
    def handle(self) -> str:
        """What commands call it: its name, or its id if the name means another sweep."""
        named = self.client.records.find_sweep(self.name)
        return self.name if named.id == self.id else self.id

    @property
    def spec(self) -> SweepSpec:
        """The sweep file's content, validated."""
        return self.record.spec

    @property
    def warm_start(self) -> WarmStart | None:
        """What it learns from an earlier sweep; None if it was submitted without one."""
        return report.warm_start_of(self.record)

    @property
    def state(self) -> SweepState:
        """Its current state."""
        return self.refresh().record.state

    def refresh(self) -> Sweep:
        """Read the sweep's row again; return self."""
        self.record = self.client.records.sweep(self.id)
        return self

    def counts(self) -> dict[TrialState, int]:
        """Return the number of trials in each state that occurs."""
        return self.client.records.counts(self.id)

    def status(self, *, kept: bool = False, times: Times | None = None) -> Status:
        """Return the sweep's status: its trials by state, the best one, and why it waits, if it does.

        Args:
            kept: whether this process keeps a worker and a scheduler running for it.
            times: how long it trains, if that has just been measured.
        """
        sweep, counts, best = self.refresh().record, self.counts(), self.best_variant()
        reason, told, awaited = troubles.holding_up(
            self.client, sweep, counts, handle=lambda: self.handle, kept=kept
        )
        failed = self.trial_records([TrialState.FAILED]) if counts.get(TrialState.FAILED) else []
        times = times or self.times()
        return Status.of(
            sweep,
            counts,
            self.best_record(best),
            elapsed_s=times.elapsed_s,
            eta_s=times.left_s,
            waiting=reason,
            troubles=told,
            failed=failed,
            awaited=awaited,
            variant=best,
        )

    def times(self) -> Times:
        """Return how long the sweep has been training, and the estimate of how long it will still take."""
        return times_of(self.client.records, self.record, self.planned_epochs)

    def planned_epochs(self, params: Mapping[str, Any]) -> int | None:
        """Return how many epochs a trial may train, or None if unknown; early stopping may end it."""
        epochs = params.get("training.epochs", self.spec.training.get("epochs"))
        return epochs if isinstance(epochs, int) else None

    def _repr_html_(self) -> str:
        return self.status()._repr_html_()

    def trial_records(self, states: Sequence[TrialState] | None = None) -> list[models.TrialRecord]:
        """Return the trials as recorded, by number."""
        return self.client.records.trials(self.id, states)

    def phases(self) -> dict[int, str]:
        """Return what running trials do before they train, such as `compiling`, by number."""
        found = [pair for worker in self.client.workers() for pair in worker.facts.get("phases", {}).items()]
        keys = [(key.rpartition("/"), phase) for key, phase in found]
        return {int(number): phase for (sweep, _, number), phase in keys if sweep == self.id}

    def trial(self, number: int) -> Trial:
        """Return one trial.

        Raises:
            NotFound: the sweep has no such trial.
        """
        return Trial.of(self.client.records.trial(TrialKey(self.id, number)))

    def trial_list(self, states: Sequence[TrialState] | None = None) -> Trials:
        """Return the trials, by number; `trials` returns them as a DataFrame.

        Args:
            states: only trials in these states.
        """
        return Trials(map(Trial.of, self.trial_records(states)))

    def trials(self, states: Sequence[TrialState] | None = None) -> pandas.DataFrame:
        """Return the trials as a pandas DataFrame, a column for each parameter and metric.

        Raises:
            InputError: pandas is not installed.
        """
        pandas = _import("pandas", "kerasweep[pandas]", "a DataFrame")
        rows = [report.flat(report.trial_document(trial)) for trial in self.trial_list(states)]
        frame = pandas.DataFrame(rows)
        return frame.set_index("trial") if rows else frame

    def epochs(self, trial: int | None = None) -> pandas.DataFrame:
        """Return the metrics of every epoch as a pandas DataFrame, for all trials or for one.

        Raises:
            InputError: pandas is not installed.
        """
        pandas = _import("pandas", "kerasweep[pandas]", "a DataFrame")
        found = self.client.records.epochs(self.id, trial)
        rows = [
            {"trial": number, **row} for number, some in found.items() for row in report.epoch_documents(some)
        ]
        frame = pandas.DataFrame(rows)
        return frame.set_index(["trial", "epoch"]) if rows else frame

    def best_record(self, variant: Variant | None = None) -> models.TrialRecord | None:
        """Return the best trial as recorded, or None where none counts yet; or the best of a variant."""
        if variant is not None and variant.best is not None:
            return self.client.records.trial(TrialKey(self.id, variant.best))
        return next(iter(self.client.records.best(self.record)), None)

    def variants(self) -> list[Variant]:
        """Return the variants by number; with `repeats`, each has several trials, with different seeds."""
        return variants_of(self.spec, self.trial_records())

    def best_variant(self) -> Variant | None:
        """Return the variant with the best mean, if the sweep has repeats and one has ended with a value."""
        if self.spec.times == 1:
            return None
        return next(iter(ranked_variants(self.spec, self.trial_records())), None)

    def certify(self, top: int = 3, seeds: int = 10) -> Sweep:
        """Train the best variants again under fresh seeds; return the sweep that does, which is running.

        One that was submitted before for the same trials and as many seeds is returned as it is.

        Args:
            top: how many variants.
            seeds: how many seeds each is trained under, the same for all.

        Raises:
            NoResult: no trial has a value yet.
        """
        from kerasweep.scheduler.evidence import certifying

        certifying.expect_numbers(self.record, top, seeds)
        self.chosen(None)
        found = certifying.certify(self.client, self.refresh().record, top, seeds)
        return Sweep(self.client, found)

    def certificate(self) -> Certificate:
        """Return what a sweep that `certify` returned says, as far as it has come.

        Raises:
            InputError: it certifies no other sweep.
        """
        from kerasweep.scheduler.evidence import certificate

        trials = self.trial_records()
        failures = {one.number: one.failure for one in trials if one.failure}
        return certificate.read(self.refresh().record, variants_of(self.spec, trials), failures)

    def best(self, trial: int | None = None) -> Winner:
        """Return the best trial, or another, with its model file.

        Raises:
            NotFound: the sweep has no such trial.
            Halted: the sweep failed, so there is no best trial.
            NoResult: no trial has a value yet.
        """
        chosen = self.chosen(trial)
        model = self.model_of(chosen)
        uri = self.client.artifacts.uri(model.key) if model else None
        times = self.spec.times
        variant = self.variants()[chosen.number // times] if times > 1 else None
        return Winner.of(self.record, chosen, model, uri, variant)

    def chosen(self, trial: int | None = None) -> models.TrialRecord:
        """Return the recorded trial of that number, or the best one; raise as `best` does."""
        if trial is not None:
            return self.client.records.trial(TrialKey(self.id, trial))
        best = self.best_record()
        if best is not None:
            return best
        if self.refresh().record.state is SweepState.FAILED:
            raise Halted(f"sweep {self.name} failed, so it has no best trial: {self.record.message}")
        raise NoResult(
            f"a sweep has a best trial once one has ended with a value, and {self.name} has none yet\n"
            f"`kerasweep status {self.handle}` shows its state"
        )

    def model_of(self, trial: models.TrialRecord) -> ArtifactRef | None:
        """Return the trial's recorded model file, from its best epoch."""
        refs = self.client.records.artifacts(self.id, trial.number, "model").get(trial.number, [])
        exact = [ref for ref in refs if ref.epoch == trial.best_epoch]
        return next(iter(exact or refs), None)

    def fetch(self, destination: str | Path, *, trial: int | None = None, force: bool = False) -> Path:
        """Write `model.keras` and `result.json` into a folder; return the model's path.

        Args:
            destination: the folder, created if missing.
            trial: which trial; the best one by default.
            force: write even if the folder holds something else.

        Raises:
            DestinationError: the folder holds something else.
            Damaged: the model does not match its recorded digest; nothing was written.
        """
        from kerasweep.scheduler.client.fetching import fetch

        chosen = self.chosen(trial)
        model = self.model_of(chosen)
        return fetch(self.client.artifacts, self.record, chosen, model, Path(destination), force=force)

    def export(
        self,
        destination: str | Path,
        format_: str,
        *,
        trial: int | None = None,
        outputs: str | None = None,
        tolerance: float | None = None,
        force: bool = False,
    ) -> ExportReport:
        """Write a trial's model in another format, with `result.json`; return what `export.json` says of it.

        Args:
            destination: the folder, created if missing.
            format_: keras, weights.h5, h5, savedmodel, tflite or onnx.
            trial: which trial; the best one by default.
            outputs: keep only these outputs of the model, separated by commas.
            tolerance: how far the export may deviate from the Keras model; by default the format's own.
            force: write even if the folder holds something else.

        Raises:
            InputError: the model cannot be exported like this, or deviates by more than the tolerance.
            DestinationError: the folder holds something else.
        """
        from kerasweep.scheduler.client.fetching import prepare, write_result

        chosen = self.chosen(trial)
        words = [f"--outputs={outputs}"] if outputs else []
        words += [f"--tolerance={tolerance}"] if tolerance is not None else []
        with self.bench(chosen.number) as bench:
            prepare(Path(destination), self.id, chosen.number, force=force)
            done = ExportReport.read(bench.export(format_, Path(destination), words))
        model = self.model_of(chosen)
        if model is not None:
            write_result(self.record, chosen, model, Path(destination))
        return done

    def bench(self, trial: int | None = None) -> AbstractContextManager[Bench]:
        """Yield a trial's model file with its job, in a temporary folder, for inspection."""
        from kerasweep.scheduler.client.inspection import lay_out

        chosen = self.chosen(trial)
        return lay_out(self.client.artifacts, self.record, chosen, self.model_of(chosen))

    def load_model(self, trial: int | None = None, **options: Any) -> Any:
        """Return the model as Keras loads it; `options` go to `keras.models.load_model`.

        If its file is not enough, the job's build_model builds it in this process, and its weights are loaded
        into it.

        Raises:
            NoResult: no trial has a value yet, or the trial has no model.
            InputError: Keras is not installed, or the job does not build the model.
            Damaged: the model does not match its recorded digest.
        """
        from kerasweep.scheduler.client.fetching import expect_model

        chosen = self.chosen(trial)
        expect_model(self.record, chosen, self.model_of(chosen))  # before Keras and TensorFlow are loaded
        keras = _import("keras", "kerasweep[worker]", "loading a model")
        with tempfile.TemporaryDirectory(prefix="kerasweep-") as folder:
            model = self.fetch(folder, trial=chosen.number)
            if model.suffix == ".keras":
                try:
                    # A Lambda is the job's own code, which this sweep has already run.
                    return keras.models.load_model(model, **{"safe_mode": False, **options})
                except (TypeError, ValueError, NotImplementedError, AttributeError, ImportError):
                    if options:  # the options are for that file only
                        raise
            with self.bench(chosen.number) as bench:
                return bench.rebuild()

    def kept_as(self, trial: int | None = None) -> str | None:
        """Return the format of a trial's recorded model, `keras` or `weights.h5`; None without one."""
        from kerasweep.scheduler.client.fetching import model_file

        model = self.model_of(self.chosen(trial))
        return None if model is None else model_file(model).removeprefix("model.")

    def compare(self, other: Sweep) -> Comparison:
        """Compare what two sweeps found, how fast, and what differs in their files."""
        from kerasweep.scheduler.evidence import comparison

        return comparison.compare(self.client, self.refresh().record, other.refresh().record)

    def replay(self) -> Replay:
        """Decide the sweep again from its seed and results, and compare that with its journal."""
        from kerasweep.scheduler.deciding import replay

        return replay.replay(self.client.records, self.refresh().record)

    def wait(self, timeout_s: float = float("inf")) -> SweepState:
        """Wait until the sweep has ended, is held (`status` says why), or time is up; return its state."""
        end = time.monotonic() + timeout_s
        while not ((state := self.state).final or self.record.held) and time.monotonic() < end:
            time.sleep(_POLL_S)
        return state


class Sweeps(list[Sweep]):
    """Sweeps, the newest first; a table in a notebook."""

    def _repr_html_(self) -> str:
        titles = ["name", "sweep", "state", "trials", "metric", "best", "submitted"]
        return notebook.grid(titles, (_row(sweep.status()) for sweep in self))


def _row(status: Status) -> list[str]:
    best = wording.metric(status.best.value) if status.best else wording.NOTHING
    trials = f"{status.ended}/{status.max_trials}"
    submitted = f"{status.created_at:%Y-%m-%d %H:%M} UTC"
    return [status.name, status.sweep, status.state, trials, status.metric.name, best, submitted]


def _import(name: str, extra: str, what: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as exc:
        raise InputError(f"{what} needs {name}, which is not installed; pip install '{extra}'") from exc
