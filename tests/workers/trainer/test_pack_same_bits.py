"""A trial has one result, however it is trained: with `fit`, in a pack of one, of many, or of changing
members.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selection import selected, with_quick

pytestmark = [pytest.mark.tf, pytest.mark.slow, pytest.mark.timeout(900)]

ZOO = Path(__file__).parent / "pack_zoo"
EPOCHS = 4
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "dense": ({}, {}),
    "whole-batches": ({"whole": True}, {}),
    "schedule-of-the-file": ({}, {"learning_rate_schedule": "cosine"}),
    "schedule-of-the-optimizer": ({"optimizer": "decay"}, {}),
    "adam": ({"optimizer": "adam", "rate": 0.01}, {}),
    "adamw": ({"optimizer": "adamw", "rate": 0.01}, {}),
    "rmsprop": ({"optimizer": "rmsprop", "rate": 0.01}, {}),
    "averaged-weights": ({"optimizer": "average"}, {}),
    "gathered-gradients": ({"optimizer": "gather"}, {}),
    "scaled-loss": ({"optimizer": "scaled"}, {}),
    "mixed-precision": ({"kind": "half"}, {}),
    "dropout": ({"kind": "dropout"}, {}),
    "penalty": ({"kind": "penalty"}, {}),
    "conv-batchnorm-dropout": ({"kind": "conv", "optimizer": "adam"}, {}),
    "max-pooling": ({"kind": "pool"}, {}),
    "masked-lstm": ({"kind": "sequence", "optimizer": "adam"}, {}),
    "two-outputs": ({"kind": "outputs"}, {}),
    "named-outputs": ({"kind": "named", "whole": True}, {}),
    "dict-inputs": ({"kind": "dict", "rate": 0.001}, {}),
    "sample-weights": ({"kind": "weights"}, {}),
    "class-weights": ({}, {"class_weight": {"0": 2.0, "2": 0.5}}),
    "own-step": ({"kind": "own"}, {}),
    "own-logs": ({"kind": "ownlogs"}, {}),
    "some-steps": ({}, {"steps_per_epoch": 3, "validation_steps": 1}),
    "unshuffled": ({}, {"shuffle": False}),
    "stopping": (
        {"rate": 0.3},
        {"early_stopping": {"monitor": "val_loss", "patience": 1, "restore_best_weights": True}},
    ),
}
#: One of each kind of graph, since XLA takes seconds for each. It has no deterministic gradient of
#: max-pooling, and none of a masked LSTM over batches of unknown size.
WITH_XLA = (
    "dense",
    "whole-batches",
    "schedule-of-the-optimizer",
    "adam",
    "averaged-weights",
    "mixed-precision",
    "dropout",
    "conv-batchnorm-dropout",
    "two-outputs",
    "sample-weights",
    "own-step",
    "some-steps",
)
#: One of each kind for `make test`: schedules, optimizers, precision, layers, outputs, weights, steps.
QUICK = (
    "dense",
    "schedule-of-the-optimizer",
    "adam",
    "averaged-weights",
    "mixed-precision",
    "dropout",
    "conv-batchnorm-dropout",
    "masked-lstm",
    "two-outputs",
    "sample-weights",
    "own-step",
    "stopping",
)
_COMPANIONS = (
    (21, {"rate": 0.02, "aux": 0.7, "strength": 0.02}, 2),
    (22, {"rate": 0.001, "aux": 0.1, "strength": 0.0}, 6),
    (23, {"rate": 0.1}, EPOCHS),
)
#: No two attempts have the same name, in whichever process they are.
_ATTEMPTS = itertools.count(1)


class Lessons:
    """Trains cases in trainers, and keeps the result of each case's trial.

    Args:
        order: makes `train` messages.
        xla: for every trial.
    """

    def __init__(self, order: Callable[..., dict[str, Any]], xla: bool) -> None:
        self._order, self._xla = order, xla
        self.ends: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, list[dict[str, float]]] = {}

    def begin(self, peer: Any, name: str, **changes: Any) -> str:
        """Start an attempt at the case's own trial."""
        params, training = CASES[name]
        run = f"{name}/0/{next(_ATTEMPTS)}"
        training = {"epochs": EPOCHS, "batch_size": 8, "xla": self._xla, **training}
        peer.send(**self._order(ZOO, run, params=params, training=training, **{"engine": "pack", **changes}))
        return run

    def accompany(self, peer: Any, name: str, number: int) -> str:
        """Start a trial of the same sweep with other values and another length."""
        seed, others, epochs = _COMPANIONS[number]
        params, training = CASES[name]
        names = {"rate", "aux", "strength"}
        run = f"{name}/{number + 1}/{next(_ATTEMPTS)}"
        params = {**params, **{key: value for key, value in others.items() if key in names}}
        training = {"batch_size": 8, "xla": self._xla, **training, "epochs": epochs}
        peer.send(**self._order(ZOO, run, params=params, training=training, engine="pack", seed=seed))
        return run

    def note(self, peer: Any, name: str, run: str, before: list[dict[str, float]] | None = None) -> None:
        """Wait for the end of the case's own trial."""
        self.ends[name] = peer.end(run)
        self.logs[name] = (before or []) + [event["metrics"] for event in peer.of(run, "epoch")]


