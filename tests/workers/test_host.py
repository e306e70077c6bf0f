"""A host with stub trainers: it scales up, and down without ending running trials."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from stub_worker import stub_command

from kerasweep.jobs.errors import InputError, PipeDefect
from kerasweep.jobs.pipe import DoneEvent, TrainOrder
from kerasweep.jobs.settings import Settings
from kerasweep.workers import trainers
from kerasweep.workers.autoscale import Scale
from kerasweep.workers.devices import DeviceSet
from kerasweep.workers.host import Host, NoSlot
from kerasweep.workers.trainers import Death, Run, Trainer

Until = Callable[[Callable[[], object], float], None]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(Trainer, "_command", stub_command)
    made = Host([DeviceSet("cpu 0", (), 4)], 2, Settings(home=str(tmp_path)))
    made.start()
    made.wait()
    yield made
    made.close()


def test_it_grows_and_a_trainer_that_is_to_go_ends_once_it_is_empty(host: Host, until: Until) -> None:
    heard: list[int] = []
    host.on_capacity = heard.append
    with host.slot("a") as slot:
        host.settle(slot, packed=True, pack_limit=None)
    host.rescale(Scale(2, 4))
    until(lambda: all(trainer.ready for trainer in host.trainers), 20)
    first, second = host.trainers
    assert (host.scale, host.capacity, heard[-1]) == (Scale(2, 4), 5, 5)
    assert (second.devices.name, second.devices.threads, first.devices.threads) == ("cpu 1", 2, 4)
    with ExitStack() as slots:
        taken = [slots.enter_context(host.slot("a")) for _ in range(2)]
        assert {slot.trainer for slot in taken} == {first, second}
        for slot in taken:
            host.begin(slot)
        assert (host.capacity, heard[-1]) == (6, 6)
        pid = second.pid
        assert pid is not None
        host.rescale(Scale(1, 2))
        assert psutil.pid_exists(pid)
        assert (len(host.trainers), host.capacity) == (2, 3)
    assert (host.trainers, host.capacity) == ([first], 2)
    until(lambda: not psutil.pid_exists(pid), 20)
    assert first.ready


def test_gpus_that_are_named_must_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "_command", stub_command)
    made = Host([DeviceSet("gpu 0,1", ("0", "1"), 4)], 2, Settings(home=str(tmp_path)))
    made.start()
    try:
        with pytest.raises(InputError, match="got 0,1 and it sees none"):
            made.wait(gpus_needed=True)
        made.wait()
    finally:
        made.close()


def test_a_trainer_that_still_loads_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    deaf = [sys.executable, "-c", "import time; time.sleep(600)"]
    monkeypatch.setattr(Trainer, "_command", lambda *_: deaf)
    made = Host([DeviceSet("cpu 0", (), 4)], 2, Settings(home=str(tmp_path)))
    made.start()
    (trainer,) = made.trainers
    until(lambda: trainer.pid, 20)
    pid, began = trainer.pid, time.monotonic()
    assert pid is not None
    made.close()
    assert not psutil.pid_exists(pid)
    assert time.monotonic() - began < 3, "one that hears nothing is given 5 s before it is killed"


def test_a_host_that_has_to_end_neither_gives_slots_nor_grows(host: Host) -> None:
    host.preempt()
    host.rescale(Scale(2, 2))
    assert len(host.trainers) == 1
    with pytest.raises(NoSlot), host.slot("a"):
        pass


def an_order(trial: int = 0, **params: object) -> TrainOrder:
    return TrainOrder(
        run=f"s1/{trial}/1",
        sweep="s1",
        name="test",
        trial=trial,
        attempt=1,
        seed=1,
        params=params,
        spec={"training": {"epochs": 3}},
        bundle="",
        entry="train.py",
        checkpoints=(),
        engine="fit",
        decisions={},
        bar=None,
        rung=None,
        ends=False,
    )


def heard(run: Run) -> list[object]:
    """Return all events of a run to its end."""
    found: list[object] = []
    while not isinstance(found[-1] if found else None, (DoneEvent, PipeDefect, Death)):
        found.append(run.events.get(timeout=20))
    return found


def test_a_run_that_nobody_waits_for_is_stopped(host: Host, until: Until) -> None:
    (trainer,) = host.trainers
    trainer.train(an_order(epoch_s=600.0))
    until(lambda: trainer.steps.made, 20)
    trainer.forget("s1/0/1")

    def stands_still() -> bool:
        before = trainer.steps.made
        time.sleep(0.3)
        return trainer.steps.made == before

    until(stands_still, 10)
    assert isinstance(heard(trainer.train(an_order(1)))[-1], DoneEvent)


def test_a_message_that_does_not_fit_ends_its_run_alone(host: Host) -> None:
    (trainer,) = host.trainers
    wrong, right = trainer.train(an_order(act="garble")), trainer.train(an_order(1, epoch_s=0.3))
    defect = heard(wrong)[-1]
    assert isinstance(defect, PipeDefect)
    assert "epoch is invalid: epoch: " in str(defect)
    assert isinstance(heard(right)[-1], DoneEvent)


def test_a_message_that_got_lost_ends_the_trainer(host: Host) -> None:
    (trainer,) = host.trainers
    death = heard(trainer.train(an_order(act="lose")))[-1]
    assert isinstance(death, Death)
    assert "was lost" in death.killed_for


def test_a_trainer_that_does_not_end_when_it_is_replaced_is_killed(
    host: Host, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainers, "_RETIRE_S", 0.5)
    (trainer,) = host.trainers
    pid = trainer.pid
    assert pid is not None
    psutil.Process(pid).suspend()
    trainer.retiring = True
    trainer.retire()
    until(lambda: trainer.ready and trainer.pid not in (None, pid), 20)
