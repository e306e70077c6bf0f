"""Values, prints and errors contain markup, control sequences and formulas: every command only shows them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kerasweep.jobs.printable import is_printable
from kerasweep.jobs.store.models import Progress
from kerasweep.jobs.trial import Failure, FailureClass, SweepState
from kerasweep.scheduler.cli import output as printed
from kerasweep.scheduler.show import tables

if TYPE_CHECKING:
    from tests.scheduler.conftest import Shell, Stage

ESC = "\x1b]0;PWNED\x07\x1b[31mred\x1b[2J"
NOTES = [
    *(ESC, "[red]x[/red]", "[link=http://evil]x[/link]", "</title><script>alert(1)</script>"),
    *(
        "=cmd|' /C calc'!A0",
        "+1+cmd",
        "-1+cmd",
        "@SUM(1)",
        "\t=1",
        "\r=1",
        ":smile:",
        "[/nothing]",
        "$\\bad{",
    ),
]
COMMANDS = (
    *("ls", "status hostile", "trials hostile", "show hostile 0"),
    *("logs hostile", "journal hostile", "best hostile"),
)


@pytest.fixture
def hostile(stage: Stage) -> str:
    """A sweep of which everything is hostile."""
    training = {"epochs": 10, "batch_size": 16}
    budget = {"max_trials": len(NOTES)}
    sweep = stage.sweep(
        name="hostile", parameters={"note": {"values": NOTES}}, training=training, budget=budget
    )
    for trial in range(len(NOTES) - 1):
        key, _ = stage.claim(sweep, trial)
        stage.records.record([Progress(key, (), (), (f"printed {ESC}",))], 30.0)
        stage.records.release(key, stage.records.trials(sweep)[0].state.QUEUED, f"because {ESC}")
        stage.complete(sweep, trial, [0.5 + trial, 0.4 + trial])
    key, _ = stage.claim(sweep, len(NOTES) - 1)
    stage.records.fail(key, Failure(FailureClass.USER, f"ValueError: raised {ESC} [bold]"))
    stage.end(sweep, SweepState.COMPLETED, f"it ended {ESC}")
    return sweep


@pytest.mark.parametrize("form", ["table", "json", "yaml", "csv"])
def test_nothing_controls_the_terminal(hostile: str, shell: Shell, form: str) -> None:
    for command in COMMANDS:
        out = shell(*command.split(), "-o", form)
        assert shell.code == 0, shell.err
        assert is_printable(out + shell.err), f"{command}: {out!r}"


def test_markup_is_shown_as_it_is(hostile: str, shell: Shell) -> None:
    out = shell("trials", "hostile")
    for note in ("[red]x[/red]", "[link=http://evil]x[/link]", ":smile:", "[/nothing]"):
        assert note in out
    assert "[red]x[/red]" in shell("show", "hostile", "1")


def test_values_come_back_from_json_as_they_were(hostile: str, shell: Shell) -> None:
    found = json.loads(shell("trials", "hostile", "-o", "json"))
    assert [one["params"]["note"] for one in found] == NOTES


def test_no_cell_is_a_formula_and_numbers_are_numbers(hostile: str, shell: Shell) -> None:
    rows = list(csv.DictReader(io.StringIO(shell("trials", "hostile", "-o", "csv"))))
    for row in rows:
        assert not row["params.note"].startswith(("=", "+", "-", "@", "\t", "\r")), row
    assert rows[4]["params.note"] == "'=cmd|' /C calc'!A0"
    assert float(rows[0]["value"]) == 0.4
    text = printed.to_csv([{"x": -1.5, "=k": "-1e-3", "n": "-inf", "e": "−"}])
    assert list(csv.reader(io.StringIO(text))) == [["x", "'=k", "n", "e"], ["-1.5", "-1e-3", "-inf", "−"]]


def test_an_error_names_a_hostile_name_safely(stage: Stage, shell: Shell) -> None:
    shell("status", ESC)
    assert shell.code == 2
    assert is_printable(shell.err)


def test_no_markup_reaches_a_page(hostile: str, shell: Shell, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    for words in (("plot", "hostile", "all.html"), ("plot", "hostile", "3", "one.html")):
        shell(*words)
        assert shell.code == 0, shell.err
        page = (tmp_path / words[-1]).read_text(encoding="utf-8").lower()
        assert "<script>alert" not in page
        assert "</title><script" not in page
        assert "\\u003cscript\\u003ealert" not in page, "plotly would read it as markup"


def test_a_picture_takes_dollars_as_they_are(hostile: str, shell: Shell, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    shell("plot", "hostile", "one.svg", "--view", "slice")
    assert shell.code == 0, shell.err
    assert "<script>alert" not in (tmp_path / "one.svg").read_text(encoding="utf-8")


def test_a_table_on_a_terminal_keeps_its_own_styles(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = printed.console()
    monkeypatch.setattr(screen, "_force_terminal", True)
    monkeypatch.setattr(screen, "_color_system", None)
    with screen.capture() as capture:
        screen.print(tables.literal(f"{ESC} [red]"))
    assert is_printable(capture.get())
