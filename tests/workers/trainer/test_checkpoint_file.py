"""The checkpoint's file, and the state of callbacks in it."""

from __future__ import annotations

import io
import json
import pickle
import random
import zipfile
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from kerasweep.jobs.errors import Damaged
from kerasweep.workers.trainer.state import checkpoint
from kerasweep.workers.trainer.state.checkpoint import (
    Checkpoint,
    build_optimizer,
    match_variables,
    take_variables,
)
from kerasweep.workers.trainer.state.digest import digest
from kerasweep.workers.trainer.state.state_reader import StateReader
from kerasweep.workers.trainer.state.state_writer import StateWriter

pytestmark = pytest.mark.tf

DTYPES = st.sampled_from(["float32", "float64", "float16", "int8", "int64", "uint16", "bool", "complex64"])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st_numpy.arrays(DTYPES, st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0)), max_size=4)
)
def test_arrays_come_back_bit_for_bit(arrays: list[Any]) -> None:
    back = Checkpoint.from_bytes(Checkpoint({"epoch": 3}, arrays).to_bytes())
    assert back.manifest["epoch"] == 3
    for one, other in zip(arrays, back.arrays, strict=True):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


@pytest.mark.parametrize("shape", [(), (3,), (2, 0)])
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_types_that_numpy_does_not_know_come_back(dtype: Any, shape: tuple[int, ...]) -> None:
    array = np.full(shape, 1.5, dtype)
    [back] = Checkpoint.from_bytes(Checkpoint({}, [array]).to_bytes()).arrays
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())


OF_NUMPY = [
    *("U3", ">U2", "S5", "M8[D]", "M8", ">M8[ns]", "m8[25s]", ">f4", ">i8", "g", "V3"),
    *(np.dtype("U0"), np.dtype("S0"), np.dtype("V0"), np.dtype([])),
    np.dtype([("a", int), ("name", "U3"), ("none", "U0")]),
    np.dtype([(("title", "a"), "i4", (2,)), ("within", [("x", "M8[s]"), ("y", ">i2", (2, 2))])]),
    np.dtype({"names": ["b", "a"], "formats": ["i4", "f8"], "offsets": [4, 0], "itemsize": 16}),
    np.dtype([("a", "i1"), ("b", "f8")], align=True),
    np.dtype((np.record, [("a", int)])),
    np.dtype([("a", ml_dtypes.bfloat16)]),
]


@pytest.mark.parametrize("shape", [(), (3,), (2, 0)])
@pytest.mark.parametrize("dtype", OF_NUMPY, ids=str)
def test_texts_dates_and_records_come_back(dtype: Any, shape: tuple[int, ...]) -> None:
    dtype = np.dtype(dtype)
    array = np.ndarray(shape, dtype, bytearray(3 * dtype.itemsize + 1))
    if dtype.kind == "U" and dtype.itemsize:
        array[...] = "ab"
    elif dtype.itemsize and array.size:
        array.reshape(-1).view(np.uint8)[:] = 65
    [back] = Checkpoint.from_bytes(Checkpoint({}, [array]).to_bytes()).arrays
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert (back.dtype.str, back.dtype.type, back.dtype.isalignedstruct) == (
        *(array.dtype.str, array.dtype.type, array.dtype.isalignedstruct),
    )
    assert back.dtype.fields == array.dtype.fields
    assert back.flags.writeable


def test_a_file_that_asks_for_an_array_of_objects_is_refused() -> None:
    fields = {"formats": [{"type": "|O"}], "names": ["a"], "offsets": [0], "titles": [None], "itemsize": 8}
    raw = np.full((1, 8), 65, np.uint8)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        told = {"format": checkpoint.FORMAT, "dtypes": [{**fields, "aligned": False, "record": False}]}
        file.writestr("manifest.json", json.dumps(told))
        with file.open("0.npy", "w") as member:
            np.lib.format.write_array(member, raw, allow_pickle=False)
    with pytest.raises(Damaged, match="array of objects"):
        Checkpoint.from_bytes(buffer.getvalue())


def _there_and_back(value: Any, present: Any = None) -> Any:
    writer = StateWriter()
    content = writer.value(value)
    back = Checkpoint.from_bytes(Checkpoint({"value": content}, writer.arrays).to_bytes())
    reader = StateReader(back.arrays)
    found = reader.value(back.manifest["value"], present)
    reader.apply()
    return found


