"""Random streams: the same for the same names in any process, different for different names."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kerasweep.jobs import seeds

sweep_seeds = st.integers(0, 2**63)
small = st.integers(0, 10**6)


def test_never_change() -> None:
    """A sweep resumed by a later version must continue with the same numbers: these must never change."""
    assert seeds.trial_seed(7, 0) == 1048831037
    assert seeds.epoch_seed(1048831037, 1) == 224763474
    assert seeds.suggestion_rng(7, 3).integers(0, 10**9, 3).tolist() == [58073328, 796130137, 341660267]
    assert seeds.epoch_order(1048831037, 2, 8).tolist() == [5, 7, 0, 1, 4, 2, 3, 6]


def test_are_the_same_in_another_process() -> None:
    code = (
        "from kerasweep.jobs import seeds; print(seeds.trial_seed(7, 5), seeds.epoch_order(3, 1, 5).tolist())"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert other.stdout.strip() == f"{seeds.trial_seed(7, 5)} {seeds.epoch_order(3, 1, 5).tolist()}"


@given(sweep_seeds, small)
def test_fit_what_keras_and_the_records_take(sweep_seed: int, trial: int) -> None:
    assert 0 <= seeds.trial_seed(sweep_seed, trial) < 2**31
    assert 0 <= seeds.epoch_seed(sweep_seed, trial) < 2**31


def test_differ_from_trial_to_trial_and_from_epoch_to_epoch() -> None:
    assert len({seeds.trial_seed(7, trial) for trial in range(1000)}) == 1000
    assert len({seeds.epoch_seed(7, epoch) for epoch in range(1000)}) == 1000
    orders = {tuple(seeds.epoch_order(7, epoch, 20)) for epoch in range(1, 100)}
    assert len(orders) == 99, "seeded `fit(shuffle=True)` repeats one order in every epoch; this must not"


def test_purposes_have_streams_of_their_own() -> None:
    assert seeds.trial_seed(7, 1) != seeds.epoch_seed(7, 1)
    assert seeds.trial_seed(1, 11) != seeds.trial_seed(11, 1)


@given(small, st.integers(1, 1000), st.integers(0, 300))
def test_an_order_is_a_permutation(seed: int, epoch: int, samples: int) -> None:
    order = seeds.epoch_order(seed, epoch, samples)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(samples))
    assert (order == np.random.default_rng([seed, epoch]).permutation(samples)).all()
