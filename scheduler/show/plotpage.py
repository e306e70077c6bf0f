"""Figures of plotly's on one page that needs no network: it fits phones and wide screens, light and dark."""

from __future__ import annotations

import html
import importlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from kerasweep.jobs.printable import printable
from kerasweep.scheduler.show.scene import COLOURS, GROUND, INK, LINE, QUIET

#: What each colour becomes on a dark ground: those of the page's dark theme.
_DARK: Mapping[str, str] = {
    **dict(zip(COLOURS, ("#86bdf5", "#ff9d96", "#7fd596", "#f0c674", "#cfa6ee", "#6fd3de"), strict=True)),
    GROUND: "#12171d",
    INK: "#e8edf3",
    LINE: "#3a4654",
    QUIET: "#a9b5c2",
}
#: Below this width, in pixels, a figure takes its narrow layout.
_NARROW = 700
_STYLE = f"""
:root {{ color-scheme: light dark; }}
body {{ margin: 0 auto; max-width: 1400px; padding: 0 1rem 2rem; background: {GROUND}; color: {INK};
  font: 15px/1.45 system-ui, sans-serif; }}
h2 {{ margin: 1.4em 0 .3em; font-size: 1.15rem; overflow-wrap: anywhere; }}
p {{ margin: .3em 0; overflow-wrap: anywhere; }}
.scroll {{ overflow-x: auto; }}
@media (prefers-color-scheme: dark) {{ body {{ background: {_DARK[GROUND]}; color: {_DARK[INK]}; }} }}
"""
_SCRIPT = """
const darkness = matchMedia("(prefers-color-scheme: dark)"), narrowness = matchMedia("(max-width: NARROWpx)");
const dark = DARK, copied = given => JSON.parse(JSON.stringify(given));
const tinted = given => darkness.matches && typeof given === "string" && dark[given] ? dark[given]
  : Array.isArray(given) ? given.map(tinted)
  : given && typeof given === "object"
    ? Object.fromEntries(Object.entries(given).map(([name, one]) => [name, tinted(one)])) : given;
for (const figure of document.querySelectorAll(".plotly-graph-div")) {
  const data = copied(figure.data), layout = copied(figure.layout), narrow = (layout.meta || {}).narrow || {};
  const draw = () => {
    const asked = copied(layout);
    if (narrowness.matches) {
      for (const [name, one] of Object.entries(narrow))
        asked[name] = Array.isArray(one) || typeof one !== "object" ? one : { ...asked[name], ...one };
      asked.margin = { ...asked.margin, t: 100 }; // the legend takes several lines
    }
    if (asked.height) figure.parentElement.style.height = `${asked.height}px`;
    Plotly.react(figure, tinted(copied(data)), tinted({ ...asked, width: undefined, autosize: true }));
  };
  for (const one of [darkness, narrowness]) one.addEventListener("change", draw);
  draw();
}
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body>{body}<script>{script}</script></body></html>
"""


def escape(text: str) -> str:
    """Escape text for a page: plotly would treat tags in labels as markup."""
    return html.escape(printable(text))


def styled(figure: Any, title: str, note: str = "") -> Any:
    """Give a figure the look of our pictures: a title of ours, and numbers without exponents.

    Args:
        figure: the figure.
        title: what stands above it, escaped.
        note: what stands below it, escaped.
    """
    figure.update_layout(
        title={"text": title},
        template="none",
        font={"family": "system-ui, sans-serif", "color": INK},
        colorway=list(COLOURS),
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        paper_bgcolor=GROUND,
        plot_bgcolor=GROUND,
        hoverlabel={"bgcolor": GROUND, "bordercolor": QUIET, "font": {"color": INK}},
        modebar={"bgcolor": GROUND, "color": QUIET, "activecolor": INK},
        meta={**(figure.layout.meta or {}), "note": note},
    )
    look = {
        "exponentformat": "none",
        "minexponent": 9,
        "gridcolor": LINE,
        "linecolor": QUIET,
        "zeroline": False,
        "automargin": True,
    }
    figure.update_xaxes(**look)
    figure.update_yaxes(**look)
    return figure


def page_of(title: str, figures: Sequence[Any]) -> str:
    """Return a page with figures that were `styled`, one below the other.

    Args:
        title: the page's title, not escaped.
        figures: the figures; their title and note become text of the page, which is broken into lines where
            the screen is narrow.
    """
    body = "\n".join(_section(figure, first=not index) for index, figure in enumerate(figures))
    script = _SCRIPT.replace("NARROW", str(_NARROW)).replace("DARK", json.dumps(_DARK))
    return _PAGE.format(title=escape(title), style=_STYLE, body=body, script=script)


def _section(figure: Any, *, first: bool) -> str:
    shown = importlib.import_module("plotly.graph_objects").Figure(figure)
    shown.update_layout(title=None, margin={"t": 60, "r": 20, "b": 50} | _margin(figure))
    config = {"responsive": True, "displaylogo": False}
    drawn = shown.to_html(full_html=False, include_plotlyjs=first, config=config)
    least = figure.layout.meta.get("least", 0)
    note = figure.layout.meta["note"]
    return (
        f"<section><h2>{figure.layout.title.text}</h2>\n"
        f'<div class="scroll"><div style="min-width: {least}px">{drawn}</div></div>'
        f"{f'<p>{note}</p>' if note else ''}</section>"
    )


def _margin(figure: Any) -> dict[str, Any]:
    return {name: one for name, one in figure.layout.margin.to_plotly_json().items() if one is not None}
