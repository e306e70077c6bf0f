"""A conditional GAN whose nets learn their shapes from the data; two optimizers given to compile."""
#: params: [{rate: 0.01}, {rate: 0.05}]
#: training: {epochs: 3}
#: spec: {metric: {name: loss, goal: minimize}}

import keras
import numpy as np
import tensorflow as tf
from keras import ops


class Duel(keras.Model):
    def __init__(self):
        super().__init__()
        self.maker = keras.Sequential([keras.layers.Dense(4, "relu"), keras.layers.Dense(3)])
        self.judge = keras.Sequential([keras.layers.Dense(4, "relu"), keras.layers.Dense(1)])
        self.noise = keras.random.SeedGenerator(5)

    def compile(self, maker_optimizer, judge_optimizer):
        super().compile()
        self.maker_optimizer, self.judge_optimizer = maker_optimizer, judge_optimizer

    def train_step(self, data):
        real, label = data
        label = ops.one_hot(label, 2)
        drawn = keras.random.normal((tf.shape(real)[0], 2), seed=self.noise)
        with tf.GradientTape(persistent=True) as tape:
            made = self.judge(ops.concatenate([self.maker(ops.concatenate([drawn, label], 1)), label], 1))
            known = self.judge(ops.concatenate([real, label], 1))
            wrong = ops.mean(ops.softplus(made) + ops.softplus(-known))
            caught = ops.mean(ops.softplus(-made))
        pairs = ((wrong, self.judge, self.judge_optimizer), (caught, self.maker, self.maker_optimizer))
        for loss, net, optimizer in pairs:
            optimizer.apply(tape.gradient(loss, net.trainable_variables), net.trainable_variables)
        return {"loss": wrong, "caught": caught}


def load_data():
    x = np.random.default_rng(1).normal(size=(90, 3)).astype("float32")
    return {"train": (x, (x.sum(1) > 0).astype("int32"))}


def build_model(rate=0.05):
    model = Duel()
    model.compile(keras.optimizers.Adam(rate), keras.optimizers.SGD(rate))
    return model
