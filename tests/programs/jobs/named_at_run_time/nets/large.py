import keras


def build(units):
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2 * units), keras.layers.Dense(1)])
