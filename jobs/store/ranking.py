"""Ranks the trials of a sweep, and gives the value that another must reach to be among the best."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, or_, select

from kerasweep.jobs.store.models import SweepRecord
from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.trial import COUNTED

_VALUE = t.trials.c.value


def ranked(sweep: SweepRecord) -> Select[Any]:
    """Return the query of the trials that count, best first; ties by lower number."""
    counted = (t.trials.c.sweep == sweep.id, t.trials.c.state.in_(COUNTED), _VALUE.is_not(None))
    return select(t.trials).where(*counted).order_by(_order(sweep), t.trials.c.number)


def among_best(conn: Connection, sweep: SweepRecord, numbers: Collection[int]) -> set[int]:
    """Return those of the trials whose models would be kept if they ended now, with their current values."""
    keep = sweep.spec.checkpoints.kept
    if keep is None:
        return set(numbers)
    candidates = or_(t.trials.c.state.in_(COUNTED), t.trials.c.number.in_(sorted(numbers)))
    among = (t.trials.c.sweep == sweep.id, candidates, _VALUE.is_not(None))
    query = select(t.trials.c.number).where(*among).order_by(_order(sweep), t.trials.c.number)
    return set(conn.execute(query.limit(keep)).scalars()) & set(numbers)


def bar_of(conn: Connection, sweep: SweepRecord) -> float | None:
    """Return the value that a trial must reach for its model to be kept; None if any value does.

    It is the worst of the best `keep_top`. Trials never stop counting, so it only rises. Where variants have
    several trials, the best variant's model may be that of any of them.
    """
    keep = sweep.spec.checkpoints.kept
    if keep is None or sweep.spec.times > 1:
        return None
    if not keep:
        return -math.inf if _less_is_better(sweep) else math.inf
    last = ranked(sweep).with_only_columns(_VALUE).offset(keep - 1).limit(1)
    bar: float | None = conn.execute(last).scalar()
    return bar


def _order(sweep: SweepRecord) -> ColumnElement[Any]:
    return _VALUE.asc() if _less_is_better(sweep) else _VALUE.desc()


def _less_is_better(sweep: SweepRecord) -> bool:
    return sweep.spec.metric.goal == "minimize"
