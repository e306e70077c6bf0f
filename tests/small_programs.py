"""Small programs of the kinds that users write, run in a warm trainer and as plain Keras scripts.

A program is a file in `jobs/`. Its first lines may give, after `#: `, in YAML: `params`, the parameters of
its trials, and `training`, the block of the sweep file. The order of its data is fixed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from peers import Peer, make_order

HERE = Path(__file__).parent / "programs"
SWEEP_SEED, SEED = 7, 11


@dataclass(frozen=True)
class SmallProgram:
    """One of the programs.

    Args:
        name: its file's name, without the suffix.
        folder: where it lies as `train.py`, as in a bundle.
        params: of each trial.
        training: the sweep file's block.
        spec: more of the sweep file.
        said: what a note must say; None where no note may doubt that a resumed trial is the same.
    """

    name: str
    folder: Path
    params: tuple[Mapping[str, Any], ...]
    training: Mapping[str, Any]
    spec: Mapping[str, Any]
    said: str | None


def names(jobs: Path = HERE / "jobs") -> list[str]:
    """Return the programs in a folder."""
    return sorted(path.stem for path in jobs.glob("*.py"))


def prepared(name: str, where: Path, jobs: Path = HERE / "jobs") -> SmallProgram:
    """Copy a program into its own folder; `NAME/` beside it holds the files that lie beside the job."""
    folder = where / name
    if (jobs / name).is_dir():
        shutil.copytree(jobs / name, folder, dirs_exist_ok=True)
    folder.mkdir(exist_ok=True)
    text = (jobs / f"{name}.py").read_text(encoding="utf-8")
    (folder / "train.py").write_text(text, encoding="utf-8")
    head = "\n".join(line[3:] for line in text.splitlines() if line.startswith("#: "))
    told = yaml.safe_load(head) or {}
    training = {"epochs": 2, "batch_size": 30, "shuffle": False, "xla": False, **told.get("training", {})}
    params, spec = tuple(told.get("params", [{}])), told.get("spec", {})
    return SmallProgram(name, folder, params, training, spec, told.get("said"))


def begin(
    peer: Peer, program: SmallProgram, attempt: int = 1, only: int | None = None, **changes: Any
) -> list[str]:
    """Start the trials of a program at once, or one of them; return their runs."""
    runs = []
    for number, params in enumerate(program.params):
        if only is None or only == number:
            run = f"{program.name}/{number}/{attempt}"
            spec = {"checkpoints": {"every_s": 0}, **program.spec}
            asked = {"params": dict(params), "training": dict(program.training), "spec": spec, **changes}
            peer.send(**make_order(program.folder, run, **asked))
            runs.append(run)
    return runs


def result(peer: Peer, run: str) -> dict[str, Any]:
    """Return the result of a run: the metrics of each epoch, and the digest."""
    end = peer.end(run)
    logs = "\n".join(event["text"] for event in peer.of(run, "log"))
    assert end["ev"] == "done", (end, logs)
    epochs = [event["metrics"] for event in sorted(peer.of(run, "epoch"), key=lambda event: event["epoch"])]
    history = {name: [float(epoch[name]) for epoch in epochs] for name in epochs[0]}
    return {"history": history, "digest": end["digest"]}


class PlainKeras:
    """A process that trains programs as plain scripts, each in its own fork."""

    def __init__(self, output: Path) -> None:
        self._output = output.open("w")
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "fresh.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._output,
            text=True,
        )

    def train(self, program: SmallProgram, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the result of plain Keras: `history` and `digest`."""
        folder = program.folder.with_name(f"{program.name}-plain")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(program.folder, folder)
        fit = {name: value for name, value in program.training.items() if name not in ("shuffle", "xla")}
        order = {"folder": str(folder), "params": dict(params), "fit": fit}
        order |= {"sweep_seed": SWEEP_SEED, "seed": SEED}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert "error" not in found, found["error"]
        return found

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(20)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._output.close()
