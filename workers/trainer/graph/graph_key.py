"""The key of a model's training graph, derived from the model's configuration without tracing.

Only for models fully described by their configuration: Sequential and functional models of Keras' own layers,
losses, metrics and optimizers. Anything that may hide a constant (a subclass, a lambda, a function of the
job) has no such key, and is identified by its traced graph instead.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Self

import keras
import tensorflow as tf

from kerasweep.workers.trainer.state.digest import optimizers_of

_MODELS = (keras.Sequential, type(keras.Model(inputs=(_input := keras.Input((1,))), outputs=_input)))
#: Layers that hold code, tables or programs besides their configuration.
_OPAQUE = ("lambda_layer", ".preprocessing.", "tfsm_layer", "torch_utils", "jax_layer", "flax")
#: Keras sets these on every layer; they only wrap the class's own.
_WRAPPED = frozenset({"build", "quantize", "loss"})


@dataclass(frozen=True)
class GraphKey:
    """Identifies graphs.

    Args:
        graph: equal for equal graphs, including constants.
        family: equal for graphs that differ only in the values of constants, such as a dropout rate or a
            penalty. They take the same time, compiled in the same way.
        numbers: the floats of the configuration, in an order shared by the family; None if there are none.
    """

    graph: str
    family: str
    numbers: tuple[float, ...] | None = None

    @classmethod
    def joined(cls, keys: list[Self], rest: str) -> Self:
        """Return the key of several graphs together, and of what else determines a program."""
        return cls(
            _digest(*(key.graph for key in keys), rest),
            _digest(*(key.family for key in keys), rest),
            keys[0].numbers if len(keys) == 1 else None,
        )


def without_value(number: float) -> float | None:
    """Return how a constant shows in its graph's family: Keras skips operations for 0 or 1."""
    return number if number in (0.0, 1.0) else None


def config_key(model: keras.Model) -> GraphKey | None:
    """Return a key of everything that determines the model's graph, None if that is unknown.

    Equal keys mean equal graphs, with the variables of `variables_of` in the same positions. Values of
    variables do not count: learning rates, and loss weights that `build_compiled` made variables.

    Args:
        model: built and compiled, its optimizer, losses and metrics built.
    """
    if not _is_plain(model):
        return None
    try:
        config = {
            "model": model.get_config(),
            "optimizer": [_optimizer_config(optimizer) for optimizer in optimizers_of(model)],
            "numbers": [[type(part).__name__, _numbers(part)] for part in _parts(model)],
            **_compile_config(model),
        }
        text = json.dumps(config, sort_keys=True, default=_plain_value)
    except (TypeError, ValueError, NotImplementedError):
        return None
    content = _without_counters(json.loads(text), model)
    if not all(_is_keras(entry) for entry in _entries(content)):
        return None
    variables = [
        f"{variable.shape} {variable.dtype} {variable.trainable}" for variable in variables_of(model)
    ]
    trained = [_places(optimizer, model) for optimizer in optimizers_of(model)]
    whole = [content, variables, trained, keras.config.floatx()]
    return GraphKey(
        _digest(json.dumps(whole, sort_keys=True)),
        _digest(json.dumps(_without_values(whole), sort_keys=True)),
        tuple(_floats(whole)),
    )


def variables_of(model: keras.Model) -> list[tf.Variable]:
    """Return every variable that the model's steps may touch, in an order shared by equal keys."""
    found: dict[int, tf.Variable] = {}
    owners: list[Any] = [*model.variables, *model.metrics_variables]
    for optimizer in optimizers_of(model):
        owners.extend(optimizer.variables)
    weights = [loss.loss_weights for loss in getattr(model._compile_loss, "_flat_losses", None) or ()]
    owners.extend(weight for weight in weights if isinstance(weight, tf.Variable))
    for owner in owners:
        variable = owner.value if isinstance(owner, keras.Variable) else owner
        found.setdefault(id(variable), variable)
    return list(found.values())


def _is_plain(model: keras.Model) -> bool:
    """Tell whether nothing in the model is the job's own code."""
    if type(model) not in _MODELS or model._metrics:
        return False
    if not all(_is_plain_layer(layer) for layer in model._flatten_layers()):
        return False
    return not any(_is_patched(part) or _holds_more(part) for part in _parts(model))


def _is_plain_layer(layer: keras.Layer) -> bool:
    module = type(layer).__module__
    if isinstance(layer, keras.Model):
        return type(layer) in _MODELS
    own = module.startswith("keras.src.layers.") and not any(name in module for name in _OPAQUE)
    return own and not getattr(layer, "lora_enabled", False) and not layer._metrics


