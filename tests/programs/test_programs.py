"""Trials side by side in a warm trainer, and resumed ones, equal plain Keras runs alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from peers import Peer
from selection import with_quick
from small_programs import PlainKeras, begin, names, prepared, result

pytestmark = [pytest.mark.tf, pytest.mark.slow, pytest.mark.timeout(300)]

#: Programs whose kinds others cover in `make test`, here or among the cases of `test_pack_same_bits.py`.
COVERED = {
    "accumulated",
    "adversarial_pair",
    "augmented_stream",
    "averaged_by_hand",
    "contrastive",
    "distiller",
    "lookahead",
    "loss_scaled",
    "masked_words",
    "outputs_by_name",
    "weighted_rows",
}
#: Programs whose state lies in unusual places: these are resumed in `make test` too.
RESUMED_QUICKLY = (
    "arrays_of_all_kinds",
    "average_in_a_model",
    "callback_at_import",
    "closures_of_callbacks",
    "compiled_at_the_start",
    "counts_in_the_module",
    "draws_of_keras",
    "generated_rows",
    "generator_at_import",
    "kept_by_python",
    "kept_in_folder",
    "mixed_precision",
    "noise_in_both_parts",
    "objects_of_all_kinds",
    "optimizer_at_import",
    "own_files",
    "plateau_at_home",
    "reshuffled_sequence",
    "run_eagerly",
    "stage_in_the_module",
    "stateful_windows",
    "steppers_in_a_dict",
    "threads_of_its_own",
)


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def plain(where: Path) -> Iterator[PlainKeras]:
    process = PlainKeras(where / "plain.log")
    yield process
    process.close()


@pytest.fixture(scope="module")
def warm(where: Path) -> Iterator[Peer]:
    peer = Peer(where, "--folders", str(where / "trials"))
    yield peer
    peer.close()


@pytest.fixture(scope="module")
def other(where: Path) -> Iterator[Peer]:
    """Another trainer, with the same store of artifacts."""
    peer = Peer(where, "--folders", str(where / "resumed"))
    yield peer
    peer.close()


@pytest.fixture(scope="module")
def begun(where: Path, warm: Peer) -> Callable[[str], list[str]]:
    """Return a function that starts a program in the warm trainer, once, and returns its runs."""
    return cache(lambda name: begin(warm, prepared(name, where), engine="auto"))


@pytest.mark.parametrize("name", with_quick(names(), set(names()) - COVERED))
def test_trials_side_by_side_in_a_warm_trainer_are_as_plain_keras_alone(
    name: str, where: Path, plain: PlainKeras, warm: Peer, begun: Callable[[str], list[str]]
) -> None:
    program = prepared(name, where)
    runs = begun(name)
    wanted = plain.train(program, program.params[-1])
    found = [result(warm, run) for run in runs]
    assert found[-1] == wanted
    notes = warm.end(runs[-1])["facts"]["notes"]
    if program.said is None:
        assert not any("resumed trial may" in note for note in notes), notes
    else:
        assert any(program.said in note for note in notes), notes


@pytest.mark.parametrize("name", with_quick(names()[::-1], RESUMED_QUICKLY))
def test_a_trial_resumed_after_its_first_epoch_by_another_trainer_is_the_same(
    name: str, where: Path, warm: Peer, other: Peer, begun: Callable[[str], list[str]]
) -> None:
    """As after a kill: its checkpoint is all that is left of it. In turn the other engine resumes it."""
    program = prepared(name, where)
    undisturbed = result(warm, begun(name)[-1])
    first = warm.of(begun(name)[-1], "checkpoint")[0]["artifact"]
    assert first["epoch"] == 1
    engine = "fit" if names().index(name) % 2 else "auto"
    [again] = begin(other, program, attempt=2, engine=engine, resume=first, only=len(program.params) - 1)
    found = result(other, again)
    assert not [event for event in other.of(again, "log") if "refused" in event["text"]]
    assert found["digest"] == undisturbed["digest"]
    assert found["history"] == {key: row[1:] for key, row in undisturbed["history"].items()}


def test_nothing_is_left_of_the_folders_of_trials(where: Path, warm: Peer, other: Peer) -> None:
    for folder in ("trials", "resumed"):
        left = [path for path in (where / folder).glob("*/*") if path.parent.name != "jobs"]
        assert left == []
