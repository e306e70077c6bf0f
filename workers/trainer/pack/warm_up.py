"""Does everything that is slow the first time in a process on a tiny model before the first trial."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import keras
import numpy as np

from kerasweep.workers.trainer.graph.graphs import Graph, Kinds, Loops, Material
from kerasweep.workers.trainer.graph.stepping import Cut
from kerasweep.workers.trainer.job.data import Arrays
from kerasweep.workers.trainer.job.seeding import PROCESS_RANDOM, seed_everything
from kerasweep.workers.trainer.pack.programs import Programs
from kerasweep.workers.trainer.pack.resident import Resident
from kerasweep.workers.trainer.pack.xla_choice import try_out
from kerasweep.workers.trainer.state.checkpoint import build_optimizer

log = logging.getLogger(__name__)

_ROWS = 4


def warm_up(gpu: bool) -> None:
    """Build, trace, compile with XLA and save a tiny model; if that fails, the first trial will report it."""
    try:
        with PROCESS_RANDOM:
            seed_everything(0, kernels=False)
            _train_tiny_model(Resident("GPU:0" if gpu else "CPU:0"))
    except Exception:
        log.warning("warming up failed", exc_info=True)


def _train_tiny_model(resident: Resident) -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(), "mse", metrics=["mae"])
    build_optimizer(model)
    rows = np.zeros((_ROWS, 1), np.float32)
    data = resident.tensors(Arrays(rows, rows, None, _ROWS))
    train, test = Cut(_ROWS, 2, ordered=True), Cut(_ROWS, 2, ordered=False)
    Programs(0, Kinds()).bind(
        Material(model, lambda: None, lambda: None, data, train, data, test), _Compiling()
    )
    with tempfile.TemporaryDirectory(prefix="kerasweep-") as folder:
        model.save(Path(folder) / "model.keras")


class _Compiling:
    def wants_xla(self, graph: Graph, material: Material) -> bool:
        return True

    def __call__(self, graph: Graph, material: Material) -> Loops:
        try_out(graph, material, xla=False)
        return try_out(graph, material, xla=True)
