"""Mounts Optuna's dashboard at /optuna/: only GET requests, over a read-only storage."""

from __future__ import annotations

import gzip
import io
import logging
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit
from wsgiref.util import setup_testing_defaults

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from kerasweep.jobs.errors import InputError
from kerasweep.scheduler.web.roster import Rosters
from kerasweep.scheduler.web.shelf import Shelf

log = logging.getLogger(__name__)

PREFIX = "/optuna"
#: Content policy of its page: its plots are drawn by code that they compile, and it sets inline styles.
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; font-src 'self' data:; worker-src 'self' blob:; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
#: Its front end assumes that it is at the root of its host; these are the URLs that it requests.
_MOVED = {
    "text/html": (('"/static/', f'"{PREFIX}/static/'),),
    "javascript": (
        ('"/dashboard"', f'"{PREFIX}/dashboard"'),
        ("}/api/", f"}}{PREFIX}/api/"),
        ("`/csv/", f"`{PREFIX}/csv/"),
        ("`/artifacts/", f"`{PREFIX}/artifacts/"),
    ),
}
_SHORTEST_GZIP = 1 << 10
#: The largest of its requests: a study with its trials.
_STUDY = re.compile(r"/api/studies/([0-9]{1,10})\?(?:after=([0-9]{1,9}))?")


class OptunaMount:
    """Runs optuna-dashboard in this process, and rewrites the URLs in its responses.

    It receives nothing of a request but the path and the query of a GET.

    Args:
        shelf: reads the records.
        rosters: reads the trials.
    """

    def __init__(self, shelf: Shelf, rosters: Rosters) -> None:
        self._shelf, self._rosters = shelf, rosters
        self._app: Any = None
        self._storage: Any = None
        self._details: Any = None
        self._script = b""
        self._turn = threading.RLock()

    @staticmethod
    def is_installed() -> bool:
        """Tell whether the package is installed."""
        return find_spec("optuna_dashboard") is not None

    def __call__(self, request: Request) -> Response:
        """Answer requests below /optuna.

        Raises:
            InputError: the package is not installed.
        """
        if not self.is_installed():
            raise InputError("this page needs optuna-dashboard; pip install 'kerasweep[dashboard]'")
        path = "/" + request.path_params.get("path", "")
        if path == "/":
            return RedirectResponse(f"{PREFIX}/dashboard", 303)
        if path.startswith("/csv/"):  # it would pass formulas on; our own CSV quotes them
            return PlainTextResponse("Each sweep's own page has its trials as CSV.", 404)
        if path == "/static/bundle.js":
            return self._bundle(request)
        if study := _STUDY.fullmatch(f"{path}?{request.url.query}"):
            return _packed(request, self._detail(int(study[1]), int(study[2] or 0)))
        return _packed(request, self._ask(self._dashboard(), path, request.url.query))

    def prepare(self) -> Iterator[None]:
        """Load the dashboard, if it is installed, and the newest sweep's trials."""
        if not self.is_installed():
            return
        self._dashboard()
        yield
        for sweep in self._shelf.client.sweeps()[:1]:
            self._details.of(sweep.id)
            yield

    def _detail(self, study: int, after: int) -> Response:
        self._dashboard()
        try:
            sweep = self._storage.sweep(study)
        except KeyError:
            return JSONResponse({"reason": f"study_id={study} is not found"}, 404)
        return Response(self._details.of(sweep.id, after), media_type="application/json")

    def _bundle(self, request: Request) -> Response:
        """Return the front end, rewritten and compressed once."""
        with self._turn:
            if not self._script:
                found = self._ask(self._dashboard(), "/static/bundle.js", "")
                self._script = gzip.compress(bytes(found.body), 6)
        packed = _takes_gzip(request)
        headers = {"Vary": "Accept-Encoding", "Cache-Control": "private, max-age=3600"}
        headers |= {"Content-Encoding": "gzip"} if packed else {}
        body = self._script if packed else gzip.decompress(self._script)
        return Response(body, headers=headers, media_type="text/javascript")

    @staticmethod
    def _ask(app: Any, path: str, query: str) -> Response:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": path.encode().decode("latin-1"),
            "QUERY_STRING": query,
            "HTTP_ACCEPT_ENCODING": "identity",
        }
        setup_testing_defaults(environ)
        environ["wsgi.errors"] = io.StringIO()
        head: dict[str, Any] = {}

        def start(status: str, headers: Iterable[tuple[str, str]], _: object = None) -> None:
            head["status"], head["headers"] = status, {name.lower(): value for name, value in headers}

        answer = app(environ, start)
        try:
            body = b"".join(answer)
        finally:
            getattr(answer, "close", lambda: None)()
        if told := environ["wsgi.errors"].getvalue():
            log.warning("optuna-dashboard: %s", told.strip().splitlines()[-1])
        return _moved(int(head["status"].partition(" ")[0]), head["headers"], body)

    def _dashboard(self) -> Any:
        with self._turn:
            if self._app is None:
                import optuna_dashboard

                from kerasweep.scheduler.web.optuna_storage import Details, SweepStorage

                self._storage = SweepStorage(self._shelf, self._rosters)
                self._details = Details(self._storage, lambda *asked: bytes(self._ask(*asked).body))
                self._app = optuna_dashboard.wsgi(self._storage)
            return self._app


def _moved(status: int, headers: Mapping[str, str], body: bytes) -> Response:
    """Return a response of the dashboard with its URLs and redirects moved below /optuna."""
    kind = headers.get("content-type", "application/octet-stream")
    for part, pairs in _MOVED.items():
        if part in kind:
            for old, new in pairs:
                body = body.replace(old.encode(), new.encode())
    kept = {name: headers[name] for name in ("content-disposition",) if name in headers}
    if "location" in headers:
        kept["location"] = PREFIX + urlsplit(headers["location"]).path
    return Response(body, status, kept, media_type=kind)


def _packed(request: Request, answer: Response) -> Response:
    """Return a response, compressed if that is worth it."""
    if len(answer.body) < _SHORTEST_GZIP or not _takes_gzip(request):
        return answer
    headers = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return Response(
        gzip.compress(bytes(answer.body), 1), answer.status_code, headers, media_type=answer.media_type
    )


def _takes_gzip(request: Request) -> bool:
    return "gzip" in request.headers.get("accept-encoding", "")
