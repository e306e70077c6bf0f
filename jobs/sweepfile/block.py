"""The base of every block of a sweep file: frozen, strict, with plain error messages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import (
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    model_validator,
)

from kerasweep.jobs.sweepfile.rules import RuleError, nearest, show

#: Beyond this, floats (and so JSON and the samplers) cannot tell whole numbers apart.
LARGEST = 1 << 53


def take_whole(raw: Any) -> Any:
    """Convert 1e6 to the whole number that its author means; leave other values alone."""
    return int(raw) if isinstance(raw, float) and raw.is_integer() else raw


Flag = Annotated[bool, Strict()]
Whole = Annotated[int, Strict(), Field(ge=-LARGEST, le=LARGEST), BeforeValidator(take_whole)]
Count = Annotated[int, Strict(), Field(ge=1, le=LARGEST), BeforeValidator(take_whole)]
Natural = Annotated[int, Strict(), Field(ge=0, le=LARGEST), BeforeValidator(take_whole)]
Number = Annotated[float, Strict(), AllowInfNan(False)]
Positive = Annotated[float, Strict(), AllowInfNan(False), Field(gt=0)]
NotNegative = Annotated[float, Strict(), AllowInfNan(False), Field(ge=0)]
Fraction = Annotated[float, Strict(), AllowInfNan(False), Field(ge=0, le=1)]
Text = Annotated[str, Strict(), Field(min_length=1, max_length=4096)]


class Block(BaseModel):
    """A mapping with known keys.

    Args:
        elsewhere: what to say about keys that belong elsewhere.
    """

    elsewhere: ClassVar[Mapping[str, str]] = {}

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, raw: Any) -> Any:
        if isinstance(raw, cls):
            return raw
        known = list(cls.model_fields)
        if not isinstance(raw, Mapping):
            raise RuleError(f"must be a mapping of keys, got {show(raw)}", cls._form())
        for key in raw:
            if key not in known:
                remedy = cls.elsewhere.get(str(key)) or nearest(key, known)
                if str(key).isdigit():
                    remedy = "use a decimal point, not a comma: 0.1"
                raise RuleError(f"unknown key '{key}'", remedy, (str(key),))
        for name, info in cls.model_fields.items():
            if info.is_required() and name not in raw:
                raise RuleError(f"the key '{name}' is missing", _example(name, info.examples))
        return raw

    @classmethod
    def _form(cls) -> str:
        """Return a remedy that shows the required keys, or else lists the known ones."""
        needed = {name: info for name, info in cls.model_fields.items() if info.is_required()}
        if needed and all(info.examples for info in needed.values()):
            return f"write {show({name: (info.examples or [''])[0] for name, info in needed.items()})}"
        return f"known here: {', '.join(cls.model_fields)}"


def rule_broken(error: ValidationError) -> RuleError:
    """Translate the first error that pydantic found; `at` is its location."""
    found = error.errors(include_url=False)[0]
    cause = found.get("ctx", {}).get("error")
    if isinstance(cause, RuleError):
        return cause.within(*found["loc"])
    rule, remedy = _WORDS.get(found["type"], (found["msg"], "look at this value"))
    told = {**found.get("ctx", {}), "got": show(found["input"])}
    if found["type"] == "literal_error":
        told["expected"] = told["expected"].replace("True", "true").replace("False", "false")
        near = nearest(found["input"], re.findall(r"'([^']+)'", told["expected"]))
        remedy = near if near.startswith("did") else remedy
    if found["type"] == "bool_type" and found["input"] in _NO_BOOLEANS:
        remedy = NO_BOOLEAN
    if isinstance(found["input"], Mapping) and {"values", "distribution"} & set(found["input"]):
        remedy = "only values under parameters or training can be swept: write one value here"
    return RuleError(f"{rule.format(**told)}, got {told['got']}", remedy.format(**told), found["loc"])


def _example(name: str, examples: list[Any] | None) -> str:
    return f"add it, such as `{name}: {show(examples[0], bare=True)}`" if examples else f"add `{name}: …`"


#: Booleans in YAML 1.1, text in YAML 1.2.
_NO_BOOLEANS = ("yes", "no", "on", "off", "Yes", "No", "On", "Off")
NO_BOOLEAN = "write true or false: yes, no, on and off are text in YAML 1.2"

_WORDS = {
    "int_type": ("must be a whole number", "write a plain whole number, such as 10"),
    "int_from_float": ("must be a whole number", "write a plain whole number, such as 10"),
    "float_type": ("must be a number", "write a plain number without quotes, such as 0.01"),
    "finite_number": ("must be finite", "write a plain number"),
    "bool_type": ("must be true or false", "write true or false, without quotes"),
    "string_type": ("must be text", "put it in quotes: '{got}'"),
    "string_too_short": ("must not be empty", "write at least one character"),
    "string_too_long": ("must have at most {max_length} characters", "make it shorter"),
    "literal_error": ("must be one of {expected}", "write it exactly so"),
    "greater_than": ("must be above {gt}", "write a larger number"),
    "greater_than_equal": ("must be at least {ge}", "write a larger number"),
    "less_than": ("must be below {lt}", "write a smaller number"),
    "less_than_equal": ("must be at most {le}", "write a smaller number"),
    "list_type": ("must be a list", "write a list: [{got}]"),
    "dict_type": ("must be a mapping of keys", "write a mapping: {{a: 1, b: 2}}"),
    "too_short": ("must hold {min_length} or more", "add some"),
    "too_long": ("must hold at most {max_length}", "remove some"),
    "int_parsing": ("keys must be whole numbers", "write the class's number, such as 0"),
}
