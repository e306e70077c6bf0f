"""Commands for results: best, fetch, show, evaluate, predict."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from kerasweep.jobs.errors import InputError, KerasweepError
from kerasweep.scheduler.cli.commands import RESULTS, Output, SweepName, TrialNumber, command
from kerasweep.scheduler.cli.output import OutputFormat, emit, say
from kerasweep.scheduler.client import report, wording
from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.client.fetching import loading_hint
from kerasweep.scheduler.client.objects import Trial
from kerasweep.scheduler.client.sweep import Sweep
from kerasweep.scheduler.show import tables, winner


class Part(StrEnum):
    """A part of a job's data."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class ExportFormat(StrEnum):
    """The formats that a model can be exported to."""

    KERAS = "keras"
    WEIGHTS = "weights.h5"
    H5 = "h5"
    SAVED_MODEL = "savedmodel"
    TFLITE = "tflite"
    ONNX = "onnx"


_INPUTS = (".npy", ".npz", ".csv")
DataPart = Annotated[
    Part | None,
    typer.Option(
        "--data",
        help="The part of the job's data; by default test, or validation if the job has no test data.",
        show_default=False,
    ),
]
TrialOption = Annotated[
    int | None, typer.Option("--trial", min=0, help="The trial; the best by default.", show_default=False)
]


@command(RESULTS, "kerasweep best mlp", "kerasweep best mlp -o json | jq .params")
def best(client: Client, sweep: SweepName, output: Output = OutputFormat.TABLE) -> None:
    """Show the winner, and where its model is."""
    found = client.sweep(sweep)
    document = report.best_document(found.best())
    emit(document, output, lambda: winner.best(document, found.spec.metric.name))


@command(
    RESULTS,
    "kerasweep fetch mlp winner",
    "kerasweep fetch mlp other --trial 3",
    "kerasweep fetch mlp winner --format onnx",
)
def fetch(
    client: Client,
    sweep: SweepName,
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="A folder.", show_default=False)],
    trial_number: TrialNumber = None,
    trial: TrialOption = None,
    format_: Annotated[ExportFormat, typer.Option("--format", help="The format.")] = ExportFormat.KERAS,
    outputs: Annotated[
        str | None,
        typer.Option(metavar="NAME,…", help="Keep only these outputs of the model.", show_default=False),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(min=0.0, help="How far an export may deviate from the Keras model.", show_default=False),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write even if the folder holds something else.")
    ] = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Write the best model into a folder.

    Beside model.keras, result.json holds everything known about it.
    An export to another format is compared with the Keras model; export.json holds the deviation.
    """
    found = client.sweep(sweep)
    chosen = found.chosen(_one_trial(trial_number, trial))
    document: dict[str, Any] = {
        "sweep": found.id,
        "name": found.name,
        "trial": chosen.number,
        "format": str(format_),
    }
    hint = None
    if outputs is None and format_ in (ExportFormat.KERAS, found.kept_as(chosen.number)):
        path = found.fetch(destination, trial=chosen.number, force=force)
        files, export, hint = [path.name], None, loading_hint(path)
        document["format"] = path.name.removeprefix("model.")
    else:
        done = found.export(
            destination, format_, trial=chosen.number, outputs=outputs, tolerance=tolerance, force=force
        )
        files, export = [*done.files, "export.json"], dict(done.document)
    document |= {"folder": str(destination), "files": [*files, "result.json"], "export": export}
    emit(document, output, lambda: tables.literal(_fetched(document, found)))
    if hint is not None:
        say(f"note: {hint}")


@command(RESULTS, "kerasweep show mlp 3", "kerasweep show mlp 3 --diagram model.png")
def show(
    client: Client,
    sweep: SweepName,
    trial: TrialNumber = None,
    trial_option: TrialOption = None,
    layers: Annotated[bool, typer.Option(help="Load the model to list its layers.")] = True,
    diagram: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the model as a .png or .svg file.", show_default=False),
    ] = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show one trial, or the best.

    It prints the parameters, the curves over the epochs, and the layers of the model.
    """
    found = client.sweep(sweep)
    chosen = found.chosen(_one_trial(trial, trial_option))
    epochs = client.records.epochs(found.id, chosen.number).get(chosen.number, [])
    document = report.trial_document(Trial.of(chosen)) | {"curves": report.epoch_documents(epochs)}
    document["model"], unseen = _model(found, chosen.number) if layers else (None, "")
    if document["failure"]:
        unseen = ""  # the failure says why there is no model
    logs = f"`kerasweep logs {found.handle} {chosen.number}` shows what it printed"

    def shown() -> dict[str, Any]:
        return tables.without_waits(document, report.waits_of(client.records, found.record, chosen.number))

    emit(document, output, lambda: tables.trial(shown(), found.spec.metric.name, unseen, logs))
    if diagram is not None:
        with found.bench(chosen.number) as bench:
            bench.diagram(diagram)
        say(f"wrote {diagram}")


