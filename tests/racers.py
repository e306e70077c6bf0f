"""Processes that use one store at the same time; a test starts them, releases them, and reads what they
print.

python racers.py RACE STORE_URL [ARGUMENT …]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

SWEEP = "abcd1234"
_END_S = 90.0


@contextmanager
def racers(
    race: str, url: str, arguments: Sequence[Sequence[object]]
) -> Iterator[list[subprocess.Popen[str]]]:
    """Start one process for each list of arguments, ready to go; none is left behind."""
    with ExitStack() as stack:
        started = []
        for row in arguments:
            command = [sys.executable, __file__, race, url, *map(str, row)]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            started.append(process)
        for process in started:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        yield started


def go(processes: Sequence[subprocess.Popen[str]]) -> list[Any]:
    """Release all at once, and return their results."""
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    printed = [process.communicate(timeout=_END_S)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return [json.loads(found) for found in printed]


def in_threads(work: Callable[[int], Any], count: int) -> list[Any]:
    """Call `work(0)`, `work(1)` … concurrently, each in a thread; return the results.

    Raises:
        BaseException: the first error of any.
    """
    barrier = threading.Barrier(count)
    found: list[Any] = [None] * count
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            barrier.wait(_END_S)
            found[number] = work(number)
        except BaseException as exc:  # noqa: BLE001 - raised again below, in the test's own thread
            errors.append(exc)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_END_S)
    if errors:
        raise errors[0]
    return found


def _claim(url: str, name: str) -> list[int | None]:
    """Let five threads claim one trial; return the attempts that they got."""
    from kerasweep.jobs.store.records import Records
    from kerasweep.jobs.trial import TrialKey

    records = Records(url)
    _wait()
    claims = in_threads(lambda number: records.claim(TrialKey(SWEEP, 0), f"{name}.{number}", 30.0), 5)
    return [claimed and claimed.key.attempt for claimed in claims]


def _decide(url: str, name: str, wanted: str) -> list[int]:
    """Add trials, each time the next number, until there are enough; return the numbers added here."""
    from kerasweep.jobs.store.models import NewTrial
    from kerasweep.jobs.store.records import Records

    records, mine = Records(url), []
    _wait()
    while True:
        with records.deciding(SWEEP) as decision:
            number = sum(decision.counts().values())
            if number >= int(wanted):
                return mine
            decision.add_trials([NewTrial(number, {}, number, f"by {name}")])
            mine.append(number)


def _write(url: str, first: str, count: str, seconds: str) -> dict[str, float]:
    """Train own trials without a pause; return the number of rounds, and the longest call in seconds."""
    from kerasweep.jobs.store.models import Progress
    from kerasweep.jobs.store.records import Records
    from kerasweep.jobs.trial import TrialKey, TrialState

    records = Records(url)
    keys = [TrialKey(SWEEP, int(first) + number) for number in range(int(count))]
    rounds, longest = 0, 0.0
    _wait()
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        for key in keys:
            start = time.monotonic()
            claimed = records.claim(key, f"w{first}", 30.0)
            assert claimed, key
            answer = records.record([Progress(claimed.key, logs=("line",))], 30.0)
            assert set(answer.values()) == {"go on"}, answer
            records.release(claimed.key, TrialState.QUEUED, "again")
            longest = max(longest, (time.monotonic() - start) / 3)
            rounds += 1
    return {"rounds": rounds, "longest_s": longest}


def _open(url: str) -> str:
    """Open a store that may not exist yet."""
    from kerasweep.jobs.store.records import Records

    _wait()
    records = Records(url)
    return str(len(records.sweeps()))


def _unprivileged(url: str) -> str:
    """Use a store as a user who may not write it; return the error."""
    from recorded import put_sweep

    from kerasweep.jobs.errors import OutOfReach
    from kerasweep.jobs.store.records import Records

    _wait()
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    try:
        put_sweep(Records(url))
    except OutOfReach as exc:
        return str(exc)
    return "no error"


def _wait() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    races: dict[str, Callable[..., Any]] = {
        "claim": _claim,
        "decide": _decide,
        "write": _write,
        "open": _open,
        "unprivileged": _unprivileged,
    }
    print(json.dumps(races[sys.argv[1]](*sys.argv[2:])))
