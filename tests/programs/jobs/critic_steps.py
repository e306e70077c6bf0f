"""A WGAN: several steps of the critic for one of the generator, a gradient penalty, files by a monitor."""
#: params: [{times: 2}]
#: spec: {metric: {name: d_loss, goal: minimize}}

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import ops


class WGAN(keras.Model):
    def __init__(self, critic, generator, times, latent=2, weight=10.0):
        super().__init__()
        self.critic, self.generator = critic, generator
        self.times, self.latent, self.weight = times, latent, weight

    def compile(self, d_optimizer, g_optimizer, d_loss_fn, g_loss_fn):
        super().compile()
        self.d_optimizer, self.g_optimizer = d_optimizer, g_optimizer
        self.d_loss_fn, self.g_loss_fn = d_loss_fn, g_loss_fn

    def penalty(self, real, fake):
        share = keras.random.uniform((tf.shape(real)[0], 1), 0.0, 1.0)
        between = real + share * (fake - real)
        with tf.GradientTape() as tape:
            tape.watch(between)
            said = self.critic(between, training=True)
        gradient = tape.gradient(said, [between])[0]
        return ops.mean((ops.sqrt(ops.sum(ops.square(gradient), axis=1) + 1e-9) - 1.0) ** 2)

    def train_step(self, real):
        if isinstance(real, tuple):
            real = real[0]
        rows = tf.shape(real)[0]
        for _ in range(self.times):
            latent = keras.random.normal((rows, self.latent))
            with tf.GradientTape() as tape:
                fake = self.generator(latent, training=True)
                cost = self.d_loss_fn(self.critic(real, training=True), self.critic(fake, training=True))
                d_loss = cost + self.weight * self.penalty(real, fake)
            weights = self.critic.trainable_variables
            self.d_optimizer.apply_gradients(zip(tape.gradient(d_loss, weights), weights))
        with tf.GradientTape() as tape:
            g_loss = self.g_loss_fn(
                self.critic(self.generator(keras.random.normal((rows, self.latent)), training=True))
            )
        weights = self.generator.trainable_variables
        self.g_optimizer.apply_gradients(zip(tape.gradient(g_loss, weights), weights))
        return {"d_loss": d_loss, "g_loss": g_loss}


class Monitor(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        made = self.model.generator(np.ones((2, 2), "float32"))
        np.save(f"generated_{epoch}.npy", np.asarray(made))
        found = sorted(Path().glob("generated_*.npy"))
        if len(found) != epoch + 1:
            raise RuntimeError(f"files of another trial, or not all of this one's: {found}")


def load_data():
    return {"train": np.random.default_rng(1).normal(size=(90, 3)).astype("float32")}


def build_model(times=1):
    critic = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4),
            keras.layers.LeakyReLU(0.2),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(1),
        ]
    )
    generator = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(4, use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(3),
        ]
    )
    model = WGAN(critic, generator, times)
    adam = lambda: keras.optimizers.Adam(0.01, beta_1=0.5)  # noqa: E731
    model.compile(
        adam(), adam(), lambda real, fake: ops.mean(fake) - ops.mean(real), lambda fake: -ops.mean(fake)
    )
    return model


def callbacks():
    return [Monitor()]
