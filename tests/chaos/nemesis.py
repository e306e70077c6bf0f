"""Injects faults: a seeded sequence, paced by the sweep's own progress.

A fault is due when the sweep has reached a certain epoch, not at a certain time, so a slow machine meets the
same faults at the same points as a fast one. Lasting faults are undone in time, while others begin.
"""

from __future__ import annotations

import base64
import contextlib
import json
import pickle
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil
import redis
from chaos.site import Kept, Site

Undo = Callable[[], None]

QUEUE, SCHEDULER_QUEUE = "train.cpu", "scheduler"
#: The channel of Celery's remote control.
PIDBOX = "/0.celery.pidbox"
_FAR = "2199-01-01T00:00:00+00:00"
#: Longer than a lease, and shorter, in leases.
_BEYOND, _WITHIN = (1.3, 2.0), (0.2, 0.6)
_HUGE_BYTES = 10_000_000
_GAP_S = 0.4


class NoTarget(Exception):
    """The target of a fault does not exist at the moment."""


@dataclass(frozen=True)
class Blow:
    """A fault that was injected: its description, and how to undo it after how many seconds."""

    told: str
    undo: Undo | None = None
    after_s: float = 0.0


class Nemesis:
    """Injects faults into a site.

    Args:
        site: the victim.
        seed: of the row of faults.
        count: how many faults.
        epochs: over so many of the sweep's epochs they are dealt.
        tell: hears of each fault, one line.
        kinds: the faults to deal; by default all of them.
    """

    def __init__(
        self,
        site: Site,
        seed: int,
        count: int,
        epochs: float,
        tell: Callable[[str], None],
        kinds: Sequence[str] = (),
    ) -> None:
        self._site, self._rng, self._tell = site, random.Random(seed), tell
        self._kinds = tuple(kinds or FAULTS)
        self._lease_s = site.settings.lease_s
        self._row = self._deal(count)
        self._due = [epochs * (number + 0.5) / count for number in range(count)]
        self._undos: list[tuple[float, str, Undo]] = []
        self._began, self._last = time.monotonic(), 0.0
        self._begun: dict[str, int] = {}

    @property
    def dealt(self) -> int:
        """The number of faults so far."""
        return sum(self._begun.values())

    @property
    def over(self) -> bool:
        """Whether every fault has been injected and undone."""
        return not self._row and not self._undos

    def counts(self) -> dict[str, int]:
        """Return the number of faults of each kind."""
        return dict(sorted(self._begun.items()))

    def step(self, progress: int) -> None:
        """Undo what is due, and inject the next fault if the sweep has progressed far enough."""
        now = time.monotonic()
        for due in [one for one in self._undos if one[0] <= now]:
            self._undos.remove(due)
            self._say(f"   {due[1]} is over")
            due[2]()
        if self._row and progress >= self._due[0] and now - self._last > _GAP_S:
            self._strike(now)

    def undo_all(self) -> None:
        """Undo everything at once."""
        for _, _, undo in self._undos:
            undo()
        self._undos = []

    def _strike(self, now: float) -> None:
        kind = self._row[0]
        try:
            blow = FAULTS[kind](self, self._site)
        except (NoTarget, psutil.Error):
            # What was to be hit is down itself: come back to it after another, or in a moment.
            self._row = [*self._row[1:2], kind, *self._row[2:]]
            self._last = now
            return
        self._row.pop(0)
        self._due.pop(0)
        self._last = now
        self._begun[kind] = self._begun.get(kind, 0) + 1
        self._say(f"{self.dealt:3} {kind}: {blow.told}")
        if blow.undo:
            self._undos.append((now + blow.after_s, kind, blow.undo))

    def _deal(self, count: int) -> list[str]:
        """Shuffle whole decks, so that every kind occurs about equally often."""
        row: list[str] = []
        while len(row) < count:
            deck = list(self._kinds)
            self._rng.shuffle(deck)
            row += deck
        return row[:count]

    def _say(self, text: str) -> None:
        self._tell(f"{time.strftime('%H:%M:%S')} +{time.monotonic() - self._began:6.1f} s  {text}")

    def for_s(self, span: tuple[float, float]) -> float:
        """Draw a duration, given in leases, in seconds."""
        return self._lease_s * self._rng.uniform(*span)

    def a_worker(self) -> Kept:
        """Draw a worker that is up, its trainer too: one that trains, where there is one."""
        up = [worker for worker in self._site.workers if worker.trainers]
        if not up:
            raise NoTarget
        return self._rng.choice([worker for worker in up if self._site.trains(worker)] or up)

    def choice(self, options: list[bytes]) -> bytes:
        """Draw an element."""
        return self._rng.choice(options)


