"""Every random stream of a sweep, from (sweep seed, trial, purpose, epoch).

A stream depends on nothing else: not on the machine, the order of events or the number of attempts.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def trial_seed(sweep_seed: int, trial: int) -> int:
    """Return the trial's seed, 31 bits, for `keras.utils.set_random_seed`."""
    return _derive("trial", sweep_seed, trial) & 0x7FFF_FFFF


def repeat_seed(sweep_seed: int, repeat: int) -> int:
    """Return the seed of every variant's repeat `repeat`: the same for all, so that they can be compared."""
    return _derive("repeat", sweep_seed, repeat) & 0x7FFF_FFFF


def fresh_seed(sweep_seed: int, repeat: int) -> int:
    """Return a seed under which the best of a sweep are trained again; none of the sweep's own is equal."""
    return _derive("certify", sweep_seed, repeat) & 0x7FFF_FFFF


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the 31-bit seed of the process-wide generators at the start of an epoch (from 1)."""
    return _derive("epoch", seed, epoch) & 0x7FFF_FFFF


def suggestion_rng(sweep_seed: int, trial: int) -> np.random.Generator:
    """Return the generator that a search method draws trial `trial` from."""
    return np.random.default_rng(_derive("suggestion", sweep_seed, trial))


def method_rng(sweep_seed: int, method: str, part: int = 0) -> np.random.Generator:
    """Return the generator that a search method draws what several trials share from."""
    return np.random.default_rng(_derive(method, sweep_seed, part))


def grid_number(sweep_seed: int, *place: int) -> int:
    """Return the 64-bit number that shuffles a grid at a given position."""
    return _derive("grid", sweep_seed, *place)


def epoch_order(seed: int, epoch: int, samples: int) -> NDArray[np.int64]:
    """Return the order of the training samples in an epoch.

    Seeded `fit(shuffle=True)` repeats one permutation in every epoch, so kerasweep draws its own order.

    Args:
        seed: the trial's seed.
        epoch: the epoch, from 1.
        samples: the number of samples.

    Returns:
        A permutation of `range(samples)`, int64.
    """
    return np.random.default_rng([seed, epoch]).permutation(samples)


def _derive(purpose: str, *numbers: int) -> int:
    text = ":".join([purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
