"""The output streams are inspected and configured at import, and written to in several ways."""
#: params: [{rate: 0.01}, {rate: 0.1}]

import contextlib
import io
import sys

import keras
import numpy as np

for stream in (sys.stdout, sys.stderr):
    stream.reconfigure(encoding="utf-8", errors="replace", line_buffering=True)
    if not isinstance(stream, io.TextIOBase) or not isinstance(stream.encoding, str) or stream.fileno() < 0:
        raise RuntimeError("a strange stream")
    if stream.closed or not stream.writable() or stream.isatty() not in (True, False) or not stream.name:
        raise RuntimeError("a strange stream")
    stream.writelines(["one ", "two\n"])
    stream.buffer.write("größer\n".encode())
    stream.buffer.flush()


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    with contextlib.redirect_stdout(io.StringIO()) as text:
        print("by hand")
    if text.getvalue() != "by hand\n":
        raise RuntimeError("redirected in vain")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    model.summary()
    return model
