"""`certify`: the best variants under fresh seeds, as a sweep of its own."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from staged import Stage

from kerasweep import Client
from kerasweep.jobs.errors import InputError, KerasweepError
from kerasweep.jobs.kernel import ProcessKind
from kerasweep.jobs.trial import SweepState
from kerasweep.scheduler.client.sweep import Sweep
from kerasweep.scheduler.deciding.advance import advance

POINTS = {
    "method": "grid",
    "parameters": {
        "learning_rate": {"distribution": "log_uniform", "min": 0.0001, "max": 0.1, "points": 3},
        "units": {"values": [50, 100], "when": {"training.learning_rate_schedule": ["cosine"]}},
    },
    "training": {
        "epochs": 10,
        "learning_rate_schedule": {"values": ["cosine", {"step_decay": {"every": 2, "factor": 0.5}}]},
        "early_stopping": {"patience": {"distribution": "int_uniform", "min": 1, "max": 3, "points": 2}},
    },
    "stopping": {"halving": {"cohort": 4}},
    "budget": {"max_hours": 1.0, "max_trials": 8, "max_failed": 2},
}


@pytest.fixture
def sweep(stage: Stage) -> Sweep:
    """A sweep whose best trials are 2, 5 and 0."""
    made = stage.sweep()
    for number, loss in enumerate([0.3, 0.9, 0.1, 0.8, 0.7, 0.2]):
        stage.complete(made, number, [0.95, loss])
    stage.fail(made, 6)
    return Client().sweep("mlp")


def finish(stage: Stage, made: Sweep, values: list[float | None]) -> None:
    """End the trials of a certifying sweep with these values; None diverges."""
    for number, value in enumerate(values):
        if value is None:
            stage.fail(made.id, number)
        else:
            stage.complete(made.id, number, [value])
    advance(stage.records, made.id)


def test_the_best_are_trained_again_under_fresh_seeds_that_pair(sweep: Sweep) -> None:
    made = sweep.certify(top=2, seeds=3)
    trials = made.trial_records()
    assert (made.name, made.state, len(trials)) == ("mlp-certify", SweepState.RUNNING, 6)
    assert [one.params for one in trials] == [sweep.trial(2).params] * 3 + [sweep.trial(5).params] * 3
    seeds = [one.seed for one in trials]
    assert seeds[:3] == seeds[3:]
    assert len({*seeds, *(one.seed for one in sweep.trial_records())}) == 3 + 8
    assert (made.record.bundle, made.record.entry) == (sweep.record.bundle, sweep.record.entry)
    assert made.spec.seed == sweep.spec.seed  # and so the data
    assert made.replay().difference is None


def test_asking_again_finds_it(sweep: Sweep, stage: Stage) -> None:
    made = sweep.certify(top=2, seeds=3)
    assert sweep.certify(top=2, seeds=3).id == made.id
    finish(stage, made, [0.1] * 6)
    assert sweep.certify(top=2, seeds=3).id == made.id
    others = [sweep.certify(top=2, seeds=4), sweep.certify(top=3, seeds=3)]
    assert len({made.id, *(one.id for one in others)}) == 3
    others[0].cancel()
    assert sweep.certify(top=2, seeds=4).id not in {made.id, *(one.id for one in others)}
    stage.complete(sweep.id, 7, [0.01])  # the sweep was still running, and has another winner now
    assert sweep.certify(top=2, seeds=3).certificate().contenders[0].trial == 7


def test_what_a_grid_with_conditions_and_a_rule_had_found_is_certified_too(stage: Stage) -> None:
    found = Client().sweep(stage.sweep(**POINTS))
    best = found.trial(6)
    stage.complete(found.id, 6)
    stage.complete(found.id, 1, [0.9])
    made = found.certify()
    assert [len(made.trial_records()), made.record.max_trials] == [20, 20]
    assert made.trial(0).params == best.params
    assert made.spec.stopping is None
    assert (made.spec.budget.max_hours, made.spec.budget.max_failed) == (None, None)


def test_a_sweep_with_repeats_is_certified_under_other_seeds(stage: Stage) -> None:
    first = Client().sweep(stage.sweep())
    for number, loss in enumerate([0.4, 0.3]):
        stage.complete(first.id, number, [loss])
    made = first.certify(top=2, seeds=2)
    finish(stage, made, [0.4, 0.1, 0.2, 0.2])
    repeated = Client().sweep(made.id)
    assert [one.value for one in repeated.variants()] == [0.25, 0.2]
    winner, status = repeated.best(), repeated.status()
    assert (winner.trial, winner.value) == (2, 0.2)
    assert winner.variant is not None
    assert (winner.variant.trials, winner.variant.std) == ((2, 3), 0.0)
    assert status.variant == winner.variant
    assert "val_loss 0.20000 ± 0 over 2 seeds, the best of them trial 2" in repr(status)


def test_the_certificate_of_a_winner_that_stands(sweep: Sweep, stage: Stage) -> None:
    made = sweep.certify(top=2, seeds=5)
    assert (
        made.certificate().verdict
        == "so far, it is open whether trial 2 stands: no seed gave every variant a value"
    )
    finish(stage, made, [0.1, 0.2, 0.15, 0.15, 0.15, 0.3, 0.4, 0.35, 0.35, 0.35])
    shown = made.certificate()
    assert (shown.stands, shown.paired, shown.state) == (True, 5, SweepState.COMPLETED)
    assert [one.trial for one in shown.contenders] == [2, 5]
    assert shown.verdict == (
        "trial 2 stands: it is the best of 2 with probability at least 0.96 (0.15000 ± 0.035 over 5 seeds)"
    )
    assert [one.chance for one in shown.contenders] == [1 - 1 / 32, 1 / 32]
    assert shown.notes == ()
    assert "trial 2 stands" in repr(shown)
    assert "<td>0.15000 ± 0.035 over 5 seeds</td>" in shown._repr_html_()


def test_the_document(sweep: Sweep, stage: Stage, shell: Any) -> None:
    made = sweep.certify(top=2, seeds=3)
    finish(stage, made, [0.5, None, 0.6, 0.3, 0.4, float("nan")])
    document = json.loads(shell("certify", "mlp", "--top", "2", "--seeds", "3", "-o", "json"))
    assert shell.code == 0
    assert list(document) == [
        "sweep", "name", "by", "metric", "stands", "verdict", "notes", "seeds", "paired", "variants",
    ]  # fmt: skip
    assert document["by"] == {"sweep": made.id, "name": "mlp-certify", "state": "completed"}
    assert (document["sweep"], document["seeds"], document["paired"]) == (sweep.id, 3, 1)
    first = document["variants"][0]
    assert list(first) == [
        "trial", "params", "value", "mean", "std", "probability", "seeds", "values", "failures",
    ]  # fmt: skip
    assert (first["trial"], first["value"], first["values"]) == (2, 0.1, [0.5, None, 0.6])
    assert (first["mean"], first["probability"]) == (0.55, None)
    assert first["failures"][0] | {"seed": 0} == {
        "seed": 0, "class": "diverged", "message": "the loss became NaN in epoch 2",
    }  # fmt: skip
    assert document["stands"] is None
    assert document["notes"] == [
        "trial 2 has no value under 1 of 3 seeds: diverged: the loss became NaN in epoch 2",
        "trial 5 has no value under 1 of 3 seeds",
        "only the 1 seed under which every variant has a value are compared",
        "a verdict needs at least 5 seeds; `--seeds 10` or more says more",
    ]


def test_the_table_and_csv(sweep: Sweep, stage: Stage, shell: Any) -> None:
    finish(stage, sweep.certify(top=2, seeds=3), [0.5, 0.6, 0.55, 0.3, 0.4, 0.35])
    table = shell("certify", "mlp", "--top", "2", "--seeds", "3")
    assert "best with probability" in table
    told = "it is open whether trial 2 stands (3 seeds cannot tell, it takes 5): trial 5 is the best with"
    assert f"{told} probability at least 0.87 (" in table
    rows = list(csv.DictReader(io.StringIO(shell("certify", "mlp-certify", "-o", "csv"))))
    assert [row["trial"] for row in rows] == ["2", "5"]
    assert float(rows[1]["probability"]) == 0.875


def test_on_a_cluster_it_waits_and_ctrl_c_leaves_it_running(
    sweep: Sweep, stage: Stage, shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.records.seen("s", {"pid": 1}, ProcessKind.SCHEDULER)

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kerasweep.scheduler.show.live.time.sleep", interrupt)
    assert shell("certify", "mlp", "--seeds", "2", "-o", "json") == ""
    assert shell.code == 0
    assert "sweep mlp-certify trains the best of mlp again: 6 trials" in shell.err
    assert "waiting: no worker is alive" in shell.err
    again = "sweep mlp-certify continues; `kerasweep certify mlp --top 3 --seeds 2` shows it again"
    assert again in shell.err
    assert Client().sweep("mlp-certify").state is SweepState.RUNNING


def test_what_cannot_be_certified(sweep: Sweep, stage: Stage, shell: Any) -> None:
    made = sweep.certify(top=2, seeds=2)
    with pytest.raises(
        InputError, match="only a sweep that searches is certified; mlp-certify certifies mlp"
    ):
        made.certify()
    with pytest.raises(InputError, match="trains only the best variants of mlp again"):
        made.extend(12)
    with pytest.raises(InputError, match="trains only the best variants of mlp again"):
        made.add(sweep.trial(4).params)
    with pytest.raises(InputError, match="a certificate is that of a sweep made by `kerasweep certify`"):
        sweep.certificate()
    with pytest.raises(InputError, match="top must be at least 1, got 0"):
        sweep.certify(top=0)
    with pytest.raises(InputError, match="must be at most 100,000 trials, got 3 times 50000"):
        sweep.certify(seeds=50_000)
    empty = Client().sweep(stage.sweep(name="empty"))
    with pytest.raises(KerasweepError, match="has none yet"):
        empty.certify()
    shell("certify", "empty")
    assert (shell.code, "once one has ended with a value" in shell.err) == (1, True)
