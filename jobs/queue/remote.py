"""Celery's remote control, restricted to inspection and revocation.

Anyone with access to Redis can broadcast to every worker. Celery's own commands stop a worker, keep it from
taking hints, or slow it down permanently; regular expressions in a message can block it for hours. None of
these is needed here: they are refused with a log message.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from celery import Celery
from celery.worker import state as celery_state
from celery.worker.control import Panel
from kombu.pidbox import Node

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.queue.complaints import Complaints
from kerasweep.jobs.queue.hints import trial_of_hint_id

log = logging.getLogger(__name__)

#: The commands of Flower and `celery inspect`, including their older names.
_INSPECTION = (
    "ping", "stats", "active", "dump_active", "reserved", "dump_reserved", "scheduled", "dump_schedule",
    "revoked", "dump_revoked", "registered", "dump_tasks", "active_queues", "conf", "dump_conf",
    "query_task", "report", "clock", "enable_events",
)  # fmt: skip
_REPLY_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


def restrict_control(app: Celery) -> None:
    """Restrict the workers of an app to inspection and revocation."""
    app.control.mailbox.node_cls = RestrictedNode


def revoke(state: Any, task_id: object = (), **_: Any) -> dict[str, str]:
    """Mark hints as revoked; their trials are then cancelled."""
    wanted = [task_id] if isinstance(task_id, str) else task_id if isinstance(task_id, list) else []
    ids = [one for one in wanted if isinstance(one, str) and trial_of_hint_id(one)]
    celery_state.revoked.update(ids)
    log.info("revoked: %.400s", ", ".join(ids))
    return {"ok": f"tasks {ids} flagged as revoked"}


class RestrictedNode(Node):  # type: ignore[misc]
    """A worker's mailbox that answers permitted commands and logs the others."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        allowed = {name: Panel.data[name] for name in _INSPECTION}
        self.handlers = {**allowed, "revoke": revoke, "terminate": revoke}
        self._complaints = Complaints(log)

    def handle_message(self, body: object, message: object = None) -> Any:
        """Answer a message if it is for this worker and its command is allowed."""
        try:
            command = self._read(body)
            return self.dispatch(**command) if command else None
        except InputError as exc:
            self._complaints.tell("remote control refused", exc)
            return None

    dispatch_from_message = handle_message

    def handle(self, method: str, arguments: dict[str, Any] | None = None) -> Any:
        """Run a command; an unsuitable one is answered with an error, not a traceback in the log."""
        try:
            return super().handle(method, arguments)
        except Exception as exc:  # noqa: BLE001 whatever it is, it came from outside
            self._complaints.tell("remote control failed", f"{method}: {type(exc).__name__}: {exc}")
            return {"error": f"{type(exc).__name__}: {exc}"[:200]}

    def _read(self, body: object) -> dict[str, Any]:
        if not isinstance(body, dict):
            raise InputError(f"a command is an object, got {type(body).__name__}")
        if body.get("pattern") or body.get("matcher"):
            raise InputError("workers are addressed by their names, got a pattern")
        destination = body.get("destination")
        if destination and (not isinstance(destination, list) or self.hostname not in destination):
            return {}
        method, arguments = body.get("method"), body.get("arguments") or {}
        if not isinstance(method, str) or method not in self.handlers:
            raise InputError(f"only inspection and revoke are allowed, got {str(method)[:40]!r}")
        if not isinstance(arguments, dict):
            raise InputError(f"the arguments of {method} must be named, got {type(arguments).__name__}")
        return {"method": method, "arguments": arguments, **self._reply(body)}

    def _reply(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the address of the answer: only a queue that Celery created for answers is accepted."""
        reply_to, ticket = body.get("reply_to"), body.get("ticket")
        if not reply_to:
            return {}
        parts = [reply_to.get("routing_key"), ticket] if isinstance(reply_to, dict) else []
        ours = bool(parts) and reply_to.get("exchange") == self.mailbox.reply_exchange.name
        if not ours or not all(isinstance(part, str) and _REPLY_ID.fullmatch(part) for part in parts):
            raise InputError("an answer goes to Celery's reply exchange, got another address")
        return {"reply_to": reply_to, "ticket": ticket}
