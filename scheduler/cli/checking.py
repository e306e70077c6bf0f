"""Commands that check a sweep's requirements, decisions and winner: doctor, replay, certify."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kerasweep.jobs.trial import SweepState
from kerasweep.scheduler.cli.commands import LOOK, RESULTS, SET_UP, Output, SweepName, command
from kerasweep.scheduler.cli.exits import OUT_OF_REACH
from kerasweep.scheduler.cli.flags import WorkerFlags
from kerasweep.scheduler.cli.following import failure_of, train_here, view_of
from kerasweep.scheduler.cli.output import OutputFormat, emit, say
from kerasweep.scheduler.client import wording
from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.client.sweep import Sweep
from kerasweep.scheduler.local.children import expect_keras
from kerasweep.scheduler.show import live, repeated, tables


@command(SET_UP, "kerasweep doctor", "kerasweep doctor --broker redis://10.0.0.5:6379/0 -o json")
def doctor(client: Client, output: Output = OutputFormat.TABLE) -> None:
    """Check everything that a sweep needs.

    It reports what is missing, how to fix it, and why sweeps wait.
    It exits with 0 if everything is within reach, and with 3 otherwise.
    """
    from kerasweep.scheduler.client.diagnosis import Health, examine

    findings = list(examine(client))
    documents = [finding.to_json() for finding in findings]
    emit(documents, output, lambda: tables.listing(documents, "check", "state", "detail", "remedy"))
    if any(finding.state is Health.OUT_OF_REACH for finding in findings):
        raise typer.Exit(OUT_OF_REACH)


@command(LOOK, "kerasweep replay mlp", "kerasweep replay mlp -o json")
def replay(client: Client, sweep: SweepName, output: Output = OutputFormat.TABLE) -> None:
    """Decide a sweep again and compare that with its journal.

    The seed and the recorded results must give the same points and the same stops.
    It exits with 0 if they do, and with 1 at the first difference.
    """
    found = client.sweep(sweep)
    shown = found.replay()
    document = {
        "sweep": found.id,
        "name": found.name,
        "equal": shown.difference is None,
        "decisions": shown.decisions,
        "difference": shown.difference,
        "versions": list(shown.versions),
    }
    emit(document, output, lambda: tables.literal(_told(document)))
    if shown.difference is not None:
        raise typer.Exit(1)


@command(
    RESULTS,
    "kerasweep certify mlp",
    "kerasweep certify mlp --top 5 --seeds 20",
    "kerasweep certify mlp -o json | jq .stands",
)
def certify(
    client: Client,
    worker: WorkerFlags,
    sweep: SweepName,
    top: Annotated[int, typer.Option(min=1, help="How many of the best variants.")] = 3,
    seeds: Annotated[
        int, typer.Option(min=1, help="How many seeds each is trained under; a verdict needs 5.")
    ] = 10,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Train the best variants again under fresh seeds, and say whether the winner stands.

    They are a sweep of their own, with the same seeds for each variant, and train in packs.
    It prints means, standard deviations, and the probability that each is the best.

    Asked again, it shows the same sweep. Ctrl-C leaves it running on a cluster;
    on this machine alone, where certify trains as `kerasweep run` does, it stops until asked again.
    """
    found = client.sweep(sweep)
    again = f"certify {found.handle} --top {top} --seeds {seeds}"
    if found.record.certifies is not None:
        again = f"certify {found.handle}"
        made = found
    else:
        found.chosen(None)  # says if there is nothing to certify
        if _trains_here(client):
            expect_keras()
        made = found.certify(top, seeds)
    if not made.state.final and not _followed(client, made, worker, output, again):
        return
    shown = made.certificate()
    document = shown.to_json()
    if output is OutputFormat.CSV:
        emit(document["variants"], output, lambda: repeated.certificate(document))
    else:
        emit(document, output, lambda: repeated.certificate(document))
    if made.record.state is SweepState.FAILED:
        raise failure_of(made)


def _trains_here(client: Client) -> bool:
    """Whether the store is this machine's own, and nothing trains its sweeps."""
    return client.settings.embedded_broker and not (client.workers() or client.schedulers() or client.runs())


def _followed(client: Client, made: Sweep, worker: WorkerFlags, output: OutputFormat, again: str) -> bool:
    """Show a certifying sweep until it has ended; return whether it has."""
    trials, certified = wording.count(made.record.max_trials, "trial"), (made.record.certifies or {})["name"]
    say(f"sweep {made.handle} trains the best of {certified} again: {trials}")
    if _trains_here(client):
        train_here(client, made, worker.words, output, again=again)
        return True
    try:
        live.follow(view_of(made, output, documents=False), lambda: False)
    except KeyboardInterrupt:
        say(f"sweep {made.name} continues; `kerasweep {again}` shows it again")
        return False
    return True


def _told(document: dict[str, Any]) -> str:
    made = wording.count(document["decisions"], "decision")
    head = f"{made} of sweep {document['name']} made again: "
    lines = [head + (document["difference"] or "all are equal"), *document["versions"]]
    return "\n".join(lines)
