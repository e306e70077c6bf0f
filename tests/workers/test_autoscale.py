"""The autoscaler against a simulated machine: it tries what may help, keeps what does, undoes the rest."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kerasweep.workers.autoscale import Autoscaler, Sample, Scale, StepCount

Speed = Callable[[Scale], float]
LARGEST = Scale(4, 32)
SWEEP = frozenset({"mlp"})


class Machine:
    """Simulated trainers with a given speed, sampled twice a second by an autoscaler.

    Args:
        speed: steps per second at a scale.
        busy: the number of busy cores at a scale.
        most: the largest scale.
        cores: those of the machine; 0 for GPUs.
        room: whether there is memory for more.
    """

    def __init__(
        self,
        speed: Speed,
        busy: Speed = lambda _: 1.0,
        most: Scale = LARGEST,
        cores: int = 4,
        room: bool = True,
    ) -> None:
        self.speed, self.busy = speed, busy
        self.scaler = Autoscaler(Scale(1, 8), most, cores, lambda: room)
        self.at_s, self.cpu_s, self.pulse_s = 100.0, 0.0, 1.0
        self.steps = [1.0]
        self.said = [StepCount(1, self.at_s)]
        self.tried: list[Scale] = []

    def run(self, seconds: float, sweeps: frozenset[str] = SWEEP, full: bool = True) -> Scale:
        """Advance time; return the final scale."""
        for _ in range(int(2 * seconds)):
            scale = self.scaler.scale
            self.at_s += 0.5
            self.cpu_s += 0.5 * self.busy(scale)
            for number in range(len(self.steps)):
                self.steps[number] += 0.5 * self.speed(scale) / len(self.steps)
            self._speak()
            wanted = self.scaler.observe(Sample(self.at_s, tuple(self.said), self.cpu_s, full, sweeps))
            if wanted is not None:
                self.tried.append(wanted)
                kept = self.steps[: wanted.trainers]
                self.steps = kept + [1.0] * (wanted.trainers - len(kept))
                self.said = self.said[: wanted.trainers]
                self.said += [StepCount(1, self.at_s)] * (wanted.trainers - len(self.said))
        return self.scaler.scale

    def _speak(self) -> None:
        """Let each trainer report its progress, once a second, if there is any."""
        for number, count in enumerate(self.steps):
            if int(count) != self.said[number].made and self.at_s - self.said[number].at_s >= self.pulse_s:
                self.said[number] = StepCount(int(count), self.at_s)


def by_trainers(*speeds: float) -> Speed:
    return lambda scale: dict(zip((1, 2, 4), speeds, strict=True))[scale.trainers]


def test_trainers_are_doubled_while_that_is_faster() -> None:
    machine = Machine(by_trainers(100, 180, 300))
    assert machine.run(120).trainers == 4


def test_a_trainer_that_brings_nothing_goes_again_and_is_not_tried_twice() -> None:
    machine = Machine(by_trainers(100, 105, 105))
    assert machine.run(300) == Scale(1, 8)
    assert machine.tried.count(Scale(2, 8)) == 1


def test_slots_are_doubled_where_trainers_bring_nothing() -> None:
    machine = Machine(lambda scale: 100 + 10 * min(scale.slots, 16))
    assert machine.run(300) == Scale(1, 16)


def test_busy_cores_have_nothing_to_give() -> None:
    machine = Machine(by_trainers(100, 200, 400), busy=lambda _: 3.5)
    machine.run(60)
    assert machine.tried == []


def test_cores_tell_nothing_of_gpus() -> None:
    machine = Machine(lambda scale: 10.0 * scale.slots, most=Scale(1, 32), cores=0, busy=lambda _: 64.0)
    assert machine.run(120) == Scale(1, 32)


@pytest.mark.parametrize("limits", [{"most": Scale(1, 8)}, {"room": False}], ids=["asked for", "no memory"])
def test_limits_hold(limits: dict[str, Scale | bool]) -> None:
    machine = Machine(by_trainers(100, 200, 400), **limits)  # type: ignore[arg-type]
    machine.run(60)
    assert machine.tried == []


def test_nothing_is_measured_while_slots_are_free() -> None:
    machine = Machine(by_trainers(100, 200, 400))
    machine.run(60, full=False)
    assert machine.tried == []


def test_what_cannot_be_measured_is_given_up() -> None:
    machine = Machine(by_trainers(100, 200, 400))
    assert machine.run(8) == Scale(2, 8)
    assert machine.run(130, full=False) == Scale(1, 8)


def test_what_is_tried_ends_with_its_sweep_and_what_was_kept_stays() -> None:
    machine = Machine(by_trainers(100, 200, 300))
    machine.run(8)
    assert machine.run(1, frozenset({"another"})) == Scale(1, 8)
    machine.run(60, frozenset({"another"}))
    assert machine.run(1, SWEEP).trainers == 4


def test_a_new_sweep_may_try_again() -> None:
    machine = Machine(by_trainers(100, 90, 90))
    machine.run(60)
    machine.run(60, frozenset({"another"}))
    assert machine.tried.count(Scale(2, 8)) == 2


def test_a_trainer_that_compiles_has_its_time() -> None:
    machine = Machine(by_trainers(100, 150, 150))
    machine.run(6)
    machine.speed = lambda _: 0.0
    assert machine.run(20) == Scale(2, 8)
    machine.speed = by_trainers(100, 150, 150)
    assert machine.run(10).trainers >= 2


def test_a_pause_between_two_trials_is_no_new_sweep() -> None:
    machine = Machine(by_trainers(100, 180, 300))
    for _ in range(60):
        machine.run(1.5)
        machine.run(0.5, frozenset(), full=False)
    assert machine.scaler.scale.trainers == 4
