"""An optimizer of the job's own wraps another one (Lookahead), with slow weights beside the fast."""
#: params: [{rate: 0.05}, {rate: 0.1}]
#: training: {epochs: 3}

import keras
import numpy as np
from keras import ops


class Lookahead(keras.optimizers.Optimizer):
    def __init__(self, inner, every=2, share=0.5, **kwargs):
        super().__init__(learning_rate=float(inner.learning_rate), name="lookahead")
        self.inner, self.every, self.share = inner, every, share

    def build(self, variables):
        if not self.built:
            self.inner.build(variables)
            super().build(variables)
            self.slow = [self.add_variable_from_reference(v, "slow", initializer="zeros") for v in variables]

    def apply(self, gradients, variables=None):
        if variables is not None:
            self.build(variables)
        self.inner.apply(gradients, variables)
        self.iterations.assign_add(1)
        due = ops.cast(ops.equal(self.iterations % self.every, 0), "float32")
        for slow, fast in zip(self.slow, self._trainable_variables):
            mixed = slow + due * self.share * (fast - slow)
            slow.assign(mixed)
            fast.assign(due * mixed + (1 - due) * fast)
        return self.iterations


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    model.compile(Lookahead(keras.optimizers.Adam(rate)), "mse")
    return model
