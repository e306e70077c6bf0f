"""The pipe between a worker and its trainers: every order and event, encoded and validated in one place.

A message is one line: its number, its kind, and its fields as JSON. Numbers count up from 0 in each direction
for each trainer process, so a lost message is noticed: a job may write to any descriptor of its process.
Metrics may be NaN or infinite: the pipe carries them unchanged, and only the store encodes them.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, PlainSerializer, TypeAdapter, ValidationError

from kerasweep.jobs.errors import PipeDefect
from kerasweep.jobs.store.artifacts import ArtifactRef
from kerasweep.jobs.trial import FailureClass

log = logging.getLogger(__name__)

#: Longer lines are rejected.
LONGEST_LINE_BYTES = 64 << 20
#: Longer text is cut in the middle.
LONGEST_TEXT_CHARS = 1 << 20
_LINE = re.compile(rb"(\d{1,18}) ([a-z]{1,16}) (\{.*\})", re.DOTALL)
_RUN = re.compile(rb'"run":"([^"\\]{1,80})"')


def _carried(text: str) -> str:
    """Return text that JSON and every store accept, bounded in length."""
    if len(text) > LONGEST_TEXT_CHARS:
        half = LONGEST_TEXT_CHARS // 2
        text = f"{text[:half]}\n[{len(text) - 2 * half:,} characters left out]\n{text[-half:]}"
    return text.encode("utf-8", "replace").decode()


Text = Annotated[str, PlainSerializer(_carried)]


@dataclass(frozen=True)
class Message:
    """The base of both directions; a subclass names its kind, and its fields have no defaults."""

    __pydantic_config__ = ConfigDict(extra="forbid", ser_json_inf_nan="constants", strict=True)
    kind: ClassVar[str]


@dataclass(frozen=True)
class OfRun(Message):
    """A message about one run, which is one attempt in a trainer: `sweep/trial/attempt`."""

    run: str


# Orders: worker to trainer.


@dataclass(frozen=True)
class TrainOrder(OfRun):
    """Train one attempt at a trial.

    Args:
        sweep: the sweep's id.
        name: the sweep's name.
        trial: from 0.
        attempt: from 1.
        seed: the trial's, 31 bits.
        params: the trial's values, flat.
        spec: the sweep file.
        bundle: the folder that holds the job's files.
        entry: the job's file in it.
        checkpoints: to resume from, the newest first.
        engine: auto, fit or pack.
        decisions: choices measured once for the sweep, by key.
        bar: a value worse than this does not get its model kept; None while there are too few trials.
        rung: the epoch at which the run is held; None: it trains to its end.
        ends: whether it ends at its rung, with a result.
    """

    kind = "train"
    sweep: str
    name: str
    trial: int
    attempt: int
    seed: int
    params: Mapping[str, Any]
    spec: Mapping[str, Any]
    bundle: str
    entry: str
    checkpoints: tuple[ArtifactRef, ...]
    engine: str
    decisions: Mapping[str, Any]
    bar: float | None
    rung: int | None
    ends: bool


@dataclass(frozen=True)
class StopOrder(OfRun):
    """End a run: with its result after the epoch (`stop`), with a checkpoint (`pause`, `preempt`), or at
    once.
    """

    kind = "stop"
    why: str


@dataclass(frozen=True)
class DecidedOrder(OfRun):
    """The answer to a `DecisionEvent`: the choice that binds the sweep."""

    kind = "decided"
    key: str
    value: Any


@dataclass(frozen=True)
class ExitOrder(Message):
    """Exit; the process has no runs."""

    kind = "exit"


# Events: trainer to worker.


@dataclass(frozen=True)
class ReadyEvent(Message):
    """TensorFlow is loaded and sees these devices."""

    kind = "ready"
    pid: int
    devices: tuple[str, ...]


@dataclass(frozen=True)
class WornEvent(Message):
    """A job changed what cannot be undone: the process must be replaced when its runs have ended."""

    kind = "worn"
    why: Text


@dataclass(frozen=True)
class EngineEvent(OfRun):
    """The engine that trains the run (`pack` or `fit`), and why; the reason is empty for the default."""

    kind = "engine"
    engine: str
    reason: Text


@dataclass(frozen=True)
class PhaseEvent(OfRun):
    """What the run is doing: `loading`, `compiling`, `training` or `saving`."""

    kind = "phase"
    phase: str


@dataclass(frozen=True)
class NoteEvent(OfRun):
    """Something that the user should know about how the run is trained, sent as soon as it is known."""

    kind = "note"
    text: Text


@dataclass(frozen=True)
class WaitEvent(OfRun):
    """What the run waits for, such as free disk space; empty when it no longer waits."""

    kind = "wait"
    text: Text


@dataclass(frozen=True)
class StepEvent(OfRun):
    """Step counts: of this run, and of all runs since the process started."""

    kind = "step"
    steps: int
    steps_in_all: int
    rss_bytes: int


@dataclass(frozen=True)
class EpochEvent(OfRun):
    """An epoch (from 1) has ended, with its metrics and its duration in seconds."""

    kind = "epoch"
    epoch: int
    metrics: Mapping[str, float]
    seconds: float


@dataclass(frozen=True)
class CheckpointEvent(OfRun):
    """A checkpoint is durable."""

    kind = "checkpoint"
    artifact: ArtifactRef


@dataclass(frozen=True)
class LogEvent(OfRun):
    """Lines for the trial's log."""

    kind = "log"
    text: Text


