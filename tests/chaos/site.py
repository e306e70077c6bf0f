"""Everything that a sweep needs, run as users run it, behind an unreliable network."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import psutil
from chaos.proxy import Proxy
from servers import PostgresServer

from kerasweep.jobs.errors import KerasweepError
from kerasweep.jobs.settings import Settings, to_env
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import TrialState
from kerasweep.scheduler.local.redis_server import RedisServer

#: Short leases, so that losses are found within seconds. About a tenth of the defaults.
SETTINGS = Settings(
    lease_s=4.0,
    renew_s=0.5,
    self_stop_s=2.5,
    reconcile_s=0.5,
    flush_s=0.2,
    grace_s=8.0,
    hang_s=30.0,
    reach_s=2.0,
    prune_s=2.0,
    orphan_grace_s=15.0,
    delete_grace_s=4.0,
)
_END_S = 20.0
_RESTART_S = 0.5
_WORKERS = 2


class Store(Protocol):
    """A store that can go away for a while."""

    url: str

    def away(self) -> None:
        """Stop answering."""

    def back(self) -> None:
        """Answer again."""

    def close(self) -> None:
        """End for good."""


class SqliteStore:
    """A file; it is unavailable while another process holds its write lock."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "store.db"
        self.url = f"sqlite:///{self._path}"
        self._holder: sqlite3.Connection | None = None

    def away(self) -> None:
        """Take the write lock."""
        if self._holder is None:
            self._holder = sqlite3.connect(self._path, timeout=10.0, isolation_level=None)
            self._holder.execute("begin immediate")

    def back(self) -> None:
        """Release the lock."""
        if self._holder is not None:
            self._holder.close()
            self._holder = None

    def close(self) -> None:
        """Release the lock."""
        self.back()


class PostgresStore:
    """A server, stopped cleanly or abruptly."""

    def __init__(self) -> None:
        self._server = PostgresServer().__enter__()
        self.url = self._server.url(self._server.new_database())
        self._up, self._gently = True, True

    def away(self) -> None:
        """Stop the server: alternately with its connections closed cleanly, and as after a crash."""
        if self._up:
            self._server.stop(signal.SIGINT if self._gently else signal.SIGQUIT)
            self._up, self._gently = False, not self._gently

    def back(self) -> None:
        """Start the server."""
        if not self._up:
            self._server.start()
            self._up = True

    def close(self) -> None:
        """Stop the server and remove its data."""
        self._server.__exit__(None, None, None)


