"""The page as an ASGI application."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs

import anyio
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from kerasweep.jobs.errors import InputError, KerasweepError, NotFound, OutOfReach
from kerasweep.jobs.store.overview import PROCESSES
from kerasweep.scheduler.client import report, wording
from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.client.objects import moment
from kerasweep.scheduler.web.exposition import CONTENT_TYPE, Exposition
from kerasweep.scheduler.web.gate import AFTER_WRONG_PASSWORD_S, Access, Gate
from kerasweep.scheduler.web.optuna_mount import PREFIX, OptunaMount
from kerasweep.scheduler.web.orders import ORDERS, Orders
from kerasweep.scheduler.web.pages import Pages
from kerasweep.scheduler.web.pulse import MOST_VIEWERS, Pulse
from kerasweep.scheduler.web.roster import Rosters
from kerasweep.scheduler.web.shelf import Opening, Shelf

log = logging.getLogger(__name__)

_HERE = Path(__file__).parent


class Site:
    """The parts of the site, and the routes that belong to none of them.

    Args:
        client: connections to the store.
        access: who may see it.
        alone: whether the process is there for the page alone; then it also loads large libraries ahead.
    """

    def __init__(self, client: Client, access: Access, *, alone: bool = False) -> None:
        self.access, self.shelf = access, Shelf(client)
        self.pulse, self.exposition = Pulse(self.shelf), Exposition(client)
        rosters, templates = Rosters(self.shelf), Jinja2Templates(env=environment())
        self.pages = Pages(self.shelf, rosters, templates, read_only=access.read_only)
        self._optuna = OptunaMount(self.shelf, rosters)
        self.orders = Orders(self.shelf, self.pages, read_only=access.read_only)
        self._opening = Opening(self.pages.prepare, self._load if alone else lambda: iter(()))

    def application(self) -> Starlette:
        """Return the application to serve."""
        app = Starlette(
            routes=self._routes(),
            middleware=[Middleware(Gate, access=self.access)],
            lifespan=self._lifespan,
            exception_handlers={KerasweepError: self._problem, 404: self._missing},
        )
        app.state.site = self
        return app

    def _routes(self) -> list[BaseRoute]:
        pages, one, trial = self.pages, "/sweeps/{sweep}", "/sweeps/{sweep}/trials/{trial:int}"
        reads = {
            "/": pages.home,
            "/sweeps": pages.sweeps,
            one: pages.sweep,
            f"{one}/curves.json": pages.curves,
            f"{one}/importances": pages.importances,
            f"{one}/trials.csv": pages.table,
            trial: pages.trial,
            f"{trial}/curves.json": pages.trial_curves,
            f"{trial}/layers": pages.layers,
            f"{trial}/model": pages.model,
            f"{one}/ask/{{what}}": self.orders.confirm,
            "/compare": pages.compare,
            "/workers": pages.workers,
            "/workers/release": self.orders.confirm_release,
            "/events": self.events,
            "/healthz": self.healthz,
            "/metrics": self.metrics,
            "/login": self.ask_password,
            PREFIX: self.optuna,
            f"{PREFIX}/{{path:path}}": self.optuna,
        }
        writes = {f"{one}/ask/{{what}}": self.orders.do, "/workers/release": self.orders.release}
        writes |= {"/login": self.log_in, "/logout": self.log_out}
        routes: list[BaseRoute] = [Route(path, handler, methods=["GET"]) for path, handler in reads.items()]
        routes += [Route(path, handler, methods=["POST"]) for path, handler in writes.items()]
        routes.append(Route("/favicon.ico", RedirectResponse("/static/icon.svg")))
        return [*routes, Mount("/static", StaticFiles(directory=_HERE / "static"))]

    async def events(self, request: Request) -> Response:
        """Send an event on each change, until the viewer leaves."""
        if self.pulse.viewers >= MOST_VIEWERS:
            return PlainTextResponse(f"No more than {MOST_VIEWERS} viewers can follow.", 503)
        keys = [one for one in request.query_params.getlist("of")[:20] if one]
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        since = request.headers.get("last-event-id") or request.query_params.get("since")
        return StreamingResponse(
            self.pulse.stream(keys, since), media_type="text/event-stream", headers=headers
        )

    def healthz(self, request: Request) -> Response:
        """Report whether the store responds."""
        try:
            self.shelf.marks(fresh=True)
        except OutOfReach:
            return PlainTextResponse("the store does not respond\n", 503)
        return PlainTextResponse("ok\n")

    def metrics(self, request: Request) -> Response:
        """Return the Prometheus metrics."""
        text = self.shelf.kept(PROCESSES, ("metrics", int(time.monotonic())), self.exposition.text)
        return Response(text, media_type=CONTENT_TYPE)

    def optuna(self, request: Request) -> Response:
        """Pass the request to Optuna's dashboard."""
        return self._optuna(request)

    def ask_password(self, request: Request) -> Response:
        """Show the login form, or to whoever is logged in a way out."""
        if not self.access.password:
            return RedirectResponse("/sweeps", 303)
        known = request.state.gate.is_known(request.state.session)
        return self.pages.draw(request, "login.html", wrong=False, known=known)

    async def log_in(self, request: Request) -> Response:
        """Check the password."""
        form = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=20)
        gate, session = request.state.gate, request.state.session
        if not gate.accepts(session, form.get("token", [""])[0]):
            return PlainTextResponse(
                "The form does not belong to this session; reload the page and try again.", 403
            )
        cookie = gate.log_in(form.get("password", [""])[0])
        if cookie is None:
            await anyio.sleep(AFTER_WRONG_PASSWORD_S)
            return self.pages.draw(request, "login.html", 403, wrong=True, known=False)
        return RedirectResponse("/sweeps", 303, {"Set-Cookie": cookie})

    async def log_out(self, request: Request) -> Response:
        """End the session."""
        form = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=20)
        if request.state.gate.accepts(request.state.session, form.get("token", [""])[0]):
            request.state.gate.log_out(request.state.session)
        return RedirectResponse("/login", 303)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        async with self._opening.under_way(), self.pulse.beating():
            yield

    def _load(self) -> Iterator[None]:
        yield from self.pages.prepare_importances()
        yield from self._optuna.prepare()

    async def _problem(self, request: Request, exc: Exception) -> Response:
        status = 404 if isinstance(exc, NotFound) else 400 if isinstance(exc, InputError) else 500
        status = 503 if isinstance(exc, OutOfReach) else status
        return self.pages.draw(request, "problem.html", status, told=str(exc), status=status)

    async def _missing(self, request: Request, exc: Exception) -> Response:
        told = "There is no such page.\nThe sweeps are listed at /sweeps"
        return self.pages.draw(request, "problem.html", 404, told=told, status=404)


def environment() -> Environment:
    """Return the template environment: every value is escaped, and a missing one is an error."""
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        auto_reload=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"orders": ORDERS, "words": wording, "report": report}
    made.filters |= {"metric": wording.metric, "value": wording.value, "brief": wording.brief}
    made.filters |= {"plain": _plain, "duration": wording.duration, "size": wording.size, "when": _when}
    made.filters["commands"] = _commands
    return made


def _commands(text: str) -> Markup:
    """Return text with the commands in it, which stand between backticks, as code."""
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704


def _plain(number: float) -> str:
    """Format a number to three digits, never with an exponent."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _when(at: datetime | float | None) -> str:
    found = at if isinstance(at, datetime) else moment(at)
    return wording.NOTHING if found is None else f"{found.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
