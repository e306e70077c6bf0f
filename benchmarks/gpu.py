"""An acceptance run on a GPU: the same bits every way, memory that runs out, shared devices, and speed.

    python benchmarks/gpu.py [--device gpu|cpu] [--out FILE.json] [--parts NAME …] [--small] [--budget 1800]

For a machine with an NVIDIA GPU, with the extra `cuda`. Each part runs in a process of its own for a bounded
time. A part that fails is reported and the others still run; what it found before is kept. A Markdown report
is written beside FILE.json, to attach to an issue. `--device cpu` runs the same code without a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cluster import machine
from gpu_parts import PARTS, Bench
from gpu_report import as_markdown

from kerasweep.workers.devices import found_gpus

#: Parts whose results do not depend on what else runs, so that they may run side by side.
_TOGETHER = ("gallery_plain", "gallery_xla", "two_trainers", "mirrored")
_LOOK_S = 0.2


@dataclass
class Part:
    """One part of the run: how it went, and what it found."""

    name: str
    state: str = "not run"
    seconds: float = 0.0
    error: str = ""
    found: dict[str, Any] = field(default_factory=dict)


class Running:
    """A part's process."""

    def __init__(self, part: Part, bench: Bench, deadline_s: float) -> None:
        self.part = part
        self._file = Path(bench.folder) / f"{part.name}.json"
        self._log = (Path(bench.folder) / f"{part.name}.log").open("w+")
        self._begun_s, self._deadline_s = time.monotonic(), deadline_s
        command = [sys.executable, __file__, "--part", part.name, "--bench", json.dumps(asdict(bench))]
        self._process = subprocess.Popen(
            command, stdout=self._log, stderr=self._log, start_new_session=True, env=_environ(bench)
        )

    def ended(self) -> bool:
        """Take what the part found so far; tell whether it is over, ending it where its time is."""
        late = time.monotonic() - self._begun_s > self._deadline_s
        code = self._process.poll()
        if code is None and late:
            os.killpg(self._process.pid, signal.SIGKILL)  # its trainers die with it
            self._process.wait()
        if code is None and not late:
            return False
        self.part.seconds = round(time.monotonic() - self._begun_s, 1)
        self.part.found = json.loads(self._file.read_text()) if self._file.exists() else {}
        self.part.state = "ok" if code == 0 else "out of time" if code is None else "failed"
        if code:
            self._log.seek(0)
            self.part.error = self._log.read()[-1500:]
        self._log.close()
        return True


def main() -> None:
    """Run the parts, and write the report after each."""
    flags = _flags()
    if flags.part:
        PARTS[flags.part](Bench(**json.loads(flags.bench)))
        os._exit(0)  # whatever still runs in threads: the part has written what it found
    with tempfile.TemporaryDirectory(prefix="kerasweep-gpu-") as folder:
        bench = Bench(folder, flags.device, _devices(flags), flags.small)
        report = _run(bench, flags)
    bad = [part["name"] for part in report["parts"] if part["state"] != "ok"]
    wrong = [
        row for part in report["parts"] for row in part["found"].get("rows", ()) if row.get("same") is False
    ]
    sys.stderr.write(f"gpu: parts that did not end well: {bad}; rows with other bits: {len(wrong)}\n")
    sys.exit(1 if bad or wrong else 0)


def _run(bench: Bench, flags: argparse.Namespace) -> dict[str, Any]:
    parts = [Part(name) for name in flags.parts or PARTS]
    until_s = time.monotonic() + flags.budget
    report: dict[str, Any] = {"benchmark": "gpu", "device": bench.device, "machine": machine()}
    waiting, running = list(parts), list[Running]()
    while waiting or running:
        ended = [one for one in running if one.ended()]
        running = [one for one in running if one not in ended]
        for one in ended:
            sys.stderr.write(f"gpu: {one.part.name}: {one.part.state} after {one.part.seconds} s\n")
        if ended:
            _publish(report | {"parts": [asdict(part) for part in parts]}, flags.out)
        if waiting and _may_begin(waiting[0], running, flags.together):
            part = waiting.pop(0)
            left_s = until_s - time.monotonic()
            if left_s < 5:
                part.state = "no time was left"
                continue
            running.append(Running(part, bench, min(flags.part_s, left_s)))
        time.sleep(_LOOK_S)
    report |= {"parts": [asdict(part) for part in parts]}
    _publish(report, flags.out)
    return report


def _may_begin(part: Part, running: list[Running], together: int) -> bool:
    if not running:
        return True
    names = [part.name, *(one.part.name for one in running)]
    return len(running) < together and all(name in _TOGETHER for name in names)


def _publish(report: dict[str, Any], out: str | None) -> None:
    if out is None:
        return
    file = Path(out)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=1) + "\n")
    file.with_suffix(".md").write_text(as_markdown(report))


def _devices(flags: argparse.Namespace) -> list[str]:
    if flags.device == "cpu":
        return []
    gpus = list(found_gpus())
    if not gpus:
        sys.exit("gpu: no NVIDIA GPU is found here; --device cpu runs the same code without one")
    return gpus


def _environ(bench: Bench) -> dict[str, str]:
    visible = ",".join(bench.gpus) or "-1"
    return {**os.environ, "CUDA_VISIBLE_DEVICES": visible, "TF_CPP_MIN_LOG_LEVEL": "2"}


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--out", help="the report, as JSON")
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), help="by default all")
    parser.add_argument("--small", action="store_true", help="one entry and small widths: does it run at all")
    parser.add_argument("--budget", type=float, default=1800.0, help="seconds for all parts")
    parser.add_argument("--part-s", type=float, default=600.0, help="seconds for each part")
    parser.add_argument("--together", type=int, default=1, help="how many parts may run side by side")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--bench", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
