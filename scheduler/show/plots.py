"""Plots in files: a trial's curves, and the views of a sweep.

Matplotlib draws .png and .svg, plotly .html.
"""

from __future__ import annotations

import importlib
import io
import re
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasweep.jobs.errors import InputError, KerasweepError
from kerasweep.jobs.printable import printable
from kerasweep.jobs.variants import condensed
from kerasweep.scheduler.show.curves import Curve, curves_of, pair_up, span_decades
from kerasweep.scheduler.show.interactive import Interactive
from kerasweep.scheduler.show.pictures import THEME, Pictures, plain_numbers
from kerasweep.scheduler.show.plotpage import escape, page_of, styled
from kerasweep.scheduler.show.race import AXES, draw_race, race_of
from kerasweep.scheduler.show.scene import BLUE, QUIET, RED, Scene
from kerasweep.scheduler.show.study import counts

if TYPE_CHECKING:
    from kerasweep.jobs.store.models import EpochRecord, SweepRecord, TrialRecord
    from kerasweep.scheduler.evidence.comparison import Comparison

#: The views of a sweep.
VIEWS = ("history", "parallel", "slice", "importances")
ENDINGS = (".png", ".svg", ".html")
_FEWEST_TRIALS = 2
_TITLE_CHARS = 76
_INCHES, _DPI = (9.0, 5.0), 120


