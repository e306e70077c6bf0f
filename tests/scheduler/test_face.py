"""`import kerasweep`: its public names, its import time, and the reprs of what it returns."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from typing import Any

import pytest

import kerasweep
from kerasweep import Client
from kerasweep.jobs.trial import SweepState, TrialState
from kerasweep.scheduler.client.objects import Status, Trial, Winner
from kerasweep.scheduler.client.sweep import Sweep

LOADED = """
import json, sys, time
began = time.perf_counter()
import kerasweep
took = time.perf_counter() - began
kerasweep.InputError
kerasweep.Client(home="nowhere")
print(json.dumps([took, sorted(name.split(".")[0] for name in sys.modules)]))
"""


def public(kind: type) -> list[str]:
    return [name for name, _ in inspect.getmembers(kind) if not name.startswith("_")]


def test_public_names() -> None:
    """Removing a name breaks users' notebooks: it must be deprecated first."""
    assert kerasweep.__all__ == [
        "Client", "__version__",
        "KerasweepError", "InputError", "SpecError", "ProgramError", "NotFound", "DestinationError",
        "OutOfReach", "NoResult", "Halted", "StaleAttempt", "IllegalMove", "Damaged", "JobError",
    ]  # fmt: skip
    assert all(getattr(kerasweep, name) for name in kerasweep.__all__)
    assert set(kerasweep.__all__) <= set(dir(kerasweep))
    assert {"close", "submit", "sweep", "sweeps", "workers", "schedulers"} <= set(public(Client))
    assert set(public(Sweep)) >= {
        "id", "name", "state", "spec", "status", "trial", "trials", "trial_list", "epochs", "best", "fetch",
        "export", "load_model", "pause", "resume", "cancel", "retry", "extend", "add", "replay", "wait",
        "refresh", "counts", "variants", "certify", "certificate",
        "compare",
    }  # fmt: skip
    assert list(inspect.signature(Trial).parameters) == [
        "number", "state", "params", "value", "best_epoch", "epochs", "metrics", "attempts", "failure",
        "digest", "seed", "worker", "started_at", "finished_at",
    ]  # fmt: skip
    assert list(inspect.signature(Status).parameters) == [
        "sweep", "name", "state", "trials", "best", "max_trials", "metric", "message", "waiting", "troubles",
        "created_at", "finished_at", "elapsed_s", "failed", "awaited", "eta_s", "variant",
    ]  # fmt: skip
    assert list(inspect.signature(Winner).parameters) == [
        "sweep", "name", "trial", "params", "value", "epoch", "metrics", "model", "seed", "digest", "variant",
    ]  # fmt: skip


def test_the_client_is_the_same_by_either_name() -> None:
    import kerasweep.scheduler

    assert kerasweep.scheduler.Client is kerasweep.Client
    with pytest.raises(AttributeError, match="no attribute 'Clientt'"):
        kerasweep.Clientt  # noqa: B018


def test_importing_loads_nothing_heavy() -> None:
    """The fastest of three, since other processes may be busy."""
    found = [
        json.loads(subprocess.run([sys.executable, "-c", LOADED], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    heavy = {"tensorflow", "keras", "optuna", "sqlalchemy", "celery", "redis", "pandas", "numpy", "fsspec"}
    assert heavy & set(found[0][1]) == set()
    assert min(took for took, _ in found) < 0.1


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(kerasweep.InputError, match="unknown setting 'store'; did you mean 'store_url'"):
        Client(store="sqlite:///x")


def test_flags_win_over_settings_too() -> None:
    settings = Client(home="here", reach_s=1.5).settings
    changed = Client(settings, home="there").settings
    assert (changed.home, changed.reach_s) == ("there", 1.5)
    assert Client(settings).settings == settings


@pytest.fixture
def sweep(stage: Any) -> Sweep:
    """A sweep with two trials that count and one that failed with a message containing markup."""
    made = stage.sweep()
    stage.complete(made, 0, [0.5, 0.4])
    stage.complete(made, 1, [0.5, 0.2, 0.3])
    stage.fail(made, 2, "the loss became <script>NaN</script>")
    return Client().sweep("mlp")


def test_a_trial(sweep: Sweep) -> None:
    trial = sweep.trial(1)
    assert (trial.number, trial.state, trial.value, trial.best_epoch) == (1, TrialState.COMPLETED, 0.2, 2)
    assert trial.started_at is not None
    assert trial.finished_at is not None
    assert trial.started_at <= trial.finished_at
    assert repr(trial) == (
        "Trial(1, completed, value=0.20000 at epoch 2, learning_rate=0.01, units=50, patience=5)"
    )
    assert repr(sweep.trial(2)).startswith("Trial(2, failed, diverged: the loss became <script>NaN</script>,")
    assert repr(sweep.trial(3)).startswith("Trial(3, queued, learning_rate=0.01, ")


def test_trials_are_listed_by_number_and_state(sweep: Sweep) -> None:
    assert [trial.number for trial in sweep.trial_list()] == list(range(8))
    assert [trial.number for trial in sweep.trial_list([TrialState.COMPLETED])] == [0, 1]
    html = sweep.trial_list()._repr_html_()
    assert html.count("<tr>") == 9
    assert "<th>learning_rate</th>" in html
    assert "diverged: the loss became &lt;script&gt;NaN&lt;/script&gt;" in html
    assert "<script>" not in html


def test_the_winner(sweep: Sweep) -> None:
    winner = sweep.best()
    assert (winner.trial, winner.value, winner.epoch) == (1, 0.2, 2)
    assert winner.model is not None
    assert winner.model.bytes == len(b"model of trial 1")
    assert repr(winner) == (
        "Winner('mlp', trial 1, value=0.20000 at epoch 2, learning_rate=0.01, units=50, patience=5)"
    )
    assert winner.model.uri in winner._repr_html_()


def test_the_status(sweep: Sweep, stage: Any) -> None:
    status = sweep.status()
    assert (status.state, status.trials[TrialState.COMPLETED], status.ended) == (SweepState.RUNNING, 2, 3)
    assert status.best == sweep.trial(1)
    assert repr(status) == "Status('mlp', running, 3 of 8 trials, best val_loss 0.20000 of trial 1)"
    assert "<td>val_loss 0.20000 of trial 1</td>" in status._repr_html_()
    assert "nothing trains it" in sweep._repr_html_()
    assert repr(sweep) == f"Sweep('mlp', id='{sweep.id}', running)"


def test_the_sweeps(sweep: Sweep) -> None:
    html = Client().sweeps()._repr_html_()
    assert f"<td>mlp</td><td>{sweep.id}</td><td>running</td><td>3/8</td>" in html


def test_what_a_status_is_made_of_is_asked_for_once(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """A live table refreshes twice a second; it must not repeat searches whose results are not shown."""
    asked: list[str] = []
    monkeypatch.setattr(Sweep, "handle", property(lambda self: asked.append(self.name) or self.name))
    sweep.status(kept=True)
    assert asked == []
    assert sweep.status().waiting is not None
    assert asked == ["mlp"]
