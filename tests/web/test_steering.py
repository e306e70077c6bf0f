"""What the page's forms do to the records: each order as from the command line, with its words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from shown import Browser, Reply, Show

from kerasweep.jobs.store.faults.quarantines import Quarantine, set_aside
from kerasweep.jobs.store.models import NewTrial
from kerasweep.jobs.trial import SweepState, TrialKey, TrialState
from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.web import listening
from kerasweep.scheduler.web.gate import Access

RANGES = {
    "learning_rate": {"distribution": "log_uniform", "min": 0.001, "max": 0.1},
    "units": {"values": [50, 100, 200]},
}


@pytest.fixture
def sweep(show: Show) -> str:
    """A running sweep by random search, of two queued trials."""
    training = {"epochs": 3, "batch_size": 16}
    made = show.stage.sweep(
        name="steered", method="random", budget={"max_trials": 2}, training=training, parameters=RANGES
    )
    with show.stage.records.deciding(made) as decision:
        decision.set_max_trials(2)
        points = [{"learning_rate": rate, "units": 50} for rate in (0.01, 0.03)]
        decision.add_trials([NewTrial(n, point, n, "drawn") for n, point in enumerate(points)])
    return made


@pytest.fixture
def aside(show: Show) -> Iterator[str]:
    """A worker that is set aside."""
    name = "worker-9@sick <b>"
    with show.stage.records._db.writing() as conn:
        set_aside(conn, Quarantine(name, show.sweep, 1.7e9, 1.7e9, 60.0, "3 trials failed on it alone"))
    yield name
    show.stage.records.release_worker(name)


def order(browser: Browser, sweep: str, what: str, **form: str) -> Reply:
    """Confirm an order, as a person would."""
    path = f"/sweeps/{sweep}/ask/{what}"
    return browser.post(path, {"token": browser.token(path), **form})


def told(reply: Reply) -> str:
    """Return what an order reports to have done."""
    assert reply.status == 303, reply.text
    return parse_qs(urlsplit(reply.headers["location"]).query)["done"][0]


def test_a_point_is_added_once(show: Show, sweep: str) -> None:
    browser, records = show.browser, show.stage.records
    before = records.trials(sweep)
    point = {"param.learning_rate": "0.02", "param.units": "200"}
    done = order(browser, sweep, "add", **point)
    number = len(before)
    assert told(done) == f"trial {number} of sweep steered is queued"
    assert f"trial {number} of sweep steered is queued" in browser.get(done.headers["location"]).text
    added = records.trial(TrialKey(sweep, number))
    assert (added.state, added.params, added.by_hand) == (
        TrialState.QUEUED,
        {"learning_rate": 0.02, "units": 200},
        True,
    )
    again = order(browser, sweep, "add", **point)
    assert again.status == 400
    assert f"a point is tried only once, and trial {number} of sweep steered has these values" in again.text
    assert len(records.trials(sweep)) == number + 1


@pytest.mark.parametrize(
    ("point", "says"),
    [
        ({"param.learning_rate": "0.5", "param.units": "50"}, "0.5"),
        ({"param.learning_rate": "0.02", "param.units": "51"}, "51"),
        ({"param.learning_rate": "0.02"}, "units"),
        ({"param.learning_rate": "[", "param.units": "50"}, "learning_rate"),
        ({"param.nothing": "1", "param.learning_rate": "0.02", "param.units": "50"}, "nothing"),
    ],
)
def test_what_is_no_point_of_the_space_is_refused_and_named(
    show: Show, sweep: str, point: dict[str, str], says: str
) -> None:
    before = len(show.stage.records.trials(sweep))
    answer = order(show.browser, sweep, "add", **point)
    assert answer.status == 400
    assert says in answer.text[answer.text.index("<h1>") :]
    assert len(show.stage.records.trials(sweep)) == before


def test_the_form_of_a_point_holds_the_best_trials_values(show: Show) -> None:
    page = show.browser.get(f"/sweeps/{show.sweep}/ask/add").text
    assert "those of the best trial, trial 4" in page
    assert re.search(r'name="param.units" value="\d+"', page)


def test_the_form_holds_words_too_and_none_becomes_markup(show: Show) -> None:
    hostile = 'x" onfocus="alert(1)'
    words = {"values": ["adam", hostile, "null", "a b"]}
    made = show.stage.sweep(
        name="words", parameters={"word": words}, training={"epochs": 1, "batch_size": 16}
    )
    for trial, value in enumerate(("adam", "x&#34; onfocus=&#34;alert(1)", "&#34;null&#34;", "a b")):
        show.stage.complete(made, trial, (0.9 - trial / 10,))
        assert f'name="param.word" value="{value}"' in show.browser.get(f"/sweeps/{made}/ask/add").text


def test_a_sweep_is_extended(show: Show, sweep: str) -> None:
    assert "10" in told(order(show.browser, sweep, "extend", number="10"))
    assert show.stage.records.sweep(sweep).max_trials == 10
    fewer = order(show.browser, sweep, "extend", number="3")
    assert fewer.status == 400
    assert "3" in fewer.text
    assert show.stage.records.sweep(sweep).max_trials == 10


def test_what_failed_and_was_cancelled_is_retried(show: Show, sweep: str) -> None:
    show.stage.fail(sweep, 0)
    assert told(order(show.browser, sweep, "retry"))
    assert show.stage.records.trial(TrialKey(sweep, 0)).state is TrialState.QUEUED
    nothing = order(show.browser, sweep, "retry")
    assert nothing.status == 400


def test_a_cancelled_sweep_is_removed(show: Show, sweep: str) -> None:
    assert order(show.browser, sweep, "rm").status == 400, "it runs"
    assert told(order(show.browser, sweep, "cancel"))
    assert show.stage.records.sweep(sweep).state is SweepState.CANCELLED
    path = f"/sweeps/{sweep}/ask/rm"
    assert show.browser.post(path, {"token": "0" * 64}).status == 403
    assert show.stage.records.sweep(sweep).state is SweepState.CANCELLED
    assert told(order(show.browser, sweep, "rm")).startswith("removed steered")
    assert show.browser.get(f"/sweeps/{sweep}").status == 404


def test_a_worker_that_is_set_aside_is_released(show: Show, aside: str) -> None:
    browser, path = show.browser, "/workers/release?worker=worker-9%40sick+%3Cb%3E"
    page = browser.get(path)
    assert "3 trials failed on it alone" in page.text
    assert "<b>" not in page.text
    token = browser.token(path)
    assert browser.post("/workers/release", {"worker": aside}).status == 403
    assert [one.worker for one in show.stage.records.quarantines()] == [aside]
    done = browser.post("/workers/release", {"worker": aside, "token": token})
    assert told(done) == f"{aside} takes trials again"
    assert show.stage.records.quarantines() == []
    assert browser.post("/workers/release", {"worker": aside, "token": token}).status == 404
    assert browser.get(path).status == 404


def test_a_read_only_page_releases_nothing(show: Show, aside: str) -> None:
    port = listening.free_port(0)
    access = Access(port=port, read_only=True)
    with Client(home=str(show.stage.home)) as client, listening.beside(client, access):
        browser = Browser(port)
        assert "/workers/release" not in browser.get("/workers").text
        assert browser.post("/workers/release", {"worker": aside, "token": "x"}).status == 403
    assert [one.worker for one in show.stage.records.quarantines()] == [aside]
