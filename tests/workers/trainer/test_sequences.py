"""What `fit` is fed from a PyDataset: batches in the order of the epoch, and its hooks."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from kerasweep.jobs.errors import JobError
from kerasweep.jobs.seeds import epoch_order
from kerasweep.jobs.sweepfile.training import Training
from kerasweep.workers.trainer.feed import opened_sequence
from kerasweep.workers.trainer.job.data import Stream
from kerasweep.workers.trainer.sequences import PyDatasetFeed

pytestmark = pytest.mark.tf


class Counting(keras.utils.PyDataset):
    """Batches of their own number, and a note of every hook."""

    def __init__(self, size: int | None = 4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size, self.called, self.drawn = size, [], np.random.default_rng(3)

    @property
    def num_batches(self) -> int | None:
        return self.size

    def __getitem__(self, index: int) -> Any:
        self.called.append(index)
        noise = self.drawn.integers(100)
        return np.array([index, noise]), np.array([0, 1])

    def on_epoch_begin(self) -> None:
        self.called.append("begin")

    def on_epoch_end(self) -> None:
        self.called.append("end")


def epoch_of(feed: PyDatasetFeed, number: int) -> list[int]:
    """Read an epoch as `fit` does."""
    adapter = feed.batches(number)
    batches = adapter.get_tf_dataset()
    adapter.on_epoch_end()  # `fit` calls it before its first epoch
    adapter.on_epoch_begin()
    found = [int(batch[0][0]) for batch in batches]
    adapter.on_epoch_end()
    return found


def test_each_epoch_has_an_order_of_its_own_from_the_seed() -> None:
    feed = PyDatasetFeed(Counting(), None, 5, None)
    assert [epoch_of(feed, epoch) for epoch in (1, 2)] == [
        epoch_order(5, epoch, 4).tolist() for epoch in (1, 2)
    ]


def test_without_a_seed_batches_stay_as_they_are() -> None:
    feed = PyDatasetFeed(Counting(), None, None, None)
    assert epoch_of(feed, 1) == epoch_of(feed, 2) == [0, 1, 2, 3]


def test_with_steps_one_iteration_goes_on() -> None:
    feed = PyDatasetFeed(Counting(), None, None, 3)
    assert [epoch_of(feed, epoch) for epoch in (1, 2)] == [[0, 1, 2], [3, 0, 1]]
    orders = [epoch_order(5, number, 4).tolist() for number in (1, 2)]
    feed = PyDatasetFeed(Counting(), None, 5, 3)
    assert epoch_of(feed, 1) + epoch_of(feed, 2) == [*orders[0], *orders[1][:2]]
    endless = PyDatasetFeed(Counting(None), None, None, 3)
    assert [epoch_of(endless, epoch) for epoch in (1, 2)] == [[0, 1, 2], [3, 4, 5]]


def test_hooks_are_called_as_often_as_in_one_fit() -> None:
    dataset = Counting()
    feed = PyDatasetFeed(dataset, None, None, None)
    for epoch in (1, 2):
        epoch_of(feed, epoch)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    plain = Counting()
    model.fit(plain, epochs=2, verbose=0, shuffle=False)
    hooks = [one for one in dataset.called if isinstance(one, str)]
    assert hooks == [one for one in plain.called if isinstance(one, str)]
    assert dataset.drawn.integers(100) == plain.drawn.integers(100)


def test_a_resumed_feed_changes_nothing_by_looking_at_the_first_batches() -> None:
    dataset = Counting()
    late = PyDatasetFeed(dataset, None, None, None)
    late.skip(2)
    late.batches(3).get_tf_dataset()
    assert dataset.drawn.integers(10**9) == np.random.default_rng(3).integers(10**9)


def test_the_length_before_the_training_is_the_most_of_each_epoch() -> None:
    dataset = Counting()
    feed = PyDatasetFeed(dataset, None, None, None)
    feed.open()
    assert dataset.called == [0, 1, "end"]
    dataset.size = 6
    assert epoch_of(feed, 1) == [0, 1, 2, 3]
    dataset.size = 3
    assert epoch_of(feed, 2) == [0, 1, 2]
    assert feed.batches(3).num_batches == 4


def test_class_weights_are_those_of_keras() -> None:
    adapter = PyDatasetFeed(Counting(), {1: 3.0}, None, None).batches(1)
    weights = [batch[2].numpy().tolist() for batch in adapter.get_tf_dataset()]
    assert weights == [[1.0, 3.0]] * 4


def test_one_without_an_end_needs_steps() -> None:
    with pytest.raises(JobError, match=r"a PyDataset without an end needs training\.steps_per_epoch"):
        opened_sequence(Stream(Counting(None)), Training(epochs=1, batch_size=2), 1)
