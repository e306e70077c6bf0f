"""Plain values that change during the training, such as a stage or a count: Python attributes of a model and
its layers, and what the job's modules, classes and functions hold.

A traced step has of them what they were when it was traced, whatever they are now. So they belong to the
state twice: as they are, and as they were at the first trace, which a resumed trial has to repeat.
"""

from __future__ import annotations

import contextlib
import functools
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from kerasweep.workers.trainer.job.source import is_job_class
from kerasweep.workers.trainer.state.digest import optimizers_of
from kerasweep.workers.trainer.state.holders import Holder
from kerasweep.workers.trainer.state.state_writer import is_stored

#: The values of each part: those of the model by number, holders by name.
Snapshot = dict[int | str, dict[str, Any]]

_LARGEST_BYTES, _MOST_ITEMS, _DEPTH = 1 << 16, 1_000, 4
_TRACKING = ("keras.", "tensorflow.")
_TRAINABLE = "trainable"
_ABSENT = object()


class OwnAttributes:
    """The plain values of one trial, beginning as `build_model` and `callbacks` left them.

    Args:
        model: compiled and built.
        holders: what else has values, by name.
    """

    def __init__(self, model: keras.Model, holders: Mapping[str, Holder] | None = None) -> None:
        self._model, self._holders = model, holders or {}
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
            first = steps[0] not in self._traced
            self._traced = {**dict.fromkeys(steps, now), **self._traced}
            if first:
                yield
            else:
                self._put(self._traced[steps[0]])
                self._bare(self._traced[steps[0]])
                yield
                self._put(now)
        finally:
            self._inside = False

    def forget_traces(self, steps: Sequence[str]) -> None:
        """Let the next trace of each of the steps be its first one."""
        for step in steps:
            self._traced.pop(step, None)

    def alike(self, *steps: str) -> bool:
        """Whether traces of the steps find the same attributes."""
        now = self._present()
        return len({_mark(self._traced.get(step, now)) for step in steps}) == 1

    def saved(self) -> dict[str, Any]:
        """Return what differs from the values at the beginning, in plain containers."""
        traced = {step: self._changed(found) for step, found in self._traced.items()}
        return {"now": self._changed(self._present()), "traced": traced}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Take what `saved` returned, for a model that was built and has not been trained."""
        self._traced = {step: self._whole(changed) for step, changed in saved["traced"].items()}
        self._put(self._whole(saved["now"]))

    def _parts(self) -> dict[int | str, Any]:
        own = [self._model.loss, *optimizers_of(self._model)]
        layers = self._model._flatten_layers(include_self=False)
        parts = [self._model, *layers, *(part for part in own if is_job_class(type(part)))]
        found: dict[int | str, Any] = dict(enumerate(parts))
        found.update(self._holders)
        return found

    def _present(self) -> Snapshot:
        return {place: _values_of(part) for place, part in self._parts().items()}

    def _put(self, wanted: Snapshot) -> None:
        for place, part in self._parts().items():
            present = _all_of(part)
            for name, value in wanted.get(place, {}).items():
                found = present.get(name, _ABSENT)
                # What has become more than plain, such as a list that was empty, is saved elsewhere.
                if found is _ABSENT or (is_plain(found) and _mark(_copied(found)) != _mark(value)):
                    _put_value(part, name, _copied(value))

    def _bare(self, wanted: Snapshot) -> None:
        """Remove what has since been set where the class has the value."""
        for place, part in self._parts().items():
            if isinstance(part, Holder):
                continue
            for name in vars(part).keys() & _values_of(part).keys() - wanted.get(place, {}).keys():
                if hasattr(type(part), name):
                    delattr(part, name)

    def _changed(self, found: Snapshot) -> Snapshot:
        changed = {}
        for place, present in found.items():
            first = self._first.get(place, {})
            different = {
                name: value
                for name, value in present.items()
                if name not in first or _mark(first[name]) != _mark(value)
            }
            if different:
                changed[place] = different
        return changed

    def _whole(self, changed: Mapping[int | str, Mapping[str, Any]]) -> Snapshot:
        return {place: {**first, **changed.get(place, {})} for place, first in self._first.items()}


def _values_of(part: Any) -> dict[str, Any]:
    return {name: _copied(value) for name, value in _all_of(part).items() if is_plain(value)}


def _all_of(part: Any) -> dict[str, Any]:
    if isinstance(part, Holder):
        return part.values()
    own = is_job_class(type(part))
    found = {
        name: value
        for name, value in vars(part).items()
        if name not in _of_keras() and (own or not name.startswith("_"))
    }
    if isinstance(part, keras.Layer):
        found[_TRAINABLE] = part.trainable
    return found


def _put_value(part: Any, name: str, value: Any) -> None:
    if isinstance(part, Holder):
        part.put(name, value)
    else:
        with contextlib.suppress(AttributeError):  # a property without a setter
            setattr(part, name, value)


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


def is_plain(value: Any, depth: int = 0) -> bool:
    """Tell whether a value is a number, a text or a small container of them."""
    if isinstance(value, np.generic):
        return not value.dtype.hasobject
    if value is None or isinstance(value, (bool, int, float, str)):
        return True
    if isinstance(value, np.ndarray):
        return value.nbytes <= _LARGEST_BYTES and is_stored(value)
    if not _is_of_plain_kind(value):
        return False
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if not isinstance(value, (list, tuple)) or len(value) > _MOST_ITEMS or depth > _DEPTH:
        return False
    return all(is_plain(item, depth + 1) for item in value)


def _is_of_plain_kind(value: Any) -> bool:
    """Tell whether a value is a list or a mapping, or what Keras makes of one that a layer has."""
    kind = type(value)
    return kind in (list, dict) or isinstance(value, tuple) or kind.__module__.startswith(_TRACKING)


def _copied(value: Any) -> Any:
    """Return a plain value in new containers; Keras keeps lists and mappings in types that it tracks."""
    if isinstance(value, (np.ndarray, np.void)):
        return value.copy()
    if isinstance(value, Mapping):
        return {name: _copied(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return tuple(_copied(item) for item in value) if type(value) is tuple else value


def _mark(value: Any) -> bytes:
    return pickle.dumps(value)
