"""Train one entry of the gallery as any Keras program is trained, in a child of the tests.

    python plain.py FOLDER [--broken]

Prints one JSON line: the history, the modules of kerasweep that were loaded, and how far the predictions of
the saved and loaded model are from the model's.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import yaml


def shuffled(part):
    """The same inputs with the targets of other rows."""
    x, y = part
    order = np.random.default_rng(0).permutation(len(keras.tree.flatten(y)[0]))
    return x, keras.tree.map_structure(lambda array: array[order], y)


def main(folder, broken):
    sys.path.insert(0, str(folder))
    import train

    training = yaml.safe_load((folder / "sweep.yaml").read_text(encoding="utf-8"))["training"]
    data = train.load_data()
    keras.utils.set_random_seed(7)
    model = train.build_model()
    history = model.fit(
        *(shuffled(data["train"]) if broken else data["train"]),
        validation_data=data["validation"],
        epochs=training["epochs"],
        batch_size=training["batch_size"],
        class_weight=training.get("class_weight"),
        callbacks=train.callbacks() if hasattr(train, "callbacks") else None,
        verbose=0,
    ).history
    model.save(folder / "model.keras")
    loaded = keras.models.load_model(folder / "model.keras")
    apart = keras.tree.map_structure(
        lambda one, other: float(np.abs(one - other).max()),
        model.predict(data["test"][0], verbose=0),
        loaded.predict(data["test"][0], verbose=0),
    )
    ours = sorted(name for name in sys.modules if name.partition(".")[0] == "kerasweep")
    print(json.dumps({"history": history, "kerasweep": ours, "apart": max(keras.tree.flatten(apart))}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--broken" in sys.argv[2:])
