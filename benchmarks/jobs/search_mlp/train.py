"""A classifier of the 1,797 digits that scikit-learn ships, with one dropout layer."""

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def load_data():
    digits = load_digits()
    x, classes = digits.data.astype("float32") / 16, digits.target
    x, xv, y, yv = train_test_split(x, classes, test_size=0.25, stratify=classes, random_state=0)
    return {"train": (x, y), "validation": (xv, yv)}


def build_model(learning_rate=0.01, momentum=0.0, dropout=0.0, units=64):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(units, activation="relu"),
            layers.Dropout(dropout),
            layers.Dense(units // 2, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    optimizer = keras.optimizers.SGD(learning_rate, momentum=momentum)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
