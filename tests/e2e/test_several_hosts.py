"""Hosts with separate networks, as described in docs/several_machines.md and docs/security.md.

PostgreSQL, Redis (TLS, ACL, passwords) and an S3 are on one host, workers on two more, the scheduler and the
user on a fourth. Only the trainers are stubs.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trustme
import yaml
from chaos import checker
from guarded_redis import DOC as SECURITY
from guarded_redis import QUOTED, TlsFront, start_guarded
from hosts import Host, Wire, why_none
from servers import PostgresServer, S3Server, free_port

from kerasweep.jobs.settings import Settings, to_env
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import SweepState

TESTS = Path(__file__).parents[1]
MANUAL = (SECURITY.parent / "several_machines.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
ADDRESS = "10.0.0.5"
TRIALS, EPOCHS, EPOCH_S = 40, 4, 0.25
LEASES = Settings(
    lease_s=5.0, renew_s=0.7, self_stop_s=3.5, reconcile_s=0.5, flush_s=0.2, grace_s=10.0, reach_s=4.0
)
JOB = "def load_data(): ...\n\n\ndef build_model(act='train', epoch_s=0.0, copy=0): ...\n"
SWEEP = {
    "name": "hosts",
    "job": "train.py",
    "metric": {"name": "val_loss", "goal": "minimize"},
    "method": "grid",
    "parameters": {"epoch_s": {"value": EPOCH_S}, "copy": {"values": [*range(TRIALS)]}},
    "training": {"epochs": EPOCHS, "batch_size": 1},
    "checkpoints": {"every_s": 0},
    "seed": 3,
}
#: Commands that need the artifacts as files.
ON_FILES = (checker.artifacts_right, checker.nothing_unreferenced)


def set_in(doc: str, name: str) -> str:
    """Return the value of a document's `export NAME=VALUE`."""
    [found] = re.findall(rf"^export {name}='?(\S+?)'?(?:\s|$)", doc, re.M)
    return str(found)


