"""Jobs' files, loaded side by side, and the seeds that they see."""

from __future__ import annotations

import ast
import random
import sys
from collections import namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasweep.jobs.code.program import check_taken
from kerasweep.jobs.errors import JobError
from kerasweep.jobs.sweepfile.rules import RuleError
from kerasweep.workers.trainer.blame import translate
from kerasweep.workers.trainer.job.data import Arrays, Stream, read_data, weighted
from kerasweep.workers.trainer.job.given import opened
from kerasweep.workers.trainer.job.loading import parse_one_at_a_time
from kerasweep.workers.trainer.job.seeding import draws_from_tensorflow, seed_everything
from kerasweep.workers.trainer.job.source import JobSource

pytestmark = pytest.mark.tf

Write = Callable[..., Path]


@pytest.fixture
def load(write_job: Write) -> Any:
    """Loads jobs, and removes them from the process again."""
    loaded: list[JobSource] = []

    def load_job(text: str, name: str = "job", **files: str) -> JobSource:
        loaded.append(JobSource(write_job(text, name, **files), "train.py"))
        return loaded[-1]

    yield load_job
    for source in loaded:
        source.forget()


def test_files_of_the_same_name_are_each_sweep_s_own(load: Any) -> None:
    text = """
        import parts, json
        def build_model():
            import parts as late
            return parts.NAME, late is parts, json.dumps([1])
    """
    one = load(text, "one", parts="NAME = 1")
    two = load(text, "two", parts="NAME = 2")
    assert one.call("build_model", {}) == (1, True, "[1]")
    assert two.call("build_model", {}) == (2, True, "[1]")


def test_functions_that_only_python_can_read_get_the_arguments_that_they_take(load: Any) -> None:
    source = load("""
        import functools

        class Builder:
            def __call__(self, units, data=None):
                return units, data

        def made(**values):
            return values

        load_data = functools.partial(lambda size, scale: (size, scale), scale=2)
        build_model = Builder()
        callbacks = functools.partial(made, patience=3)
    """)
    values = {"size": 1, "units": 5}
    assert source.call("load_data", values) == (1, 2)
    assert source.call("build_model", values) == (5, None)
    assert source.call("callbacks", values) == {"size": 1, "units": 5, "patience": 3}
    assert source.program.wanted("build_model") == ("data",)
    without = replace(source.program, functions=dict(list(source.program.functions.items())[:2]))
    with pytest.raises(RuleError) as refused:
        check_taken("unit", without)
    assert refused.value.remedy == "did you mean 'units'?"


def test_packages_and_relative_imports(load: Any, tmp_path: Path) -> None:
    package = tmp_path / "job" / "net" / "deep"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("from .blocks import block\nfrom . import deep\n")
    (package.parent / "blocks.py").write_text("from net.deep.core import CORE\ndef block(): return CORE\n")
    (package / "__init__.py").write_text("")
    (package / "core.py").write_text("from .. import sizes\nCORE = sizes.SIZE\n")
    (package.parent / "sizes.py").write_text("SIZE = 5\n")
    source = load("""
        import net.deep.core as core
        from net import block, sizes
        def build_model():
            return block(), core.CORE, sizes.SIZE
    """)
    assert source.call("build_model", {}) == (5, 5, 5)


def test_a_job_may_hold_dataclasses_with_late_annotations(load: Any) -> None:
    source = load("""
        from __future__ import annotations
        from dataclasses import dataclass, asdict
        @dataclass
        class Config:
            units: int = 3
        def build_model():
            return asdict(Config())
    """)
    assert source.call("build_model", {}) == {"units": 3}


def test_a_file_that_shadows_a_library_shadows_it_for_the_job_alone(load: Any) -> None:
    source = load("import statistics\ndef build_model():\n    return statistics.OWN", statistics="OWN = 1")
    assert source.call("build_model", {}) == 1
    import statistics

    assert statistics.mean([1, 3]) == 2


