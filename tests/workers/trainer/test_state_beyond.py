"""State that no list of variables has, on several devices too; what cannot be seen is said."""

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


def ordered(kind: str, sweep: str, attempt: int = 1, **changes: Any) -> dict[str, Any]:
    spec = {"checkpoints": {"every_s": 0}, **changes.pop("spec", {})}
    training = {"epochs": 3, "batch_size": 14, "xla": False}
    run = f"{kind}-{sweep}/0/{attempt}"
    asked = {"params": {"kind": kind}, "spec": spec, "training": training, "engine": "auto"}
    return make_order(ZOO, run, **{**asked, **changes})


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Peer, Peer]]:
    """Two trainers of two devices each, with one store of artifacts."""
    folder = tmp_path_factory.mktemp("trainers")
    both = Peer(folder, "--logical-cpus", "2"), Peer(folder, "--logical-cpus", "2")
    yield both
    for peer in both:
        peer.close()


def train(peer: Peer, order: dict[str, Any]) -> dict[str, Any]:
    peer.send(**order)
    end = peer.end(order["run"])
    assert end["ev"] == "done", end
    return end


def test_on_several_devices_a_resumed_trial_is_the_same(peers: tuple[Peer, Peer]) -> None:
    first, second = peers
    spec = {"resources": {"gpus": 2}}
    alone = train(first, ordered("blur", "mirrored", spec=spec))
    kept = first.of("blur-mirrored/0/1", "checkpoint")[0]["artifact"]
    resumed = train(second, ordered("blur", "mirrored", 2, spec=spec, resume=kept))
    for key in ("digest", "value", "best_epoch", "epochs", "metrics"):
        assert resumed[key] == alone[key]
    assert len(second.of("blur-mirrored/0/2", "epoch")) == 2


def test_what_cannot_be_seen_is_said(peers: tuple[Peer, Peer]) -> None:
    end = train(peers[0], ordered("eager", "said"))
    assert any("the model runs eagerly" in note for note in end["facts"]["notes"])


def test_a_model_without_get_config_is_kept_as_weights_and_built_again(
    peers: tuple[Peer, Peer], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    end = train(peers[0], ordered("steppers", "kept"))
    key = end["model"]["key"]
    assert key.endswith(".weights.h5")
    assert any("Keras cannot serialise the model" in note for note in end["facts"]["notes"])
    model = tmp_path / "model.weights.h5"
    model.write_bytes((peers[0].artifacts / key).read_bytes())
    recipe = json.dumps({"params": {"kind": "steppers"}, "seed": 11, "batch_size": 14})
    words = ["--model", str(model), "--job", str(ZOO / "train.py"), "--recipe", recipe]
    capfd.readouterr()
    assert look.main(["evaluate", *words, "--data", "validation", "--arguments", '{"kind": "steppers"}']) == 0
    found = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert found["metrics"]["loss"] == pytest.approx(end["metrics"]["val_loss"], rel=1e-5)


def test_a_trainer_whose_job_switches_eager_execution_off_asks_to_be_replaced(
    peers: tuple[Peer, Peer],
) -> None:
    peer = peers[1]  # no trial follows here
    peer.send(**ordered("graphs", "worn"))
    assert "cannot be restored" in peer.wait(lambda event: event["ev"] == "worn")["why"]
