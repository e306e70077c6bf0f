"""Optuna's dashboard over our records: the released version reads everything, and can change nothing."""

from __future__ import annotations

import json
from typing import Any

import optuna
import optuna_dashboard
import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from shown import Show

from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.web.optuna_mount import OptunaMount
from kerasweep.scheduler.web.optuna_storage import Details, SweepStorage, study_id_of
from kerasweep.scheduler.web.roster import Rosters
from kerasweep.scheduler.web.shelf import Shelf

WRITES = {name for name in BaseStorage.__abstractmethods__ if not name.startswith("get_")}


def storage_of(client: Client) -> SweepStorage:
    shelf = Shelf(client)
    return SweepStorage(shelf, Rosters(shelf))


def read(show: Show, path: str) -> Any:
    answer = show.browser.get(f"/optuna/api{path}")
    assert answer.status == 200, answer.text
    return json.loads(answer.text)


def test_optuna_loads_a_sweep_as_a_study(show: Show) -> None:
    with Client(home=str(show.stage.home)) as client:
        storage = storage_of(client)
        study = optuna.load_study(study_name=f"mlp ({show.sweep})", storage=storage)
        assert study.direction is optuna.study.StudyDirection.MINIMIZE
        assert study.metric_names == ["val_loss"]
        trials = study.get_trials()
        assert [one.number for one in trials] == list(range(len(trials)))
        assert study.best_trial.number == 4
        assert trials[2].intermediate_values == {1: 0.7, 2: 0.6, 3: 0.2}
        assert trials[2].user_attrs["val_loss"] == 0.2
        assert storage.get_trial(trials[2]._trial_id) == trials[2]
        states = optuna.trial.TrialState
        assert [trials[n].state for n in (4, 5, 6, 7)] == [
            states.COMPLETE,
            states.FAIL,
            states.RUNNING,
            states.WAITING,
        ]
        with pytest.raises(KeyError):
            storage.get_trial(1)


def test_nothing_can_be_written_through_it(show: Show) -> None:
    assert len(WRITES) == 10
    with Client(home=str(show.stage.home)) as client:
        storage = storage_of(client)
        for name in WRITES:
            with pytest.raises(StorageInternalError, match="cannot be changed"):
                getattr(storage, name)(1, "x", 2)
    study = study_id_of(show.sweep)
    for method, path in (
        ("DELETE", f"/api/studies/{study}"),
        ("POST", "/api/studies"),
        ("PUT", f"/api/studies/{study}/note"),
        ("POST", f"/api/studies/{study}/rename"),
        ("PATCH", "/dashboard"),
    ):
        assert show.browser.send(method, f"/optuna{path}", "{}", {}).status == 405, path
    assert show.browser.get(f"/sweeps/{show.sweep}").status == 200


def test_the_released_dashboard_shows_it(show: Show) -> None:
    studies = {one["study_name"]: one["study_id"] for one in read(show, "/studies")["study_summaries"]}
    wide = studies[f"wide ({show.wide})"]
    study = read(show, f"/studies/{wide}?after=0")
    assert [one["state"] for one in study["trials"][:6]] == ["Complete"] * 6
    assert study["best_trials"][0]["number"] == 5
    names = {one["name"] for one in read(show, f"/studies/{wide}/param_importances")["param_importances"][0]}
    assert names == {"units", "label"}
    assert "data" in json.loads(json.dumps(read(show, f"/studies/{wide}/plot/slice")))
    assert show.browser.get(f"/optuna/csv/{wide}").status == 404, "its cells may be formulas"
    assert show.browser.get("/optuna/api/studies/1?after=0").status == 404


def test_a_study_is_told_as_the_dashboard_tells_it_and_only_changed_trials_are_converted_again(
    show: Show,
) -> None:
    sweep, converted = show.stage.sweep(name="changing"), list[int]()
    query = f"/api/studies/{study_id_of(sweep)}", "after=0"

    def ask(*asked: Any) -> bytes:
        body = bytes(OptunaMount._ask(*asked).body)
        converted.append(len(json.loads(body)["trials"]))
        return body

    with Client(home=str(show.stage.home)) as client:
        storage = storage_of(client)
        details = Details(storage, ask)
        for losses in ((0.9, 0.4), (), (0.7,)):
            if losses:
                show.stage.complete(sweep, len(losses), losses)
            storage.shelf.marks(fresh=True)
            plain = json.loads(OptunaMount._ask(optuna_dashboard.wsgi(storage), *query).body)
            assert json.loads(details.of(sweep)) == plain
            assert json.loads(details.of(sweep, 2))["trials"] == plain["trials"][2:]
    assert converted == [8, 1, 0]


def test_its_front_end_is_told_where_it_lies(show: Show) -> None:
    browser = show.browser
    assert browser.get("/optuna").headers["location"] == "/optuna/dashboard"
    page = browser.get("/optuna/dashboard/studies/1")
    assert 'src="/optuna/static/bundle.js"' in page.text
    policy = page.headers["content-security-policy"]
    assert "script-src 'self' 'unsafe-eval';" in policy
    assert "form-action 'none'" in policy
    script = browser.get("/optuna/static/bundle.js").text
    assert script.count('"/optuna/dashboard"') == 1
    assert "}/optuna/api/studies" in script
    for left in ('"/dashboard', "`/csv/", "}/api/studies", "`/artifacts/"):
        assert left not in script, "a new release asks for something else"
    for path in ("/optuna/static/../_app.py", "/optuna/static/%2e%2e/_app.py", "/optuna/..%2f..%2fsite.py"):
        assert browser.get(path).status in (403, 404), path
