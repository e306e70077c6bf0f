"""Each entry's sweep as written by `kerasweep init`: one with `run`, the others with one scheduler and
worker.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from selection import with_quick

from kerasweep.jobs.gallery_index import copy_entry, list_gallery
from kerasweep.jobs.sweepfile.spec import load_spec
from kerasweep.scheduler.local.redis_server import RedisServer

pytestmark = [pytest.mark.tf, pytest.mark.slow, pytest.mark.timeout(900)]

KERASWEEP = str(Path(sys.executable).with_name("kerasweep"))
RUN_WHOLE = "mlp"
ENTRIES = [entry.name for entry in list_gallery()]

Run = Callable[[Path], dict[str, Any]]


def kerasweep(folder: Path, env: Mapping[str, str], *words: str) -> str:
    """Run a command in a folder; return what it printed."""
    child = subprocess.run(
        [KERASWEEP, *words], capture_output=True, text=True, env=dict(env), cwd=folder, timeout=540
    )
    assert child.returncode == 0, child.stderr
    return child.stdout


@pytest.fixture(scope="module")
def served(offline: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Return a function that submits a folder's sweep, waits for it to end and returns its best trial."""
    home = tmp_path_factory.mktemp("served")
    with RedisServer(home / "redis") as redis, (home / "log").open("wb") as log:
        env = {**offline, "KERASWEEP_HOME": str(home), "KERASWEEP_BROKER_URL": redis.url}
        commands = ([KERASWEEP, "scheduler"], [KERASWEEP, "worker", "--trainers", "1"])
        services = [
            subprocess.Popen(command, env=env, cwd=home, stdout=log, stderr=log) for command in commands
        ]

        def run(folder: Path) -> dict[str, Any]:
            sweep = kerasweep(folder, env, "submit", "sweep.yaml").strip()
            kerasweep(folder, env, "watch", sweep, "-o", "json")
            return dict(json.loads(kerasweep(folder, env, "best", sweep, "-o", "json")))

        try:
            yield run
        finally:
            for service in services:
                service.terminate()
            codes = [service.wait(60) for service in services]
        assert codes == [0, 0], (home / "log").read_text()


@pytest.mark.parametrize("entry", with_quick(ENTRIES, (RUN_WHOLE,)))
def test_the_sweep_finds_a_trial_within_the_bound(
    entry: str,
    tmp_path: Path,
    offline: Mapping[str, str],
    request: pytest.FixtureRequest,
    missed: Callable[[str, Mapping[str, float]], list[str]],
) -> None:
    copy_entry(entry, tmp_path)
    if entry == RUN_WHOLE:
        best = json.loads(kerasweep(tmp_path, offline, "run", "sweep.yaml", "-o", "json"))
    else:
        best = request.getfixturevalue("served")(tmp_path)
    spec = load_spec(tmp_path / "sweep.yaml")
    assert best["name"] == spec.name
    assert best["value"] == best["metrics"][spec.metric.name]
    assert missed(entry, {**best["metrics"], spec.metric.name: best["value"]}) == []
