"""Only the matrix products that a step of the benchmark MLP needs.

    python benchmarks/products.py STEPS ROUNDS

784-100-50-10, batch 16, float32, on one core: the forward pass, the gradients of the weights, and those of
the two hidden layers. Prints microseconds per step, the best of the rounds.
"""

from __future__ import annotations

import itertools
import json
import sys
import time

import numpy as np

SIZES, BATCH = (784, 100, 50, 10), 16


def main() -> None:
    """Measure and print."""
    steps, rounds = (int(word) for word in sys.argv[1:3])
    random = np.random.default_rng(0)
    pairs = []
    for number, (rows, columns) in enumerate(itertools.pairwise(SIZES)):
        x, w, slope = (
            random.random(shape, np.float32) for shape in ((BATCH, rows), (rows, columns), (BATCH, columns))
        )
        pairs += [(x, w), (x.T, slope), *([(slope, w.T)] if number else [])]
    products = [(left, right, np.empty((left.shape[0], right.shape[1]), np.float32)) for left, right in pairs]
    best_s = float("inf")
    for _ in range(rounds):
        started_s = time.perf_counter()
        for _ in range(steps):
            for left, right, out in products:
                np.matmul(left, right, out=out)
        best_s = min(best_s, time.perf_counter() - started_s)
    sys.stdout.write(json.dumps({"us": best_s / steps * 1e6}) + "\n")


if __name__ == "__main__":
    main()
