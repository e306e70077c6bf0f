"""The gallery's entries, their bounds, and small files in Fashion-MNIST's true format."""

from __future__ import annotations

import gzip
import operator
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import yaml

BOUNDS: Mapping[str, Mapping[str, Mapping[str, float]]] = yaml.safe_load(
    Path(__file__).with_name("bounds.yaml").read_text(encoding="utf-8")
)
_HOLDS: Mapping[str, Callable[[float, float], bool]] = {"at_most": operator.le, "at_least": operator.ge}


@pytest.fixture(params=sorted(BOUNDS))
def entry(request: pytest.FixtureRequest) -> str:
    """An entry's name."""
    return str(request.param)


@pytest.fixture
def missed() -> Callable[[str, Mapping[str, float]], list[str]]:
    """Return a function that lists the bounds of an entry that metrics miss."""

    def list_missed(entry: str, metrics: Mapping[str, float]) -> list[str]:
        return [
            f"{name} must be {how} {bound}, got {metrics[name]}"
            for name, rule in BOUNDS[entry].items()
            for how, bound in rule.items()
            if not _HOLDS[how](metrics[name], bound)
        ]

    return list_missed


@pytest.fixture(scope="session")
def fashion_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A KERAS_HOME that holds digits of 28×28 pixels, gzipped idx files under Fashion-MNIST's names."""
    from sklearn.datasets import load_digits  # takes seconds to import, in every process of pytest-xdist

    home = tmp_path_factory.mktemp("keras")
    folder = home / "datasets" / "fashion-mnist"
    folder.mkdir(parents=True)
    digits = load_digits()
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 12_000), ("t10k", 500)):
        rows = rng.integers(0, len(digits.target), count)
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 2:26, 2:26] = np.kron(digits.images[rows], np.ones((3, 3))) * 255 / 16
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", digits.target[rows].astype(np.uint8))
    return home


@pytest.fixture(scope="session")
def offline(fashion_home: Path) -> Mapping[str, str]:
    """The environment of a process that finds Fashion-MNIST's files, and reaches no network."""
    proxy = "http://127.0.0.1:9"  # the port of `discard`, where nobody listens
    return {**os.environ, "KERAS_HOME": str(fashion_home), "https_proxy": proxy, "TF_CPP_MIN_LOG_LEVEL": "2"}


def write_idx(path: Path, array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    """Write bytes as a gzipped idx file: a magic number with the type and rank, the sizes, the bytes."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), compresslevel=1, mtime=0))
