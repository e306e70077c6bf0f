"""How fast a worker trains, from what its trainers have reported."""

from __future__ import annotations

from kerasweep.workers.autoscale import Sample


class StepRate:
    """Counts steps between samples; a restarted trainer counts from 0. Not thread-safe."""

    def __init__(self) -> None:
        self._last: Sample | None = None
        #: Steps since the worker started, and steps per second between the last two samples.
        self.steps, self.steps_per_s = 0, 0.0

    def observe(self, sample: Sample) -> None:
        """Take another sample."""
        last, self._last = self._last, sample
        before = [one.made for one in last.steps] if last else []
        before += [0] * (len(sample.steps) - len(before))
        fresh = sum(
            one.made - old if one.made >= old else one.made
            for one, old in zip(sample.steps, before, strict=False)
        )
        self.steps += fresh
        seconds = sample.at_s - last.at_s if last else 0.0
        self.steps_per_s = fresh / seconds if seconds > 0 else 0.0
