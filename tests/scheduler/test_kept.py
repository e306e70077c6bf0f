"""What stays between two runs of a folder: real keepers, a real Redis, a stub worker and a stub scheduler."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import stub_keeper
from chaos import checker

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.settings import Settings
from kerasweep.jobs.store.records import Records
from kerasweep.scheduler.local import embedded, kept
from kerasweep.scheduler.local.held_file import HeldFile
from kerasweep.scheduler.local.kept import KeptLocal
from kerasweep.scheduler.local.redis_server import RedisServer

#: Longer than any test takes.
LONG_S = 120.0
RUN = """
import signal, sys
from kerasweep.jobs.settings import Settings
from kerasweep.scheduler.local import kept

kept.KEEPER = [sys.executable, sys.argv[1]]
with kept.KeptLocal(Settings(home=sys.argv[2]), (), 120, print):
    signal.pause()
"""
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: None)
print("up", flush=True)
while True:
    time.sleep(600)
"""
STUB = str(Path(stub_keeper.__file__))


class Folder:
    """A home folder, and runs in it."""

    def __init__(self, home: Path) -> None:
        self.home, self.told = home, list[str]()
        self.made: list[KeptLocal] = []

    def run(self, keep_s: float = LONG_S, *flags: str) -> KeptLocal:
        self.made.append(KeptLocal(Settings(home=str(self.home)), flags, keep_s, self.told.append))
        return self.made[-1]

    def complete(self, keep_s: float = LONG_S, *flags: str) -> set[int]:
        """Run a sweep to its end; return the processes that trained it."""
        with self.run(keep_s, *flags) as local:
            local.check()
            there = self.running()
            local.keep()
        return there

    def running(self) -> set[int]:
        """Return the processes that were started for this folder; Redis hides its environment."""
        return {int(line.split()[1]) for line in checker.leftovers(f"KERASWEEP_HOME={self.home}\0")}

    def is_clean(self) -> bool:
        return not self.running() and not self.answers() and not (self.home / "warm").exists()

    def answers(self) -> bool:
        return RedisServer(self.home / "redis").answers()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    monkeypatch.setattr(kept, "KEEPER", [sys.executable, STUB])
    monkeypatch.setattr(embedded, "Child", stub_keeper.Idle)
    for name in ("BROKER_URL", "STORE_URL", "ARTIFACTS_URL"):
        monkeypatch.delenv(f"KERASWEEP_{name}", raising=False)
    made = Folder(tmp_path / "home")
    yield made
    for local in made.made:
        local.close()
    for pid in made.running():
        os.kill(pid, signal.SIGKILL)


def test_a_run_joins_what_an_earlier_one_kept(folder: Folder) -> None:
    first = folder.complete()
    assert len(first) == 3, "keeper, worker and scheduler"
    assert folder.running() == first
    assert folder.complete() == first
    assert folder.told == ["using the worker that an earlier run kept warm"]


def test_a_run_that_keeps_nothing_ends_what_it_joined(folder: Folder) -> None:
    first = folder.complete()
    assert folder.complete(0) == first
    assert folder.is_clean()


def test_all_ends_by_itself_when_no_run_comes(folder: Folder, until: Callable[..., None]) -> None:
    folder.complete(0.1)
    until(folder.is_clean, what="the end of what was kept")


@pytest.mark.parametrize("keep_s", [LONG_S, 0.0])
def test_other_options_end_what_was_kept(folder: Folder, keep_s: float) -> None:
    first = folder.complete()
    assert not first & folder.complete(keep_s, "--slots=3")
    assert not first & folder.running()
    assert folder.told == [
        "ending what was kept warm: it was started with another environment (worker options)"
    ]