class Kept:
    """A command that is restarted whenever it has ended, as an init system would."""

    def __init__(self, name: str, command: list[str], environ: dict[str, str], log: Path) -> None:
        self.name, self._command, self._environ, self._log = name, command, environ, log
        self._process: subprocess.Popen[bytes] | None = None
        self._due = 0.0

    def tend(self) -> None:
        """Start it if it is not running."""
        if self._process is not None and self._process.poll() is not None:
            self._process, self._due = None, time.monotonic() + _RESTART_S
        if self._process is None and time.monotonic() >= self._due:
            with self._log.open("ab") as out:
                self._process = subprocess.Popen(
                    self._command, env=self._environ, stdout=out, stderr=out, start_new_session=True
                )

    @property
    def supervisor(self) -> psutil.Process | None:
        """The command itself."""
        return _process(self._process.pid) if self._process and self._process.poll() is None else None

    @property
    def child(self) -> psutil.Process | None:
        """The supervised process."""
        children = _children(self.supervisor)
        return children[0] if children else None

    @property
    def trainers(self) -> list[psutil.Process]:
        """The trainers of the supervised worker."""
        return [one for one in _children(self.child, below=True) if "trainer.main" in _command(one)]

    @property
    def tree(self) -> list[psutil.Process]:
        """The supervised process and its trainers, top-level ones first."""
        child = self.child
        return [child, *self.trainers] if child else []

    def end(self) -> None:
        """Ask it to end, and kill it if it does not."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Site:
    """A scheduler and workers on a store, and a Redis behind a proxy; all of it ends with `close`.

    Args:
        folder: where everything is kept; it marks every process's environment.
        store: the records.
        settings: leases and so on; its URLs are set here.
        doubled: deliver every message twice.
        slots: the number of trials that a worker trains at once.
    """

    def __init__(
        self,
        folder: Path,
        store: Store,
        settings: Settings = SETTINGS,
        *,
        doubled: bool = False,
        slots: int = 4,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.store = folder, store
        self.redis = RedisServer(folder / "redis")
        self.redis.start()
        self.redis_wanted = True
        self.proxy = Proxy(lambda: str(self.redis.socket_path), doubled=doubled)
        self.settings = replace(
            settings, home=str(folder), broker_url=self.proxy.url, store_url=store.url, artifacts_url=""
        )
        self.records = Records(store.url, reach_s=2.0)
        #: The sweep that is disturbed.
        self.sweep = ""
        self.scheduler = self._kept("scheduler", "scheduler")
        flags = ("worker", "--trainers=1", "--threads=1", f"--slots={slots}")
        self.workers = [
            self._kept(f"worker-{n}", *flags, f"--name=worker-{n}@chaos") for n in range(_WORKERS)
        ]

    @property
    def marker(self) -> str:
        """What is in the environment of every process of this site, and of no other."""
        return f"KERASWEEP_HOME={self.folder}"

    @property
    def artifacts(self) -> Path:
        """The folder of the artifacts."""
        return Path(self.settings.artifacts)

    @property
    def everyone(self) -> list[Kept]:
        """The scheduler and the workers."""
        return [self.scheduler, *self.workers]

    def tend(self) -> None:
        """Restart what ended."""
        for kept in self.everyone:
            kept.tend()
        if self.redis_wanted:
            self.redis.ensure()

    def forget_redis(self, *, file: bool) -> None:
        """Kill Redis, and delete its file if asked; `tend` starts it when `redis_wanted`."""
        if self.redis.pid is not None:
            os.kill(self.redis.pid, signal.SIGKILL)
        self.redis_wanted = False
        self.redis.stop()
        if file:
            for path in [*self.redis.folder.glob("appendonly*")]:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def progress(self, sweep: str) -> int | None:
        """Return the number of recorded epochs of a sweep; None while the store does not respond."""
        try:
            return sum(trial.epochs for trial in self.records.trials(sweep))
        except KerasweepError:
            return None

    @property
    def busy(self) -> bool:
        """Whether trials of the disturbed sweep train or wait to, as far as the store answers."""
        try:
            return bool(self.records.trials(self.sweep, [TrialState.RUNNING, TrialState.QUEUED]))
        except KerasweepError:
            return True

    def trains(self, worker: Kept) -> bool:
        """Tell whether a worker trains a trial of the disturbed sweep, as far as the store answers."""
        try:
            running = self.records.trials(self.sweep, [TrialState.RUNNING])
        except KerasweepError:
            return False
        return any(trial.worker == f"{worker.name}@chaos" for trial in running)

    def ended(self, sweep: str) -> bool:
        """Tell whether a sweep has ended; False while the store does not respond."""
        try:
            return self.records.sweep(sweep).state.final
        except KerasweepError:
            return False

    def close(self) -> None:
        """End everything."""
        self.store.back()
        self.proxy.heal()
        for kept in self.everyone:
            for process in kept.tree:
                with contextlib.suppress(psutil.Error):
                    process.resume()
        for kept in self.everyone:
            if kept.supervisor:
                kept.supervisor.terminate()
        for kept in self.everyone:
            kept.end()
        self.proxy.close()
        self.redis.stop()
        self.records.close()

    def _kept(self, name: str, *words: str) -> Kept:
        command = [str(Path(sys.executable).with_name("kerasweep")), *words]
        environ = {**os.environ, **to_env(self.settings), "TF_NUM_INTRAOP_THREADS": "1"}
        return Kept(name, command, environ, self.folder / f"{name}.log")


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


def _children(parent: psutil.Process | None, *, below: bool = False) -> list[psutil.Process]:
    if parent is None:
        return []
    try:
        return parent.children(recursive=below)
    except psutil.Error:
        return []


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
