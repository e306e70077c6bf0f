"""The page under load: 10,000 trials on record, a sweep that goes on, and viewers who follow it.

    python benchmarks/page.py --trials 10000 --viewers 20 --seconds 60

The page, the viewers, and what stands for workers and scheduler are separate processes. Trials end at a
steady rate; what each costs (claim, epochs, end, decision) is measured without viewers first, then with them.
Prints one JSON document: milliseconds, and the memory of the page and, where Chromium is there, of a tab.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import chromium
from audience import Audience, ask
from crowd import record_many
from servers import free_port
from staged import Stage

from kerasweep.jobs.trial import TrialState
from kerasweep.scheduler.deciding.advance import advance

_START_S, _ALONE_S, _TAB_S = 60.0, 15.0, 30.0


def main() -> None:
    """Measure."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--trials", type=int, default=10_000)
    asked.add_argument("--viewers", type=int, default=20)
    asked.add_argument("--seconds", type=float, default=60.0)
    asked.add_argument("--rate", type=float, default=4.0, help="trials that end in a second; 0: none")
    asked.add_argument("--work", nargs=3, metavar=("HOME", "SWEEP", "SECONDS"), help=argparse.SUPPRESS)
    given = asked.parse_args()
    if given.work:
        print(json.dumps(work(Path(given.work[0]), given.work[1], float(given.work[2]), given.rate)))
        return
    with tempfile.TemporaryDirectory(prefix="kerasweep-page-") as folder:
        print(json.dumps(measure(Path(folder) / ".kerasweep", given), indent=1))


def measure(home: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Record the sweep, start the page, and let the viewers look."""
    queued = int(given.rate * (given.seconds + _ALONE_S + _TAB_S + 10))
    sweep, port = record_many(home, given.trials, queued), free_port()
    alone = _work_beside(home, sweep, _ALONE_S, given.rate)()
    words = ["-m", "kerasweep", "dashboard", "--home", str(home), "--port", str(port)]
    page = subprocess.Popen([sys.executable, *words], stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        begun, (first_ms, _) = time.monotonic(), ask(port, f"/sweeps/{sweep}")
        audience = Audience(port, sweep)
        ended = _work_beside(home, sweep, given.seconds, given.rate)
        audience.watch(given.viewers, given.seconds)
        watched, cores = ended(), cores_of(page.pid, time.monotonic() - begun)
        with _tab(port, sweep) as tab:
            # Its memory is that of a tab that follows; it draws on this machine's processors.
            _work_beside(home, sweep, _TAB_S, given.rate)()
            tab_mib = tab and memory_of(tab)
        facts: dict[str, Any] = {
            "trials": given.trials, "viewers": given.viewers, "seconds": given.seconds,
            "first_ms": round(first_ms, 1), **figures("answers", audience.times_ms),
            "changes_seen": audience.changes, "problems": audience.problems[:3],
            "trial_without_viewers": alone, "trial_with_viewers": watched,
            "page_cores": cores,
            "page_mib": round(psutil.Process(page.pid).memory_info().rss / 2**20), "tab_mib": tab_mib,
        }  # fmt: skip
    finally:
        page.terminate()
        page.wait(20)
    return facts


def work(home: Path, sweep: str, seconds: float, rate: float) -> dict[str, float]:
    """Let trials end at a steady rate, as a worker and a scheduler would; return what each cost."""
    stage, times = Stage(home), list[float]()
    queued = iter(stage.records.trials(sweep, [TrialState.QUEUED]))
    begun = time.monotonic()
    while (now := time.monotonic()) < begun + seconds:
        trial = next(queued)
        start = time.perf_counter()
        stage.complete(sweep, trial.number, (0.9, 0.5 + trial.number % 7 / 20))
        advance(stage.records, sweep)
        times.append(1000 * (time.perf_counter() - start))
        time.sleep(max(0.0, now + 1 / rate - time.monotonic()))
    stage.records.close()
    return figures("trials", times)


def figures(noun: str, times_ms: list[float]) -> dict[str, float]:
    """Return a summary of times."""
    cuts = {"p50_ms": median(times_ms), "p95_ms": quantiles(times_ms, n=20)[18], "max_ms": max(times_ms)}
    return {noun: len(times_ms), **{name: round(cut, 1) for name, cut in cuts.items()}}


def wait_for(port: int) -> None:
    """Wait until the page answers."""
    deadline = time.monotonic() + _START_S
    while True:
        try:
            ask(port, "/healthz")
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def cores_of(pid: int, seconds: float) -> float:
    """Return how many cores a process has kept busy."""
    return round(sum(psutil.Process(pid).cpu_times()[:2]) / seconds, 2)


def memory_of(tab: chromium.Chromium) -> int:
    """Return the memory of the largest process that renders a page, in MiB."""
    family = psutil.Process(tab.driver.service.process.pid).children(recursive=True)
    sizes = [one.memory_info().rss for one in family if "--type=renderer" in one.cmdline()]
    return round(max(sizes) / 2**20)


def _work_beside(home: Path, sweep: str, seconds: float, rate: float) -> Callable[[], Any]:
    """Let trials end in a process of its own; return what waits for it and returns what each trial cost."""
    if not rate:
        return lambda: None
    words = [sys.executable, __file__, "--rate", str(rate), "--work", str(home), sweep, str(seconds)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    return lambda: json.loads(process.communicate()[0])


@contextmanager
def _tab(port: int, sweep: str) -> Iterator[chromium.Chromium | None]:
    """Let a browser follow the sweep, where there is one."""
    if chromium.missing():
        yield None
        return
    with chromium.Chromium(port) as tab:
        tab.open(f"/sweeps/{sweep}")
        yield tab


if __name__ == "__main__":
    main()
