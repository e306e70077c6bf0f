"""A trial's layers, read from its model file without TensorFlow and without running any of the job's code."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kerasweep.jobs.store.models import TrialRecord
from kerasweep.scheduler.client import wording
from kerasweep.scheduler.client.sweep import Sweep

_LARGEST_FILE, _LARGEST_CONFIG = 256 << 20, 8 << 20
_MOST_LAYERS, _DEEPEST = 500, 8
#: What describes a layer's computation; names, initial values and the like are omitted.
_TOLD = (
    "units", "filters", "kernel_size", "strides", "padding", "pool_size", "activation", "rate", "axis",
    "input_dim", "output_dim", "num_heads", "key_dim", "batch_shape", "target_shape", "n", "momentum",
)  # fmt: skip


@dataclass(frozen=True)
class LayerRow:
    """One layer of a model file.

    Args:
        name: its name.
        kind: its class.
        depth: its nesting level.
        shape: the shape of its input, if recorded.
        told: a description of its computation.
    """

    name: str
    kind: str
    depth: int
    shape: str
    told: str


@dataclass(frozen=True)
class LayerTable:
    """The layers of a model, or why they are not shown."""

    rows: tuple[LayerRow, ...]
    why: str = ""


def layers_of(sweep: Sweep, trial: TrialRecord) -> LayerTable:
    """Return the layers of a trial's model file.

    Raises:
        Damaged: the file does not match its recorded digest.
        OutOfReach: the artifacts do not respond.
    """
    ref = sweep.model_of(trial)
    if ref is None:
        return LayerTable((), "Shown once the trial has a model on record.")
    if not ref.key.endswith(".keras"):
        return LayerTable((), "The model is stored as weights, which only its job can turn into a model.")
    if ref.bytes > _LARGEST_FILE:
        return LayerTable((), f"The model takes {wording.size(ref.bytes)}, too much to inspect here.")
    return read_layers(sweep.client.artifacts.get(ref.key, ref.sha256))


def read_layers(data: bytes) -> LayerTable:
    """Return the layers that a `.keras` file holds."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            if file.getinfo("config.json").file_size > _LARGEST_CONFIG:
                return LayerTable((), "The model's description is too long to be shown here.")
            config = json.loads(file.read("config.json"))
        rows = []
        for row in _walk(_parts(config), 0):
            rows.append(row)
            if len(rows) == _MOST_LAYERS:
                break
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return LayerTable((), "The model file has no description that can be read here.")
    return LayerTable(tuple(rows), "" if rows else "The model file does not list its layers.")


def _parts(config: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else None
    return layers if isinstance(layers, list) else []


def _walk(layers: Iterable[Mapping[str, Any]], depth: int) -> Iterator[LayerRow]:
    for layer in layers:
        inner = layer.get("config", {})
        built = layer.get("build_config") or {}
        shape = built.get("input_shape") or inner.get("batch_shape")
        told = [f"{name}={_text(inner[name])}" for name in _TOLD if inner.get(name) is not None]
        yield LayerRow(
            str(inner.get("name", layer.get("name", ""))),
            str(layer.get("class_name", "")),
            depth,
            _text(shape) if shape else "",
            ", ".join(told),
        )
        if depth < _DEEPEST:
            yield from _walk(_parts(layer), depth + 1)


def _text(given: Any) -> str:
    if isinstance(given, list):
        return "(" + ", ".join("None" if one is None else _text(one) for one in given) + ")"
    if isinstance(given, dict):
        return str(given.get("class_name", "…"))
    return wording.value(given)
