"""A decision reads only what may have changed, and decides what it would on all of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from held import LEASE_S, begin, train
from recorded import result

from kerasweep.jobs.store import decision as module
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import Failure, FailureClass, TrialKey, TrialState
from kerasweep.scheduler.deciding import control
from kerasweep.scheduler.deciding.advance import advance
from kerasweep.scheduler.deciding.remembering import forget


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    found = Records(f"sqlite:///{tmp_path / 'store.db'}")
    yield found
    found.close()


def test_a_decision_reads_no_trial_twice_that_counts(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = begin(
        records, method={"name": "tpe", "startup_trials": 500}, budget={"max_trials": 500}, stopping=None
    )
    for number in range(60):
        claim = records.claim(TrialKey(sweep, number), "worker", LEASE_S)
        assert claim is not None
        records.finish(claim.key, result(0.5 + number))
    control.extend(records, sweep, 501)
    advance(records, sweep)
    read: list[int] = []
    trial_of = module.trial_of
    monkeypatch.setattr(module, "trial_of", lambda row: (read.append(row.number), trial_of(row))[1])
    claim = records.claim(TrialKey(sweep, 60), "worker", LEASE_S)
    assert claim is not None
    records.finish(claim.key, result(0.4))
    control.extend(records, sweep, 502)
    advance(records, sweep)
    assert sorted(set(read)) == list(range(60, 500))


def test_what_is_remembered_changes_no_decision(records: Records) -> None:
    tables: list[Any] = []
    changes: dict[str, Any] = {"method": {"name": "tpe", "startup_trials": 2}, "stopping": None}
    for sweep in ("kept1", "fresh1"):
        begin(records, sweep, budget={"max_trials": 9}, **changes)
        claim = records.claim(TrialKey(sweep, 1), "worker", LEASE_S)
        assert claim is not None
        records.fail(claim.key, Failure(FailureClass.CRASH, "it is gone"))
        while records.trials(sweep, [TrialState.QUEUED]):
            if sweep == "fresh1":
                forget(records, sweep)
            train(records, sweep)
        tables.append([(one.number, one.params, one.value) for one in records.trials(sweep)])
    assert tables[0] == tables[1]
