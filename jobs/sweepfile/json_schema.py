"""The JSON Schema of the sweep file, for completion and checks in editors."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from kerasweep.jobs.sweepfile.method import METHODS
from kerasweep.jobs.sweepfile.spec import NAME, SweepSpec
from kerasweep.jobs.sweepfile.training import Training

_SCALAR = {"type": ["string", "number", "boolean", "null"]}
_DISTRIBUTION = {"$ref": "#/$defs/Distribution"}


def json_schema() -> dict[str, Any]:
    """Return the schema, including the short forms that parsing accepts."""
    _, both = models_json_schema([(SweepSpec, "validation"), (Training, "validation")])
    defs: dict[str, Any] = both["$defs"]
    sweep = defs.pop("SweepSpec")
    defs["Distribution"] = {"anyOf": sweep["properties"]["parameters"]["additionalProperties"]["oneOf"]}
    for name in ("Training", *Training.model_json_schema()["$defs"]):
        _open(defs[name]["properties"])
    _allow(defs["Training"]["properties"], "learning_rate_schedule", {"enum": ["constant", "cosine"]})
    _allow(defs["Training"]["properties"], "tensorboard", {"type": "boolean"})
    _allow(sweep["properties"], "method", {"enum": list(METHODS)})
    sweep["properties"]["parameters"]["additionalProperties"] = {"anyOf": [_DISTRIBUTION, _SCALAR]}
    sweep["properties"]["name"] |= {"pattern": f"^{NAME}$", "maxLength": 100}
    sweep["properties"]["training"] = {"$ref": "#/$defs/Training"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **sweep,
        "title": "kerasweep sweep file",
        "$defs": defs,
    }


def _open(properties: dict[str, Any]) -> None:
    """Allow a distribution wherever a value is allowed."""
    for name in properties:
        _allow(properties, name, _DISTRIBUTION)


def _allow(properties: dict[str, Any], name: str, form: dict[str, Any]) -> None:
    known = properties[name]
    kept = {key: known.pop(key) for key in ("title", "description", "default") if key in known}
    properties[name] = {"anyOf": [*known.pop("anyOf", [known] if known else []), form], **kept}
