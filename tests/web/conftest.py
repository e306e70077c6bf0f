"""The page, for a module's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from shown import Show
from staged import Stage

from kerasweep.jobs.trial import SweepState
from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.web import listening
from kerasweep.scheduler.web.gate import Access


@pytest.fixture(scope="module")
def show(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Show]:
    """A page over two sweeps, for a module's tests."""
    stage = Stage(tmp_path_factory.mktemp("page") / ".kerasweep")
    sweep = stage.sweep()
    for trial, losses in enumerate([(0.9, 0.4, 0.5), (0.8, 0.3), (0.7, 0.6, 0.2), (0.9, 0.5), (0.6, 0.1)]):
        stage.complete(sweep, trial, losses)
    stage.fail(sweep, 5, "<script>alert(1)</script> became NaN")
    stage.claim(sweep, 6, (0.9, 0.7))
    labels = {"values": ["<script>alert(2)</script>", "=1+1"]}
    wide = stage.sweep(
        name="wide",
        parameters={"units": {"values": [1, 10, 100]}, "label": labels},
        training={"epochs": 2, "batch_size": 16},
    )
    for trial in range(6):
        stage.complete(wide, trial, (0.9 - trial / 10, 0.5 - trial / 20))
    stage.end(wide, SweepState.COMPLETED)
    stage.records.seen(
        "worker-1@here",
        {
            "host": "here",
            "trainers": 2,
            "slots": 4,
            "ready": 1,
            "queues": ["train.cpu"],
            "packs": [0, 3],
            "steps": 640,
            "steps_per_s": 128.4,
        },
    )
    port = listening.free_port(0)
    client = Client(home=str(stage.home))
    with listening.beside(client, Access(port=port)):
        yield Show(stage, port, sweep, wide)
    client.close()
    stage.records.close()
