"""A callback changes objects of the program: a tree, frozen and slotted records, generators, arrays."""
#: params: [{rate: 0.05}, {rate: 0.1}]
#: training: {epochs: 4, batch_size: 30}

import dataclasses
from collections import OrderedDict, defaultdict
from datetime import datetime

import keras
import numpy as np


@dataclasses.dataclass(frozen=True)
class Key:
    name: str
    number: int


@dataclasses.dataclass(slots=True)
class Slot:
    number: int
    best: Key | None = None


class Tree:
    def __init__(self):
        self.parent, self.children, self.params = None, [], {"a": 1}

    def grow(self, number):
        child = Tree()
        child.parent, child.params["a"] = self, number
        self.children.append(child)
        self.params["b"] = number


table, order, seen, memo = defaultdict(list), OrderedDict(), set(), {}
slot, tree, frozen = Slot(0), Tree(), Key("a", 0)
small, large = np.zeros(3), np.zeros(100_000)
weights = stamp = None


class Change(keras.callbacks.Callback):
    def __init__(self, model):
        super().__init__()
        self.view, self.draws = None, {"a": np.random.default_rng(3)}
        self.out = {"model": None, "layers": [model.layers[0]], "number": 0}

    def on_epoch_end(self, epoch, logs=None):
        global frozen, weights, stamp
        stamp = datetime.now()  # noqa: DTZ005 - as programs have it
        table[epoch % 2].append(logs["loss"])
        slot.number, slot.best = slot.number + 1, Key("s", epoch)
        tree.grow(epoch)
        frozen = dataclasses.replace(frozen, number=frozen.number + 1)
        order[epoch] = epoch
        order.move_to_end(epoch, last=False)
        seen.add(("e", epoch))
        small[0] += 1
        large[epoch] = epoch + 1
        weights = self.model.get_weights()
        memo[epoch] = np.asarray(self.model.layers[0].kernel).sum()
        self.view = keras.Model(self.model.inputs, self.model.layers[0].output)
        self.out["model"], self.out["number"] = self.model, self.out["number"] + 1
        total = [slot.number, slot.best.number, len(tree.children), tree.params["b"], frozen.number]
        total += [
            len(seen),
            next(iter(order)),
            small[0],
            large.sum(),
            len(memo),
            self.out["number"],
            len(table[0]),
        ]
        total += [self.draws["a"].normal(), *(one.sum() for one in weights), sum(memo.values())]
        logs["total"] = float(sum(total)) + (tree.children[0].parent is tree)
        self.model.optimizer.learning_rate = 0.01 / (1 + abs(logs["total"]))


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def callbacks(model):
    return [Change(model)]
