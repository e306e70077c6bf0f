"""Tests docker-compose.yml: each service's own command as a process on this machine, and a sweep through
them.

There may be no Docker engine, so the test does its part: host names become ports of 127.0.0.1, and volumes
become folders.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import sql
from servers import PostgresServer, free_port
from shown import Browser

from kerasweep.scheduler.cli.dashboards import PORT
from kerasweep.scheduler.local.redis_server import find_binary

ROOT = Path(__file__).parents[2]
FILE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
ENTRY = json.loads(
    re.findall(r"^ENTRYPOINT (.*)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.M)[0]
)
AUTH = "reader:pass word"
#: A user's settings; a password may contain characters that a URL may not.
SHELL = {
    "KERASWEEP_FLOWER_BASIC_AUTH": AUTH,
    "KERASWEEP_POSTGRES_PASSWORD": "p@ss:w/rd #?%25'\"\\ü",
    "KERASWEEP_DASHBOARD_PASSWORD": "sesame ü",
}

Until = Callable[..., None]

TRAIN = """
import keras
import numpy as np


def load_data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 4)).astype("float32")
    y = (x.sum(axis=1) > 0).astype("int64")
    return {"train": (x[:64], y[:64]), "validation": (x[64:], y[64:])}


def build_model(learning_rate=0.05):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])
    model.compile(optimizer=keras.optimizers.SGD(learning_rate), loss="sparse_categorical_crossentropy")
    return model