class Lab:
    """A host for the store, two for workers, and one from which commands are run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Host("store", ADDRESS)
        self.left, self.right = Host("left", "10.0.0.6"), Host("right", "10.0.0.7")
        self.desk = Host("desk", "10.0.0.8")
        self.wire = Wire([self.store, self.left, self.right, self.desk])
        self.postgres = PostgresServer(address=ADDRESS)
        self.s3 = S3Server(ADDRESS, bucket="bucket")

    def open(self) -> None:
        """Start the three servers, with the names and passwords of the documents."""
        self.store.call(self.postgres.__enter__)
        with psycopg.connect(self.postgres.url("postgres"), autocommit=True) as admin:
            admin.execute("create role kerasweep login password 'secret'")
            admin.execute("create database kerasweep owner kerasweep")
        self.store.call(self.s3.__enter__)
        port, authority = free_port(), trustme.CA()
        authority.cert_pem.write_to_path(self.folder / "ca.crt")
        self.redis = self.store.call(start_guarded, self.folder, port)
        self.front = self.store.call(TlsFront, port, authority, ADDRESS, 6380)
        self.records = Records(self.postgres.url("kerasweep").replace("postgres@", "kerasweep@"))

    def close(self) -> None:
        """End everything."""
        self.wire.close()
        for host in (self.left, self.right, self.desk):
            host.close()
        self.records.close()
        self.front.close()
        self.redis.kill()
        self.redis.wait()
        self.s3.stop()
        self.store.call(self.postgres.__exit__, None, None, None)
        self.store.close()

    def environ(self, user: str) -> dict[str, str]:
        """Return the environment of a process that connects to Redis as `user`."""
        broker = set_in(SECURITY.read_text(encoding="utf-8"), "KERASWEEP_BROKER_URL")
        broker = broker.replace("/etc/kerasweep", str(self.folder)).replace(
            "worker:PASSWORD", f"{user}:{QUOTED}"
        )
        [bucket] = re.findall(r"or (s3://\S+), with the extra s3", MANUAL)
        urls = {
            "KERASWEEP_BROKER_URL": broker,
            "KERASWEEP_STORE_URL": set_in(MANUAL, "KERASWEEP_STORE_URL"),
            "KERASWEEP_ARTIFACTS_URL": bucket,
        }
        return {**os.environ, **to_env(LEASES), **self.s3.environment, **urls}

    def worker(self, host: Host) -> None:
        """Start a worker that takes two trials at once."""
        words = [sys.executable, str(TESTS / "stub_worker.py"), "--trainers=1", "--slots=2"]
        host.start([*words, f"--name={host.name}"], self.environ("worker"), self.folder / f"{host.name}.log")

    def kerasweep(self, words: str, user: str = "submit") -> str:
        """Run a command on the user's host; return its output."""
        command = [str(BIN / "kerasweep"), *words.split()[1:]]
        return self.desk.run(command, self.environ(user), self.folder)

    def submit(self) -> str:
        """Submit the sweep; return its id."""
        return str(json.loads(self.kerasweep("kerasweep submit sweep.yaml -o json"))["sweep"])

    def ended(self, sweep: str) -> bool:
        """Whether a sweep has ended successfully."""
        found = self.records.sweep(sweep)
        assert found.state in (SweepState.RUNNING, SweepState.COMPLETED), found.message
        return found.state.final

    def attempts(self, sweep: str, host: Host) -> list[Any]:
        """Return the attempts that a host's worker made."""
        return [one for one in self.records.attempts(sweep) if one.worker == host.name]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    if missing := why_none():
        pytest.skip(missing)
    (tmp_path / "train.py").write_text(JOB)
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    made = Lab(tmp_path)
    made.open()
    yield made
    made.close()
    for log in sorted(tmp_path.glob("*.log")):  # shown if the test fails
        print(f"--- {log.name}\n{log.read_text()[-3000:]}")


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.timeout(500)
def test_a_sweep_across_hosts_that_are_cut_off_slow_and_gone(lab: Lab, until: Any) -> None:
    lab.desk.start([str(BIN / "kerasweep"), "scheduler"], lab.environ("scheduler"), lab.folder / "desk.log")
    lab.worker(lab.left)
    lab.worker(lab.right)
    alone = lab.submit()
    until(lambda: lab.ended(alone), 180, "the end of the sweep left alone")
    assert lab.attempts(alone, lab.left)
    assert lab.attempts(alone, lab.right)
    assert len(lab.records.attempts(alone)) == TRIALS

    lab.wire.loss, lab.wire.delay_s = 0.02, (0.002, 0.03)
    sweep = lab.submit()
    until(lambda: lab.attempts(sweep, lab.left) and lab.attempts(sweep, lab.right), 40, "both hosts' trials")

    # One host is cut off for longer than its leases, and comes back.
    lab.wire.cut(lab.right)
    until(lambda: any(one.outcome == "failed: lost" for one in lab.attempts(sweep, lab.right)), 40)
    lab.wire.heal(lab.right)
    before = len(lab.attempts(sweep, lab.right))
    until(lambda: len(lab.attempts(sweep, lab.right)) > before, 60, "the return of the host that was cut off")

    # The other one is lost for good.
    until(lambda: any(one.outcome is None for one in lab.attempts(sweep, lab.left)), 20)
    lab.wire.cut(lab.left)
    lab.left.end()
    until(lambda: lab.ended(sweep), 180, "the end")

    assert lab.wire.lost > 50
    url = lab.postgres.url("kerasweep")
    assert checker.differences(checker.table(url, alone), checker.table(url, sweep)) == []
    story = checker.read(url, lab.folder, sweep, trials=TRIALS, lease_s=LEASES.lease_s, grace_s=0.0)
    findings = [
        f"{rule.__name__}: {one}" for rule in checker.RULES if rule not in ON_FILES for one in rule(story)
    ]
    assert findings == []
    assert json.loads(lab.kerasweep("kerasweep status hosts -o json"))["trials"]["completed"] == TRIALS
    lab.kerasweep("kerasweep fetch hosts winner")
    assert (lab.folder / "winner" / "result.json").exists()
