"""Long-running commands: worker, scheduler, flower, tensorboard."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from enum import StrEnum
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from kerasweep.jobs.errors import InputError, KerasweepError, OutOfReach
from kerasweep.jobs.settings import Settings, to_env
from kerasweep.scheduler.cli.commands import LOOK, RUN, SweepName, command
from kerasweep.scheduler.cli.flags import WorkerFlags
from kerasweep.scheduler.cli.output import say
from kerasweep.scheduler.cli.submitting import EngineName
from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.client.connections import redis_folder
from kerasweep.scheduler.local.children import expect_keras

if TYPE_CHECKING:
    from kerasweep.scheduler.local.redis_server import RedisServer
    from kerasweep.scheduler.local.supervise import Child

# Flower's run-time buckets end at 10 s, and trainings take longer; distant workers need more than its default
# of 1 s.
_BUCKETS_S = "60,600,3600,14400,86400"
_INSPECT_MS = 10_000
# Exit codes of a child that was asked to stop: death by our SIGTERM counts as success.
_EXIT_CODES = {0: 0, 2: 2, 3: 3, 128 + signal.SIGTERM: 0}
# The child has its own grace period and is killed only after it.
_SPARE_S = 5.0


@command(
    RUN,
    "kerasweep worker",
    "kerasweep worker --gpus 0,1,2,3 --gpus-per-trial 2",
    "kerasweep worker --slots 16",
)
def worker(
    client: Client,
    worker: WorkerFlags,
    engine: Annotated[
        EngineName, typer.Option(help="The engine to use, whatever the sweeps ask for.")
    ] = EngineName.AUTO,
    name: Annotated[str | None, typer.Option(help="Its name in lists and logs.", show_default=False)] = None,
) -> None:
    """Train trials until stopped.

    The worker is restarted if it dies.
    SIGTERM and Ctrl-C stop it cleanly: its trials are checkpointed and queued again.
    A second Ctrl-C stops it at once.
    """
    expect_keras()
    words = (*worker.words, f"--engine={engine}", *([f"--name={name}"] if name else []))
    _keep(client, "the worker", "kerasweep.workers.start", words)


@command(RUN, "kerasweep scheduler", "kerasweep scheduler --broker redis://10.0.0.5:6379/0")
def scheduler(client: Client) -> None:
    """Decide which trial comes next, until stopped.

    It also recovers what was lost.
    Without a broker URL it runs a Redis of its own under the home folder, for this machine alone.
    """
    _keep(client, "the scheduler", "kerasweep.scheduler.deciding.service", ())


class HealthPart(StrEnum):
    """The processes whose health can be checked."""

    WORKER = "worker"
    SCHEDULER = "scheduler"


@command(LOOK, "kerasweep health worker")
def health(client: Client, part: Annotated[HealthPart, typer.Argument(help="The process to check.")]) -> None:
    """Check that a worker or scheduler on this machine is working.

    It looks at what was recently written to the store, and exits with 1 if nothing was: for the health checks
    of containers.
    """
    from kerasweep.scheduler.client.health import healthy

    say(healthy(client.records, client.settings, part))


@command(RUN, "kerasweep flower", "kerasweep flower --address 0.0.0.0 --basic-auth admin:secret")
def flower(
    client: Client,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 5555,
    address: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    basic_auth: Annotated[
        str | None,
        typer.Option(
            metavar="USER:PASSWORD",
            envvar="KERASWEEP_FLOWER_BASIC_AUTH",
            help="Credentials; required if others can reach the address.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show the queue in a browser, read-only."""
    words = flower_command(port, address)
    check_flower(address, basic_auth)
    url = client.broker_url()
    if url is None:
        where = str(redis_folder(client.settings))
        raise OutOfReach(
            "Redis", where, "Start `kerasweep scheduler` here first, or name a Redis with --broker."
        )
    client.expect_broker(url)
    expect_free(address, port)
    say(f"Flower listens on http://{address}:{port}")
    os.execve(words[0], words, flower_environ(os.environ, url, basic_auth))


