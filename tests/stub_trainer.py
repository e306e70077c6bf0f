"""A trainer that only pretends: it speaks the pipe's protocol, and starts at once.

What it "trains" is a chain of hashes, so a result depends on every epoch before it, and a resumed trial that
left one out or did one twice ends with another digest. A trial's parameter `act` says how it misbehaves.
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
from dataclasses import asdict
from typing import Any

from kerasweep.jobs.errors import Damaged, OutOfReach
from kerasweep.jobs.store.artifacts import ArtifactRef, Artifacts
from kerasweep.workers.trainer.main import _flags, die_with
from kerasweep.workers.trainer.outbox import Channel, read_messages

STEP_S = 0.02


class Stub:
    """One process; each run is a thread."""

    def __init__(self, channel: Channel, artifacts: Artifacts) -> None:
        self.channel, self.artifacts = channel, artifacts
        self.asked: dict[str, str] = {}

    def train(self, order: dict[str, Any]) -> None:
        """Train one attempt."""
        try:
            Run(self, order).train()
        except OutOfReach as exc:
            self.channel.send(
                "failed", order["run"], **{"class": "store", "message": str(exc), "traceback": ""}
            )


class Run:
    """One attempt."""

    def __init__(self, stub: Stub, order: dict[str, Any]) -> None:
        self.stub, self.order, self.name = stub, order, order["run"]
        self.act = order["params"].get("act", "train")
        self.first = order["attempt"] == 1
        self.epochs = order["spec"]["training"]["epochs"]
        self.epoch, self.chain = 0, f"{order['seed']}"
        self.history: list[float] = []

    def train(self) -> None:
        """Train from the newest checkpoint to the end."""
        self.resume()
        engine = "fit" if self.order["engine"] == "fit" else "pack"
        self.send("engine", engine=engine, reason="a stub")
        while self.epoch < self.epochs and not (self.epoch and self.asked == "stop"):
            if self.misbehave() or not self.train_epoch():
                return
        self.finish()

    def misbehave(self) -> bool:
        """Do what the trial's act says; tell whether it is over with that."""
        act, epoch = self.act, self.epoch + 1
        if act == "crash" and epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if act == "hang" and epoch == 2 and self.first:
            time.sleep(600)
        if act == "fork" and epoch == 2 and self.first:
            self.fork()
        if act in ("user", "diverged", "memory") and epoch == 2:
            self.send(
                "failed", **{"class": act, "message": f"the stub was told: {act}", "traceback": "line 1"}
            )
            return True
        return False

    def fork(self) -> None:
        """Leave a child that holds the pipe open, and die."""
        fds = [int(word) for flag, word in zip(sys.argv, sys.argv[1:], strict=False) if flag.endswith("-fd")]
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], pass_fds=fds)
        self.send("log", text=f"grandchild {child.pid}")
        os.kill(os.getpid(), signal.SIGKILL)

    def train_epoch(self) -> bool:
        """Train one epoch in small steps; return False when asked to leave."""
        ends = time.monotonic() + float(self.order["params"].get("epoch_s", 0.0))
        while time.monotonic() < ends:
            time.sleep(STEP_S)
            self.send("step", step=1, steps_in_all=self.stub.channel.count(1))
            if self.left():
                return False
        if self.left():
            return False
        self.epoch += 1
        self.chain = hashlib.sha256(f"{self.chain}/{self.epoch}".encode()).hexdigest()
        value = int(self.chain[:8], 16) / 2**32
        self.history.append(value)
        self.send("epoch", epoch=self.epoch, metrics={"loss": value, "val_loss": value}, seconds=0.1)
        if self.epoch < self.epochs:
            self.save()
        return True

    @property
    def asked(self) -> str | None:
        """Why to stop, if so."""
        return self.stub.asked.get(self.name)

    def left(self) -> bool:
        """Leave if asked to."""
        if self.asked in (None, "stop"):
            return False
        artifact = None if self.asked in ("cancel", "stale") else self.save()
        self.send("released", why=self.asked, artifact=artifact)
        return True

    def save(self) -> dict[str, Any] | None:
        """Write a checkpoint."""
        if not self.epoch:
            return None
        content = {"epoch": self.epoch, "chain": self.chain, "history": self.history}
        try:
            ref = self.put("checkpoint", json.dumps(content).encode())
        except OutOfReach as exc:
            self.send("log", text=f"no checkpoint after epoch {self.epoch}: {exc}")
            return None
        self.send("checkpoint", artifact=ref)
        return ref

    def put(self, kind: str, data: bytes) -> dict[str, Any]:
        """Write an artifact."""
        order = self.order
        folder = f"sweeps/{order['sweep']}/trials/{order['trial']}/{order['attempt']}"
        key = f"{folder}/{kind}-{self.epoch}-{secrets.token_hex(4)}.json"
        return asdict(ArtifactRef(kind, key, *self.stub.artifacts.put(key, data), self.epoch))

    def resume(self) -> None:
        """Go on from the newest whole checkpoint."""
        for ref in filter(None, [self.order["resume"], *self.order["resume_older"]]):
            try:
                content = json.loads(self.stub.artifacts.get(ref["key"], ref["sha256"]))
            except Damaged as exc:
                self.send("log", text=f"checkpoint of epoch {ref['epoch']} refused: {exc}")
                continue
            self.epoch, self.chain, self.history = content["epoch"], content["chain"], content["history"]
            return

    def finish(self) -> None:
        """Tell the result."""
        value = min(self.history)
        best = self.history.index(value) + 1
        model = self.put("model", self.chain.encode())
        model["epoch"] = best
        self.send(
            "done",
            digest=self.chain,
            value=value,
            best_epoch=best,
            epochs=self.epoch,
            metrics={"loss": value, "val_loss": value},
            artifacts=[model],
            stopped_early=self.epoch < self.epochs,
            rss_bytes=(1 << 40) if self.act == "grow" else 0,
        )

    def send(self, event: str, **fields: Any) -> None:
        """Send an event of this run."""
        self.stub.channel.send(event, self.name, **fields)


def main() -> None:
    """Serve the pipe."""
    flags = _flags(None)
    die_with(flags.parent_pid)
    channel = Channel(flags.out_fd)
    stub = Stub(channel, Artifacts(flags.artifacts))
    channel.send("ready", pid=os.getpid(), devices=["stub"], versions={})
    for message in read_messages(flags.in_fd):
        if message["op"] == "train":
            threading.Thread(target=stub.train, args=(message,), daemon=True).start()
        elif message["op"] == "stop":
            stub.asked[message["run"]] = message["why"]
        elif message["op"] == "exit":
            break
    os._exit(0)


if __name__ == "__main__":
    main()
