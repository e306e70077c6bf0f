"""The stores on which every contract is tested."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from recorded import FakeClock

from kerasweep.jobs.store.records import Records


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, for each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'records' / 'store.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def clock() -> FakeClock:
    """The clock of `records`."""
    return FakeClock()


@pytest.fixture
def records(store_url: str, clock: FakeClock) -> Iterator[Records]:
    """Empty records on a clock that the test moves."""
    records = Records(store_url, clock=clock)
    yield records
    records.close()


@pytest.fixture
def live_records(store_url: str) -> Iterator[Records]:
    """Empty records on the store's own clock."""
    records = Records(store_url)
    yield records
    records.close()
