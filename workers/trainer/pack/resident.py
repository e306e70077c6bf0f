"""Keeps data on the training device, each array once, however many trials use it."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasweep.workers.trainer.job.data import Arrays


class Resident:
    """Tensors of the data, kept as long as their arrays exist.

    Args:
        device: the device of the data, as TensorFlow names it.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._lock = threading.Lock()
        self._kept: dict[int, tuple[weakref.ref[NDArray[Any]], tf.Tensor]] = {}

    def tensors(self, part: Arrays) -> Any:
        """Return the argument of a model's `train_step`, all rows of it, as tensors; lists become tuples."""
        with self._lock:
            self._drop_dead()
            return keras.tree.lists_to_tuples(keras.tree.map_structure(self._tensor, part.packed()))

    def _tensor(self, array: NDArray[Any]) -> tf.Tensor:
        reference, tensor = self._kept.get(id(array), (None, None))
        if reference is None or reference() is not array:
            with tf.device(self.device):
                tensor = tf.identity(tf.convert_to_tensor(array))
            self._kept[id(array)] = weakref.ref(array), tensor
        return tensor

    def _drop_dead(self) -> None:
        for number in [number for number, (reference, _) in self._kept.items() if reference() is None]:
            del self._kept[number]


def bytes_of(part: Arrays | None) -> int:
    """Return the size of a part of the data in bytes."""
    if part is None:
        return 0
    return sum(np.asarray(array).nbytes for array in keras.tree.flatten(part.packed()) if array is not None)
