"""A sweep of thousands of trials on record, written in few transactions."""

from __future__ import annotations

import random
from pathlib import Path

from sqlalchemy import insert, update
from staged import Stage

from kerasweep.jobs.store.models import NewTrial
from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.trial import TrialState

_EPOCHS = 5


def record_many(home: Path, trials: int, queued: int = 0) -> str:
    """Record a sweep of ended trials, with their attempts and epochs; return its id.

    Args:
        home: where the store lies.
        trials: how many trials have ended.
        queued: how many more are queued.
    """
    stage, rng = Stage(home), random.Random(1)
    parameters = {"learning_rate": {"distribution": "log_uniform", "min": 0.0001, "max": 0.1},
                  "units": {"values": [50, 100, 200]}}  # fmt: skip
    sweep = stage.sweep(method="random", budget={"max_trials": 1}, parameters=parameters)
    rates = [10 ** rng.uniform(-4, -1) for _ in range(trials + queued)]
    with stage.records.deciding(sweep) as decision:
        decision.set_max_trials(trials + queued)
        have = len(decision.trials())
        decision.add_trials(
            [
                NewTrial(n, {"learning_rate": rates[n], "units": rng.choice([50, 100, 200])}, n, "drawn")
                for n in range(have, trials + queued)
            ]
        )
    ends, attempts, epochs = [], [], []
    for n in range(trials):
        value, at = 0.2 + rng.random(), 1.7e9 + n
        state = TrialState.STOPPED if n % 5 == 0 else TrialState.COMPLETED
        ends.append({"n": n, "to": state, "v": value, "a": at, "b": at + 30})
        attempts.append({"sweep": sweep, "trial": n, "number": 1, "worker": f"worker-{n % 8}@lab",
                         "started_at": at, "ended_at": at + 30, "outcome": str(state)})  # fmt: skip
        epochs += [
            {"sweep": sweep, "trial": n, "epoch": e, "attempt": 1, "metrics": {"val_loss": value + 1 / e},
             "seconds": 5.0, "at": at + 5 * e}
            for e in range(1, _EPOCHS + 1)
        ]  # fmt: skip
    _write(stage, sweep, ends, attempts, epochs)
    stage.records.close()
    return sweep


def _write(stage: Stage, sweep: str, ends: list[dict], attempts: list[dict], epochs: list[dict]) -> None:  # type: ignore[type-arg]
    from sqlalchemy import bindparam

    moved = (
        update(t.trials)
        .where(t.trials.c.sweep == sweep, t.trials.c.number == bindparam("n"))
        .values(
            state=bindparam("to"), value=bindparam("v"), attempt=1, epochs=_EPOCHS, best_epoch=_EPOCHS,
            started_at=bindparam("a"), finished_at=bindparam("b"),
        )
    )  # fmt: skip
    with stage.records._db.writing() as conn:
        conn.execute(moved, ends)
        conn.execute(insert(t.attempts), attempts)
        conn.execute(insert(t.epochs), epochs)
