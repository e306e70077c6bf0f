"""Train with a step of one's own: clipped gradients, and a penalty that Keras' own step cannot compute.

The penalty is the squared slope of the loss along the input (Drucker and LeCun, "Double backpropagation",
1992): a small change of the image then changes the loss little. It takes a gradient inside a gradient, hence
two tapes. The images are scikit-learn's digits, 8×8. For the usual larger set, change DATASET to "mnist":
Keras then downloads its 70,000 images of 28×28 pixels once.
"""

import keras
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

DATASET = "digits"  # or "mnist"
IMAGE_SHAPE = {"digits": (8, 8), "mnist": (28, 28)}


@keras.saving.register_keras_serializable(package="custom_step")
class SmoothClassifier(keras.Model):
    """A dense classifier whose loss is flat around each image.

    Args:
        units: width of the hidden layer.
        slope_penalty: weight of the mean squared slope of the loss along the input; 0 for none.
        clip_norm: the longest that all gradients together may be; longer ones are scaled down.
    """

    def __init__(self, units=64, slope_penalty=0.01, clip_norm=1.0, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.slope_penalty = slope_penalty
        self.clip_norm = clip_norm
        self.flatten = keras.layers.Flatten()
        self.hidden = keras.layers.Dense(units, activation="relu")
        self.scores = keras.layers.Dense(10, activation="softmax")

    def call(self, inputs):
        return self.scores(self.hidden(self.flatten(inputs)))

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(x)
                predictions = self(x, training=True)
                loss = self.compute_loss(x, y, predictions, sample_weight)
            # The loss is a mean over the batch: times the batch size gives each image's own slope.
            slopes = inner.gradient(loss, x) * tf.cast(tf.shape(x)[0], x.dtype)
            penalty = tf.reduce_mean(tf.reduce_sum(tf.square(slopes), axis=[1, 2]))
            total = loss + self.slope_penalty * penalty
        gradients = outer.gradient(total, self.trainable_variables)
        gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm)
        self.optimizer.apply(gradients, self.trainable_variables)
        for metric in self.metrics:
            if metric.name == "loss":  # without the penalty, so that it compares with val_loss
                metric.update_state(loss)
        return self.compute_metrics(x, y, predictions, sample_weight)

    def get_config(self):
        own = {"units": self.units, "slope_penalty": self.slope_penalty, "clip_norm": self.clip_norm}
        return {**super().get_config(), **own}


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


def build_model(learning_rate=0.1, slope_penalty=0.01, clip_norm=1.0):
    """A SmoothClassifier, built for the shape of the images."""
    model = SmoothClassifier(slope_penalty=slope_penalty, clip_norm=clip_norm)
    model(keras.Input(IMAGE_SHAPE[DATASET]))  # a symbolic call builds every layer, before the first batch
    model.compile(
        optimizer=keras.optimizers.SGD(learning_rate, momentum=0.9),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


if __name__ == "__main__":
    data = load_data()
    model = build_model()
    model.fit(*data["train"], validation_data=data["validation"], epochs=12, batch_size=32)
    print("test:", model.evaluate(*data["test"], verbose=0, return_dict=True))
