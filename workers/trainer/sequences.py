"""The input of `fit` from a `keras.utils.PyDataset`, epoch by epoch, as a single `fit` would read it."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

from kerasweep.jobs.seeds import epoch_order

#: Arrays up to this size may be what a PyDataset counts or shuffles by.
_SMALL_BYTES = 1 << 20


class PyDatasetFeed:
    """Batches of a `keras.utils.PyDataset`, whose attributes are saved in the checkpoint.

    `fit(shuffle=True)` reorders its batches for each epoch, and so does this, from the trial's seed and the
    epoch. There is one adapter for all epochs, as within a single `fit`: the first batches are read once for
    their structure, and `on_epoch_end` is called as often.

    Args:
        dataset: the job's.
        class_weight: weight of each class, or None.
        seed: of the order; None keeps the original order.
        steps: batches of an epoch, from one iteration that continues from epoch to epoch; None for all of
            them.
        validates: whether it is the validation data, which each evaluation resets.

    Raises:
        JobError: it never ends.
    """

    def __init__(
        self,
        dataset: keras.utils.PyDataset,
        class_weight: Mapping[int, float] | None,
        seed: int | None,
        steps: int | None,
        validates: bool = False,
    ) -> None:
        self._ordered = _Ordered(dataset, seed, steps)
        self._adapter = _PyDatasetAdapter(self._ordered, class_weight, validates)

    def open(self) -> None:
        """Read what `fit` reads before the callbacks begin; it fixes the number of batches there."""
        self._adapter.get_tf_dataset()
        self._ordered.most = self._ordered.num_batches
        self._adapter.on_epoch_end()

    def skip(self, epochs: int) -> None:
        """Let the next epoch follow this many: attributes are restored, the order is independent."""
        self._adapter.begun = self._adapter.begun or epochs > 0

    def batches(self, epoch: int) -> Any:
        """Return the input of `fit` for an epoch."""
        self._ordered.begin(epoch)
        return self._adapter


@contextmanager
def unchanged(dataset: keras.utils.PyDataset) -> Iterator[None]:
    """Undo what reading batches changes, where `fit` would not read them, or has read them before."""
    generators = (random.getstate(), np.random.get_state())
    kept = {name: copy.deepcopy(value) for name, value in vars(dataset).items() if _is_counter(value)}
    states = {
        name: copy.deepcopy(value.bit_generator.state)
        for name, value in vars(dataset).items()
        if isinstance(value, np.random.Generator)
    }
    try:
        yield
    finally:
        random.setstate(generators[0])
        np.random.set_state(generators[1])
        vars(dataset).update(kept)
        for name, state in states.items():
            vars(dataset)[name].bit_generator.state = state


def _is_counter(value: Any) -> bool:
    small = isinstance(value, np.ndarray) and value.nbytes <= _SMALL_BYTES
    return small or isinstance(value, (int, float, np.random.RandomState, random.Random))


class _Ordered(keras.utils.PyDataset):
    """A `PyDataset` in the order of an epoch; the arguments are those of `PyDatasetFeed`.

    Attributes:
        most: batches that an epoch asks for, whatever the length by then; None for the length.
    """

    def __init__(self, dataset: keras.utils.PyDataset, seed: int | None, steps: int | None) -> None:
        super().__init__(dataset.workers, dataset.use_multiprocessing, dataset.max_queue_size)
        self._dataset, self._seed, self._steps = dataset, seed, steps
        self.most: int | None = None
        self._epoch, self._first = 1, 0
        self._size: int | None = None
        self._orders: dict[int, Any] = {}

    def begin(self, epoch: int) -> None:
        """Start at the first batch of an epoch, counted from 1."""
        self._epoch = epoch
        self._arrange()

    def _arrange(self) -> None:
        epoch, size = self._epoch, self._dataset.num_batches
        self._orders, self._size = {}, size
        if size is None or self._seed is None:
            self._first = (epoch - 1) * (self._steps or 0)
            return
        self._first = (epoch - 1) * (self._steps or size)
        passes = range(self._first // size, (self._first + (self._steps or size) - 1) // size + 1)
        self._orders = {number: epoch_order(self._seed, number + 1, size) for number in passes}

    @contextmanager
    def as_it_is(self, undone: bool) -> Iterator[None]:
        """Have the batches in the job's own order; undo what reading them changes, if asked."""
        kept = self._first, self._size, self._orders
        self._first, self._size, self._orders = 0, None, {}
        try:
            with unchanged(self._dataset) if undone else contextlib.nullcontext():
                yield
        finally:
            self._first, self._size, self._orders = kept

    @property
    def num_batches(self) -> int | None:
        size: int | None = self._steps or self._dataset.num_batches
        return size if size is None or self.most is None else min(size, self.most)

    def __getitem__(self, index: int) -> Any:
        size = self._size
        at = self._first + index
        if size is None:
            return self._dataset[at]
        number, at = divmod(at, size)
        return self._dataset[int(self._orders[number][at]) if number in self._orders else at]

    def on_epoch_begin(self) -> None:
        self._dataset.on_epoch_begin()
        self._arrange()  # it may have changed the length

    def on_epoch_end(self) -> None:
        self._dataset.on_epoch_end()


class _PyDatasetAdapter(PyDatasetAdapter):
    """Keras' adapter, for one `fit` call per epoch."""

    def __init__(self, dataset: _Ordered, class_weight: Mapping[int, float] | None, validates: bool) -> None:
        super().__init__(dataset, class_weight=class_weight)
        self._ordered, self._validates, self.begun = dataset, validates, False

    @property
    def num_batches(self) -> int | None:
        """The batches that an epoch asks for; where there are fewer by then, it ends as Keras ends it."""
        return self._ordered.most or self._ordered.num_batches

    def get_tf_dataset(self) -> Any:
        """Return the dataset; the first time, read the first batches for their structure as Keras does then.

        Those of the validation are read after the first epoch's training.
        """
        if self._output_signature is None:
            with self._ordered.as_it_is(undone=self.begun):
                super().get_tf_dataset()
        return super().get_tf_dataset()

    def on_epoch_end(self) -> None:
        """Forward the end of an epoch, and the call before it, which `fit` makes once and each evaluation."""
        if self._within_epoch or self._validates or not self.begun:
            super().on_epoch_end()
        self.begun = True
