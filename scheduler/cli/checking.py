"""Commands that check a sweep's requirements and decisions: doctor, replay."""

from __future__ import annotations

from typing import Any

import typer

from kerasweep.scheduler.cli.commands import LOOK, SET_UP, Output, SweepName, command
from kerasweep.scheduler.cli.exits import OUT_OF_REACH
from kerasweep.scheduler.cli.output import OutputFormat, emit
from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.client.wording import count
from kerasweep.scheduler.show import tables


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
    emit(document, output, lambda: tables.sentence(_told(document)))
    if shown.difference is not None:
        raise typer.Exit(1)


def _told(document: dict[str, Any]) -> str:
    made = count(document["decisions"], "decision")
    head = f"{made} of sweep {document['name']} made again: "
    lines = [head + (document["difference"] or "all are equal"), *document["versions"]]
    return "\n".join(lines)
