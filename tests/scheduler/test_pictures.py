"""The look of plots: plain numbers, stopped trials drawn as such, the worst ones within sight."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import pytest
from staged import Stage

from kerasweep.jobs.printable import printable
from kerasweep.jobs.store.models import SweepRecord, TrialRecord
from kerasweep.jobs.trial import TrialState
from kerasweep.scheduler.show.curves import Curve, span_decades
from kerasweep.scheduler.show.interactive import Interactive
from kerasweep.scheduler.show.pictures import THEME, Pictures
from kerasweep.scheduler.show.plotpage import escape, page_of
from kerasweep.scheduler.show.scales import AxisScale, plain
from kerasweep.scheduler.show.scene import Scene, in_lines
from kerasweep.scheduler.show.study import Comparable


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[SweepRecord, list[TrialRecord]]:
    """A sweep with a log-like spread of values, one of which is far off, one stopped and one failed trial."""
    stage = Stage(tmp_path / ".kerasweep")
    sweep = stage.sweep()
    for trial in range(6):
        stage.complete(sweep, trial, (9.0, 0.1 * 3**trial))
    stage.fail(sweep, 6)
    trials = stage.records.trials(sweep)
    trials[2] = replace(trials[2], state=TrialState.STOPPED)
    return stage.records.sweep(sweep), trials


@pytest.fixture
def pictures(recorded: tuple[SweepRecord, list[TrialRecord]]) -> Pictures:
    return Pictures(Scene(*recorded, printable, {}))


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (4.0, "4"),
        (0.0001, "0.0001"),
        (0.25, "0.25"),
        (1.2e6, "1,200,000"),
        (0, "0"),
        (-2.5, "-2.5"),
        (1 / 3, "0.3333"),
    ],
)
def test_numbers_are_plain(number: float, text: str) -> None:
    assert plain(number) == text


@pytest.mark.parametrize("view", ["history", "slice", "parallel", "importances"])
def test_a_view_shows_every_trial_in_plain_numbers(pictures: Pictures, view: str) -> None:
    with mpl.rc_context(dict(THEME)):
        figure = pictures.draw(view)
        figure.canvas.draw()
    labels = [
        label.get_text()
        for axis in figure.axes
        for one in (axis.xaxis, axis.yaxis)
        for label in one.get_ticklabels()
    ]
    assert not any("10^" in label or "e-" in label or "×" in label for label in labels), labels
    assert figure.get_suptitle().startswith("mlp: ")
    if view in ("history", "slice"):
        low, high = figure.axes[0].get_ylim()
        assert low < 0.1 < 9.0 < high, "the worst is within sight"


def test_an_axis_is_logarithmic_where_its_values_span_decades() -> None:
    assert AxisScale.of([0.0001, 0.1]).log
    assert not AxisScale.of([0.1, 0.4]).log
    assert AxisScale.of(["a", "b"]).labels == ("a", "b")


def test_curves_are_plotted_on_a_logarithmic_axis_where_they_span_decades() -> None:
    assert span_decades([Curve("loss", [(1, 2.3), (2, 0.05)]), Curve("val_loss", [(1, 2.0)])])
    assert not span_decades([Curve("accuracy", [(1, 0.1), (2, 0.99)])])
    assert not span_decades([Curve("loss", [(1, 2.3), (2, 0.0)])]), "zero has no place there"
    assert not span_decades([Curve("loss", [(1, float("nan"))])])


def test_a_few_choices_are_marked_as_they_are() -> None:
    assert [text for _, text in AxisScale.of([16, 32, 64, 128]).ticks()] == ["16", "32", "64", "128"]
    assert [text for _, text in AxisScale.of([1, 1.1, 40]).ticks()] == ["1", "20.5", "40"], (
        "two lie too close"
    )


def test_an_axis_of_integers_is_marked_at_integers() -> None:
    assert [text for _, text in AxisScale.of([16, 55]).ticks()] == ["16", "35", "55"]
    assert [text for _, text in AxisScale.of([1, 2]).ticks()] == ["1", "2"]
    assert [text for _, text in AxisScale.of([3]).ticks()] == ["2", "3", "4"]


def test_long_names_are_broken_and_not_cut() -> None:
    assert in_lines("rmsprop_with_momentum_and_centered") == "rmsprop_with_momentum_\nand_centered"
    assert in_lines("x" * 40) == "x" * 40


def test_stopped_trials_are_drawn_as_such_in_pages_too(
    recorded: tuple[SweepRecord, list[TrialRecord]],
) -> None:
    drawn = Interactive(Scene(*recorded, escape, {}))
    for view in ("history", "slice"):
        marks = {
            trace.name: trace.marker.symbol for trace in drawn.draw(view).data if trace.mode == "markers"
        }
        assert marks["completed"] == "circle"
        assert marks["stopped"] == "square-open"
    history = {trace.name: trace for trace in drawn.draw("history").data}
    assert list(history["stopped"].x) == [2]
    assert list(history["failed"].x) == [6]
    ended = drawn.draw("parallel").data[0].dimensions[-1]
    assert ended.label == "ended as"
    assert sorted(ended["values"]) == [0, 0, 0, 0, 0, 1]
    assert drawn.draw("importances").layout.title.text == (
        "mlp: what explains val_loss, from 5 completed trials"
    )


def test_importances_compare_values_of_the_same_epoch(
    recorded: tuple[SweepRecord, list[TrialRecord]],
) -> None:
    sweep, trials = recorded
    ended = [replace(trials[0], number=n, value=n, epochs=9) for n in range(30)]
    stopped = [replace(one, state=TrialState.STOPPED, epochs=3) for one in ended[9:]]
    rungs = {n: {3: 30.0 - n} for n in range(30)}
    found = Comparable.of([*ended[:9], *stopped], rungs)
    assert (found.epoch, found.without) == (3, 0)
    assert [one.value for one in found.trials] == [30.0 - n for n in range(30)]
    quick = replace(ended[0], epochs=2)  # it ended by itself before the rung
    assert (
        Comparable.of([quick, *ended[1:9], *stopped], {n: rungs[n] for n in range(1, 30)}).trials[0].value
        == 0
    )
    assert Comparable.of(ended, rungs).epoch is None, "enough have final values"
    scene = Scene(sweep, [*ended[:9], *stopped], escape, rungs)
    title = Interactive(scene).draw("importances").layout.title.text
    assert title == "mlp: what explains val_loss by epoch 3, from 30 trials"


def test_a_page_of_plots_fits_phones_and_follows_the_dark_theme(
    recorded: tuple[SweepRecord, list[TrialRecord]],
) -> None:
    drawn = Interactive(Scene(*recorded, escape, {}))
    slices = drawn.draw("slice")
    page = page_of("a & b", [slices, drawn.draw("parallel")])
    assert "<title>a &amp; b</title>" in page
    assert '<meta name="viewport"' in page
    assert "prefers-color-scheme: dark" in page
    assert page.count("<h2>mlp: ") == 2, "titles are text, which is broken into lines"
    assert "Green: the best, trial 0: " in page
    assert 'src="http' not in page
    narrow = slices.layout.meta["narrow"]
    domains = [narrow[f"yaxis{number or ''}"]["domain"] for number in ("", 2, 3)]
    assert domains == sorted(domains, reverse=True), "one below the other"
    assert all(low[1] < high[0] for high, low in pairwise(domains))
