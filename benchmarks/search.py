"""Time to target: seconds from the command until a model at the target exists, beside the peers' searches.

    python benchmarks/search.py search_mlp|search_cnn|search_wide [--seeds 5] [--deadline 160]
                                [--peers optuna,keras_tuner,ray] [--python PEERS_PYTHON] [--out FILE.json]

The targets are what the best twentieth and the best hundredth of 200 random trials reach
(`benchmarks/curves`). A model at the target exists when an epoch has ended whose value is at the target or
below it: kerasweep's records tell when, and a callback in the peers' trainings. kerasweep runs the sweep that
`docs/search.md` advises, from the command and on a worker that is up; each peer what its own documentation
advises. Ways are interleaved, once for each seed; a search that needs longer than the deadline did not get
there. Core seconds are those of the whole machine, which must be idle otherwise.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml
from cluster import cluster, machine, publish
from compare import peers_python

from kerasweep.jobs.settings import Settings

HERE = Path(__file__).resolve().parent
PEERS = ("optuna", "keras_tuner", "ray")
SHARES = {"twentieth": 0.05, "hundredth": 0.01}
_LOOK_S = 0.25
_END_S = 20.0


def main() -> None:
    """Search with every way and seed; print the medians, write the file."""
    flags = _flags()
    aims = targets(flags.job)
    times: dict[str, list[dict[str, float]]] = {}
    peers = [peer for peer in flags.peers.split(",") if peer]
    python = flags.python or (peers_python() if peers else sys.executable)
    for seed in range(1, flags.seeds + 1):
        with tempfile.TemporaryDirectory(prefix="kerasweep-search-") as name:
            race = Race(HERE / "jobs" / flags.job, Path(name), seed, aims, flags.deadline)
            ways: dict[str, Callable[[], dict[str, float]]] = {"kerasweep": race.cold, "worker up": race.warm}
            ways |= {peer: partial(race.peer, python, peer) for peer in peers}
            for way, run in ways.items():
                times.setdefault(way, []).append(found := run())
                sys.stderr.write(f"seed {seed}: {way} {found}\n")
    publish(summarize(flags.job, aims, times), flags.out)


def targets(job: str) -> dict[str, float]:
    """Return what the best shares of 200 random trials reach."""
    with np.load(HERE / "curves" / f"{job.removeprefix('search_')}.npz") as table:
        values = np.nanmin(table["curves"][:200], axis=1)
    return {name: float(np.nanquantile(values, share)) for name, share in SHARES.items()}


@dataclass(frozen=True)
class Race:
    """One seed's searches of a job.

    Args:
        job: its folder.
        folder: for all output.
        seed: of the search.
        aims: the targets by name, the hardest last.
        deadline_s: after this long a search has failed.
    """

    job: Path
    folder: Path
    seed: int
    aims: dict[str, float]
    deadline_s: float

    @property
    def content(self) -> dict[str, Any]:
        """The sweep file."""
        content: dict[str, Any] = yaml.safe_load((self.job / "sweep.yaml").read_text())
        return content

    @property
    def metric(self) -> str:
        """What is minimized."""
        return str(self.content["metric"]["name"])

    def cold(self) -> dict[str, float]:
        """Search with `kerasweep run`, from the command."""
        home = self.folder / "cold"
        code = "from kerasweep.scheduler.cli.entry import main; main()"
        command = [sys.executable, "-c", code, "run", str(self._file()), "-o", "json"]
        watch = Watch(self, partial(_in_records, home, self.metric))
        with _running(command, {"KERASWEEP_HOME": str(home)}, self.folder) as process:
            return watch.wait(process)

    def warm(self) -> dict[str, float]:
        """Search on a worker that is up."""
        home = self.folder / "warm"
        with cluster(home) as site:
            watch = Watch(self, partial(_in_records, home, self.metric))
            site.submit(self._file())
            return watch.wait(None)

    def peer(self, python: str, peer: str) -> dict[str, float]:
        """Search with a peer, from the command."""
        plan, log = self.folder / f"{peer}.json", self.folder / f"{peer}.log"
        training = self.content["training"]
        content = {
            "job": str(self.job / "train.py"),
            "space": self.content["parameters"],
            "metric": self.metric,
            "epochs": training["epochs"],
            "batch_size": training["batch_size"],
            "seed": self.seed,
            "log": str(log),
        }
        plan.write_text(json.dumps(content))
        command = [python, str(HERE / "peers" / f"search_with_{peer}.py"), str(plan)]
        watch = Watch(self, partial(_in_log, log))
        with _running(command, {"TF_CPP_MIN_LOG_LEVEL": "3"}, self.folder) as process:
            return watch.wait(process)

    def _file(self) -> Path:
        """Return the sweep file that `docs/search.md` advises for some hundred trials."""
        content = self.content | {"method": "auto", "seed": self.seed, "job": str(self.job / "train.py")}
        content["budget"] = {"max_trials": 10_000}  # the peers do not end before the target either
        content["stopping"] = {"halving": {}}
        file = self.folder / "sweep.yaml"
        file.write_text(yaml.safe_dump(content))
        return file


class Watch:
    """Waits for a search that begins now.

    Args:
        race: its targets, and how long it may take.
        reached: tells when a target was reached, in seconds since 1970; None if it is not yet.
    """

    def __init__(self, race: Race, reached: Callable[[float], float | None]) -> None:
        self._race, self._reached = race, reached
        self._begun_s, self._used_s = time.time(), _core_seconds()

    def wait(self, process: subprocess.Popen[bytes] | None) -> dict[str, float]:
        """Wait for the hardest target; return the seconds to each, infinite if not reached, and core seconds.

        Raises:
            RuntimeError: the search's process failed.
        """
        hardest = list(self._race.aims.values())[-1]
        while time.time() < self._begun_s + self._race.deadline_s and self._reached(hardest) is None:
            if process is not None and process.poll() is not None:
                if process.returncode:
                    raise RuntimeError(f"a search ended with {process.returncode}; see {self._race.folder}")
                break
            time.sleep(_LOOK_S)
        found = {"core seconds": round(_core_seconds() - self._used_s, 1)}
        for name, aim in self._race.aims.items():
            at_s = self._reached(aim)
            found[name] = math.inf if at_s is None else round(at_s - self._begun_s, 2)
        return found


def summarize(job: str, aims: dict[str, float], times: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return the medians, what each seed took, and how many times faster than the best peer."""
    medians = {
        way: {name: statistics.median(row[name] for row in rows) for name in rows[0]}
        for way, rows in times.items()
    }
    peers = [way for way in medians if way in PEERS]
    best = {name: min((medians[way][name] for way in peers), default=math.inf) for name in aims}
    return {
        "job": job,
        "machine": machine(),
        "targets": aims,
        "seconds": {
            way: {
                name: {"median": _told(medians[way][name]), "all": [_told(row[name]) for row in rows]}
                for name in rows[0]
            }
            for way, rows in times.items()
        },
        "times_faster_than_the_best_peer": {
            way: {name: _told(round(best[name] / medians[way][name], 1)) for name in aims}
            for way in medians
            if way not in PEERS and all(math.isfinite(medians[way][name]) for name in aims)
        },
    }


