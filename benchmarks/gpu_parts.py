"""The parts of the GPU run; each writes what it found as it comes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import cluster
from gpu_driver import Driver, Entry, Outcome, driving, write_fashion

from kerasweep.jobs.gallery_index import list_gallery
from kerasweep.workers.devices import DeviceSet

HERE = Path(__file__).resolve().parent
WIDTH = 8
#: A few steps of a few epochs show any difference of the bits.
SHORT = {"epochs": 3, "steps_per_epoch": 5, "validation_steps": 2}
#: XLA takes seconds to compile each graph.
XLA_GRAPHS = 2
#: XLA has no deterministic gradient of max-pooling.
WITHOUT_XLA = {"aux_outputs", "regularised_cnn"}
#: Of the GPU's memory each trial of the crowd takes about so much in a step: one fits, and eight do not.
CROWD_SHARE = 0.3
#: TensorFlow's kernels take no tensor of 2^31 numbers, and one of the crowd's has 65,536 a row.
_MOST_ROWS = 32_000


@dataclass(frozen=True)
class Bench:
    """What every part is told.

    Args:
        folder: for its files, and for what it finds.
        device: gpu or cpu.
        gpus: their indices; empty for the CPU.
        small: do as little as shows that it runs.
    """

    folder: str
    device: str
    gpus: list[str]
    small: bool

    def devices(self, count: int = 1) -> DeviceSet:
        """Return so many devices for one trainer."""
        threads = len(os.sched_getaffinity(0))
        if self.gpus:
            return DeviceSet("gpu", tuple(self.gpus[:count]), threads)
        return DeviceSet("cpu", (), threads, logical_cpus=count if count > 1 else 0)

    def entries(self, folder: Path, xla: bool) -> list[Entry]:
        """Return the gallery, copied into a folder."""
        names = ["mlp"] if self.small else [entry.name for entry in list_gallery()]
        training, graphs = SHORT | {"xla": xla}, XLA_GRAPHS if xla else WIDTH
        return [Entry(name, folder, training, graphs) for name in names if not (xla and name in WITHOUT_XLA)]

    def room(self, name: str) -> Path:
        """Return a part's own folder."""
        folder = Path(self.folder) / name
        folder.mkdir(exist_ok=True)
        return folder


class Findings:
    """What a part found, written into its file whenever it grows. Safe to share between threads."""

    def __init__(self, bench: Bench, name: str) -> None:
        self._file = Path(bench.folder) / f"{name}.json"
        self._lock = threading.Lock()
        self._found: dict[str, Any] = {"rows": []}

    def note(self, **facts: Any) -> None:
        """Keep facts of the whole part."""
        with self._lock:
            self._found |= facts
            self._write()

    def row(self, **cells: Any) -> None:
        """Keep a row."""
        with self._lock:
            self._found["rows"].append(cells)
            self._write()

    def _write(self) -> None:
        scratch = self._file.with_suffix(".new")
        scratch.write_text(json.dumps(self._found))
        scratch.replace(self._file)


def gallery_plain(bench: Bench) -> None:
    """Each entry by `fit` twice, in packs of one and eight, and after a kill."""
    _gallery(bench, "gallery_plain", xla=False)


def gallery_xla(bench: Bench) -> None:
    """Each entry with XLA, in packs of one and eight, and after a kill."""
    _gallery(bench, "gallery_xla", xla=True)


def _gallery(bench: Bench, name: str, xla: bool) -> None:
    room, findings = bench.room(name), Findings(bench, name)
    os.environ["KERAS_HOME"] = str(room / "keras")
    write_fashion(room / "keras")
    entries, known = bench.entries(room, xla), dict[str, Outcome]()
    with driving(room, bench.devices()) as driver:
        for entry in entries:
            ways: dict[str, Callable[[Entry], Outcome]] = {}
            if not xla:
                ways["fit"] = lambda entry: driver.train([entry.order(0, "fit")])[0]
                ways["fit again"] = ways["fit"]
            ways["pack of one"] = lambda entry: driver.train([entry.order(0, "pack")])[0]
            ways["pack of eight"] = lambda entry: _eight(driver, entry)
            for way, train in ways.items():
                _compared(findings, known, entry, way, train)
        starts = _killed(driver, entries, findings)
        for entry in entries:
            if entry.name in starts:
                order = entry.order(0, "pack", starts[entry.name].checkpoints[0])
                _compared(
                    findings, known, entry, "after a kill", lambda _, order=order: driver.train([order])[0]
                )


