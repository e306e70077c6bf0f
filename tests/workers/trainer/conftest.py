"""Real trainers, and jobs for them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import Peer, make_order


@pytest.fixture(scope="session")
def peer_type() -> type[Peer]:
    return Peer


@pytest.fixture(scope="session")
def order() -> Callable[..., dict[str, Any]]:
    return make_order


@pytest.fixture
def write_job(tmp_path: Path) -> Callable[..., Path]:
    """Writes a job's files into its own folder."""

    def write(text: str, name: str = "job", **files: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "train.py").write_text(textwrap.dedent(text))
        for file, content in files.items():
            (folder / f"{file}.py").write_text(textwrap.dedent(content))
        return folder

    return write


@pytest.fixture
def start_peer(tmp_path: Path) -> Iterator[Callable[..., Peer]]:
    """Starts trainers, and stops them with the test."""
    peers: list[Peer] = []

    def start(*flags: str) -> Peer:
        peers.append(Peer(tmp_path, *flags))
        return peers[-1]

    yield start
    for peer in peers:
        peer.close()
