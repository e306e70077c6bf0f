"""A trainer process under orders: its events, and how attempts end."""

from __future__ import annotations

import hashlib
import math
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kerasweep.workers.trainer.state.checkpoint import Checkpoint

pytestmark = pytest.mark.tf

JOB = """
import keras, numpy as np

def load_data(rows=40, classes=3, form="plain"):
    random = np.random.RandomState(0)
    x, y = random.rand(rows, 4), random.randint(0, classes, rows)
    if form == "list":
        return [x, y]
    if form == "uneven":
        return {"train": (x, y[:-1])}
    if form == "unknown":
        return {"train": (x, y), "val": (x, y)}
    if form == "alone":
        return {"train": (x, y)}
    return {"train": (x, y), "validation": (x, y)}

def build_model(learning_rate=0.1, form="good"):
    print("building", form)
    if form == "raises":
        raise ValueError("no such layer\\nsecond line")
    if form == "exits":
        raise SystemExit(3)
    if form == "memory":
        np.zeros(1 << 50)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    if form == "none":
        return None
    if form != "uncompiled":
        optimizer = keras.optimizers.SGD(learning_rate)
        if form == "scheduled":
            optimizer = keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 10))
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model

def callbacks(own=""):
    if own == "wrong":
        return ["EarlyStopping"]
    if own == "slow":
        return [Slow()]
    if own == "reports":
        return [Reports()]
    return []

class Reports(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        logs |= {"peculiar": float(epoch), "val_price_loss": float(epoch)}

class Slow(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        import time
        time.sleep(0.2)
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, peer_type: Any, order: Any) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("attempts")
    (folder / "job").mkdir()
    (folder / "job" / "train.py").write_text(JOB)
    peer = peer_type(folder, "--logical-cpus", "2")
    yield Bench(peer, order, folder)
    peer.close()


class Bench:
    """One trainer, and orders to it."""

    def __init__(self, peer: Any, order: Any, folder: Path) -> None:
        self.peer, self.folder = peer, folder
        self._order = order
        self._trials = 0

    def send(self, job: str = "job", **changes: Any) -> str:
        self._trials += 1
        run = f"s1/{self._trials}/1"
        self.peer.send(**self._order(self.folder / job, run, **changes))
        return run

    def train(self, job: str = "job", **changes: Any) -> dict[str, Any]:
        end: dict[str, Any] = self.peer.end(self.send(job, **changes))
        return end


def test_sends_events_in_order_and_a_model_that_is_what_its_digest_says(bench: Bench) -> None:
    run = bench.send(params={"learning_rate": 0.2})
    end = bench.peer.end(run)
    kinds = [event["ev"] for event in bench.peer.seen if event.get("run") == run]
    assert [kind for kind in kinds if kind not in ("step", "log")] == [
        "engine",
        "phase",
        "phase",
        "epoch",
        "epoch",
        "epoch",
        "done",
    ]
    assert [event["epoch"] for event in bench.peer.of(run, "epoch")] == [1, 2, 3]
    assert end["epochs"] == 3
    assert not end["stopped_early"]
    best = bench.peer.of(run, "epoch")[end["best_epoch"] - 1]["metrics"]
    assert end["metrics"] == best
    assert (
        end["value"] == best["val_loss"] == min(e["metrics"]["val_loss"] for e in bench.peer.of(run, "epoch"))
    )
    [model] = end["artifacts"]
    data = (bench.peer.artifacts / model["key"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == model["sha256"]
    assert end["versions"].keys() == {"python", "kerasweep", "keras", "tensorflow", "numpy"}
    assert end["rss_bytes"] > 1 << 20


def test_prints_go_to_the_log_of_their_own_run(bench: Bench) -> None:
    run = bench.send()
    bench.peer.end(run)
    assert "building good" in "\n".join(event["text"] for event in bench.peer.of(run, "log"))


@pytest.mark.parametrize("engine", ["fit", "pack"])
@pytest.mark.parametrize(
    ("changes", "cls", "words"),
    [
        ({"params": {"form": "raises"}}, "user", ["ValueError: no such layer second line (train.py:20)"]),
        ({"params": {"form": "exits"}}, "user", ["SystemExit", "train.py:22"]),
        ({"params": {"form": "memory"}}, "memory", ["out of memory"]),
        ({"params": {"form": "none"}}, "user", ["build_model must return", "NoneType"]),
        ({"params": {"form": "uncompiled"}}, "user", ["model.compile"]),
        ({"params": {"own": "wrong"}}, "user", ["callbacks must return", "got a str"]),
        (
            {"params": {"learning_rate": 1e38}},
            "diverged",
            ["loss must stay finite", "got inf in epoch 1", "lower learning rate"],
        ),
        ({"spec": {"metric": {"name": "val_acuracy", "goal": "maximize"}}}, "user", ["'val_accuracy'"]),
        ({"training": {"batch_size": 41}}, "user", ["batch_size", "got 41 for 40 rows", "40 or less"]),
        ({"training": {"steps_per_epoch": 9}}, "user", ["steps_per_epoch", "got 9 for 3"]),
        (
            {"params": {"form": "scheduled"}, "training": {"learning_rate_schedule": "cosine"}},
            "user",
            ["learning_rate_schedule", "CosineDecay"],
        ),
        (
            {"training": {"early_stopping": {"monitor": "val_los", "patience": 1}}},
            "user",
            ["early_stopping", "'val_los'", "did you mean 'val_loss'"],
        ),
        (
            {
                "params": {"own": "reports"},
                "training": {"reduce_on_plateau": {"monitor": "peculiar", "patience": 1}},
            },
            "user",
            ["training.reduce_on_plateau.mode must be min or max", "got auto for 'peculiar'", "`mode: min`"],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_failures_say_rule_value_and_remedy(
    bench: Bench, engine: str, changes: dict[str, Any], cls: str, words: list[str]
) -> None:
    end = bench.train(engine=engine, **changes)
    assert end["ev"] == "failed"
    assert (end["class"], len(end["message"].splitlines())) == (cls, 1)
    for word in words:
        assert word in end["message"]


@pytest.mark.parametrize(
    ("monitor", "stops"), [("val_price_loss", True), ("peculiar", False)], ids=["a loss", "the goal's metric"]
)
def test_early_stopping_knows_the_direction_of_losses_and_of_the_goal(
    bench: Bench, monitor: str, stops: bool
) -> None:
    """Keras knows neither: an output's loss, here increasing, nor what a callback reports."""
    end = bench.train(
        params={"own": "reports"},
        spec={"metric": {"name": "peculiar", "goal": "maximize"}},
        training={"early_stopping": {"monitor": monitor, "patience": 1}},
    )
    assert (end["ev"], end.get("stopped_early")) == ("done", stops)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("list", ["load_data must return a dict", "got a list"]),
        ("uneven", ["equally many rows", "[39, 40]"]),
        ("unknown", ["got 'val'"]),
        ("alone", ["return 'validation' from load_data"]),
    ],
)
def test_invalid_data_is_refused(bench: Bench, form: str, words: list[str]) -> None:
    (bench.folder / form).mkdir()
    (bench.folder / form / "train.py").write_text(JOB.replace('form="plain"', f'form="{form}"'))
    end = bench.train(form, params={})
    assert end["class"] == "user"
    for word in words:
        assert word in end["message"]


