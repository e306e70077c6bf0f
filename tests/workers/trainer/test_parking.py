"""A trial held at rungs is resumed from memory or from its checkpoint, with the bits of one never held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from peers import Peer, make_order

from kerasweep.jobs.pipe import TrainOrder
from kerasweep.jobs.store.artifacts import ArtifactRef
from kerasweep.workers.trainer import parking
from kerasweep.workers.trainer.assignment import Assignment, read_order
from kerasweep.workers.trainer.parking import Parked, Parking
from kerasweep.workers.trainer.state.stop_flag import StopFlag

pytestmark = [pytest.mark.tf, pytest.mark.slow, pytest.mark.timeout(600)]

JOB = """
import keras
import numpy as np

def load_data():
    random = np.random.default_rng(3)
    y = random.integers(0, 3, 44)
    x = (random.normal(size=(44, 8)) + y[:, None] * 0.3).astype("f4")
    return {"train": (x[:34], y[:34]), "validation": (x[34:], y[34:])}

class Slowing(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.random, self.losses = np.random.default_rng(1), []

    def on_epoch_end(self, epoch, logs=None):
        self.losses.append(logs["loss"])
        noise = self.random.normal() + np.random.normal()
        self.model.optimizer.learning_rate = 0.05 / len(self.losses) + 0.001 * abs(noise)
        print("epoch", epoch + 1, "of", len(self.losses))

def build_model(rate=0.05, dropout=0.3):
    print("built")
    layers = [keras.layers.Dense(9, "relu"), keras.layers.BatchNormalization(), keras.layers.Dropout(dropout)]
    model = keras.Sequential([keras.Input((8,)), *layers, keras.layers.Dense(3, "softmax")])
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model

def callbacks(own=0):
    return [Slowing()] if own else [keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)]
"""
CASES: dict[str, dict[str, Any]] = {"own callback": {"own": 1}, "early stopping": {"rate": 0.2}}
OTHERS = {"params": {"rate": 0.01}, "training": {"epochs": 1}}


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    found = Peer(tmp_path_factory.mktemp("trainer"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job")
    (folder / "train.py").write_text(JOB)
    return folder


@pytest.fixture(scope="module")
def train(peer: Peer, bundle: Path) -> Callable[..., dict[str, Any]]:
    def run(name: str, **changes: Any) -> dict[str, Any]:
        training = {"epochs": 6, "xla": False, **changes.pop("training", {})}
        peer.send(**make_order(bundle, name, engine="pack", training=training, **changes))
        return peer.end(name)

    return run


def printed(peer: Peer, name: str) -> str:
    return "\n".join(event["text"] for event in peer.of(name, "log"))


def losses(peer: Peer, *names: str) -> list[dict[str, float]]:
    return [event["metrics"] for name in names for event in peer.of(name, "epoch")]


@pytest.mark.parametrize("case", CASES)
def test_from_memory_and_from_the_checkpoint_the_bits_are_equal(
    peer: Peer, train: Callable[..., dict[str, Any]], case: str
) -> None:
    params, at = CASES[case], list(CASES).index(case)
    whole = train(f"whole/{at}/1", params=params)
    assert whole["ev"] == "done", whole
    for sweep, kept in (("memory", True), ("file", False)):
        held: dict[str, Any] | None = None
        names = [f"{sweep}/{at}/{attempt}" for attempt in (1, 2, 3)]
        for name, rung in zip(names, (1, 3, None), strict=True):
            resume = None if held is None else held["checkpoint"]
            held = train(name, params=params, rung=rung, resume=resume)
            assert ("built" in printed(peer, name)) is (name == names[0] or not kept)
            if not kept:
                train(f"other/{at}/{rung or 9}", **OTHERS)  # a trial of another sweep ends parked ones
        assert held is not None
        for what in ("digest", "value", "best_epoch", "epochs", "metrics"):
            assert held[what] == whole[what], (sweep, what)
        assert losses(peer, *names) == losses(peer, f"whole/{at}/1")
    if "own" in params:
        assert "epoch 6 of 6" in printed(peer, f"memory/{at}/3")


def test_a_parked_trial_obeys_its_next_attempt_and_no_order_of_another_kind(
    peer: Peer, train: Callable[..., dict[str, Any]]
) -> None:
    first = train("s/0/1", rung=2)
    peer.send(op="stop", run="s/0/1", why="cancel")  # too late: its attempt has ended
    again = train("s/0/2", rung=4, resume=first["checkpoint"])
    assert (again["ev"], again["epochs"], "built" in printed(peer, "s/0/2")) == ("held", 4, False)
    older = train("s/0/3", rung=4, resume=first["checkpoint"])  # another checkpoint than it stands at
    assert (older["digest"], "built" in printed(peer, "s/0/3")) == (again["digest"], True)
    ended = train("s/0/4", rung=4, ends=True, resume=older["checkpoint"])
    assert (ended["ev"], ended["epochs"], ended["digest"]) == ("done", 4, older["digest"])
    assert ended["model"] is not None
    assert "built" not in printed(peer, "s/0/4")
    assert {event["run"] for event in peer.seen if event["ev"] == "failed"} == set()


@dataclass
class Sleeping:
    order: Assignment
    stop: StopFlag = field(default_factory=StopFlag)


def parked(bundle: Path, name: str, size: int = 1) -> Parked:
    message = make_order(bundle, name, rung=1)
    message.pop("op")
    return Parked(Sleeping(read_order(TrainOrder(**message))), "abc", size)


def test_parking_ends_the_oldest_and_what_has_no_room(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking, "MOST", 2)
    monkeypatch.setattr(parking, "MOST_BYTES", 100)
    monkeypatch.setattr(parking, "free_bytes", lambda: 2 << 30)
    lot, trials = Parking(), [parked(bundle, f"s/{number}/1", 30) for number in range(3)]
    assert all(map(lot.put, trials))
    assert [one.woken for one in trials] == [True, False, False]
    assert not lot.put(parked(bundle, "s/9/1", 101))
    assert [one.woken for one in trials] == [True, True, True]
    one, other = parked(bundle, "s/1/1"), parked(bundle, "t/1/1")
    assert lot.put(one)
    assert lot.take(other.session.order) is None
    assert one.woken
    assert lot.put(other)
    lot.clear()
    assert other.woken
    monkeypatch.setattr(parking, "free_bytes", lambda: 1 << 20)
    assert not lot.put(parked(bundle, "s/1/2"))


def test_only_the_same_trial_at_the_same_checkpoint_continues(bundle: Path) -> None:
    def order(name: str, sha256: str, **changes: Any) -> Assignment:
        found = parked(bundle, name).session.order
        ref = ArtifactRef("checkpoint", "key", sha256, 1, 1)
        return replace(found, checkpoints=(ref,), rung=3, **changes)

    one = parked(bundle, "s/1/1")
    assert one.is_meant_by(order("s/1/2", "abc"))
    assert not one.is_meant_by(order("s/1/2", "abd"))
    assert not one.is_meant_by(order("s/2/2", "abc"))
    assert not one.is_meant_by(order("s/1/2", "abc", seed=5))
    assert not one.is_meant_by(order("s/1/2", "abc", bundle=Path("/elsewhere")))


SLOW_TO_LEAVE = """
import pathlib
import time
import keras
import numpy as np