@dataclass(frozen=True)
class DecisionEvent(OfRun):
    """A measured choice that is to bind the sweep, unless another already does."""

    kind = "decision"
    key: str
    value: Any
    reason: Text


@dataclass(frozen=True)
class DoneEvent(OfRun):
    """The run has ended with a result; its model is durable.

    Args:
        digest: SHA-256 over the final variables, in hexadecimal.
        value: the sweep's metric after the best epoch.
        best_epoch: from 1.
        epochs: the number of epochs trained.
        metrics: of the best epoch.
        model: the model file; None if only better trials keep theirs.
        stopped_early: whether it ended before its last epoch.
        facts: device, versions, engine and notes, for the trial's record.
        rss_bytes: the memory that the process holds.
    """

    kind = "done"
    digest: str
    value: float
    best_epoch: int
    epochs: int
    metrics: Mapping[str, float]
    model: ArtifactRef | None
    stopped_early: bool
    facts: Mapping[str, Any]
    rss_bytes: int


@dataclass(frozen=True)
class HeldEvent(OfRun):
    """The run has reached its rung and left its slot; its checkpoint is durable.

    The fields are those of `DoneEvent`, for the result so far; a model is written only at the end.
    """

    kind = "held"
    digest: str
    value: float
    best_epoch: int
    epochs: int
    metrics: Mapping[str, float]
    checkpoint: ArtifactRef
    facts: Mapping[str, Any]
    rss_bytes: int


@dataclass(frozen=True)
class FailedEvent(OfRun):
    """The run has failed.

    Args:
        failure_class: why.
        message: for the user.
        traceback: the job's own, for the trial's log.
        width: the number of runs in the process within the last seconds, including this one.
    """

    kind = "failed"
    failure_class: FailureClass
    message: Text
    traceback: Text
    width: int


@dataclass(frozen=True)
class ReleasedEvent(OfRun):
    """The run has ended without a result, as requested, with its newest checkpoint, if any."""

    kind = "released"
    why: str
    artifact: ArtifactRef | None


Order = TrainOrder | StopOrder | DecidedOrder | ExitOrder
#: Events that end a run.
EndEvent = DoneEvent | HeldEvent | FailedEvent | ReleasedEvent
RunEvent = (
    EngineEvent
    | PhaseEvent
    | NoteEvent
    | WaitEvent
    | StepEvent
    | EpochEvent
    | CheckpointEvent
    | LogEvent
    | DecisionEvent
    | EndEvent
)
Event = ReadyEvent | WornEvent | RunEvent

ORDERS: Mapping[str, TypeAdapter[Any]] = {one.kind: TypeAdapter(one) for one in Order.__args__}
EVENTS: Mapping[str, TypeAdapter[Any]] = {one.kind: TypeAdapter(one) for one in Event.__args__}


class PipeWriter:
    """Turns messages into numbered lines, in call order."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._number = 0

    def line(self, message: Order | Event) -> bytes:
        """Return a message's line; hold `lock` until it is written.

        Raises:
            PipeDefect: a field has the wrong type.
        """
        adapter = (ORDERS if message.kind in ORDERS else EVENTS)[message.kind]
        try:
            body = adapter.dump_json(message, warnings="error")
        except (ValueError, TypeError) as exc:
            raise PipeDefect(f"{message.kind} cannot be sent: {exc}", getattr(message, "run", None)) from exc
        line = b"%d %s %s\n" % (self._number, message.kind.encode(), body)
        self._number += 1
        return line


class PipeReader:
    """Turns bytes read from a pipe into messages.

    Args:
        kinds: `ORDERS` or `EVENTS`.
    """

    def __init__(self, kinds: Mapping[str, TypeAdapter[Any]]) -> None:
        self._kinds = kinds
        self._rest: list[bytes] = []
        self._number = 0

    def feed(self, data: bytes) -> Iterator[Any]:
        """Yield the messages that are complete; a `PipeDefect` stands for each invalid one."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            whole = b"".join([*self._rest, line])
            self._rest = []
            if (message := self._read(whole)) is not None:
                yield message
        if rest:
            self._rest.append(rest)
        if sum(map(len, self._rest)) > LONGEST_LINE_BYTES:
            self._rest = []
            yield PipeDefect(f"a line of more than {LONGEST_LINE_BYTES >> 20} MiB is not a message", None)

    def _read(self, line: bytes) -> Any:
        found = _LINE.fullmatch(line)
        if found is None:  # output that a job wrote into the pipe may precede a message
            found = _LINE.fullmatch(line, max(0, line.find(b"%d " % self._number)))
        if found is None:  # harmless by itself: if a message was lost, its number reveals it
            log.warning("not a message: %.80r", line)
            return None
        run = _RUN.search(line)
        named = run[1].decode(errors="replace") if run else None
        number, kind = int(found[1]), found[2].decode()
        expected, self._number = self._number, number + 1
        if number != expected:
            return PipeDefect(f"message {expected} to {number} was lost", None)
        if kind not in self._kinds:
            return PipeDefect(f"{kind} is not a kind of message; known are {', '.join(self._kinds)}", named)
        try:
            return self._kinds[kind].validate_json(found[3])
        except ValidationError as exc:
            wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in exc.errors()[:3])
            return PipeDefect(f"{kind} is invalid: {wrong}", named)
