"""Optuna, over the same grid."""

import sys

import optuna
from work import Work, report

if __name__ == "__main__":
    work = Work(sys.argv[1])
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    grid: dict[str, list[object]] = {}
    for params in work.trials:
        for name, value in params.items():
            known = grid.setdefault(name, [])
            if value not in known:
                known.append(value)
    study = optuna.create_study(sampler=optuna.samplers.GridSampler(grid, seed=0))
    study.optimize(
        lambda trial: work.train({name: trial.suggest_categorical(name, grid[name]) for name in grid}),
        n_trials=len(work.trials),
    )
    report([trial.value for trial in study.trials])
