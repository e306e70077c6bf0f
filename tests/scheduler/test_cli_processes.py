"""worker, scheduler, flower and doctor: real processes on this machine, ended by real signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from kerasweep.jobs.errors import InputError, KerasweepError
from kerasweep.jobs.kernel import ProcessKind
from kerasweep.scheduler.cli.processes import check_flower, expect_free, flower_command, flower_environ
from kerasweep.scheduler.local.redis_server import RedisServer

KERASWEEP = [sys.executable, "-c", "from kerasweep.scheduler.cli.entry import main; main()"]


@contextmanager
def running(*words: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a command; it is stopped at the end, whatever the test does."""
    process = subprocess.Popen(
        [*KERASWEEP, *words], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def descendants(pid: int) -> set[int]:
    """Return the descendants of a process, as the kernel knows them."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found |= {child} | descendants(child)
    return found


def test_the_scheduler_brings_its_own_redis_and_takes_it_along(
    folder: Path, until: Callable[..., None], alive: Callable[[int], bool]
) -> None:
    server = RedisServer(folder / ".kerasweep" / "redis")
    with running("scheduler", cwd=folder) as process:
        until(server.answers, within_s=60)
        until(lambda: len(descendants(process.pid)) >= 2, within_s=60)
        children = descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    assert "Traceback" not in log
    until(lambda: not any(map(alive, children)), within_s=10)
    assert not server.answers()


@pytest.mark.parametrize("command", ["scheduler", "worker"])
def test_out_of_reach_within_ten_seconds(folder: Path, command: str) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [*KERASWEEP, command, "--broker", "redis://:secret@127.0.0.1:1/0"],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "secret" not in done.stderr
    assert time.monotonic() - began < 10 + 20, "ten seconds, and what a busy machine needs to start Python"


def test_a_worker_without_tensorflow_is_not_started(
    folder: Path, shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kerasweep.scheduler.local.children.has_keras", lambda: False)
    shell("worker")
    assert shell.code == 2
    assert "kerasweep[worker]" in shell.err


def test_a_workers_wrong_flags_are_wrong_input(folder: Path) -> None:
    done = subprocess.run(
        [*KERASWEEP, "worker", "--gpus", "0,1,2", "--gpus-per-trial", "2"],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--gpus must divide by --gpus-per-trial" in done.stderr


@pytest.mark.parametrize("flag", ["--slots=0", "--slots=many", "--trainers=-1", "--threads=0"])
def test_a_workers_numbers_are_read_before_anything_is_written(folder: Path, shell: Any, flag: str) -> None:
    shell("run", "sweep.yaml", flag)
    assert shell.code == 2
    assert flag.partition("=")[0] in shell.err
    assert not (folder / ".kerasweep").exists()


def test_a_run_whose_worker_refuses_its_flags_ends_with_the_workers_words(
    folder: Path, content: dict[str, Any]
) -> None:
    (folder / "train.py").write_text(TRAIN)
    (folder / "sweep.yaml").write_text(json.dumps(content | {"method": "grid"}))
    done = subprocess.run(
        [*KERASWEEP, "run", "sweep.yaml", "--gpus", "0,1,2", "--gpus-per-trial", "2"],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "error: --gpus must divide by --gpus-per-trial, got 3 and 2" in done.stderr


def test_flower_is_started_with_safe_settings() -> None:
    words = flower_command(5555, "127.0.0.1")
    assert "--read_only=True" in words
    assert "--address=127.0.0.1" in words
    assert "--task_runtime_metric_buckets=60,600,3600,14400,86400" in words
    assert "--inspect_timeout=10000" in words


def test_flowers_secrets_are_not_on_its_command_line() -> None:
    environ = flower_environ({"PATH": "/bin"}, "redis://:secret@host/0", "admin:word")
    assert environ == {
        "PATH": "/bin",
        "BROKER_URL": "redis://:secret@host/0",
        "FLOWER_BASIC_AUTH": "admin:word",
    }
    secure = flower_environ({}, "rediss://:secret@host/0?ssl_ca_certs=ca.pem", None)["BROKER_URL"]
    assert secure.endswith("&ssl_cert_reqs=required"), "it verifies no certificate otherwise"
    assert not any("secret" in word or "admin" in word for word in flower_command(5555, "0.0.0.0"))


@pytest.mark.parametrize("address", ["0.0.0.0", "192.168.1.4", "::", "example.org"])
def test_flower_asks_for_a_password_where_others_reach_it(address: str) -> None:
    with pytest.raises(InputError, match="--basic-auth"):
        check_flower(address, None)
    check_flower(address, "admin:word")


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_flower_needs_no_password_on_this_machine_alone(address: str) -> None:
    check_flower(address, None)


@pytest.mark.parametrize("given", ["admin", "admin:", ":word"])
def test_a_password_has_two_parts(given: str) -> None:
    with pytest.raises(InputError, match="USER:PASSWORD"):
        check_flower("0.0.0.0", given)


def test_a_taken_port_is_reported_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"got 127.0.0.1:{port} .*name another with --port"):
            expect_free("127.0.0.1", port)
    expect_free("127.0.0.1", port)


def test_flower_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kerasweep.scheduler.cli.processes.find_spec", lambda _: None)
    with pytest.raises(KerasweepError, match=r"kerasweep\[flower\]"):
        check_flower("127.0.0.1", None)


def test_flower_without_redis_says_what_to_start(folder: Path, shell: Any) -> None:
    shell("flower")
    assert shell.code == 3
    assert "kerasweep scheduler" in shell.err


def test_flower_answers_with_a_password_and_changes_nothing(
    folder: Path, redis_server: RedisServer, until: Callable[..., None]
) -> None:
    port = free_port()
    words = ("flower", "--broker", redis_server.url, "--port", str(port), "--basic-auth", "admin:word")
    with running(*words, cwd=folder) as process:
        until(lambda: status(port, "/workers") == 401 or process.poll() is not None, within_s=90)
        assert status(port, "/workers", "admin:word") == 200
        assert status(port, "/api/workers", "admin:word") == 200
        assert status(port, "/api/worker/pool/restart/any", "admin:word", method="POST") in (
            401,
            403,
            404,
            405,
        )
        shown = Path(f"/proc/{process.pid}/cmdline").read_text()
        assert "admin:word" not in shown


def status(port: int, path: str, login: str = "", method: str = "GET") -> int:
    """Return the status code of a request, 0 without a response."""
    import base64

    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    if login:
        request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code
    except OSError:
        return 0


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_doctor_accepts_a_new_folder(folder: Path, shell: Any) -> None:
    findings = {one["check"]: one for one in json.loads(shell("doctor", "-o", "json"))}
    assert shell.code == 0
    assert findings["store"]["state"] == findings["redis"]["state"] == findings["artifacts"]["state"] == "ok"
    assert "3." in findings["python"]["detail"]
    assert not (folder / ".kerasweep").exists()


def test_doctor_says_what_is_out_of_reach(folder: Path, shell: Any) -> None:
    flags = ("--broker", "redis://:pw@127.0.0.1:1/0", "--store", "postgresql://u:pw@127.0.0.1:1/x")
    findings = {one["check"]: one for one in json.loads(shell("doctor", *flags, "-o", "json"))}
    assert shell.code == 3
    assert findings["redis"]["state"] == findings["store"]["state"] == "out of reach"
    assert "pw@" not in shell.out
    assert findings["redis"]["remedy"]


def test_doctor_without_any_redis(folder: Path, shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kerasweep.scheduler.local.redis_server.find_binary", lambda: None)
    shell("doctor")
    assert shell.code == 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_doctor_sees_a_folder_that_cannot_be_written(folder: Path, shell: Any) -> None:
    (folder / "closed").mkdir(mode=0o500)
    shell("doctor", "--home", str(folder / "closed"))
    assert shell.code == 3


def test_doctor_knows_the_workers_and_what_waits(stage: Any, shell: Any) -> None:
    stage.sweep(resources={"gpus": 4})
    offer = {"trainers": 1, "slots": 8, "devices": ["cpu"], "gpus_per_trial": 0, "queues": ["train.cpu"]}
    stage.records.seen("worker-7@here", offer)
    stage.records.seen("scheduler-7@here", {}, ProcessKind.SCHEDULER)
    findings = json.loads(shell("doctor", "-o", "json"))
    details = {one["check"]: one["detail"] for one in findings}
    assert "worker-7@here: 1 trainer of 8 slots (cpu)" in details["worker"]
    assert "asks for 4 GPUs" in details["waiting"]
    assert shell.code == 0


def test_doctor_knows_a_scheduler_that_its_redis_user_may_not_ask(
    stage: Any, shell: Any, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise redis.exceptions.NoPermissionError("this user has no permissions to run the 'srem' command")

    monkeypatch.setattr("celery.app.control.Control.ping", refuse)
    for state in ("note", "ok"):
        found = json.loads(shell("doctor", "--broker", redis_server.url, "-o", "json"))
        [one] = [one for one in found if one["check"] == "scheduler"]
        assert one["state"] == state
        assert "'srem'" in one["detail"]
        stage.records.seen("scheduler-7@here", {}, ProcessKind.SCHEDULER)
    assert "scheduler-7@here" in one["detail"]


def test_doctor_sees_a_redis_that_runs_and_a_scheduler_that_does_not(
    folder: Path, shell: Any, redis_server: RedisServer
) -> None:
    findings = {
        one["check"]: one for one in json.loads(shell("doctor", "--broker", redis_server.url, "-o", "json"))
    }
    assert findings["redis"]["state"] == "ok"
    assert findings["scheduler"]["state"] == "note"
    assert shell.code == 0


TRAIN = """
import keras
import numpy as np


def load_data():
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    y = (x.sum(axis=1) > 0).astype("int64")
    return {"train": (x, y), "validation": (x, y)}


def build_model(learning_rate=0.1, units=8):
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(units, "relu"), keras.layers.Dense(2, "softmax")]
    )
    model.compile(keras.optimizers.SGD(learning_rate), "sparse_categorical_crossentropy")
    return model
