"""What a submission records, also if something stops responding in the middle of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerasweep import Client
from kerasweep.jobs.errors import OutOfReach, ProgramError, SpecError
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.sweepfile.method import AutoMethod
from kerasweep.jobs.trial import TrialState
from kerasweep.scheduler.deciding import submission
from kerasweep.scheduler.deciding.advance import advance
from kerasweep.scheduler.samplers import learns
from kerasweep.scheduler.stopping import rule_for

AWAY = OutOfReach("The store", "postgresql://me@host/db", "Check that it is up.")


def away(*_: object, **__: object) -> None:
    raise AWAY


def test_a_sweep_on_record_stands_though_the_store_is_away_then(
    folder: Path, shell: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The id is printed, the outage is reported as such, and nothing claims that nothing was submitted."""
    monkeypatch.setattr(submission, "advance_from_afar", away)
    sweep = shell("submit", "sweep.yaml").strip()
    assert shell.code == 0
    assert f"sweep {sweep} is submitted" in caplog.text
    assert "The store is out of reach" in caplog.text
    client = Client()
    assert [one.id for one in client.sweeps()] == [sweep]
    advance(client.records, sweep)  # as a scheduler does
    assert client.sweep(sweep).counts() == {TrialState.QUEUED: 8}


def test_a_status_that_cannot_be_read_is_no_failed_submission(
    folder: Path, shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Records, "counts", away)
    assert shell("submit", "sweep.yaml").strip()
    assert shell.code == 0


def test_a_redis_lost_after_that_is_logged(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, redis_server: Any
) -> None:
    monkeypatch.setattr(submission, "send_hints", away)
    client = Client(broker_url=redis_server.url)
    sweep = client.submit("sweep.yaml")
    assert sweep.counts() == {TrialState.QUEUED: 8}
    assert f"sweep {sweep.id} is submitted" in caplog.text


def test_an_unknown_outcome_is_reported_as_such(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to a commit can get lost."""
    really = Records.create_sweep

    def create_and_leave(records: Records, *given: Any) -> None:
        really(records, *given)
        raise AWAY

    monkeypatch.setattr(Records, "create_sweep", create_and_leave)
    with pytest.raises(OutOfReach, match="was recorded") as told:
        Client().submit("sweep.yaml")
    [sweep] = Client().sweeps()
    assert f"`kerasweep status {sweep.id}` shows it once the store responds" in str(told.value)


def test_the_line_of_a_key_is_reported_if_the_job_is_elsewhere(folder: Path, tmp_path: Path) -> None:
    """The sweep file is read from where it is, whatever folder the job's path is relative to."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "train.py").write_text("def load_data(): ...\ndef build_model(units=1): ...\n")
    with pytest.raises(ProgramError, match=r"learning_rate.* \(line 1 of sweep.yaml\)"):
        Client().submit("sweep.yaml", job_folder=tmp_path / "elsewhere")
    assert Client().sweeps() == []


def test_what_the_file_leaves_open_is_recorded(folder: Path) -> None:
    """So a later version with other defaults decides the sweep as this one did."""
    content = yaml.safe_load(Path("sweep.yaml").read_text())
    content |= {"method": "auto", "stopping": {"halving": {"cohort": 9}}, "training": {"epochs": 27}}
    spec = Client().submit(content).spec
    assert spec.stopping is not None
    assert spec.stopping.halving is not None
    assert spec.stopping.halving.min_epochs == 3
    assert isinstance(spec.method, AutoMethod)
    assert spec.method.then is not None


def test_the_cohort_that_the_file_leaves_open_suits_the_budget(folder: Path) -> None:
    sizes = []
    for method, trials in (("auto", 54), ("auto", 108), ("random", 54)):
        spec = Client().submit(halved(method, trials)).spec
        assert spec.stopping is not None
        assert spec.stopping.halving is not None
        sizes.append(spec.stopping.halving.cohort)
    assert sizes == [9, 27, 27]


@pytest.mark.parametrize(
    ("method", "trials", "halving", "noted"),
    [
        ("auto", 36, {"cohort": 27}, True),
        ("auto", 54, {"cohort": 27}, True),
        ("auto", 55, {"cohort": 27}, False),
        ("auto", 36, {}, False),
        ("random", 36, {"cohort": 27}, False),
        ("tpe", 9, {}, False),  # all of them are start-up trials in any case
        ({"name": "tpe", "startup_trials": 5}, 9, {"cohort": 6}, True),
        ({"name": "cmaes", "generation": 10}, 30, {}, False),
        ({"name": "cmaes", "generation": 20}, 27, {}, True),
    ],
)
def test_cohorts_after_which_no_trial_is_left_to_learn_are_noted(
    folder: Path, caplog: pytest.LogCaptureFixture, method: Any, trials: int, halving: Any, noted: bool
) -> None:
    Client().submit(halved(method, trials, **halving))
    told = [
        one.getMessage() for one in caplog.records if "no trial is drawn from results" in one.getMessage()
    ]
    assert bool(told) is noted
    if noted:
        assert f"and {trials} trials" in told[0]
        assert "write a smaller stopping.halving.cohort" in told[0]


@pytest.mark.parametrize("file", ["README.md", "jobs/gallery/mlp/halving.yaml"])
def test_what_is_shown_with_halving_learns(folder: Path, caplog: pytest.LogCaptureFixture, file: str) -> None:
    text = (Path(__file__).parents[2] / file).read_text(encoding="utf-8")
    if file == "README.md":
        (text,) = re.findall(r"```yaml\n(# sweep.yaml\n.*?)```", text, re.DOTALL)
    text = text.replace("job: train.py", "job: any.py")
    Path("any.py").write_text("def load_data(): ...\n\n\ndef build_model(**anything): ...\n")
    Path("sweep.yaml").write_text(text)
    spec = Client().submit("sweep.yaml").spec
    rule = rule_for(spec)
    assert rule is not None
    drawn = [n for n in range(spec.planned_trials()) if learns(spec, n, rule.learned(n) or 0)]
    assert drawn == list(range(18, 54))
    assert "drawn from results" not in caplog.text


def halved(method: Any, trials: int, **halving: Any) -> dict[str, Any]:
    """Return the content of the folder's sweep file with another method, budget and stopping rule."""
    content: dict[str, Any] = yaml.safe_load(Path("sweep.yaml").read_text())
    rate = {"distribution": "log_uniform", "min": 0.001, "max": 0.1}
    content |= {"method": method, "stopping": {"halving": halving}, "training": {"epochs": 27}}
    return content | {"parameters": {"learning_rate": rate}, "budget": {"max_trials": trials}}


@pytest.mark.parametrize("read", [str, lambda path: yaml.safe_load(Path(path).read_text())])
def test_a_misspelt_parameter_is_told_and_not_the_start_point_that_spells_it_right(
    folder: Path, read: Any
) -> None:
    content = halved("random", 4)
    content["parameters"] = {"learning_rat": content["parameters"]["learning_rate"]}
    content["start"] = [{"learning_rate": 0.01}]
    Path("sweep.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ProgramError, match=r"takes the parameter 'learning_rat'.*\s*.*'learning_rate'\?"):
        Client().submit(read("sweep.yaml"))
    content["parameters"] = {"learning_rate": content["parameters"]["learning_rat"]}
    content["start"] = [{"learning_rat": 0.01}]
    Path("sweep.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(SpecError, match=r"unknown parameter 'learning_rat' \(start.0"):
        Client().submit(read("sweep.yaml"))
