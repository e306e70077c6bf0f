"""The content of the pages, at URLs that can be shared."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from urllib.parse import urlencode

import pytest
from shown import Browser, Show

from kerasweep.jobs.errors import OutOfReach
from kerasweep.jobs.store.models import Progress
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import Failure, FailureClass
from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.show.scene import Scene
from kerasweep.scheduler.web import listening
from kerasweep.scheduler.web.gate import Access
from kerasweep.scheduler.web.site import environment


def test_every_page_is_there_and_nothing_that_a_value_holds_becomes_markup(show: Show) -> None:
    browser = show.browser
    sweeps = [
        f"/sweeps/{one}{rest}" for one in (show.sweep, show.wide) for rest in ("", "/trials/5", "/ask/rm")
    ]
    for path in ["/sweeps", "/workers", f"/compare?a={show.sweep}&b={show.wide}", *sweeps]:
        page = browser.get(path)
        assert page.status == 200, page.text
        assert "<script>alert" not in page.text
        assert "script-src 'self';" in page.headers["content-security-policy"]
        assert "style=" not in page.text, "the policy would refuse it"
    assert (
        "&lt;script&gt;alert(1)&lt;/script&gt; became NaN"
        in browser.get(f"/sweeps/{show.sweep}/trials/5").text
    )


def test_two_sweeps_are_compared_as_on_the_command_line(show: Show) -> None:
    page = show.browser.get(f"/compare?a={show.sweep}&b={show.wide}").text
    assert "What differs in the files" in page
    assert '<th scope="row">as good as the other&#39;s best after</th>' in page
    assert '<th scope="row">parameters.' in page
    same = show.browser.get(f"/compare?a={show.wide}&b={show.wide}").text
    assert "The sweep files and the code are the same." in same


def test_trials_are_filtered_and_sorted_on_the_server(show: Show) -> None:
    browser = show.browser
    page = browser.get(f"/sweeps/{show.sweep}?state=completed&sort=value&desc=1").text
    table = page[page.index('id="trials"') :]
    numbers = [table.index(f">#{trial}</a>") for trial in (1, 4)]
    assert numbers == sorted(numbers), "the worst first"
    assert ">#6</a></th>" not in table, "it runs"
    assert "No matching trials" in browser.get(f"/sweeps/{show.sweep}?q=nowhere").text
    within = browser.get(f"/sweeps/{show.sweep}/trials.csv?within=value:0.05:0.25")
    assert [row["trial"] for row in csv.DictReader(io.StringIO(within.text))] == ["2", "4"]


def test_trials_under_several_seeds_are_shown_as_variants_best_first(show: Show) -> None:
    sweep = show.stage.sweep(name="repeated", repeats=2)
    for trial, loss in enumerate([0.1, 0.5, 0.2, 0.3]):
        show.stage.complete(sweep, trial, (0.9, loss))
    page = show.browser.get(f"/sweeps/{sweep}").text
    table = page[page.index('id="variants"') : page.index('id="trials"')]
    rows = [" ".join(re.sub("<[^>]+>", " ", row).split()) for row in table.split("<tr>")[2:]]
    assert rows[0].startswith("1 completed")
    assert rows[0].endswith("0.25000 0.071 0.20000 0.30000 #2 #3")
    assert rows[1].endswith("0.30000 0.28 0.10000 0.50000 #0 #1")
    assert rows[2].startswith("2 queued")
    assert "0.25000 ± 0.071 over 2 seeds" in page
    few = show.browser.get(f"/sweeps/{sweep}?q=%230").text
    assert '<small class="quiet">1</small>' in few[few.index('id="variants"') :]
    assert 'id="variants"' not in show.browser.get(f"/sweeps/{show.sweep}").text
    falling = show.browser.get(f"/sweeps/{sweep}?sort=std&desc=1").text
    assert re.findall(r'<th scope="row">(\d+)</th>', falling)[:3] == ["0", "1", "2"], "those without one last"
    curves = json.loads(show.browser.get(f"/sweeps/{sweep}/curves.json?best=1").text)["series"]
    assert [(one["label"], one["points"]) for one in curves] == [("variant 1", [[1, 0.9], [2, 0.25]])]


def test_importances_compare_variants_as_plots_do(show: Show) -> None:
    records = show.stage.records
    sweep = show.stage.sweep(name="weighed", repeats=2)
    for trial, loss in enumerate([0.1, 0.9, 0.2, 0.3, 0.6, 0.1, 0.8, 0.7]):
        show.stage.complete(sweep, trial, (0.9, loss))
    page = show.browser.get(f"/sweeps/{sweep}/importances").text
    assert "from 4 variants; with so few" in page
    shown = re.findall(r'<th scope="row">([^<]+)</th><td><meter min="0" max="1" value="([^"]+)"', page)
    drawn = Scene(records.sweep(sweep), records.trials(sweep), str, {}).shares()
    assert drawn
    assert {name: float(share) for name, share in shown} == drawn
    few = show.browser.get(f"/sweeps/{sweep}/importances?q=%230").text
    assert "1 variant so far" in few, "those of the trials that are shown"


def test_equal_values_have_no_importances(show: Show) -> None:
    sweep = show.stage.sweep(name="alike")
    for trial in range(4):
        show.stage.complete(sweep, trial, (0.9, 0.5))
    page = show.browser.get(f"/sweeps/{sweep}/importances").text
    assert "four trials or more, and their values differ; 4 trials so far" in page


def test_every_variant_can_be_reached_page_by_page(show: Show) -> None:
    many = {"units": {"values": list(range(1, 121))}}
    sweep = show.stage.sweep(
        name="many", repeats=2, parameters=many, training={"epochs": 2, "batch_size": 16}
    )
    found = set[str]()
    for page, rows in ((1, 50), (2, 10)):
        text = show.browser.get(f"/sweeps/{sweep}?variants={page}&sort=params.units&desc=1").text
        shown = re.findall(r'<th scope="row">(\d+)</th>', text)
        assert len(shown) == rows
        found |= set(shown)
        assert ('#variants">next</a>' in text) == (page == 1)
    assert len(found) == 60
    assert "page 2 of 2" in show.browser.get(f"/sweeps/{sweep}?variants=99").text


@pytest.mark.parametrize(
    "query",
    ["state=asleep", "sort=nothing", "within=units", "within=nothing:1:2", "page=0", "page=x", "best=1e9"],
)
def test_invalid_queries_are_reported(show: Show, query: str) -> None:
    page = show.browser.get(f"/sweeps/{show.sweep}?{query}")
    assert page.status == 400
    assert "got" in page.text


def test_curves_are_those_of_the_best_that_were_asked_for(show: Show) -> None:
    found = json.loads(show.browser.get(f"/sweeps/{show.sweep}/curves.json?best=2").text)
    assert found["metric"] == "val_loss"
    assert [one["label"] for one in found["series"]] == ["#4", "#2"]
    assert found["series"][0]["points"] == [[1, 0.6], [2, 0.1]]
    panels = json.loads(show.browser.get(f"/sweeps/{show.sweep}/trials/6/curves.json").text)["panels"]
    assert [one["label"] for one in panels[0]["series"]] == ["loss", "val_loss"]


def test_a_spreadsheet_runs_nothing_that_a_value_holds(show: Show) -> None:
    table = list(csv.DictReader(io.StringIO(show.browser.get(f"/sweeps/{show.wide}/trials.csv").text)))
    assert {row["params.label"] for row in table} == {"<script>alert(2)</script>", "'=1+1"}


def test_a_model_is_downloaded_with_the_bytes_on_record(show: Show) -> None:
    answer = show.browser.get(f"/sweeps/{show.sweep}/trials/4/model")
    assert (answer.status, answer.text) == (200, "model of trial 4")
    assert "attachment" in answer.headers["content-disposition"]
    assert show.browser.get(f"/sweeps/{show.sweep}/trials/6/model").status == 404


def test_missing_pages_are_reported(show: Show) -> None:
    for path in (
        "/nowhere",
        "/sweeps/nothing",
        f"/sweeps/{show.sweep}/trials/99",
        f"/sweeps/{show.sweep}/ask/burn",
    ):
        assert show.browser.get(path).status == 404, path
    for path in ("/static/../site.py", "/static/%2e%2e/site.py", "/static/..%2fsite.py"):
        assert show.browser.get(path).status == 404, path
    assert show.browser.get("/static/htmx.min.js").status == 200


class Markup(HTMLParser):
    """Collects what must not be in a page: images, scripts without a source, handlers of events."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        handlers = [name for name, _ in attrs if name.startswith("on")]
        inline = tag == "script" and "src" not in dict(attrs)
        if tag in ("img", "iframe", "b") or inline or handlers or "style" in dict(attrs):
            self.found.append(self.get_starttag_text() or tag)


