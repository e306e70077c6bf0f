"""Models that learn their shapes from the data are built by the steps that `fit` would trace."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasweep.jobs.sweepfile.training import Training
from kerasweep.workers.trainer.job.data import read_data
from kerasweep.workers.trainer.state.building import build, step_specs

pytestmark = pytest.mark.tf


class Unlabelled(keras.Model):
    """Trains on pairs of images with and without labels, validates on labelled ones."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = keras.layers.Dense(3), keras.layers.Dense(1)

    def train_step(self, data: Any) -> Any:
        free, (images, _) = data
        return {"loss": tf.reduce_mean(self.features(tf.concat([free, images], 0)))}

    def test_step(self, data: Any) -> Any:
        images, labels = data
        return {"loss": tf.reduce_mean(self.head(self.features(images))[:, 0] - labels)}


def test_each_step_is_traced_with_its_own_part_of_the_data() -> None:
    x, y = np.zeros((12, 4), np.float32), np.zeros(12, np.float32)
    rows = tf.data.Dataset.from_tensor_slices
    train = rows((x, (x, y))).batch(4)
    data = read_data({"train": train, "validation": (x, y)})
    model = Unlabelled()
    model.compile("sgd")
    build(model, data.train, data.validation, Training(epochs=1, batch_size=4, validation_batch_size=5))
    assert model.features.built
    assert model.head.built


def test_the_batches_of_each_part_are_as_large_as_in_fit() -> None:
    data = read_data({"train": (np.zeros((12, 2)),), "validation": (np.zeros((9, 2)),)})
    specs = step_specs(data.train, data.validation, Training(epochs=1, batch_size=4, validation_batch_size=5))
    assert {name: spec.shape.as_list() for name, spec in specs.items()} == {
        "train_step": [4, 2],
        "test_step": [None, 2],
    }
