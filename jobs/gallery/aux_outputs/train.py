"""Help a convolutional net learn with an auxiliary output: losses, their weights and metrics by output name.

A second softmax half-way up gives the lower layers a loss of their own, close by (Szegedy et al., "Going
Deeper with Convolutions", 2014). It serves training only: main_output.py cuts the winner down to its main
output. The images are scikit-learn's digits, 8×8. For the usual larger set, change DATASET to "mnist": Keras
then downloads its 70,000 images of 28×28 pixels once.
"""

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

DATASET = "digits"  # or "mnist"
IMAGE_SHAPE = {"digits": (8, 8, 1), "mnist": (28, 28, 1)}


def load_images():
    """All images, shape (n, height, width, 1), with grey levels from 0 to 1, and their classes."""
    if DATASET == "mnist":
        (images, classes), _ = keras.datasets.mnist.load_data()
        return images[..., None].astype("float32") / 255, classes
    digits = load_digits()
    return digits.images[..., None].astype("float32") / 16, digits.target


def load_data():
    """Training, validation and test part; both outputs have the same classes to learn."""
    images, classes = load_images()
    x, x_test, y, y_test = train_test_split(images, classes, test_size=0.2, stratify=classes, random_state=0)
    x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
    return {
        "train": (x_train, {"main": y_train, "aux": y_train}),
        "validation": (x_val, {"main": y_val, "aux": y_val}),
        "test": (x_test, {"main": y_test, "aux": y_test}),
    }


def build_model(learning_rate=0.003, aux_weight=0.3, filters=16):
    """Two convolutions and a pooling between them; `aux` reads the first, `main` the last."""
    image = keras.Input(IMAGE_SHAPE[DATASET], name="image")
    low = keras.layers.Conv2D(filters, 3, padding="same", activation="relu")(image)
    low = keras.layers.MaxPooling2D()(low)
    high = keras.layers.Conv2D(2 * filters, 3, padding="same", activation="relu")(low)
    high = keras.layers.Dense(64, activation="relu")(keras.layers.Flatten()(high))
    main = keras.layers.Dense(10, activation="softmax", name="main")(high)
    aux = keras.layers.Dense(10, activation="softmax", name="aux")(keras.layers.Flatten()(low))
    model = keras.Model(image, {"main": main, "aux": aux})
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss={"main": "sparse_categorical_crossentropy", "aux": "sparse_categorical_crossentropy"},
        loss_weights={"main": 1.0, "aux": aux_weight},
        metrics={"main": ["accuracy"], "aux": ["accuracy"]},
    )
    return model


if __name__ == "__main__":
    data = load_data()
    model = build_model()
    model.fit(*data["train"], validation_data=data["validation"], epochs=8, batch_size=32)
    print("test:", model.evaluate(*data["test"], verbose=0, return_dict=True))
