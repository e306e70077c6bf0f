"""When a worker tries another scale."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest

from kerasweep.jobs.errors import NotFound, OutOfReach
from kerasweep.jobs.settings import Settings
from kerasweep.workers.devices import DeviceSet
from kerasweep.workers.host import Host
from kerasweep.workers.slots import Slots
from kerasweep.workers.work import trials_wait


class Waiting:
    """Records of sweeps whose waiting trials take this many seconds, or that raise."""

    def __init__(self, waiting: float | Exception) -> None:
        self._waiting = waiting

    def seconds_waiting(self, sweep: str) -> float:
        if isinstance(self._waiting, Exception):
            raise self._waiting
        return self._waiting


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(Slots, "sweeps", frozenset({"mlp"}))
    return Host([DeviceSet("cpu 0", (), 2)], 8, Settings())


@pytest.mark.parametrize(
    ("waiting", "places", "tried"),
    [
        (0.0, 8, False),
        (48.0, 8, False),
        (48.0, 1, True),  # one trial after the other, as with `fit`
        (math.inf, 8, True),
        (NotFound("gone"), 8, False),
        (OutOfReach("the store", "sqlite://", "wait"), 8, False),
    ],
)
def test_only_where_enough_trials_wait(
    host: Host, monkeypatch: pytest.MonkeyPatch, waiting: Any, places: int, tried: bool
) -> None:
    monkeypatch.setattr(Slots, "capacity", places)
    assert trials_wait(host, cast(Any, Waiting(waiting))) is tried
