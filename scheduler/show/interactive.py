"""Views of a sweep as figures of plotly's, with the look of our pictures."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kerasweep.jobs.trial import TrialState
from kerasweep.scheduler.client import wording
from kerasweep.scheduler.show.plotpage import escape, styled
from kerasweep.scheduler.show.scales import AxisScale
from kerasweep.scheduler.show.scene import BLUE, GREEN, INK, RED, Scene, across, drawn, in_lines

if TYPE_CHECKING:
    from kerasweep.jobs.store.models import TrialRecord

#: Completed trials are filled circles, stopped ones open squares.
_MARKS: Mapping[TrialState, Mapping[str, Any]] = {
    TrialState.COMPLETED: {"symbol": "circle", "color": BLUE, "size": 8, "opacity": 0.75},
    TrialState.STOPPED: {"symbol": "square-open", "color": BLUE, "size": 8},
}
_COLUMNS, _ROW, _HEIGHT = 4, 260, 420
#: The least room for an axis of parallel coordinates, and for a character of its labels, in pixels; where it
#: is not there, the view scrolls.
_AXIS, _CHAR = 110, 7
#: Up to this range of integers, each is marked: plotly would mark halves too.
_FEW_WHOLE = 6


class Interactive:
    """Draws the views of one sweep.

    Args:
        scene: what they show, its texts escaped.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def draw(self, view: str) -> Any:
        """Return a view as a figure."""
        figure = styled(
            drawn(self, view), self._scene.title(view), self._note() if view == "parallel" else ""
        )
        if view == "slice":  # its parameters' names stand above it
            figure.update_layout(legend={"y": -0.2, "yanchor": "top"})
        if view == "importances":
            figure.update_yaxes(showgrid=False)
        return figure

    def history(self) -> Any:
        """Draw the value of each trial, and the best so far."""
        figure = _plotly("graph_objects").Figure(layout={"height": _HEIGHT})
        for state in _MARKS:
            some = [one for one in self._scene.counted if one.state is state]
            self._scatter(figure, state, [one.number for one in some], some)
        each = [(number, value) for number, some in self._scene.spread().items() for value in some]
        if each:
            x, y = zip(*each, strict=True)
            dash = {"symbol": "line-ew-open", "color": BLUE, "size": 9}
            figure.add_scatter(x=x, y=y, mode="markers", marker=dash, name="under each seed")
        numbers, values = self._scene.best_so_far()
        line = {"shape": "hv", "color": GREEN, "width": 2}
        figure.add_scatter(x=numbers, y=values, mode="lines", line=line, name="best so far")
        if self._scene.failed:
            low, high = self._scene.up.low, self._scene.up.high
            foot = [low - (high - low) / 20] * len(self._scene.failed)
            cross = {"symbol": "x-thin", "size": 9, "line": {"color": RED, "width": 2}}
            figure.add_scatter(x=self._scene.failed, y=foot, mode="markers", marker=cross, name="failed")
        figure.update_xaxes(title=self._scene.what)
        figure.update_yaxes(title=self._scene.metric)
        return figure

    def slices(self) -> Any:
        """Draw the value by each parameter."""
        names = self._scene.names
        columns = min(_COLUMNS, max(1, len(names)))
        rows = max(1, math.ceil(len(names) / columns))
        figure = _plotly("subplots").make_subplots(
            rows=rows, cols=columns, shared_yaxes=True, subplot_titles=list(names.values())
        )
        for index, name in enumerate(names):
            place = {"row": index // columns + 1, "col": index % columns + 1}
            scale = self._scene.scale(name)
            for state in _MARKS:
                some = [one for one in self._scene.counted if one.state is state and name in one.params]
                x = [across(one, name, scale) for one in some]
                self._scatter(figure, state, x, some, showlegend=index == 0, legendgroup=str(state), **place)
            figure.update_xaxes(**_ticks(scale), **place)
        figure.update_yaxes(title=self._scene.metric, col=1)
        figure.update_layout(height=160 + _ROW * rows, meta={"narrow": _stacked(list(names.values()))})
        return figure

    def _scatter(
        self, figure: Any, state: TrialState, x: Sequence[Any], trials: Sequence[TrialRecord], **given: Any
    ) -> None:
        if not trials:
            return
        told = [f"{self._scene.what} {one.number}<br>{escape(wording.params(one.params))}" for one in trials]
        values, look = [one.value for one in trials], {"marker": dict(_MARKS[state]), "name": str(state)}
        figure.add_scatter(x=x, y=values, mode="markers", hovertext=told, **look, **given)

    def parallel(self) -> Any:
        """Draw a line for each trial through its parameters and its value."""
        scene, shown = self._scene, self._scene.complete
        states = [_NUMBERS[one.state] for one in shown]
        dimensions = [
            {**_dimension(scene.scale(name), [one.params[name] for one in shown]), "label": title}
            for name, title in scene.names.items()
        ]
        dimensions.append({**_dimension(scene.up, [one.value for one in shown]), "label": scene.metric})
        if len(set(states)) > 1:
            ends = {"tickvals": [0, 1], "ticktext": ["completed", "stopped"], "range": [-0.1, 1.1]}
            dimensions.append({"label": "ended as", "values": states, **ends})
        best = [float(one.number == scene.best.number) for one in shown]
        shades = [[0, "#5b8fc4"], [0.999, "#5b8fc4"], [1, GREEN]]
        line = {"color": best, "colorscale": shades, "cmin": 0, "cmax": 1}
        longest = max(len(text) for one in dimensions for text in one["ticktext"])
        layout = {
            "height": _HEIGHT,
            "margin": {"t": 70, "l": 110, "r": 60},
            "meta": {"least": max(_AXIS, _CHAR * longest) * len(dimensions)},
        }
        figure = _plotly("graph_objects").Figure(layout=layout)
        figure.add_parcoords(dimensions=dimensions, line=line, labelfont={"color": INK, "size": 13})
        return figure

    def _note(self) -> str:
        best, what = self._scene.best, self._scene.what
        told = f"Green: the best, {what} {best.number}: {escape(wording.params(best.params))}."
        return f"{told} Drag along an axis to select."

    def importances(self) -> Any:
        """Draw each parameter's share in explaining the value."""
        shares = self._scene.shares()
        names = sorted(shares, key=lambda name: shares[name])
        figure = _plotly("graph_objects").Figure(layout={"height": 140 + 46 * max(2, len(names))})
        texts = [f"{shares[name]:.2f}" for name in names]
        bars = {"marker_color": BLUE, "textposition": "outside", "cliponaxis": False}
        figure.add_bar(x=[shares[name] for name in names], y=names, orientation="h", text=texts, **bars)
        figure.update_xaxes(
            title="share of what the parameters<br>explain (PED-ANOVA)",
            range=[0, 1.08 * max([*shares.values(), 0.1])],
        )
        if not names:
            told = "too few trials have different values"
            figure.add_annotation(text=told, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)
        return figure


_NUMBERS = {state: number for number, state in enumerate(_MARKS)}


def _stacked(titles: Sequence[str]) -> dict[str, Any]:
    """Return what of a layout is different where the subplots stand one below the other."""
    figure = _plotly("subplots").make_subplots(
        rows=max(1, len(titles)), cols=1, subplot_titles=titles, vertical_spacing=0.4 / max(1, len(titles))
    )
    layout = figure.layout.to_plotly_json()
    axes = {name: {"domain": one["domain"]} for name, one in layout.items() if "axis" in name}
    shown = {name: {**one, "showticklabels": True} for name, one in axes.items() if name.startswith("y")}
    height = 160 + _ROW * len(titles)
    changes = {"annotations": layout["annotations"], "height": height, "legend": {"y": -60 / height}}
    return {**axes, **shown, **changes}


def _ticks(scale: AxisScale) -> dict[str, Any]:
    """Return a slice's axis: labels in full, a few choices as they are, or plain numbers."""
    if scale.labels:
        texts = [in_lines(escape(label), "<br>") for label in scale.labels]
        return {"tickvals": list(range(len(texts))), "ticktext": texts, "range": [-0.5, len(texts) - 0.5]}
    found: dict[str, Any] = {"type": "log" if scale.log else "linear"}
    if len(scale.ticks()) == len(scale.choices):
        found |= {"tickvals": list(scale.choices), "ticktext": [text for _, text in scale.ticks()]}
    elif scale.whole and scale.high - scale.low <= _FEW_WHOLE:
        found |= {"dtick": 1}
    return found | ({"dtick": 1} if scale.log and not scale.choices else {})


def _dimension(scale: AxisScale, values: Sequence[Any]) -> dict[str, Any]:
    """Return an axis of parallel coordinates from 0 to 1, with the labels of our scale."""
    places, texts = zip(*scale.ticks(), strict=True)
    labels = [escape(text) for text in texts]
    return {
        "values": [scale.at(one) for one in values],
        "tickvals": places,
        "ticktext": labels,
        "range": [0, 1],
    }


def _plotly(name: str) -> Any:
    return importlib.import_module(f"plotly.{name}")