def plot_sweep(
    sweep: SweepRecord,
    trials: Sequence[TrialRecord],
    rungs: Mapping[int, Mapping[int, float]],
    views: Sequence[str],
    target: Path,
) -> None:
    """Draw views of a sweep into one file, one below the other.

    Args:
        sweep: the sweep.
        trials: its trials.
        rungs: their values at the rungs of a stopping rule, by number and epoch.
        views: some of VIEWS.
        target: a .png, .svg or .html file.

    Raises:
        InputError: another suffix, or a missing package.
        KerasweepError: too few trials have a value, or the file cannot be written.
    """
    ending = expect_ending(target)
    values = sum(map(counts, condensed(sweep.spec, trials)))
    if values < _FEWEST_TRIALS:
        raise KerasweepError(
            f"a plot of a sweep needs {_FEWEST_TRIALS} {'trials' if sweep.spec.times == 1 else 'variants'} "
            f"with a value, {sweep.name} has {values}"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna marks parts of itself as experimental
        if ending == ".html":
            drawn = Interactive(Scene(sweep, trials, escape, rungs))
            _write(target, page_of(sweep.name, [drawn.draw(view) for view in views]).encode())
        else:
            with _theme():
                pictures = Pictures(Scene(sweep, trials, printable, rungs))
                _write_pictures(target, [pictures.draw(view) for view in views])


def plot_comparison(shown: Comparison, target: Path) -> None:
    """Draw the best value of two sweeps over the time of training, and over trained epochs.

    Args:
        shown: the two.
        target: a .png, .svg or .html file.

    Raises:
        InputError: another suffix, or a missing package.
        KerasweepError: they cannot be compared, or the file cannot be written.
    """
    ending = expect_ending(target)
    if shown.note:
        raise KerasweepError(f"nothing is drawn: {shown.note}")
    if ending == ".html":
        title = " and ".join(one.name for one in shown.sweeps)
        _write(target, page_of(title, [_plotly_race(shown)]).encode())
    else:
        with _theme():
            _write_pictures(target, [draw_race(shown)])


def _plotly_race(shown: Comparison) -> Any:
    figure = _import("plotly.subplots").make_subplots(rows=2, cols=1)
    for row, axis in enumerate(AXES, start=1):
        for colour, side in zip((BLUE, RED), shown.sweeps, strict=True):
            x, y = race_of(side, axis)
            figure.add_scatter(
                x=x, y=y, name=escape(side.name), mode="lines+markers", line_shape="hv", line_color=colour,
                legendgroup=side.sweep, showlegend=row == 1, row=row, col=1,
            )  # fmt: skip
        figure.update_xaxes(title_text=AXES[axis], row=row, col=1)
    figure.update_layout(height=800)
    return styled(figure, f"best {escape(shown.sweeps[0].metric)} so far ({shown.sweeps[0].goal})")


def plot_trial(title: str, epochs: Sequence[EpochRecord], best_epoch: int | None, target: Path) -> None:
    """Draw a trial's losses and metrics over its epochs, training and validation together.

    Args:
        title: the heading, on as many lines as it takes.
        epochs: the trial's epochs in order.
        best_epoch: marked, if any.
        target: a .png, .svg or .html file.

    Raises:
        InputError: another suffix, or a missing package.
        KerasweepError: the trial has no epochs, or the file cannot be written.
    """
    ending = expect_ending(target)
    curves = curves_of([(epoch.epoch, epoch.metrics) for epoch in epochs])
    if not curves:
        raise KerasweepError("a plot of a trial needs epochs, and this one has none yet; try again later")
    panels = [[curves[name] for name in pair] for pair in pair_up(list(curves))]
    if ending == ".html":
        _write(target, page_of(title, [_plotly_curves(title, panels, best_epoch)]).encode())
    else:
        with _theme():
            _write_pictures(target, [_matplotlib_curves(printable(title), panels, best_epoch)])


def expect_ending(target: Path) -> str:
    """Return the file's suffix.

    Raises:
        InputError: it is not one that can be drawn, or the package for it is missing.
    """
    ending = target.suffix.lower()
    if ending not in ENDINGS:
        raise InputError(f"a plot is a file that ends in {', '.join(ENDINGS)}, got {target.name!r}")
    _import("plotly" if ending == ".html" else "matplotlib")
    return ending


def _theme() -> Any:
    """Draw what follows with the one look that our pictures have."""
    return _import("matplotlib").rc_context(dict(THEME))


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as exc:
        raise InputError(f"this plot needs {name.partition('.')[0]}; pip install 'kerasweep[plot]'") from exc


def _pyplot() -> Any:
    _import("matplotlib").use("Agg")
    return _import("matplotlib.pyplot")


def _matplotlib_curves(title: str, panels: Sequence[Sequence[Curve]], best_epoch: int | None) -> Any:
    pyplot = _pyplot()
    width, height = _INCHES
    figure, axes = pyplot.subplots(
        len(panels), 1, figsize=(width, 1.0 + (height - 1.8) * len(panels)), sharex=True, squeeze=False
    )
    for axis, curves in zip(axes.flat, panels, strict=True):
        for curve in curves:
            axis.plot(
                *zip(*curve.finite, strict=True) if curve.finite else ((), ()), label=curve.name, marker="."
            )
        if best_epoch is not None:
            axis.axvline(
                best_epoch, color="0.5", linestyle="--", linewidth=1, label=f"best epoch {best_epoch}"
            )
        axis.legend()
        log = span_decades(curves)
        axis.set_yscale("log" if log else "linear")
        axis.set_ylabel(curves[0].name)
        plain_numbers(axis.yaxis, log=log)
    axes.flat[-1].set_xlabel("epoch")
    axes.flat[-1].xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(textwrap.fill(title, _TITLE_CHARS), x=0.01, ha="left", weight="bold", size=13)
    pyplot.close(figure)
    return figure


def _plotly_curves(title: str, panels: Sequence[Sequence[Curve]], best_epoch: int | None) -> Any:
    figure = _import("plotly.subplots").make_subplots(rows=len(panels), cols=1, shared_xaxes=True)
    for row, curves in enumerate(panels, start=1):
        for curve in curves:
            epochs, values = zip(*curve.finite, strict=True) if curve.finite else ((), ())
            figure.add_scatter(
                x=epochs, y=values, name=escape(curve.name), mode="lines+markers", row=row, col=1
            )
        if span_decades(curves):
            figure.update_yaxes(type="log", dtick=1, row=row, col=1)
        if best_epoch is not None:
            figure.add_vline(best_epoch, line_dash="dash", line_color=QUIET, row=row, col=1)
    figure.update_xaxes(title_text="epoch", row=len(panels), col=1)
    figure.update_layout(height=120 + 300 * len(panels))
    return styled(figure, escape(title))


def _write_pictures(target: Path, figures: Sequence[Any]) -> None:
    """Write matplotlib figures into one picture, one below the other."""
    kind = target.suffix.lower().removeprefix(".")
    drawn = [_drawn(figure, kind, index) for index, figure in enumerate(figures)]
    joined = drawn[0] if len(drawn) == 1 else (_join_png(drawn) if kind == "png" else _join_svg(drawn))
    _write(target, joined)


def _drawn(figure: Any, kind: str, index: int) -> bytes:
    out = io.BytesIO()
    # Ids within an .svg are derived from the salt: figures that are joined must not share them.
    with _import("matplotlib").rc_context({"svg.hashsalt": f"kerasweep-{index}"}):
        figure.savefig(
            out,
            format=kind,
            dpi=_DPI,
            bbox_inches="tight",
            metadata={"Date": None} if kind == "svg" else None,
        )
    return out.getvalue()


def _join_png(pictures: Sequence[bytes]) -> bytes:
    numpy, image = _import("numpy"), _import("matplotlib.image")
    arrays = [image.imread(io.BytesIO(picture), format="png") for picture in pictures]
    width = max(array.shape[1] for array in arrays)
    padded = [
        numpy.pad(array, ((0, 0), (0, width - array.shape[1]), (0, 0)), constant_values=1.0)
        for array in arrays
    ]
    out = io.BytesIO()
    image.imsave(out, numpy.concatenate(padded), format="png")
    return out.getvalue()


def _join_svg(pictures: Sequence[bytes]) -> bytes:
    bodies, top, width = [], 0.0, 0.0
    for picture in pictures:
        text = picture.decode()
        body = text[text.index("<svg") :]
        wide, high = (float(re.findall(rf'{side}="([\d.]+)pt"', body)[0]) for side in ("width", "height"))
        placed = re.sub(r'(width|height)="([\d.]+)pt"', r'\1="\2"', body, count=2)
        bodies.append(placed.replace("<svg", f'<svg x="0" y="{top}"', 1))
        top, width = top + high, max(width, wide)
    size = f'width="{width}pt" height="{top}pt" viewBox="0 0 {width} {top}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    return "\n".join([head, *bodies, "</svg>"]).encode()


def _write(target: Path, data: bytes) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    except OSError as exc:
        message = f"the plot's file must be writable, got {target}: {exc.strerror}; name another"
        raise KerasweepError(message) from exc