def _kill(process: psutil.Process | None, told: str) -> Blow:
    if process is None:
        raise NoTarget
    process.kill()
    return Blow(f"SIGKILL to {told}, pid {process.pid}")


def kill_worker(nemesis: Nemesis, site: Site) -> Blow:
    """The worker's process goes in the middle of a trial, and its trainers must go with it.

    It is stopped first, so that what it trains cannot end between the look and the kill.
    """
    worker = nemesis.a_worker()
    process = worker.child
    if process is None:
        raise NoTarget
    process.suspend()
    try:
        if site.busy and not site.trains(worker):
            raise NoTarget
        return _kill(process, worker.name)
    finally:
        with contextlib.suppress(psutil.Error):
            process.resume()


def kill_trainer(nemesis: Nemesis, site: Site) -> Blow:
    """A trainer dies, and its trials are retried."""
    worker = nemesis.a_worker()
    if not (trainers := worker.trainers):
        raise NoTarget
    return _kill(trainers[0], f"the trainer of {worker.name}")


def kill_scheduler(nemesis: Nemesis, site: Site) -> Blow:
    """The scheduler's process dies."""
    return _kill(site.scheduler.child, "the scheduler")


def kill_supervisor(nemesis: Nemesis, site: Site) -> Blow:
    """`kerasweep worker` itself dies, and all processes below it must die too."""
    worker = nemesis.a_worker()
    return _kill(worker.supervisor, f"the supervisor of {worker.name}")


def preempt_worker(nemesis: Nemesis, site: Site) -> Blow:
    """SIGTERM: the trials are checkpointed and released."""
    worker = nemesis.a_worker()
    if worker.child is None:
        raise NoTarget
    worker.child.terminate()
    return Blow(f"SIGTERM to {worker.name}, pid {worker.child.pid if worker.child else '?'}")


def preempt_and_kill(nemesis: Nemesis, site: Site) -> Blow:
    """SIGTERM, then SIGKILL before the grace period is over."""
    worker = nemesis.a_worker()
    process = worker.child
    if process is None:
        raise NoTarget
    process.terminate()

    def kill() -> None:
        with contextlib.suppress(psutil.Error):
            process.kill()

    return Blow(f"SIGTERM, then SIGKILL to {worker.name}", kill, nemesis.for_s((0.02, 0.2)))


def _freeze(processes: list[psutil.Process], told: str, after_s: float) -> Blow:
    if not processes:
        raise NoTarget
    for process in processes:
        process.suspend()

    def resume() -> None:
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.resume()

    return Blow(f"SIGSTOP to {told} for {after_s:.1f} s", resume, after_s)


def freeze_worker(nemesis: Nemesis, site: Site) -> Blow:
    """The worker and its trainers are frozen beyond their leases, and then resume."""
    worker = nemesis.a_worker()
    return _freeze(worker.tree, f"{worker.name} and its trainer", nemesis.for_s(_BEYOND))


def freeze_worker_alone(nemesis: Nemesis, site: Site) -> Blow:
    """The worker is frozen beyond its leases while its trainer keeps training."""
    worker = nemesis.a_worker()
    return _freeze(worker.tree[:1], f"{worker.name} alone", nemesis.for_s(_BEYOND))


def freeze_trainer(nemesis: Nemesis, site: Site) -> Blow:
    """The trainer is frozen while its worker keeps the leases."""
    worker = nemesis.a_worker()
    return _freeze(worker.trainers, f"the trainer of {worker.name}", nemesis.for_s(_WITHIN))


def freeze_scheduler(nemesis: Nemesis, site: Site) -> Blow:
    """The scheduler is frozen."""
    return _freeze(site.scheduler.tree, "the scheduler", nemesis.for_s(_BEYOND))