def _told(seconds: float) -> float | None:
    """Return a figure as JSON has it: null for what was not reached."""
    return round(seconds, 2) if math.isfinite(seconds) else None


@contextmanager
def _running(command: list[str], environ: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command; end it and all that it has started at the end."""
    with (folder / "output.log").open("ab") as out:
        process = subprocess.Popen(
            command, env={**os.environ, **environ}, cwd=folder, stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield process
    finally:
        started = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        _, left = psutil.wait_procs(started, timeout=2.0)
        for one in left:
            one.kill()


def _in_records(home: Path, metric: str, aim: float) -> float | None:
    """Return when an epoch at the target was recorded, in seconds since 1970; None if none is."""
    store = Path(Settings(home=str(home)).store.removeprefix("sqlite:///"))
    if not store.is_file():
        return None
    query = "select min(at) from epochs where json_extract(metrics, ?) <= ?"
    try:
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=_END_S)) as conn:
            (at_s,) = conn.execute(query, (f'$."{metric}"', aim)).fetchone()
    except sqlite3.OperationalError:  # its tables are being made
        return None
    return None if at_s is None else float(at_s)


def _in_log(log: Path, aim: float) -> float | None:
    """Return when an epoch at the target ended, in seconds since 1970; None if none has."""
    if not log.is_file():
        return None
    rows = [line.split() for line in log.read_text().splitlines()]
    return min((float(row[0]) for row in rows if len(row) == 2 and float(row[1]) <= aim), default=None)


def _core_seconds() -> float:
    used = psutil.cpu_times()
    return float(used.user + used.nice + used.system)  # Ray's workers are nice


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", choices=sorted(path.name for path in (HERE / "jobs").glob("search_*")))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--deadline", type=float, default=160.0, help="seconds")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--python", help="the interpreter of the peers")
    parser.add_argument("--out")
    return parser.parse_args()


if __name__ == "__main__":
    main()
