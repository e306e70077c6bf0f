"""The Prometheus metrics at /metrics, from the records alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily

from kerasweep.jobs.queue.hints import train_queue
from kerasweep.jobs.store.overview import OutcomeCount, QueueWait, SweepCount
from kerasweep.jobs.trial import FailureClass, SweepState, TrialState
from kerasweep.scheduler.client.client import Client

#: An attempt that was preempted is released to the queue; other failures have their own outcomes.
_OUTCOMES = {FailureClass.PREEMPTED: f"released: {TrialState.QUEUED}"}

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Exposition:
    """Collects the metrics for Prometheus' registry.

    Args:
        client: connections to the store.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def collect(self) -> Iterable[Metric]:
        """Yield every family of metrics."""
        there = self._client.has_store()
        counts = self._client.records.counts_of_all() if there else []
        outcomes = self._client.records.outcomes() if there else []
        yield from _trials(counts)
        yield from _queues(counts)
        yield from _attempts(outcomes)
        yield from _waits(self._client.records.queue_waits() if there else [])
        yield from self._training(there)
        yield from self._processes()
        yield _gauge("schema_version", "The version of the store's tables.", self._schema())
        yield _states(self._client)

    def text(self) -> str:
        """Return the metrics in Prometheus' text format.

        Raises:
            OutOfReach: the store does not respond.
        """
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)  # only collect is called
        return generate_latest(registry).decode()

    def _schema(self) -> float:
        found = self._client.store_version()["found"]
        return 0.0 if found is None else float(found)

    def _training(self, there: bool) -> Iterable[Metric]:
        """Yield training counters: their rates are epochs and steps per second."""
        epochs = CounterMetricFamily("kerasweep_epochs", "Recorded epochs of all trials.")
        epochs.add_metric([], self._client.records.epochs_recorded() if there else 0)
        yield epochs
        steps = CounterMetricFamily(
            "kerasweep_worker_steps", "Training steps since the worker started.", labels=["worker"]
        )
        width = GaugeMetricFamily(
            "kerasweep_pack_width", "Trials in training, by trainer.", labels=["worker", "trainer"]
        )
        for one in self._client.workers():
            steps.add_metric([one.id], float(one.facts.get("steps", 0)))
            for trainer, trials in enumerate(one.facts.get("packs", [])):
                width.add_metric([one.id, str(trainer)], trials)
        yield steps
        yield width

    def _processes(self) -> Iterable[Metric]:
        workers, aside = self._client.workers(), self._client.quarantines()
        slots = sum(float(one.facts.get("slots", 0)) * one.facts.get("trainers", 1) for one in workers)
        yield _gauge("workers", "Workers with a heartbeat in the last half minute.", len(workers))
        yield _gauge("workers_quarantined", "Workers that are set aside.", len(aside))
        yield _gauge("slots", "Slots of the workers that are alive.", slots)
        schedulers = len(self._client.schedulers())
        yield _gauge("schedulers", "Schedulers with a heartbeat in the last half minute.", schedulers)


def _trials(counts: Iterable[SweepCount]) -> Iterable[Metric]:
    made = GaugeMetricFamily(
        "kerasweep_trials", "Trials by sweep and state.", labels=["sweep", "name", "state"]
    )
    for one in counts:
        made.add_metric([one.sweep, one.name, str(one.state)], one.trials)
    yield made


def _queues(counts: Iterable[SweepCount]) -> Iterable[Metric]:
    """Yield the metrics for an autoscaler of workers; an empty queue counts 0."""
    found = {state: Counter({train_queue(0): 0}) for state in (TrialState.QUEUED, TrialState.RUNNING)}
    for one in counts:
        for state, queues in found.items():
            queues[one.queue] += one.trials if one.state is state else 0
    for state, queues in found.items():
        name, told = f"kerasweep_trials_{state}", f"Trials that are {state}, by the queue they go to."
        made = GaugeMetricFamily(name, told, labels=["queue"])
        for queue, trials in sorted(queues.items()):
            made.add_metric([queue], trials)
        yield made


def _waits(waits: Iterable[QueueWait]) -> Iterable[Metric]:
    """Yield how long trials waited for their first attempt, and the longest current wait."""
    by_queue: dict[str, list[QueueWait]] = {train_queue(0): []}
    for one in waits:
        by_queue.setdefault(one.queue, []).append(one)
    waited = SummaryMetricFamily(
        "kerasweep_trial_wait_seconds",
        "Seconds that trials waited for their first attempt.",
        labels=["queue"],
    )
    oldest = GaugeMetricFamily(
        "kerasweep_trial_oldest_wait_seconds",
        "Longest current wait of a trial for its first attempt, in seconds.",
        labels=["queue"],
    )
    for queue, some in sorted(by_queue.items()):
        waited.add_metric([queue], sum(one.started for one in some), sum(one.waited_s for one in some))
        oldest.add_metric([queue], max((one.oldest_s for one in some), default=0.0))
    yield waited
    yield oldest


def _attempts(outcomes: Iterable[OutcomeCount]) -> Iterable[Metric]:
    ended = {one.outcome: one.attempts for one in outcomes}
    every = CounterMetricFamily(
        "kerasweep_attempts_ended", "Attempts that have ended, by outcome.", labels=["outcome"]
    )
    for outcome, attempts in sorted(ended.items()):
        every.add_metric([outcome], attempts)
    yield every
    failed = CounterMetricFamily(
        "kerasweep_attempts_failed", "Failed attempts, by failure class.", labels=["class"]
    )
    for cls in FailureClass:
        failed.add_metric([str(cls)], ended.get(_OUTCOMES.get(cls, f"failed: {cls}"), 0))
    yield failed
    lost = CounterMetricFamily("kerasweep_lease_expiries", "Attempts whose lease ran out.")
    lost.add_metric([], ended.get(f"failed: {FailureClass.LOST}", 0))
    yield lost


def _states(client: Client) -> Metric:
    found = Counter(one.record.state for one in client.sweeps())
    made = GaugeMetricFamily("kerasweep_sweeps", "Sweeps by state.", labels=["state"])
    for state in SweepState:
        made.add_metric([str(state)], found[state])
    return made


def _gauge(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(f"kerasweep_{name}", told, value=value)
