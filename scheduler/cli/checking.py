"""The command that checks what a sweep needs: doctor."""

from __future__ import annotations

import typer

from kerasweep.scheduler.cli.commands import SET_UP, Output, command
from kerasweep.scheduler.cli.exits import OUT_OF_REACH
from kerasweep.scheduler.cli.output import OutputFormat, emit
from kerasweep.scheduler.client.client import Client
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
