"""Real training, interrupted by real signals, ends with the bits of uninterrupted training.

It also covers what a job really does to its trainer: allocations, a callback that sleeps, a NaN loss.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from chaos import checker
from sqlalchemy import update

from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.trial import FailureClass, TrialState

pytestmark = pytest.mark.tf

#: Dropout, momentum, early stopping with counters; slow enough to be interrupted midway.
JOB = """
import time

import keras
import numpy as np


def load_data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(320, 8)).astype("float32")
    y = (x.sum(axis=1) + rng.normal(size=320) > 0).astype("int64")
    return {"train": (x[:256], y[:256]), "validation": (x[256:], y[256:])}


def build_model(dropout=0.4, learning_rate=0.05):
    model = keras.Sequential([
        keras.Input((8,)),
        keras.layers.Dense(16, activation="relu"),
        keras.layers.Dropout(dropout),
        keras.layers.Dense(2, activation="softmax"),
    ])
    model.compile(optimizer=keras.optimizers.SGD(learning_rate, momentum=0.9),
                  loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


class Slow(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        time.sleep(0.25)


def callbacks():
    return [Slow()]
"""
SWEEP: dict[str, Any] = {
    "parameters": {"dropout": {"values": [0.2, 0.4]}, "learning_rate": {"values": [0.02, 0.1]}},
    "training": {
        "epochs": 8,
        "batch_size": 16,
        "xla": False,
        "early_stopping": {"monitor": "val_loss", "patience": 3, "restore_best_weights": True},
    },
    "checkpoints": {"every_s": 0, "keep_top": 4},
}


def table_of(cluster: Any, sweep: Any) -> bytes:
    return checker.table(cluster.settings.store, sweep.id)


@pytest.fixture
def served(shared_cluster: Any) -> Any:
    """A cluster with a scheduler and a worker of eight slots, for sweeps that follow one another."""
    if not shared_cluster.processes:
        shared_cluster.scheduler()
        shared_cluster.worker_process = shared_cluster.worker("--slots=8")
    return shared_cluster


def expect_sound(cluster: Any, sweep: Any, trials: int) -> None:
    where = (cluster.settings.store, Path(cluster.settings.artifacts), sweep.id)
    assert checker.check(*where, trials=trials, lease_s=cluster.settings.lease_s) == []


@pytest.mark.slow
def test_killed_frozen_and_preempted_trials_end_with_the_bits_of_those_left_alone(
    cluster: Any, until: Any
) -> None:
    cluster.scheduler()
    worker = cluster.worker("--slots=4", "--name=first@here")
    alone = cluster.submit(JOB, **SWEEP)
    until(cluster.completed(alone), 120)
    sweep = cluster.submit(JOB, **SWEEP)

    def epochs() -> int:
        return sum(trial.epochs for trial in cluster.records.trials(sweep.id))

    until(lambda: epochs() >= 3, 120)
    [trainer] = cluster.trainers(worker)
    trainer.kill()
    until(lambda: epochs() >= 8 and cluster.trainers(worker), 120)
    frozen = [psutil.Process(worker.pid), *cluster.trainers(worker)]
    for process in frozen:
        process.suspend()
    second = cluster.worker("--slots=4", "--name=second@here")
    until(lambda: any(trial.worker == "second@here" for trial in cluster.records.trials(sweep.id)), 90)
    for process in frozen:
        process.resume()
    worker.terminate()
    worker.wait(cluster.settings.grace_s)
    until(lambda: epochs() >= 14 or cluster.ended(sweep)(), 120)
    second.terminate()
    second.wait(cluster.settings.grace_s)
    cluster.worker("--slots=4", "--name=third@here")
    until(cluster.completed(sweep), 120)
    assert sum(trial.attempt for trial in cluster.records.trials(sweep.id)) > 4
    expect_sound(cluster, sweep, trials=4)
    assert checker.differences(table_of(cluster, alone), table_of(cluster, sweep)) == []


@pytest.mark.slow
def test_damage_is_told_and_worked_around_and_a_lost_seed_state_is_found(served: Any, until: Any) -> None:
    """The check must detect a diverging dropout mask, so this test forces one."""
    space = {**SWEEP, "parameters": {"dropout": {"values": [0.4]}}}
    alone = served.submit(JOB, **space)
    until(served.completed(alone), 120)
    tables = {}
    for harm in (truncate, flip_a_bit, lose_seed_state):
        sweep = served.submit(JOB, **space)
        until(served.reached(sweep, 3), 60)
        with served.records.deciding(sweep.id) as decision:
            decision.ask("pause", 0)
        until(served.in_state(sweep, TrialState.PAUSED), 20)
        harm(served, sweep)
        with served.records.deciding(sweep.id) as decision:
            decision.move(TrialState.QUEUED, "for the test")
        until(served.ended(sweep), 120)
        tables[harm] = table_of(served, sweep)
        told = [text for *_, text in served.records.logs(sweep.id) if "refused" in text]
        assert len(told) == (0 if harm is lose_seed_state else 1), told
    whole = table_of(served, alone)
    assert checker.differences(whole, tables[truncate]) == []
    assert checker.differences(whole, tables[flip_a_bit]) == []
    [difference] = checker.differences(whole, tables[lose_seed_state])
    assert "digest" in difference


def newest(cluster: Any, sweep: Any) -> tuple[Any, Path]:
    ref = cluster.records.artifacts(sweep.id, 0, "checkpoint")[0][0]
    return ref, Path(cluster.settings.artifacts) / ref.key


def truncate(cluster: Any, sweep: Any) -> None:
    _, path = newest(cluster, sweep)
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(cluster: Any, sweep: Any) -> None:
    _, path = newest(cluster, sweep)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def lose_seed_state(cluster: Any, sweep: Any) -> None:
    """Reset the state of the seed generators to the start; `.keras` and `.weights.h5` do not store it."""
    ref, path = newest(cluster, sweep)
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}
    names = json.loads(members["manifest.json"])["variables"]["variables"]
    seeds = [number for number, name in enumerate(names) if "seed_generator_state" in name]
    assert seeds, names
    for number in seeds:
        state = np.load(BytesIO(members[f"{number}.npy"]))
        buffer = BytesIO()
        np.save(buffer, np.array([state[0], 0], dtype=state.dtype))
        assert not np.array_equal(state, [state[0], 0]), "the state must have moved"
        members[f"{number}.npy"] = buffer.getvalue()
    with zipfile.ZipFile(path, "w") as target:
        for name, data in members.items():
            target.writestr(name, data)
    values = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
    with cluster.records._db.writing() as conn:
        conn.execute(update(t.artifacts).where(t.artifacts.c.key == ref.key).values(values))


MISBEHAVING = """
import os
import resource
import signal
import time

import keras
import numpy as np


def load_data():
    x = np.linspace(0, 1, 64, dtype="float32").reshape(-1, 2)
    return {"train": (x, x[:, 0]), "validation": (x, x[:, 0])}


def build_model(act="none"):
    if act == "allocate":
        limits = resource.getrlimit(resource.RLIMIT_AS)
        used = int(open("/proc/self/statm").read().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), limits[1]))
        try:
            np.ones(1 << 30)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)
    if act == "fill":
        np.ones(1 << 29)
    if act == "abort":
        os.abort()
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    rate = 1e30 if act == "diverge" else 0.01
    model.compile(optimizer=keras.optimizers.SGD(rate), loss="mse")
    return model


