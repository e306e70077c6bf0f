"""KerasTuner's Hyperband."""

import sys
import tempfile

import keras
import keras_tuner
from searched import Searched

if __name__ == "__main__":
    job = Searched(sys.argv[1])
    keras.utils.set_random_seed(job.seed)

    def build(hp):
        return job.build(
            {
                name: hp.Choice(name, space["values"])
                if "values" in space
                else hp.Float(
                    name,
                    space["min"],
                    space["max"],
                    sampling="log" if "log" in space["distribution"] else "linear",
                )
                for name, space in job.plan["space"].items()
            }
        )

    with tempfile.TemporaryDirectory() as folder:
        tuner = keras_tuner.Hyperband(
            build,
            objective=keras_tuner.Objective(job.metric, "min"),
            max_epochs=job.epochs,
            factor=3,
            hyperband_iterations=100,
            seed=job.seed,
            directory=folder,
        )
        tuner.search(**job.data(), callbacks=[job.stopwatch()], verbose=0)
