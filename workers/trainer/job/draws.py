"""What a trial draws from Python's, NumPy's and TensorFlow's generators: as in a process of its own."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from tensorflow.python.eager import context

from kerasweep.workers.trainer.job.seeding import PROCESS_RANDOM

#: Of Python's generator, of NumPy's, and of TensorFlow's seed and what it draws the seeds of operations from.
State = tuple[Any, Any, tuple[int | None, Any]]


class OwnDraws:
    """The generators of the process as one trial knows them, beginning as they are when this is made.

    Each trial's code runs between others' that draw from the same generators, so its states are put in
    place before and taken down after it.
    """

    def __init__(self) -> None:
        self._state = _present()
        #: As they were when each step was first traced: a second trace must draw the same again.
        self._traced: dict[str, State] = {}
        self._inside = False

    @contextmanager
    def own(self) -> Iterator[None]:
        """Let the trial's code draw from its own generators, and keep other trials from them."""
        if self._inside:
            yield
            return
        with PROCESS_RANDOM:
            _put(self._state)
            self._inside = True
            try:
                yield
            finally:
                self._inside = False
                self._state = _present()

    @contextmanager
    def tracing(self, step: str) -> Iterator[None]:
        """Let a trace of a step draw what its first one drew: numbers drawn there become constants.

        Args:
            step: `train_step` or `test_step`.
        """
        with self.own():
            if step not in self._traced:
                self._traced[step] = _present()
                yield
                return
            now = _present()
            _put(self._traced[step])
            try:
                yield
            finally:
                _put(now)

    def forget_traces(self, steps: Sequence[str]) -> None:
        """Let the next trace of each of the steps be its first one."""
        for step in steps:
            self._traced.pop(step, None)

    def saved(self) -> dict[str, Any]:
        """Return all states, as containers of numbers, texts and arrays."""
        traced = {step: _as_arrays(state) for step, state in self._traced.items()}
        return {"now": _as_arrays(self._state), "traced": traced}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Take the states that `saved` returned, of this process or another."""
        self._state = _from_arrays(saved["now"])
        self._traced = {step: _from_arrays(state) for step, state in saved["traced"].items()}


def _present() -> State:
    eager = context.context()
    return random.getstate(), np.random.get_state(legacy=False), (eager._seed, eager._rng.getstate())


def _put(state: State) -> None:
    eager = context.context()
    random.setstate(state[0])
    np.random.set_state(state[1])
    eager._seed = state[2][0]
    eager._rng.setstate(state[2][1])


def _as_arrays(state: State) -> dict[str, Any]:
    python, numpy_own, (seed, seeds) = state
    return {"python": _words(python), "numpy": numpy_own, "seed": seed, "seeds": _words(seeds)}


def _from_arrays(saved: Mapping[str, Any]) -> State:
    return _state(saved["python"]), saved["numpy"], (saved["seed"], _state(saved["seeds"]))


def _words(state: Any) -> dict[str, Any]:
    version, words, gauss = state
    return {"version": version, "words": np.asarray(words, np.uint32), "gauss": gauss}


def _state(saved: Mapping[str, Any]) -> Any:
    return saved["version"], tuple(map(int, saved["words"])), saved["gauss"]
