"""Classify Fashion-MNIST, 28×28 images of clothes, with a small dense network.

Keras downloads the set once (30 MB) and keeps it in ~/.keras/datasets (or under KERAS_HOME).
"""

import keras

HELD_OUT = 5_000  # images for validation, out of the 60,000 for training


def load_data():
    """Training, validation and test images, shape (n, 28, 28), with grey levels from 0 to 1, and classes."""
    try:
        (x, y), (x_test, y_test) = keras.datasets.fashion_mnist.load_data()
    except Exception as error:  # Keras raises a bare Exception when a download fails
        raise RuntimeError(
            "Fashion-MNIST must be downloaded once, and its files could not be had: "
            f"{type(error).__name__}: {error}. Connect to a network and run again (delete a broken download "
            "first), or put the four files into ~/.keras/datasets/fashion-mnist (under KERAS_HOME if set). "
            "The job 'mlp' of the gallery needs no network."
        ) from error
    if len(x) <= HELD_OUT:
        raise ValueError(
            f"Fashion-MNIST must hold more than the {HELD_OUT:,} images kept for validation, got {len(x):,}. "
            "Delete datasets/fashion-mnist in ~/.keras (or KERAS_HOME), so that it is downloaded anew."
        )
    x, x_test = x.astype("float32") / 255, x_test.astype("float32") / 255
    return {
        "train": (x[HELD_OUT:], y[HELD_OUT:]),
        "validation": (x[:HELD_OUT], y[:HELD_OUT]),
        "test": (x_test, y_test),
    }


def build_model(learning_rate=0.1, first_units=100, second_units=50):
    """Flatten → Dense relu → Dense relu → Dense softmax, one probability for each of the ten classes."""
    model = keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Flatten(),
            keras.layers.Dense(first_units, activation="relu"),
            keras.layers.Dense(second_units, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.SGD(learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


if __name__ == "__main__":
    data = load_data()
    model = build_model()
    model.fit(*data["train"], validation_data=data["validation"], epochs=6, batch_size=128)
    print("test:", model.evaluate(*data["test"], verbose=0, return_dict=True))
