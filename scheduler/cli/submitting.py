"""Commands to begin with: submit, init, schema."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kerasweep.jobs.errors import InputError, OutOfReach
from kerasweep.jobs.trial import SweepState
from kerasweep.scheduler.cli import completion
from kerasweep.scheduler.cli.commands import RUN, SET_UP, Output, command
from kerasweep.scheduler.cli.output import OutputFormat, emit, render, say
from kerasweep.scheduler.client import report, wording
from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.client.sweep import Sweep
from kerasweep.scheduler.show import tables

if TYPE_CHECKING:
    from kerasweep.jobs.sweepfile.spec import SweepSpec

#: How many trials a dry run shows.
_REHEARSED = 10


class EngineName(StrEnum):
    """How a worker trains its trials."""

    AUTO = "auto"
    FIT = "fit"
    PACK = "pack"


SweepFile = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="The sweep file (YAML), or its folder.", show_default=False),
]
SweepEngine = Annotated[
    EngineName,
    typer.Option(help="Train with model.fit, with many trials in one program, or choose automatically."),
]
SWEEP_FILES = ("sweep.yaml", "sweep.yml")


def file_in(path: Path) -> Path:
    """Return the sweep file inside a folder; other paths unchanged.

    Raises:
        InputError: the folder has none.
    """
    if not path.is_dir():
        return path
    for name in SWEEP_FILES:
        if (path / name).is_file():
            return path / name
    raise InputError(f"a folder must hold a {SWEEP_FILES[0]}, and {path} holds none; name the sweep file")


NewName = Annotated[
    str | None, typer.Option("--name", help="A name that replaces the file's.", show_default=False)
]


WarmFrom = Annotated[
    str | None,
    typer.Option(
        "--warm-from",
        metavar="SWEEP",
        help="Let the method learn from an earlier sweep too.",
        autocompletion=completion.sweeps,
        show_default=False,
    ),
]


@command(
    RUN,
    "kerasweep submit sweep.yaml",
    "id=$(kerasweep submit sweep.yaml)",
    "kerasweep submit sweep.yaml -o json",
    "kerasweep submit sweep.yaml --dry-run",
    "kerasweep submit wider.yaml --warm-from mlp",
)
def submit(
    client: Client,
    file: SweepFile,
    name: NewName = None,
    engine: SweepEngine = EngineName.AUTO,
    warm_from: WarmFrom = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the sweep and show its first trials; write nothing.")
    ] = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Submit a sweep, and print its id.

    It is validated, recorded and queued; it starts as soon as a worker is running.
    """
    if dry_run:
        _rehearse(client, file_in(file), name, engine, warm_from, output)
        return
    sweep = client.submit(file_in(file), name=name, engine=engine, warm_from=warm_from)
    document: dict[str, Any] = {"sweep": sweep.id, "name": sweep.name, "trials": sweep.record.max_trials}
    say_warm_start(sweep)
    if sweep.warm_start is not None:
        document["warm_start"] = asdict(sweep.warm_start)
    if output is not OutputFormat.TABLE:
        emit(document, output, lambda: tables.facts_of(document))
        return
    typer.echo(sweep.id)
    trials = _planned(sweep.spec, sweep.record.max_trials)
    say(f"submitted {sweep.name}: up to {trials}; `kerasweep watch {sweep.name}` follows them")
    with suppress(OutOfReach):  # the sweep is submitted whatever this read returns
        waiting = sweep.status().waiting
        if waiting:
            say(f"waiting: {waiting}")


def say_warm_start(sweep: Sweep) -> None:
    """Say what a sweep learns from an earlier one, if it does."""
    if sweep.warm_start is not None:
        for line in wording.warm_start(sweep.warm_start):
            say(line)


def say_interrupted(client: Client, name: str) -> None:
    """Say that a sweep of the same name is paused, as an interrupted run leaves it: the newest one."""
    for one in client.sweeps([SweepState.PAUSED]):
        if one.name == name:
            say(
                f"note: an interrupted sweep {name} ({one.id}) is there; "
                f"`kerasweep run --resume {one.id}` goes on with it"
            )
            return


def _rehearse(
    client: Client,
    file: Path,
    name: str | None,
    engine: EngineName,
    warm_from: str | None,
    output: OutputFormat,
) -> None:
    """Submit into a temporary store, and show the first trials that it decides on."""
    with tempfile.TemporaryDirectory(prefix="kerasweep-") as folder:
        settings = replace(client.settings, home=folder, broker_url="", store_url="", artifacts_url="")
        with Client(settings) as there:
            earlier = None if warm_from is None else client.sweep(warm_from)
            sweep = there.submit(file, name=name, engine=engine, warm_from=earlier)
            say_warm_start(sweep)
            documents = [report.trial_document(one) for one in sweep.trial_list()[:_REHEARSED]]
            most, metric, spec = sweep.record.max_trials, sweep.spec.metric.name, sweep.spec
    emit(documents, output, lambda: tables.trials(documents, metric, spec.space().dimensions))
    say(f"{spec.name} can be submitted: up to {_planned(spec, most)}, the first of them as above")


def _planned(spec: SweepSpec, trials: int) -> str:
    """Return "12 trials", or "12 trials, 4 variants under 3 seeds each"."""
    told = wording.count(trials, "trial")
    variants = wording.count(trials // spec.times, "variant")
    return told if spec.times == 1 else f"{told}, {variants} under {spec.times} seeds each"


@command(SET_UP, "kerasweep init", "kerasweep init mlp", "kerasweep init wide_and_deep my-project")
def init(
    job: Annotated[
        str | None,
        typer.Argument(
            metavar="JOB",
            help="A gallery entry; if omitted, the entries are listed.",
            autocompletion=completion.gallery,
            show_default=False,
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR", help="The destination; by default a folder of that name.", show_default=False
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Write a ready-made job to start from, or list them."""
    from kerasweep.jobs.gallery_index import copy_entry, find_entry, list_gallery

    if job is None:
        listed = [
            {"job": one.name, "description": one.description, "files": list(one.files)}
            for one in list_gallery()
        ]
        emit(listed, output, lambda: tables.listing(listed, "job", "description"))
        return
    target = folder or Path(job)
    if force:
        for file in find_entry(job).files:
            (target / file).unlink(missing_ok=True)
    written = [str(path) for path in copy_entry(job, target)]
    document = {"job": job, "folder": str(target), "files": written}
    emit(document, output, lambda: tables.literal(f"wrote {', '.join(written)}"))
    there = "" if target.resolve() == Path.cwd() else f"cd {target} && "
    say(f"Next: {there}kerasweep run sweep.yaml")


@command(
    SET_UP,
    "kerasweep schema > sweep.schema.json",
    "sed -i '1i # yaml-language-server: $schema=sweep.schema.json' sweep.yaml",
)
def schema(output: Output = OutputFormat.JSON) -> None:
    """Print the JSON Schema of the sweep file, for editors."""
    from kerasweep.jobs.sweepfile.json_schema import json_schema

    if output not in (OutputFormat.JSON, OutputFormat.YAML):
        raise typer.BadParameter(f"a schema is printed as json or yaml, got {output.value!r}")
    typer.echo(render(json_schema(), output), nl=False)
