"""Ray Tune, over the same trials, two at once."""

import os
import sys

import ray
from ray import tune
from work import Work, report


def train(params):
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    tune.report({"val_loss": Work(params["plan"]).train(params["trial"])})


if __name__ == "__main__":
    path = os.path.abspath(sys.argv[1])
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": os.path.dirname(os.path.abspath(__file__))}},
    )
    space = {"plan": path, "trial": tune.grid_search(Work(path).trials)}
    results = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(max_concurrent_trials=2),
        run_config=tune.RunConfig(verbose=0),
    ).fit()
    report([result.metrics["val_loss"] for result in results])
