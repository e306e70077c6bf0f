"""A callback changes context variables, queues, attributes of a thread, namespaces and chains of mappings."""
#: params: [{rate: 0.05}, {rate: 0.1}]

import array
import functools
import queue
import threading
from collections import ChainMap, UserDict
from contextvars import ContextVar
from decimal import Decimal
from types import SimpleNamespace

import keras
import numpy as np

stage = ContextVar("stage", default="warm")
local, space = threading.local(), SimpleNamespace(past=array.array("d"), part=Decimal(1))
waiting, first, simple = queue.Queue(), queue.PriorityQueue(), queue.SimpleQueue()
chain, bag = ChainMap({}, {"x": 1}), UserDict()


class Own(dict):
    def total(self):
        return sum(self.values())


own = Own(a=1)


@functools.cache
def halved(number):
    return 0.5**number


class Change(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        stage.set(stage.get() + "er")
        local.count = getattr(local, "count", 0) + 1
        space.past.append(epoch + 1.5)
        space.part /= 3
        for one in (waiting, first, simple):
            one.put((3 - epoch, epoch))
        chain["x"] += 1
        own["a"] += 1
        bag[epoch] = halved(epoch)
        total = [len(stage.get()), local.count, sum(space.past), space.part, own.total(), sum(bag.values())]
        total += [waiting.qsize(), simple.qsize(), first.queue[0][1], waiting.queue[0][0], chain.maps[0]["x"]]
        logs["total"] = float(sum(map(float, total)))
        self.model.optimizer.learning_rate = 0.01 / logs["total"]


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def callbacks():
    return [Change()]