def test_forgotten_jobs_leave_nothing_behind(load: Any) -> None:
    source = load("import helper_of_job\ndef build_model(): pass", helper_of_job="X = 1")
    assert "helper_of_job" in sys.modules
    source.forget()
    assert "helper_of_job" not in sys.modules


def test_registered_classes_are_found_in_their_own_sweep(load: Any) -> None:
    text = """
        import keras
        @keras.saving.register_keras_serializable("p")
        class Same(keras.layers.Layer):
            ID = {id}
        def build_model():
            model = keras.Sequential([keras.Input((1,)), Same()])
            return keras.Sequential.from_config(model.get_config()).layers[0].ID
    """
    one, two = load(text.replace("{id}", "1"), "one"), load(text.replace("{id}", "2"), "two")
    assert (one.call("build_model", {}), two.call("build_model", {})) == (1, 2)
    assert "p>Same" not in keras.saving.get_custom_objects()


def test_failures_name_the_line_of_the_job(load: Any, tmp_path: Path) -> None:
    source = load("""
        import keras
        def build_model():
            return keras.Sequential([keras.Input((2,)), keras.layers.Reshape((5,))])
    """)
    with pytest.raises(ValueError, match="Reshape") as caught:
        source.call("build_model", {})
    failure = translate(caught.value, tmp_path / "job")
    assert failure.message.endswith("(train.py:4)")
    with pytest.raises(SyntaxError) as broken:
        load("def build_model(:", "broken")
    assert translate(broken.value, tmp_path / "broken").message.endswith("(train.py:1)")


def test_errors_of_a_graph_name_the_operation_and_the_line_of_the_job(load: Any, tmp_path: Path) -> None:
    source = load("""
        import tensorflow as tf
        @tf.function
        def rows(x):
            return tf.gather(x, tf.cast(x[0] + 99.0, "int32"), name="lookup")
        def build_model():
            return rows
    """)
    rows = source.call("build_model", {})
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        rows(tf.constant([0.0, 1.0]))
    failure = translate(caught.value, tmp_path / "job")
    assert failure.message.endswith(" is not in [0, 2) (at node lookup) (train.py:5)")
    assert "Graph execution error" in failure.traceback
    assert [line.strip() for line in failure.traceback.splitlines() if " line " in line] == [
        f'File "{tmp_path / "job" / "train.py"}", line 5, in rows'
    ]


def test_the_cause_of_keras_errors_is_told_and_not_only_the_layer(load: Any, tmp_path: Path) -> None:
    source = load("""
        import keras
        class Own(keras.layers.Layer):
            def call(self, x):
                raise TypeError("these shapes do not go together")
        def build_model():
            return keras.Sequential([keras.Input((2,)), Own()])
    """)
    with pytest.raises(TypeError) as caught:
        source.call("build_model", {})
    message = translate(caught.value, tmp_path / "job").message
    assert message.startswith("TypeError: Exception encountered when calling Own.call(). ")
    assert "these shapes do not go together" in message
    assert message.isprintable()


@pytest.mark.parametrize(
    ("text", "draws"),
    [
        ("import keras\nkeras.random.normal((1,))", False),
        ("import tensorflow as tf\ntf.GradientTape", False),
        ("import tensorflow as tf\ntf.random.normal((1,))", True),
        ("import tensorflow as tf, numpy as np\nnp.random.normal()", False),
        ("from tensorflow import random as r\nr.normal((1,))", True),
        ("import tensorflow\ntensorflow.nn.dropout", True),
        ("not python(", True),
    ],
)
def test_it_sees_whether_a_job_draws_from_tensorflow(text: str, draws: bool, write_job: Write) -> None:
    assert draws_from_tensorflow(write_job(text)) is draws


def test_seeding_without_the_kernels_gives_the_same_streams() -> None:
    def draw(kernels: bool) -> list[Any]:
        seed_everything(5, kernels)
        dataset = tf.data.Dataset.range(10).shuffle(10)
        layer = keras.layers.Dense(2)
        layer.build((None, 3))
        shuffled = [int(number) for number in dataset]
        keras_own = keras.random.normal((2,)).numpy().tolist()
        return [random.random(), np.random.normal(), shuffled, layer.kernel.numpy().tolist(), keras_own]

    assert draw(kernels=True) == draw(kernels=False) == draw(kernels=False)