def kill_redis(nemesis: Nemesis, site: Site) -> Blow:
    """Redis is killed, and restarts with its file."""
    return _redis_away(nemesis, site, file=False)


def lose_redis(nemesis: Nemesis, site: Site) -> Blow:
    """Redis is killed, and restarts without its file: every hint is lost."""
    return _redis_away(nemesis, site, file=True)


def _redis_away(nemesis: Nemesis, site: Site, *, file: bool) -> Blow:
    if not site.redis_wanted:
        raise NoTarget
    site.forget_redis(file=file)

    def wanted() -> None:
        site.redis_wanted = True

    after_s = nemesis.for_s(_WITHIN)
    return Blow(f"SIGKILL, away for {after_s:.1f} s{', its file lost' if file else ''}", wanted, after_s)


def freeze_redis(nemesis: Nemesis, site: Site) -> Blow:
    """Redis is frozen; connections stay open."""
    if site.redis.pid is None:
        raise NoTarget
    return _freeze([psutil.Process(site.redis.pid)], "Redis", nemesis.for_s(_WITHIN))


def flush_redis(nemesis: Nemesis, site: Site) -> Blow:
    """Everything in Redis is deleted."""
    _redis(site, lambda client: client.flushall())
    return Blow("FLUSHALL")


def kill_clients(nemesis: Nemesis, site: Site) -> Blow:
    """Redis drops every connection."""
    _redis(site, lambda client: client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
    return Blow("CLIENT KILL TYPE normal")


def cut_network(nemesis: Nemesis, site: Site) -> Blow:
    """Connections to Redis break, and new ones fail."""
    site.proxy.cut()
    after_s = nemesis.for_s(_BEYOND)
    return Blow(f"cut off for {after_s:.1f} s", site.proxy.heal, after_s)


def freeze_network(nemesis: Nemesis, site: Site) -> Blow:
    """No data reaches Redis, and nobody is notified."""
    site.proxy.freeze()
    after_s = nemesis.for_s(_WITHIN)
    return Blow(f"silent for {after_s:.1f} s", site.proxy.heal, after_s)


def push_garbage(nemesis: Nemesis, site: Site) -> Blow:
    """Someone writes malformed entries into a queue, which would end plain Celery."""
    junk = nemesis.choice([b"\x00\xff not json", b"[1, 2", b"null", b"{}", b'{"body": 1}'])
    queue = nemesis.choice([QUEUE.encode(), SCHEDULER_QUEUE.encode()]).decode()
    _redis(site, lambda client: client.lpush(queue, junk))
    return Blow(f"{junk!r} into {queue}")


def push_evil(nemesis: Nemesis, site: Site) -> Blow:
    """Someone writes messages that Celery can read but that must have no effect."""
    bodies = [
        message("kerasweep.train", {"sweep": "../../etc", "trial": 0}),
        message("kerasweep.train", {"sweep": "abcdef0123", "trial": 10**12}),
        message("os.system", {"command": "true"}),
        message("kerasweep.train", {"sweep": "x" * _HUGE_BYTES, "trial": 0}),
        message("kerasweep.train", {}, content=b"pickle"),
    ]
    _redis(site, lambda client: [client.lpush(QUEUE, body) for body in bodies])
    return Blow(f"{len(bodies)} messages: a path, a huge number, an unknown task, 10 MB, a pickle")


def broadcast(nemesis: Nemesis, site: Site) -> Blow:
    """Someone broadcasts remote-control commands that would stop or stall a plain Celery worker."""
    commands: list[tuple[str, dict[str, object]]] = [
        ("shutdown", {}),
        ("cancel_consumer", {"queue": QUEUE}),
        ("cancel_consumer", {"queue": SCHEDULER_QUEUE}),
        ("rate_limit", {"task_name": "kerasweep.train", "rate_limit": "1/h"}),
        ("pool_shrink", {"n": 99}),
        ("add_consumer", {"queue": "elsewhere"}),
        ("time_limit", {"task_name": "kerasweep.train", "hard": 1}),
    ]
    sent = [command(method, arguments) for method, arguments in commands]
    _redis(site, lambda client: [client.publish(PIDBOX, one) for one in sent])
    return Blow(", ".join(method for method, _ in commands))


def broadcast_garbage(nemesis: Nemesis, site: Site) -> Blow:
    """Someone broadcasts malformed messages."""
    junk = [b"xx", b"[" * 100_000, b"{}", b'{"body": "W10=", "headers": 1}', command("ping", ["x"] * 1000)]
    _redis(site, lambda client: [client.publish(PIDBOX, one) for one in junk])
    return Blow(f"{len(junk)} broadcasts: no JSON, nested, empty, without parts, of a wrong shape")


def damage_keys(nemesis: Nemesis, site: Site) -> Blow:
    """Someone overwrites Celery's keys with values of other types; the hints in them are lost."""
    names = [QUEUE, SCHEDULER_QUEUE, "unacked", "unacked_index", "_kombu.binding.celery.pidbox"]
    _redis(site, lambda client: [client.set(name, "x") for name in names])
    return Blow(f"strings in {', '.join(names)}")


def flood_postponed(nemesis: Nemesis, site: Site) -> Blow:
    """Someone sends tasks that are due in many years, which Celery would hold in memory."""
    bodies = [message("kerasweep.train", {"sweep": "abcdef0123", "trial": 1}, eta=_FAR) for _ in range(1000)]
    _redis(site, lambda client: client.lpush(QUEUE, *bodies))
    return Blow(f"{len(bodies)} tasks with an ETA of {_FAR}")


def lose_store(nemesis: Nemesis, site: Site) -> Blow:
    """The database goes away for a while, sometimes within a lease and sometimes beyond it."""
    after_s = nemesis.for_s((0.3, 1.5))
    site.store.away()
    return Blow(f"away for {after_s:.1f} s", site.store.back, after_s)


FAULTS: dict[str, Callable[[Nemesis, Site], Blow]] = {
    function.__name__: function
    for function in (
        kill_worker,
        kill_trainer,
        kill_scheduler,
        kill_supervisor,
        preempt_worker,
        preempt_and_kill,
        freeze_worker,
        freeze_worker_alone,
        freeze_trainer,
        freeze_scheduler,
        kill_redis,
        lose_redis,
        freeze_redis,
        flush_redis,
        kill_clients,
        cut_network,
        freeze_network,
        push_garbage,
        push_evil,
        broadcast,
        broadcast_garbage,
        damage_keys,
        flood_postponed,
        lose_store,
    )
}


def message(task: str, kwargs: dict[str, object], content: bytes = b"json", eta: str | None = None) -> bytes:
    """Return a message as kombu puts it into a queue's list."""
    body = [[], kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    packed = json.dumps(body).encode() if content == b"json" else pickle.dumps(body)
    number = f"{random.getrandbits(64):016x}"
    envelope = {
        "body": base64.b64encode(packed).decode(),
        "content-encoding": "utf-8" if content == b"json" else "binary",
        "content-type": "application/json" if content == b"json" else "application/x-python-serialize",
        "headers": {
            "lang": "py",
            "task": task,
            "id": number,
            "root_id": number,
            "parent_id": None,
            "eta": eta,
        },
        "properties": {
            "correlation_id": number,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": number,
        },
    }
    return json.dumps(envelope).encode()


def command(method: str, arguments: object, **more: object) -> bytes:
    """Return a broadcast of Celery's remote control."""
    body = json.dumps({"method": method, "arguments": arguments, "destination": None, **more}).encode()
    envelope = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"clock": 1, "expires": 0},
        "properties": {
            "delivery_mode": 2,
            "delivery_info": {"exchange": "celery.pidbox", "routing_key": ""},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": f"{random.getrandbits(64):016x}",
        },
    }
    return json.dumps(envelope).encode()


def _redis(site: Site, act: Callable[[redis.Redis], object]) -> None:
    """Run an operation on Redis itself, bypassing the proxy."""
    client = redis.Redis(unix_socket_path=str(site.redis.socket_path), socket_timeout=1.0)
    try:
        act(client)
    except redis.RedisError as exc:
        raise NoTarget from exc
    finally:
        client.close()