def load_data():
    return {"train": (np.zeros((16, 2), "f4"), np.zeros((16, 1), "f4"))}

def build_model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model

def watch(seconds, stop):
    until = time.monotonic() + seconds
    while not stop() and time.monotonic() < until:
        time.sleep(0.01)

class Leaving(keras.callbacks.Callback):
    def __init__(self, other_is_here):
        super().__init__()
        self.other_is_here = other_is_here

    def on_epoch_end(self, epoch, logs=None):
        print("leaving")
        watch(2, pathlib.Path(self.other_is_here).exists)

class Working(Leaving):
    def on_train_begin(self, logs=None):
        pathlib.Path(self.other_is_here).touch()
        watch(1, lambda: not pathlib.Path("train.py").exists())
        pathlib.Path("train.py").read_bytes()

    def on_epoch_end(self, epoch, logs=None):
        pass

def callbacks(trial, other_is_here=""):
    return [Leaving(other_is_here) if trial.attempt == 1 else Working(other_is_here)]
"""


def test_an_attempt_waits_for_the_one_before_which_tidies_the_same_folder(peer: Peer, tmp_path: Path) -> None:
    """A thawed worker may get a trial again whose last attempt, no longer its holder, has yet to leave."""
    (tmp_path / "train.py").write_text(SLOW_TO_LEAVE)
    signal = tmp_path.parent / f"{tmp_path.name}-is-here"
    order = {
        "params": {"other_is_here": str(signal)},
        "spec": {"metric": {"name": "loss", "goal": "minimize"}},
    }
    peer.send(**make_order(tmp_path, "left/0/1", **order))
    peer.wait(lambda event: event["ev"] in ("log", "failed"))
    peer.send(op="stop", run="left/0/1", why="stale")
    peer.send(**make_order(tmp_path, "left/0/2", **order))
    end = peer.end("left/0/2")
    assert (end["ev"], end.get("epochs")) == ("done", 3), end
