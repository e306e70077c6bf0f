"""Each entry's trial has one result: with `fit`, in a pack of one or eight, and moved to another pack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from peers import Peer, make_order
from selection import with_quick

from kerasweep.jobs.gallery_index import copy_entry, list_gallery
from kerasweep.jobs.seeds import trial_seed
from kerasweep.jobs.store.artifacts import ArtifactRef
from kerasweep.jobs.sweepfile.spec import load_spec
from kerasweep.scheduler.samplers import sampler_for

pytestmark = [pytest.mark.tf, pytest.mark.slow, pytest.mark.timeout(900)]

ENTRIES = [entry.name for entry in list_gallery()]
WIDTH = 8
#: A few steps of a few epochs reveal any difference in the bits; another test checks that entries learn.
SHORT = {"epochs": 3, "steps_per_epoch": 5, "validation_steps": 2}
#: Entries with this many different graphs: XLA takes seconds to compile each.
XLA_GRAPHS = 2
#: XLA has no deterministic gradient of max-pooling.
WITHOUT_XLA = {"aux_outputs", "regularised_cnn"}
_RESULT = ("digest", "value", "best_epoch", "epochs", "metrics")


class Entry:
    """An entry's first eight trials, to be trained by a trainer.

    Args:
        name: the entry's.
        folder: where its files are.
        xla: for every trial.
    """

    def __init__(self, name: str, folder: Path, xla: bool) -> None:
        self._name, self._folder, self._xla = name, folder, xla
        self._spec = load_spec(folder / "sweep.yaml")
        suggestions = sampler_for(self._spec).suggest([], XLA_GRAPHS if xla else WIDTH)
        params = [suggestion.params for suggestion in suggestions]
        self._params = [dict(params[number % len(params)]) for number in range(WIDTH)]
        self._attempts = 0

    def begin(self, peer: Peer, trial: int, engine: str, **changes: Any) -> str:
        """Start an attempt at a trial; a checkpoint is written after each epoch."""
        self._attempts += 1
        run = f"{self._name}-{self._xla}/{trial}/{self._attempts}"
        spec = {**self._spec.model_dump(mode="json"), "checkpoints": {"every_s": 0}}
        message = make_order(
            self._folder,
            run,
            spec=spec,
            training={**SHORT, "xla": self._xla},
            params=self._params[trial],
            seed=trial_seed(self._spec.seed, trial),
            engine=engine,
        )
        peer.send(**message | changes)
        return run

    def pack(self, peer: Peer) -> dict[str, Any]:
        """Train all eight side by side; return the first one's result."""
        runs = [self.begin(peer, trial, "pack") for trial in range(WIDTH)]
        ends = [peer.end(run) for run in runs]
        failures = [str(end.get("traceback", end)) for end in ends if end["ev"] != "done"]
        assert not failures, "\n".join(failures)
        return result(peer, runs[0])

    def alone(self, peer: Peer, engine: str) -> dict[str, Any]:
        """Train the first trial; return its result, and the checkpoint of its first epoch."""
        run = self.begin(peer, 0, engine)
        found = result(peer, run)
        return found | {"checkpoint": peer.of(run, "checkpoint")[0]["artifact"]}

    def moved(self, peer: Peer, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
        """Resume from another process's checkpoint, among other trials; return the result."""
        others = [self.begin(peer, trial, "pack") for trial in (1, 2)]
        found = result(peer, self.begin(peer, 0, "pack", checkpoints=(ArtifactRef(**checkpoint),)))
        for other in others:
            peer.end(other)
        return found


def result(peer: Peer, run: str) -> dict[str, Any]:
    """Return the result of a run, and the metrics of each of its epochs."""
    end = peer.end(run)
    assert end["ev"] == "done", end
    epochs = {event["epoch"]: event["metrics"] for event in peer.of(run, "epoch")}
    return {key: end[key] for key in _RESULT} | {"by_epoch": epochs}


@pytest.fixture(scope="module")
def peers(
    fashion_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], tuple[Peer, Peer]]]:
    """Return two trainers with one artifact store, started on first use."""
    folder = tmp_path_factory.mktemp("trainers")
    started: list[Peer] = []

    def both() -> tuple[Peer, Peer]:
        while len(started) < 2:
            started.append(Peer(folder, environ={"KERAS_HOME": str(fashion_home)}))
        return started[0], started[1]

    yield both
    for peer in started:
        peer.close()


@pytest.mark.parametrize("entry", with_quick(ENTRIES, ("mlp",)))
def test_without_xla_the_bits_are_those_of_fit(
    entry: str, tmp_path: Path, peers: Callable[[], tuple[Peer, Peer]]
) -> None:
    copy_entry(entry, tmp_path)
    trials, (first, second) = Entry(entry, tmp_path, xla=False), peers()
    by_fit = trials.alone(first, "fit")
    checkpoint = by_fit.pop("checkpoint")
    one = trials.alone(second, "pack")
    others = one.pop("checkpoint")
    assert one == by_fit
    assert trials.pack(second) == by_fit
    for peer, start in ((second, checkpoint), (first, others)):
        moved = trials.moved(peer, start)
        assert moved.pop("by_epoch") == {epoch: by_fit["by_epoch"][epoch] for epoch in (2, 3)}
        assert moved == {key: by_fit[key] for key in _RESULT}


@pytest.mark.parametrize("entry", with_quick(ENTRIES, ("mlp",)))
def test_with_xla_the_bits_are_those_of_any_pack(
    entry: str, tmp_path: Path, peers: Callable[[], tuple[Peer, Peer]]
) -> None:
    if entry in WITHOUT_XLA:
        pytest.skip("XLA has no deterministic gradient of max-pooling")
    copy_entry(entry, tmp_path)
    trials, (first, second) = Entry(entry, tmp_path, xla=True), peers()
    one = trials.alone(first, "pack")
    checkpoint = one.pop("checkpoint")
    assert trials.pack(second) == one
    moved = trials.moved(second, checkpoint)
    assert moved.pop("by_epoch") == {epoch: one["by_epoch"][epoch] for epoch in (2, 3)}
    assert moved == {key: one[key] for key in _RESULT}
