"""Trains programs as plain Keras scripts, each in its own process: the reference that a trial must equal.

    python fresh.py

Reads orders, a line of JSON each, and prints one for each: the history, and the digest of the weights.
TensorFlow is loaded once; forking before it is used is as good as starting a new process.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
import traceback
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf


def trained(order: dict[str, Any]) -> dict[str, Any]:
    """Train the program in a folder as `python train.py` would."""
    tf.config.experimental.enable_op_determinism()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    os.chdir(order["folder"])
    sys.argv, sys.path[0] = [os.path.join(order["folder"], "train.py")], order["folder"]
    keras.utils.set_random_seed(order["sweep_seed"])
    train: Any = importlib.import_module("train")
    data = train.load_data(**asked(train.load_data, **order["params"]))
    keras.utils.set_random_seed(order["seed"])
    model = train.build_model(**asked(train.build_model, data=data, **order["params"]))
    make_callbacks = getattr(train, "callbacks", None)
    given = {"data": data, "model": model, **order["params"]}
    own = make_callbacks(**asked(make_callbacks, **given)) if make_callbacks else []
    # Not before: they make Keras' default dtype policy, which the program may want to set.
    from kerasweep.workers.trainer.state.captures import StepState, read_handle
    from kerasweep.workers.trainer.state.digest import digest

    steps = StepState()
    with steps.listening(model):  # for the digest alone, which counts what the steps read and write
        seen = model.fit(
            **fed(data), callbacks=own, shuffle=False, verbose=0, **fit_arguments(data["train"], order["fit"])
        )
    history = {
        name: [float(value) for value in row] for name, row in seen.history.items() if np.size(row[0]) == 1
    }
    return {"history": history, "digest": digest(model, list(map(read_handle, steps.beyond(model))))}


def asked(function: Any, **values: Any) -> dict[str, Any]:
    """Return those of the values that a function has arguments for."""
    return {name: value for name, value in values.items() if name in inspect.signature(function).parameters}


def fed(data: dict[str, Any]) -> dict[str, Any]:
    """Return the data as `fit` takes them."""
    train = data["train"]
    names = ("x", "y", "sample_weight")
    found = dict(zip(names, train, strict=False)) if isinstance(train, tuple) else {"x": train}
    return {**found, "validation_data": data.get("validation")}


def fit_arguments(train: Any, fit: dict[str, Any]) -> dict[str, Any]:
    """Return what the sweep file says, without what a dataset says itself."""
    whole = isinstance(train, (tf.data.Dataset, keras.utils.PyDataset))
    return {name: value for name, value in fit.items() if not (whole and name == "batch_size")}


def in_a_fork(order: dict[str, Any]) -> str:
    """Return a line with a program's result."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            told = trained(order)
        except BaseException:  # noqa: BLE001 - the program may raise anything
            told = {"error": traceback.format_exc()[-2000:]}
        with os.fdopen(writer, "w") as out:
            out.write(json.dumps(told))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as lines:
        told = lines.read()
    os.waitpid(pid, 0)
    return told


if __name__ == "__main__":
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(in_a_fork(json.loads(line)), file=out, flush=True)