@command(LOOK, "kerasweep tensorboard mlp", "kerasweep tensorboard mlp --port 6007")
def tensorboard(
    client: Client,
    sweep: SweepName,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="The port to listen on, on this machine alone.")
    ] = 6006,
) -> None:
    """Show a sweep's curves, histograms and HParams in TensorBoard.

    The sweep file must ask for them: `training: {tensorboard: true}`, or `{tensorboard: {histograms: true}}`.
    """
    if find_spec("tensorboard") is None:
        raise InputError("TensorBoard is not installed; pip install tensorboard")
    found = client.sweep(sweep)
    place = f"tensorboard/{found.id}"
    if not client.artifacts.keys(place):
        raise KerasweepError(
            f"sweep {found.name} has written no curves for TensorBoard\n"
            "Set `training: {tensorboard: true}` in the sweep file"
        )
    expect_free("127.0.0.1", port)
    folder = client.artifacts.uri(place).removeprefix("file://")
    say(f"TensorBoard listens on http://127.0.0.1:{port}")
    words = [f"--logdir={folder}", "--host=127.0.0.1", f"--port={port}"]
    os.execv(sys.executable, [sys.executable, "-m", "tensorboard.main", *words])


def check_flower(address: str, basic_auth: str | None) -> None:
    """Check that Flower can run, and that strangers cannot reach it.

    Raises:
        InputError: Flower is not installed, or would listen on an open address without a password.
    """
    if find_spec("flower") is None:
        raise InputError("Flower is not installed; pip install 'kerasweep[flower]'")
    if basic_auth is not None and not all(basic_auth.partition(":")):
        raise InputError("--basic-auth must be USER:PASSWORD, got something else; give both")
    if basic_auth is None and not _is_loopback(address):
        raise InputError(
            f"Flower needs a password if others can reach it, got --address {address} without one\n"
            "Add --basic-auth USER:PASSWORD (or KERASWEEP_FLOWER_BASIC_AUTH), or listen on 127.0.0.1"
        )


def expect_free(address: str, port: int) -> None:
    """Check that a server can listen there.

    Raises:
        InputError: the port is taken, or the address is not this machine's.
    """
    try:
        with socket.create_server((address, port)):
            pass
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise InputError(
            f"a port must be free to listen on, got {address}:{port} ({reason}); name another with --port"
        ) from exc


def flower_command(port: int, address: str) -> list[str]:
    """Return the command that runs Flower with safe settings; secrets are passed in the environment."""
    return [
        sys.executable,
        "-m",
        "celery",
        "flower",
        f"--address={address}",
        f"--port={port}",
        "--read_only=True",
        "--persistent=False",
        f"--inspect_timeout={_INSPECT_MS}",
        f"--task_runtime_metric_buckets={_BUCKETS_S}",
    ]


def flower_environ(environ: Mapping[str, str], broker_url: str, basic_auth: str | None) -> dict[str, str]:
    """Return Flower's environment: unlike a command line, it is not readable by every user of the machine."""
    secret = {"FLOWER_BASIC_AUTH": basic_auth} if basic_auth else {}
    if broker_url.startswith("rediss://") and "ssl_cert_reqs=" not in broker_url:
        # Unlike our own processes, Flower would verify no certificate.
        broker_url += ("&" if "?" in broker_url else "?") + "ssl_cert_reqs=required"
    return {**environ, "BROKER_URL": broker_url, **secret}


def _keep(client: Client, name: str, module: str, words: Sequence[str]) -> None:
    """Run a module as a child that is restarted if it dies, until this process is told to stop."""
    from kerasweep.scheduler.local.supervise import supervise

    with ExitStack() as stack:
        settings, redis = client.settings, None
        if settings.embedded_broker:
            from kerasweep.scheduler.local.redis_server import RedisServer

            redis = stack.enter_context(RedisServer(redis_folder(settings)))
            settings = replace(settings, broker_url=redis.url)
        else:
            client.expect_broker(settings.broker_url)
        client.records.close()  # opened early, to fail now if the store is out of reach
        code = supervise(_child(settings, name, module, words, redis))
    raise typer.Exit(_EXIT_CODES.get(code, 1))


def _child(
    settings: Settings, name: str, module: str, words: Sequence[str], redis: RedisServer | None
) -> Child:
    """Return the child that runs a module, and that checks the embedded Redis in every round."""
    from kerasweep.scheduler.local.supervise import Child

    class Kept(Child):
        def poll(self) -> int | None:
            if redis is not None:
                redis.ensure()
            return super().poll()

    command = [sys.executable, "-P", "-m", module, *words]
    return Kept(command, name, settings.grace_s + _SPARE_S, environ={**os.environ, **to_env(settings)})


def _is_loopback(address: str) -> bool:
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
