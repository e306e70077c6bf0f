"""Real trainers, ordered about as a worker orders them: what the parts of the GPU run share."""

from __future__ import annotations

import gzip
import os
import queue
import signal
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from kerasweep.jobs.errors import PipeDefect
from kerasweep.jobs.gallery_index import copy_entry
from kerasweep.jobs.pipe import CheckpointEvent, DecisionEvent, DoneEvent, EndEvent, EpochEvent, TrainOrder
from kerasweep.jobs.seeds import trial_seed
from kerasweep.jobs.store.artifacts import ArtifactRef
from kerasweep.jobs.sweepfile.spec import load_spec
from kerasweep.scheduler.samplers import sampler_for
from kerasweep.workers.devices import DeviceSet
from kerasweep.workers.trainers import Death, Run, Trainer

_READY_S, _EVENT_S = 120.0, 240.0


class Died(Exception):
    """The trainer ended under the run."""


@dataclass
class Outcome:
    """How a run ended: its digest and value, the metrics of each of its epochs, and its checkpoints."""

    end: Any = None
    epochs: dict[int, Mapping[str, float]] = field(default_factory=dict)
    checkpoints: list[ArtifactRef] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """Of the final variables.

        Raises:
            RuntimeError: there is none.
        """
        if not isinstance(self.end, DoneEvent):
            raise RuntimeError(f"not done: {self.end}")
        return self.end.digest


class Driver:
    """One trainer.

    Args:
        folder: for the artifacts.
        devices: what it owns.
    """

    def __init__(self, folder: Path, devices: DeviceSet) -> None:
        self.trainer = Trainer(devices, str(folder / "artifacts"), lambda: None)
        self.trainer.start()

    def wait(self) -> None:
        """Wait until it is ready.

        Raises:
            TimeoutError: it takes too long.
        """
        deadline_s = time.monotonic() + _READY_S
        while not self.trainer.available:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"no trainer within {_READY_S:g} s")
            time.sleep(0.02)

    def train(self, orders: Sequence[TrainOrder], *, to_checkpoint: bool = False) -> list[Outcome]:
        """Train side by side, to the end of each or to its first checkpoint."""
        self.wait()
        runs = [self.trainer.train(order) for order in orders]
        with ThreadPoolExecutor(len(runs)) as threads:
            return list(threads.map(lambda run: self._follow(run, to_checkpoint), runs))

    def kill(self) -> None:
        """Kill the process, as the kernel would; a new one takes its place."""
        pid = self.trainer.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        deadline_s = time.monotonic() + _READY_S
        while self.trainer.pid == pid and time.monotonic() < deadline_s:
            time.sleep(0.02)

    def _follow(self, run: Run, to_checkpoint: bool) -> Outcome:
        outcome = Outcome()
        while True:
            try:
                event = run.events.get(timeout=_EVENT_S)
            except queue.Empty:
                raise TimeoutError(f"{run.name} said nothing for {_EVENT_S:g} s") from None
            if isinstance(event, Death | PipeDefect):
                raise Died(str(event))
            if isinstance(event, DecisionEvent):
                self.trainer.tell(run.name, event.key, event.value)
            elif isinstance(event, EpochEvent):
                outcome.epochs[event.epoch] = event.metrics
            elif isinstance(event, CheckpointEvent):
                outcome.checkpoints.append(event.artifact)
                if to_checkpoint:
                    return outcome
            elif isinstance(event, EndEvent):
                outcome.end = event
                self.trainer.forget(run.name)
                return outcome


@contextmanager
def driving(folder: Path, devices: DeviceSet) -> Iterator[Driver]:
    """Start a trainer, and end it."""
    driver = Driver(folder, devices)
    try:
        yield driver
    finally:
        driver.trainer.close(10.0)


class Entry:
    """A gallery entry, and orders for its trials.

    Args:
        name: the entry's.
        folder: where it is copied to.
        training: fields of the sweep file's block to change.
        graphs: of so many different trials; the others repeat them.
    """

    def __init__(self, name: str, folder: Path, training: Mapping[str, Any], graphs: int = 8) -> None:
        self.name, self._folder = name, folder / name
        copy_entry(name, self._folder)
        spec = load_spec(self._folder / "sweep.yaml")
        self._seed = spec.seed
        self._params = [dict(found.params) for found in sampler_for(spec).suggest([], graphs)]
        self._spec = spec.model_dump(mode="json") | {"checkpoints": {"every_s": 0}}
        self._spec["training"] |= training
        self._attempts = 0

    def order(
        self, trial: int, engine: str, checkpoint: ArtifactRef | None = None, gpus: int = 0
    ) -> TrainOrder:
        """Return an order for an attempt at a trial."""
        self._attempts += 1
        return TrainOrder(
            run=f"{self.name}/{trial}/{self._attempts}",
            sweep=self.name,
            name=self.name,
            trial=trial,
            attempt=self._attempts,
            seed=trial_seed(self._seed, trial),
            params=self._params[trial % len(self._params)],
            spec=self._spec | ({"resources": {"gpus": gpus}} if gpus else {}),
            bundle=str(self._folder),
            entry="train.py",
            checkpoints=(checkpoint,) if checkpoint else (),
            engine=engine,
            decisions={},
            bar=None,
            rung=None,
            ends=False,
        )


def write_fashion(home: Path) -> None:
    """Write digits of 28×28 pixels as a KERAS_HOME's files of Fashion-MNIST: nothing is downloaded."""
    folder = home / "datasets" / "fashion-mnist"
    folder.mkdir(parents=True)
    digits, rng = load_digits(), np.random.default_rng(0)
    for prefix, count in (("train", 12_000), ("t10k", 500)):
        rows = rng.integers(0, len(digits.target), count)
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 2:26, 2:26] = np.kron(digits.images[rows], np.ones((3, 3))) * 255 / 16
        labels = digits.target[rows].astype(np.uint8)
        for array, what in ((images, "images-idx3"), (labels, "labels-idx1")):
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            name = f"{prefix}-{what}-ubyte.gz"
            (folder / name).write_bytes(gzip.compress(header + array.tobytes(), compresslevel=1, mtime=0))
