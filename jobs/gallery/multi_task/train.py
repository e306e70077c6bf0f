"""Learn two tasks with one trunk, each with its own loss and metrics.

The data are scikit-learn's 178 Italian wines. From twelve chemical measurements the model tells which of
three cultivars a wine is made of (a class) and how much alcohol it holds (a number).
"""

import keras
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler


def load_data():
    """Training, validation and test part; the targets are a dict by task.

    The scaler learns from the training part alone.
    """
    wine = load_wine()
    alcohol, measurements = wine.data[:, :1], wine.data[:, 1:]  # the first column is percents
    x, x_test, a, a_test, c, c_test = train_test_split(
        measurements, alcohol, wine.target, test_size=0.2, stratify=wine.target, random_state=0
    )
    x_train, x_val, a_train, a_val, c_train, c_val = train_test_split(
        x, a, c, test_size=0.25, stratify=c, random_state=0
    )
    fitted = StandardScaler().fit(x_train)

    def part(x, alcohol, cultivar):
        targets = {"cultivar": cultivar, "alcohol": alcohol.astype("float32")}
        return fitted.transform(x).astype("float32"), targets

    return {
        "train": part(x_train, a_train, c_train),
        "validation": part(x_val, a_val, c_val),
        "test": part(x_test, a_test, c_test),
    }


def build_model(learning_rate=0.003, alcohol_weight=0.5, units=32):
    """A trunk of two hidden layers with two heads, `cultivar` and `alcohol`."""
    measurements = keras.Input((12,), name="measurements")
    trunk = keras.layers.Dense(units, activation="relu")(measurements)
    trunk = keras.layers.Dense(units, activation="relu")(trunk)
    cultivar = keras.layers.Dense(3, activation="softmax", name="cultivar")(trunk)
    # A wine has about 13 % of alcohol: starting there spares the trunk from learning the mean first.
    alcohol = keras.layers.Dense(1, bias_initializer=keras.initializers.Constant(13.0), name="alcohol")(trunk)
    model = keras.Model(measurements, {"cultivar": cultivar, "alcohol": alcohol})
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss={"cultivar": "sparse_categorical_crossentropy", "alcohol": "mse"},
        loss_weights={"cultivar": 1.0, "alcohol": alcohol_weight},
        metrics={"cultivar": ["accuracy"], "alcohol": ["mae"]},
    )
    return model


if __name__ == "__main__":
    data = load_data()
    model = build_model()
    model.fit(*data["train"], validation_data=data["validation"], epochs=30, batch_size=16)
    print("test:", model.evaluate(*data["test"], verbose=0, return_dict=True))
