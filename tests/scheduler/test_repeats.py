"""Sweeps with `repeats`: every variant has several trials, and is compared by their mean."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from held import LEASE_S, begin, loss, reach, train
from recorded import a_sweep, result

from kerasweep.jobs.errors import InputError, SpecError
from kerasweep.jobs.store.artifacts import ArtifactRef
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.sweepfile.spec import parse_spec
from kerasweep.jobs.trial import Failure, FailureClass, SweepState, TrialKey, TrialState
from kerasweep.jobs.variants import ranked_variants, seed_of, variants_of
from kerasweep.scheduler.deciding import control, replay
from kerasweep.scheduler.deciding.advance import advance
from kerasweep.scheduler.deciding.by_hand import add
from kerasweep.scheduler.deciding.prune import unneeded

SWEEP = "abcd1234"
THREE: dict[str, Any] = {"repeats": 3, "stopping": None, "budget": {"max_trials": 12}}


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    found = Records(f"sqlite:///{tmp_path}/store.db")
    yield found
    found.close()


def difference(records: Records) -> str | None:
    return replay.replay(records, records.sweep(SWEEP)).difference


def end(records: Records, number: int, value: float | None, failure: FailureClass | None = None) -> None:
    """End a queued trial with a value or a failure."""
    claim = records.claim(TrialKey(SWEEP, number), "worker", LEASE_S)
    assert claim is not None
    if failure is not None:
        records.fail(claim.key, Failure(failure, "it did"))
    else:
        name = f"sweeps/{SWEEP}/trials/{number}/1/model-3-00.keras"
        model = ArtifactRef("model", name, "a" * 64, 1, 3)
        records.finish(claim.key, result(float("nan") if value is None else value, model=model))


def test_a_variant_is_trained_under_the_same_seeds_as_every_other(records: Records) -> None:
    begin(records, **THREE)
    trials = records.trials(SWEEP)
    assert len(trials) == 12
    seeds = [one.seed for one in trials[:3]]
    assert len(set(seeds)) == 3
    assert [one.seed for one in trials] == seeds * 4
    assert all(trials[n].params == trials[n - n % 3].params for n in range(12))
    assert len({one.params["learning_rate"] for one in trials}) == 4


def test_seeds_may_be_given(records: Records) -> None:
    begin(records, **THREE | {"repeats": [5, 6], "budget": {"max_trials": 5}})
    assert [one.seed for one in records.trials(SWEEP)] == [5, 6, 5, 6]
    assert seed_of(records.sweep(SWEEP).spec, 3) == 6


def test_the_best_variant_has_the_best_mean_and_its_best_trial_wins(records: Records) -> None:
    begin(records, **THREE | {"budget": {"max_trials": 9}})
    for number, value in enumerate([0.1, 0.9, 0.8, 0.5, 0.3, 0.4]):
        end(records, number, value)
    end(records, 6, 0.01)  # of a variant that is not complete
    trials = records.trials(SWEEP)
    first, second = ranked_variants(records.sweep(SWEEP).spec, trials)
    assert (first.number, first.value, first.best) == (1, pytest.approx(0.4), 4)
    assert first.std == pytest.approx(0.1)
    assert (second.number, second.best) == (0, 0)
    assert [one.number for one in records.best(records.sweep(SWEEP), 5)] == [4, 0]


@pytest.mark.parametrize(
    ("ends", "state", "value"),
    [
        ([0.2, 0.4, FailureClass.DIVERGED], TrialState.FAILED, None),
        ([0.2, 0.4, FailureClass.USER], TrialState.COMPLETED, 0.3),
        ([0.2, None, 0.4], TrialState.COMPLETED, None),
        ([FailureClass.USER, FailureClass.DIVERGED, FailureClass.USER], TrialState.FAILED, None),
        ([0.2, 0.4], TrialState.QUEUED, None),
    ],
)
def test_what_failed_or_is_nan_among_the_seeds(
    records: Records, ends: list[Any], state: TrialState, value: float | None
) -> None:
    begin(records, **THREE | {"budget": {"max_trials": 3}})
    for number, how in enumerate(ends):
        failure = how if isinstance(how, FailureClass) else None
        end(records, number, None if failure else how, failure)
    [made] = variants_of(records.sweep(SWEEP).spec, records.trials(SWEEP))
    assert (made.state, made.value) == (state, None if value is None else pytest.approx(value))
    assert (made.failure is not None) is (state is TrialState.FAILED)


def test_models_are_kept_until_their_variant_has_a_rank(records: Records) -> None:
    begin(records, **THREE | {"budget": {"max_trials": 6}, "checkpoints": {"keep_top": 1}})
    for number, value in enumerate([0.1, 0.9, 0.8, 0.5, 0.3]):
        end(records, number, value)
        assert records.claim(TrialKey(SWEEP, number), "w", LEASE_S) is None
    kept = [key.split("/")[3] for key in unneeded(records, records.sweep(SWEEP))]
    assert sorted(kept) == ["1", "2"]  # behind trial 0; variant 1 has none yet
    end(records, 5, 0.4)
    gone = [key.split("/")[3] for key in unneeded(records, records.sweep(SWEEP))]
    assert sorted(gone) == ["0", "1", "2", "3", "5"]


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("random", {}),
        ("qmc", {"start": [{"learning_rate": 0.05}]}),
        ({"name": "tpe", "startup_trials": 2, "parallel": 2}, {"start": [{"learning_rate": 0.05}]}),
        ({"name": "cmaes", "generation": 6}, {"budget": {"max_trials": 28}}),
        ({"name": "tpe", "startup_trials": 2}, {"stopping": {"patience": 2}, "budget": {"max_trials": 60}}),
    ],
)
def test_any_order_of_ends_decides_the_same_and_replays(
    records: Records, tmp_path: Path, method: Any, more: dict[str, Any]
) -> None:
    points = []
    for file, slots, pick in (("a", 1, min), ("b", 5, max)):
        there = Records(f"sqlite:///{tmp_path}/{file}.db")
        begin(there, **{**THREE, "method": method, "repeats": 2, **more})
        train(there, SWEEP, slots=slots, pick=pick)
        found = replay.replay(there, there.sweep(SWEEP))
        assert there.sweep(SWEEP).state is SweepState.COMPLETED
        assert found.difference is None
        assert found.decisions >= len(there.trials(SWEEP)) > 4
        points.append([(one.params, one.seed) for one in there.trials(SWEEP)])
        there.close()
    assert points[0] == points[1]


def test_a_sampler_learns_from_the_means(records: Records, tmp_path: Path) -> None:
    """A change of one repeat's value changes what follows as a change of the mean does."""
    method = {"name": "tpe", "startup_trials": 3, "parallel": 1}
    drawn = []
    for file, bonus in (("a", 0.0), ("b", 5.0)):
        there = Records(f"sqlite:///{tmp_path}/{file}.db")
        begin(there, **THREE | {"method": method, "repeats": 2, "budget": {"max_trials": 8}})
        for number in range(6):
            end(there, number, loss(number, 1) + (bonus if number == 0 else 0.0))
            advance(there, SWEEP)
        drawn.append(there.trials(SWEEP)[6].params)
        there.close()
    assert drawn[0] != drawn[1]


