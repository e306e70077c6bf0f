"""A small convolutional net with two outputs, the digit and whether it is even, on images of 8×8 pixels."""

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def load_data():
    digits = load_digits()
    x, classes = digits.images.astype("float32")[..., None] / 16, digits.target
    x, xv, y, yv = train_test_split(x, classes, test_size=0.4, stratify=classes, random_state=0)
    return {"train": (x, (y, y % 2)), "validation": (xv, (yv, yv % 2))}


def build_model(learning_rate=0.01, digit_weight=1.0, even_weight=1.0):
    layers = keras.layers
    x = inputs = keras.Input((8, 8, 1))
    for filters in (8, 16):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Flatten()(x)
    digit = layers.Dense(10, activation="softmax", name="digit")(x)
    even = layers.Dense(2, activation="softmax", name="even")(x)
    model = keras.Model(inputs, [digit, even])
    loss = ["sparse_categorical_crossentropy"] * 2
    model.compile(keras.optimizers.Adam(learning_rate), loss, loss_weights=[digit_weight, even_weight])
    return model
