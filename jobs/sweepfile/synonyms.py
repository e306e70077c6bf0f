"""Names that other tools use for the keys and values of a sweep file, and their names here."""

from __future__ import annotations


def _means(word: str, *others: str) -> dict[str, str]:
    return dict.fromkeys(others, f"did you mean '{word}'?")


_COMPILED = "it belongs to model.compile: make it an argument of build_model, and sweep it under `parameters`"
_LOADED = "load_data returns the data for it, under 'validation'"
_PY_DATASET = "it belongs to the constructor of your PyDataset, in load_data"

#: Under `training`.
TRAINING: dict[str, str] = {
    **_means("epochs", "max_epochs", "num_epochs", "n_epochs", "nb_epoch", "num_train_epochs", "iterations"),
    **_means("batch_size", "batchsize", "batch", "bs", "minibatch_size", "mini_batch_size"),
    **_means("xla", "jit_compile", "jit"),
    **_means("learning_rate_schedule", "lr_schedule", "lr_scheduler", "scheduler", "schedule"),
    **_means("early_stopping", "early_stop", "earlystopping"),
    **_means("reduce_on_plateau", "reduce_lr", "reduce_lr_on_plateau"),
    **dict.fromkeys(
        (
            "optimizer", "loss", "loss_weights", "metrics", "weighted_metrics", "learning_rate", "lr",
            "run_eagerly", "auto_scale_loss", "weight_decay", "momentum", "clipnorm",
        ),
        _COMPILED,
    ),
    "steps_per_execution": "it belongs to model.compile in build_model, and changes the speed alone",
    "validation_data": _LOADED,
    "validation_split": "split in load_data: return {'train': (x[n:], y[n:]), 'validation': (x[:n], y[:n])}",
    "validation_freq": "leave it out: the sweep's metric is needed after every epoch",
    "sample_weight": "load_data returns it as the third value of a part: (x, y, sample_weight)",
    "initial_epoch": "leave it out: a trial begins at its first epoch, and resumes automatically",
    "verbose": "leave it out: `kerasweep watch` and `kerasweep logs` show the progress",
    "callbacks": "return them from a function `callbacks` in the job",
    "patience": "`patience` belongs under `early_stopping` or `reduce_on_plateau`",
    **dict.fromkeys(("workers", "use_multiprocessing", "max_queue_size"), _PY_DATASET),
}  # fmt: skip

#: Top-level keys.
SWEEP: dict[str, str] = {
    **_means(
        "parameters",
        "params",
        "space",
        "search_space",
        "hyperparameters",
        "hyperparams",
        "config",
        "param_space",
    ),
    **_means(
        "method", "algorithm", "search", "search_alg", "search_algorithm", "sampler", "tuner", "strategy"
    ),
    **_means("metric", "objective", "monitor"),
    **_means("job", "program", "script", "entrypoint", "train_script"),
    **_means("files", "data", "data_files", "include"),
    **dict.fromkeys(
        ("num_trials", "n_trials", "num_samples", "run_cap", "trials", "max_evals", "count"),
        "write `budget: {max_trials: ...}`",
    ),
    **dict.fromkeys(("timeout", "time_budget", "max_time"), "write `budget: {max_hours: ...}`"),
    **dict.fromkeys(
        ("direction", "mode"), "write it as the metric's goal: `metric: {name: val_loss, goal: minimize}`"
    ),
    "validation_split": TRAINING["validation_split"],
    **_means("repeats", "seeds", "n_seeds", "num_seeds", "repetitions", "executions_per_trial", "n_repeats"),
    "early_terminate": "write `early_stopping` under `training`, which ends each trial separately",
    "retry": "write `retries: {max_failures: ...}`",
}

#: Names of the metric's keys.
METRIC: dict[str, str] = {
    **_means("goal", "direction", "mode", "objective"),
    **_means("name", "monitor", "metric"),
}

#: Search methods.
METHODS: dict[str, str] = {
    **_means("tpe", "bayes", "bayesian", "bayesian_optimization", "hyperopt", "optuna", "bohb"),
    **_means("grid", "grid_search", "gridsearch", "exhaustive"),
    **_means("random", "random_search", "randomsearch", "randomized"),
    **dict.fromkeys(
        ("hyperband", "asha", "halving", "successive_halving", "sha"),
        "it decides which trials continue: write `method: random` and `stopping: {halving: ...}`",
    ),
}

#: Keys of a distribution.
DISTRIBUTION_KEYS: dict[str, str] = {
    **_means("min", "low", "lower", "minimum", "min_value", "lower_bound", "from"),
    **_means("max", "high", "upper", "maximum", "max_value", "upper_bound", "to"),
    **_means("values", "choices", "choice", "options", "categories", "list", "grid"),
    **_means("distribution", "type", "dist", "sampling", "scale"),
    **_means("points", "num", "steps", "n"),
    "log": "write `distribution: log_uniform`, or int_log_uniform for whole numbers",
    "default": "leave it out: the argument's default in the job counts where no parameter gives it",
}

#: Distributions.
DISTRIBUTIONS: dict[str, str] = {
    **_means("log_uniform", "loguniform", "log_uniform_values", "log", "reverse_log", "log_float"),
    **_means("uniform", "float", "double", "real", "linear"),
    **_means("int_uniform", "randint", "int", "integer", "uniform_int", "intuniform"),
    **_means("int_log_uniform", "lograndint", "log_int", "int_loguniform", "loguniform_int"),
    **_means("q_uniform", "quniform", "qrandint", "discrete_uniform"),
    **_means("q_log_uniform", "qloguniform", "qlograndint", "q_log_uniform_values"),
    **dict.fromkeys(("choice", "categorical", "grid_search", "values"), "list them: `{values: [...]}`"),
    "constant": "write the value itself, or `{value: ...}`",
    **dict.fromkeys(
        ("normal", "randn", "gaussian", "lognormal", "log_normal", "truncated_normal", "q_normal"),
        "distributions have bounds here: write uniform or log_uniform with min and max",
    ),
}
