"""Choices measured once for a sweep: the first to measure one proposes it to the records, and all use the
answer.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from kerasweep.jobs.pipe import DecisionEvent
from kerasweep.workers.trainer.engine import Interrupted
from kerasweep.workers.trainer.outbox import Outbox
from kerasweep.workers.trainer.state.run import TrialRun

#: How long to wait for the records. An attempt whose records are away longer has lost its lease anyway.
_ANSWER_WITHIN_S = 60.0
_WAIT_S = 0.2
#: Why a run is released if its question is not answered.
NO_ANSWER = "the records did not respond"


class Decisions:
    """The sweeps' decisions known to this process. Safe to share between threads.

    Args:
        outbox: to the host, which asks the records.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._told = threading.Condition()
        self._known: dict[tuple[str, str], Any] = {}

    def find(self, run: TrialRun, key: str) -> Any:
        """Return the decision for a run's sweep; None if there is none."""
        with self._told:
            return self._known.get((run.order.sweep, key), run.order.decisions.get(key))

    def decide(self, run: TrialRun, key: str, value: Any, reason: str) -> Any:
        """Bind a run's sweep to a choice, unless one is already recorded; return the one that binds.

        Raises:
            Interrupted: the run was asked to stop meanwhile.
        """
        wanted = (run.order.sweep, key)
        with self._told:
            if wanted in self._known:
                return self._known[wanted]
        self._outbox.send(DecisionEvent(run.order.run, key, value, reason))
        deadline_s = time.monotonic() + _ANSWER_WITHIN_S
        with self._told:
            while wanted not in self._known:
                if time.monotonic() > deadline_s:
                    run.stop.ask(NO_ANSWER)
                if run.stop.leaving:
                    raise Interrupted
                run.pulse.beat(0)
                self._told.wait(_WAIT_S)
            return self._known[wanted]

    def hear(self, sweep: str, key: str, value: Any) -> None:
        """Store the answer of the records."""
        with self._told:
            self._known[sweep, key] = value
            self._told.notify_all()
