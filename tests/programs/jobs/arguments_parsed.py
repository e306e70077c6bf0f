"""A command line, a configuration in a dataclass, a package with relative imports and a file within it."""
#: params: [{name: one}, {name: two}]

import argparse
import dataclasses
import logging

import keras
from kit import load, nets

parser = argparse.ArgumentParser()
parser.add_argument("--rows", type=int, default=90)
FLAGS = parser.parse_args()
logging.basicConfig(level=logging.INFO, force=True)
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Config:
    rows: int = FLAGS.rows
    rate: float = 0.05


CONFIG = Config()


def load_data():
    x, y = load.points()
    log.info("rows: %d", CONFIG.rows)
    return {"train": (x[: CONFIG.rows], y[: CONFIG.rows]), "validation": (x[CONFIG.rows :], y[CONFIG.rows :])}


def build_model(name="one"):
    model = nets.NETS[name]()
    model.compile(keras.optimizers.SGD(CONFIG.rate), "mse")
    return model
