"""The Python client, as used in a notebook."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kerasweep import Client
from kerasweep.jobs.errors import Damaged, Halted, InputError, NoResult, NotFound
from kerasweep.jobs.trial import SweepState, TrialState


def test_client_is_lazy() -> None:
    program = (
        "import sys; from kerasweep import Client; Client(home='x');"
        "print(sorted({'sqlalchemy', 'celery', 'pandas', 'optuna', 'rich', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_package_has_nothing_else() -> None:
    import kerasweep.scheduler

    with pytest.raises(AttributeError, match="Klient"):
        _ = kerasweep.scheduler.Klient


def test_submit_from_a_dict(folder: Path, content: dict[str, Any]) -> None:
    client = Client()
    sweep = client.submit(content, job_folder=folder, name="from-a-dict")
    assert (sweep.name, sweep.state) == ("from-a-dict", SweepState.RUNNING)
    assert sweep.counts() == {TrialState.QUEUED: 8}
    assert client.sweep(sweep.id).id == sweep.id
    assert [one.id for one in client.sweeps()] == [sweep.id]


def test_submit_from_a_file_of_another_folder(folder: Path, tmp_path: Path) -> None:
    sweep = Client(home=str(tmp_path / "store")).submit(folder / "sweep.yaml")
    assert sweep.spec.job == "train.py"
    assert sweep.record.entry == "train.py"


def test_a_wrong_dict_is_refused(folder: Path, content: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="unknown key 'epochs'"):
        Client().submit(content | {"epochs": 3})
    assert Client().sweeps() == []


@pytest.fixture
def sweep(stage: Any) -> Any:
    """A sweep with two trials that count and one that failed."""
    made = stage.sweep()
    stage.complete(made, 0, [0.5, 0.4])
    stage.complete(made, 1, [0.5, 0.2, 0.3])
    stage.fail(made, 2)
    return Client().sweep("mlp")


def test_trials_are_a_data_frame(sweep: Any) -> None:
    frame = sweep.trials()
    assert frame.loc[1, "value"] == 0.2
    assert frame.loc[1, "params.training.early_stopping.patience"] == 5
    assert frame.loc[2, "failure.class"] == "diverged"
    assert frame["value"].idxmin() == 1
    assert list(sweep.trials([TrialState.FAILED]).index) == [2]


def test_epochs_are_a_data_frame(sweep: Any) -> None:
    assert list(sweep.epochs(1)["val_loss"]) == [0.5, 0.2, 0.3]
    assert sweep.epochs().loc[(0, 2), "val_loss"] == 0.4


def test_without_pandas_typed_trials_remain(sweep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r"pip install 'kerasweep\[pandas\]'"):
        sweep.trials()
    assert sweep.trial_list()[1].value == 0.2


def test_best_and_state(sweep: Any, stage: Any) -> None:
    assert sweep.best().trial == 1
    assert sweep.best(0).value == 0.4
    assert sweep.state is SweepState.RUNNING
    stage.end(sweep.id, SweepState.COMPLETED)
    assert sweep.state is SweepState.COMPLETED
    assert sweep.wait(timeout_s=0) is SweepState.COMPLETED


def test_best_of_a_maximised_metric(stage: Any) -> None:
    made = stage.sweep(metric={"name": "val_loss", "goal": "maximize"})
    stage.complete(made, 0, [0.5, 0.4])
    stage.complete(made, 1, [0.3, 0.2])
    assert Client().sweep("mlp").best().trial == 0


def test_no_best_yet(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)  # what would load it is refused before
    sweep = Client().sweep(stage.sweep())
    with pytest.raises(NoResult, match="has none yet"):
        sweep.best()
    with pytest.raises(NoResult, match="has none yet"):
        sweep.load_model()
    with pytest.raises(NoResult, match="trial 0 of sweep mlp has no model: it is queued"):
        sweep.load_model(trial=0)
    stage.end(sweep.id, SweepState.FAILED, "it broke")
    with pytest.raises(Halted, match="it broke"):
        sweep.best()


def test_fetch_and_damage(sweep: Any, stage: Any, tmp_path: Path) -> None:
    assert sweep.fetch(tmp_path / "w").read_bytes() == b"model of trial 1"
    [model] = stage.records.artifacts(sweep.id, 0, "model")[0]
    stage.artifacts.put(model.key, b"model of trial X")
    with pytest.raises(Damaged):
        sweep.fetch(tmp_path / "d", trial=0)


def test_steering(sweep: Any) -> None:
    assert "paused" in sweep.pause()
    assert sweep.record.state is SweepState.PAUSED
    sweep.resume()
    sweep.cancel(5)
    assert sweep.trial(5).state is TrialState.CANCELLED
    sweep.retry(5)
    assert sweep.trial(5).state is TrialState.QUEUED
    sweep.cancel()
    assert sweep.state is SweepState.CANCELLED


def test_points_are_added_as_a_dict_as_keywords_or_both(stage: Any) -> None:
    sweep = Client().sweep(stage.sweep(budget={"max_trials": 2}))
    more = {"training.early_stopping.patience": 5}
    assert sweep.add({"learning_rate": 0.1, "units": 100, **more}).endswith("is queued")
    assert sweep.add(more, learning_rate=0.1, units=50).endswith("is queued")
    assert sweep.trial_list()[-1].params["units"] == 50
    for point, values, said in (
        (None, {"units": 100}, "learning_rate"),
        ({"units": 100}, {"units": 50}, "'units' in the point and as a keyword"),
        (20, {}, "a point is a dict"),
    ):
        with pytest.raises(InputError, match=re.escape(said)):
            sweep.add(point, **values)
    with pytest.raises(InputError, match=r"^max_trials must be above"):
        sweep.extend(2)


def test_pausing_a_sweep_needs_no_redis(stage: Any) -> None:
    stage.sweep()
    client = Client(broker_url="redis://127.0.0.1:1/0", reach_s=0.5)
    assert "paused" in client.sweep("mlp").pause()


def test_a_client_may_be_closed_and_used_again(sweep: Any) -> None:
    with sweep.client as client:
        assert client.sweep("mlp").id == sweep.id
    assert client.sweep("mlp").id == sweep.id


def test_unknown_things(sweep: Any, folder: Path) -> None:
    with pytest.raises(NotFound):
        sweep.client.sweep("nope")
    with pytest.raises(NotFound):
        sweep.trial(99)
    with pytest.raises(NotFound, match="no store at"):
        Client(home=str(folder / "nowhere")).sweep("mlp")


def test_a_password_is_not_shown() -> None:
    assert repr(Client(store_url="postgresql://me:secret@host/db")) == "Client(postgresql://me:***@host/db)"


MODELS = """
import keras, sys
class Own(keras.layers.Dense):
    pass