"""


@pytest.mark.tf
@pytest.mark.slow
def test_a_whole_run_and_one_that_is_cut_off_leave_nothing_behind(
    folder: Path, content: dict[str, Any], until: Callable[..., None], alive: Callable[[int], bool]
) -> None:
    """One sweep: interrupted by SIGTERM once a trial has ended, resumed to its winner, then fetched."""
    (folder / "train.py").write_text(TRAIN)
    sweep = content | {
        "training": {"epochs": 40, "batch_size": 2},
        "parameters": {"learning_rate": {"values": [0.01, 0.1]}},
    }
    (folder / "sweep.yaml").write_text(json.dumps(sweep | {"method": "grid"}))
    with running("run", "sweep.yaml", "-o", "json", "--trainers", "1", cwd=folder) as process:
        until(
            lambda: len(descendants(process.pid)) >= 4,
            within_s=120,
            what="Redis, scheduler, worker and trainer",
        )
        children = descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert out == ""
    assert "kerasweep run --resume mlp" in err
    until(lambda: not any(map(alive, children)), within_s=10)

    done = subprocess.run(
        [*KERASWEEP, "run", "--resume", "mlp", "-o", "json", "--trainers", "1"],
        cwd=folder, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["state"] == "completed"
    fetched = subprocess.run(
        [*KERASWEEP, "fetch", "mlp", "winner"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert fetched.returncode == 0, fetched.stderr
    assert (folder / "winner" / "model.keras").stat().st_size == document["model"]["bytes"]


def test_tensorboard_opens_what_was_written(stage: Any, shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = stage.sweep()
    shell("tensorboard", "mlp")
    assert shell.code == 1
    assert "tensorboard: true" in shell.err
    stage.artifacts.put(f"tensorboard/{sweep}/0/events", b"curves")
    started: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda _, words: started.append(words))
    shell("tensorboard", "mlp", "--port", "7007")
    assert shell.code == 0
    [words] = started
    assert words[1:] == [
        "-m", "tensorboard.main", f"--logdir={stage.home}/artifacts/tensorboard/{sweep}", "--host=127.0.0.1",
        "--port=7007",
    ]  # fmt: skip
    monkeypatch.setattr("kerasweep.scheduler.cli.processes.find_spec", lambda _: None)
    shell("tensorboard", "mlp")
    assert shell.code == 2
