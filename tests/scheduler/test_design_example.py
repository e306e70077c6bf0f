"""The sweep file and job of the design example, verbatim: a grid over a range, limited by its budget."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from kerasweep.jobs.code.program import check, read_program
from kerasweep.jobs.sweepfile.dimension import identity
from kerasweep.jobs.sweepfile.spec import SweepSpec, load_spec
from kerasweep.jobs.trial import TrialState
from kerasweep.scheduler.samplers import Observation, sampler_for

JOB = """\
# train.py — imports nothing of kerasweep
import keras

def load_data():
    (x, y), test = keras.datasets.fashion_mnist.load_data()
    ...
    return {"train": (x, y), "validation": (xv, yv), "test": (xt, yt)}   # "test" is optional

def build_model(learning_rate=0.01, units=100):
    model = keras.Sequential([...])
    model.compile(optimizer=keras.optimizers.SGD(learning_rate), loss="sparse_categorical_crossentropy",
                  metrics=["accuracy"])
    return model

def callbacks(patience=3):                                               # optional
    return [keras.callbacks.EarlyStopping(patience=patience, restore_best_weights=True)]
"""

SWEEP = """\
name: fashion-mlp
job: train.py
metric: {name: val_loss, goal: minimize}
method: grid                      # grid | random | tpe | (later) cmaes, …
parameters:
  learning_rate: {distribution: log_uniform, min: 1.0e-4, max: 0.1}
  units: {values: [50, 100]}
training:
  epochs: 30
  batch_size: 16                  # global, over all replicas
  learning_rate_schedule:         # a value may always be a distribution
    values: [constant, {step_decay: {every: 10, factor: 0.1}}, cosine]
  early_stopping: {monitor: val_loss, patience: {values: [2, 5]}, restore_best_weights: true}
seed: 7
budget: {max_trials: 32, max_hours: 2}
resources: {gpus: 1}              # per trial; 2 and more train under MirroredStrategy
retries: {max_failures: 3}        # per trial; preemptions and lost workers do not count
checkpoints: {every_s: 30, keep_top: 3}
"""


@pytest.fixture
def spec(tmp_path: Path) -> SweepSpec:
    (tmp_path / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
    (tmp_path / "train.py").write_text(JOB, encoding="utf-8")
    return load_spec(tmp_path / "sweep.yaml")


def test_the_file_is_a_grid_of_points_that_suits_its_job(spec: SweepSpec, tmp_path: Path) -> None:
    check(spec, read_program(tmp_path / spec.job))
    assert spec.method.name == "grid"
    rates = spec.space().dimensions["learning_rate"].grid()
    assert rates == (0.0001, 0.0005623413251903491, 0.0031622776601683794, 0.01778279410038923, 0.1)
    assert (spec.space().grid_size(), spec.planned_trials()) == (5 * 2 * 3 * 2, 32)
    assert SweepSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_its_32_trials_try_every_value_about_equally_often(spec: SweepSpec) -> None:
    trials = [suggestion.params for suggestion in sampler_for(spec).suggest([], 32)]
    for name, dimension in spec.space().dimensions.items():
        often = Counter(identity(params[name]) for params in trials)
        assert len(often) == len(dimension.grid() or ())
        assert max(often.values()) - min(often.values()) <= 2


def test_its_trials_stay_when_it_is_extended_to_the_whole_grid(spec: SweepSpec) -> None:
    first = sampler_for(spec).suggest([], 32)
    trials = [Observation(number, one.params, TrialState.QUEUED) for number, one in enumerate(first)]
    rest = sampler_for(spec).suggest(trials, 60 - 32)
    points = {identity(one.params) for one in [*first, *rest]}
    assert points == set(map(identity, spec.space().grid()))
    assert first[0].reason == "point 1 of 60, from all over the grid"


def test_its_ranges_may_say_how_many_points(spec: SweepSpec, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP.replace("max: 0.1", "max: 0.1, points: 4"), encoding="utf-8")
    finer = load_spec(tmp_path / "sweep.yaml")
    assert finer.space().dimensions["learning_rate"].grid() == (0.0001, 0.001, 0.01, 0.1)
    assert SweepSpec.model_validate(finer.model_dump(mode="json")) == finer != spec
