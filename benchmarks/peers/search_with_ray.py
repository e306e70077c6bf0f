"""Ray Tune's random search with ASHA, a core a trial."""

import os
import sys

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from searched import Searched

TRIALS = 10_000


def train(params):
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras

    job = Searched(params.pop("plan"))
    keras.utils.set_random_seed(job.seed + params.pop("number"))

    class Report(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            tune.report({job.metric: logs[job.metric]})

    job.fit(params, Report())


def space_of(job):
    """Return the space in Ray's terms."""
    kinds = {"uniform": tune.uniform, "log_uniform": tune.loguniform}
    return {
        name: tune.choice(space["values"])
        if "values" in space
        else kinds[space["distribution"]](space["min"], space["max"])
        for name, space in job.plan["space"].items()
    }


if __name__ == "__main__":
    path = os.path.abspath(sys.argv[1])
    here = os.path.dirname(os.path.abspath(__file__))
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": here}},
    )
    job = Searched(path)
    tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space={**space_of(job), "plan": path, "number": tune.randint(0, 2**16)},
        tune_config=tune.TuneConfig(
            num_samples=TRIALS,
            max_concurrent_trials=2,
            reuse_actors=True,  # a new process imports TensorFlow for each trial
            scheduler=ASHAScheduler(
                metric=job.metric, mode="min", max_t=job.epochs, grace_period=1, reduction_factor=3
            ),
        ),
        run_config=tune.RunConfig(verbose=0),
    ).fit()