@command(RESULTS, "kerasweep evaluate mlp", "kerasweep evaluate mlp 3 --data train -o json")
def evaluate(
    client: Client,
    sweep: SweepName,
    trial: TrialNumber = None,
    trial_option: TrialOption = None,
    data: DataPart = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Evaluate a trial's model, or the best one, on other data, to reveal overfitting.

    The test data had no part in choosing the model; a job without any is evaluated on its validation data.
    """
    found = client.sweep(sweep)
    chosen = found.chosen(_one_trial(trial, trial_option))
    with found.bench(chosen.number) as bench:
        reply = bench.evaluate(data)
    _say_which(data, reply, "evaluated")
    document = {
        "sweep": found.id,
        "name": found.name,
        "trial": chosen.number,
        "data": reply["data"],
        "metrics": reply["metrics"],
        "recorded": report.trial_document(Trial.of(chosen))["metrics"],
    }
    emit(document, output, lambda: tables.evaluation(document))


@command(
    RESULTS,
    "kerasweep predict mlp --limit 5",
    "kerasweep predict mlp --input images.npy -o csv > predictions.csv",
)
def predict(
    client: Client,
    sweep: SweepName,
    trial: TrialNumber = None,
    trial_option: TrialOption = None,
    input_: Annotated[
        Path | None,
        typer.Option("--input", metavar="FILE", help="Inputs: .npy, .npz or .csv.", show_default=False),
    ] = None,
    data: DataPart = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="The maximum number of rows.", show_default=False)
    ] = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Predict with a trial's model, or the best one.

    The inputs come from a file, or from the job's own data.
    """
    if input_ is not None:
        _expect_inputs(input_)
    found = client.sweep(sweep)
    chosen = found.chosen(_one_trial(trial, trial_option))
    say(f"loading the model of trial {chosen.number} ...")
    with found.bench(chosen.number) as bench:
        reply = bench.predict(data, input_, limit)
    _say_which(data, reply, "predicted")
    rows = report.prediction_documents(reply["outputs"])
    if output in (OutputFormat.TABLE, OutputFormat.CSV):
        emit(rows, output, lambda: tables.rows(rows))
    else:
        head = {"sweep": found.id, "name": found.name, "trial": chosen.number}
        emit({**head, "rows": reply["rows"], "outputs": reply["outputs"]}, output, lambda: tables.rows(rows))


def _say_which(asked: Part | None, reply: dict[str, Any], done: str) -> None:
    if asked is None and reply.get("data") == Part.VALIDATION:
        say(f"the job has no test data: {done} on its validation data, by which trials were compared")


def _one_trial(trial: int | None, option: int | None) -> int | None:
    """Return the trial given by position or by --trial.

    Raises:
        InputError: two different ones were given.
    """
    if trial is not None and option is not None and trial != option:
        raise InputError(
            f"only one trial can be named, got {trial} and --trial {option}; leave one of them out"
        )
    return option if trial is None else trial


def _expect_inputs(path: Path) -> None:
    """Check a file of inputs before anything heavy is loaded.

    Raises:
        InputError: it does not exist, or its format is not supported.
    """
    if path.suffix not in _INPUTS or not path.is_file():
        raise InputError(f"inputs must be a {', '.join(_INPUTS)} file that exists, got {path}; name another")


def _model(sweep: Sweep, trial: int) -> tuple[dict[str, Any] | None, str]:
    """Return the model's layers, or why they cannot be shown."""
    try:
        with sweep.bench(trial) as bench:
            return bench.layers(), ""
    except KerasweepError as exc:
        return None, str(exc).splitlines()[0]


def _fetched(document: dict[str, Any], sweep: Sweep) -> str:
    *others, last = document["files"]
    files = f"{', '.join(others)} and {last}"
    text = f"wrote {files} of trial {document['trial']} into {document['folder']}"
    export = document["export"]
    if export:
        text += f"; largest deviation {export['max_abs_deviation']:.3g} on {export['samples']} samples"
    best = sweep.best_record()
    if best is not None and best.number == document["trial"]:
        text += f" ({sweep.spec.metric.name} {wording.metric(best.value)}, the best)"
    return text
