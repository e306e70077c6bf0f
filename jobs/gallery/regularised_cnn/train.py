"""Keep a convolutional net from overfitting: batch normalisation, dropout and L2, with their strengths swept.

The images are scikit-learn's digits, 8×8. For the usual larger set, change DATASET to "cifar10": Keras then
downloads its 60,000 colour images of 32×32 pixels once.
"""

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

DATASET = "digits"  # or "cifar10"
IMAGE_SHAPE = {"digits": (8, 8, 1), "cifar10": (32, 32, 3)}


def load_images():
    """All images, shape (n, height, width, channels), with values from 0 to 1, and their classes."""
    if DATASET == "cifar10":
        (images, classes), _ = keras.datasets.cifar10.load_data()
        return images.astype("float32") / 255, classes.ravel()
    digits = load_digits()
    return digits.images[..., None].astype("float32") / 16, digits.target


def load_data():
    """Training, validation and test part (64, 16 and 20 %), each with every class in the same proportion."""
    images, classes = load_images()
    x, x_test, y, y_test = train_test_split(images, classes, test_size=0.2, stratify=classes, random_state=0)
    x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
    return {"train": (x_train, y_train), "validation": (x_val, y_val), "test": (x_test, y_test)}


def convolve(x, filters, l2):
    """Convolution → BatchNormalization → relu → MaxPooling.

    The normalisation stands before the activation, as Ioffe and Szegedy put it (2015); it adds an offset of
    its own, so the convolution needs no bias.
    """
    x = keras.layers.Conv2D(
        filters, 3, padding="same", use_bias=False, kernel_regularizer=keras.regularizers.L2(l2)
    )(x)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)  # few steps an epoch: forget the first ones sooner
    x = keras.layers.Activation("relu")(x)
    return keras.layers.MaxPooling2D()(x)


def build_model(learning_rate=0.003, dropout=0.3, l2=1e-4):
    """Two convolutional blocks, then Dropout before the softmax."""
    image = keras.Input(IMAGE_SHAPE[DATASET])
    x = convolve(image, 16, l2)
    x = convolve(x, 32, l2)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dropout(dropout)(x)
    output = keras.layers.Dense(10, activation="softmax", kernel_regularizer=keras.regularizers.L2(l2))(x)
    model = keras.Model(image, output)
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def callbacks(patience=4):
    """Stop when the validation accuracy no longer grows, and keep the best weights."""
    return [
        keras.callbacks.EarlyStopping(
            monitor="val_accuracy", mode="max", patience=patience, restore_best_weights=True
        )
    ]


if __name__ == "__main__":
    data = load_data()
    model = build_model()
    model.fit(
        *data["train"],
        validation_data=data["validation"],
        epochs=12,
        batch_size=32,
        callbacks=callbacks(),
    )
    print("test:", model.evaluate(*data["test"], verbose=0, return_dict=True))