@pytest.mark.parametrize(
    "value",
    [
        np.bytes_(b"ab\0"),
        np.datetime64("2020-01-01"),
        np.timedelta64(3, "h"),
        np.array([(1, 2.5)], [("a", int), ("b", float)])[0],
        np.array([(1, 2.5)], [("a", int), ("b", float)]).view(np.recarray)[0],
        np.longdouble(1) / 3,
        np.float16(0.1),
        list(np.array(["cat", "horse", "ox"])),
        np.array(["2020-01-01", "NaT"], "datetime64[D]"),
        np.array([(1, 2.5)], [("a", int), ("b", float)]).view(np.recarray),
        np.matrix([[1, 2]]),
        np.ma.array([1, 2, 3], mask=[0, 1, 0], fill_value=7),
        np.ma.array([1.5, 2]),
        np.array([["a", None], [(1, 2), {"b": 0.5}]], dtype=object),
        {np.str_("a"): np.bytes_(b"x")},
    ],
    ids=repr,
)
def test_a_value_of_numpy_keeps_its_type(value: Any) -> None:
    found = _there_and_back(value)
    assert type(found) is type(value)
    assert pickle.dumps(found) == pickle.dumps(value)


def test_a_text_of_numpy_keeps_its_type() -> None:
    found = _there_and_back(np.str_("abc\0"))
    assert type(found) is np.str_
    assert "".join(found) == "abc\0"


def test_an_array_of_objects_takes_the_place_of_the_one_that_is_there() -> None:
    found = _there_and_back(np.array(["after", None], dtype=object), np.array(["before", 1], dtype=object))
    assert found.tolist() == ["after", None]


@pytest.mark.parametrize("text", ["a line", ["one", "two"], [["x"], ["y"]]])
def test_texts_of_tensorflow_come_back(text: Any) -> None:
    found = _there_and_back(tf.constant(text))
    assert found.dtype == tf.string
    np.testing.assert_array_equal(found.numpy(), tf.constant(text).numpy())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_part_of_a_file_is_refused(data: st.DataObject) -> None:
    whole = Checkpoint({"epoch": 1}, [np.arange(7.0)]).to_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(Damaged):
        Checkpoint.from_bytes(whole[:cut])


def test_a_file_of_another_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as later:
        later.setattr(checkpoint, "FORMAT", 7)
        data = Checkpoint({}, []).to_bytes()
    with pytest.raises(Damaged, match="format must be 3, got 7"):
        Checkpoint.from_bytes(data)