"""
SWEEP = """
name: compose
job: train.py
metric: {name: val_loss, goal: minimize}
method: grid
parameters:
  learning_rate: {values: [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}
training: {epochs: 2, batch_size: 16}
"""


def fill_in(text: str, environ: Mapping[str, str]) -> str:
    """Replace `${NAME:-default}` and `${NAME:?error}` as Compose does.

    Raises:
        LookupError: a variable that must be set is not.
    """

    def value(found: re.Match[str]) -> str:
        name, sign, rest = found.groups()
        if sign == "?" and not environ.get(name):
            raise LookupError(f"{name}: {rest}")
        return environ.get(name) or rest

    return re.sub(r"\$\{(\w+):([-?])([^}]*)\}", value, text)


class Composed:
    """The services as processes on this machine.

    Args:
        folder: the folder of volumes and logs.
        hosts: the local address of a service's "name:port".
        environ: the environment of the shell that would run `docker compose`.
    """

    def __init__(self, folder: Path, hosts: Mapping[str, str], environ: Mapping[str, str]) -> None:
        self.folder, self.hosts, self.environ = folder, hosts, environ
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def here(self, text: str) -> str:
        """Return a text from the file with variables, hosts and volumes replaced by local ones."""
        text = fill_in(text, self.environ)
        for name, host in self.hosts.items():
            text = text.replace(name, host)
        return str(self.folder / "artifacts") if text == "/artifacts" else text

    def service_environ(self, name: str) -> dict[str, str]:
        """Return a service's environment; from this process's own only what a container has too."""
        own = {key: value for key, value in os.environ.items() if not key.startswith("KERASWEEP_")}
        return own | {key: self.here(value) for key, value in SERVICES[name].get("environment", {}).items()}

    def command(self, name: str, *words: str) -> list[str]:
        """Return a service's command, with `words` replacing its own as in `docker compose run`."""
        service = SERVICES[name]
        program, *rest = [*service.get("entrypoint", ENTRY), *(words or service.get("command", []))]
        assert program == "kerasweep"
        return [str(Path(sys.executable).parent / program), *map(self.here, rest)]

    def start(
        self, key: str, command: list[str], environ: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        """Start a process and register it under a name."""
        with (self.folder / f"{key}.log").open("wb") as log:
            self.processes[key] = subprocess.Popen(
                command, env=environ, cwd=cwd or self.folder, stdout=log, stderr=log, start_new_session=True
            )

    def up(self, name: str, number: int = 1) -> None:
        """Start a service's process."""
        self.start(f"{name}-{number}", self.command(name), self.service_environ(name))

    def run(self, name: str, *words: str, cwd: Path) -> str:
        """Run a service's command to completion, as `docker compose run --rm` does; return its output."""
        return self.finish(name, *words, cwd=cwd).stdout

    def finish(self, name: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a service's command as `run` does; return what it left."""
        done = subprocess.run(
            self.command(name, *words), env=self.service_environ(name), cwd=cwd,
            capture_output=True, text=True, timeout=180,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done

    def down(self) -> dict[str, int]:
        """Stop all as `docker compose down` does; return their exit codes."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        codes = {}
        for name, process in reversed(self.processes.items()):
            try:
                codes[name] = process.wait(45)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait()
        self.processes = {}
        return codes

    def logs(self) -> str:
        """Return the tail of every log."""
        return "\n".join(
            f"--- {log.name}\n{log.read_text()[-3000:]}" for log in sorted(self.folder.glob("*.log"))
        )


@pytest.fixture
def postgres() -> Iterator[str]:
    """A PostgreSQL with the account and database named in the file; its host and port."""
    asked = {key: fill_in(value, SHELL) for key, value in SERVICES["postgres"]["environment"].items()}
    with (
        PostgresServer(tcp=True) as server,
        psycopg.connect(server.url("postgres"), autocommit=True) as admin,
    ):
        admin.execute(
            sql.SQL("create role {} login password {}").format(
                sql.Identifier(asked["POSTGRES_USER"]), sql.Literal(asked["POSTGRES_PASSWORD"])
            )
        )
        admin.execute(f"create database {asked['POSTGRES_DB']} owner {asked['POSTGRES_USER']}".encode())
        yield f"127.0.0.1:{server.port}"


@pytest.fixture
def composed(tmp_path: Path, postgres: str) -> Iterator[Composed]:
    """The services; only PostgreSQL is started."""
    hosts = {"redis:6379": f"127.0.0.1:{free_port()}", "postgres:5432": postgres}
    made = Composed(tmp_path, hosts, SHELL)
    yield made
    made.down()
    print(made.logs())  # shown if the test fails


def start_redis(composed: Composed) -> None:
    """Start Redis with the file's own command, on a local port."""
    program, *options = SERVICES["redis"]["command"]
    assert program == "redis-server"
    binary = find_binary()
    assert binary is not None
    port = composed.hosts["redis:6379"].rpartition(":")[2]
    composed.start("redis-1", [binary, *options, "--port", port, "--bind", "127.0.0.1"], dict(os.environ))


def start_flower(composed: Composed) -> str:
    """Start Flower on the published port; return its URL."""
    [published] = SERVICES["flower"]["ports"]
    address, _, inner = published.split(":")
    assert address == "127.0.0.1", "Flower is not to be reached from outside"
    port = str(free_port())
    command = [{"0.0.0.0": address, inner: port}.get(word, word) for word in composed.command("flower")]
    assert {address, port} <= set(command)
    composed.start("flower-1", command, composed.service_environ("flower"))
    return f"http://{address}:{port}"


def start_page(composed: Composed) -> int:
    """Start the page where the file publishes it; return its port."""
    [published] = SERVICES["dashboard"]["ports"]
    address, _, inner = published.split(":")
    assert (address, inner) == ("127.0.0.1", str(PORT)), "the page is not to be reached from outside"
    port = free_port()
    command = [{"0.0.0.0": address}.get(word, word) for word in composed.command("dashboard")]
    assert address in command
    command += ["--port", str(port)]
    composed.start("dashboard-1", command, composed.service_environ("dashboard"))
    return port


def ask(url: str, auth: str = AUTH) -> Any:
    """Return the JSON that Flower returns, or None while it returns none."""
    header = {"Authorization": "Basic " + base64.b64encode(auth.encode()).decode()}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=header), timeout=15) as answer:
            return json.load(answer)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return None


def refusal(url: str) -> int:
    """Return the status code with which Flower refuses a request without the password."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, timeout=15)
    with caught.value:
        return caught.value.code


@pytest.mark.tf
@pytest.mark.slow
def test_a_sweep_through_all_services(composed: Composed, tmp_path: Path, until: Until) -> None:
    start_redis(composed)
    flower = start_flower(composed)
    page = Browser(start_page(composed))
    composed.up("scheduler")
    composed.up("worker", 1)
    composed.up("worker", 2)
    until(lambda: len(ask(f"{flower}/api/workers?refresh=1") or {}) >= 2, 90, "both workers in Flower")

    job = tmp_path / "job"
    job.mkdir()
    (job / "train.py").write_text(TRAIN, encoding="utf-8")
    (job / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
    submitted = json.loads(composed.run("submit", "sweep.yaml", "-o", "json", cwd=job))
    assert submitted["trials"] == 12

    for part, alive in (("worker", 2), ("scheduler", 1)):
        program, *check = SERVICES[part]["healthcheck"]["test"][1:]
        assert program == "kerasweep"
        done = composed.finish("kerasweep", *check, cwd=job)
        told = rf"{alive} of {alive} on {re.escape(platform.node())} did their work, the last \d+ s ago\n"
        assert (done.stdout, bool(re.fullmatch(told, done.stderr))) == ("", True), done.stderr

    watched = composed.run("kerasweep", "watch", "compose", "-o", "json", cwd=job)
    status = json.loads(watched.splitlines()[-1])
    assert status["trials"]["completed"] == 12
    composed.run("kerasweep", "fetch", "compose", "winner", cwd=job)
    result = json.loads((job / "winner" / "result.json").read_text(encoding="utf-8"))
    assert result["params"] == status["best"]["params"]
    assert (job / "winner" / "model.keras").stat().st_size > 0

    assert page.get("/healthz").status == 200
    assert page.get("/sweeps").status == 401
    word = base64.b64encode(b"me:" + SHELL["KERASWEEP_DASHBOARD_PASSWORD"].encode()).decode()
    told = page.get(f"/sweeps/{submitted['sweep']}", Authorization=f"Basic {word}").text
    assert "completed" in told

    assert refusal(f"{flower}/api/tasks") == 401
    tasks = ask(f"{flower}/api/tasks?taskname=kerasweep.train&limit=100")
    shown = [task["kwargs"] for task in tasks.values()]
    for trial in range(12):
        pattern = rf"sweep=compose \({submitted['sweep']}\), trial={trial}, attempt=1, learning_rate=0\.\d+"
        assert any(re.search(pattern, kwargs) for kwargs in shown), shown
    assert len({task["worker"] for task in tasks.values() if task["state"] == "SUCCESS"}) == 2

    codes = composed.down()
    assert {name: code for name, code in codes.items() if not name.startswith("flower")} == {
        "redis-1": 0, "dashboard-1": 0, "scheduler-1": 0, "worker-1": 0, "worker-2": 0
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "asked"),
    [("flower", "KERASWEEP_FLOWER_BASIC_AUTH"), ("dashboard", "KERASWEEP_DASHBOARD_PASSWORD")],
)
def test_what_is_published_does_not_start_without_a_password(
    composed: Composed, name: str, asked: str
) -> None:
    composed.environ = {"KERASWEEP_POSTGRES_PASSWORD": "set"}
    start_redis(composed)
    done = subprocess.run(
        composed.command(name),
        env=composed.service_environ(name),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert asked in done.stderr


def test_no_password_has_a_default() -> None:
    with pytest.raises(LookupError, match=r"KERASWEEP_POSTGRES_PASSWORD: set it in a file \.env"):
        fill_in(FILE["x-settings"]["PGPASSWORD"], {})
    with pytest.raises(LookupError, match="KERASWEEP_POSTGRES_PASSWORD"):
        fill_in(SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD"], {})
    assert fill_in(SERVICES["flower"]["environment"]["KERASWEEP_FLOWER_BASIC_AUTH"], {}) == ""


def test_the_page_and_flower_are_published_and_to_this_machine_alone() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"dashboard": ["127.0.0.1:8265:8265"], "flower": ["127.0.0.1:5555:5555"]}


def test_images_are_pinned_and_services_have_memory_limits() -> None:
    images = [service["image"] for service in SERVICES.values() if "build" not in service]
    bases = re.findall(r"^FROM (.*)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.M)
    assert all(re.search(r":\d+\.\d+(\.\d+)?-", image) for image in [*images, *bases])
    assert all("mem_limit" in service for service in SERVICES.values() if "restart" in service)


def test_services_wait_until_redis_and_postgres_are_healthy() -> None:
    for name, service in SERVICES.items():
        if name in ("redis", "postgres"):
            assert service["healthcheck"]["test"][0] == "CMD"
        else:
            assert service["depends_on"] == {
                "redis": {"condition": "service_healthy"}, "postgres": {"condition": "service_healthy"}
            }  # fmt: skip


def test_the_gpu_worker_is_the_worker_with_gpus() -> None:
    worker, gpu = SERVICES["worker"], SERVICES["worker-gpu"]
    assert gpu["profiles"] == ["gpu"]
    devices = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]
    own = {"profiles", "deploy", "image", "build"}
    assert {key: gpu[key] for key in gpu.keys() - own} == {key: worker[key] for key in worker.keys() - own}
    assert "cuda" in gpu["build"]["args"]["EXTRAS"].split(",")


def test_images_are_built_with_extras_that_there_are() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    built = [service["build"]["args"]["EXTRAS"] for service in SERVICES.values() if "build" in service]
    assert len(built) == 7
    for asked in built:
        assert set(asked.split(",")) <= set(extras)


def test_the_image_is_built_from_what_the_context_holds() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copies = re.findall(r"^COPY (.*)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.M)
    copied = {name for line in copies for name in line.split()[:-1]}
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)


def test_the_container_does_not_run_as_root() -> None:
    users = re.findall(r"^USER (.*)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.M)
    assert users
    assert users[-1] not in ("root", "0")
