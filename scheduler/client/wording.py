"""How values, times and progress are written in tables: short, and the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerasweep.scheduler.deciding.warming import WarmStart

NOTHING = "–"
_FULL, _EMPTY = "━", "─"
_LONGEST_VALUE = 40
_NAMED = 5


def short_names(params: Iterable[str]) -> dict[str, str]:
    """Return for each parameter its shortest dotted suffix that no other parameter shares."""
    paths = [name.split(".") for name in dict.fromkeys(params)]
    return {".".join(path): _shortest(path, paths) for path in paths}


def _shortest(path: list[str], paths: list[list[str]]) -> str:
    for length in range(1, len(path)):
        ending = path[-length:]
        if sum(other[-length:] == ending for other in paths) == 1:
            return ".".join(ending)
    return ".".join(path)


def value(given: Any) -> str:
    """Format a parameter's value for a table: `0.01`, `step_decay(every=10, factor=0.1)`."""
    text = _value(given)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def brief(given: Any) -> str:
    """Format a value like `value`, without option names: `step_decay(10, 0.1)`."""
    if not isinstance(given, Mapping):
        return value(given)
    inner = {name: one.values() if isinstance(one, Mapping) else [one] for name, one in given.items()}
    return ", ".join(f"{name}({', '.join(map(brief, ones))})" for name, ones in inner.items())


def _value(given: Any) -> str:
    if given is None:
        return NOTHING
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, float):
        return f"{given:.4g}"
    if isinstance(given, Mapping):
        return ", ".join(f"{name}({_options(options)})" for name, options in given.items())
    if isinstance(given, list | tuple):
        return "[" + ", ".join(_value(one) for one in given) + "]"
    return str(given)


def _options(options: Any) -> str:
    if isinstance(options, Mapping):
        return ", ".join(f"{name}={_value(one)}" for name, one in options.items())
    return _value(options)


def params(given: Mapping[str, Any]) -> str:
    """Format parameters in one line: `learning_rate=0.01, patience=5`."""
    names = short_names(given)
    return ", ".join(f"{names[name]}={value(one)}" for name, one in given.items())


def metric(given: float | str | None) -> str:
    """Format a metric's value to five digits."""
    if given is None:
        return NOTHING
    number = float(given)
    return f"{number:#.5g}" if math.isfinite(number) else str(number)


def deviation(given: float | str | None) -> str:
    """Format a standard deviation to two digits."""
    return NOTHING if given is None else f"{float(given):.2g}"


def spread(mean: float | None, std: float | None, count: int) -> str:
    """Format a mean with its standard deviation: `0.31200 ± 0.0041 over 10 seeds`."""
    around = "" if std is None else f" ± {deviation(std)}"
    return f"{metric(mean)}{around} over {count} seed{'' if count == 1 else 's'}"


def share(chance: float | None, seeds: int) -> str:
    """Format a probability from so many seeds: `0.97`; `at most 0.04`, where 5 seeds tell no more."""
    if chance is None:
        return NOTHING
    edge = max(0.5**seeds, 0.001)
    scale = 1000 if edge < 0.01 else 100
    if chance <= edge:
        return f"at most {math.ceil(edge * scale) / scale}"
    if chance >= 1 - edge:
        return f"at least {math.floor((1 - edge) * scale) / scale}"
    return f"{chance:.{3 if min(chance, 1 - chance) < 0.01 else 2}f}"


def duration(seconds: float | None) -> str:
    """Format a duration: `850 ms`, `12 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    whole = int(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if not minutes:
        return f"{whole} s"
    if not hours:
        return f"{minutes} min {whole % 60:02d} s"
    return f"{hours} h {minutes % 60:02d} min" if not days else f"{days} d {hours % 24} h"


def bar(share: float, width: int) -> str:
    """Return a bar of `width` characters, filled to a share of 0 to 1."""
    filled = round(max(0.0, min(1.0, share)) * width)
    return _FULL * filled + _EMPTY * (width - filled)


def count(number: int, noun: str) -> str:
    """Return "1 trial", "2 trials"."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def left(ended: int, planned: int) -> str:
    """Return "6 of 36 trials have ended, 30 are left"."""
    have, are = "has" if ended == 1 else "have", "is" if planned - ended == 1 else "are"
    return f"{ended} of {count(planned, 'trial')} {have} ended, {planned - ended} {are} left"


def numbered(noun: str, numbers: Sequence[int]) -> str:
    """Return "trial 3", or "8 trials (0, 1, 2, 3, 4, and 3 more)"."""
    if len(numbers) == 1:
        return f"{noun} {numbers[0]}"
    return f"{count(len(numbers), noun)} ({some(numbers)})"


def some(numbers: Sequence[int]) -> str:
    """Return the first few numbers: "0, 1, 2, 3, 4, and 3 more"."""
    more = f", and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else ""
    return ", ".join(map(str, numbers[:_NAMED])) + more


def size(given: int) -> str:
    """Format a number of bytes: `512 B`, `1.4 MiB`."""
    amount = float(given)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{given} B" if unit == "B" else f"{amount:.1f} {unit}"


def outcome(given: str | None) -> str:
    """Say how an attempt ended: `reached rung 9`, `failed: lost`, `running`."""
    if given is None:
        return "running"
    kind, _, what = given.partition(": ")
    if kind == "held":
        return f"reached rung {what}"
    if kind == "released":
        return {"queued": "interrupted, queued again"}.get(what, what)
    return given


def warm_start(told: WarmStart) -> list[str]:
    """Say what a sweep learns from an earlier one, and what was left out."""
    lines = [f"learns from {told.taken} of the {count(told.trials, 'trial')} of {told.name} ({told.sweep})"]
    for reason, trials in told.left_out.items():
        lines.append(f"left out: {count(trials, 'trial')}, since {reason}")
    if told.ignored:
        lines.append(f"ignored, since this sweep does not have it: {', '.join(told.ignored)}")
    if told.repeated:
        points = count(told.repeated, "start point")
        again = "it is trained again" if told.repeated == 1 else "they are trained again"
        lines.append(f"{points} of this sweep had been tried there; {again}")
    return lines
