"""Which trials are packed, the reasons for the others, and decisions in the sweep's records."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.tf, pytest.mark.timeout(300)]

JOB = """
    import gc
    import keras, numpy as np, tensorflow as tf

    def load_data(stream=False, rows=64):
        x, y = np.random.default_rng(0).random((rows, 8), np.float32), np.arange(rows) % 2
        train = tf.data.Dataset.from_tensor_slices((x, y)).batch(8) if stream else (x, y)
        return {"train": train, "validation": (x, y)}

    class Noisy(keras.Sequential):
        def train_step(self, data):
            x, y = data
            return super().train_step((x + tf.random.normal(tf.shape(x)), y))

    class Divided(keras.layers.Layer):
        def __init__(self, by):
            super().__init__()
            self.by = by

        def call(self, inputs):
            return inputs / self.by

    class Guided(keras.Sequential):
        def train_step(self, data):
            super().train_step(data)
            return {metric.name: metric.result() for metric in self.metrics}

    class OwnFit(keras.Sequential):
        def fit(self, *args, **kwargs):
            return super().fit(*args, **kwargs)

    def build_model(rate=0.1, kind="plain", eager=False, collect=False, penalty=0.0, divisor=0.0):
        if collect:
            gc.collect()
        penalty = keras.regularizers.L2(penalty)
        layers = [keras.Input((8,)), keras.layers.Dense(2, activation="softmax", kernel_regularizer=penalty)]
        layers[1:1] = [Divided(divisor)] if divisor else []
        model = {"plain": keras.Sequential, "noisy": Noisy, "guided": Guided, "fit": OwnFit}[kind](layers)
        loss, optimizer = "sparse_categorical_crossentropy", keras.optimizers.SGD(rate)
        model.compile(optimizer, loss, metrics=["accuracy"], run_eagerly=eager)
        return model

    class Batches(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            pass

    def callbacks(batches=False, raising=False):
        found = [Batches()] if batches else []
        if raising:
            found.append(keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: 1 / 0))
        return found
