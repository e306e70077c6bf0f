"""The supervisor: real processes, real signals, and no waiting on a clock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kerasweep.jobs.errors import Halted
from kerasweep.scheduler.local.supervise import Child, Patience, _end

SUPERVISOR = """
import logging, sys
from kerasweep.scheduler.local.supervise import Child, Patience, supervise
logging.basicConfig(level="INFO", stream=sys.stderr)
child = Child([sys.executable, "-c", sys.argv[1]], "the worker", grace_s=float(sys.argv[2]),
              patience=Patience(fast_s=60, fast_deaths=3, first_pause_s=0.01))
sys.exit(supervise(child))
"""
POLITE = """
import os, signal, sys, time
def leave(number, frame):
    print("asked", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, leave)
print(os.getpid(), flush=True)
while True:
    time.sleep(600)
"""
DEAF = """
import os, signal, time
signal.signal(signal.SIGTERM, lambda number, frame: print("asked", flush=True))
print(os.getpid(), flush=True)
while True:
    time.sleep(600)
"""


class Supervised:
    """A supervisor in its own process, and the pid of the child that it started last."""

    def __init__(self, program: str, grace_s: float = 60.0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, program, str(grace_s)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


@pytest.fixture
def supervised() -> Iterator[Callable[..., Supervised]]:
    made: list[Supervised] = []

    def make(program: str, grace_s: float = 60.0) -> Supervised:
        made.append(Supervised(program, grace_s))
        return made[-1]

    yield make
    for one in made:
        one.process.kill()
        one.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_passed_on_as_sigterm_and_the_code_comes_back(
    supervised: Callable[..., Supervised], alive: Callable[[int], bool], number: signal.Signals
) -> None:
    one = supervised(POLITE)
    pid = int(one.line())
    one.process.send_signal(number)
    assert one.line() == "asked"
    code, _ = one.end()
    assert code == 7
    assert not alive(pid)


def test_a_child_that_dies_is_started_again(
    supervised: Callable[..., Supervised], alive: Callable[[int], bool]
) -> None:
    one = supervised(POLITE)
    first = int(one.line())
    os.kill(first, signal.SIGKILL)
    second = int(one.line())
    assert second != first
    one.process.send_signal(signal.SIGTERM)
    code, errors = one.end()
    assert code == 7
    assert "the worker ended with signal SIGKILL" in errors
    assert not alive(second)


def test_a_child_that_dies_again_and_again_is_given_up(supervised: Callable[..., Supervised]) -> None:
    code, errors = supervised("import sys; sys.exit(5)").end()
    assert code == 1
    assert "the worker ended 3 times in a row within 60 s of its start, last with exit code 5" in errors


def test_wrong_input_ends_the_supervisor(supervised: Callable[..., Supervised]) -> None:
    code, errors = supervised("import sys; print('ran', flush=True); sys.exit(2)").end()
    assert (code, errors) == (2, "")


@pytest.mark.parametrize("code", [0, 75, -15])
def test_a_child_stopped_by_others_is_always_restarted(
    tmp_path: Path, until: Callable[..., None], code: int
) -> None:
    """Stopped by someone else, or by Celery itself: it is restarted without limit."""
    end = f"os.kill(os.getpid(), {-code})" if code < 0 else f"sys.exit({code})"
    child = Child(
        [sys.executable, "-I", "-S", "-c", f"import os, sys; print('ran', flush=True); {end}"],
        "the worker",
        5,
        log_path=tmp_path / "log",
        patience=Patience(fast_s=60, fast_deaths=2, first_pause_s=0),
    )
    child.start()

    def ran(times: int) -> bool:
        assert child.poll() is None
        return (tmp_path / "log").read_text(encoding="utf-8").count("ran") >= times

    until(lambda: ran(5))
    child.stop()


def test_a_deaf_child_is_killed_after_its_grace(
    supervised: Callable[..., Supervised], alive: Callable[[int], bool]
) -> None:
    one = supervised(DEAF, grace_s=0.3)
    pid = int(one.line())
    one.process.send_signal(signal.SIGTERM)
    assert one.line() == "asked"
    code, _ = one.end()
    assert code == 128 + signal.SIGKILL
    assert not alive(pid)


def test_a_second_ctrl_c_kills_at_once(
    supervised: Callable[..., Supervised], alive: Callable[[int], bool]
) -> None:
    one = supervised(DEAF, grace_s=600)
    pid = int(one.line())
    one.process.send_signal(signal.SIGINT)
    assert one.line() == "asked"
    one.process.send_signal(signal.SIGINT)
    code, _ = one.end()
    assert code == 128 + signal.SIGKILL
    assert not alive(pid)


def test_a_second_ctrl_c_counts_however_soon_it_comes(tmp_path: Path, until: Callable[..., None]) -> None:
    """It may arrive before the child was asked to end: then it must not be taken for the first."""
    log = tmp_path / "log"
    child = Child([sys.executable, "-c", DEAF], "the worker", 600, log_path=log)
    child.start()
    until(lambda: log.read_text(encoding="utf-8"))
    assert _end(child, [signal.SIGTERM, signal.SIGINT]) == 128 + signal.SIGKILL


def test_a_second_sigterm_does_not(supervised: Callable[..., Supervised]) -> None:
    one = supervised(DEAF, grace_s=600)
    one.line()
    one.process.send_signal(signal.SIGTERM)
    assert one.line() == "asked"
    one.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        one.process.wait(0.5)


def test_the_child_dies_with_a_killed_supervisor(
    supervised: Callable[..., Supervised], alive: Callable[[int], bool], until: Callable[..., None]
) -> None:
    one = supervised(DEAF)
    pid = int(one.line())
    one.process.kill()
    one.process.wait()
    until(lambda: not alive(pid), what="the child's end")


def test_the_child_hears_no_ctrl_c_of_the_terminal(supervised: Callable[..., Supervised]) -> None:
    one = supervised(POLITE)
    pid = int(one.line())
    assert os.getpgid(pid) != os.getpgid(one.process.pid)


class Hands:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def dies(tmp_path: Path, clock: Hands, patience: Patience) -> Child:
    program = "import sys; print('died', flush=True); sys.exit(5)"
    return Child(
        [sys.executable, "-I", "-S", "-c", program],
        "the worker",
        grace_s=5,
        log_path=tmp_path / "log",
        patience=patience,
        clock=clock,
    )


def test_pauses_grow_and_reset_after_a_long_life(tmp_path: Path, until: Callable[..., None]) -> None:
    clock = Hands()
    child = dies(tmp_path, clock, Patience(fast_s=10, fast_deaths=3, first_pause_s=4))
    child.start()

    def death_after(age_s: float) -> None:
        until(lambda: child.pid is None)
        clock.now += age_s
        assert child.poll() is None

    def starts_after(pause_s: float) -> bool:
        clock.now += pause_s - 0.5
        child.poll()
        too_early = (tmp_path / "log").read_text(encoding="utf-8").count("died")
        clock.now += 0.5
        child.poll()
        until(lambda: child.pid is None)
        return (tmp_path / "log").read_text(encoding="utf-8").count("died") == too_early + 1

    death_after(1)
    assert starts_after(4)
    death_after(1)
    assert starts_after(8)
    death_after(11)  # it lived long: the count starts again
    assert starts_after(4)
    death_after(1)
    assert starts_after(4)
    death_after(1)
    assert starts_after(8)
    with pytest.raises(Halted, match=r"ended 3 times in a row within 10 s.*its log .*log says why"):
        death_after(1)


def test_the_last_error_is_read_from_its_log(tmp_path: Path, until: Callable[..., None]) -> None:
    program = "import sys; sys.stderr.write('error: no such GPU\\n'); sys.exit(2)"
    child = Child([sys.executable, "-I", "-S", "-c", program], "the worker", 5, log_path=tmp_path / "log")
    child.start()
    until(lambda: child.pid is None)
    assert child.poll() == 2
    assert child.last_error() == "no such GPU"


def test_the_longest_pause_is_bounded() -> None:
    patience = Patience()
    assert patience.pause_s(10_000) == patience.longest_pause_s


def test_stopping_a_child_that_is_not_there_is_quiet(tmp_path: Path) -> None:
    assert dies(tmp_path, Hands(), Patience()).stop() == 0


def test_a_command_that_is_not_there_is_said_in_the_log(tmp_path: Path, until: Callable[..., None]) -> None:
    child = Child(
        ["no-such-program"], "the worker", 5, log_path=tmp_path / "log", patience=Patience(fast_deaths=1)
    )
    child.start()
    until(lambda: child.pid is None)
    with pytest.raises(Halted):
        child.poll()
    assert "no-such-program would not start" in (tmp_path / "log").read_text(encoding="utf-8")
