"""The colours of the page against WCAG 2.2 AA, computed from its style sheet and script: drawings too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[2] / "scheduler" / "web" / "static"
CSS, SCRIPT = ((STATIC / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
#: The least contrast of text, and of what a drawing must show.
TEXT, SHAPE = 4.5, 3.0
Colour = tuple[float, ...]


def colours(dark: bool) -> dict[str, Colour]:
    """Return the colours of the light or the dark page, by name."""
    block = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)[dark]
    return {name: rgb(text) for name, text in re.findall(r"--([\w-]+): (#\w+)", block)}


def rgb(text: str) -> Colour:
    digits = text[1:] if len(text) == 7 else "".join(2 * one for one in text[1:])
    return tuple(int(digits[n : n + 2], 16) for n in (0, 2, 4))


def blend(colour: Colour, ground: Colour, opacity: float) -> Colour:
    return tuple(opacity * one + (1 - opacity) * under for one, under in zip(colour, ground, strict=True))


def contrast(one: Colour, other: Colour) -> float:
    def light(colour: Colour) -> float:
        shares = (c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour)
        return sum(weight * share for weight, share in zip((0.2126, 0.7152, 0.0722), shares, strict=True))

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def opacity_of(selector: str) -> float:
    found = re.search(re.escape(selector) + r" \{[^}]*stroke-opacity: ([\d.]+)", CSS)
    assert found
    return float(found[1])


def test_black_on_white_is_21_to_1() -> None:
    assert contrast(rgb("#000"), rgb("#fff")) == pytest.approx(21)
    assert contrast(rgb("#777777"), rgb("#fff")) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_can_be_read(dark: bool) -> None:
    found = colours(dark)
    texts = ("ink", "quiet", "link", "good", "bad", "warn")
    pairs = [(text, ground) for text in texts for ground in ("ground", "card")]
    pairs += [("ink", "bar"), ("ink", "warn-ground"), ("ink", "bad-ground"), ("link", "warn-ground")]
    poor = {pair: contrast(found[pair[0]], found[pair[1]]) for pair in pairs}
    assert {pair: ratio for pair, ratio in poor.items() if ratio < TEXT} == {}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_drawing_can_be_seen(dark: bool) -> None:
    found = colours(dark)
    ground = found["ground"]
    lines = re.search(rf"const {'dark' if dark else 'light'} = \[(.*?)\]", SCRIPT)
    assert lines
    shapes = {text: rgb(text) for text in re.findall(r"#\w{6}", lines[1])}
    assert len(shapes) == 8
    shapes |= {name: found[name] for name in ("mark", "good", "bad", "ink", "quiet")}
    shapes["a trial's line"] = blend(found["mark"], ground, opacity_of(".parallel .line"))
    assert {name: ratio for name, one in shapes.items() if (ratio := contrast(one, ground)) < SHAPE} == {}