def test_metrics_of_a_diverged_epoch_are_kept(bench: Bench) -> None:
    run = bench.send(params={"learning_rate": 1e38})
    assert bench.peer.end(run)["class"] == "diverged"
    assert bench.peer.of(run, "epoch")[0]["metrics"]["loss"] == math.inf


def test_the_traceback_begins_in_the_job(bench: Bench) -> None:
    lines = bench.train(params={"form": "raises"})["traceback"].splitlines()
    assert lines[0].startswith("Traceback")
    assert str(bench.folder / "job" / "train.py") in lines[1]


def test_a_cancelled_run_ends_within_its_epoch(bench: Bench) -> None:
    run = bench.send(params={"own": "slow"}, training={"batch_size": 1, "epochs": 50})
    bench.peer.wait(lambda event: event.get("run") == run and event["ev"] == "step")
    bench.peer.send(op="stop", run=run, why="cancel")
    end = bench.peer.end(run)
    assert (end["ev"], end["why"], end["artifact"]) == ("released", "cancel", None)
    assert not bench.peer.of(run, "epoch")


def test_a_preempted_run_in_a_long_epoch_goes_back_to_its_beginning(bench: Bench) -> None:
    run = bench.send(params={"own": "slow"}, training={"batch_size": 1, "epochs": 50})  # an epoch of 8 s
    bench.peer.wait(lambda event: event.get("run") == run and event["ev"] == "epoch")
    bench.peer.send(op="stop", run=run, why="preempt")
    end = bench.peer.end(run)
    assert (end["ev"], end["why"], end["artifact"]["epoch"]) == ("released", "preempt", 1)
    assert len(bench.peer.of(run, "epoch")) == 1


