"""The states of sweeps and trials, and the moves between them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class TrialState(StrEnum):
    """The state of a trial."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    WAITING = "waiting"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether the state is final unless the user asks for a retry."""
        return self in FINAL


class SweepState(StrEnum):
    """The state of a sweep."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether the sweep has ended."""
        return self not in (SweepState.RUNNING, SweepState.PAUSED)


class FailureClass(StrEnum):
    """Why an attempt ended badly; see the table in docs/reliability.md."""

    USER = "user"
    DIVERGED = "diverged"
    MEMORY = "memory"
    CRASH = "crash"
    HANG = "hang"
    MACHINE = "machine"
    LOST = "lost"
    PREEMPTED = "preempted"
    STORE = "store"


class Answer(StrEnum):
    """The store's answer to an attempt that records its progress."""

    GO_ON = "go on"
    PAUSE = "pause"
    STOP = "stop"
    CANCEL = "cancel"
    STALE = "stale"


FINAL = frozenset({TrialState.COMPLETED, TrialState.STOPPED, TrialState.FAILED, TrialState.CANCELLED})

#: The trials whose value counts.
COUNTED = frozenset({TrialState.COMPLETED, TrialState.STOPPED})

#: The allowed transitions. Only a user's `retry` leads out of `failed` and `cancelled`.
MOVES: dict[TrialState, frozenset[TrialState]] = {
    TrialState.QUEUED: frozenset({TrialState.RUNNING, TrialState.PAUSED, TrialState.CANCELLED}),
    TrialState.RUNNING: frozenset({TrialState.QUEUED, TrialState.PAUSED, TrialState.WAITING, *FINAL}),
    TrialState.WAITING: frozenset(
        {TrialState.QUEUED, TrialState.PAUSED, TrialState.STOPPED, TrialState.CANCELLED}
    ),
    TrialState.PAUSED: frozenset({TrialState.QUEUED, TrialState.CANCELLED}),
    TrialState.COMPLETED: frozenset(),
    TrialState.STOPPED: frozenset(),
    TrialState.FAILED: frozenset({TrialState.QUEUED}),
    TrialState.CANCELLED: frozenset({TrialState.QUEUED}),
}

#: Failures that do not count towards `max_failures`, since the trial is not at fault. Each has its own limit.
UNCOUNTED = frozenset({FailureClass.MACHINE, FailureClass.LOST, FailureClass.PREEMPTED, FailureClass.STORE})

#: Failures that a retry cannot fix.
HOPELESS = frozenset({FailureClass.USER, FailureClass.DIVERGED})


def may_move(source: TrialState, target: TrialState) -> bool:
    """Tell whether the transition is allowed."""
    return target in MOVES[source]


def sources_of(target: TrialState) -> tuple[TrialState, ...]:
    """Return the states from which `target` can be reached."""
    return tuple(state for state, targets in MOVES.items() if target in targets)


@dataclass(frozen=True)
class TrialKey:
    """Identifies a trial: the sweep's id and the trial's number from 0."""

    sweep: str
    trial: int

    def __str__(self) -> str:
        return f"{self.sweep}/{self.trial}"


@dataclass(frozen=True)
class AttemptKey:
    """Identifies an attempt: its number, from 1, is the fencing token of the trial."""

    sweep: str
    trial: int
    attempt: int

    @property
    def of_trial(self) -> TrialKey:
        """The trial that the attempt belongs to."""
        return TrialKey(self.sweep, self.trial)

    def __str__(self) -> str:
        return f"{self.sweep}/{self.trial}/{self.attempt}"

    @classmethod
    def parse(cls, text: str) -> AttemptKey:
        """Parse the output of `str`.

        Raises:
            ValueError: the text has another form.
        """
        sweep, trial, attempt = text.rsplit("/", 2)
        return cls(sweep, int(trial), int(attempt))


@dataclass(frozen=True)
class Failure:
    """Why a trial failed: the class and one line for the user."""

    cls: FailureClass
    message: str
