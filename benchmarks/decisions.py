"""The cost of a decision with 100, 1,000 and 10,000 trials on record, journal included.

    python benchmarks/decisions.py [--trials 100,1000,10000] [--decisions 40] [--only "tpe;auto"] [--out FILE]

No trial is trained: the records, a SQLite file as for users, are written outright. Then trials end one after
the other, and each call of `advance` is timed, as a running scheduler makes it.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from typing import Any

from cluster import machine, publish
from numpy.random import Generator, default_rng
from sqlalchemy import Table, create_engine

from kerasweep.jobs.store.artifacts import ArtifactRef
from kerasweep.jobs.store.models import Claim, EpochRecord, Progress, Result, SweepRecord
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.sweepfile.spec import parse_spec
from kerasweep.jobs.trial import SweepState, TrialKey, TrialState
from kerasweep.scheduler.deciding.advance import advance
from kerasweep.scheduler.samplers import settled

LEASE_S, RUNGS, EPOCHS = 600.0, (1, 3, 9), 27
_HALVING: dict[str, Any] = {"halving": {"rungs": list(RUNGS), "cohort": 27}}
SWEEPS: dict[str, dict[str, Any]] = {
    "random": {"method": "random"},
    "qmc": {"method": "qmc"},
    "tpe": {"method": "tpe"},
    "auto": {"method": "auto"},
    "cmaes": {"method": "cmaes"},
    "random, patience": {"method": "random", "stopping": {"patience": 20_000}},
    "random, median": {"method": "random", "stopping": {"median": {"min_epochs": 3}}},
    "random, halving": {"method": "random", "stopping": _HALVING},
    "qmc, halving": {"method": "qmc", "stopping": _HALVING},
    "tpe, halving": {"method": "tpe", "stopping": _HALVING},
    "auto, halving": {"method": "auto", "stopping": _HALVING},
}


def main() -> None:
    """Measure each method at each size, print the figures, write the file."""
    flags = _flags()
    names = [name for name in SWEEPS if not flags.only or name in flags.only.split(";")]
    sizes = [int(trials) for trials in flags.trials.split(",")]
    rows = [measure(name, trials, flags.decisions) for name in names for trials in sizes]
    publish({"benchmark": "decisions", "machine": machine(), "rows": rows}, flags.out)


def measure(name: str, trials: int, decisions: int) -> dict[str, Any]:
    """Time the decisions of one method.

    Args:
        name: the method and the stopping rule.
        trials: how many have ended before the first decision.
        decisions: how many trials end, or reach a rung, while it is measured.
    """
    with tempfile.TemporaryDirectory(prefix="kerasweep-decisions-") as folder:
        url = f"sqlite:///{folder}/store.db"
        records = Records(url)
        sweep = a_sweep(trials + decisions, SWEEPS[name])
        records.create_sweep(sweep)
        put_ended(url, sweep, trials)
        first_s, _ = _timed(records, sweep.id)
        took = [_end_one(records, sweep.id, default_rng(n)) for n in range(decisions)]
        added = len(records.trials(sweep.id)) - trials
        records.close()
    warm, busy = (sorted(1000 * one[kind] for one in took[2:]) for kind in (0, 1))
    row = {
        "search": name,
        "trials": trials,
        "first_ms": round(1000 * first_s, 1),
        "median_ms": round(statistics.median(warm), 1),
        "median_cpu_ms": round(statistics.median(busy), 1),
        "p95_ms": round(warm[math.ceil(0.95 * len(warm)) - 1], 1),
        "worst_ms": round(warm[-1], 1),
        "added": added,
    }
    sys.stderr.write(f"{row}\n")
    return row


def a_sweep(most: int, search: dict[str, Any]) -> SweepRecord:
    """Return a sweep over six parameters."""
    spec = parse_spec(
        {
            "name": "decisions",
            "job": "train.py",
            "metric": {"name": "val_loss", "goal": "minimize"},
            "parameters": {
                "learning_rate": {"distribution": "log_uniform", "min": 0.0001, "max": 0.1},
                "momentum": {"distribution": "uniform", "min": 0.0, "max": 0.99},
                "dropout": {"distribution": "uniform", "min": 0.0, "max": 0.6},
                "units": {"distribution": "int_log_uniform", "min": 16, "max": 256},
                "layers": {"values": [1, 2, 3]},
                "decay": {"distribution": "log_uniform", "min": 1e-6, "max": 0.01},
            },
            "training": {"epochs": EPOCHS},
            "budget": {"max_trials": most},
            **search,
        }
    )
    bundle = ArtifactRef("bundle", "bundles/job.zip", "b" * 64, 100)
    return SweepRecord(
        id="abcd1234",
        name=spec.name,
        state=SweepState.RUNNING,
        spec=settled(spec),
        max_trials=most,
        entry="train.py",
        bundle=bundle,
        engine="auto",
        source={},
        message="",
        created_at=0.0,
        finished_at=None,
    )


def put_ended(url: str, sweep: SweepRecord, count: int) -> None:
    """Record trials that have ended, one in twenty as diverged, with their journal, epochs and attempts."""
    rng, space = default_rng(0), sweep.spec.space()
    tables: dict[Table, list[dict[str, Any]]] = defaultdict(list)
    for number in range(count):
        value = None if number % 20 == 3 else 1.0 + float(rng.random())
        _put_ended(tables, sweep, number, space.sample(rng), value)
    engine = create_engine(url)
    with engine.begin() as conn:
        for table, rows in tables.items():
            conn.execute(table.insert(), rows)
    engine.dispose()


def _put_ended(
    tables: dict[Table, list[dict[str, Any]]],
    sweep: SweepRecord,
    number: int,
    params: dict[str, Any],
    value: float | None,
) -> None:
    halved = sweep.spec.stopping is not None and sweep.spec.stopping.patience is None
    last = EPOCHS if not halved or number % 27 == 0 else RUNGS[number % 3 // 2]
    state = TrialState.COMPLETED if last == EPOCHS else TrialState.STOPPED
    state = TrialState.FAILED if value is None else state
    began_at, ended_at = 1.0 + number, 2.0 + number
    trial = {"sweep": sweep.id, "number": number, "state": state, "params": params, "seed": number}
    trial |= {"attempt": 1, "failures": 0, "worker": "w1", "value": value, "best_epoch": last, "epochs": last}
    trial |= {"metrics": {"val_loss": value or 9.0, "val_accuracy": 0.9}, "facts": {"device": "CPU"}}
    trial |= {"failure_class": None if value else "diverged", "failure_message": None if value else "NaN"}
    trial |= {"created_at": 0.0, "started_at": began_at, "finished_at": ended_at, "hinted_at": 1.0}
    tables[t.trials].append(trial | {"digest": "d" * 64, "ends": False, "by_hand": False})
    mine, attempt = {"sweep": sweep.id, "trial": number}, {"number": 1, "worker": "w1", "outcome": str(state)}
    tables[t.attempts].append({**mine, **attempt, "started_at": began_at, "ended_at": ended_at})
    for event, then in (("suggested", "queued"), ("claimed", "running"), (str(state), str(state))):
        line = {"at": began_at, "event": event, "state": then, "reason": "as it was"}
        tables[t.journal].append({**mine, **line})
    if halved and value is not None:
        tables[t.rungs] += [{**mine, "epoch": rung, "value": value} for rung in RUNGS if rung <= last]
    epoch = {"attempt": 1, "metrics": {"val_loss": value or 9.0}, "seconds": 0.01, "at": began_at}
    tables[t.epochs] += [{**mine, "epoch": number, **epoch} for number in range(1, last + 1)]


def _end_one(records: Records, sweep: str, rng: Generator) -> tuple[float, float]:
    """Train the first queued trial to its rung or end, and time the decision that follows."""
    number = records.trials(sweep, [TrialState.QUEUED])[0].number
    claim = records.claim(TrialKey(sweep, number), "w1", LEASE_S)
    assert claim is not None
    _reach(records, claim, 1.0 + float(rng.random()))
    return _timed(records, sweep)


def _reach(records: Records, claim: Claim, value: float) -> None:
    until = claim.rung or EPOCHS
    state = TrialState.WAITING if claim.rung else TrialState.COMPLETED
    state = TrialState.STOPPED if claim.ends else state
    result = Result(state, value, until, until, {"val_loss": value}, f"{claim.key.trial:064d}")
    progress = Progress(claim.key, (EpochRecord(until, {"val_loss": value}, 0.1),))
    if state is not TrialState.WAITING:
        records.finish(claim.key, result, progress)
        return
    checkpoint = ArtifactRef("checkpoint", f"{claim.key}-{until}", "c" * 64, 1, until)
    records.hold(claim.key, result, checkpoint, progress)


def _timed(records: Records, sweep: str) -> tuple[float, float]:
    """Advance a sweep; return the seconds that it took, and those of this process's cores."""
    began, busy = time.perf_counter(), time.process_time()
    advance(records, sweep)
    return time.perf_counter() - began, time.process_time() - busy


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", default="100,1000,10000")
    parser.add_argument("--decisions", type=int, default=40)
    parser.add_argument("--only", help="searches, separated by semicolons")
    parser.add_argument("--out")
    return parser.parse_args()


if __name__ == "__main__":
    main()
