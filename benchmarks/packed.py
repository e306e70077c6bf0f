"""The raw speed of a pack: the benchmark MLP, many trials, without worker, records and callbacks.

    python benchmarks/packed.py TRIALS STEPS ROUNDS

Prints microseconds per step and trial, the best of the rounds, on the cores that this process may use.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf
from compare import HERE

from kerasweep.jobs.seeds import epoch_order
from kerasweep.workers.trainer.graph.graphs import Graph, Loops, Material
from kerasweep.workers.trainer.graph.stepping import Cut
from kerasweep.workers.trainer.hardware import Devices
from kerasweep.workers.trainer.job.data import Arrays, read_data
from kerasweep.workers.trainer.job.source import JobSource
from kerasweep.workers.trainer.pack.programs import Bound, Programs
from kerasweep.workers.trainer.pack.resident import Resident
from kerasweep.workers.trainer.state.checkpoint import build_optimizer

BATCH = 16


def main() -> None:
    """Measure and print."""
    trials, steps, rounds = (int(word) for word in sys.argv[1:4])
    cores = len(os.sched_getaffinity(0))
    Devices(threads=cores)
    job = JobSource(HERE / "jobs" / "mlp", "train.py")
    data = read_data(job.call("load_data", {})).train
    assert isinstance(data, Arrays)
    resident, programs = Resident("CPU:0"), Programs(1 << 30)
    rows = resident.tensors(data)
    bounds = []
    for number in range(trials):
        keras.utils.set_random_seed(number)
        model = job.call("build_model", {"learning_rate": 0.01 * (number + 1)})
        build_optimizer(model)
        bounds.append((programs.bind(_material(model, rows, data.rows), _WithXla()), model))
    orders = [tf.constant(epoch_order(number, 1, data.rows)) for number in range(trials)]

    def train(number: int) -> None:
        bound: Bound = bounds[number][0]
        bound.train.run(rows, orders[number], 0, steps)

    best_s = float("inf")
    with ThreadPoolExecutor(min(trials, 2 * cores)) as threads:
        for _ in range(rounds + 1):  # the first one compiles
            started_s = time.perf_counter()
            list(threads.map(train, range(trials)))
            best_s = min(best_s, time.perf_counter() - started_s)
    sys.stdout.write(json.dumps({"us": best_s / steps / trials * 1e6}) + "\n")


def _material(model: keras.Model, rows: Any, count: int) -> Material:
    cut = Cut(count, BATCH, ordered=True)
    return Material(model, lambda: None, lambda: None, rows, cut, None, None)


class _WithXla:
    def wants_xla(self, graph: Graph, material: Material) -> bool:
        return True

    def __call__(self, graph: Graph, material: Material) -> Loops:
        return graph.loops(True, material)


if __name__ == "__main__":
    main()
