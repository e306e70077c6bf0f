"""Reads entries of a queue that anyone can write to: rebuilds a hint from its known parts, or refuses.

Celery acts on much of what a message may contain: it holds tasks with an ETA in memory, calls other tasks,
and fails on headers of the wrong type. So a message is never passed on as received.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from typing import Any

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.queue.hints import ADVANCE, SCHEDULER_QUEUE, TRAIN, read_hint

#: The longest message that is read, in bytes; a hint takes about 2,000.
LONGEST_HINT = 1 << 15
#: Where a rebuilt message keeps its queue and its original text.
TAKEN = "taken"

_TASK_ID = re.compile(r"[A-Za-z0-9._-]{1,80}")
_SHOWN_CHARS = 480


def is_hint_queue(key: str) -> bool:
    """Whether a Redis key is one of our queues."""
    return key == SCHEDULER_QUEUE or key.startswith("train.")


def read_document(text: bytes | str, longest: int) -> dict[str, Any]:
    """Read a JSON object from an untrusted source.

    Raises:
        InputError: too long, too deeply nested, not JSON, or not an object.
    """
    if len(text) > longest:
        raise InputError(f"a message has at most {longest} bytes, got {len(text)}")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise InputError(f"a message must be JSON, got {text[:40]!r} ({type(exc).__name__})") from exc
    if not isinstance(found, dict):
        raise InputError(f"a message must be a JSON object, got {text[:40]!r}")
    return found


def read_envelope(queue: str, text: bytes) -> dict[str, Any]:
    """Return a message as kombu delivers it, containing only a hint.

    Args:
        queue: the key that the text was taken from.
        text: the entry.

    Raises:
        InputError: it is not one of our hints, or it is postponed.
    """
    found = read_document(text, LONGEST_HINT)
    headers, properties = _part(found, "headers"), _part(found, "properties")
    task, task_id = headers.get("task"), headers.get("id")
    if task not in (TRAIN, ADVANCE) or not isinstance(task_id, str) or not _TASK_ID.fullmatch(task_id):
        raise InputError(f"a hint is a task {TRAIN} or {ADVANCE} with an id, got {str(task)[:40]!r}")
    if headers.get("eta") or headers.get("expires"):
        raise InputError("a hint has neither ETA nor countdown nor expiry, got one with")
    body = _body(task, _arguments(found, properties))
    shown = headers.get("kwargsrepr")
    return {
        "body": base64.b64encode(json.dumps([[], body, {}]).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": task,
            "id": task_id,
            "root_id": task_id,
            "parent_id": None,
            "argsrepr": "",
            "kwargsrepr": shown[:_SHOWN_CHARS] if isinstance(shown, str) else repr(body),
        },
        "properties": {
            "correlation_id": task_id,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": uuid.uuid4().hex,
            TAKEN: [queue, text.decode()],
        },
    }


def _part(found: dict[str, Any], name: str) -> dict[str, Any]:
    part = found.get(name)
    if not isinstance(part, dict):
        raise InputError(f"a message must have {name}, got {type(part).__name__}")
    return part


def _arguments(found: dict[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
    """Return the task's keyword arguments from a message's body."""
    body, kind = found.get("body"), found.get("content-type")
    if kind != "application/json" or not isinstance(body, str):
        raise InputError(f"a hint's body must be JSON, got {str(kind)[:40]!r}")
    try:
        text = base64.b64decode(body) if properties.get("body_encoding") == "base64" else body
        arguments = json.loads(text)[1]
    except (ValueError, RecursionError, LookupError, TypeError) as exc:
        raise InputError(f"a hint's body must be JSON, got {body[:40]!r} ({type(exc).__name__})") from exc
    if not isinstance(arguments, dict):
        raise InputError(f"a hint's arguments must be named, got {type(arguments).__name__}")
    return arguments


def _body(task: str, arguments: dict[str, Any]) -> dict[str, Any]:
    if task == ADVANCE:
        return {"sweep": read_hint(arguments.get("sweep"), 0).sweep}
    key = read_hint(arguments.get("sweep"), arguments.get("trial"))
    return {"sweep": key.sweep, "trial": key.trial}
