"""Process information from the kernel: identity, and whether a process has ended."""

from __future__ import annotations

import os
import subprocess
import sys

from kerasweep.jobs.kernel import KernelKills, cpu_seconds, has_ended, process_mark


def test_a_process_is_distinguished_from_any_other() -> None:
    mine = process_mark()
    assert mine == process_mark(os.getpid())
    assert mine != process_mark(os.getppid())
    assert not has_ended(mine)


def test_a_zombie_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        mark = process_mark(child.pid)
        assert not has_ended(mark)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert has_ended(mark)
    assert has_ended(mark)


def test_a_reused_number_is_another_process() -> None:
    head, _, started = str(process_mark()).rpartition("/")
    assert has_ended(f"{head}/{int(started) - 1}")


def test_a_process_elsewhere_has_not_ended() -> None:
    boot, space, pid, started = str(process_mark()).split("/")
    assert not has_ended(None)
    assert not has_ended(f"{boot[::-1]}/{space}/{pid}/1"), "another machine, or before it was started again"
    assert not has_ended(f"{boot}/{int(space) + 1}/{pid}/{started}1"), "another container"


def test_processor_time_is_counted() -> None:
    assert cpu_seconds(os.getpid()) > 0
    assert cpu_seconds(2**22 + 1) == 0


def test_only_a_recent_kill_for_memory_explains_a_death() -> None:
    now_s, count = [0.0], [3]
    kills = KernelKills(lambda: count[0], lambda: now_s[0])
    assert not kills.recent
    count[0] = 4
    assert kills.recent
    kills.look()  # while the process still ends
    assert kills.recent
    for now_s[0] in (6.0, 12.0):
        kills.look()
    assert not kills.recent
    count[0] = 5
    assert kills.recent
