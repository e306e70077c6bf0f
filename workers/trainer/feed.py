"""The input of `fit` in each epoch: an epoch's batches depend only on the trial's seed and the epoch.

Arrays: an epoch's rows are gathered in its order in one copy and cut into batches by a reshape, so the
dataset needs neither a shuffle nor a map: this takes a quarter of the fixed cost of passing arrays to `fit`.

Datasets: each epoch uses a new iterator of the dataset, and a resumed trial first creates as many as it has
finished epochs, which brings a `shuffle` to the same state. With `steps_per_epoch` one iterator continues
from epoch to epoch, as in Keras, and a resumed trial reads what was read before.

A `cache` keeps what the first iterator reads, so a resumed trial reads that one as `fit` does. What Python
functions of a pipeline keep cannot be seen, so there a resumed trial reads all epochs that it has behind it.
"""

from __future__ import annotations

import collections
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasweep.jobs.errors import JobError
from kerasweep.jobs.seeds import epoch_order
from kerasweep.jobs.sweepfile.training import Training
from kerasweep.jobs.trial import FailureClass
from kerasweep.workers.trainer.job.data import Arrays, Part, Stream
from kerasweep.workers.trainer.sequences import PyDatasetFeed
from kerasweep.workers.trainer.state.captures import has_cache, has_python

#: How far a dataset of unknown length is read to find its end.
_MOST_COUNTED, _COUNT_S = 100_000, 300.0


class Feed(Protocol):
    """One part of the data, epoch by epoch."""

    def skip(self, epochs: int) -> None:
        """Advance to the state of an undisturbed training after this many epochs."""

    def batches(self, epoch: int) -> Any:
        """Return the input of `fit` for an epoch, counted from 1."""


class ArrayFeed:
    """Batches of arrays in the order that the seed gives each epoch.

    Attributes:
        rows: the number of rows in an epoch.

    Args:
        part: the arrays.
        batch_size: rows of a batch, over all replicas.
        seed: of the order; None keeps the original order.
        replicas: rows that do not fill them evenly are dropped, since an empty replica gives NaN.
        drop_rest: drop the partial batch at the end altogether.
    """

    def __init__(
        self, part: Arrays, batch_size: int, seed: int | None, replicas: int, drop_rest: bool
    ) -> None:
        self._part, self._batch_size, self._seed = part, batch_size, seed
        rest = 0 if drop_rest else part.rows % batch_size
        self.rows = part.rows - part.rows % batch_size + rest - rest % replicas
        self._whole: Any = None

    def skip(self, epochs: int) -> None:
        """Do nothing: each epoch's order is drawn independently."""

    def batches(self, epoch: int) -> Any:
        """Return the epoch's dataset."""
        if self._seed is not None:
            order = epoch_order(self._seed, epoch, self._part.rows)[: self.rows]
            return _cut_into_batches(self._part.tensors(), self._batch_size, self.rows, order)
        if self._whole is None:
            self._whole = _cut_into_batches(self._part.tensors(), self._batch_size, self.rows, None)
        return self._whole


