"""A sweep's real processes on this machine: Redis, scheduler, workers, Keras; real signals end them."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from servers import PostgresServer

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.queue.broker import HintQueue
from kerasweep.jobs.settings import Settings, to_env
from kerasweep.jobs.store.artifacts import Artifacts
from kerasweep.jobs.store.models import SweepRecord, TrialRecord
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import SweepState, TrialKey, TrialState
from kerasweep.scheduler.deciding import control
from kerasweep.scheduler.deciding.submission import submit
from kerasweep.scheduler.local.redis_server import RedisServer

JOB = """
import keras
import numpy as np


def load_data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 4)).astype("float32")
    y = (x.sum(axis=1) > 0).astype("int64")
    return {"train": (x[:64], y[:64]), "validation": (x[64:], y[64:])}


def build_model(learning_rate=0.05, units=8, dropout=0.0):
    model = keras.Sequential([
        keras.Input((4,)),
        keras.layers.Dense(units, activation="relu"),
        keras.layers.Dropout(dropout),
        keras.layers.Dense(2, activation="softmax"),
    ])
    model.compile(optimizer=keras.optimizers.SGD(learning_rate), loss="sparse_categorical_crossentropy",
                  metrics=["accuracy"])
    return model
"""

#: The stub trainer's job; the functions are never called.
STUB_JOB = """
def load_data():
    return {}


def build_model(act="train", epoch_s=0.0, copy=0):
    return None
"""

SWEEP: dict[str, Any] = {
    "name": "tiny",
    "job": "train.py",
    "metric": {"name": "val_loss", "goal": "minimize"},
    "method": "grid",
    "parameters": {"learning_rate": {"values": [0.01, 0.05, 0.1]}, "units": {"values": [4, 8]}},
    "training": {"epochs": 3, "batch_size": 16},
    "seed": 3,
}


class Cluster:
    """Everything under one folder; all processes started are stopped with it."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings
        self.records = Records(settings.store)
        self.artifacts = Artifacts(settings.artifacts)
        self.queue = HintQueue(settings.broker_url)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, module: str, *flags: str, **environ: str) -> subprocess.Popen[bytes]:
        """Start a module as a separate process, with its output in a log beside the others."""
        return self._run(module.split(".")[1], ["-m", module, *flags], environ)

    def _run(self, name: str, words: list[str], environ: dict[str, str]) -> subprocess.Popen[bytes]:
        log = self.folder / f"{name}-{len(self.processes)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *words],
                env={**os.environ, **to_env(self.settings), **environ},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def worker(self, *flags: str, **environ: str) -> subprocess.Popen[bytes]:
        """Start a worker with one trainer."""
        return self.start("kerasweep.workers.start", "--trainers", "1", *flags, **environ)

    def stub_worker(self, *flags: str, **environ: str) -> subprocess.Popen[bytes]:
        """Start a worker with one stub trainer, which is ready at once."""
        return self._run(
            "stub", [str(Path(__file__).parents[1] / "stub_worker.py"), "--trainers=1", *flags], environ
        )

    def scheduler(self) -> subprocess.Popen[bytes]:
        """Start a scheduler."""
        return self.start("kerasweep.scheduler.deciding.service")

    def submit(self, job: str = JOB, engine: str = "auto", **changes: Any) -> SweepRecord:
        """Submit SWEEP with changes."""
        folder = self.folder / f"sweep-{time.monotonic_ns()}"
        folder.mkdir()
        (folder / "train.py").write_text(job)
        (folder / "sweep.yaml").write_text(yaml.safe_dump({**SWEEP, **changes}))
        done = submit(
            folder / "sweep.yaml",
            records=self.records,
            artifacts=self.artifacts,
            queue=self.queue,
            engine=engine,
        )
        return done.sweep

    def submit_stub(self, *acts: str, epochs: int = 3, epoch_s: float = 0.0, **changes: Any) -> SweepRecord:
        """Submit a sweep for stub trainers: a trial for each act."""
        space = {"act": {"values": [*acts]}} if acts else {}
        changes = {"checkpoints": {"every_s": 0}, "training": {"epochs": epochs, "batch_size": 1}, **changes}
        parameters = {**space, "epoch_s": {"values": [epoch_s]}, **changes.pop("parameters", {})}
        return self.submit(STUB_JOB, parameters=parameters, **changes)

    def trial(self, sweep: SweepRecord, number: int = 0) -> TrialRecord:
        """Return a trial as currently recorded."""
        return self.records.trial(TrialKey(sweep.id, number))

    def reached(self, sweep: SweepRecord, epochs: int, number: int = 0) -> Callable[[], bool]:
        """Return a condition: this many epochs of a trial are recorded."""
        return lambda: self.trial(sweep, number).epochs >= epochs

    def in_state(self, sweep: SweepRecord, state: TrialState, number: int = 0) -> Callable[[], bool]:
        """Return a condition: a trial is in a state."""
        return lambda: self.trial(sweep, number).state is state

    def events(self, sweep: SweepRecord, trial: int = 0) -> list[str]:
        """Return the journal events of a trial."""
        return [entry.event for entry in self.records.journal(sweep.id) if entry.trial == trial]

    def outcomes(self, sweep: SweepRecord, trial: int = 0) -> list[str | None]:
        """Return how each attempt at a trial ended."""
        return [attempt.outcome for attempt in self.records.attempts(sweep.id, trial)]

    def trainers(self, worker: subprocess.Popen[bytes]) -> list[psutil.Process]:
        """Return the trainers that a worker runs."""
        try:
            children = psutil.Process(worker.pid).children(recursive=True)
            return [child for child in children if "trainer" in " ".join(child.cmdline())]
        except psutil.Error:
            return []

    def ended(self, sweep: SweepRecord) -> Callable[[], bool]:
        """Return a condition: the sweep has ended."""
        return lambda: self.records.sweep(sweep.id).state.final

    def completed(self, sweep: SweepRecord) -> Callable[[], bool]:
        """Return a condition: the sweep has completed; any other end fails at once, with its reason."""

        def condition() -> bool:
            found = self.records.sweep(sweep.id)
            if found.state.final and found.state is not SweepState.COMPLETED:
                pytest.fail(f"the sweep is {found.state}: {found.message}")
            return found.state.final

        return condition

    def clear(self) -> None:
        """Cancel every sweep that has not ended, and wait until none of its trials runs."""
        for sweep in self.records.sweeps():
            with suppress(InputError):  # it has ended
                control.cancel(self.records, sweep.id)
        deadline_s = time.monotonic() + 60
        while any(self.records.trials(sweep.id, [TrialState.RUNNING]) for sweep in self.records.sweeps()):
            assert time.monotonic() < deadline_s, "trials run on after they were cancelled"
            time.sleep(0.05)

    def logs(self) -> str:
        """Return the tail of every log."""
        return "\n".join(
            f"--- {log.name}\n{log.read_text()[-3000:]}" for log in sorted(self.folder.glob("*.log"))
        )

    def close(self) -> None:
        """Stop everything, gracefully first."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.records.close()
        self.queue.close()


def stub_digest(seed: int, epochs: int) -> str:
    """Return the digest of a stub's trial trained without gaps or repeats."""
    chain = f"{seed}"
    for epoch in range(1, epochs + 1):
        chain = hashlib.sha256(f"{chain}/{epoch}".encode()).hexdigest()
    return chain


