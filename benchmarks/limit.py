"""Compares a pack with bare matrix products and a hand-written `jax.vmap`: how much could be gained.

    python benchmarks/limit.py [--rounds 5] [--python PEERS_PYTHON] [--out FILE.json]

The bench MLP: 784-100-50-10, SGD, batch 16. Each variant runs in its own process, in turn, on one core and
on all; microseconds per step and model, so that on two cores half of the figure for one is as good.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from typing import Any

from cluster import machine, publish
from compare import HERE, peers_python

_STEPS, _BEST_OF = 750, 5
_DEADLINE_S = 600.0


def main() -> None:
    """Run the rounds, print the medians, write the file."""
    flags = _flags()
    peers = flags.python or peers_python()
    cores = sorted(os.sched_getaffinity(0))
    jax, packed = str(HERE / "peers" / "with_jax.py"), str(HERE / "packed.py")
    ways: dict[str, tuple[list[str], list[int]]] = {
        "bare products, one core": ([sys.executable, str(HERE / "products.py")], cores[:1]),
    }
    for models in (8, 16):
        for what, used in (("one core", cores[:1]), ("all cores", cores)):
            ways[f"pack of {models}, {what}"] = [sys.executable, packed, str(models)], used
            ways[f"jax.vmap of {models}, {what}"] = [peers, jax, str(models)], used
    times: dict[str, list[float]] = {}
    for number in range(flags.rounds):
        for way, (command, used) in ways.items():
            times.setdefault(way, []).append(_measured(command, used))
            sys.stderr.write(f"round {number + 1}: {way} {times[way][-1]:.1f} µs\n")
    result = {"benchmark": "limit", "machine": machine(), **_summary(times, len(cores))}
    publish(result, flags.out)


def _measured(command: list[str], cores: list[int]) -> float:
    # OpenBLAS selects the fastest kernels itself unless the environment prevents it.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    environ |= {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(_STEPS), str(_BEST_OF)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["us"])


def _summary(times: dict[str, list[float]], cores: int) -> dict[str, Any]:
    medians = {way: statistics.median(found) for way, found in times.items()}
    bare, pack = (
        medians["bare products, one core"],
        min(medians[f"pack of {models}, all cores"] for models in (8, 16)),
    )
    vmap = min(medians[f"jax.vmap of {models}, all cores"] for models in (8, 16))
    return {
        "microseconds": {
            way: {"median": round(medians[way], 1), "all": [round(us, 1) for us in found]}
            for way, found in times.items()
        },
        "share_of_the_bare_products_on_every_core": round(bare / cores / pack, 2),
        "times_as_fast_as_jax_vmap": round(vmap / pack, 2),
    }


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--python", help="the interpreter of the peers")
    parser.add_argument("--out")
    return parser.parse_args()


if __name__ == "__main__":
    main()