class DatasetFeed:
    """Batches of a `tf.data.Dataset`.

    Keras finds the end of a dataset of unknown length with one step too many, which counts in the optimizer
    and in the seeds of Dropout, and which hangs on several devices. So such a dataset is read once, to count
    its batches.

    Attributes:
        counted: whether it had to be read.

    Args:
        dataset: the job's.
        steps: batches of an epoch, from one continuing iterator; None for a whole iteration.
        replicas: batches that do not fill them evenly are dropped.
        key: the key of `training` that limits the batches of an infinite dataset.
        waiting: called while a dataset is counted.

    Raises:
        JobError: it never ends, as far as can be told, or is empty.
    """

    def __init__(
        self,
        dataset: tf.data.Dataset,
        steps: int | None,
        replicas: int,
        key: str = "steps_per_epoch",
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        if replicas > 1 and not _always_fills(dataset, replicas):
            dataset = dataset.filter(lambda *batch: _rows_of(batch) % replicas == 0)
        self._dataset = dataset.repeat() if steps and not _endless(dataset) else dataset
        self._steps = steps
        self._size = steps or int(self._dataset.cardinality())
        self._iterator: Iterator[Any] | None = None
        if self._size == int(tf.data.INFINITE_CARDINALITY):
            raise _wrong(f"a dataset that never ends needs training.{key}, got none; set it")
        self.counted = self._size < 0
        if self.counted:
            self._size = _count(dataset, key, waiting)
        if not self._size:
            raise _wrong(
                f"a dataset must have a batch that {replicas} devices can share, got none; check its size"
            )

    def sample(self) -> Any:
        """Return a batch, at the cost of one iterator."""
        return next(iter(self._dataset))

    def skip(self, epochs: int) -> None:
        """Use up the iterators, or the batches, of the finished epochs."""
        if self._steps:
            iterator = self._running()
            for _ in range(epochs * self._steps):
                next(iterator)
        else:
            reads = has_python(self._dataset)
            for number in range(epochs):
                iterator = self._begin(number)
                if reads or (number == 0 and has_cache(self._dataset)):
                    # As far as `fit` reads, which is too early for some caches: they stay incomplete.
                    collections.deque(itertools.islice(iterator, self._size), maxlen=0)

    def batches(self, epoch: int) -> Any:
        """Return the epoch's dataset; Keras requests its iterator twice, but the job's is created once."""
        iterator: Any = self._running() if self._steps else self._begin(epoch - 1)
        batches = tf.data.Dataset.range(self._size).map(lambda _: iterator.get_next())
        return _one_pipeline(batches)

    def _begin(self, epochs: int) -> Iterator[Any]:
        """Return the iterator of an epoch; `epochs` are behind it.

        At the end of an epoch whose length it knows Keras takes an iterator that it never reads, and with it
        the next order of a shuffle.
        """
        if epochs and not self.counted:
            iter(self._dataset)
        return iter(self._dataset)

    def _running(self) -> Iterator[Any]:
        if self._iterator is None:
            self._iterator = iter(self._dataset)
        return self._iterator


def check_sizes(part: Part, training: Training, replicas: int) -> None:
    """Refuse sizes that Keras would silently change.

    Raises:
        JobError: the batch is not divisible by the replicas, or there are too few rows.
    """
    if isinstance(part, Stream) and replicas > 1 and training.steps_per_epoch:
        raise _wrong(
            f"training.steps_per_epoch with a dataset trains on one device, got {replicas} replicas; "
            "leave it out, and let load_data return a dataset that ends"
        )
    if isinstance(part, Arrays):
        _check_batch(part.rows, training, replicas)
        _check_steps(part.rows, training, replicas)


def steps_of(part: Part, training: Training, replicas: int) -> int | None:
    """Return the number of steps in an epoch, None if unknown in advance."""
    if training.steps_per_epoch:
        return training.steps_per_epoch
    if isinstance(part, Arrays):
        return part.rows // training.batch_size if replicas > 1 else -(-part.rows // training.batch_size)
    if part.keeps_state:
        found: int | None = part.dataset.num_batches
        return found
    count = int(part.dataset.cardinality()) if isinstance(part.dataset, tf.data.Dataset) else -1
    return count if count > 0 else None


def opened_sequence(part: Stream, training: Training, seed: int) -> PyDatasetFeed:
    """Return the feed of a `PyDataset`, from which is read what `fit` reads before the callbacks begin."""
    order = seed if training.shuffle else None
    feed = _py_feed(part, training.class_weight, order, training.steps_per_epoch, "steps_per_epoch")
    feed.open()
    return feed


def train_feed(
    part: Part, training: Training, seed: int, replicas: int, waiting: Callable[[], None] = lambda: None
) -> Feed:
    """Return the feed of arrays or of a `tf.data.Dataset`; `waiting` is called while it is counted."""
    if isinstance(part, Stream):
        return DatasetFeed(part.dataset, training.steps_per_epoch, replicas, waiting=waiting)
    order = seed if training.shuffle else None
    return ArrayFeed(part, training.batch_size, order, replicas, drop_rest=replicas > 1)


def validation_feed(
    part: Part, training: Training, replicas: int, waiting: Callable[[], None] = lambda: None
) -> Feed:
    """Return the feed of the validation data: a new iteration in each epoch, whatever its steps."""
    if isinstance(part, Stream):
        if part.keeps_state:
            return _py_feed(part, None, None, training.validation_steps, "validation_steps")
        dataset = part.dataset
        if training.validation_steps and isinstance(dataset, tf.data.Dataset):
            dataset = dataset.take(training.validation_steps)
        return DatasetFeed(dataset, None, replicas, "validation_steps", waiting)
    batch_size = training.validation_batch_size or training.batch_size
    return ArrayFeed(part, batch_size, None, replicas, drop_rest=False)


def _py_feed(
    part: Stream, class_weight: Mapping[int, float] | None, seed: int | None, steps: int | None, key: str
) -> PyDatasetFeed:
    if part.dataset.num_batches is None and not steps:
        raise _wrong(f"a PyDataset without an end needs training.{key}, got none; set it")
    if key == "validation_steps":
        return PyDatasetFeed(part.dataset, class_weight, seed, None, validates=True)
    return PyDatasetFeed(part.dataset, class_weight, seed, steps)


def _check_batch(rows: int, training: Training, replicas: int) -> None:
    batch_size, key = training.batch_size, "batch_size"
    if not batch_size % replicas and training.validation_batch_size:
        batch_size, key = training.validation_batch_size, "validation_batch_size"
    if batch_size % replicas:
        raise _wrong(
            f"training.{key} must divide by the {replicas} replicas of resources.gpus, got "
            f"{batch_size}; set it to {max(batch_size // replicas, 1) * replicas}"
        )
    batch_size = training.batch_size
    if batch_size > rows:
        raise _wrong(
            f"training.batch_size must not be above the rows of the training data, got {batch_size} for "
            f"{rows} rows; set it to {max(rows // replicas, 1) * replicas} or less"
        )


def _check_steps(rows: int, training: Training, replicas: int) -> None:
    batch_size = training.batch_size
    steps = rows // batch_size if replicas > 1 else -(-rows // batch_size)
    if training.steps_per_epoch and training.steps_per_epoch > steps:
        raise _wrong(
            f"training.steps_per_epoch must not be above the batches of the training data, got "
            f"{training.steps_per_epoch} for {steps}; set it to {steps} or less, or leave it out"
        )


def _wrong(message: str) -> JobError:
    return JobError(FailureClass.USER, message)


def _cut_into_batches(tensors: Any, batch_size: int, rows: int, order: NDArray[np.int64] | None) -> Any:
    """Return a dataset of batches of the first `rows` rows; the last batch may be partial."""
    whole = rows // batch_size * batch_size
    tensors = keras.tree.lists_to_tuples(tensors)  # as Keras does; a dataset would stack a list
    with tf.device("CPU:0"):
        if order is not None:
            tensors = keras.tree.map_structure(lambda tensor: tf.gather(tensor, order), tensors)
        dataset = None
        if whole:
            dataset = tf.data.Dataset.from_tensor_slices(
                keras.tree.map_structure(
                    lambda tensor: tf.reshape(tensor[:whole], (-1, batch_size, *tensor.shape[1:])), tensors
                )
            )
        if rows > whole:
            rest = keras.tree.map_structure(lambda tensor: tensor[whole:rows], tensors)
            last = tf.data.Dataset.from_tensors(rest)
            dataset = last if dataset is None else dataset.concatenate(last)
    return _one_pipeline(dataset)


def _one_pipeline(dataset: Any) -> Any:
    """Declare how replicas share a dataset: one pipeline, with each batch split between them."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.with_options(options)


def _count(dataset: tf.data.Dataset, key: str, waiting: Callable[[], None]) -> int:
    """Read a dataset to its end, and count its batches.

    Raises:
        JobError: no end is in sight.
    """
    give_up_s, count = time.monotonic() + _COUNT_S, 0
    for count, _ in enumerate(dataset, 1):
        waiting()
        if count >= _MOST_COUNTED or time.monotonic() > give_up_s:
            raise _wrong(
                "a dataset of unknown length is read once to its end, which was not reached within "
                f"{count:,} batches; set training.{key}, or declare its length with "
                "tf.data.experimental.assert_cardinality"
            )
    return count


def _always_fills(dataset: Any, replicas: int) -> bool:
    """Whether each batch is known to be divisible by the replicas, as with `drop_remainder`."""
    spec = next(leaf for leaf in tf.nest.flatten(dataset.element_spec) if leaf is not None)
    return bool(spec.shape.rank) and spec.shape[0] is not None and spec.shape[0] % replicas == 0


def _endless(dataset: Any) -> bool:
    return int(dataset.cardinality()) == int(tf.data.INFINITE_CARDINALITY)


def _rows_of(batch: Any) -> Any:
    return tf.shape(next(leaf for leaf in keras.tree.flatten(batch) if leaf is not None))[0]
