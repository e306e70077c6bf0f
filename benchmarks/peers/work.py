"""The work of every peer: train one trial of a job with `model.fit`. Imports nothing of kerasweep."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import sys
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


class Work:
    """A job and its trials.

    Args:
        path: JSON with `job`, `trials` (a list of parameters), `epochs`, `batch_size` and `seed`.
    """

    def __init__(self, path: str) -> None:
        with open(path) as file:
            self.plan: dict[str, Any] = json.load(file)
        spec = importlib.util.spec_from_file_location("job", self.plan["job"])
        assert spec is not None
        assert spec.loader is not None
        self.job = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.job)
        self._data: dict[str, Any] | None = None

    @property
    def trials(self) -> list[dict[str, Any]]:
        """The parameters of each trial."""
        return list(self.plan["trials"])

    def train(self, params: dict[str, Any], more_callbacks: tuple[Any, ...] = ()) -> float:
        """Train one trial; return its best validation loss."""
        import keras

        if self._data is None:
            self._data = self.job.load_data()
        keras.utils.set_random_seed(self.plan["seed"])
        model = self.job.build_model(**taken(self.job.build_model, params))
        (x, y), validation = self._data["train"], self._data["validation"]
        history = model.fit(
            x,
            y,
            batch_size=self.plan["batch_size"],
            epochs=self.plan["epochs"],
            validation_data=validation,
            callbacks=[*self.job.callbacks(**taken(self.job.callbacks, params)), *more_callbacks],
            verbose=0,
        )
        return float(min(history.history["val_loss"]))


def report(values: list[float]) -> None:
    """Print what the benchmark parses: the best loss of each trial."""
    sys.stdout.write(json.dumps({"values": values}) + "\n")


def taken(function: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Return those parameters that a function takes."""
    return {name: value for name, value in params.items() if name in inspect.signature(function).parameters}
