"""Predict a number from a table with a wide and a deep path: two named inputs, joined before the output.

The wide path hands some features straight to the output, the deep path learns from others in hidden layers
(Cheng et al., "Wide & Deep Learning for Recommender Systems", 2016). The table is scikit-learn's diabetes
set: how far the disease went within a year, for 442 patients. For the usual larger set, the prices of 20,640
Californian districts, change DATASET to "california": scikit-learn then downloads it once.
"""

import keras
from sklearn.datasets import fetch_california_housing, load_diabetes
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler, StandardScaler

DATASET = "diabetes"  # or "california"
SCALERS = {"standard": StandardScaler, "minmax": MinMaxScaler}
WIDE = slice(None, 5)  # the first five features; a feature may take both paths
DEEP = slice(2, None)  # all but the first two
DEEP_WIDTH = {"diabetes": 8, "california": 6}


def load_table():
    """Features, shape (n, 10 or 8), and target, shape (n, 1), in hundreds (or 100,000 dollars)."""
    if DATASET == "california":
        try:
            features, target = fetch_california_housing(return_X_y=True)
        except OSError as error:
            raise RuntimeError(
                f"California housing must be downloaded once, and could not be had: {error}. "
                'Connect to a network, or set DATASET = "diabetes", which needs none.'
            ) from error
        return features, target.reshape(-1, 1)
    features, target = load_diabetes(return_X_y=True, scaled=False)
    return features, target.reshape(-1, 1) / 100


def load_data(scaler="minmax"):
    """Training, validation and test part, the inputs as a dict by name.

    The scaler learns its means or bounds from the training part alone: what it learned from the other two
    would make them look better than new data will.
    """
    features, target = load_table()
    x, x_test, y, y_test = train_test_split(features, target, test_size=0.2, random_state=0)
    x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=0.2, random_state=0)
    fitted = SCALERS[scaler]().fit(x_train)

    def part(x, y):
        scaled = fitted.transform(x).astype("float32")
        return {"wide_in": scaled[:, WIDE], "deep_in": scaled[:, DEEP]}, y.astype("float32")

    return {"train": part(x_train, y_train), "validation": part(x_val, y_val), "test": part(x_test, y_test)}


def build_model(learning_rate=0.01, units=16):
    """Two inputs → (two hidden layers on the deep one) → Concatenate → one number."""
    wide_in = keras.Input((5,), name="wide_in")
    deep_in = keras.Input((DEEP_WIDTH[DATASET],), name="deep_in")
    hidden = keras.layers.Dense(units, activation="relu")(deep_in)
    hidden = keras.layers.Dense(units, activation="relu")(hidden)
    joined = keras.layers.Concatenate()([wide_in, hidden])
    output = keras.layers.Dense(1, name="output")(joined)
    model = keras.Model({"wide_in": wide_in, "deep_in": deep_in}, output)
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss="mse",
        metrics=[keras.metrics.RootMeanSquaredError(name="rmse")],
    )
    return model


if __name__ == "__main__":
    data = load_data()
    model = build_model()
    model.fit(*data["train"], validation_data=data["validation"], epochs=30, batch_size=32)
    print("test:", model.evaluate(*data["test"], verbose=0, return_dict=True))
