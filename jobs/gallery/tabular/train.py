"""Tell malignant from benign tumours in a table: binary cross-entropy, class weights, judged by AUC.

The data are scikit-learn's breast cancer set: 30 measurements of 569 tumours, of which 212 are malignant.
The sweep file gives the class weights, which are an argument of `model.fit`.
"""

import keras
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler


def load_data():
    """Training, validation and test part; class 1 is malignant.

    The scaler learns from the training part alone.
    """
    features, benign = load_breast_cancer(return_X_y=True)
    malignant = (1 - benign).astype("float32").reshape(-1, 1)
    x, x_test, y, y_test = train_test_split(
        features, malignant, test_size=0.2, stratify=malignant, random_state=1
    )
    x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=0.25, stratify=y, random_state=1)
    fitted = StandardScaler().fit(x_train)

    def part(x, y):
        return fitted.transform(x).astype("float32"), y

    return {"train": part(x_train, y_train), "validation": part(x_val, y_val), "test": part(x_test, y_test)}


def build_model(learning_rate=0.003, units=32, dropout=0.2):
    """Two hidden layers with Dropout between, and the probability that a tumour is malignant.

    AUC, the area under the ROC curve, asks only whether malignant tumours get the higher probabilities:
    unlike the accuracy it depends neither on a threshold nor on how many there are of each.
    """
    model = keras.Sequential(
        [
            keras.Input((30,)),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dropout(dropout),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss="binary_crossentropy",
        metrics=[
            keras.metrics.AUC(name="auc"),
            keras.metrics.Recall(name="recall"),
            keras.metrics.BinaryAccuracy(name="accuracy"),
        ],
    )
    return model


if __name__ == "__main__":
    data = load_data()
    model = build_model()
    model.fit(
        *data["train"],
        validation_data=data["validation"],
        epochs=15,
        batch_size=32,
        class_weight={0: 1.0, 1: 2.0},
    )
    print("test:", model.evaluate(*data["test"], verbose=0, return_dict=True))
