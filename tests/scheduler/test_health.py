"""A container's health check judges processes by their work, not by being alive."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import pytest

from kerasweep.jobs.errors import KerasweepError
from kerasweep.jobs.kernel import ProcessKind
from kerasweep.jobs.settings import Settings
from kerasweep.jobs.store.records import Records
from kerasweep.scheduler.client.health import healthy

SETTINGS = Settings()


@pytest.fixture
def records(tmp_path: Path) -> Any:
    made = Records(f"sqlite:///{tmp_path / 'store.db'}")
    yield made
    made.close()


def facts(**changes: object) -> dict[str, object]:
    return {"host": platform.node(), "stalled_s": 0, "ready": 1, **changes}


def test_a_process_that_wrote_lately_is_healthy(records: Records) -> None:
    records.seen("w0", facts())
    records.seen("s0", facts(), ProcessKind.SCHEDULER)
    assert healthy(records, SETTINGS, "worker").startswith("1 of 1 on ")
    assert healthy(records, SETTINGS, "scheduler").startswith("1 of 1 on ")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"host": "elsewhere"}, "no worker of .* has written to the store within 40 s"),
        ({"stalled_s": 90}, "has taken no trial for 90 s"),
        ({"ready": 0}, "has no live trainer"),
    ],
)
def test_being_alive_is_not_enough(records: Records, changes: dict[str, object], told: str) -> None:
    records.seen("w0", facts(**changes))
    with pytest.raises(KerasweepError, match=told):
        healthy(records, SETTINGS, "worker")