def test_a_run_that_waits_for_another_can_be_stopped(bench: Bench) -> None:
    first = bench.send(params={"own": "slow"}, training={"batch_size": 1, "epochs": 50})
    bench.peer.wait(lambda event: event.get("run") == first and event["ev"] == "step")
    second = bench.send()
    bench.peer.wait(lambda event: event.get("run") == second and event["ev"] == "engine")
    bench.peer.send(op="stop", run=second, why="pause")
    assert bench.peer.end(second)["ev"] == "released"
    bench.peer.send(op="stop", run=first, why="stale")
    assert bench.peer.end(first)["ev"] == "released"


def test_a_trial_that_the_scheduler_stops_keeps_its_result(bench: Bench) -> None:
    run = bench.send(training={"epochs": 100_000})
    bench.peer.wait(lambda event: event.get("run") == run and event["ev"] == "epoch")
    bench.peer.send(op="stop", run=run, why="stop")
    end = bench.peer.end(run)
    assert end["ev"] == "done"
    assert end["stopped_early"]
    assert end["epochs"] == len(bench.peer.of(run, "epoch")) < 100_000


@pytest.mark.parametrize("goal", ["minimize", "maximize"])
def test_a_model_that_would_not_be_kept_is_not_written(bench: Bench, goal: str) -> None:
    metric = {"metric": {"name": "val_loss", "goal": goal}}
    value = bench.peer.end(bench.send(spec=metric))["value"]
    worse, better = (value + 1.0, value - 1.0) if goal == "maximize" else (value - 1.0, value + 1.0)
    for bar, kept in ((None, 1), (better, 1), (value, 1), (worse, 0)):
        run = bench.send(spec=metric, bar=bar)
        end = bench.peer.end(run)
        told = "\n".join(event["text"] for event in bench.peer.of(run, "log"))
        assert len(end["artifacts"]) == kept, bar
        assert ("not kept" in told) is (kept == 0)
        assert math.isfinite(end["value"])


def test_checkpoints_are_written_as_often_as_asked(bench: Bench) -> None:
    run = bench.send(training={"epochs": 4}, spec={"checkpoints": {"every_s": 0, "keep_top": 1}})
    bench.peer.end(run)
    written = [event["artifact"] for event in bench.peer.of(run, "checkpoint")]
    assert [ref["epoch"] for ref in written] == [1, 2, 3]  # the last epoch is the result's
    for ref in written:
        data = (bench.peer.artifacts / ref["key"]).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (ref["sha256"], ref["bytes"])


@pytest.mark.parametrize("damage", ["bit", "cut", "gone", "other trial", "other callbacks", "none left"])
def test_a_damaged_checkpoint_is_told_and_the_one_before_it_used(bench: Bench, damage: str) -> None:
    changes = {"training": {"epochs": 4}, "spec": {"checkpoints": {"every_s": 0, "keep_top": 1}}}
    run = bench.send(**changes)
    whole = bench.peer.end(run)
    refs = [event["artifact"] for event in bench.peer.of(run, "checkpoint")][::-1]
    path = bench.peer.artifacts / refs[0]["key"]
    data = path.read_bytes()
    if damage == "bit":
        path.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    elif damage == "cut":
        path.write_bytes(data[:-50])
    elif damage == "gone":
        path.unlink()
    elif damage == "other callbacks":
        for ref in refs:
            ref["sha256"] = _with_other_callbacks(bench.peer.artifacts / ref["key"])
    elif damage == "none left":
        for ref in refs:
            (bench.peer.artifacts / ref["key"]).write_bytes(b"")
    trial = 99 if damage == "other trial" else int(run.split("/")[1])
    again = f"s1/{trial}/2"
    message = bench._order(bench.folder / "job", again, resume=refs[0], resume_older=refs[1:], **changes)
    bench.peer.send(**message)
    end = bench.peer.end(again)
    told = "\n".join(event["text"] for event in bench.peer.of(again, "log"))
    assert "checkpoint of epoch 3 refused" in told
    assert end["digest"] == whole["digest"]
    first = bench.peer.of(again, "epoch")[0]["epoch"]
    if damage in ("none left", "other trial", "other callbacks"):
        assert "starts again from epoch 1" in told
        assert first == 1
    else:
        assert first == 3


def _with_other_callbacks(path: Path) -> str:
    """Give a checkpoint a callback state that does not match; return its digest."""
    whole = Checkpoint.from_bytes(path.read_bytes())
    state = [{**callback, "state": {"kept": {"mystery": 1}}} for callback in whole.manifest["callbacks"]]
    data = Checkpoint({**whole.manifest, "callbacks": state}, whole.arrays).to_bytes()
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def test_two_replicas_want_a_batch_that_divides_and_devices_enough(bench: Bench) -> None:
    end = bench.train(training={"batch_size": 15}, spec={"resources": {"gpus": 2}})
    assert "must divide by the 2 replicas" in end["message"]
    assert "set it to 14" in end["message"]
    end = bench.train(spec={"resources": {"gpus": 3}})
    assert "got 3 of 2" in end["message"]