def _eight(driver: Driver, entry: Entry) -> Outcome:
    outcomes = driver.train([entry.order(trial, "pack") for trial in range(WIDTH)])
    for outcome in outcomes:
        assert outcome.digest
    return outcomes[0]


def _killed(driver: Driver, entries: list[Entry], findings: Findings) -> dict[str, Outcome]:
    """Train each entry's first trial to its first checkpoint, and kill the trainer under them."""
    try:
        begun = driver.train([entry.order(0, "pack") for entry in entries], to_checkpoint=True)
    except Exception as exc:  # noqa: BLE001 - whatever fails is a row of the report
        findings.note(kill=f"{type(exc).__name__}: {exc}"[:500])
        return {}
    driver.kill()
    driver.wait()
    return {entry.name: start for entry, start in zip(entries, begun, strict=True) if start.checkpoints}


def _compared(
    findings: Findings,
    known: dict[str, Outcome],
    entry: Entry,
    way: str,
    train: Callable[[Entry], Outcome],
) -> None:
    """Train, and compare with the first way of the entry."""
    begun_s = time.monotonic()
    cells: dict[str, Any] = {"entry": entry.name, "way": way}
    try:
        outcome = train(entry)
        cells["digest"] = outcome.digest[:16]
        first = known.setdefault(entry.name, outcome)
        cells["same"] = outcome.digest == first.digest and all(
            first.epochs[epoch] == metrics for epoch, metrics in outcome.epochs.items()
        )
        if not cells["same"]:
            cells["apart"] = _apart(first, outcome)
        cells["engine"] = str(outcome.end.facts.get("engine"))
        cells["device"] = str(outcome.end.facts.get("device"))
    except Exception as exc:  # noqa: BLE001 - whatever fails is a row of the report
        cells["error"] = f"{type(exc).__name__}: {exc}"[:700]
    findings.row(**cells, seconds=round(time.monotonic() - begun_s, 2))


def _apart(first: Outcome, other: Outcome) -> float:
    """Return the largest difference of a metric, as a share of it."""
    pairs = [
        (first.epochs[epoch][name], value)
        for epoch, metrics in other.epochs.items()
        for name, value in metrics.items()
    ]
    return max((abs(one - two) / max(abs(one), 1e-12) for one, two in pairs), default=0.0)


def two_trainers(bench: Bench) -> None:
    """Two trainers on one device train four trials each; the bits are those of one trainer with eight."""
    findings, room = Findings(bench, "two_trainers"), bench.room("two_trainers")
    entry = Entry("mlp", room, SHORT | {"xla": False})
    with driving(room, bench.devices()) as one, driving(room, bench.devices()) as other:
        alone = one.train([entry.order(trial, "pack") for trial in range(WIDTH)])
        halves = [
            [entry.order(trial, "pack") for trial in numbers] for numbers in (range(4), range(4, WIDTH))
        ]
        with ThreadPoolExecutor(2) as threads:
            both = [*threads.map(lambda pair: pair[0].train(pair[1]), zip((one, other), halves, strict=True))]
        findings.note(memory=_memory(bench))
        for trial, (first, outcome) in enumerate(zip(alone, [*both[0], *both[1]], strict=True)):
            findings.row(
                trial=trial,
                trainer=trial // 4,
                digest=outcome.digest[:16],
                same=first.digest == outcome.digest,
            )


def mirrored(bench: Bench) -> None:
    """One trial on two devices under `MirroredStrategy`, twice; on a CPU two logical devices."""
    findings, room = Findings(bench, "mirrored"), bench.room("mirrored")
    if bench.gpus and len(bench.gpus) < 2:
        findings.note(skipped="there is one GPU")
        return
    entry, known = Entry("mlp", room, SHORT), dict[str, Outcome]()
    with driving(room, bench.devices(2)) as driver:
        for way in ("two devices", "two devices again"):
            _compared(
                findings, known, entry, way, lambda entry: driver.train([entry.order(0, "fit", gpus=2)])[0]
            )


