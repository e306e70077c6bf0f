"""Write layers and a model as classes of one's own, that save and load again.

`Linear` makes its weights when it first sees its input's shape, `MLPBlock` is a layer of layers,
`DigitReader` a model. Each is registered and returns its arguments from `get_config`: that is all
`keras.models.load_model` needs, once this file is imported. The images are scikit-learn's digits, 8×8. For
the usual larger set, change DATASET to "mnist": Keras then downloads its 70,000 images of 28×28 pixels once.
"""

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

DATASET = "digits"  # or "mnist"
IMAGE_SHAPE = {"digits": (8, 8), "mnist": (28, 28)}


@keras.saving.register_keras_serializable(package="subclassed")
class Linear(keras.layers.Layer):
    """y = x·W + b, with `units` outputs."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.w = self.add_weight(shape=(input_shape[-1], self.units), initializer="glorot_uniform", name="w")
        self.b = self.add_weight(shape=(self.units,), initializer="zeros", name="b")

    def call(self, inputs):
        return keras.ops.matmul(inputs, self.w) + self.b

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="subclassed")
class MLPBlock(keras.layers.Layer):
    """A stack of `depth` Linear layers of `units` outputs, each followed by relu."""

    def __init__(self, units, depth=2, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.depth = depth
        self.linears = [Linear(units) for _ in range(depth)]

    def build(self, input_shape):
        for linear in self.linears:
            linear.build(input_shape)
            input_shape = (*input_shape[:-1], self.units)

    def call(self, inputs):
        for linear in self.linears:
            inputs = keras.ops.relu(linear(inputs))
        return inputs

    def get_config(self):
        return {**super().get_config(), "units": self.units, "depth": self.depth}


@keras.saving.register_keras_serializable(package="subclassed")
class DigitReader(keras.Model):
    """Flatten → MLPBlock → Linear → softmax over the ten digits."""

    def __init__(self, units=64, depth=2, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.depth = depth
        self.flatten = keras.layers.Flatten()
        self.block = MLPBlock(units, depth)
        self.scores = Linear(10)

    def call(self, inputs):
        return keras.ops.softmax(self.scores(self.block(self.flatten(inputs))))

    def get_config(self):
        return {**super().get_config(), "units": self.units, "depth": self.depth}


def load_images():
    """All images, shape (n, height, width), with grey levels from 0 to 1, and their classes, shape (n,)."""
    if DATASET == "mnist":
        (images, classes), _ = keras.datasets.mnist.load_data()
        return images.astype("float32") / 255, classes
    digits = load_digits()
    return digits.images.astype("float32") / 16, digits.target


def load_data():
    """Training, validation and test part (64, 16 and 20 %), each with every class in the same proportion."""
    images, classes = load_images()
    x, x_test, y, y_test = train_test_split(images, classes, test_size=0.2, stratify=classes, random_state=0)
    x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
    return {"train": (x_train, y_train), "validation": (x_val, y_val), "test": (x_test, y_test)}


def build_model(learning_rate=0.003, units=64, depth=2):
    """A DigitReader, built for the shape of the images."""
    model = DigitReader(units, depth)
    model(keras.Input(IMAGE_SHAPE[DATASET]))  # a symbolic call builds every layer, before the first batch
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


if __name__ == "__main__":
    data = load_data()
    model = build_model()
    model.fit(*data["train"], validation_data=data["validation"], epochs=12, batch_size=32)
    print("test:", model.evaluate(*data["test"], verbose=0, return_dict=True))