@pytest.mark.parametrize(
    "hostile", ['"><img src=x onerror=alert(1)>', "' onload='alert(1)", "<b>]]>--></title>"]
)
def test_values_logs_and_reasons_stay_text_wherever_they_stand(show: Show, hostile: str) -> None:
    stage = show.stage
    labels = {"values": [hostile, hostile + "2"]}
    sweep = stage.sweep(name="hostile", parameters={"label": labels, "units": {"values": [1, 2]}})
    for trial in range(3):
        stage.complete(sweep, trial, (0.9 - trial / 10, 0.5))
    key, _ = stage.claim(sweep, 3, (0.9,))
    stage.records.record([Progress(key, (), (), (hostile,))], 600.0)
    stage.records.fail(key, Failure(FailureClass.USER, hostile))
    query = f"?{urlencode({'q': hostile[:3], 'is': f'label:{hostile}'})}"
    base = f"/sweeps/{sweep}"
    told = urlencode({"done": hostile, "state": hostile, "q": hostile})
    of_sweep = [
        base,
        base + query,
        f"{base}/importances",
        f"{base}/trials/3",
        f"{base}/ask/add",
        f"{base}?{told}",
    ]
    for path in (
        *of_sweep,
        "/sweeps",
        f"/workers?{told}",
        f"/compare?a={sweep}&b={sweep}",
        f"/sweeps?{told}",
    ):
        page, markup = show.browser.get(path), Markup()
        markup.feed(page.text)
        assert page.status in (200, 400), path
        assert markup.found == [], path


