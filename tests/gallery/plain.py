"""Trains gallery entries as plain Keras programs, in a child process of the tests.

    python plain.py

Reads folders, one in a line, and prints a line of JSON for each: the history, that of the same job with the
targets of other rows, the modules of kerasweep that were loaded, and how far the predictions of the saved and
loaded model are from the model's.
"""

import importlib.util
import json
import sys
from pathlib import Path

import keras
import numpy as np
import yaml


def shuffled(part):
    """Return the same inputs with the targets of other rows."""
    x, y = part
    order = np.random.default_rng(0).permutation(len(keras.tree.flatten(y)[0]))
    return x, keras.tree.map_structure(lambda array: array[order], y)


def fitted(train, training, part, validation, epochs):
    """Build the job's model, fit it, and return it with its history."""
    keras.utils.set_random_seed(7)
    model = train.build_model()
    fit = model.fit(
        *part,
        validation_data=validation,
        epochs=epochs,
        batch_size=training["batch_size"],
        class_weight=training.get("class_weight"),
        callbacks=train.callbacks() if hasattr(train, "callbacks") else None,
        verbose=0,
    )
    return model, fit.history


def trained(folder):
    """Train the job in a folder, and report on it."""
    keras.utils.clear_session()
    spec = importlib.util.spec_from_file_location("train", folder / "train.py")
    train = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(train)
    training = yaml.safe_load((folder / "sweep.yaml").read_text(encoding="utf-8"))["training"]
    data = train.load_data()
    epochs = training["epochs"]
    model, history = fitted(train, training, data["train"], data["validation"], epochs)
    model.save(folder / "model.keras")
    loaded = keras.models.load_model(folder / "model.keras")
    apart = keras.tree.map_structure(
        lambda one, other: float(np.abs(one - other).max()),
        model.predict(data["test"][0], verbose=0),
        loaded.predict(data["test"][0], verbose=0),
    )
    ours = sorted(name for name in sys.modules if name.partition(".")[0] == "kerasweep")
    # a few epochs show that there is nothing to learn
    _, broken = fitted(train, training, shuffled(data["train"]), data["validation"], max(2, epochs // 4))
    return {
        "history": history,
        "broken": broken,
        "kerasweep": ours,
        "apart": max(keras.tree.flatten(apart)),
    }


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(trained(Path(line.strip()))), flush=True)
