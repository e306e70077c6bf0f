"""The host's end of a trainer's pipe: starts real trainers and speaks their protocol."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from kerasweep.jobs.errors import PipeDefect
from kerasweep.jobs.pipe import EVENTS, DecidedOrder, ExitOrder, PipeReader, PipeWriter, StopOrder, TrainOrder
from kerasweep.jobs.store.artifacts import ArtifactRef

ORDER_KINDS = (TrainOrder, StopOrder, DecidedOrder, ExitOrder)

_ENDS = ("done", "held", "failed", "released")
_DEADLINE_S = 120.0


class Peer:
    """A trainer process.

    Args:
        folder: for artifacts and the trainer's own output.
        flags: additional command-line flags of the trainer.
        environ: additional environment variables.
    """

    def __init__(self, folder: Path, *flags: str, environ: Mapping[str, str] | None = None) -> None:
        self.artifacts = folder / "artifacts"
        self._output = (folder / f"trainer-{time.monotonic_ns()}.log").open("w+")
        orders, self._orders = os.pipe()
        self._events, events = os.pipe()
        command = [
            sys.executable,
            "-P",
            "-m",
            "kerasweep.workers.trainer.main",
            "--in-fd",
            str(orders),
            "--out-fd",
        ]
        command += [str(events), "--artifacts", str(self.artifacts), "--parent-pid", str(os.getpid()), *flags]
        self.process = subprocess.Popen(
            command,
            pass_fds=(orders, events),
            stdout=self._output,
            stderr=self._output,
            env={**os.environ, **(environ or {})},
            start_new_session=True,
        )
        os.close(orders)
        os.close(events)
        self._reader, self._writer = PipeReader(EVENTS), PipeWriter()
        self._arrived: deque[dict[str, Any]] = deque()
        self.seen: list[dict[str, Any]] = []
        self.decided: dict[tuple[str, str], Any] = {}
        self.ready = self.wait(lambda event: event["ev"] == "ready")

    def send(self, op: str, **fields: Any) -> None:
        """Send an order, given its kind and its fields."""
        kind = next(kind for kind in ORDER_KINDS if kind.kind == op)
        os.write(self._orders, self._writer.line(kind(**fields)))

    def next_event(self) -> dict[str, Any]:
        """Return the next event, or fail after a deadline."""
        deadline_s = time.monotonic() + _DEADLINE_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._events, selectors.EVENT_READ)
            while not self._arrived:
                if not selector.select(max(0.0, deadline_s - time.monotonic())):
                    pytest.fail(
                        f"no event in {_DEADLINE_S} s; seen {self.seen[-3:]}; output: {self.output()}"
                    )
                data = os.read(self._events, 1 << 16)
                if not data:
                    pytest.fail(f"the trainer ended with {self.process.wait(10)}; output: {self.output()}")
                self._arrived.extend(as_fields(event) for event in self._reader.feed(data))
        event = self._arrived.popleft()
        self.seen.append(event)
        if event["ev"] == "decision":  # this host's records accept the first proposal
            key = (event["run"].split("/")[0], event["key"])
            value = self.decided.setdefault(key, event["value"])
            self.send(op="decided", run=event["run"], key=event["key"], value=value)
        return event

    def wait(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the next event that matches."""
        while True:
            event = self.next_event()
            if wanted(event):
                return event

    def of(self, run: str, kind: str) -> list[dict[str, Any]]:
        """Return a run's events of a kind so far."""
        return [event for event in self.seen if event.get("run") == run and event["ev"] == kind]

    def end(self, run: str) -> dict[str, Any]:
        """Wait for a run to end; return its final event."""
        for kind in _ENDS:
            for event in self.of(run, kind):
                return event
        return self.wait(lambda event: event.get("run") == run and event["ev"] in _ENDS)

    def stop_after(self, run: str, epoch: int, why: str = "pause") -> dict[str, Any]:
        """Ask a run to stop as soon as one of its epochs is reported; return its final event."""
        self.wait(
            lambda event: event.get("run") == run and event["ev"] == "epoch" and event["epoch"] >= epoch
        )
        self.send(op="stop", run=run, why=why)
        return self.end(run)

    def output(self) -> str:
        self._output.flush()
        return Path(self._output.name).read_text()[-3000:]

    def close_orders(self) -> None:
        """Close the pipe of orders, as a host that dies does."""
        if self._orders >= 0:
            os.close(self._orders)
            self._orders = -1

    def close(self) -> None:
        self.close_orders()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            pytest.fail("the trainer did not end with its pipe")
        finally:
            os.close(self._events)
            self._output.close()


def make_order(bundle: Path, run: str = "s1/0/1", **changes: Any) -> dict[str, Any]:
    """Return a `train` message; `changes` are applied to the sweep file where they belong there."""
    sweep, trial, attempt = run.rsplit("/", 2)
    spec = {
        "name": "test",
        "job": "train.py",
        "metric": {"name": "val_loss", "goal": "minimize"},
        "method": {"name": "grid"},
        "parameters": {},
        "training": {"epochs": 3, "batch_size": 16},
        "seed": 7,
        **changes.pop("spec", {}),
    }
    spec["training"] = {**spec["training"], **changes.pop("training", {})}
    params = changes.pop("params", {})
    if not spec["parameters"]:
        spec["parameters"] = {name: {"values": [value]} for name, value in params.items() if "." not in name}
    resume, older = changes.pop("resume", None), changes.pop("resume_older", [])
    message = {
        "op": "train",
        "run": run,
        "sweep": sweep,
        "name": spec["name"],
        "trial": int(trial),
        "attempt": int(attempt),
        "params": params,
        "seed": 11,
        "spec": spec,
        "entry": "train.py",
        "bundle": str(bundle),
        "checkpoints": tuple(ArtifactRef(**ref) for ref in [resume, *older] if ref),
        "engine": "fit",
        "decisions": {},
        "bar": None,
        "rung": None,
        "ends": False,
    }
    return message | changes


def as_fields(event: Any) -> dict[str, Any]:
    """Return an event as a dict: its kind under `ev`, its fields, and the content of its facts."""
    assert not isinstance(event, PipeDefect), event
    fields = asdict(event)
    fields |= fields.get("facts") or {}
    if "model" in fields:
        fields["artifacts"] = [fields["model"]] if fields["model"] else []
    if "failure_class" in fields:
        fields["class"] = fields["failure_class"]
    return {"ev": event.kind, **fields}
