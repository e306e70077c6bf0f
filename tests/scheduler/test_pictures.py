"""The look of plots: plain numbers, stopped trials drawn as such, the worst ones within sight."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pytest
from staged import Stage

from kerasweep.scheduler.show.pictures import THEME, Pictures
from kerasweep.scheduler.show.scales import AxisScale, plain


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    """A sweep with a log-like spread of values, one of which is far off, and with one failure."""
    stage = Stage(tmp_path / ".kerasweep")
    sweep = stage.sweep()
    for trial in range(6):
        stage.complete(sweep, trial, (9.0, 0.1 * 3**trial))
    stage.fail(sweep, 6)
    return Pictures(stage.records.sweep(sweep), stage.records.trials(sweep))


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
