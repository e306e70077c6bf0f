"""ls, status, trials, best, journal, logs, schema: in every format, and their errors."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerasweep.jobs.trial import SweepState

LISTINGS = [
    ("ls",),
    ("status", "mlp"),
    ("trials", "mlp"),
    ("best", "mlp"),
    ("journal", "mlp"),
    ("logs", "mlp"),
    ("init",),
    ("doctor",),
    ("show", "mlp", "1", "--no-layers"),
]


@pytest.fixture
def sweep(stage: Any) -> str:
    """A sweep with a trial in each of four states."""
    made: str = stage.sweep()
    stage.complete(made, 0, [0.5, 0.4])
    stage.complete(made, 1, [0.5, 0.2, 0.3])
    stage.fail(made, 2)
    stage.claim(made, 3, [0.7, 0.6])
    return made


@pytest.mark.parametrize("words", LISTINGS, ids=lambda words: words[0])
def test_every_listing_speaks_every_format(sweep: str, shell: Any, words: tuple[str, ...]) -> None:
    by_json = json.loads(shell(*words, "-o", "json"))
    assert shell.code == 0
    assert shell.err == ""
    assert lasting(yaml.safe_load(shell(*words, "-o", "yaml"))) == lasting(by_json)
    rows = list(csv.DictReader(io.StringIO(shell(*words, "-o", "csv"))))
    assert len(rows) == (len(by_json) if isinstance(by_json, list) else 1)
    table = shell(*words)
    assert shell.code == 0
    assert table.strip()
    assert "\x1b" not in table, "output that nobody watches is plain"


def lasting(document: Any) -> Any:
    """Return a document without the values that change over time."""
    if isinstance(document, list):
        return [lasting(one) for one in document]
    return {name: value for name, value in document.items() if name not in ("elapsed_s", "eta_s", "detail")}


def test_trials_as_json_and_csv_hold_the_same(sweep: str, shell: Any) -> None:
    documents = json.loads(shell("trials", "mlp", "-o", "json"))
    assert [one["trial"] for one in documents] == list(range(8))
    assert documents[1]["value"] == 0.2
    rows = list(csv.DictReader(io.StringIO(shell("trials", "mlp", "-o", "csv"))))
    assert rows[1]["params.learning_rate"] == "0.01"
    assert rows[1]["params.training.early_stopping.patience"] == "5"
    assert rows[2]["failure.class"] == "diverged"
    assert rows[7]["value"] == ""


def test_trials_sorts_filters_and_limits(sweep: str, shell: Any) -> None:
    best_first = json.loads(shell("trials", "mlp", "--sort", "value", "--limit", "3", "-o", "json"))
    assert [one["trial"] for one in best_first] == [1, 0, 2]
    failed = json.loads(shell("trials", "mlp", "--state", "failed", "--state", "running", "-o", "json"))
    assert [one["trial"] for one in failed] == [2, 3]
    shell("trials", "mlp", "--sort", "height")
    assert shell.code == 2


def test_status_lists_the_failed_trials(sweep: str, stage: Any, shell: Any) -> None:
    document = json.loads(shell("status", "mlp", "-o", "json"))
    assert document["failures"] == [
        {"trial": 2, "class": "diverged", "message": "the loss became NaN in epoch 2"}
    ]
    stage.end(sweep, SweepState.FAILED, "too many failed")
    assert "trial 2  diverged: the loss became NaN in epoch 2" in shell("status", "mlp")
    shell("run", "--resume", "mlp")
    assert "failed trials: 2; `kerasweep logs mlp`" in shell.err


def test_the_table_of_trials_is_readable(sweep: str, shell: Any) -> None:
    lines = shell("trials", "mlp").splitlines()
    heading = lines[0].split()
    assert heading[:5] == ["trial", "state", "learning_rate", "units", "patience"]
    assert "diverged: the loss became NaN in epoch 2" in lines[3]


def test_a_sweep_is_named_by_id_beginning_or_name(sweep: str, stage: Any, shell: Any) -> None:
    newer = stage.sweep()
    for name, expected in ((sweep, sweep), (newer, newer), ("mlp", newer)):
        assert json.loads(shell("status", name, "-o", "json"))["sweep"] == expected
    beginning = next(sweep[:length] for length in range(1, 11) if not newer.startswith(sweep[:length]))
    assert json.loads(shell("status", beginning, "-o", "json"))["sweep"] == sweep


def test_an_unknown_sweep_lists_the_candidates(sweep: str, shell: Any) -> None:
    shell("status", "nope")
    assert shell.code == 2
    assert shell.out == ""
    assert shell.err.startswith("error: ")
    assert f"{sweep} (mlp)" in shell.err
    assert len(shell.err.splitlines()) <= 3


def test_an_unknown_trial_says_which_there_are(sweep: str, shell: Any) -> None:
    for words in (("logs", "mlp", "99"), ("journal", "mlp", "99"), ("show", "mlp", "99")):
        shell(*words)
        assert shell.code == 2
        assert "from 0 to 7" in shell.err


def test_reading_creates_no_store(folder: Path, shell: Any) -> None:
    assert json.loads(shell("ls", "-o", "json")) == []
    shell("status", "mlp")
    assert shell.code == 2
    assert "--home" in shell.err
    assert not (folder / ".kerasweep").exists()


def test_status_tells_the_failure_and_what_is_awaited(stage: Any, shell: Any) -> None:
    sweep = stage.sweep()
    assert "no worker is alive" in shell("status", "mlp")
    stage.end(sweep, SweepState.FAILED, "batch_size must be at most 64")
    assert "batch_size must be at most 64" in shell("status", "mlp")
    assert shell.code == 0, "looking at a failed sweep is no failure"


def test_best_before_any_value_fails(stage: Any, shell: Any) -> None:
    sweep = stage.sweep()
    shell("best", "mlp", "-o", "json")
    assert (shell.code, shell.out) == (1, "")
    stage.end(sweep, SweepState.FAILED, "the job raised")
    shell("best", "mlp")
    assert shell.code == 1
    assert "the job raised" in shell.err


def test_best_has_the_promised_keys(sweep: str, shell: Any) -> None:
    document = json.loads(shell("best", "mlp", "-o", "json"))
    assert (document["sweep"], document["trial"], document["value"], document["epoch"]) == (sweep, 1, 0.2, 2)
    assert document["metrics"] == {"loss": 0.1, "val_loss": 0.2}
    assert set(document["model"]) == {"uri", "sha256", "bytes"}
    path = Path(document["model"]["uri"].removeprefix("file://"))
    assert path.read_bytes() == b"model of trial 1"


def test_logs_are_marked_by_trial(sweep: str, shell: Any) -> None:
    assert "   1 │ hello from trial 1" in shell("logs", "mlp").splitlines()
    assert shell("logs", "mlp", "1") == "hello from trial 1\n"


def test_following_the_logs_ends_with_the_sweep(sweep: str, stage: Any, shell: Any) -> None:
    stage.end(sweep, SweepState.CANCELLED)
    lines = shell("logs", "mlp", "1", "-f", "-o", "json").splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["hello from trial 1"]


def test_the_journal_gives_reasons(sweep: str, shell: Any) -> None:
    entries = json.loads(shell("journal", "mlp", "2", "-o", "json"))
    assert {entry["trial"] for entry in entries} == {2}
    assert entries[0]["reason"] == "from the grid"


def test_schema_is_the_schema(shell: Any) -> None:
    assert "properties" in json.loads(shell("schema"))
    shell("schema", "-o", "csv")
    assert shell.code == 2


def test_usage_errors_take_at_most_three_lines(shell: Any) -> None:
    for words in (
        ("status",),
        ("status", "a", "b"),
        ("nonsense",),
        ("trials", "x", "-o", "xml"),
        ("ls", "--frob"),
    ):
        shell(*words)
        assert shell.code == 2
        assert shell.out == ""
        assert shell.err.startswith("error: ")
        assert len(shell.err.splitlines()) <= 3


def test_a_store_out_of_reach_is_reported_without_its_password(shell: Any) -> None:
    shell("status", "mlp", "--store", "postgresql://me:secret@127.0.0.1:1/db")
    assert shell.code == 3
    assert "secret" not in shell.err
    assert "postgresql://me:***@127.0.0.1:1/db" in shell.err
    assert "KERASWEEP_STORE_URL" in shell.err


def test_a_redis_out_of_reach_is_what_a_sweep_waits_for(sweep: str, shell: Any) -> None:
    away = ("--broker", "redis://:secret@127.0.0.1:1/0", "-o", "json")
    waiting = json.loads(shell("status", "mlp", *away))["waiting"]
    assert "Redis is out of reach at redis://:***@127.0.0.1:1/0" in waiting


def test_the_winners_path_is_one_line_on_any_terminal(
    sweep: str, shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from io import StringIO

    from kerasweep.scheduler.cli import output
    from kerasweep.scheduler.show import winner

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    document = json.loads(shell("best", "mlp", "-o", "json"))
    document["model"]["uri"] += "x" * 100
    document["metrics"] = {"loss": 0.1, "val_accuracy": 0.9, "learning_rate": 0.008}
    monkeypatch.setattr("sys.stdout", screen := Terminal())
    monkeypatch.setenv("TERM", "dumb")  # 80 columns, no colours
    output.emit(document, output.OutputFormat.TABLE, lambda: winner.best(document, "val_loss"))
    *_, first, second, third, model = screen.getvalue().splitlines()
    assert [first.split(), second.split()] == [["metrics", "loss", "0.10000"], ["val_accuracy", "0.90000"]]
    assert "0.0080000 (as scheduled)" in third
    assert document["model"]["uri"] in model


def test_an_unexpected_error_is_short_and_its_traceback_saved(
    sweep: str, shell: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("kerasweep.scheduler.client.sweep.Sweep.status", lambda _: {}["no such key"])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    shell("status", "mlp")
    assert shell.code == 1
    assert "unexpected KeyError: 'no such key'" in shell.err
    assert len(shell.err.splitlines()) == 3
    [kept] = tmp_path.glob("kerasweep-*.traceback")
    assert "Traceback" in kept.read_text()
    assert str(kept) in shell.err


def test_every_command_has_help_with_examples(shell: Any) -> None:
    from kerasweep.scheduler.cli.entry import app

    names = [info.name for info in app.registered_commands]
    assert {
        "run",
        "submit",
        "worker",
        "scheduler",
        "flower",
        "ls",
        "status",
        "trials",
        "watch",
        "logs",
    } <= set(names)
    assert {"pause", "resume", "cancel", "retry", "extend", "best", "fetch", "init", "doctor"} <= set(names)
    for name in names:
        text = shell(str(name), "--help")
        assert shell.code == 0
        assert f"$ kerasweep {name}" in text or "$ id=$(kerasweep submit" in text, name


def test_without_a_command_the_help_is_shown(shell: Any) -> None:
    assert "Usage: kerasweep [OPTIONS] COMMAND" in shell()
    assert shell.code == 2
    assert "Usage: kerasweep db" in shell("db")
    assert (shell.code, shell.err) == (2, "")


def test_help_shows_flags_without_a_value_and_paragraphs_unbroken(shell: Any) -> None:
    text = shell("run", "--help")
    assert "[OPTIONS] [FILE]" in text
    assert "<bool>" not in text
    assert "unless `--keep-warm`" in " ".join(text.split())
    assert "status [OPTIONS] SWEEP " in shell("status", "--help")
    assert "say whether the winner stands" in " ".join(shell("--help").split()), "a summary is never cut"


@pytest.mark.parametrize("words", [("--foo", "ls"), ("-o", "json", "ls")])
def test_options_before_the_command_are_refused_as_others_are(shell: Any, words: tuple[str, ...]) -> None:
    shell(*words)
    assert shell.code == 2
    assert shell.err == f"error: No such option: {words[0]}\nTry: kerasweep --help\n"


def test_mistyped_options_are_answered_with_the_nearest(shell: Any) -> None:
    shell("trials", "--outptu", "json")
    assert "No such option: --outptu. Did you mean '--output'?\n" in shell.err
    shell("ls", "--sate", "x")
    assert "No such option: --sate. Did you mean '--state' or '--store'?\n" in shell.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("trials", "mlp", "--limit", "-1"), "'--limit': must be greater than or equal to 1, got '-1'"),
        (("logs", "mlp", "x"), "'TRIAL': must be a valid integer, got 'x'"),
        (
            ("predict", "mlp", "x.npy"),
            "'TRIAL': must be a valid integer, got 'x.npy'; inputs go with --input: --input x.npy",
        ),
    ],
)
def test_a_wrong_number_is_reported_with_rule_and_value(
    shell: Any, words: tuple[str, ...], told: str
) -> None:
    shell(*words)
    assert shell.code == 2
    assert shell.err.startswith(f"error: Invalid value for {told}\nTry: kerasweep {words[0]} --help")


def test_help_and_its_commands_load_nothing_heavy() -> None:
    program = (
        "import sys; from kerasweep.scheduler.cli.entry import app\n"
        "try: app(['--help'], prog_name='kerasweep')\n"
        "except SystemExit: pass\n"
        "heavy = {'rich', 'sqlalchemy', 'celery', 'pydantic', 'numpy', 'yaml', 'optuna', 'fsspec', 'redis'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "  run  " in done.stdout


def test_a_trial_that_waits_for_its_program_is_shown_as_compiling(stage: Any, shell: Any, sweep: str) -> None:
    from io import StringIO

    from rich.console import Console

    from kerasweep.scheduler.client.client import Client
    from kerasweep.scheduler.show.screen import draw, take

    stage.records.seen("worker-1@here", {"phases": {f"{sweep}/3": "compiling", "another/0": "loading"}})
    documents = json.loads(shell("trials", "mlp", "-o", "json"))
    assert [one["phase"] for one in documents[:4]] == [None, None, None, "compiling"]
    page = StringIO()
    with Client() as client:
        Console(file=page, width=120).print(draw(take(client.sweep("mlp"), 10), 120))
    assert "compiling" in page.getvalue()
