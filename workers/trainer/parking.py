"""Trials that wait at a rung stay in memory for a while: resumed here, they build and trace nothing again.

A parked trial is its thread, asleep between two epochs, with its model, callbacks and modules. An order that
resumes it from the very checkpoint that it was held with wakes it. Any other order for it, a trial of another
sweep, or too many others end it; then it is resumed from its checkpoint, with the same bits. While parked it
is none of the trials that train here: it has no slot, no turn and no output.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Protocol

from kerasweep.jobs.kernel import free_bytes
from kerasweep.workers.trainer.assignment import Assignment
from kerasweep.workers.trainer.state.stop_flag import StopFlag

#: How many trials stay in memory, what they may take, and what must stay free.
MOST, MOST_BYTES, SPARE_BYTES = 64, 256 << 20, 1 << 30


class Sleeper(Protocol):
    """A session, as far as it matters here."""

    order: Assignment
    stop: StopFlag


@dataclass(eq=False)
class Parked:
    """A trial in memory.

    Args:
        session: its session, with the order that it was held under.
        checkpoint: the SHA-256 of the checkpoint that it was held with.
        size: what it takes, in bytes.
        next: the order to continue with, once woken; None to end.
    """

    session: Sleeper
    checkpoint: str
    size: int
    next: Assignment | None = None
    _woken: threading.Event = field(default_factory=threading.Event)

    @property
    def woken(self) -> bool:
        """Whether it was told to continue or to end."""
        return self._woken.is_set()

    def is_meant_by(self, order: Assignment) -> bool:
        """Tell whether an order continues the trial from where it was held."""
        if not order.checkpoints or order.checkpoints[0].sha256 != self.checkpoint:
            return False
        held, names = (
            self.session.order,
            ("run", "attempt", "checkpoints", "decisions", "bar", "rung", "ends"),
        )
        return replace(order, **{name: getattr(held, name) for name in names}) == held

    def wake(self, order: Assignment | None) -> None:
        """Let it continue with an order, or end."""
        self.next = order
        self._woken.set()

    def sleep(self) -> Assignment | None:
        """Wait until it is woken; return the order to continue with."""
        self._woken.wait()
        return self.next


class Parking:
    """The parked trials of this process. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parked: OrderedDict[tuple[str, int], Parked] = OrderedDict()

    def put(self, parked: Parked) -> bool:
        """Park a trial, ending the oldest ones if there is no room; return whether there is room for it."""
        with self._lock:
            order = parked.session.order
            self._parked[order.sweep, order.trial] = parked
            while self._is_full():
                ended = self._parked.popitem(last=False)[1]
                if ended is parked:
                    return False
                ended.wake(None)
            return True

    def take(self, order: Assignment) -> Parked | None:
        """Take out the trial of an order, asleep; those of other sweeps end."""
        with self._lock:
            for key in [key for key in self._parked if key[0] != order.sweep]:
                self._parked.pop(key).wake(None)
            return self._parked.pop((order.sweep, order.trial), None)

    def clear(self) -> None:
        """End all, since memory is short."""
        with self._lock:
            while self._parked:
                self._parked.popitem()[1].wake(None)

    def _is_full(self) -> bool:
        size = sum(parked.size for parked in self._parked.values())
        return bool(self._parked) and (
            len(self._parked) > MOST or size > MOST_BYTES or free_bytes() < SPARE_BYTES
        )
