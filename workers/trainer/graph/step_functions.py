"""The functions that `fit` calls for a model's steps, as callbacks see, make and replace them.

A new function is traced anew, with the model as it is by then; until then, changes to the model wait.
"""

from __future__ import annotations

from typing import Any

import keras

COMPILED = "compile"
_FUNCTIONS = {"train_step": "train_function", "test_step": "test_function"}


def make_functions(model: keras.Model, tested: bool) -> None:
    """Make the functions that a model in training has.

    Args:
        model: compiled.
        tested: whether `fit` has evaluated it.
    """
    if model.train_function is None:
        model.make_train_function()
    if tested and model.test_function is None:
        model.make_test_function()


def functions_of(model: keras.Model) -> dict[str, Any]:
    """Return the functions of a model's steps, None for one not made, and what each `compile` replaces."""
    functions = {step: getattr(model, name) for step, name in _FUNCTIONS.items()}
    return {**functions, COMPILED: getattr(model, "_compile_config", None)}


def replaced(model: keras.Model, before: dict[str, Any]) -> list[str]:
    """Return the steps that Keras will trace anew, as another function, and `COMPILED` if that is why.

    Args:
        model: as it is.
        before: what `functions_of` returned for it.
    """
    now = functions_of(model)
    if now[COMPILED] is not before[COMPILED]:
        return list(now)
    return [step for step, function in before.items() if function is not None and now[step] is not function]


def leave_to_engine(model: keras.Model, steps: list[str]) -> None:
    """Drop functions of Keras' own making: an engine makes them again, where it hears of their traces."""
    for step in steps:
        if step in _FUNCTIONS and not _is_foreign(getattr(model, _FUNCTIONS[step])):
            setattr(model, _FUNCTIONS[step], None)


def foreign_function(model: keras.Model) -> str | None:
    """Return the name of a step's function that is not Keras' own, such as a wrapper; None if all are."""
    return next((name for name in _FUNCTIONS.values() if _is_foreign(getattr(model, name, None))), None)


def _is_foreign(function: Any) -> bool:
    made = keras.Model._make_function.__code__.co_consts  # `functools.wraps` copies all other traits
    return function is not None and getattr(function, "__code__", None) not in made
