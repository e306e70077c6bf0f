"""Runs the same trials with kerasweep and with its peers, interleaved; reports medians of several rounds.

    python benchmarks/compare.py mlp|cnn|wide_and_deep [--rounds 3] [--peers loop,optuna,keras_tuner,ray]
                                 [--python PEERS_PYTHON] [--trials N] [--out FILE.json]

kerasweep is timed cold (from the command to its end), again (the same, after a run with --keep-warm, "kept"),
warm (the worker is running) and compiled (the worker has run a sweep of the same graph before). Peers are
timed from the command to its end, in an environment of their own (`benchmarks/peers/requirements.txt`), made
under `.bench/` where none is given.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from cluster import DEADLINE_S, Cluster, cluster, machine, publish

from kerasweep.jobs.sweepfile.spec import load_spec

HERE = Path(__file__).resolve().parent
PEERS = {"loop": "loop", "optuna": "with_optuna", "keras_tuner": "with_keras_tuner", "ray": "with_ray"}


def main() -> None:
    """Run the rounds, print the medians, write the file."""
    flags = _flags()
    with tempfile.TemporaryDirectory(prefix="kerasweep-bench-") as name:
        bench = Bench(HERE / "jobs" / flags.job, Path(name), flags.trials)
        peers = [peer for peer in flags.peers.split(",") if peer]
        python = flags.python or (peers_python() if peers else sys.executable)
        ways: dict[str, Callable[[], float]] = {"kerasweep cold": bench.cold}
        ways |= {peer: lambda peer=peer: bench.peer(python, PEERS[peer]) for peer in peers}
        times: dict[str, list[float]] = {}
        for number in range(flags.rounds):
            for way, run in ways.items():
                _note(times, way, run(), number)
            for way, seconds in (bench.twice() | bench.warm()).items():
                _note(times, way, seconds, number)
    result = summarize(flags.job, bench.trials, times)
    publish(result, flags.out)


class Bench:
    """One job, timed.

    Args:
        job: its folder.
        folder: for all output.
        most: train only this many trials; 0 for all.
    """

    def __init__(self, job: Path, folder: Path, most: int) -> None:
        self._folder = folder
        content = yaml.safe_load((job / "sweep.yaml").read_text())
        (folder / "train.py").write_text((job / "train.py").read_text())
        if most:
            content["budget"] = {"max_trials": most}
        self._sweep = folder / "sweep.yaml"
        self._sweep.write_text(yaml.safe_dump(content))
        spec = load_spec(self._sweep)
        trials = list(spec.space().grid())[: most or None]
        self.trials = len(trials)
        plan = {
            "job": str(folder / "train.py"),
            "trials": [dict(params) for params in trials],
            "epochs": content["training"]["epochs"],
            "batch_size": content["training"]["batch_size"],
            "seed": spec.seed,
        }
        self._plan = folder / "plan.json"
        self._plan.write_text(json.dumps(plan))

    def cold(self) -> float:
        """Time `kerasweep run`, from the command to its end."""
        return cold_run(self._sweep, self._folder)

    def twice(self) -> dict[str, float]:
        """Time two `kerasweep run`s of one folder, the first with `--keep-warm`."""
        with tempfile.TemporaryDirectory(dir=self._folder) as home:
            first = cold_run(self._sweep, self._folder, home, "--keep-warm", "60")
            return {"kerasweep kept": first, "kerasweep again": cold_run(self._sweep, self._folder, home)}

    def peer(self, python: str, script: str) -> float:
        """Time a peer, from the command to its end."""
        command = [python, str(HERE / "peers" / f"{script}.py"), str(self._plan)]
        return _timed(command, dict(os.environ), self._folder)  # where the job's callbacks may write

    def warm(self) -> dict[str, float]:
        """Time two sweeps on a running worker: the first compiles, the second finds the program compiled."""
        with tempfile.TemporaryDirectory(dir=self._folder) as home, cluster(Path(home)) as site:
            return {"kerasweep warm": self._timed_sweep(site), "kerasweep compiled": self._timed_sweep(site)}

    def _timed_sweep(self, site: Cluster) -> float:
        ran = site.run(self._sweep)
        if len(ran.trials) != self.trials:
            raise RuntimeError(f"a sweep must have {self.trials} trials, got {len(ran.trials)}")
        return ran.seconds


def cold_run(sweep: Path, folder: Path, home: str | None = None, *flags: str) -> float:
    """Time `kerasweep run` of a sweep file, from the command to its end, by default with a new home."""
    if home is None:
        with tempfile.TemporaryDirectory(dir=folder) as made:
            return cold_run(sweep, folder, made, *flags)
    code = "from kerasweep.scheduler.cli.entry import main; main()"
    command = [sys.executable, "-c", code, "run", str(sweep), "-o", "json", *flags]
    return _timed(command, {**os.environ, "KERASWEEP_HOME": home}, folder)


def peers_python() -> str:
    """Return the interpreter of the peers' environment, creating it if necessary."""
    folder = HERE.parent / ".bench" / "peers"
    python = folder / "bin" / "python"
    stamp, wanted = folder / "requirements.txt", HERE / "peers" / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "-r", wanted], check=True, timeout=DEADLINE_S
        )
        stamp.write_text(wanted.read_text())
    return str(python)


def summarize(job: str, trials: int, times: dict[str, list[float]]) -> dict[str, Any]:
    """Return medians, spreads, and the speedup of kerasweep over the best peer."""
    medians = {way: statistics.median(found) for way, found in times.items()}
    peers = {way: median for way, median in medians.items() if not way.startswith("kerasweep")}
    best = min(peers.values(), default=None)
    return {
        "job": job,
        "trials": trials,
        "machine": machine(),
        "seconds": {
            way: {"median": round(medians[way], 2), "all": [round(seconds, 2) for seconds in found]}
            for way, found in times.items()
        },
        "times_faster_than_the_best_peer": {
            way: round(best / median, 1) for way, median in medians.items() if best and way not in peers
        },
    }


def _timed(command: list[str], environ: dict[str, str], folder: Path) -> float:
    started_s = time.perf_counter()
    done = subprocess.run(
        command, env=environ, cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return time.perf_counter() - started_s


def _note(times: dict[str, list[float]], way: str, seconds: float, number: int) -> None:
    times.setdefault(way, []).append(seconds)
    sys.stderr.write(f"round {number + 1}: {way} {seconds:.2f} s\n")


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", choices=sorted(path.name for path in (HERE / "jobs").iterdir()))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default="loop,optuna,keras_tuner,ray")
    parser.add_argument("--python", help="the interpreter of the peers")
    parser.add_argument("--trials", type=int, default=0, help="fewer trials, to try it out")
    parser.add_argument("--out")
    return parser.parse_args()


if __name__ == "__main__":
    main()
