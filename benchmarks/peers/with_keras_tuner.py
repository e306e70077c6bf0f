"""KerasTuner, over the same grid."""

import sys
import tempfile

import keras_tuner
from work import Work, report


class Grid(keras_tuner.HyperModel):
    """Trains a trial with the job's own functions."""

    def __init__(self, work):
        super().__init__()
        self.work = work

    def build(self, hp):
        import keras

        for name in self.work.trials[0]:
            hp.Choice(name, sorted({params[name] for params in self.work.trials}))
        return keras.Sequential()

    def fit(self, hp, model, *args, **kwargs):
        return self.work.train({name: hp.get(name) for name in self.work.trials[0]})


if __name__ == "__main__":
    work = Work(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        tuner = keras_tuner.GridSearch(Grid(work), max_trials=len(work.trials), directory=folder)
        tuner.search(verbose=0)
        trials = tuner.oracle.get_best_trials(len(work.trials))
        report([trial.score for trial in trials])
