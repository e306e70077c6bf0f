"""A trial interrupted twice, each time resumed in a new process, equals the uninterrupted trial."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from selection import selected, with_quick

pytestmark = [pytest.mark.tf, pytest.mark.slow, pytest.mark.timeout(900)]

EPOCHS = 6
ZOO = Path(__file__).parent / "zoo"
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "dense-momentum": ({}, {}),
    "conv-batchnorm-dropout-adam": ({"kind": "conv", "optimizer": "adam"}, {}),
    "dropout-rmsprop": ({"optimizer": "rmsprop", "rate": 0.01}, {}),
    "declared-stopping": (
        {"rate": 0.1},
        {
            "early_stopping": {"monitor": "val_loss", "patience": 2, "restore_best_weights": True},
            "epochs": 12,
        },
    ),
    "own-stopping": ({"rate": 0.1, "extra": "stopping"}, {"epochs": 12}),
    "plateau": ({"rate": 0.3}, {"reduce_on_plateau": {"monitor": "val_loss", "patience": 1, "factor": 0.5}}),
    "scheduler": ({"extra": "scheduler"}, {}),
    "cosine-and-plateau": (
        {"rate": 0.3},
        {
            "learning_rate_schedule": "cosine",
            "reduce_on_plateau": {"monitor": "val_loss", "patience": 1, "factor": 0.5},
        },
    ),
    "counting-callback": ({"extra": "counting"}, {}),
    "own-step": ({"kind": "own", "optimizer": "adam"}, {}),
    "class-weights": ({}, {"class_weight": {0: 2.0, 2: 0.5}}),
    "tf-data": ({"kind": "stream"}, {}),
    "tf-data-steps": ({"kind": "endless"}, {"steps_per_epoch": 3}),
    "py-dataset": ({"kind": "sequence"}, {}),
    "two-replicas-tf-data": ({"kind": "stream", "gpus": 2}, {}),
    "two-replicas": ({"kind": "conv", "optimizer": "adam", "gpus": 2}, {}),
}
#: One of each kind for `make test`: layers, optimizers, callbacks, steps and data.
QUICK = (
    "conv-batchnorm-dropout-adam",
    "declared-stopping",
    "own-stopping",
    "plateau",
    "own-step",
    "tf-data-steps",
    "two-replicas",
)


class Interruption:
    """Trains every case, in one process after another, from stop to stop."""

    def __init__(
        self,
        start: Callable[..., Any],
        order: Callable[..., dict[str, Any]],
        gate: Path,
        names: list[str],
    ) -> None:
        self._start, self._order, self._gate = start, order, gate
        self.epochs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        self.ends: dict[str, dict[str, Any]] = {}

    def go(self, attempt: int, stop_at: int | None) -> Any:
        """Train what has not ended yet, in a new process."""
        peer = self._start("--logical-cpus", "2")
        for name in self.epochs:
            params, training = CASES[name]
            before = self.ends.get(name)
            if before is None or before["ev"] == "released":
                self._train(peer, name, dict(params), training, attempt, stop_at)
        return peer

    def _train(
        self,
        peer: Any,
        name: str,
        params: dict[str, Any],
        training: dict[str, Any],
        attempt: int,
        stop_at: int | None,
    ) -> None:
        run = f"{name}/0/{attempt}"
        gpus = params.pop("gpus", 0)
        self._gate.touch()
        if stop_at:
            self._gate.unlink()
        params |= {"gate": str(self._gate), "gate_epoch": stop_at or 0}
        spec = {"resources": {"gpus": gpus}}
        resume = self.ends[name]["artifact"] if name in self.ends else None
        peer.send(
            **self._order(
                ZOO, run, params=params, spec=spec, training={"epochs": EPOCHS, **training}, resume=resume
            )
        )
        if stop_at:
            near = len(self.epochs[name]) >= stop_at - 1
            peer.wait(
                lambda event: (
                    event.get("run") == run and event["ev"] in ("engine" if near else "epoch", "failed")
                )
            )
            peer.send(op="stop", run=run, why="pause")
            self._gate.touch()
        end = peer.end(run)
        # A trial that stops early may end before the second interruption.
        assert end["ev"] in ("done", "released" if stop_at else "done"), (name, end)
        self.ends[name] = end
        seen = [event["metrics"] for event in peer.of(run, "epoch")]
        numbers = [event["epoch"] for event in peer.of(run, "epoch")]
        assert numbers == [len(self.epochs[name]) + number + 1 for number in range(len(seen))]
        self.epochs[name] += seen


@pytest.fixture(scope="module")
def both(
    tmp_path_factory: pytest.TempPathFactory, peer_type: Any, order: Any, request: pytest.FixtureRequest
) -> Any:
    """Every case that is selected, uninterrupted, and interrupted twice."""
    names = selected(request, "test_interrupted_twice_equals_uninterrupted", CASES)
    folder = tmp_path_factory.mktemp("resume")
    peers: list[Any] = []

    def start(*flags: str) -> Any:
        while peers:
            peers.pop().close()
        peers.append(peer_type(folder, *flags))
        return peers[-1]

    try:
        alone = Interruption(start, order, folder / "gate-alone", names)
        alone.go(1, None)
        cut = Interruption(start, order, folder / "gate-cut", names)
        for attempt, stop_at in ((2, 2), (3, 4), (4, None)):
            cut.go(attempt, stop_at)
        yield alone, cut, folder / "artifacts"
    finally:
        for peer in peers:
            peer.close()


@pytest.mark.parametrize("name", with_quick(CASES, QUICK))
def test_interrupted_twice_equals_uninterrupted(both: Any, name: str) -> None:
    alone, cut, artifacts = both
    one, other = alone.ends[name], cut.ends[name]
    assert cut.epochs[name] == alone.epochs[name]
    assert other["digest"] == one["digest"]
    for key in ("value", "best_epoch", "epochs", "metrics", "stopped_early"):
        assert other[key] == one[key]
    assert_equal_models(*(artifacts / end["artifacts"][0]["key"] for end in (one, other)))


def test_cases_are_what_their_names_say(both: Any) -> None:
    alone = both[0]
    assert alone.ends["declared-stopping"]["stopped_early"]
    assert alone.ends["declared-stopping"]["epochs"] < 12
    assert alone.ends["own-stopping"]["digest"] == alone.ends["declared-stopping"]["digest"]
    rates = [metrics["learning_rate"] for metrics in alone.epochs["plateau"]]
    assert rates[-1] < rates[0]
    digests = [end["digest"] for name, end in alone.ends.items() if name != "own-stopping"]
    assert len(set(digests)) == len(digests)


def assert_equal_models(one: Path, other: Path) -> None:
    """Compare every array of two model files, bit by bit."""
    left, right = arrays_of(one), arrays_of(other)
    assert left.keys() == right.keys()
    for name, array in left.items():
        np.testing.assert_array_equal(array, right[name], err_msg=name)


def arrays_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with zipfile.ZipFile(path) as file, h5py.File(io.BytesIO(file.read("model.weights.h5"))) as weights:
        weights.visititems(
            lambda name, item: found.__setitem__(name, item[()]) if isinstance(item, h5py.Dataset) else None
        )
    return found