def test_the_labels_of_slices_have_room(show: Show) -> None:
    sweep = show.stage.sweep(name="small")
    for trial in range(3):
        show.stage.complete(sweep, trial, (0.000212 + trial / 12345,))
    page = show.browser.get(f"/sweeps/{sweep}").text
    slices = page[page.index('<section id="slices"') : page.index('<section id="timeline"')]
    labels = re.findall(r'<text x="(\d+)" y="[\d.]+" text-anchor="end">([^<]*)', slices)
    assert "0.000212" in [label for _, label in labels]
    assert all(int(end) > 6.5 * len(label) for end, label in labels), "they end there, 6.5 a character"


def test_the_first_viewer_finds_the_trials_read(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    read, sweep = list[str](), show.stage.sweep(name="newest")
    show.stage.complete(sweep, 0, (0.9, 0.5))
    changed = Records.changed_trials
    monkeypatch.setattr(Records, "changed_trials", lambda *given: read.append(given[1]) or changed(*given))
    port = listening.free_port(0)
    with Client(home=str(show.stage.home)) as client, listening.beside(client, Access(port=port)):
        assert sweep in read
        read.clear()
        page = Browser(port).get(f"/sweeps/{sweep}")
    assert page.status == 200
    assert not read


def test_a_page_opens_although_the_records_cannot_be_read(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OutOfReach("the store", "sqlite:///there", "start it")

    monkeypatch.setattr(Client, "sweeps", refuse)
    port = listening.free_port(0)
    with Client(home=str(show.stage.home)) as client, listening.beside(client, Access(port=port)):
        assert Browser(port).get(f"/sweeps/{show.wide}").status == 200
        assert Browser(port).get("/sweeps").status == 503


def test_commands_between_backticks_are_code_and_nothing_else_is_markup() -> None:
    template = environment().from_string("{{ told|commands }}")
    assert template.render(told="<b> `a < b` ends") == "&lt;b&gt; <code>a &lt; b</code> ends"
