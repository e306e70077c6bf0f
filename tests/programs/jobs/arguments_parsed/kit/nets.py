import keras

COLUMNS = 3
NETS = {}


def net(function):
    NETS[function.__name__] = function
    return function


@net
def one():
    return keras.Sequential([keras.Input((COLUMNS,)), keras.layers.Dense(1)])


@net
def two():
    return keras.Sequential([keras.Input((COLUMNS,)), keras.layers.Dense(2), keras.layers.Dense(1)])
