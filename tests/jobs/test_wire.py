"""Messages through Redis, and the handling of malformed ones."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.queue import hints as wire
from kerasweep.jobs.trial import TrialKey

HINT = wire.Hint(TrialKey("abcd1234", 7), 2, "digits", 1, {"units": 50, "training.epochs": 3, "act": "relu"})


def test_queues_differ_by_devices() -> None:
    assert [wire.train_queue(gpus) for gpus in (0, 1, 4)] == ["train.cpu", "train.1gpu", "train.4gpu"]


def test_a_new_sweep_id_is_valid() -> None:
    ids = {wire.new_sweep_id() for _ in range(100)}
    assert len(ids) == 100
    for sweep in ids:
        assert wire.read_hint(sweep, 0) == TrialKey(sweep, 0)


def test_a_hint_carries_the_trial_and_nothing_else() -> None:
    assert json.loads(json.dumps(HINT.body)) == {"sweep": "abcd1234", "trial": 7}
    assert wire.read_hint(**HINT.body) == HINT.key


def test_a_person_reads_sweep_trial_attempt_and_parameters() -> None:
    assert HINT.shown == "sweep=digits (abcd1234), trial=7, attempt=2, units=50, epochs=3, act='relu'"
    many = wire.Hint(HINT.key, 1, "digits", 0, {f"p{number}": "x" * 50 for number in range(100)})
    assert len(many.shown) <= 480


def test_the_trial_is_read_back_from_the_task_id() -> None:
    assert wire.trial_of_hint_id(wire.hint_id(HINT)) == HINT.key
    assert wire.hint_id(HINT) != wire.hint_id(HINT), "two hints of one attempt are two tasks"


@pytest.mark.parametrize(
    "task_id",
    [
        "",
        "a.b.c.d",
        "abcd1234.7",
        "abcd1234.²³.1.00000000",
        "../../x.1.1.00000000",
        "abcd1234.-1.1.00000000",
        "abcd1234.7.1.00000000.9",
        "7a0f9c3e-1111-2222-3333-444455556666",
    ],
)
def test_other_task_ids_give_no_trial(task_id: str) -> None:
    assert wire.trial_of_hint_id(task_id) is None


@pytest.mark.parametrize(
    "sweep",
    [
        "",
        "abc",
        "ABCD1234",
        "../../etc",
        "abcd/1234",
        "a" * 33,
        "abcd1234\n",
        None,
        1234,
        ["abcd1234"],
        b"abcd1234",
    ],
)
def test_invalid_sweep_ids_are_refused(sweep: object) -> None:
    with pytest.raises(InputError, match="a sweep id is 4 to 32 of a-z and 0-9") as told:
        wire.read_hint(sweep, 0)
    assert len(str(told.value)) < 200


@pytest.mark.parametrize("trial", [-1, 2**31, 1.0, "1", None, True, [], "x" * 10_000_000])
def test_invalid_trial_numbers_are_refused(trial: object) -> None:
    with pytest.raises(InputError, match="a trial is a number from 0") as told:
        wire.read_hint("abcd1234", trial)
    assert len(str(told.value)) < 200


@given(st.dictionaries(st.text(max_size=8), st.floats()))
def test_metrics_come_back_to_the_last_bit(metrics: dict[str, float]) -> None:
    text = json.dumps(wire.encode_metrics(metrics), allow_nan=False)
    back = wire.decode_metrics(json.loads(text))
    assert back.keys() == metrics.keys()
    for name, value in metrics.items():
        assert back[name] == value or (math.isnan(value) and math.isnan(back[name]))


def test_numpy_numbers_are_metrics() -> None:
    metrics = {"a": np.float32(0.5), "b": np.float64("nan"), "c": np.int64(3)}
    assert json.loads(json.dumps(wire.encode_metrics(metrics))) == {"a": 0.5, "b": "nan", "c": 3.0}  # type: ignore[arg-type]
