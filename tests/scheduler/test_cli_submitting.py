"""submit, init, schema, and what they refuse."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import SweepState


def records(folder: Path) -> Records:
    return Records(f"sqlite:///{folder}/.kerasweep/store.db")


def test_submit_prints_the_id_alone(folder: Path, shell: Any) -> None:
    printed = shell("submit", "sweep.yaml")
    assert shell.code == 0
    [sweep] = records(folder).sweeps()
    assert printed == f"{sweep.id}\n"
    assert sum(records(folder).counts(sweep.id).values()) == 8
    assert "kerasweep watch mlp" in shell.err
    assert "kerasweep worker" in shell.err, "nothing runs here yet, so it says what starts"


def test_submit_as_json(folder: Path, shell: Any) -> None:
    document = json.loads(shell("submit", "sweep.yaml", "--name", "other", "--engine", "fit", "-o", "json"))
    [sweep] = records(folder).sweeps()
    assert document == {"sweep": sweep.id, "name": "other", "trials": 8}
    assert (sweep.name, sweep.spec.name, sweep.engine) == ("other", "other", "fit")
    assert shell.err == ""


def test_submit_from_another_folder_finds_the_job(
    folder: Path, shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    shell("submit", "../sweep.yaml")
    assert shell.code == 0
    assert (folder / "elsewhere" / ".kerasweep" / "store.db").exists()


def test_flags_win_over_the_environment(folder: Path, shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERASWEEP_HOME", str(folder / "by-env"))
    shell("submit", "sweep.yaml", "--home", str(folder / "by-flag"))
    assert (folder / "by-flag" / "store.db").exists()
    assert not (folder / "by-env").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"metrc": 1}, "metric"),
        ({"parameters": {"lerning_rate": {"values": [1]}}}, "learning_rate"),
        ({"job": "nowhere.py"}, "nowhere.py"),
        ({"parameters": {"learning_rate": {"distribution": "uniform", "min": 2.0, "max": 1.0}}}, "min"),
        ({"name": "no spaces please"}, "name"),
    ],
    ids=["unknown key", "unknown parameter", "no job", "inverted range", "name"],
)
def test_an_invalid_sweep_leaves_nothing(folder: Path, shell: Any, change: dict[str, Any], told: str) -> None:
    sweep = json.loads((folder / "sweep.yaml").read_text()) | change
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    shell("submit", "sweep.yaml")
    assert (shell.code, shell.out) == (2, "")
    assert told in shell.err
    assert len(shell.err.splitlines()) <= 3
    assert not (folder / ".kerasweep").exists() or records(folder).sweeps() == []


@pytest.mark.parametrize("method", [{"name": "gp", "startup_trials": 0}, {"name": "auto", "then": "gp"}])
@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_a_package_that_only_the_scheduler_needs_is_named(
    folder: Path,
    shell: Any,
    no_torch: None,
    caplog: pytest.LogCaptureFixture,
    method: dict[str, Any],
    words: list[str],
) -> None:
    """It may be installed where that runs, so the sweep is submitted, and nothing pauses it from here."""
    sweep = json.loads((folder / "sweep.yaml").read_text()) | {"method": method, "budget": {"max_trials": 8}}
    (folder / "sweep.yaml").write_text(json.dumps(sweep))
    shell("submit", "sweep.yaml", *words)
    assert shell.code == 0, shell.err
    assert "method 'gp' needs the package torch where the scheduler runs" in caplog.text
    assert "pip install 'kerasweep[gp]'" in caplog.text
    assert words or [one.state for one in records(folder).sweeps()] == [SweepState.RUNNING]


def test_a_missing_file_is_wrong_input(folder: Path, shell: Any) -> None:
    shell("submit", "nowhere.yaml")
    assert shell.code == 2
    assert "nowhere.yaml" in shell.err
    assert "there are sweep.yaml" in shell.err
    shell("submit", "swep.yaml")
    assert "did you mean 'sweep.yaml'?" in shell.err


@pytest.mark.parametrize("command", ["submit", "run"])
def test_a_missing_job_is_told_with_its_line_and_the_nearest_file(
    folder: Path, shell: Any, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kerasweep.scheduler.local.children.has_keras", lambda: True)
    sweep = json.loads((folder / "sweep.yaml").read_text()) | {"job": "trian.py"}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))
    line = list(sweep).index("job") + 1
    shell(command, "sweep.yaml")
    assert f"is not there (line {line} of sweep.yaml)" in shell.err
    assert "did you mean 'train.py'?" in shell.err


def test_redis_out_of_reach_submits_nothing(folder: Path, shell: Any) -> None:
    began = time.monotonic()
    shell("submit", "sweep.yaml", "--broker", "redis://:secret@127.0.0.1:1/0")
    assert time.monotonic() - began < 10
    assert (shell.code, shell.out) == (3, "")
    assert "redis://:***@127.0.0.1:1/0" in shell.err
    assert "secret" not in shell.err
    assert records(folder).sweeps() == []


def test_submit_reaches_a_redis_that_runs(folder: Path, shell: Any, redis_server: Any) -> None:
    from kerasweep.jobs.queue.broker import HintQueue

    shell("submit", "sweep.yaml", "--broker", redis_server.url)
    assert shell.code == 0
    assert HintQueue(redis_server.url).length("train.cpu") == 8


def test_submit_finds_the_embedded_redis(folder: Path, shell: Any) -> None:
    from kerasweep.jobs.queue.broker import HintQueue
    from kerasweep.scheduler.local.redis_server import RedisServer

    with RedisServer(folder / ".kerasweep" / "redis") as server:
        shell("submit", "sweep.yaml")
        assert "waits" not in shell.err
        assert HintQueue(server.url).length("train.cpu") == 8


def test_init_lists_and_writes(folder: Path, shell: Any) -> None:
    listed = json.loads(shell("init", "-o", "json"))
    assert "mlp" in {one["job"] for one in listed}
    document = json.loads(shell("init", "mlp", "mine", "-o", "json"))
    assert {Path(file).name for file in document["files"]} >= {"train.py", "sweep.yaml"}
    assert all((folder / file).is_file() for file in document["files"])


def test_init_never_overwrites_unasked(folder: Path, shell: Any) -> None:
    shell("init", "mlp", "mine")
    (folder / "mine" / "train.py").write_text("changed by hand")
    shell("init", "mlp", "mine")
    assert shell.code == 2
    assert (folder / "mine" / "train.py").read_text() == "changed by hand"
    shell("init", "mlp", "mine", "--force")
    assert shell.code == 0
    assert "build_model" in (folder / "mine" / "train.py").read_text()


def test_init_names_the_nearest_entry(folder: Path, shell: Any) -> None:
    shell("init", "mpl")
    assert shell.code == 2
    assert "'mlp'" in shell.err


def test_completion_offers_sweeps_and_jobs(stage: Any) -> None:

    from kerasweep.scheduler.cli import completion

    sweep = stage.sweep()
    context: Any = type("Context", (), {"params": {}})()
    assert completion.sweeps(context, "m") == [("mlp", f"{sweep}, running")]
    assert completion.sweeps(context, sweep[:3]) == [(sweep, "mlp")]
    assert completion.sweeps(context, "zz") == []
    assert "mlp" in dict(completion.gallery("m"))


def test_completion_is_printed_for_the_shell_that_is_named(shell: Any) -> None:
    assert shell("--show-completion", "zsh").startswith("#compdef kerasweep")
    assert shell("--show-completion", "fish").startswith("complete --command kerasweep")
    shell("--show-completion", "tcsh")
    assert shell.code == 2
    assert "must be one of bash, zsh" in shell.err


def test_completion_is_silent_without_a_store(folder: Path) -> None:
    from kerasweep.scheduler.cli import completion

    context: Any = type("Context", (), {"params": {"store": "nonsense://"}})()
    assert completion.sweeps(context, "") == []
    context.params = {}
    assert completion.sweeps(context, "") == []
    assert not (folder / ".kerasweep").exists()


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("fetch", "mlp", "winner", "--format", "onx"), "'onx' is not one of"),
        (("submit", "sweep.yaml", "--engine", "pck"), "Did you mean 'pack'?"),
    ],
)
def test_a_mistyped_choice_gets_a_suggestion(words: tuple[str, ...], meant: str, shell: Any) -> None:
    shell(*words)
    assert shell.code == 2
    assert meant in shell.err
    assert "Value error" not in shell.err
