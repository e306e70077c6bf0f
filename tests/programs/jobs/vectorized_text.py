"""Text in a shuffled dataset, vectorized by a layer that `build_model` adapts to the data it was given."""

import keras
import numpy as np
import tensorflow as tf

WORDS = ["red", "green", "blue", "fish", "cat", "dog", "tree", "house", "sun", "moon"]


def load_data():
    rng = np.random.default_rng(0)
    texts = np.array([" ".join(rng.choice(WORDS, 6)) for _ in range(120)])
    labels = np.array(["cat" in text for text in texts]).astype("float32")

    def rows(start, stop):
        rows = tf.data.Dataset.from_tensor_slices((texts[start:stop], labels[start:stop]))
        return rows.shuffle(50, seed=3).batch(16)

    return {"train": rows(0, 90), "validation": rows(90, 120)}


def build_model(data):
    words = keras.layers.TextVectorization(max_tokens=50, output_sequence_length=6)
    words.adapt(data["train"].map(lambda text, label: text))
    model = keras.Sequential(
        [
            keras.Input((), dtype="string"),
            words,
            keras.layers.Embedding(50, 8, mask_zero=True),
            keras.layers.GRU(8),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile("rmsprop", "binary_crossentropy", metrics=["accuracy", keras.metrics.AUC(curve="PR")])
    return model