def memory(bench: Bench) -> None:
    """A sweep of eight trials of which only some fit at once: each must end completed, by smaller packs."""
    findings, room = Findings(bench, "memory"), bench.room("memory")
    _write_crowd(bench, room)
    flags = ["--gpus", bench.gpus[0]] if bench.gpus else ["--gpus", ""]
    with cluster(room / "home", [*flags, "--trainers", "1", "--slots", str(WIDTH)]) as local:
        ran = local.run(room / "sweep.yaml")
        attempts = local.records.attempts(ran.sweep.id)
        for trial in ran.trials:
            own = [attempt for attempt in attempts if attempt.trial == trial.number]
            findings.row(
                trial=trial.number,
                state=str(trial.state),
                ends="; ".join(f"{one.outcome} {one.message or ''}"[:160].strip() for one in own),
            )
        findings.note(seconds=round(ran.seconds, 1), attempts=len(attempts))


def _write_crowd(bench: Bench, room: Path) -> None:
    """Write the job and its sweep file, for this device."""
    job = HERE / "jobs" / "crowd"
    text, sweep = (job / "train.py").read_text(), (job / "sweep.yaml").read_text()
    if bench.gpus:
        batch = _crowd_batch()
        text, sweep = (
            text.replace("BRANCHES = 16,", f"BRANCHES = {batch},"),
            sweep.replace("size: 16", f"size: {batch}"),
        )
    else:
        (room / "who").mkdir()
        text = text.replace('ROOM = ""', f"ROOM = {str(room / 'who')!r}")
    (room / "train.py").write_text(text)
    (room / "sweep.yaml").write_text(sweep)


def _crowd_batch() -> int:
    """Return the rows of a batch whose step takes about `CROWD_SHARE` of the GPU's memory."""
    told = _smi("--query-gpu=memory.total", "--format=csv,noheader,nounits")
    total_bytes = int(told.splitlines()[0]) << 20
    branches, units, float_bytes = 4, 65_536, 4
    return min(_MOST_ROWS, int(total_bytes * CROWD_SHARE / (branches * units * float_bytes)))


def _memory(bench: Bench) -> str:
    if not bench.gpus:
        return ""
    return _smi("--query-gpu=memory.used,memory.total", "--format=csv,noheader").strip()


def _smi(*flags: str) -> str:
    return subprocess.run(
        ["nvidia-smi", *flags], capture_output=True, text=True, timeout=20, check=True
    ).stdout


#: What TensorFlow is and sees, and the libraries that it has loaded after a product of matrices.
_SEEN = """
import json, os, keras, numpy, tensorflow as tf
gpus = tf.config.list_physical_devices("GPU")
x = tf.random.stateless_normal((512, 512), (1, 2))
float(tf.reduce_sum(x @ x))
mapped = {os.path.basename(word) for word in open("/proc/self/maps").read().split()}
build = tf.sysconfig.get_build_info()
print(json.dumps({
    "tensorflow": tf.__version__, "keras": keras.__version__, "numpy": numpy.__version__,
    "gpus": [tf.config.experimental.get_device_details(gpu).get("device_name") for gpu in gpus],
    "built_for_cuda": build.get("cuda_version"), "built_for_cudnn": build.get("cudnn_version"),
    "libraries": sorted(name for name in mapped if name.startswith(("libcu", "libnccl"))),
}))
"""


def device(bench: Bench) -> None:
    """What TensorFlow sees."""
    findings = Findings(bench, "device")
    if bench.gpus:
        findings.note(
            nvidia=_smi("--query-gpu=name,driver_version,memory.total", "--format=csv,noheader").strip()
        )
    done = subprocess.run(
        [sys.executable, "-c", _SEEN], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    findings.note(**json.loads(done.stdout.splitlines()[-1]))


def widths(bench: Bench) -> None:
    """Steps a second of packs of 1 to 32, without and with XLA, beside `fit`."""
    from gpu_widths import measure  # TensorFlow loads here

    measure(bench, Findings(bench, "widths"))


PARTS: Mapping[str, Callable[[Bench], None]] = {
    "device": device,
    "gallery_plain": gallery_plain,
    "gallery_xla": gallery_xla,
    "two_trainers": two_trainers,
    "mirrored": mirrored,
    "widths": widths,
    "memory": memory,
}
