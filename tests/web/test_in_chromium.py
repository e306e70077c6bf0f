"""The page in a headless Chromium: followed, brushed, sorted, steered, and inspected."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import chromium
import pytest
from chromium import FOREIGN, Chromium
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from staged import JOB, SWEEP, Stage

from kerasweep.jobs.trial import SweepState, TrialState
from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.web import listening
from kerasweep.scheduler.web.gate import Access

pytestmark = pytest.mark.skipif(bool(chromium.missing()), reason=f"skipped: {chromium.missing()}")

Until = Callable[..., None]
#: Whether every chart has the width of its container.
FITS = """
return [...document.querySelectorAll(".chart .uplot")].every(
  one => Math.abs(one.offsetWidth - Math.max(280, one.closest(".chart").clientWidth)) < 3)
"""
#: Pretends that the tab is hidden, or no longer.
HIDE = """
Object.defineProperty(document, "hidden", {value: arguments[0], configurable: true});
document.body.addEventListener("htmx:configRequest", () => { window.told = true; });
document.dispatchEvent(new Event("visibilitychange"));
"""
#: Notes where labels are drawn: the lowest place of each.
LABELS = """
window.labels = {};
const draw = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
  if (text.startsWith("#")) window.labels[text] = y;
  return draw.call(this, text, x, y);
};
"""
HOSTILE = "<img src=x onerror='window.pwned=1'>"


class Laboratory:
    """A submitted sweep, a stand-in that trains it, and a browser that views it."""

    def __init__(self, stage: Stage, client: Client, browser: Chromium, job: Path) -> None:
        self.stage, self.client, self.browser = stage, client, browser
        self.sweep = client.submit(job / "sweep.yaml").id
        self.path = f"/sweeps/{self.sweep}"

    def train(self, trial: int) -> None:
        """Train a trial to its end; later ones are better."""
        self.stage.complete(self.sweep, trial, (0.9, 0.8 - trial / 20, 0.85))

    def finish(self) -> None:
        """Train what has not been trained, and end the sweep."""
        records = self.stage.records
        for one in records.trials(self.sweep, [TrialState.QUEUED]):
            self.train(one.number)
        if not records.sweep(self.sweep).state.final:
            self.stage.end(self.sweep, SweepState.COMPLETED)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    """A recorded sweep of eight trials, none of them tried yet."""
    folder = tmp_path_factory.mktemp("page")
    stage = Stage(folder / ".kerasweep")
    (folder / "train.py").write_text(JOB + "\n\ndef callbacks(label=''):\n    return []\n", encoding="utf-8")
    parameters = SWEEP["parameters"] | {"label": {"values": [HOSTILE, "plain"]}}
    parameters["learning_rate"] = {"values": [0.001, 0.01]}
    training = {"epochs": 3, "batch_size": 16}
    spec = SWEEP | {"parameters": parameters, "training": training}
    (folder / "sweep.yaml").write_text(json.dumps(spec), encoding="utf-8")
    port = listening.free_port(0)
    with (
        Client(home=str(stage.home)) as client,
        listening.beside(client, Access(port=port)),
        Chromium(port) as browser,
    ):
        yield Laboratory(stage, client, browser, folder)
    stage.records.close()


@pytest.fixture
def ended(lab: Laboratory) -> Laboratory:
    """The same with every trial trained, also where the test that follows the sweep was not picked."""
    lab.finish()
    return lab


def test_a_sweep_is_followed_to_its_end_without_a_reload(lab: Laboratory, until: Until) -> None:
    browser = lab.browser
    browser.open("/sweeps")
    assert "mlp" in browser.text("#sweeps")
    browser.click(f"a[href='{lab.path}']")
    browser.run("window.mark = 1")
    assert "0 of 8" in browser.text("#head")
    assert "None of the trials shown has been tried" in browser.text("#timeline")
    until(lambda: "No epoch is on record yet" in browser.text("#curves"), 20, "the empty chart")
    lab.train(0)
    until(lambda: "1 of 8" in browser.text("#head"), 20, "the first end")
    until(lambda: browser.run("return document.querySelectorAll('#curves canvas').length") == 1, 20)
    browser.run(HIDE, True)
    lab.train(1)
    until(lambda: browser.run("return window.told"), 20, "the event")
    assert "1 of 8" in browser.text("#head"), "a hidden tab does not ask"
    browser.run(HIDE, False)
    until(lambda: "2 of 8" in browser.text("#head"), 20, "what was missed")
    lab.finish()
    until(lambda: "completed" in browser.text("#head h1"), 20, "the sweep's end")
    until(lambda: "8 of 8" in browser.text("#head"), 20)
    assert browser.run("return window.mark") == 1
    assert browser.complaints() == []


def test_the_brush_holds_for_every_chart_and_the_table(ended: Laboratory, until: Until) -> None:
    browser = ended.browser
    browser.open(ended.path)
    until(lambda: browser.text("section[aria-label=Importances] p") != "Computing…", 60, "the importances")
    handle = browser.driver.find_element("css selector", "g.axis:last-of-type rect.brush")
    browser.run("arguments[0].scrollIntoView({block: 'center'})", handle)
    height = handle.size["height"]
    actions = ActionChains(browser.driver).move_to_element_with_offset(handle, 0, int(height * 0.48))
    actions.click_and_hold().move_by_offset(0, -int(height * 0.46)).release().perform()
    until(lambda: "within=value" in browser.driver.current_url, 20, "the brush in the address")
    shown = {int(one) for one in re.findall(r"#(\d+)", browser.text("#trials tbody"))}
    assert shown == {4, 5, 6, 7}, "the better half, dragged from the bottom"
    assert browser.run("return document.querySelectorAll('#parallel .line:not(.out)').length") == 4
    assert browser.run("return document.querySelectorAll('#timeline .bar').length") == 4
    assert browser.run("return document.querySelectorAll('#slices figure:first-of-type .point').length") == 4
    until(lambda: browser.text("#curves .u-legend").count("#") == 4, 20, "the curves")
    until(lambda: "from 4 trials" in browser.text("section[aria-label=Importances]"), 60, "the importances")
    browser.click("#parallel a[href*='is=label%3Aplain']")
    until(lambda: "is=label" in browser.driver.current_url, 20)
    assert "2" in browser.text("#trials h2 small")


def test_the_table_is_sorted_and_a_trial_opened(ended: Laboratory, until: Until) -> None:
    browser = ended.browser
    browser.open(ended.path)
    for first in ("#7", "#0"):
        browser.click("#by-value")
        until(lambda one=first: browser.text("#trials tbody tr").startswith(one), 20, first)
    assert (
        browser.run("return document.querySelector('[aria-sort]').getAttribute('aria-sort')") == "descending"
    )
    browser.click("#trials tbody tr th a")
    until(lambda: browser.driver.current_url.endswith("/trials/0"), 20)
    assert "hello from trial 0" in browser.text("#log")
    assert HOSTILE in browser.text("main")
    assert browser.run("return window.pwned") is None
    until(lambda: "no description" in browser.text("section[aria-label=Layers]"), 20, "what is no model")
    assert browser.complaints() == []


def test_the_curves_of_a_trial_fit_their_values(lab: Laboratory, until: Until) -> None:
    browser, other = lab.browser, lab.stage.sweep(name="steep")
    lab.stage.complete(other, 0, (2.0, 0.01, 0.000212))
    browser.open(f"/sweeps/{other}/trials/0")
    legend = "#curves .u-legend"
    until(lambda: browser.text(legend) != "", 20, "the curves")
    assert browser.run("return document.querySelector('#curves > div').dataset.log") == "1"
    assert "epoch" not in browser.text(legend), "it names the curves"
    over = browser.driver.find_element("css selector", "#curves .u-over")
    browser.run("arguments[0].scrollIntoView({block: 'center'})", over)
    ActionChains(browser.driver).move_to_element(over).perform()
    until(lambda: "epoch" in browser.text(legend), 20, "values where the pointer is")
    assert browser.complaints() == []


def test_a_curves_label_is_at_its_end_whatever_ends_beside_it(lab: Laboratory, until: Until) -> None:
    browser, other = lab.browser, lab.stage.sweep(name="meeting")
    for trial in range(3):
        lab.stage.complete(other, trial, (0.9, 0.8, 0.7, 0.6, 0.5))
    lab.stage.complete(other, 3, (0.9, 0.5))
    noting = browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": LABELS})
    try:
        browser.open(f"/sweeps/{other}")
        until(lambda: len(browser.run("return window.labels")) == 4, 20, "the labels")
        *long, short = (y for _, y in sorted(browser.run("return window.labels").items()))
    finally:
        browser.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", noting)
    assert short == max(long), "at the end of its own curve"
    assert sorted(long) == pytest.approx([short - 26, short - 13, short], abs=0.5), "one above the other"


def test_a_sweep_is_paused_and_resumed(lab: Laboratory, until: Until) -> None:
    browser, other = lab.browser, lab.stage.sweep(name="steered")
    browser.open(f"/sweeps/{other}")
    for order, state in (("pause", SweepState.PAUSED), ("resume", SweepState.RUNNING)):
        browser.click(f"a.button[href$='/ask/{order}']")
        browser.click("main form button")
        until(lambda one=state: one in browser.text("#head h1"), 20, state)
        assert lab.stage.records.sweep(other).state is state
    assert browser.complaints() == []


def test_keys_reach_what_a_pointer_does(ended: Laboratory, until: Until) -> None:
    browser = ended.browser
    browser.open(ended.path)
    keys = ActionChains(browser.driver)
    keys.send_keys(Keys.TAB).perform()
    assert browser.run("return document.activeElement.className") == "skip"
    browser.run("document.querySelector('[name=to]').focus()")
    keys.send_keys("0.61", Keys.ENTER).perform()
    until(lambda: "to=0.61" in browser.driver.current_url, 20)
    assert {int(one) for one in re.findall(r"#(\d+)", browser.text("#trials tbody"))} == {4, 5, 6, 7}
    browser.run("document.querySelector(\"#parallel a[href*='is=label']\").focus()")
    assert browser.run("return document.activeElement.tagName") == "a"


def test_nothing_passes_without_a_token_or_by_a_foreign_name(ended: Laboratory) -> None:
    browser, path = ended.browser, f"{ended.path}/ask/cancel"
    browser.open(ended.path)
    post = "fetch(arguments[0], {method: 'POST', body: 'token=0'}).then(a => arguments[1](a.status))"
    assert browser.driver.execute_async_script(post, path) == 403
    browser.open(ended.path, FOREIGN)
    assert "does not have that name" in browser.text()
    assert ended.stage.records.counts(ended.sweep) == {TrialState.COMPLETED: 8}


def test_optunas_dashboard_opens_below_its_address(lab: Laboratory, until: Until) -> None:
    browser = lab.browser
    browser.open("/optuna/")
    browser.complaints()  # of what was refused before
    until(lambda: f"mlp ({lab.sweep})" in browser.text(), 60, "the study")
    assert "/optuna/dashboard" in browser.driver.current_url
    assert browser.complaints() == []


@pytest.mark.parametrize("name", ["sweeps", "sweep", "trial", "workers", "compare", "missing"])
def test_pages_read_well_in_light_and_dark_on_phones_and_wide_screens(
    ended: Laboratory, until: Until, name: str
) -> None:
    browser, compare = ended.browser, f"/compare?a={ended.sweep}&b={ended.sweep}"
    pages = {"sweep": ended.path, "trial": f"{ended.path}/trials/3", "compare": compare}
    browser.open(pages.get(name, f"/{name}"))
    for width, dark in ((1400, False), (390, True), (390, False), (1400, True)):
        browser.look(width, dark=dark)
        until(lambda: "Loading…" not in browser.text() and browser.run(FITS), 20, "the curves")
        browser.keep(f"{name}-{width}-{'dark' if dark else 'light'}")
        assert browser.run("return document.documentElement.scrollWidth") <= width + 1, "it is too wide"
        assert browser.poor_contrasts() == []
