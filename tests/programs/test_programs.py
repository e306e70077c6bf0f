"""Each program's trials, side by side in a warm trainer, equal plain Keras runs alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import Peer
from small_programs import PlainKeras, begin, names, prepared, result

pytestmark = [pytest.mark.tf, pytest.mark.slow, pytest.mark.timeout(300)]


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


@pytest.mark.parametrize("name", names())
def test_trials_side_by_side_in_a_warm_trainer_are_as_plain_keras_alone(
    name: str, where: Path, plain: PlainKeras, warm: Peer
) -> None:
    program = prepared(name, where)
    runs = begin(warm, program, engine="auto")
    wanted = [plain.train(program, params) for params in program.params]
    assert [result(warm, run) for run in runs] == wanted


def test_each_is_the_same_after_all_others(where: Path, warm: Peer) -> None:
    for name in reversed(names()):
        program = prepared(name, where)
        first = [f"{name}/{number}/1" for number in range(len(program.params))]
        again = begin(warm, program, attempt=2, engine="auto")
        assert [result(warm, run) for run in again] == [result(warm, run) for run in first], name


def test_nothing_is_left_of_the_folders_of_trials(where: Path, warm: Peer) -> None:
    left = [path for path in (where / "trials").glob("*/*") if path.parent.name != "jobs"]
    assert left == []
