"""Steps a second of bare packs, by their width, beside `fit`: no worker, records or callbacks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import tensorflow as tf
from gpu_parts import HERE, Bench, Findings

from kerasweep.jobs.seeds import epoch_order
from kerasweep.workers.trainer.graph.graphs import Graph, Loops, Material
from kerasweep.workers.trainer.graph.stepping import Cut
from kerasweep.workers.trainer.hardware import Devices
from kerasweep.workers.trainer.job.data import Arrays, read_data
from kerasweep.workers.trainer.job.source import JobSource
from kerasweep.workers.trainer.pack.programs import Bound, Programs
from kerasweep.workers.trainer.pack.resident import Resident
from kerasweep.workers.trainer.state.checkpoint import build_optimizer

WIDTHS = (1, 2, 4, 8, 16, 32)
_BATCH, _STEPS, _ROUNDS = 32, 96, 3


def measure(bench: Bench, findings: Findings) -> None:
    """Measure a dense and a convolutional net; what fails is a row that says so."""
    devices = Devices()
    findings.note(unit="steps a second of all trials together", batch=_BATCH, device=devices.description)
    names = ("mlp",) if bench.small else ("mlp", "cnn")
    for name in names:
        net = _Net(name, devices.kind)
        for cells in _rows(net, (1, 2) if bench.small else WIDTHS):
            findings.row(net=name, **cells)


def _rows(net: _Net, widths: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    yield _timed({"way": "fit", "width": 1}, net.fit)
    for way, xla in (("pack", False), ("pack, XLA", True)):
        for width in widths:
            yield _timed({"way": way, "width": width}, lambda width=width, xla=xla: net.pack(width, xla))


def _timed(cells: dict[str, Any], run: Any) -> dict[str, Any]:
    try:
        return cells | run()
    except Exception as exc:  # noqa: BLE001 - whatever fails is a row of the report
        return cells | {"error": f"{type(exc).__name__}: {exc}"[:300]}


class _Net:
    """A net of the benchmarks, its data on the device, and its programs.

    Args:
        name: mlp or cnn.
        kind: GPU or CPU.
    """

    def __init__(self, name: str, kind: str) -> None:
        self._job = JobSource(HERE / "jobs" / name, "train.py")
        data = read_data(self._job.call("load_data", {})).train
        assert isinstance(data, Arrays)
        self._device = f"{kind}:0"
        self._rows, self._count = Resident(self._device).tensors(data), data.rows
        self._data, self._programs = data, Programs(1 << 30)
        self._models: list[keras.Model] = []

    def fit(self) -> dict[str, Any]:
        """Time Keras' own `fit`, after an epoch that warms it up."""
        model, rows = self._model(0), _STEPS * _BATCH
        part = keras.tree.map_structure(lambda array: array[:rows], (self._data.x, self._data.y))
        best_s = float("inf")
        for _ in range(_ROUNDS + 1):
            begun_s = time.perf_counter()
            model.fit(*part, batch_size=_BATCH, verbose=0)
            best_s = min(best_s, time.perf_counter() - begun_s)
        return {"steps_s": round(_STEPS / best_s)}

    def pack(self, width: int, xla: bool) -> dict[str, Any]:
        """Time a pack, each trial in a thread; the first round compiles."""
        begun_s = time.perf_counter()
        bounds = [self._bound(number, xla) for number in range(width)]
        with tf.device(self._device):
            orders = [tf.constant(epoch_order(number, 1, self._count)) for number in range(width)]

        def train(number: int) -> None:
            bounds[number].train.run(self._rows, orders[number], 0, _STEPS)
            tf.test.experimental.sync_devices()

        best_s, first_s = float("inf"), 0.0
        with ThreadPoolExecutor(width) as threads:
            for _ in range(_ROUNDS + 1):
                started_s = time.perf_counter()
                list(threads.map(train, range(width)))
                best_s = min(best_s, time.perf_counter() - started_s)
                first_s = first_s or time.perf_counter() - begun_s
        return {"steps_s": round(width * _STEPS / best_s), "first_s": round(first_s, 2)}

    def _model(self, number: int) -> keras.Model:
        while len(self._models) <= number:
            keras.utils.set_random_seed(len(self._models))
            model = self._job.call("build_model", {"learning_rate": 0.001 * (len(self._models) + 1)})
            build_optimizer(model)
            self._models.append(model)
        return self._models[number]

    def _bound(self, number: int, xla: bool) -> Bound:
        cut = Cut(self._count, _BATCH, ordered=True)
        material = Material(self._model(number), lambda: None, lambda: None, self._rows, cut, None, None)
        return self._programs.bind(material, _Always(xla))


class _Always:
    def __init__(self, xla: bool) -> None:
        self._xla = xla

    def wants_xla(self, graph: Graph, material: Material) -> bool:
        return self._xla

    def __call__(self, graph: Graph, material: Material) -> Loops:
        return graph.loops(self._xla, material)
