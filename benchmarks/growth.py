"""How time and memory grow with the number of trials: the digits MLP, with 8, 32, 128 and 512 of them.

    python benchmarks/growth.py [--trials 8,32,128,512] [--slots auto] [--out FILE.json]

Each size has its own worker, warm and with the program compiled, which adds trainers if that
measures faster. Both figures should grow in proportion to the trials, or slower.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from cluster import cluster, machine, publish

GALLERY = Path(__file__).resolve().parents[1] / "jobs" / "gallery"
SWEEP = """
name: growth-{trials}
job: train.py
metric: {{name: val_loss, goal: minimize}}
method: random
parameters:
  learning_rate: {{distribution: log_uniform, min: 0.003, max: 0.3}}
training: {{epochs: 3, batch_size: 16}}
checkpoints: {{keep_top: 1}}
budget: {{max_trials: {trials}}}
"""


def main() -> None:
    """Measure each size, print the figures, write the file."""
    flags = _flags()
    sizes = [measure(int(trials), flags.slots) for trials in flags.trials.split(",")]
    result = {"benchmark": "growth", "machine": machine(), "slots": flags.slots, "sizes": sizes}
    publish(result, flags.out)


def measure(trials: int, slots: str) -> dict[str, Any]:
    """Run a sweep of this many trials on a worker that has run one of eight before."""
    with tempfile.TemporaryDirectory(prefix="kerasweep-growth-") as name:
        folder = Path(name)
        shutil.copy(GALLERY / "mlp" / "train.py", folder)
        files = {count: folder / f"sweep-{count}.yaml" for count in (8, trials)}
        for count, file in files.items():
            file.write_text(SWEEP.format(trials=count))
        with cluster(folder / "home", [f"--slots={slots}"]) as site:
            site.run(files[8])
            ran = site.run(files[trials])
            held = site.trainer_bytes()
    row = {
        "trials": trials,
        "seconds": round(ran.seconds, 2),
        "ms_per_trial": round(1000 * ran.seconds / trials, 1),
        "trainers": len(held),
        "mib_of_each_trainer": [round(part / 2**20) for part in held],
    }
    sys.stderr.write(f"{row}\n")
    return row


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", default="8,32,128,512")
    parser.add_argument("--slots", default="auto", help="how many trials train side by side")
    parser.add_argument("--out")
    return parser.parse_args()


if __name__ == "__main__":
    main()