def _parts(model: keras.Model) -> Iterator[Any]:
    """Yield the objects that a step consists of, including nested ones."""
    yield from model._flatten_layers()
    for optimizer in optimizers_of(model):
        yield optimizer
        if hasattr(optimizer, "inner_optimizer"):
            yield optimizer.inner_optimizer
    for metric in model.metrics:
        yield metric
        yield from getattr(metric, "metrics", ())
    for loss in getattr(model._compile_loss, "_flat_losses", None) or ():
        yield loss.loss


def _is_patched(part: Any) -> bool:
    """Tell whether a method was replaced on this particular object."""
    return any(
        name not in _WRAPPED and callable(getattr(type(part), name, None))
        for name in getattr(part, "__dict__", ())
    )


def _holds_more(part: Any) -> bool:
    """Tell whether an object holds a function of the job, or something its configuration does not show."""
    for name, value in getattr(part, "__dict__", {}).items():
        if isinstance(value, FunctionType) and not str(value.__module__).startswith("keras.src."):
            return True
        if name.startswith("_exclude_from_weight_decay") and value:
            return True
    return False


def _numbers(part: Any) -> dict[str, Any]:
    """Return the numbers that an object holds: they may have been changed without its configuration."""
    return {
        name: value
        for name, value in vars(part).items()
        if value is None or isinstance(value, (bool, int, float))
    }


def _optimizer_config(optimizer: Any) -> Any:
    """Return the optimizer's configuration without what its variables hold."""
    config = keras.saving.serialize_keras_object(optimizer)
    _blank_rates(config, optimizer)
    return config


def _blank_rates(config: dict[str, Any], optimizer: Any) -> None:
    config["config"].pop("name", None)
    if isinstance(getattr(optimizer, "_learning_rate", None), keras.Variable):
        config["config"]["learning_rate"] = None
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        _blank_rates(config["config"]["inner_optimizer"], inner)


def _compile_config(model: keras.Model) -> dict[str, Any]:
    losses, metrics = model._compile_loss, model._compile_metrics
    lifted = [
        isinstance(loss.loss_weights, tf.Variable) or loss.loss_weights
        for loss in getattr(losses, "_flat_losses", None) or ()
    ]
    return {
        "loss": keras.saving.serialize_keras_object(getattr(losses, "_user_loss", None)),
        "loss_weights": lifted,
        "metrics": keras.saving.serialize_keras_object(getattr(metrics, "_user_metrics", None)),
        "weighted_metrics": keras.saving.serialize_keras_object(
            getattr(metrics, "_user_weighted_metrics", None)
        ),
    }


def _without_counters(content: Any, model: keras.Model) -> Any:
    """Replace names with process-wide counters by the layer's position."""
    names = {}
    # A Sequential hides its input layer.
    for number, layer in enumerate([*model._flatten_layers(), *getattr(model, "operations", ())]):
        snake = keras.src.utils.naming.to_snake_case(type(layer).__name__)
        if layer.name not in names and re.fullmatch(rf"{snake}(_\d+)?", layer.name):
            names[layer.name] = f"@{number}"
    shared: dict[Any, int] = {}

    def visit(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                names.get(key, key): (
                    shared.setdefault(item, len(shared)) if key == "shared_object_id" else visit(item)
                )
                for key, item in value.items()
                # only the initial value: the current one is in a variable
                if not key.endswith("_initializer")
            }
        if isinstance(value, list):
            return [visit(item) for item in value]
        return names.get(value, value) if isinstance(value, str) else value

    return visit(content)


def _without_values(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_values(item) for key, item in content.items()}
    if isinstance(content, list):
        return [_without_values(item) for item in content]
    return without_value(content) if isinstance(content, float) else content


def _floats(content: Any) -> Iterator[float]:
    """Yield the floats of a configuration, in an order shared by equal structures."""
    if isinstance(content, dict):
        for key in sorted(content):
            yield from _floats(content[key])
    elif isinstance(content, list):
        for item in content:
            yield from _floats(item)
    elif isinstance(content, float):
        yield content


def _entries(content: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every serialized object in a configuration."""
    if isinstance(content, dict):
        if "class_name" in content:
            yield content
        for item in content.values():
            yield from _entries(item)
    elif isinstance(content, list):
        for item in content:
            yield from _entries(item)


def _is_keras(entry: Mapping[str, Any]) -> bool:
    """Tell whether a serialized object is Keras' own: functions and classes of the job are not."""
    if entry.get("class_name") in ("function", "__lambda__", "__bytes__"):
        return False
    module = entry.get("module")
    return (module is None or str(module).split(".")[0] == "keras") and not entry.get("registered_name")


def _places(optimizer: Any, model: keras.Model) -> list[int]:
    places = {id(variable): number for number, variable in enumerate(model.variables)}
    return [places.get(id(variable), -1) for variable in getattr(optimizer, "_trainable_variables", ())]


def _plain_value(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a configuration must be plain values, got a {type(value).__name__}")


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