def test_another_environment_ends_what_was_kept(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    first = folder.complete()
    monkeypatch.setenv("COLUMNS", "40")
    assert folder.complete() == first, "no training depends on the width of a terminal"
    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", "1")
    assert not first & folder.complete()
    assert "($TF_NUM_INTEROP_THREADS)" in folder.told[-1]


def test_code_that_changed_ends_what_was_kept(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trainer imports a package once in its life; only the job's own folder travels with each sweep."""
    code = tmp_path / "mine" / "layers.py"
    code.parent.mkdir()
    code.write_text("rate = 0.1")
    monkeypatch.setenv("PYTHONPATH", str(code.parent))
    first = folder.complete()
    os.utime(code, (1, 1))
    assert not first & folder.complete()
    assert folder.told[-1].endswith("(installed packages)")


def test_a_run_that_is_stopped_leaves_nothing(folder: Folder) -> None:
    """Whether it started the processes or joined them."""
    for _ in range(2):
        with folder.run():
            pass
        assert folder.is_clean()
        folder.complete()
    folder.complete(0)


def test_a_run_that_is_killed_leaves_nothing(folder: Folder, until: Callable[..., None]) -> None:
    run = subprocess.Popen([sys.executable, "-c", RUN, STUB, str(folder.home)])
    until(lambda: len(folder.running()) >= 3 and folder.answers(), what="Redis, worker and scheduler")
    run.kill()
    run.wait()
    until(folder.is_clean, what="the end of what it started")


def test_a_second_run_at_the_same_time_has_processes_of_its_own(folder: Folder) -> None:
    with folder.run() as one:
        first = folder.running()
        with folder.run() as other:
            assert len(other.pids) == 2
            other.keep()
        assert folder.running() == first
        one.keep()
    assert folder.running() == first
    assert "another run uses" in folder.told[-1]


def test_what_was_kept_and_killed_is_started_again(folder: Folder, until: Callable[..., None]) -> None:
    first = folder.complete()
    [keeper] = [pid for pid in first if _parent(pid) not in first]
    os.kill(keeper, signal.SIGKILL)
    until(lambda: not folder.running(), what="the end of its children")
    assert not first & folder.complete()
    assert folder.told == []


def test_a_keeper_killed_in_a_run_is_started_again(folder: Folder, until: Callable[..., None]) -> None:
    with folder.run() as local:
        first = folder.running()
        [keeper] = [pid for pid in first if _parent(pid) not in first]
        os.kill(keeper, signal.SIGKILL)
        until(lambda: not first & folder.running(), what="the end of its children")

        def is_back() -> bool:
            local.check()
            return len(folder.running()) == 3 and folder.answers()

        until(is_back, what="another keeper")
    assert folder.is_clean()


def test_a_worker_that_cannot_start_is_told_by_the_run(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, until: Any
) -> None:
    monkeypatch.setenv(stub_keeper.WORKER, "import sys; print('error: no such GPU', flush=True); sys.exit(2)")
    with folder.run() as local, pytest.raises(InputError, match="no such GPU"):
        until(lambda: local.check())
    assert folder.is_clean()


def test_a_worker_that_does_not_end_is_killed_at_the_second_signal(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, until: Callable[..., None]
) -> None:
    monkeypatch.setenv(stub_keeper.WORKER, DEAF)
    log = folder.home / "logs" / "worker.log"
    with folder.run() as local:
        until(lambda: "up" in log.read_text())
        local.kill()
    assert folder.is_clean()


def test_it_belongs_to_no_terminal_and_holds_nothing_of_its_run(folder: Folder) -> None:
    for pid in folder.complete():
        assert os.getsid(pid) != os.getsid(0)
        files = [os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1, 2)]
        assert files[0] == "/dev/null"
        assert all(name.startswith(str(folder.home)) for name in files[1:])


def test_it_ends_with_its_folder(folder: Folder, until: Callable[..., None]) -> None:
    folder.complete()
    folder.home.rename(folder.home.with_name("gone"))  # at once: Redis still writes there
    until(lambda: not folder.running(), what="the end of what was kept")
    assert not folder.home.exists()


def test_it_stays_while_its_worker_trains(folder: Folder, until: Callable[..., None]) -> None:
    """As a sweep does that was submitted between two runs."""
    with folder.run(0.1) as local:
        there = folder.running()
        records = Records(local.settings.store)
        for pid in there:
            records.seen(f"worker-{pid}", {"pid": pid, "packs": [1]})
        local.keep()
    log = folder.home / "logs" / "keeper.log"
    until(lambda: "a sweep is being trained" in log.read_text(), what="the end of its time")
    assert folder.running() == there
    for pid in there:
        records.seen(f"worker-{pid}", {"pid": pid, "packs": [0]})
    records.close()
    until(lambda: not folder.running(), what="the end of what was kept")


def test_a_held_file_has_one_holder_and_is_free_once_it_is_removed(tmp_path: Path) -> None:
    one, other = HeldFile(tmp_path / "deep" / "file"), HeldFile(tmp_path / "deep" / "file")
    assert not one.held
    assert one.hold()
    assert one.hold(), "once more"
    assert other.held
    assert not other.hold()
    one.write("a longer text")
    one.write("text")
    assert other.read() == "text"
    one.path.unlink()
    assert other.hold(), "a file that is no longer in place holds nothing"
    one.remove()
    assert other.in_place, "only its own file is removed"
    other.remove()
    assert other.read() == ""


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