def alone(lessons: Lessons, peer: Any, names: list[str], engine: str = "pack") -> Lessons:
    for name in names:
        lessons.note(peer, name, lessons.begin(peer, name, engine=engine))
    return lessons


def in_company(lessons: Lessons, peer: Any, names: list[str]) -> Lessons:
    """Four at a time: one is there before, one leaves midway, one comes midway."""
    for name in names:
        before = lessons.accompany(peer, name, 1)
        short = lessons.accompany(peer, name, 0)
        run = lessons.begin(peer, name)
        peer.wait(lambda event, run=run: event.get("run") == run and event["ev"] in ("epoch", "failed"))
        late = lessons.accompany(peer, name, 2)
        lessons.note(peer, name, run)
        for other in (before, short, late):
            end = peer.end(other)  # with their rates some may diverge, which affects no other
            if end["ev"] != "done" and end.get("class") != "diverged":
                lessons.ends[name] = end
    return lessons


Parts = dict[str, tuple[dict[str, Any], list[dict[str, float]]]]


def paused(lessons: Lessons, peer: Any, names: list[str]) -> Parts:
    """Pause each case in a pack; return how that ended, and the epochs before it."""
    parts = {}
    for name in names:
        run = lessons.begin(peer, name)
        lessons.accompany(peer, name, 0)
        peer.wait(lambda event, run=run: event.get("run") == run and event["ev"] in ("epoch", "failed"))
        peer.send(op="stop", run=run, why="pause")
        parts[name] = peer.end(run), [event["metrics"] for event in peer.of(run, "epoch")]
    return parts


def moved(lessons: Lessons, peer: Any, parts: Parts) -> Lessons:
    """Resume the paused trial in another pack, in another process."""
    for name, (end, seen) in parts.items():
        if end["ev"] != "released":  # it was faster than the stop, or failed
            lessons.ends[name], lessons.logs[name] = end, seen
            continue
        lessons.accompany(peer, name, 1)
        run = lessons.begin(peer, name, resume=end["artifact"])
        lessons.note(peer, name, run, seen)
    return lessons


def in_packs(start: Callable[[], Any], order: Any, names: list[str], *, xla: bool) -> dict[str, Lessons]:
    """Train every case in each way, in two processes: compiling takes most of the time.

    In the first one a case is alone, and its own model is traced; in the second others were there before it.
    """
    first = start()
    ways = {"alone": alone(Lessons(order, xla), first, names)}
    parts = paused(Lessons(order, xla), first, names)
    second = start()
    return ways | {
        "in company": in_company(Lessons(order, xla), second, names),
        "moved": moved(Lessons(order, xla), second, parts),
    }


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, peer_type: Any) -> Iterator[Callable[[], Any]]:
    """Starts a trainer, and stops the previous one."""
    folder = tmp_path_factory.mktemp("pack")
    peers: list[Any] = []

    def start_one() -> Any:
        while peers:
            peers.pop().close()
        peers.append(peer_type(folder))
        return peers[-1]

    yield start_one
    for peer in peers:
        peer.close()


@pytest.fixture(scope="module")
def names(request: pytest.FixtureRequest) -> list[str]:
    """The cases selected for this session: each takes its time."""
    return selected(request, "test_a_pack_has_the_bits_of_fit", CASES)


@pytest.fixture(scope="module")
def names_with_xla(request: pytest.FixtureRequest) -> list[str]:
    """Those of them selected with XLA."""
    return selected(request, "test_compiled_packs_have_the_same_bits", CASES)


@pytest.fixture(scope="module")
def by_fit(start: Any, order: Any, names: list[str]) -> Lessons:
    return alone(Lessons(order, xla=False), start(), names, engine="fit")


@pytest.fixture(scope="module")
def by_pack(start: Any, order: Any, names: list[str]) -> dict[str, Lessons]:
    return in_packs(start, order, names, xla=False)


@pytest.fixture(scope="module")
def by_xla(start: Any, order: Any, names_with_xla: list[str]) -> dict[str, Lessons]:
    return in_packs(start, order, names_with_xla, xla=True)


@pytest.mark.parametrize("way", ["alone", "in company", "moved"])
@pytest.mark.parametrize("name", with_quick(CASES, QUICK))
def test_a_pack_has_the_bits_of_fit(
    by_fit: Lessons, by_pack: dict[str, Lessons], name: str, way: str
) -> None:
    assert_same(by_fit, by_pack[way], name)


@pytest.mark.parametrize("way", ["in company", "moved"])
@pytest.mark.parametrize("name", with_quick(WITH_XLA, ()))
def test_compiled_packs_have_the_same_bits(by_xla: dict[str, Lessons], name: str, way: str) -> None:
    assert_same(by_xla["alone"], by_xla[way], name)


def test_cases_differ(by_fit: Lessons) -> None:
    digests = [end.get("digest") for end in by_fit.ends.values()]
    assert len(set(digests)) == len(digests)


def assert_same(one: Lessons, other: Lessons, name: str) -> None:
    for lessons in (one, other):
        assert lessons.ends[name]["ev"] == "done", lessons.ends[name]
    assert other.logs[name] == one.logs[name]
    for key in ("digest", "value", "best_epoch", "epochs", "metrics"):
        assert other.ends[name][key] == one.ends[name][key]
