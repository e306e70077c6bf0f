"""What the peers search: a job, its space, and a log of its epochs. Imports nothing of kerasweep."""

from __future__ import annotations

import time
from typing import Any

from work import Work, taken


class Searched(Work):
    """A job and the space to search.

    Args:
        path: JSON as for `Work`, with `space`, `metric` and `log` instead of `trials`: by parameter `values`,
            or `distribution` (uniform or log_uniform), `min` and `max`; the metric to minimize; the file for
            the times.
    """

    @property
    def metric(self) -> str:
        """The metric to minimize."""
        return str(self.plan["metric"])

    @property
    def epochs(self) -> int:
        """The most epochs of a trial."""
        return int(self.plan["epochs"])

    @property
    def seed(self) -> int:
        """Of the search."""
        return int(self.plan["seed"])

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Return a point, drawn by a trial of Optuna's."""
        return {
            name: trial.suggest_categorical(name, space["values"])
            if "values" in space
            else trial.suggest_float(name, space["min"], space["max"], log="log" in space["distribution"])
            for name, space in self.plan["space"].items()
        }

    def data(self) -> dict[str, Any]:
        """Return the job's data: x, y and validation data, as `fit` takes them."""
        if self._data is None:
            self._data = self.job.load_data()
        (x, y), validation = self._data["train"], self._data["validation"]
        return {"x": x, "y": y, "validation_data": validation, "batch_size": self.plan["batch_size"]}

    def build(self, params: dict[str, Any]) -> Any:
        """Return a compiled model."""
        return self.job.build_model(**taken(self.job.build_model, params))

    def fit(self, params: dict[str, Any], *callbacks: Any) -> float:
        """Train a trial; return its best value."""
        model = self.build(params)
        done = model.fit(
            **self.data(), epochs=self.epochs, callbacks=[self.stopwatch(), *callbacks], verbose=0
        )
        return float(min(done.history[self.metric]))

    def stopwatch(self) -> Any:
        """Return a callback that notes when each epoch ended, and its value."""
        import keras

        class Stopwatch(keras.callbacks.Callback):
            def __init__(self, log: str, metric: str) -> None:
                super().__init__()
                self.log, self.metric = log, metric

            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                with open(self.log, "a") as file:
                    file.write(f"{time.time()} {logs[self.metric]}\n")

        return Stopwatch(self.plan["log"], self.metric)
