"""The page under load: 10,000 trials on record, and viewers who follow, filter and read curves.

    python benchmarks/page.py --trials 10000 --viewers 20 --seconds 60

The page is a process of its own. Prints one JSON document: milliseconds of answers, and the page's memory.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import quantiles

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from crowd import record_many
from servers import free_port

_START_S = 60.0


def main() -> None:
    """Measure."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--trials", type=int, default=10_000)
    asked.add_argument("--viewers", type=int, default=20)
    asked.add_argument("--seconds", type=float, default=60.0)
    given = asked.parse_args()
    with tempfile.TemporaryDirectory(prefix="kerasweep-page-") as folder:
        home = Path(folder) / ".kerasweep"
        sweep = record_many(home, given.trials)
        port = free_port()
        words = ["-m", "kerasweep", "dashboard", "--home", str(home), "--port", str(port)]
        page = subprocess.Popen([sys.executable, *words], stderr=subprocess.DEVNULL)
        try:
            wait_for(port)
            first_ms = ask(port, f"/sweeps/{sweep}")
            found = press(port, sweep, given.viewers, given.seconds)
            found |= {"trials": given.trials, "viewers": given.viewers, "first_ms": round(first_ms, 1)}
            found["page_mib"] = round(psutil.Process(page.pid).memory_info().rss / 2**20)
        finally:
            page.terminate()
            page.wait(20)
    print(json.dumps(found, indent=1))


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


def ask(port: int, path: str) -> float:
    """Ask for a page; return how long its answer took, in milliseconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    begun = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status != 200:
        raise OSError(f"{path} gave {answer.status}")
    return 1000 * (time.perf_counter() - begun)


def press(port: int, sweep: str, viewers: int, seconds: float) -> dict[str, float]:
    """Let viewers look for a while, each about once a second; return the times of the answers."""
    times: list[float] = []
    base, end = f"/sweeps/{sweep}", time.monotonic() + seconds
    paths = [
        base, f"{base}/curves.json", f"{base}?sort=value", f"{base}?state=stopped&page=3",
        f"{base}/trials/17", f"{base}?within=value:0.2:0.6", "/sweeps", "/workers",
    ]  # fmt: skip

    def look(viewer: int) -> None:
        chance = random.Random(viewer)
        while time.monotonic() < end:
            times.append(ask(port, chance.choice(paths)))
            time.sleep(chance.uniform(0.5, 1.5))

    threads = [threading.Thread(target=look, args=(viewer,)) for viewer in range(viewers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cuts = quantiles(times, n=100)
    return {"answers": len(times), "p50_ms": round(cuts[49], 1), "p95_ms": round(cuts[94], 1),
            "worst_ms": round(max(times), 1)}  # fmt: skip


if __name__ == "__main__":
    main()
