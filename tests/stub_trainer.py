"""A stub trainer: it speaks the pipe's protocol, and starts at once.

What it "trains" is a chain of hashes, so a result depends on every epoch before it, and a resumed trial that
skipped or repeated one ends with another digest. A trial's parameter `act` selects a misbehaviour.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

from kerasweep.jobs.errors import Damaged, OutOfReach
from kerasweep.jobs.pipe import (
    CheckpointEvent,
    DoneEvent,
    EngineEvent,
    EpochEvent,
    ExitOrder,
    FailedEvent,
    HeldEvent,
    LogEvent,
    PhaseEvent,
    ReadyEvent,
    ReleasedEvent,
    RunEvent,
    StepEvent,
    StopOrder,
    TrainOrder,
)
from kerasweep.jobs.store.artifacts import ArtifactRef, Artifacts
from kerasweep.jobs.trial import FailureClass
from kerasweep.workers.trainer.main import _flags, die_with
from kerasweep.workers.trainer.outbox import Outbox, read_orders

#: The seconds of a step, in short and in long epochs: a busy machine must be able to keep the rate.
SHORTEST_STEP_S, LONGEST_STEP_S = 0.02, 0.1


class Stub:
    """The process; each run is a thread."""

    def __init__(self, outbox: Outbox, artifacts: Artifacts) -> None:
        self.outbox, self.artifacts = outbox, artifacts
        self.asked: dict[str, str] = {}

    def train(self, order: TrainOrder) -> None:
        """Train one attempt."""
        try:
            Run(self, order).train()
        except OutOfReach as exc:
            self.outbox.send(FailedEvent(order.run, FailureClass.STORE, str(exc), "", 1))


class Run:
    """One attempt."""

    def __init__(self, stub: Stub, order: TrainOrder) -> None:
        self.stub, self.order, self.name = stub, order, order.run
        self.act = order.params.get("act", "train")
        self.first = order.attempt == 1
        self.epochs = order.spec["training"]["epochs"]
        self.epoch, self.chain = 0, f"{order.seed}"
        self.history: list[float] = []

    def train(self) -> None:
        """Train from the newest checkpoint to the end."""
        self.resume()
        engine = "fit" if self.order.engine == "fit" else "pack"
        self.send(EngineEvent(self.name, engine, "a stub"))
        self.send(PhaseEvent(self.name, "training"))
        while self.epoch < self.epochs and not (self.epoch and self.asked == "stop"):
            if self.epoch == self.order.rung:
                if self.order.ends:
                    break
                self.hold()
                return
            if self.misbehave() or not self.train_epoch():
                return
        self.finish()

    def misbehave(self) -> bool:
        """Do what the trial's act says; return whether the run is over."""
        act, epoch = self.act, self.epoch + 1
        if os.environ.get("STUB_SICK"):  # as if a library were broken on this machine alone
            self.send(FailedEvent(self.name, FailureClass.USER, "ImportError: libsick.so", "line 1", 1))
            return True
        if act == "crash" and epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if act == "hang" and epoch == 2 and self.first:
            time.sleep(600)
        if act == "fork" and epoch == 2 and self.first:
            self.fork()
        if act == "garble" and epoch == 2 and self.first:
            self.write(b'%d epoch {"run":"' + self.name.encode() + b'","epoch":"two"}\n')
            return True
        if act == "lose" and epoch == 2 and self.first:
            self.write(b"")
            self.log("the message before this one got lost")
            time.sleep(600)
        if act in ("user", "diverged", "memory") and epoch == 2:
            self.send(FailedEvent(self.name, FailureClass(act), f"the stub was told: {act}", "line 1", 1))
            return True
        return False

    def write(self, line: bytes) -> None:
        """Write a line of its own in place of the next message."""
        outbox = self.stub.outbox
        with outbox._writer.lock:
            number = int(outbox._writer.line(LogEvent(self.name, "")).split()[0])
            os.write(outbox._descriptor, line and line % number)

    def fork(self) -> None:
        """Leave a child that holds the pipe open, and die."""
        fds = [int(word) for flag, word in zip(sys.argv, sys.argv[1:], strict=False) if flag.endswith("-fd")]
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], pass_fds=fds)
        self.log(f"grandchild {child.pid}")
        os.kill(os.getpid(), signal.SIGKILL)

    def train_epoch(self) -> bool:
        """Train one epoch in small steps; return False if asked to stop."""
        epoch_s = float(self.order.params.get("epoch_s", 0.0))
        step_s = min(LONGEST_STEP_S, max(SHORTEST_STEP_S, epoch_s / 100))
        ends = time.monotonic() + epoch_s
        while time.monotonic() < ends:
            time.sleep(step_s)
            self.send(StepEvent(self.name, 1, self.stub.outbox.count(1), 0))
            if self.left():
                return False
        if self.left():
            return False
        self.epoch += 1
        self.chain = hashlib.sha256(f"{self.chain}/{self.epoch}".encode()).hexdigest()
        value = int(self.chain[:8], 16) / 2**32
        self.history.append(value)
        self.send(EpochEvent(self.name, self.epoch, {"loss": value, "val_loss": value}, 0.1))
        if self.epoch < self.epochs:
            self.save()
        return True

    @property
    def asked(self) -> str | None:
        """Return the reason to stop, if any."""
        return self.stub.asked.get(self.name)

    def left(self) -> bool:
        """Stop if asked to."""
        if self.asked in (None, "stop"):
            return False
        artifact = None if self.asked in ("cancel", "stale") else self.save()
        self.send(ReleasedEvent(self.name, str(self.asked), artifact))
        return True

    def save(self) -> ArtifactRef | None:
        """Write a checkpoint."""
        if not self.epoch:
            return None
        content = {"epoch": self.epoch, "chain": self.chain, "history": self.history}
        try:
            ref = self.put("checkpoint", json.dumps(content).encode())
        except OutOfReach as exc:
            self.log(f"no checkpoint after epoch {self.epoch}: {exc}")
            return None
        self.send(CheckpointEvent(self.name, ref))
        return ref

    def put(self, kind: str, data: bytes) -> ArtifactRef:
        """Write an artifact."""
        order = self.order
        folder = f"sweeps/{order.sweep}/trials/{order.trial}/{order.attempt}"
        key = f"{folder}/{kind}-{self.epoch}-{secrets.token_hex(4)}.json"
        return ArtifactRef(kind, key, *self.stub.artifacts.put(key, data), self.epoch)

    def resume(self) -> None:
        """Resume from the newest intact checkpoint."""
        for ref in self.order.checkpoints:
            try:
                content = json.loads(self.stub.artifacts.get(ref.key, ref.sha256))
            except Damaged as exc:
                self.log(f"checkpoint of epoch {ref.epoch} refused: {exc}")
                continue
            self.epoch, self.chain, self.history = content["epoch"], content["chain"], content["history"]
            return

    def finish(self) -> None:
        """Send the result."""
        value = min(self.history)
        best = self.history.index(value) + 1
        model = replace(self.put("model", self.chain.encode()), epoch=best)
        self.send(
            DoneEvent(
                run=self.name,
                digest=self.chain,
                value=value,
                best_epoch=best,
                epochs=self.epoch,
                metrics={"loss": value, "val_loss": value},
                model=model,
                stopped_early=self.epoch < self.epochs,
                facts={},
                rss_bytes=(1 << 40) if self.act == "grow" else 0,
            )
        )

    def hold(self) -> None:
        """Wait at the rung."""
        checkpoint, value = self.save(), min(self.history)
        assert checkpoint is not None
        best = self.history.index(value) + 1
        metrics = {"loss": value, "val_loss": value}
        self.send(HeldEvent(self.name, self.chain, value, best, self.epoch, metrics, checkpoint, {}, 0))

    def log(self, text: str) -> None:
        """Write a line into the trial's log."""
        self.send(LogEvent(self.name, text))

    def send(self, event: RunEvent) -> None:
        """Send an event of this run."""
        self.stub.outbox.send(event)


def main() -> None:
    """Serve the pipe."""
    flags = _flags(None)
    die_with(flags.parent_pid)
    outbox = Outbox(flags.out_fd)
    stub = Stub(outbox, Artifacts(flags.artifacts))
    outbox.send(ReadyEvent(os.getpid(), ("stub",)))
    for order in read_orders(flags.in_fd):
        if isinstance(order, TrainOrder):
            threading.Thread(target=stub.train, args=(order,), daemon=True).start()
        elif isinstance(order, StopOrder):
            stub.asked[order.run] = order.why
        elif isinstance(order, ExitOrder):
            break
    os._exit(0)


if __name__ == "__main__":
    main()
