"""Command lines and other names registered once, a package with relative imports and a file within it."""
#: params: [{name: one}, {name: two}]

import argparse
import dataclasses
import logging

import keras
import tensorflow as tf
from absl import flags
from kit import load, nets

flags.DEFINE_float("rate", 0.05, "The learning rate.")
flags.FLAGS([__file__])
tf.RegisterGradient("Guided")(lambda op, gradient: gradient)
parser = argparse.ArgumentParser()
parser.add_argument("--rows", type=int, default=90)
FLAGS = parser.parse_args()
logging.basicConfig(level=logging.INFO, force=True)
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Config:
    rows: int = FLAGS.rows
    rate: float = flags.FLAGS.rate


CONFIG = Config()


def load_data():
    x, y = load.points()
    log.info("rows: %d", CONFIG.rows)
    return {"train": (x[: CONFIG.rows], y[: CONFIG.rows]), "validation": (x[CONFIG.rows :], y[CONFIG.rows :])}


def build_model(name="one"):
    model = nets.NETS[name]()
    model.compile(keras.optimizers.SGD(CONFIG.rate), "mse")
    return model