class Sleeper(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        time.sleep(600)


def callbacks(act="none"):
    return [Sleeper()] if act == "sleep" else []
"""


@pytest.mark.slow
def test_what_a_job_does_to_its_trainer_fails_that_trial_alone_and_by_its_class(
    cluster: Any, until: Any
) -> None:
    acts = ["none", "diverge", "allocate", "abort", "sleep"]
    cluster.scheduler()
    cluster.worker("--slots=1", KERASWEEP_HANG_S="6")
    sweep = cluster.submit(
        MISBEHAVING,
        parameters={"act": {"values": acts}},
        training={"epochs": 3, "batch_size": 8},
        retries={"max_failures": 0},  # retries are tested with stubs
    )
    until(cluster.ended(sweep), 200)
    found = {trial.params["act"]: trial for trial in cluster.records.trials(sweep.id)}
    good = found.pop("none")
    assert (good.state, good.failures) == (TrialState.COMPLETED, 0)
    expected = {
        "diverge": FailureClass.DIVERGED,
        "allocate": FailureClass.MEMORY,
        "abort": FailureClass.CRASH,
        "sleep": FailureClass.HANG,
    }
    for act, cls in expected.items():
        trial = found[act]
        assert trial.state is TrialState.FAILED, act
        assert (trial.failure.cls, trial.attempt) == (cls, 1), trial.failure
    assert "signal 6" in found["abort"].failure.message
    assert "no step for 6 s" in found["sleep"].failure.message


def _memory_group() -> Path | None:
    """Return a fresh memory cgroup that this process may use, or None."""
    for root in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")):
        group = root / f"kerasweep-{os.getpid()}"
        try:
            group.mkdir()
            limit = group / ("memory.limit_in_bytes" if root.name == "memory" else "memory.max")
            limit.write_text(str(2 << 30))
        except OSError:
            group.exists() and group.rmdir()
            continue
        return group
    return None


@pytest.mark.slow
def test_a_trainer_that_the_kernel_kills_for_its_memory_is_known_by_that(served: Any, until: Any) -> None:
    group = _memory_group()
    if group is None:
        pytest.skip("no memory cgroup can be made here: the kernel's own kill is not tried")
    until(lambda: served.trainers(served.worker_process), 60)
    [trainer] = served.trainers(served.worker_process)
    try:
        (group / "cgroup.procs").write_text(str(trainer.pid))
        fill = {"act": {"values": ["fill"]}}
        sweep = served.submit(MISBEHAVING, parameters=fill, training={"epochs": 1, "batch_size": 8})
        until(served.ended(sweep), 90)
        trial = served.trial(sweep)
        assert (trial.state, trial.failure.cls) == (TrialState.FAILED, FailureClass.MEMORY)
        assert trial.attempt == 1
    finally:
        with suppress(psutil.NoSuchProcess):
            trainer.kill()
        until(lambda: not (group / "cgroup.procs").read_text(), 10)
        group.rmdir()


#: Room for two trials at once, as on a small GPU; who is there is kept in files: a trial sees no other one.
CROWDED = """
import os
import time
import uuid

import keras
import numpy as np
import tensorflow as tf

ROOM = {room!r}


class Memory(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.mark = os.path.join(ROOM, uuid.uuid4().hex)

    def on_epoch_begin(self, epoch, logs=None):
        open(self.mark, "w").close()
        if sum(time.time() - entry.stat().st_mtime < 5 for entry in os.scandir(ROOM)) > 2:
            os.unlink(self.mark)
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    def on_epoch_end(self, epoch, logs=None):
        time.sleep(0.05)

    def on_train_end(self, logs=None):
        os.unlink(self.mark)


def callbacks():
    return [Memory()]


def load_data():
    x = np.linspace(0, 1, 64, dtype="float32").reshape(-1, 2)
    return {{"train": (x, x[:, 0]), "validation": (x, x[:, 0])}}


def build_model(rate=0.1):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model
"""


@pytest.mark.slow
def test_trials_that_run_out_of_memory_in_a_pack_end_in_smaller_ones(
    served: Any, until: Any, tmp_path: Path
) -> None:
    room = tmp_path / "room"
    room.mkdir()
    sweep = served.submit(
        CROWDED.format(room=str(room)),
        parameters={"rate": {"distribution": "log_uniform", "min": 0.001, "max": 0.1}},
        method={"name": "random"},
        training={"epochs": 10, "batch_size": 8, "xla": False},
        budget={"max_trials": 10},
    )
    until(served.completed(sweep), 120)
    trials = served.records.trials(sweep.id)
    assert max(trial.attempt for trial in trials) > 1, "no trial ran out of memory"
    assert {trial.failures for trial in trials} == {0}
    reasons = [entry.reason for entry in served.records.journal(sweep.id)]
    assert any("tried again in a pack of 4" in reason or "in a pack of 3" in reason for reason in reasons)
