"""State outside every list of variables is in the checkpoint and in the digest, with either engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import Peer, make_order

from kerasweep.workers.models import look

pytestmark = [pytest.mark.tf, pytest.mark.slow, pytest.mark.timeout(300)]

ZOO = Path(__file__).parent / "state_zoo"
KINDS = ("blur", "steppers", "gan", "rnn", "average", "backup", "pydataset", "cache")


def ordered(kind: str, sweep: str, engine: str, attempt: int = 1, **changes: Any) -> dict[str, Any]:
    spec = {"checkpoints": {"every_s": 0}}
    if kind == "gan":
        spec["metric"] = {"name": "loss", "goal": "minimize"}
    training = {"epochs": 4, "batch_size": 15, "xla": False}
    run = f"{kind}-{sweep}/0/{attempt}"
    return make_order(ZOO, run, params={"kind": kind}, spec=spec, training=training, engine=engine, **changes)


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gate") / "closed"


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory, gate: Path) -> Iterator[tuple[Peer, Peer]]:
    """Two trainers with one artifact store; the second is started on demand."""
    folder = tmp_path_factory.mktemp("trainers")
    both = Peer(folder), Peer(folder, environ={"GATE": str(gate)})
    yield both
    for peer in both:
        peer.close()


def train(peer: Peer, order: dict[str, Any]) -> dict[str, Any]:
    peer.send(**order)
    end = peer.end(order["run"])
    assert end["ev"] == "done", end
    return end


def cut(peer: Peer, gate: Path, kind: str) -> dict[str, Any]:
    """Stop a kind in its third epoch, and return the checkpoint that it leaves."""
    order = ordered(kind, "cut", "auto")
    gate.touch()
    peer.send(**order)
    peer.wait(lambda event: event["ev"] == "failed" or event.get("artifact", {}).get("epoch") == 2)
    peer.send(op="stop", run=order["run"], why="preempt")
    gate.unlink()
    end = peer.end(order["run"])
    assert end["ev"] == "released", end
    checkpoint: dict[str, Any] = end["artifact"]
    return checkpoint


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_same_trial_by_either_engine_and_resumed(
    kind: str, peers: tuple[Peer, Peer], gate: Path
) -> None:
    first, second = peers
    alone = train(first, ordered(kind, "pack", "auto"))
    assert train(first, ordered(kind, "fit", "fit"))["digest"] == alone["digest"]
    resumed = train(first, ordered(kind, "cut", "fit", 2, resume=cut(second, gate, kind)))
    for key in ("digest", "value", "best_epoch", "epochs", "metrics"):
        assert resumed[key] == alone[key]
    assert not any("resumed" in note for note in alone["facts"]["notes"])


def test_what_cannot_be_seen_is_said(peers: tuple[Peer, Peer]) -> None:
    end = train(peers[0], ordered("eager", "said", "auto"))
    assert any("the model runs eagerly" in note for note in end["facts"]["notes"])


def test_a_model_without_get_config_is_kept_as_weights_and_built_again(
    peers: tuple[Peer, Peer], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    end = train(peers[0], ordered("steppers", "kept", "auto"))
    key = end["model"]["key"]
    assert key.endswith(".weights.h5")
    assert any("Keras cannot serialise the model" in note for note in end["facts"]["notes"])
    model = tmp_path / "model.weights.h5"
    model.write_bytes((peers[0].artifacts / key).read_bytes())
    recipe = json.dumps({"params": {"kind": "steppers"}, "seed": 11, "batch_size": 15})
    words = ["--model", str(model), "--job", str(ZOO / "train.py"), "--recipe", recipe]
    capfd.readouterr()
    assert look.main(["evaluate", *words, "--data", "validation", "--arguments", '{"kind": "steppers"}']) == 0
    found = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert found["metrics"]["loss"] == pytest.approx(end["metrics"]["val_loss"], rel=1e-5)
