"""The input of an epoch: it depends only on the seed and the epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from kerasweep.jobs.errors import JobError
from kerasweep.jobs.seeds import epoch_order
from kerasweep.jobs.sweepfile.training import Training
from kerasweep.workers.trainer.feed import ArrayFeed, DatasetFeed, check_sizes, validation_feed
from kerasweep.workers.trainer.job.data import Arrays, Stream, read_data

pytestmark = pytest.mark.tf


def arrays(rows: int) -> Arrays:
    part = read_data({"train": {"a": np.arange(rows), "b": np.arange(rows)[:, None]}}).train
    assert isinstance(part, Arrays)
    return part


def shuffled(unknown: bool = False) -> Any:
    tf.random.set_seed(3)
    dataset = tf.data.Dataset.range(12).shuffle(12)
    return (dataset.filter(lambda _: True) if unknown else dataset).batch(4)


def rows_of(batches: Any) -> list[list[int]]:
    return [batch["a"].numpy().tolist() for batch in batches]


@pytest.mark.parametrize(
    ("replicas", "drop_rest", "sizes"), [(1, False, [4, 4, 3]), (2, False, [4, 4, 2]), (2, True, [4, 4])]
)
def test_arrays_come_in_the_epoch_s_order(replicas: int, drop_rest: bool, sizes: list[int]) -> None:
    feed = ArrayFeed(arrays(11), 4, 5, replicas, drop_rest)
    for epoch in (1, 2):
        found = rows_of(feed.batches(epoch))
        assert [len(batch) for batch in found] == sizes
        assert [row for batch in found for row in batch] == epoch_order(5, epoch, 11)[: sum(sizes)].tolist()


def test_without_a_seed_rows_stay_as_they_are() -> None:
    feed = ArrayFeed(arrays(5), 4, None, 1, drop_rest=False)
    assert rows_of(feed.batches(1)) == rows_of(feed.batches(2)) == [[0, 1, 2, 3], [4]]


@pytest.mark.parametrize("unknown", [False, True])
def test_a_dataset_goes_on_where_an_undisturbed_one_stands(unknown: bool) -> None:
    whole = DatasetFeed(shuffled(unknown), None, 1)
    epochs = [[batch.numpy().tolist() for batch in whole.batches(epoch)] for epoch in (1, 2, 3)]
    assert len({str(epoch) for epoch in epochs}) == 3
    late = DatasetFeed(shuffled(unknown), None, 1)
    late.skip(2)
    assert [batch.numpy().tolist() for batch in late.batches(3)] == epochs[2]
    assert whole.counted is unknown
    assert int(whole.batches(4).cardinality()) == 3


def test_keras_may_ask_for_an_iterator_more_than_it_reads() -> None:
    feed = DatasetFeed(shuffled(), None, 1)
    again = DatasetFeed(shuffled(), None, 1)
    for epoch in (1, 2):
        batches = feed.batches(epoch)
        found = [batch.numpy().tolist() for batch in batches]
        iter(batches)
        assert found == [batch.numpy().tolist() for batch in again.batches(epoch)]


def test_with_steps_one_iterator_goes_on() -> None:
    endless = tf.data.Dataset.range(6).repeat().batch(2)
    feed = DatasetFeed(endless, 2, 1)
    assert [b.numpy().tolist() for e in (1, 2) for b in feed.batches(e)] == [[0, 1], [2, 3], [4, 5], [0, 1]]
    late = DatasetFeed(endless, 2, 1)
    late.skip(1)
    assert [batch.numpy().tolist() for batch in late.batches(2)] == [[4, 5], [0, 1]]


def test_batches_that_replicas_cannot_share_are_left_out() -> None:
    feed = DatasetFeed(tf.data.Dataset.range(11).batch(4), None, 2)
    assert [batch.numpy().tolist() for batch in feed.batches(1)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert not DatasetFeed(tf.data.Dataset.range(11).batch(4, drop_remainder=True), None, 2).counted


def test_validation_steps_cut_a_dataset() -> None:
    training = Training(epochs=1, validation_steps=2)
    feed = validation_feed(Stream(tf.data.Dataset.range(3).repeat().batch(2)), training, 1)
    assert [batch.numpy().tolist() for batch in feed.batches(1)] == [[0, 1], [2, 0]]
    assert [batch.numpy().tolist() for batch in feed.batches(2)] == [[0, 1], [2, 0]]


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (tf.data.Dataset.range(3).repeat().batch(2), "needs training.steps_per_epoch"),
        (tf.data.Dataset.range(0).batch(2), "got none"),
    ],
)
def test_datasets_without_an_epoch_are_refused(dataset: Any, message: str) -> None:
    with pytest.raises(JobError, match=message):
        DatasetFeed(dataset, None, 1)


def test_a_dataset_with_steps_on_several_devices_is_refused() -> None:
    with pytest.raises(JobError, match="trains on one device"):
        check_sizes(Stream(tf.data.Dataset.range(3).batch(1)), Training(epochs=1, steps_per_epoch=2), 2)
