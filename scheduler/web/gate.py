"""Access control: the Host, the origin, the password, the size of a request; and each response's headers."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from base64 import b64decode
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kerasweep.scheduler.web import optuna_mount

#: Pages use only their own scripts and styles.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_ASK_BASIC = {"WWW-Authenticate": 'Basic realm="kerasweep"'}
_LONGEST_QUERY, _LARGEST_BODY = 8_192, 65_536
_MOST_SESSIONS = 10_000
#: How long the answer to a wrong password takes.
AFTER_WRONG_PASSWORD_S = 1.0
#: Paths without a password: the health check, the styles, and the login.
_OPEN = ("/healthz", "/static/", "/login")
_READS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True)
class Access:
    """Where the page listens, and who may see it.

    Args:
        address: the address it listens on.
        port: its port.
        password: the password of viewers; empty for none, which is for loopback only.
        hosts: additional host names that browsers may use.
        read_only: whether nothing can be changed.
        tls: whether it is served over TLS.
    """

    address: str = "127.0.0.1"
    port: int = 8265
    password: str = field(default="", repr=False)
    hosts: tuple[str, ...] = ()
    read_only: bool = False
    tls: bool = False

    def knows(self, host: str) -> bool:
        """Tell whether a Host header names this page.

        A name owned by someone else can be made to resolve to this machine (DNS rebinding), an address
        cannot: addresses are accepted if the page listens to others, loopback ones always.
        """
        if set(host) & set("/?#@\\"):
            return False
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        try:
            found = ipaddress.ip_address(name)
        except ValueError:
            return name == "localhost" or name in {one.lower() for one in (*self.hosts, self.address)}
        return found.is_loopback or not is_loopback(self.address)


def is_loopback(address: str) -> bool:
    """Tell whether an address is only reachable from this machine."""
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


class Gate:
    """Middleware that checks requests, and adds headers to each response.

    Args:
        app: the protected application.
        access: who may pass.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access
        self._secret = secrets.token_bytes(32)
        self._known: dict[str, None] = {}
        self._cookie = f"kerasweep_{access.port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        session = request.cookies.get(self._cookie, "")
        fresh = "" if _is_session(session) else secrets.token_urlsafe(24)
        scope["state"] = {**scope.get("state", {}), "gate": self, "session": fresh if fresh else session}
        answer = self._refusal(request)
        if answer and answer.status_code == 401 and "authorization" in request.headers:
            await anyio.sleep(AFTER_WRONG_PASSWORD_S)
        await (answer or self._app)(scope, receive, self._with_headers(scope, send, fresh))

    @property
    def guarded(self) -> bool:
        """Whether viewers need a password."""
        return bool(self._access.password)

    def is_known(self, session: str) -> bool:
        """Tell whether a session has given the password."""
        return session in self._known

    def token(self, session: str) -> str:
        """Return the token that a form of this session must contain."""
        return hmac.new(self._secret, session.encode(), hashlib.sha256).hexdigest()

    def accepts(self, session: str, token: str) -> bool:
        """Tell whether a form's token belongs to the session."""
        return hmac.compare_digest(self.token(session).encode(), token.encode())

    def log_in(self, password: str) -> str | None:
        """Authorize a new session if the password is right; return its cookie.

        The session before may be known to others: any page of the same host can set a cookie.
        """
        if not self._is_password(password):
            return None
        session = secrets.token_urlsafe(24)
        self._known[session] = None
        while len(self._known) > _MOST_SESSIONS:
            self._known.pop(next(iter(self._known)))
        return self._cookie_of(session)

    def log_out(self, session: str) -> None:
        """Forget a session."""
        self._known.pop(session, None)

    def _refusal(self, request: Request) -> Response | None:
        headers = request.headers
        if not self._access.knows(headers.get("host", "")):
            told = "This page does not have that name. Open it by the address it prints, or add --allow-host."
            return PlainTextResponse(told, 421)
        if len(request.scope.get("query_string", b"")) > _LONGEST_QUERY:
            return PlainTextResponse("The query is too long.", 414)
        if request.method not in _READS and (refused := _refuse_writing(headers)):
            return refused
        if headers.get("sec-fetch-site", "") == "cross-site":
            return _refuse_foreign(request)
        return self._refuse_stranger(request)

    def _refuse_stranger(self, request: Request) -> Response | None:
        path = request.scope["path"]  # not `url.path`, which Starlette builds from the Host header
        open_ = any(path.startswith(one) if one.endswith("/") else path == one for one in _OPEN)
        if not self._access.password or open_ or request.state.session in self._known:
            return None
        if self._is_password(_basic_password(request.headers)):
            return None
        if request.method in _READS and "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("/login", 303)
        return PlainTextResponse(
            "A password is needed.", 401, {"WWW-Authenticate": 'Basic realm="kerasweep"'}
        )

    def _is_password(self, given: str) -> bool:
        return hmac.compare_digest(
            hashlib.sha256(given.encode()).digest(), hashlib.sha256(self._access.password.encode()).digest()
        )

    def _cookie_of(self, session: str) -> str:
        flags = "Path=/; HttpOnly; SameSite=Strict" + ("; Secure" if self._access.tls else "")
        return f"{self._cookie}={session}; {flags}"

    def _with_headers(self, scope: Scope, send: Send, fresh: str) -> Send:
        foreign = Headers(scope=scope).get("sec-fetch-site")
        policy = optuna_mount.POLICY if scope["path"].startswith(f"{optuna_mount.PREFIX}/") else POLICY

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = policy
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if fresh and message["status"] < 400 and foreign != "cross-site":
                    headers.append("Set-Cookie", self._cookie_of(fresh))
            await send(message)

        return sending


def _refuse_writing(headers: Headers) -> Response | None:
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        return PlainTextResponse("Another site may not change anything here.", 403)
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return PlainTextResponse("Another site may not change anything here.", 403)
    # Without either header a request has no body.
    length = headers.get("content-length", "" if "transfer-encoding" in headers else "0")
    if not length.isdecimal() or len(length) > 9 or int(length) > _LARGEST_BODY:
        return PlainTextResponse("The body is too large, or its length is missing.", 413)
    return None


def _refuse_foreign(request: Request) -> Response:
    """Repeat a link followed from another site once from here, with our cookies; refuse anything else."""
    if request.headers.get("sec-fetch-mode") != "navigate" or request.method != "GET":
        return PlainTextResponse("Another site may not read this page.", 403)
    return HTMLResponse('<!doctype html><title>kerasweep</title><meta http-equiv="refresh" content="0">')


def _basic_password(headers: Headers) -> str:
    kind, _, given = headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return ""
    try:
        return b64decode(given, validate=True).decode().partition(":")[2]
    except (ValueError, UnicodeDecodeError):
        return ""


def _is_session(given: str) -> bool:
    return len(given) == 32 and given.isascii() and given.replace("-", "a").replace("_", "a").isalnum()
