"""Modules imported by a name computed at run time, pickled functions, a folder named like a library."""
#: params: [{net: small}, {net: large}]

import importlib
import pickle
from dataclasses import dataclass

import numpy as np
import yaml


@dataclass
class Shape:
    units: int


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(net="small"):
    yaml.safe_load("a: 1")
    shape = pickle.loads(pickle.dumps(Shape(3)))
    if type(shape) is not Shape or pickle.loads(pickle.dumps(load_data)) is not load_data:
        raise RuntimeError("another trial's class")
    model = importlib.import_module(f"nets.{net}").build(shape.units)
    model.compile("sgd", "mse")
    return model
