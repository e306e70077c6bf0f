"""The settings, read from the environment and from flags, which win."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path

from kerasweep.jobs.addresses import CHECKS
from kerasweep.jobs.errors import InputError

PREFIX = "KERASWEEP_"


@dataclass(frozen=True)
class Settings:
    """Where things are and how long they may take; names end in their unit.

    An empty URL stands for the embedded default under `home`.
    """

    home: str = ".kerasweep"
    broker_url: str = ""
    store_url: str = ""
    artifacts_url: str = ""
    lease_s: float = 30.0
    renew_s: float = 5.0
    self_stop_s: float = 20.0
    reconcile_s: float = 5.0
    prune_s: float = 60.0
    flush_s: float = 0.5
    grace_s: float = 30.0
    hang_s: float = 600.0
    start_s: float = 120.0
    reach_s: float = 5.0
    stall_s: float = 60.0
    trainer_rss_limit_mib: float = 4096.0
    orphan_grace_s: float = 3600.0
    delete_grace_s: float = 300.0

    @property
    def embedded_broker(self) -> bool:
        """Whether the broker is this machine's own, under `home`."""
        return not self.broker_url

    @property
    def together(self) -> bool:
        """Whether records and artifacts both lie under `home`, and so are copied and moved as one."""
        return not self.store_url and not self.artifacts_url

    @property
    def home_path(self) -> Path:
        """The folder of the embedded defaults, absolute."""
        return Path(self.home).absolute()

    @property
    def store(self) -> str:
        """The URL of the records."""
        return self.store_url or f"sqlite:///{self.home_path / 'store.db'}"

    @property
    def artifacts(self) -> str:
        """The URL of the artifacts, for fsspec."""
        return self.artifacts_url or str(self.home_path / "artifacts")


#: The variable that gives a trainer its artifacts: every user of a machine can read a command line.
ARTIFACTS_URL = f"{PREFIX}ARTIFACTS_URL"


def from_env(environ: Mapping[str, str] | None = None, **flags: str | float | None) -> Settings:
    """Read the `KERASWEEP_…` variables; a flag that is not None wins.

    Raises:
        InputError: an unknown flag, a duration that is not a positive number, or a malformed address.
    """
    _expect_known(flags)
    environ = os.environ if environ is None else environ
    values: dict[str, str | float] = {}
    for field in fields(Settings):
        given = flags.get(field.name)
        value = environ.get(PREFIX + field.name.upper()) if given is None else given
        if value is not None and value != "":
            values[field.name] = (
                _number(field.name, value) if isinstance(field.default, float) else str(value)
            )
    for name, check in CHECKS.items():
        if name in values:
            check(str(values[name]))
    return Settings(**values)  # type: ignore[arg-type]


def to_env(settings: Settings) -> dict[str, str]:
    """Return the environment that gives another process the same settings."""
    return {PREFIX + field.name.upper(): str(getattr(settings, field.name)) for field in fields(Settings)}


def _expect_known(flags: Iterable[str]) -> None:
    known = [field.name for field in fields(Settings)]
    for flag in flags:
        if flag not in known:
            near = get_close_matches(flag, known, n=1, cutoff=0.5)
            meant = f"did you mean {near[0]!r}? " if near else ""
            raise InputError(f"unknown setting {flag!r}; {meant}The settings are {', '.join(known)}")


def _number(name: str, value: str | float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as exc:
        raise InputError(
            f"{PREFIX}{name.upper()} must be a number, got {value!r}; unset it for the default"
        ) from exc
    if not 0 < number < float("inf"):
        raise InputError(f"{PREFIX}{name.upper()} must be above 0, got {value}; unset it for the default")
    return number
