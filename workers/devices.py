"""The devices of this worker, and how its trainers share them; works without TensorFlow."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.queue.hints import train_queue

_NVIDIA = Path("/proc/driver/nvidia/gpus")
_GPU = re.compile(r"\d+|(GPU|MIG)-[\w./-]+")


@dataclass(frozen=True)
class DeviceSet:
    """The devices of one trainer.

    Args:
        name: as shown in logs, such as "cpu" or "gpu 0,1".
        gpus: the GPUs' indices; empty for a trainer on CPUs.
        threads: how many threads its operations may use.
        logical_cpus: how many logical CPU devices are used as GPUs; 0 for none.
    """

    name: str
    gpus: tuple[str, ...]
    threads: int
    logical_cpus: int = 0

    @property
    def replicas(self) -> int:
        """The number of devices that a trial trains on here."""
        return self.logical_cpus or len(self.gpus)

    @property
    def queues(self) -> tuple[str, ...]:
        """The matching queues: those for its number of GPUs, and for trials that ask for none."""
        own = train_queue(self.replicas)
        return (own,) if self.replicas == 0 else (own, train_queue(0))


def found_gpus() -> tuple[str, ...]:
    """Return the indices of the NVIDIA GPUs that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(part.strip() for part in visible.split(",") if part.strip() not in ("", "-1"))
    return tuple(str(index) for index, _ in enumerate(sorted(_NVIDIA.glob("*")))) if _NVIDIA.is_dir() else ()


def read_gpus(text: str) -> tuple[str, ...]:
    """Return the GPUs that `--gpus` names, by index or by NVIDIA's own name; an empty text means none.

    Raises:
        InputError: the text is malformed.
    """
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    for name in names:
        if not _GPU.fullmatch(name):
            raise InputError(
                f"--gpus must name GPUs by their index, such as 0,1, got {name!r}; see nvidia-smi -L"
            )
    return names


def plan_devices(
    gpus: Sequence[str], gpus_per_trial: int, trainers: int | None, logical_cpus: int, threads: int | None
) -> list[DeviceSet]:
    """Divide the devices among trainers.

    Args:
        gpus: the indices of the GPUs to use.
        gpus_per_trial: the number for each trial.
        trainers: the number of trainers; None for one per device set.
        logical_cpus: the number of logical CPU devices per trainer, used as GPUs; 0 for none.
        threads: threads for each trainer; None to divide the cores.

    Raises:
        InputError: the numbers are inconsistent.
    """
    cores = len(os.sched_getaffinity(0))
    groups: list[tuple[str, ...]] = [()]
    if gpus:
        if len(gpus) % gpus_per_trial:
            rule = f"--gpus must divide by --gpus-per-trial, got {len(gpus)} and {gpus_per_trial}"
            raise InputError(f"{rule}; leave some GPUs out")
        groups = [tuple(gpus[at : at + gpus_per_trial]) for at in range(0, len(gpus), gpus_per_trial)]
    elif gpus_per_trial > 1 and not logical_cpus:
        raise InputError(
            f"--gpus-per-trial {gpus_per_trial} needs GPUs, found none; try --logical-cpus {gpus_per_trial}"
        )
    count = trainers or len(groups)
    share = threads or max(1, cores // count)
    sets = [groups[index % len(groups)] for index in range(count)]
    return [
        DeviceSet("gpu " + ",".join(group) if group else f"cpu {index}", group, share, logical_cpus)
        for index, group in enumerate(sets)
    ]