class Holder(keras.callbacks.Callback):
    """Holds one of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = [None, True, 3, "text", b"\x00\xff"]
        self.floats = {"nan": float("nan"), "third": 1 / 3, "inf": float("-inf")}
        self.nested = {"a": [1, {"b": (2.5, np.float32(0.1))}], 7: {1, 2}}
        self.array = np.arange(6, dtype="int16").reshape(2, 3)
        self.kept = deque([1, 2], maxlen=2)
        self.counts = Counter("aab")
        self.ordered = OrderedDict(z=1, a=2)
        self.lists: Any = defaultdict(list, x=[1])
        self.generator = np.random.default_rng(1)
        self.old_generator = np.random.RandomState(1)
        self.random = random.Random(1)
        self.metric = keras.metrics.Mean()
        self.variable = keras.Variable(1.0)
        self.tensor = tf.constant([1.0, 2.0])
        self.inner = keras.callbacks.EarlyStopping(patience=2)
        self.skipped = lambda: None


def test_a_callback_comes_back_with_all_that_is_state() -> None:
    used = Holder()
    for _ in range(3):
        used.generator.normal(), used.old_generator.normal(), used.random.random()
    used.metric.update_state([1.0, 4.0])
    used.variable.assign(9.0)
    used.tensor = used.tensor + 1
    used.inner.wait, used.inner.best_weights = 5, [np.ones(3)]
    used.lists["y"].append(4)
    used.kept.append(3)
    used.floats["third"] /= 3
    writer = StateWriter()
    state = writer.attributes(used)
    fresh = Holder()
    same_variable, kept_function = fresh.variable, fresh.skipped
    manifest = Checkpoint({"state": state}, writer.arrays).to_bytes()
    back = Checkpoint.from_bytes(manifest)
    reader = StateReader(back.arrays)
    reader.attributes(fresh, back.manifest["state"])
    assert float(fresh.variable.value) == 1.0  # nothing is assigned before everything was read
    reader.apply()

    for name in ("plain", "nested", "counts", "ordered", "lists", "kept"):
        assert getattr(fresh, name) == getattr(used, name), name
        assert type(getattr(fresh, name)) is type(getattr(used, name)), name
    assert repr(fresh.floats) == repr(used.floats)
    assert fresh.kept.maxlen == 2
    assert fresh.lists["new"] == []
    np.testing.assert_array_equal(fresh.array, used.array)
    assert fresh.generator.normal() == used.generator.normal()
    assert fresh.old_generator.normal() == used.old_generator.normal()
    assert fresh.random.random() == used.random.random()
    assert float(fresh.metric.result()) == 2.5
    assert fresh.variable is same_variable
    assert float(fresh.variable.value) == 9.0
    np.testing.assert_array_equal(fresh.tensor, [2.0, 3.0])
    assert fresh.inner.wait == 5
    np.testing.assert_array_equal(fresh.inner.best_weights[0], np.ones(3))
    assert fresh.skipped is kept_function


class Late(keras.callbacks.Callback):
    """Gains attributes during the training, as many callbacks do."""

    def train(self) -> None:
        self.history = {"loss": [1.0]}
        self.metric = keras.metrics.Mean(name="kept")
        self.metric.update_state([1.0, 4.0])
        self.generator = np.random.default_rng(1)
        self.generator.normal()
        self.random = random.Random(1)
        self.seeds = keras.random.SeedGenerator(3)
        self.seeds.next()
        self.variable = keras.Variable(9.0)


def test_a_callback_that_gained_attributes_while_it_trained_comes_back() -> None:
    used, fresh = Late(), Late()
    used.train()
    writer = StateWriter()
    state = writer.attributes(used)
    back = Checkpoint.from_bytes(Checkpoint({"state": state}, writer.arrays).to_bytes())
    reader = StateReader(back.arrays)
    reader.attributes(fresh, back.manifest["state"])
    reader.apply()
    assert fresh.history == used.history
    assert float(fresh.metric.result()) == 2.5
    assert fresh.generator.normal() == used.generator.normal()
    assert fresh.random.random() == used.random.random()
    np.testing.assert_array_equal(fresh.seeds.state, used.seeds.state)
    assert float(fresh.variable.value) == 9.0


def small_model(units: int = 3, optimizer: str = "adam") -> Any:
    layers = [keras.Input((2,)), keras.layers.Dense(units), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(optimizer, "mse")
    build_optimizer(model)
    return model


def test_a_model_goes_on_with_the_seeds_of_its_dropout() -> None:
    model, other = small_model(), small_model()
    x, y = np.ones((8, 2)), np.ones((8, 1))
    model.fit(x, y, verbose=0)
    names, arrays = take_variables(model)
    for variable, value in match_variables(other, names, arrays):
        variable.assign(value)
    assert digest(other) == digest(model)
    for one in (model, other):
        one.fit(x, y, verbose=0)
    assert digest(other) == digest(model)


def test_the_digest_knows_no_history_of_its_process() -> None:
    keras.utils.set_random_seed(3)
    first = digest(small_model())
    keras.utils.set_random_seed(3)
    model = small_model()
    assert digest(model) == first
    model.layers[0].bias.assign([0.0, 0.0, 1e-30])
    assert digest(model) != first


def test_what_was_taken_is_a_copy() -> None:
    model = small_model()
    _, arrays = take_variables(model)
    before = [array.copy() for array in arrays]
    model.fit(np.ones((8, 2)), np.ones((8, 1)), verbose=0)
    for array, then in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, then)


@pytest.mark.parametrize(("units", "optimizer"), [(4, "adam"), (3, "sgd")])
def test_another_model_is_refused(units: int, optimizer: str) -> None:
    names, arrays = take_variables(small_model())
    with pytest.raises(Damaged, match="another model"):
        match_variables(small_model(units, optimizer), names, arrays)
