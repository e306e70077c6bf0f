"""Sweeps over what changes a graph: architectures and callbacks beside a loop, constants beside the rate.

    python benchmarks/graphs.py [--rounds 3] [--pairs dense_nets,recurrent,checkpointed,constants]
                                [--trials N] [--out FILE.json]

Each pair is timed in turn, from the command to its end: seconds, and the core seconds of all processes, which
depend less on what else the machine does. `constants` is a sweep over dropout, momentum and learning rate
beside the same sweep over the learning rate alone; the others are `kerasweep run` beside a loop over `fit`.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from cluster import machine, publish
from compare import HERE, PEERS, Bench, cold_run

PAIRS = ("dense_nets", "recurrent", "checkpointed", "constants")


def main() -> None:
    """Run the rounds, print the medians, write the file."""
    flags = _flags()
    result: dict[str, Any] = {"benchmark": "graphs", "machine": machine()}
    with tempfile.TemporaryDirectory(prefix="kerasweep-bench-") as name:
        for pair in flags.pairs.split(","):
            result[pair] = _summary(_rounds(pair, _ways(pair, Path(name) / pair, flags.trials), flags.rounds))
            publish(result, flags.out)


def _ways(pair: str, folder: Path, most: int) -> dict[str, Callable[[], float]]:
    folder.mkdir()
    job = HERE / "jobs" / pair
    if pair != "constants":
        bench = Bench(job, folder, most)
        return {"loop": lambda: bench.peer(sys.executable, PEERS["loop"]), "kerasweep": bench.cold}
    content = yaml.safe_load((job / "sweep.yaml").read_text())
    if most:
        content["budget"]["max_trials"] = most
    ways: dict[str, Callable[[], float]] = {}
    for way, names in (
        ("rate alone", ["learning_rate"]),
        ("with dropout and momentum", list(content["parameters"])),
    ):
        own = folder / way.replace(" ", "_")
        own.mkdir()
        (own / "train.py").write_text((job / "train.py").read_text())
        swept = {key: value for key, value in content["parameters"].items() if key in names}
        (own / "sweep.yaml").write_text(yaml.safe_dump(content | {"parameters": swept}))
        ways[way] = lambda own=own: cold_run(own / "sweep.yaml", own)
    return ways


def _rounds(
    pair: str, ways: dict[str, Callable[[], float]], rounds: int
) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for number in range(rounds):
        for way, run in ways.items():
            before_s = _core_s()
            seconds = run()
            found[way].append((seconds, _core_s() - before_s))
            told = f"{seconds:.1f} s, {found[way][-1][1]:.1f} core s, load {os.getloadavg()[0]:.1f}"
            sys.stderr.write(f"{pair}, round {number + 1}: {way} {told}\n")
    return found


def _core_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _summary(found: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    medians = {
        way: [statistics.median(column) for column in zip(*rows, strict=True)] for way, rows in found.items()
    }
    first, second = medians.values()
    return {
        way: {
            "seconds": [round(one, 2) for one, _ in rows],
            "core_seconds": [round(core, 2) for _, core in rows],
        }
        for way, rows in found.items()
    } | {
        "first_over_second": {
            "seconds": round(first[0] / second[0], 2),
            "core_seconds": round(first[1] / second[1], 2),
        }
    }


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", default=",".join(PAIRS))
    parser.add_argument("--trials", type=int, default=0, help="fewer trials, to try it out")
    parser.add_argument("--out")
    return parser.parse_args()


if __name__ == "__main__":
    main()
