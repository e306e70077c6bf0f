"""The addresses of the broker, the store and the artifacts, checked before anything is opened."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

from kerasweep.jobs.errors import InputError, without_password

_BROKER = "the broker (--broker, KERASWEEP_BROKER_URL) must be redis://, rediss:// or redis+socket://"
_STORE = "the store (--store, KERASWEEP_STORE_URL) must be sqlite:///FILE or postgresql://USER@HOST/DATABASE"
_ARTIFACTS = "the artifacts (--artifacts, KERASWEEP_ARTIFACTS_URL) must be a folder or an fsspec URL"
_QUOTED = "percent-encode what a password holds: @ is %40, # is %23, / is %2F, ? is %3F, : is %3A, % is %25"

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):/")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.\-]*[A-Za-z0-9_.])?")
_FOLDERS = ("file", "local")
# fsspec can read these, but workers cannot write to them or share them.
_NOT_SHARED = frozenset(
    {"http", "https", "memory", "data", "git", "github", "zip", "tar", "libarchive", "reference", "generic"}
)
_SHOWN_CHARS = 160


def check_broker(url: str) -> None:
    """Check a broker URL.

    Raises:
        InputError: the URL is malformed or of an unknown kind.
    """
    parts = _split(_BROKER, url, "redis://HOST:6379/0")
    if parts.scheme not in ("redis", "rediss", "redis+socket"):
        raise _refuse(_BROKER, url, "another kind of broker", "redis://HOST:6379/0")
    if parts.scheme == "redis+socket":
        if not parts.path.strip("/"):
            raise _refuse(_BROKER, url, "no path of a socket", "redis+socket:///run/redis.sock")
        return
    _check_host(_BROKER, url, parts, "redis://HOST:6379/0")
    if not re.fullmatch(r"/?|/\d{1,5}", parts.path):
        raise _refuse(_BROKER, url, "no database number after the host", "redis://HOST:6379/0")
    _try(_BROKER, url, _pool_of)


def check_store(url: str) -> None:
    """Check a store URL, as far as possible without its driver.

    Raises:
        InputError: the URL is malformed or of an unknown kind.
    """
    wanted = "postgresql://USER@HOST:5432/DATABASE"
    if re.match(r"sqlite(\+\w+)?:", url):
        return  # a path may contain anything; the driver checks it
    parts = _split(_STORE, url, wanted)
    if parts.scheme.partition("+")[0] != "postgresql":
        raise _refuse(_STORE, url, "another kind of store", f"sqlite:///FILE or {wanted}")
    if not parts.netloc and not parts.path.strip("/") and not parts.query:
        raise _refuse(_STORE, url, "no database", wanted)
    if parts.netloc.rpartition("@")[2]:  # without a host libpq connects to a local socket
        _check_host(_STORE, url, parts, wanted)


def check_artifacts(url: str, *, shared: bool = True) -> None:
    """Check the artifacts URL, as far as possible without fsspec.

    Args:
        url: the setting.
        shared: whether other processes must be able to write there.

    Raises:
        InputError: the URL is malformed or of an unusable kind.
    """
    found = _SCHEME.match(url)
    if found is None or found[1] in _FOLDERS:
        return
    scheme = found[1]
    if scheme in _NOT_SHARED:
        if not shared:
            return
        raise _refuse(
            _ARTIFACTS, url, "which workers cannot write to", "a folder, s3://BUCKET or gs://BUCKET"
        )
    if "::" not in url:
        parts = _split(_ARTIFACTS, url, f"{scheme}://BUCKET/PREFIX")
        if not parts.netloc.rpartition("@")[2]:
            raise _refuse(_ARTIFACTS, url, "no bucket or host", f"{scheme}://BUCKET/PREFIX")


#: The check of each setting.
CHECKS: dict[str, Callable[[str], None]] = {
    "broker_url": check_broker,
    "store_url": check_store,
    "artifacts_url": check_artifacts,
}


def _split(rule: str, url: str, example: str) -> SplitResult:
    if not url.isprintable() or " " in url:
        raise _refuse(rule, url, "spaces or control characters", example)
    scheme = _SCHEME.match(url)
    if scheme is None or not url.startswith(f"{scheme[1]}://"):
        if not re.search("[:/]", url):  # perhaps a password pasted in the wrong place
            raise InputError(f"{rule}, got something that is not a URL\nWrite it like {example}")
        raise _refuse(rule, url, "it has no scheme", example)
    try:
        parts = urlsplit(url)
    except ValueError as exc:
        raise _refuse(rule, url, "misplaced brackets or other characters", example) from exc
    if parts.netloc.count("@") > 1 or (parts.fragment and "@" in parts.fragment):
        raise InputError(f"{rule}, got {shown(url)}\n{_QUOTED}")
    if parts.fragment:
        raise _refuse(rule, url, "it has a fragment (#...)", example)
    return parts


def _check_host(rule: str, url: str, parts: SplitResult, example: str) -> None:
    host = parts.netloc.rpartition("@")[2]
    try:
        port, name = parts.port, parts.hostname or ""
    except ValueError as exc:
        raise _refuse(rule, url, "the port must be a number from 1 to 65535", example) from exc
    if port == 0 or host.endswith(":"):
        raise _refuse(rule, url, "the port must be a number from 1 to 65535", example)
    if not name:
        raise _refuse(rule, url, "no host", example)
    if host.startswith("["):
        return
    try:
        plain = name.encode("idna").decode("ascii")
    except UnicodeError as exc:
        raise _refuse(rule, url, "the host name is invalid", example) from exc
    if not _HOST.fullmatch(plain):
        raise _refuse(rule, url, "the host name is invalid", example)


def _pool_of(url: str) -> object:
    import redis

    return redis.ConnectionPool.from_url(url).make_connection()


def _try(rule: str, url: str, make: Callable[[str], object]) -> None:
    try:
        make(url)
    except Exception as exc:
        raise _refuse(
            rule, url, "the Redis client does not know one of its options", "redis://HOST:6379/0"
        ) from exc


def _refuse(rule: str, url: str, fault: str, example: str) -> InputError:
    return InputError(f"{rule}, got {shown(url)}: {fault}\nWrite it like {example}")


def shown(url: str) -> str:
    """Return an address for a message: shortened, and without its password."""
    text = repr(without_password(url))
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
