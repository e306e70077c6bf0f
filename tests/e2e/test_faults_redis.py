"""Hints may be lost, duplicated, late or forged; Redis may stop, freeze or lose data. Trainers are stubs."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from celery import Celery
from chaos.nemesis import PIDBOX, command, message

from kerasweep.jobs.errors import OutOfReach
from kerasweep.jobs.queue.broker import celery_settings
from kerasweep.jobs.trial import TrialState
from kerasweep.scheduler.deciding.submission import submit

#: Where an answer goes whose asker has left.
NOBODY = {"exchange": "reply.celery.pidbox", "routing_key": "gone"}


def connect(cluster: Any) -> redis.Redis:
    return redis.Redis(unix_socket_path=cluster.settings.broker_url.removeprefix("redis+socket://"))


@pytest.fixture
def evil() -> Any:
    """Return a function that creates entries that should never be in a queue."""

    def make(queue: str) -> list[bytes]:
        return [
            b"\x00\xff not json",
            b"[1, 2",
            b"null",
            b"{}",
            b'{"body": 1, "properties": 3}',
            message("kerasweep.train", {"sweep": "../../etc/passwd", "trial": 0}),
            message("kerasweep.train", {"sweep": "x" * 10_000_000, "trial": 0}),
            message("kerasweep.train", {"sweep": "abcdef0123", "trial": -1}),
            message("kerasweep.advance", {"sweep": "../.."}),
            message("kerasweep.advance", {"sweep": "abcdef0123"}),
            message("kerasweep.advance", {"sweep": "abcdef0123", "more": 1}),
            message("os.system", {"command": f"touch {Path.cwd()}/pwned"}),
            message("kerasweep.train", {}, content=b"pickle"),
        ]

    return make


def test_one_hint_five_times_is_one_attempt(cluster: Any, until: Any) -> None:
    sweep = cluster.submit_stub(epoch_s=0.3)
    with connect(cluster) as client:
        [hint] = client.lrange("train.cpu", 0, -1)
        client.lpush("train.cpu", *[hint] * 4)
    cluster.scheduler()
    cluster.stub_worker("--slots=6")
    until(cluster.ended(sweep), 30)
    assert cluster.outcomes(sweep) == ["completed"]
    assert cluster.events(sweep) == ["suggested", "claimed", "completed"]


def test_dropped_connections_disturb_no_running_trial(cluster: Any, until: Any) -> None:
    cluster.scheduler()
    cluster.stub_worker()
    sweep = cluster.submit_stub(epochs=6, epoch_s=0.4)
    with connect(cluster) as client:
        for epochs in (1, 2, 4):
            until(cluster.reached(sweep, epochs), 20)
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    until(cluster.ended(sweep), 30)
    assert cluster.outcomes(sweep) == ["completed"]


def test_redis_may_lose_everything_with_twenty_trials_queued(
    cluster: Any, redis_server: Any, until: Any
) -> None:
    cluster.scheduler()
    cluster.stub_worker("--slots=2")
    sweep = cluster.submit_stub(epochs=2, epoch_s=0.1, parameters={"copy": {"values": [*range(22)]}})
    until(lambda: cluster.records.counts(sweep.id).get(TrialState.COMPLETED, 0) >= 2, 30)
    os.kill(redis_server.pid, signal.SIGKILL)
    redis_server.stop()
    for path in redis_server.folder.glob("appendonly*"):
        path.unlink()
    redis_server.start()
    until(cluster.ended(sweep), 60)
    assert cluster.records.counts(sweep.id) == {TrialState.COMPLETED: 22}
    assert {trial.failures for trial in cluster.records.trials(sweep.id)} == {0}


def test_redis_may_be_flushed_while_trials_run(cluster: Any, until: Any) -> None:
    cluster.scheduler()
    cluster.stub_worker("--slots=1")
    sweep = cluster.submit_stub(epochs=3, epoch_s=0.3, parameters={"copy": {"values": [1, 2, 3]}})
    until(cluster.reached(sweep, 1), 20)
    with connect(cluster) as client:
        client.flushall()
    until(cluster.ended(sweep), 30)
    assert [cluster.outcomes(sweep, number) for number in range(3)] == [["completed"]] * 3


def test_submitting_to_a_frozen_redis_changes_nothing_and_may_be_done_again(
    cluster: Any, redis_server: Any
) -> None:
    folder = cluster.folder / "job"
    folder.mkdir()
    (folder / "train.py").write_text("def load_data(): ...\ndef build_model(): ...\n")
    file = folder / "sweep.yaml"
    file.write_text(
        "name: frozen\njob: train.py\nmetric: {name: loss, goal: minimize}\nmethod: random\n"
        "budget: {max_trials: 1}\ntraining: {epochs: 1, batch_size: 1}\n"
    )
    where = {"records": cluster.records, "artifacts": cluster.artifacts, "queue": cluster.queue}
    os.kill(redis_server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(OutOfReach, match="Redis is out of reach"):
            submit(file, **where)
    finally:
        os.kill(redis_server.pid, signal.SIGCONT)
    assert cluster.records.sweeps() == []
    done = submit(file, **where)
    assert done.announced


def test_a_long_outage_ends_no_worker_and_costs_no_attempt(
    cluster: Any, redis_server: Any, until: Any
) -> None:
    assert celery_settings()["broker_connection_max_retries"] is None
    scheduler, worker = cluster.scheduler(), cluster.stub_worker("--slots=1")
    copies = {"copy": {"values": [1, 2, 3]}}
    sweep = cluster.submit_stub(epochs=10, epoch_s=0.4, parameters=copies)
    until(cluster.reached(sweep, 1), 20)
    redis_server.stop()
    until(cluster.in_state(sweep, TrialState.COMPLETED), 20)  # the running one needs no Redis
    redis_server.start()
    until(cluster.ended(sweep), 60)
    assert (scheduler.poll(), worker.poll()) == (None, None)
    assert [cluster.outcomes(sweep, number) for number in range(3)] == [["completed"]] * 3


@pytest.mark.parametrize("queue", ["train.cpu", "scheduler"])
def test_garbage_in_a_queue_is_dropped_and_disturbs_nothing(
    cluster: Any, until: Any, queue: str, evil: Any
) -> None:
    scheduler, worker = cluster.scheduler(), cluster.stub_worker()
    sweep = cluster.submit_stub(epochs=6, epoch_s=0.3)
    until(cluster.reached(sweep, 1), 20)
    with connect(cluster) as client:
        for junk in evil(queue):
            client.lpush(queue, junk)
        until(lambda: client.llen(queue) == 0, 30)
    until(cluster.ended(sweep), 30)
    assert (scheduler.poll(), worker.poll()) == (None, None)
    assert cluster.outcomes(sweep) == ["completed"]
    assert len(cluster.records.sweeps()) == 1


def test_remote_control_ends_and_stalls_nothing_and_inspection_answers(cluster: Any, until: Any) -> None:
    scheduler, worker = cluster.scheduler(), cluster.stub_worker("--name=w0")
    control = Celery(broker=cluster.settings.broker_url, set_as_current=False).control
    until(lambda: len(control.ping(timeout=0.5)) == 2, 30)
    sweep = cluster.submit_stub(epochs=8, epoch_s=0.3)
    until(cluster.reached(sweep, 1), 20)
    control.shutdown()
    control.cancel_consumer("train.cpu")
    control.cancel_consumer("scheduler")
    control.rate_limit("kerasweep.train", "1/h")
    control.pool_shrink(99)
    control.broadcast("ping", pattern="(w+)+$", matcher="pcre")
    with connect(cluster) as client:
        for junk in (b"xx", b"[" * 100_000, b"null", b"{}", command("ping", 5), command("revoke", {"x": 1})):
            client.publish(PIDBOX, junk)
            client.publish(f"{PIDBOX}/x", junk)
        client.publish(PIDBOX, command("ping", {}, reply_to=NOBODY, ticket="x"))
        client.publish(PIDBOX, command("stats", {"no such": "argument"}))
    until(cluster.ended(sweep), 30)
    another = cluster.submit_stub()
    until(cluster.ended(another), 30)
    assert (scheduler.poll(), worker.poll()) == (None, None)
    assert cluster.outcomes(sweep) == cluster.outcomes(another) == ["completed"]
    inspect = control.inspect(timeout=2)
    for answers in (inspect.stats(), inspect.active(), inspect.registered(), inspect.active_queues()):
        assert answers is not None
        assert "celery@w0" in answers
    assert "only inspection and revoke are allowed, got 'shutdown'" in cluster.logs()
    assert "Traceback" not in cluster.logs()


def test_keys_of_the_wrong_type_are_mended(cluster: Any, until: Any) -> None:
    scheduler, worker = cluster.scheduler(), cluster.stub_worker()
    with connect(cluster) as client:
        for key in ("train.cpu", "scheduler"):
            client.set(key, "x")
        for key in ("unacked", "unacked_index", "unacked_mutex", "_kombu.binding.train.cpu"):
            client.rpush(key, "x")
        client.set("_kombu.binding.celery.pidbox", "x")
        client.sadd("_kombu.binding.reply.celery.pidbox", b"\xff", "a", "b\x06\x16c")
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        sweep = cluster.submit_stub()
        until(cluster.ended(sweep), 30)
        assert client.get("kerasweep.aside.train.cpu") == b"x"
    control = Celery(broker=cluster.settings.broker_url, set_as_current=False).control
    until(lambda: len(control.ping(timeout=0.5)) == 2, 20)
    assert (scheduler.poll(), worker.poll()) == (None, None)
    assert cluster.outcomes(sweep) == ["completed"]


def test_a_hint_in_the_queue_of_other_devices_is_dropped(cluster: Any, until: Any) -> None:
    """Anyone who may write to Redis can move one; on a CPU the trial would end with other bits."""
    sweep = cluster.submit_stub(resources={"gpus": 2})
    with connect(cluster) as client:
        client.lmove("train.2gpu", "train.cpu", "RIGHT", "LEFT")
        cluster.stub_worker()
        until(lambda: "was in another queue" in cluster.logs(), 30)
        assert client.llen("train.cpu") == 0
    assert cluster.in_state(sweep, TrialState.QUEUED)()
    assert cluster.events(sweep) == ["suggested"]


def test_postponed_hints_are_dropped_unheld(cluster: Any, until: Any) -> None:
    cluster.scheduler()
    worker = cluster.stub_worker()
    flood = [message("kerasweep.train", {"sweep": "abcdef0123", "trial": 1}, eta="2199-01-01T00:00:00+00:00")]
    with connect(cluster) as client:
        until(lambda: "takes trials from" in cluster.logs(), 20)
        before = psutil.Process(worker.pid).memory_info().rss
        client.lpush("train.cpu", *flood * 5000)
        sweep = cluster.submit_stub()
        until(cluster.ended(sweep), 30)
        assert client.llen("train.cpu") == 0
    assert psutil.Process(worker.pid).memory_info().rss - before < 30e6


def test_a_worker_with_a_deaf_connection_reconnects(cluster: Any, until: Any) -> None:
    """Its slots are free and trials are queued, but it receives none, as after a client library bug."""
    cluster.scheduler()
    worker = cluster.stub_worker(KERASWEEP_STALL_S="2", KERASWEEP_TEST_DEAF="1")
    sweep = cluster.submit_stub()
    until(cluster.ended(sweep), 40)
    assert worker.poll() is None
    assert "reconnecting" in cluster.logs()
