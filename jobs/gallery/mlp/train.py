"""Classify handwritten digits with a small dense network: the sweep that everyone starts with.

The digits are the 1,797 images of 8×8 pixels that scikit-learn ships, so nothing is downloaded. For the
usual larger set, change DATASET to "fashion_mnist": Keras then downloads its 70,000 images of 28×28 pixels
once.
"""

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

DATASET = "digits"  # or "fashion_mnist"
IMAGE_SHAPE = {"digits": (8, 8), "fashion_mnist": (28, 28)}


def load_images():
    """All images, shape (n, height, width), with grey levels from 0 to 1, and their classes, shape (n,)."""
    if DATASET == "fashion_mnist":
        (images, classes), _ = keras.datasets.fashion_mnist.load_data()
        return images.astype("float32") / 255, classes
    digits = load_digits()
    return digits.images.astype("float32") / 16, digits.target


def load_data():
    """Training, validation and test part (64, 16 and 20 %), each with every class in the same proportion."""
    images, classes = load_images()
    x, x_test, y, y_test = train_test_split(images, classes, test_size=0.2, stratify=classes, random_state=0)
    x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
    return {"train": (x_train, y_train), "validation": (x_val, y_val), "test": (x_test, y_test)}


def build_model(learning_rate=0.1, first_units=100, second_units=50):
    """Flatten → Dense relu → Dense relu → Dense softmax, one probability for each of the ten classes."""
    model = keras.Sequential(
        [
            keras.Input(IMAGE_SHAPE[DATASET]),
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
    model.fit(*data["train"], validation_data=data["validation"], epochs=20, batch_size=16)
    print("test:", model.evaluate(*data["test"], verbose=0, return_dict=True))
