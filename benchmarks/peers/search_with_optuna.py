"""Optuna's TPE with its Hyperband pruner, in two processes that share a journal file."""

import subprocess
import sys

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from searched import Searched

PROCESSES = 2


def search(path, number):
    """Search until the process is ended."""
    import keras

    job = Searched(path)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    keras.utils.set_random_seed(job.seed + number)

    class Prune(keras.callbacks.Callback):
        def __init__(self, trial):
            super().__init__()
            self.trial = trial

        def on_epoch_end(self, epoch, logs=None):
            self.trial.report(logs[job.metric], epoch + 1)
            if self.trial.should_prune():
                raise optuna.TrialPruned

    study = optuna.create_study(
        study_name="search",
        storage=JournalStorage(JournalFileBackend(f"{path}.journal")),
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=job.seed + number, constant_liar=True),
        pruner=optuna.pruners.HyperbandPruner(min_resource=1, max_resource=job.epochs, reduction_factor=3),
    )
    study.optimize(lambda trial: job.fit(job.suggest(trial), Prune(trial)))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        search(sys.argv[1], int(sys.argv[2]))
    else:
        command = [sys.executable, __file__, sys.argv[1]]
        others = [subprocess.Popen([*command, str(number)]) for number in range(PROCESSES)]
        sys.exit(max(other.wait() for other in others))
