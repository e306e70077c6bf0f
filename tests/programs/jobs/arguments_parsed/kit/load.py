import json
from importlib import resources

import numpy as np

from . import nets


def points():
    told = json.loads(resources.files("kit").joinpath("told.json").read_text())
    x = np.random.default_rng(told["seed"]).normal(size=(120, nets.COLUMNS)).astype("float32")
    return x, x.sum(1, keepdims=True)