for kind, path in zip([keras.layers.Dense, Own], sys.argv[1:]):
    keras.Sequential([keras.Input((2,)), kind(1)]).save(path)
"""
LOADS = """
import sys, keras
from kerasweep import Client, KerasweepError
for trial in (0, 1):
    try:
        print(Client(home=sys.argv[1]).sweep("mlp").load_model(trial).count_params(), "parameters")
    except KerasweepError as exc:
        print(str(exc).splitlines()[0])
"""


@pytest.mark.tf
def test_a_model_is_loaded_in_this_process(stage: Any, tmp_path: Path) -> None:
    """One of plain layers by itself, one of a class of the job's by the job's code, which is missing here."""
    from kerasweep.jobs.store.artifacts import ArtifactRef
    from kerasweep.jobs.store.models import Result

    made, paths = stage.sweep(), [tmp_path / "plain.keras", tmp_path / "own.keras"]
    subprocess.run([sys.executable, "-c", MODELS, *map(str, paths)], check=True, capture_output=True)
    for trial, path in enumerate(paths):
        sha256, size = stage.artifacts.put_file(f"m/{path.name}", path)
        key, _ = stage.claim(made, trial, [0.5])
        model = ArtifactRef("model", f"m/{path.name}", sha256, size, 1)
        stage.records.finish(key, Result(TrialState.COMPLETED, 0.5, 1, 1, {"val_loss": 0.5}, "d", model))
    done = subprocess.run(
        [sys.executable, "-c", LOADS, str(stage.home)], capture_output=True, text=True, check=True
    )
    plain, own = done.stdout.splitlines()
    assert plain == "3 parameters"
    assert "artifact bundles/0.zip must be in" in own