"""


class Trainer:
    """A trainer and a job for it."""

    def __init__(self, peer: Any, job: Path, order: Callable[..., dict[str, Any]]) -> None:
        self.peer, self._job, self._order = peer, job, order
        self.count = 0

    def order(self, run: str, **changes: Any) -> dict[str, Any]:
        return self._order(self._job, run, **{"engine": "auto", **changes})

    def begin(self, params: dict[str, Any], **changes: Any) -> str:
        self.count += 1
        run = f"s{self.count}/0/1"
        self.peer.send(**self.order(run, params=params, **changes))
        return run

    def engine_of(self, params: dict[str, Any], **changes: Any) -> tuple[str, str]:
        """Return the engine of a trial, and the reason."""
        run = self.begin(params, **changes)
        end = self.peer.end(run)
        assert end["ev"] == "done", end
        [event] = self.peer.of(run, "engine")
        return event["engine"], event["reason"]


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory, peer_type: Any, order: Any) -> Iterator[Trainer]:
    """One trainer for all tests; each of its trials belongs to another sweep."""
    folder, job = tmp_path_factory.mktemp("trainer"), tmp_path_factory.mktemp("job")
    (job / "train.py").write_text(textwrap.dedent(JOB))
    peer = peer_type(folder)
    yield Trainer(peer, job, order)
    peer.close()


def test_auto_packs_what_it_can_and_says_why_not(trainer: Trainer) -> None:
    assert trainer.engine_of({}) == ("pack", "")
    assert trainer.engine_of({}, engine="fit")[0] == "fit"
    engine, reason = trainer.engine_of({"stream": True})
    assert (engine, "dataset" in reason) == ("fit", True)
    engine, reason = trainer.engine_of({"batches": True})
    assert (engine, "Batches" in reason) == ("fit", True)
    engine, reason = trainer.engine_of({"eager": True})
    assert (engine, "eagerly" in reason) == ("fit", True)
    engine, reason = trainer.engine_of({"kind": "fit"})
    assert (engine, "custom fit" in reason) == ("fit", True)


@pytest.mark.parametrize("engine", ["fit", "pack"])
def test_a_step_may_report_each_of_the_models_metrics(trainer: Trainer, engine: str) -> None:
    run = trainer.begin({"kind": "guided"}, engine=engine)
    end = trainer.peer.end(run)
    assert end["ev"] == "done", end
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= end["metrics"].keys()


def test_asking_for_a_pack_that_cannot_be_fails_with_the_reason(trainer: Trainer) -> None:
    end = trainer.peer.end(trainer.begin({"stream": True}, engine="pack"))
    assert (end["ev"], end["class"]) == ("failed", "user")
    assert "its training data are a dataset" in end["message"]


def test_operations_that_no_checkpoint_holds_are_told(trainer: Trainer) -> None:
    run = trainer.begin({"kind": "noisy"}, engine="pack")
    assert trainer.peer.end(run)["ev"] == "done"
    assert any("RandomStandardNormal" in event["text"] for event in trainer.peer.of(run, "note"))


def test_batches_larger_than_the_data_are_refused_by_both(trainer: Trainer) -> None:
    messages = set()
    for engine in ("fit", "pack"):
        end = trainer.peer.end(trainer.begin({}, engine=engine, training={"batch_size": 65}))
        assert (end["ev"], end["class"]) == ("failed", "user")
        messages.add(end["message"])
    assert len(messages) == 1


def test_a_batch_size_swept_over_a_dataset_is_refused(trainer: Trainer) -> None:
    params = {"stream": True, "training.batch_size": 4}
    end = trainer.peer.end(trainer.begin(params, training={"batch_size": {"values": [4, 8]}}))
    assert (end["ev"], end["class"]) == ("failed", "user")
    assert "training.batch_size" in end["message"]
    assert "sweep a parameter of load_data" in end["message"]


def test_a_failing_member_touches_no_other(trainer: Trainer) -> None:
    runs = [trainer.begin({"rate": 0.1 + number}, training={"epochs": 20}) for number in range(3)]
    failing = trainer.begin({"raising": True}, training={"epochs": 20})
    diverging = trainer.begin({"rate": 1e38}, training={"epochs": 20})
    assert trainer.peer.end(failing)["class"] == "user"
    assert trainer.peer.end(diverging)["class"] == "diverged"
    assert [trainer.peer.end(run)["ev"] for run in runs] == ["done"] * 3


LONG = {"epochs": 400, "batch_size": 4}
ROWS = {"rows": 4096}


def test_small_sweeps_are_not_compiled(trainer: Trainer) -> None:
    run = trainer.begin({})
    assert trainer.peer.end(run)["ev"] == "done"
    [decision] = trainer.peer.of(run, "decision")
    assert decision["value"] is False
    assert "not worth compiling" in decision["reason"]


def test_trials_with_graphs_of_their_own_are_measured_once_and_compiled_where_each_is_worth_it(
    trainer: Trainer,
) -> None:
    """TensorFlow rewrites a division by a constant, which is not lifted: each trial compiles a graph."""
    trials = range(1, 5)
    # Of 256 steps each: all of them take seconds, and each a hundredth of the second that compiling takes.
    spec = {
        "method": {"name": "random"},
        "parameters": {"rows": 1024, "divisor": {"distribution": "uniform", "min": 1.1, "max": 2.1}},
        "budget": {"max_trials": 2000},
    }
    sizes = {"training": {"epochs": 1, "batch_size": 4}, "spec": spec}
    for trial in trials:
        params = {"rows": 1024, "divisor": 1.0 + 0.1 * trial}
        trainer.peer.send(**trainer.order(f"own/{trial}/1", params=params, seed=trial, **sizes))
    runs = [f"own/{trial}/1" for trial in trials]
    assert [trainer.peer.end(run)["ev"] for run in runs] == ["done"] * len(runs)
    [decision] = [event for run in runs for event in trainer.peer.of(run, "decision")]
    assert decision["value"] is False
    assert "the trials of one graph take about" in decision["reason"]


def test_trials_that_differ_in_a_penalty_share_what_was_compiled(trainer: Trainer) -> None:
    spec = {"parameters": {"penalty": {"values": [0.001, 0.002, 0.003, 0.004]}}}
    ends = {}
    for engine in ("pack", "fit"):
        runs = [f"{engine}{number}/{number}/1" for number in range(1, 5)]
        for number, run in enumerate(runs, start=1):
            params = {"penalty": 0.001 * number}
            training = {"epochs": 2, "batch_size": 8, "xla": False}
            order = trainer.order(
                run, params=params, seed=number, engine=engine, training=training, spec=spec
            )
            trainer.peer.send(**order)
        ends[engine] = [trainer.peer.end(run)["digest"] for run in runs]
    assert ends["pack"] == ends["fit"]
    assert len(set(ends["pack"])) == 4


def test_a_graph_may_be_compiled_after_the_trial_that_was_traced_is_gone(trainer: Trainer) -> None:
    """A short sweep is not compiled, and a long one of the same graph comes when its models are gone."""
    for xla in (False, True):
        run = trainer.begin({"collect": xla}, engine="pack", training={"xla": xla})
        assert trainer.peer.end(run)["ev"] == "done", trainer.peer.end(run)


def test_long_epochs_of_fit_have_the_bits_of_a_pack(trainer: Trainer) -> None:
    """After its first epoch `fit` makes many steps in a call here; the schedule shows where epochs end."""
    training = {"epochs": 3, "batch_size": 4, "xla": False, "learning_rate_schedule": "cosine"}
    runs = [trainer.begin({"rows": 3200}, training=training, engine=engine) for engine in ("fit", "pack")]
    by_fit, by_pack = (trainer.peer.end(run) for run in runs)
    assert by_fit["digest"] == by_pack["digest"]


def test_the_choice_of_xla_is_asked_of_the_records_and_obeyed(trainer: Trainer) -> None:
    """A sweep long enough to be worth measuring: whatever was measured, the records' answer binds.

    The last test, since where XLA does not pay this trainer does not try it again.
    """
    peer = trainer.peer
    measuring = trainer.begin(ROWS, training=LONG)
    decision = peer.wait(
        lambda event: event.get("run") == measuring and event.get("key", "").startswith("xla:")
    )
    assert "µs per step with XLA" in decision["reason"]
    assert peer.stop_after(measuring, 1, "stop")["ev"] == "done"

    digests = {}
    for value in (True, False):
        peer.decided[f"s{trainer.count + 1}", decision["key"]] = value
        told = peer.end(trainer.begin(ROWS, training={**LONG, "epochs": 2}))
        forced = peer.end(trainer.begin(ROWS, training={**LONG, "epochs": 2, "xla": value}))
        known = {decision["key"]: value}
        obeyed = trainer.begin(ROWS, training={**LONG, "epochs": 2}, decisions=known)
        digests[value] = {told["digest"], forced["digest"], peer.end(obeyed)["digest"]}
        assert not peer.of(obeyed, "decision")
    assert [len(found) for found in digests.values()] == [1, 1]
