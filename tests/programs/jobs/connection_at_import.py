"""An SQLite connection created at import, which belongs to one thread, is read later."""
#: params: [{rate: 0.01}, {rate: 0.1}]

import sqlite3

import keras
import numpy as np

TABLE = sqlite3.connect(":memory:")
TABLE.execute("create table points (a real, b real, c real)")
TABLE.executemany("insert into points values (?, ?, ?)", [(k % 7 / 7, k % 5 / 5, k % 3) for k in range(120)])


def load_data():
    x = np.array(TABLE.execute("select a, b, c from points").fetchall(), "float32")
    TABLE.execute("create table used (a real)")
    return {"train": (x[:90], x[:90, :1]), "validation": (x[90:], x[90:, :1])}


def build_model(rate=0.05):
    TABLE.execute("select count(*) from used").fetchone()
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model
