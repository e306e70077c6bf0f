"""What of `load_data` becomes an array, and what is said of the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from kerasweep.jobs.errors import JobError
from kerasweep.jobs.trial import FailureClass
from kerasweep.workers.trainer.job.arrays import check_spec, to_array

pytestmark = pytest.mark.tf


class Sparse:
    """Looks as SciPy's matrices do."""

    nnz = 1

    def tocsr(self) -> Sparse:
        return self


def test_an_array_is_taken_as_it_is() -> None:
    array = np.arange(6.0).reshape(3, 2)
    assert to_array("train", "inputs", array) is array


@pytest.mark.parametrize("value", [[[1, 2], [3, 4]], tf.constant([[1, 2], [3, 4]])])
def test_lists_and_tensors_become_arrays(value: Any) -> None:
    assert to_array("train", "inputs", value).tolist() == [[1, 2], [3, 4]]


def test_a_series_becomes_a_column() -> None:
    pandas = pytest.importorskip("pandas")
    assert to_array("train", "targets", pandas.Series([1.0, 2.0])).shape == (2, 1)


def test_text_is_taken_as_inputs_alone() -> None:
    words = np.array(["one", "two"])
    assert to_array("train", "inputs", words) is words
    with pytest.raises(JobError, match=r"targets .* must be numbers, got text such as 'one'; encode them"):
        to_array("train", "targets", words)
    with pytest.raises(JobError, match="got text such as 'one'"):
        to_array("train", "targets", np.array(["one", "two"], dtype=object))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Sparse(), r"must be dense, got a SciPy sparse matrix; call \.toarray\(\)"),
        (tf.ragged.constant([[1], [1, 2]]), r"got a RaggedTensor; use to_tensor\(\)"),
        (tf.sparse.from_dense([[1, 0]]), r"got a SparseTensor; use tf\.sparse\.to_dense"),
        ([[1], [1, 2]], r"must have rows of one shape, got ragged ones .* pad them"),
        (np.array([[1], [1, 2]], dtype=object), r"rows of one shape, got an array of list; pad them"),
        (np.array([1, "a"], dtype=object), r"numbers of one kind, got an array of objects \(int, str\)"),
        (np.float64(1.0), r"got a float64; convert it|must have rows"),
        (None, "got None; convert it with numpy.asarray"),
        (iter([1, 2]), "got a list_iterator; let a tf.data.Dataset.from_generator"),
        ("words", "got a str; convert it"),
        (42, "got an int; convert it"),
    ],
)
def test_what_keras_could_not_train_on_is_told_with_a_remedy(value: Any, words: str) -> None:
    with pytest.raises(JobError, match=words) as caught:
        to_array("train", "inputs", value)
    assert caught.value.cls is FailureClass.USER


def test_columns_of_numbers_and_booleans_are_cast_as_by_keras() -> None:
    pandas = pytest.importorskip("pandas")
    rows = pandas.DataFrame({"age": [1.5, 2.5], "count": [3, 4], "town": ["a", "b"]})
    found = to_array("train", "inputs", pandas.get_dummies(rows, columns=["town"]))
    assert found.dtype == np.float32
    assert found.tolist() == [[1.5, 3.0, 1.0, 0.0], [2.5, 4.0, 0.0, 1.0]]
    with pytest.raises(JobError, match=r"in the columns 'town' \(\w+\)"):
        to_array("train", "inputs", rows)


def test_mixed_columns_are_named() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"age": [1, 2], "town": ["a", "b"]})
    with pytest.raises(JobError, match=r"in the columns 'town' \(\w+\)"):
        to_array("train", "inputs", table)


def test_a_dataset_with_words_for_targets_is_refused() -> None:
    with pytest.raises(JobError, match=r"got text \(tf.string\)"):
        check_spec("train", tf.data.Dataset.from_tensors((1, "a")))
    check_spec("train", tf.data.Dataset.from_tensors(("a", 1)))
    check_spec("train", tf.data.Dataset.from_tensors("a"))