def test_data_are_frozen_and_in_the_dtype_of_training() -> None:
    x = np.ones((4, 2))
    data = read_data({"train": (x, [np.arange(4), np.ones(4, "float16")]), "test": None})
    assert isinstance(data.train, Arrays)
    assert data.train.x.dtype == np.float32
    assert [array.dtype.name for array in data.train.y] == ["int64", "float32"]
    with pytest.raises(ValueError, match="read-only"):
        data.train.x[0] = 2
    assert x.flags.writeable


def test_a_part_may_be_a_named_tuple() -> None:
    split = namedtuple("Split", "x y")
    given = read_data({"train": split(np.ones((2, 1)), np.ones(2))}).given["train"]
    assert isinstance(given, split)
    assert given.y.dtype == "float32"


def test_tables_are_given_as_returned_to_each_trial_its_own() -> None:
    pandas = pytest.importorskip("pandas")
    x = pandas.DataFrame({"left": [1.0, 2.0], "right": [3.0, 4.0]})
    read = read_data({"train": ({"table": x, "more": np.ones((2, 1))}, x["left"])})
    assert isinstance(read.train, Arrays)
    assert read.train.x["table"].shape == (2, 2)
    one, other = opened(read.given)["train"], opened(read.given)["train"]
    assert list(one[0]["table"].columns) == ["left", "right"]
    assert one[0]["more"].dtype == "float32"
    one[0]["table"].loc[0, "left"] = one[1].iloc[0] = 9.0
    assert other[0]["table"].loc[0, "left"] == other[1].iloc[0] == x.loc[0, "left"] == 1.0


def test_arrays_that_are_right_already_are_not_copied() -> None:
    x = np.ones((4, 2), "float32")
    data = read_data({"train": {"left": x, "right": x}})
    assert isinstance(data.train, Arrays)
    assert np.shares_memory(data.train.x["left"], x)


def test_datasets_are_taken_as_they_are_and_not_shared() -> None:
    dataset = tf.data.Dataset.range(3).batch(1)
    data = read_data({"train": dataset, "validation": (np.ones((2, 1)),)})
    assert isinstance(data.train, Stream)
    assert data.train.dataset is dataset
    assert not data.shareable


@pytest.mark.parametrize("one_hot", [False, True])
def test_class_weights_weigh_as_in_keras(one_hot: bool) -> None:
    y = np.array([0, 1, 2, 1])
    part = read_data({"train": (np.ones((4, 1)), np.eye(3)[y] if one_hot else y)}).train
    assert isinstance(part, Arrays)
    np.testing.assert_array_equal(weighted(part, {1: 0.5, 2: 3.0}).weight, [1, 0.5, 3, 0.5])
    assert weighted(part, None) is part
    with pytest.raises(JobError, match="exclude each other"):
        weighted(weighted(part, {1: 0.5}), {1: 0.5})


def test_large_arrays_of_a_sequence_are_state_only_when_they_change() -> None:
    class Sequence(keras.utils.PyDataset):
        def __init__(self) -> None:
            super().__init__()
            self.x = np.zeros(1 << 18)
            self.order = np.arange(3)

    stream = Stream(Sequence())
    assert stream.unchanged() == {"x"}
    stream.dataset.x[5] = 1
    assert stream.unchanged() == set()


def test_threads_may_parse_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython 3.11 raises a SystemError now and then where nothing keeps them apart."""
    monkeypatch.setattr(ast, "parse", ast.parse)  # put back after the test
    parse_one_at_a_time()
    source, interval = Path(__file__).read_text(encoding="utf-8"), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            trees = list(pool.map(lambda _: ast.dump(ast.parse(source)), range(64)))
    finally:
        sys.setswitchinterval(interval)
    assert len(set(trees)) == 1