def test_two_replicas_follow_a_declared_schedule_and_its_reductions(bench: Bench) -> None:
    swept = {
        "batch_size": 8,
        "learning_rate_schedule": {"step_decay": {"every": 1, "factor": 0.5}},
        "reduce_on_plateau": {"monitor": "loss", "patience": 1, "min_delta": 1e9, "factor": 0.1},
    }
    end = bench.train(training=swept, spec={"resources": {"gpus": 2}})
    assert end["ev"] == "done", end


def test_two_replicas_never_see_an_empty_share(bench: Bench) -> None:
    """The data leaves a remainder of one row in training and in validation."""
    (bench.folder / "odd").mkdir()
    (bench.folder / "odd" / "train.py").write_text(
        JOB.replace("rows=40", "rows=41").replace(
            "keras.layers.Dense", "keras.layers.BatchNormalization(), keras.layers.Dense"
        )
    )
    end = bench.train("odd", training={"batch_size": 8}, spec={"resources": {"gpus": 2}})
    assert end["ev"] == "done", end
    assert all(isinstance(value, float) for value in end["metrics"].values())


def test_sweeps_with_files_and_classes_of_the_same_names_keep_apart(bench: Bench) -> None:
    for number in (1, 2):
        folder = bench.folder / f"same{number}"
        folder.mkdir()
        (folder / "parts.py").write_text(
            "import keras\n"
            "@keras.saving.register_keras_serializable('own')\n"
            "class Scale(keras.layers.Layer):\n"
            f"    def call(self, x):\n        return x * {number}.0\n"
        )
        (folder / "train.py").write_text(
            "import atexit, keras, numpy as np\nfrom parts import Scale\n"
            f"atexit.register(print, 'left, number', {number})\n"
            "def load_data():\n    x = np.ones((16, 1)); return {'train': (x, x), 'validation': (x, x)}\n"
            "def build_model():\n"
            "    import parts\n"  # a late import
            "    assert parts.Scale is Scale\n"
            "    model = keras.Sequential([keras.Input((1,)), Scale(), keras.layers.Dense(1)])\n"
            "    model = keras.models.clone_model(model)\n"
            "    model.compile('sgd', 'mse')\n"
            f"    print('answer', float(model.layers[0](np.ones((1, 1)))[0, 0]), 'of {number}')\n"
            "    return model\n"
        )
    runs = [bench.send(f"same{number}") for number in (1, 2, 1, 2)]
    for run, number in zip(runs, (1, 2, 1, 2), strict=True):
        assert bench.peer.end(run)["ev"] == "done", bench.peer.end(run)
        told = "\n".join(event["text"] for event in bench.peer.of(run, "log"))
        assert f"answer {number}.0 of {number}" in told
        assert told.endswith(f"left, number {number}")


def test_xla_that_cannot_be_deterministic_says_so(bench: Bench) -> None:
    (bench.folder / "pooling").mkdir()
    pool = "keras.layers.Reshape((4, 1)), keras.layers.MaxPooling1D(), keras.layers.Flatten()"
    job = JOB.replace("keras.layers.Dense", f"keras.layers.Dense(4), {pool}, keras.layers.Dense")
    (bench.folder / "pooling" / "train.py").write_text(job)
    end = bench.train("pooling", training={"xla": True})
    assert end["class"] == "user"
    assert "set training.xla to auto or false" in end["message"]


def test_curves_for_tensorboard_are_written_when_asked(bench: Bench) -> None:
    run = bench.send(training={"tensorboard": {"histograms": True}}, params={"learning_rate": 0.2})
    end = bench.peer.end(run)
    assert end["ev"] == "done", end
    folder = bench.peer.artifacts / "tensorboard" / "s1" / run.split("/")[1]
    assert list((folder / "train").glob("events*"))
    assert list((folder / "validation").glob("events*"))


def test_it_outlives_sigterm_and_ends_when_told(
    start_peer: Callable[..., Any], write_job: Any, order: Any
) -> None:
    peer = start_peer()
    peer.send(**order(write_job(JOB), params={"own": "slow"}, training={"batch_size": 1, "epochs": 50}))
    peer.wait(lambda event: event["ev"] == "step")
    os.kill(peer.process.pid, signal.SIGTERM)
    peer.wait(lambda event: event["ev"] == "step")
    peer.send(op="exit")
    assert peer.process.wait(20) == 0


def test_it_ends_with_its_pipe(bench: Bench) -> None:
    """The last test: no other one can use this trainer."""
    bench.peer.close_orders()
    assert bench.peer.process.wait(20) == 0
