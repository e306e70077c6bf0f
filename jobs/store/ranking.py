"""Ranks the trials of a sweep, and gives the value that another must reach to be among the best."""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import Connection, Select, select

from kerasweep.jobs.store.models import SweepRecord
from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.trial import COUNTED

_VALUE = t.trials.c.value


def ranked(sweep: SweepRecord) -> Select[Any]:
    """Return the query of the trials that count, best first; ties by lower number."""
    order = _VALUE.asc() if _less_is_better(sweep) else _VALUE.desc()
    counted = (t.trials.c.sweep == sweep.id, t.trials.c.state.in_(COUNTED), _VALUE.is_not(None))
    return select(t.trials).where(*counted).order_by(order, t.trials.c.number)


def bar_of(conn: Connection, sweep: SweepRecord) -> float | None:
    """Return the value that a trial must reach for its model to be kept; None if any value does.

    It is the worst of the best `keep_top`. Trials never stop counting, so it only rises.
    """
    keep = sweep.spec.checkpoints.kept
    if keep is None:
        return None
    if not keep:
        return -math.inf if _less_is_better(sweep) else math.inf
    last = ranked(sweep).with_only_columns(_VALUE).offset(keep - 1).limit(1)
    bar: float | None = conn.execute(last).scalar()
    return bar


def _less_is_better(sweep: SweepRecord) -> bool:
    return sweep.spec.metric.goal == "minimize"
