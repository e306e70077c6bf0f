"""Flags that many commands share: a command's parameter `client` or `worker` stands for a set of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any

import typer

from kerasweep.scheduler.client.client import Client

Body = Callable[..., None]

_WHERE, _WORKER = "Where things are", "The worker"
_URLS = {
    "broker": ("broker_url", "URL", "Redis, such as redis://host:6379/0; by default an embedded one."),
    "store": ("store_url", "URL", "The records: sqlite:///FILE or postgresql://…"),
    "artifacts": ("artifacts_url", "URL", "The artifacts: a folder, s3://…, gs://…"),
    "home": ("home", "FOLDER", "The folder for the defaults of the three above."),
}


@dataclass(frozen=True)
class _Flag:
    """A flag of the worker, passed on unchanged; `least` is its minimum."""

    name: str
    kind: Any
    metavar: str
    help: str
    least: int | None = None

    @property
    def word(self) -> str:
        return "--" + self.name.replace("_", "-")


_WORKER_FLAGS = (
    _Flag(
        "trainers",
        str,
        "auto|N",
        "The number of trainer processes; by default one per GPU, or on CPUs what measures fastest.",
    ),
    _Flag(
        "slots",
        str,
        "auto|N",
        "The number of trials per trainer; by default what measures fastest.",
    ),
    _Flag("gpus", str, "0,1,…", "Which GPUs to use; by default all visible ones."),
    _Flag("gpus_per_trial", int, "N", "The number of GPUs per trial; 2 or more use MirroredStrategy.", 1),
    _Flag(
        "logical_cpus",
        int,
        "N",
        "Use this many logical CPU devices as GPUs, to try several without any.",
        0,
    ),
    _Flag("threads", int, "N", "The maximum number of threads per trainer.", 1),
)


@dataclass(frozen=True)
class WorkerFlags:
    """The flags of a worker, as `python -m kerasweep.workers.start` takes them."""

    words: tuple[str, ...]


def expand(function: Body) -> Body:
    """Return the command with its parameters `client` and `worker` replaced by the flags they stand for."""
    signature = inspect.signature(function, eval_str=True)
    names = set(signature.parameters)
    if not names & {"client", "worker"}:
        return function

    @wraps(function)
    def expanded(**given: Any) -> None:
        if "worker" in names:
            given["worker"] = _take_worker(given)
        if "client" not in names:
            function(**given)
            return
        with _taken_client(given) as client:
            function(client=client, **given)

    own = [one for one in signature.parameters.values() if one.name not in ("client", "worker")]
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
    parameters += _worker_parameters() if "worker" in names else []
    parameters += _client_parameters() if "client" in names else []
    expanded.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    expanded.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": None}
    return expanded


@contextmanager
def _taken_client(given: dict[str, Any]) -> Iterator[Client]:
    flags = {setting: given.pop(flag) for flag, (setting, *_) in _URLS.items()}
    with Client(None, **flags) as client:
        yield client


def _take_worker(given: dict[str, Any]) -> WorkerFlags:
    words = {flag.word: given.pop(flag.name) for flag in _WORKER_FLAGS}
    return WorkerFlags(as_words(words))


def as_words(flags: Mapping[str, Any]) -> tuple[str, ...]:
    """Return flags as command-line arguments, leaving out those that are None."""
    return tuple(f"{flag}={value}" for flag, value in flags.items() if value is not None)


def _client_parameters() -> list[inspect.Parameter]:
    return [
        _parameter(
            flag,
            str,
            typer.Option(
                f"--{flag}",
                help=text,
                metavar=metavar,
                envvar=f"KERASWEEP_{setting.upper()}",
                show_default=False,
                rich_help_panel=_WHERE,
            ),
        )
        for flag, (setting, metavar, text) in _URLS.items()
    ]


def _worker_parameters() -> list[inspect.Parameter]:
    return [
        _parameter(
            flag.name,
            flag.kind,
            typer.Option(
                flag.word,
                help=flag.help,
                metavar=flag.metavar,
                min=flag.least,
                callback=_auto_or_count if flag.metavar.startswith("auto") else None,
                show_default=False,
                rich_help_panel=_WORKER,
            ),
        )
        for flag in _WORKER_FLAGS
    ]


def _auto_or_count(given: str | None) -> str | None:
    if given is None or given == "auto" or (given.isdecimal() and int(given) > 0):
        return given
    raise typer.BadParameter(f"must be auto or a whole number above 0, got {given!r}")


def _parameter(name: str, kind: Any, option: Any) -> inspect.Parameter:
    annotation = Annotated[kind | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
