"""What people ask of a sweep: to pause, resume, extend it, and points as they type them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kerasweep.jobs.errors import InputError

if TYPE_CHECKING:
    from kerasweep.jobs.store.models import SweepRecord
    from kerasweep.scheduler.client.connections import Connections


class Requests:
    """Requests to a sweep; each returns a sentence about what was done.

    Args:
        client: connections to the store.
        record: the sweep.
    """

    def __init__(self, client: Connections, record: SweepRecord) -> None:
        self.client, self.record = client, record

    def pause(self, trial: int | None = None) -> str:
        """Stop training after a checkpoint; return what was done."""
        return self._ask("pause", trial)

    def resume(self, trial: int | None = None) -> str:
        """Resume the sweep, or a trial; trials paused on their own stay so; return what was done."""
        return self._ask("resume", trial)

    def cancel(self, trial: int | None = None) -> str:
        """Cancel everything unfinished, keeping finished results; return what was done."""
        return self._ask("cancel", trial)

    def retry(self, trial: int | None = None, *, code: bool = False) -> str:
        """Queue failed and cancelled trials again; return what was done.

        Args:
            trial: only this one.
            code: from now on train with the job as it is now, instead of as submitted.

        Raises:
            InputError: there is nothing to retry, or the job cannot be used.
        """
        from kerasweep.scheduler.deciding.mending import pack_again

        return self._ask("retry", trial, pack_again(self.client.artifacts, self._read()) if code else None)

    def changed_job(self) -> str | None:
        """Return the path of the job if it is on this machine and has changed since it was submitted."""
        from kerasweep.scheduler.deciding.mending import changed_since

        return changed_since(self.record)

    def extend(self, max_trials: int) -> str:
        """Allow the sweep up to `max_trials` trials; return what was done."""
        return self._ask("extend", max_trials)

    def add(self, point: Mapping[str, Any] | None = None, **values: Any) -> str:
        """Queue a point in addition to the method's; return what was done.

        Args:
            point: a value for every parameter, by name.
            values: the same as keyword arguments, for names without a dot: `add(units=20)`.

        Raises:
            InputError: it is not a point of the space, or was already tried.
        """
        if not isinstance(point, Mapping | None):
            raise InputError(
                f"a point is a dict of values by parameter, got {point!r}; such as {{'units': 20}}"
            )
        twice = sorted(values.keys() & (point or {}).keys())
        if twice:
            raise InputError(f"each parameter is given once, got {twice[0]!r} in the point and as a keyword")
        return self._ask("add", {**(point or {}), **values})

    def _read(self) -> SweepRecord:
        self.record = self.client.records.sweep(self.record.id)
        return self.record

    def _ask(self, what: str, *which: Any) -> str:
        from kerasweep.scheduler.deciding import by_hand, control

        done: str = getattr(by_hand if what == "add" else control, what)(
            self.client.records, self.record.id, *which
        )
        self.client.hint(self.record.id)
        self._read()
        return done


def read_pair(given: str) -> tuple[str, Any]:
    """Return a parameter's name and its value, which reads as in a sweep file.

    Raises:
        InputError: it is no pair, or the value cannot be read.
    """
    from kerasweep.jobs.sweepfile.plain_yaml import read_yaml  # loads YAML, which most commands do not need
    from kerasweep.jobs.sweepfile.rules import RuleError

    name, found, text = given.partition("=")
    if not found or not name:
        raise InputError(f"a value is given as NAME=VALUE, got {given!r}; such as learning_rate=0.01")
    try:
        return name, read_yaml(f"value: {text}")[0]["value"]
    except RuleError as breach:
        raise InputError(f"{name}: {breach.rule}\n{breach.remedy}") from breach