def test_a_point_by_hand_and_an_extension_come_in_whole_variants(records: Records) -> None:
    begin(records, **THREE)
    assert add(records, SWEEP, {"learning_rate": 0.01}) == "trials 12 to 14 of sweep digits are queued"
    with pytest.raises(InputError, match=r"must be a multiple of 3, .*got 17; write 18"):
        control.extend(records, SWEEP, 17)
    control.extend(records, SWEEP, 21)
    advance(records, SWEEP)
    train(records, SWEEP, slots=4, pick=max)
    assert [one.by_hand for one in records.trials(SWEEP)] == [False] * 12 + [True] * 3 + [False] * 6
    assert difference(records) is None


def test_a_retried_repeat_changes_its_variant_alone(records: Records) -> None:
    begin(records, **THREE | {"method": {"name": "tpe", "startup_trials": 1, "parallel": 1}})
    end(records, 0, None, FailureClass.USER)
    end(records, 1, 0.4)
    end(records, 2, 0.6)
    advance(records, SWEEP)
    end(records, 3, 0.3)
    control.retry(records, SWEEP, 0)
    train(records, SWEEP)
    assert len(records.trials(SWEEP)) == 12
    assert difference(records) is None


def test_hours_and_a_cancel_end_it_with_what_it_has(records: Records) -> None:
    begin(records, **THREE)
    for number in range(4):
        claim = records.claim(TrialKey(SWEEP, number), "worker", LEASE_S)
        assert claim is not None
        reach(records, claim)
    control.cancel(records, SWEEP)
    found = variants_of(records.sweep(SWEEP).spec, records.trials(SWEEP))
    assert found[0].value is not None
    assert found[1].value == loss(3, 9)  # of the one trial that ended
    assert found[2].value is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"stopping": {"halving": {"cohort": 9}}}, "got 3 with `stopping: halving`"),
        ({"stopping": {"median": {}}}, "got 3 with `stopping: median`"),
        ({"budget": {"max_trials": 2}}, "max_trials must be at least repeats"),
        ({"start": [{"learning_rate": x / 100} for x in range(1, 6)]}, r"\(12 / 3 repeats\), got 5"),
        ({"repeats": 0}, "repeats must be"),
        ({"repeats": "three"}, "repeats must be"),
        ({"repeats": []}, "repeats"),
        ({"repeats": [1, 2, 1]}, "seeds must differ, got 1 2 times"),
        ({"repeats": [1, 1 << 31]}, "must be"),
    ],
)
def test_what_cannot_be_repeated_is_refused(changes: dict[str, Any], told: str) -> None:
    written = a_sweep().spec.model_dump(mode="json") | THREE | changes
    with pytest.raises(SpecError, match=told) as caught:
        parse_spec(written)
    assert len(str(caught.value).splitlines()) > 1


def test_trials_and_variants_of_the_budget() -> None:
    written = a_sweep().spec.model_dump(mode="json") | THREE
    spec = parse_spec(written | {"budget": {"max_trials": 14}})
    assert (spec.times, spec.planned_trials(), spec.planned_variants()) == (3, 12, 4)
    grid = {"method": "grid", "parameters": {"learning_rate": {"values": [0.1, 0.2]}}, "budget": {}}
    assert parse_spec(written | grid).planned_trials() == 6