def short_leases(folder: Path, redis_server: RedisServer) -> Settings:
    """Return settings with short leases, so that losses are found within a test."""
    return Settings(
        home=str(folder / "home"),
        broker_url=redis_server.url,
        lease_s=4.0,
        renew_s=1.0,
        self_stop_s=2.5,
        reconcile_s=0.5,
        flush_s=0.1,
        grace_s=20.0,
        reach_s=2.0,
        prune_s=0.5,
        delete_grace_s=0.5,
    )


@pytest.fixture
def settings(tmp_path: Path, redis_server: RedisServer) -> Settings:
    """Settings of a test's own cluster."""
    return short_leases(tmp_path, redis_server)


@pytest.fixture(scope="module")
def _shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with RedisServer(folder / "redis") as redis_server:
        made = Cluster(folder, short_leases(folder, redis_server))
        yield made
        made.close()


@pytest.fixture
def shared_cluster(_shared_cluster: Cluster) -> Iterator[Cluster]:
    """A module's cluster, for tests that leave its processes running; what still trains is cancelled."""
    yield _shared_cluster
    print(_shared_cluster.logs())  # shown if the test fails
    _shared_cluster.clear()


@pytest.fixture
def cluster(tmp_path: Path, settings: Settings, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster without processes."""
    made = Cluster(tmp_path, settings)
    yield made
    made.close()
    print(made.logs())  # shown if the test fails


@pytest.fixture
def digest_of() -> Callable[[int, int], str]:
    """Return a function that gives the digest of an undisturbed stub trial, from its seed and its epochs."""
    return stub_digest


@pytest.fixture
def postgres_cluster(tmp_path: Path, settings: Settings) -> Iterator[tuple[Cluster, PostgresServer]]:
    """A cluster with its own PostgreSQL server, which the test may stop."""
    with PostgresServer() as server:
        url = server.url(server.new_database())
        made = Cluster(tmp_path, replace(settings, store_url=url))
        yield made, server
        made.close()
        print(made.logs())
