"""Python attributes of a model and its layers that change during the training, such as a stage or a count.

A traced step has of them what they were when it was traced, whatever they are now. So they belong to the
state twice: as they are, and as they were at the first trace, which a resumed trial has to repeat.
"""

from __future__ import annotations

import contextlib
import functools
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from kerasweep.workers.trainer.job.source import is_job_class
from kerasweep.workers.trainer.state.digest import optimizers_of

#: The attributes of each part, by its place.
Snapshot = list[dict[str, Any]]

_LARGEST_BYTES, _MOST_ITEMS, _DEPTH = 1 << 16, 1_000, 4
_TRAINABLE = "trainable"


class OwnAttributes:
    """The attributes of one trial's model, beginning as `build_model` left them.

    Args:
        model: compiled and built.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._first = self._present()
        self._traced: dict[str, Snapshot] = {}
        self._inside = False

    @contextmanager
    def tracing(self, *steps: str) -> Iterator[None]:
        """Let a trace of steps find the attributes that their first trace found."""
        if self._inside:
            yield
            return
        now = self._present()
        self._inside = True
        try:
            if steps[0] not in self._traced:
                self._traced |= dict.fromkeys(steps, now)
                yield
            else:
                self._put(self._traced[steps[0]])
                yield
                self._put(now)
        finally:
            self._inside = False

    def forget_traces(self) -> None:
        """Let the next trace of each step be its first one."""
        self._traced = {}

    def saved(self) -> dict[str, Any]:
        """Return what differs from the attributes that `build_model` left, in plain containers."""
        traced = {step: self._changed(found) for step, found in self._traced.items()}
        return {"now": self._changed(self._present()), "traced": traced}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Take what `saved` returned, for a model that was built and has not been trained."""
        self._traced = {step: self._whole(changed) for step, changed in saved["traced"].items()}
        self._put(self._whole(saved["now"]))

    def _parts(self) -> list[Any]:
        own = [self._model.loss, *optimizers_of(self._model)]
        layers = self._model._flatten_layers(include_self=False)
        return [self._model, *layers, *(part for part in own if is_job_class(type(part)))]

    def _present(self) -> Snapshot:
        return [_attributes_of(part) for part in self._parts()]

    def _put(self, wanted: Snapshot) -> None:
        for part, present, attributes in zip(self._parts(), self._present(), wanted, strict=False):
            for name, value in attributes.items():
                if name not in present or _mark(present[name]) != _mark(value):
                    with contextlib.suppress(AttributeError):  # a property without a setter
                        setattr(part, name, _copied(value))

    def _changed(self, found: Snapshot) -> dict[int, dict[str, Any]]:
        changed = {}
        for place, (present, first) in enumerate(zip(found, self._first, strict=False)):
            different = {
                name: value
                for name, value in present.items()
                if name not in first or _mark(first[name]) != _mark(value)
            }
            if different:
                changed[place] = different
        return changed

    def _whole(self, changed: Mapping[int, Mapping[str, Any]]) -> Snapshot:
        return [{**first, **changed.get(place, {})} for place, first in enumerate(self._first)]


def _attributes_of(part: Any) -> dict[str, Any]:
    own = is_job_class(type(part))
    found = {
        name: _copied(value)
        for name, value in vars(part).items()
        if name not in _of_keras() and (own or not name.startswith("_")) and _is_plain(value)
    }
    if isinstance(part, keras.Layer):
        found[_TRAINABLE] = part.trainable
    return found


@functools.cache
def _of_keras() -> frozenset[str]:
    """Return the names of what Keras itself keeps in a model, a layer and an optimizer."""
    model = _Bare()
    model.compile("sgd", "mse")
    return frozenset(
        {"stop_evaluating", "stop_predicting", *vars(model), *vars(keras.Layer()), *vars(model.optimizer)}
    )


class _Bare(keras.Model):
    """A model of which all attributes are Keras' own."""


def _is_plain(value: Any, depth: int = 0) -> bool:
    if value is None or isinstance(value, (bool, int, float, str, np.generic)):
        return True
    if isinstance(value, np.ndarray):
        return value.nbytes <= _LARGEST_BYTES and not value.dtype.hasobject
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if not isinstance(value, (list, tuple)) or len(value) > _MOST_ITEMS or depth > _DEPTH:
        return False
    return all(_is_plain(item, depth + 1) for item in value)


def _copied(value: Any) -> Any:
    """Return a plain value in new containers; Keras keeps lists and mappings in types that it tracks."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, Mapping):
        return {name: _copied(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return tuple(_copied(item) for item in value) if type(value) is tuple else value


def _mark(value: Any) -> bytes:
    return pickle.dumps(value)
