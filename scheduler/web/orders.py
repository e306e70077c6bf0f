"""Requests from the page to a sweep or a trial: the same functions as on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from kerasweep.jobs.errors import InputError, NotFound
from kerasweep.jobs.store.models import TrialRecord
from kerasweep.scheduler.client import removal, wording
from kerasweep.scheduler.client.asking import read_pair
from kerasweep.scheduler.client.sweep import Sweep
from kerasweep.scheduler.web.pages import Pages
from kerasweep.scheduler.web.shelf import Shelf

#: What the names of a point's fields begin with, and how many fields a form may have.
PARAM, _MOST_FIELDS = "param.", 200


@dataclass(frozen=True)
class Order:
    """A request that the user can make.

    Args:
        says: what it does, in the words of the command's help.
        of_trial: whether it can apply to one trial.
        destroys: whether it cannot be undone.
        does: performs it; takes the sweep, the trial and the fields of the form, and returns what was done.
    """

    says: str
    of_trial: bool
    destroys: bool
    does: Callable[[Sweep, int | None, Mapping[str, str]], str]


def _extend(sweep: Sweep, _: int | None, form: Mapping[str, str]) -> str:
    given = form.get("number", "").strip()
    if not given.isdecimal() or not 1 <= int(given[:9]) <= 10_000_000:
        raise InputError(f"the number of trials must be a whole number above 0, got {given[:20]!r}")
    return sweep.extend(int(given))


def _add(sweep: Sweep, _: int | None, form: Mapping[str, str]) -> str:
    given = {name.removeprefix(PARAM): text.strip() for name, text in form.items() if name.startswith(PARAM)}
    return sweep.add(dict(read_pair(f"{name}={text}") for name, text in given.items() if text))


def _remove(sweep: Sweep, _: int | None, __: Mapping[str, str]) -> str:
    if not sweep.state.final:
        raise InputError(
            f"a sweep must have ended to be removed, got sweep {sweep.name} ({sweep.id}), which is "
            f"{sweep.record.state}\nCancel it first"
        )
    done = removal.remove(sweep.client, sweep)
    told = f"removed {done.name} ({done.sweep}): {wording.size(done.bytes)}"
    return told if done.left is None else f"{told}; its files stay: {done.left}"


ORDERS: Mapping[str, Order] = {
    "pause": Order(
        "Pause a sweep or a trial, so that it can be resumed.", True, False, lambda s, t, _: s.pause(t)
    ),
    "resume": Order(
        "Resume a paused sweep or trial where it stopped.", True, False, lambda s, t, _: s.resume(t)
    ),
    "cancel": Order(
        "Cancel a sweep or a trial; results so far are kept.", True, True, lambda s, t, _: s.cancel(t)
    ),
    "retry": Order(
        "Queue failed and cancelled trials again, or one of them.", True, False, lambda s, t, _: s.retry(t)
    ),
    "extend": Order("Give a sweep more trials; finished ones are kept.", False, False, _extend),
    "add": Order(
        "Add a point to a running sweep, in addition to those that its method chooses.", False, False, _add
    ),
    "rm": Order(
        "Remove the sweep: records, models, checkpoints, curves. This cannot be undone.",
        False,
        True,
        _remove,
    ),
}


class Orders:
    """Asks for confirmation, and then performs a request.

    Args:
        shelf: access to the sweeps.
        pages: draws the question and the answer.
        read_only: whether every request is refused.
    """

    def __init__(self, shelf: Shelf, pages: Pages, *, read_only: bool) -> None:
        self._shelf, self._pages, self._read_only = shelf, pages, read_only

    def confirm(self, request: Request) -> Response:
        """Ask for confirmation."""
        name, order = _order(request)
        sweep = self._shelf.sweep(request.path_params["sweep"])
        trial = _trial(order, request.query_params.get("trial", ""))
        if trial is not None:
            sweep.trial(trial)
        return self._pages.draw(
            request,
            "confirm.html",
            sweep=sweep,
            trial=trial,
            name=name,
            order=order,
            handle=sweep.handle,
            values=_values_of(sweep.best_record()) if name == "add" else {},
            best=sweep.best_record() if name == "add" else None,
        )

    async def do(self, request: Request) -> Response:
        """Perform the request if the form's token is valid; then show the sweep with what was done."""
        given = await self._form(request)
        return given if isinstance(given, Response) else await run_in_threadpool(self._done, request, given)

    def confirm_release(self, request: Request) -> Response:
        """Ask for confirmation to release a worker that was set aside."""
        name = request.query_params.get("worker", "")
        aside = {one.worker: one for one in self._shelf.client.quarantines()}
        if name not in aside:
            raise NotFound(f"a worker must be set aside to be released, got {name[:80]!r}")
        return self._pages.draw(request, "release.html", one=aside[name])

    async def release(self, request: Request) -> Response:
        """Release a worker, if the form's token is valid."""
        given = await self._form(request)
        return given if isinstance(given, Response) else await run_in_threadpool(self._release, given)

    def _release(self, given: Mapping[str, str]) -> Response:
        name = given.get("worker", "")
        self._shelf.client.release_worker(name)
        self._shelf.marks(fresh=True)
        return RedirectResponse(f"/workers?done={quote(f'{name} takes trials again'[:500])}", 303)

    async def _form(self, request: Request) -> Mapping[str, str] | Response:
        """Return the content of a form, or why it is refused."""
        if self._read_only:
            return PlainTextResponse("This page is read-only; it was started with --read-only.", 403)
        form = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=_MOST_FIELDS)
        given = {name: values[0] for name, values in form.items()}
        if not request.state.gate.accepts(request.state.session, given.get("token", "")):
            told = "The form does not belong to this session; go back, reload the page and try again."
            return PlainTextResponse(told, 403)
        return given

    def _done(self, request: Request, given: Mapping[str, str]) -> Response:
        name, order = _order(request)
        sweep = self._shelf.sweep(request.path_params["sweep"])
        trial = _trial(order, given.get("trial", ""))
        done = order.does(sweep, trial, given)
        self._shelf.marks(fresh=True)
        path = f"/sweeps/{sweep.id}" + ("" if trial is None else f"/trials/{trial}")
        return RedirectResponse(f"{'/sweeps' if name == 'rm' else path}?done={quote(done[:500])}", 303)


def _order(request: Request) -> tuple[str, Order]:
    name = request.path_params["what"]
    if name not in ORDERS:
        raise NotFound(f"a sweep may be asked to {', '.join(ORDERS)}, got {name[:40]!r}")
    return name, ORDERS[name]


def _values_of(best: TrialRecord | None) -> dict[str, str]:
    """Return a trial's values as a person would type them: text without quotes where that is the same."""
    found: dict[str, str] = {}
    for name, value in best.params.items() if best else ():
        plain = isinstance(value, str) and value == value.strip() and _reads_as(value) == value
        found[name] = str(value) if plain else json.dumps(value, ensure_ascii=False)
    return found


def _reads_as(text: str) -> object:
    try:
        return read_pair(f"x={text}")[1]
    except InputError:
        return None


def _trial(order: Order, given: str) -> int | None:
    if not given:
        return None
    if not order.of_trial or not given.isdecimal() or len(given) > 9:
        raise InputError(f"a trial is named by its number, got {given[:20]!r}")
    return int(given)
