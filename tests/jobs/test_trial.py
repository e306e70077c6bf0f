"""The table of transitions, and the keys of trials and attempts."""

from __future__ import annotations

import pytest

from kerasweep.jobs.trial import (
    COUNTED,
    FINAL,
    HOPELESS,
    MOVES,
    UNCOUNTED,
    AttemptKey,
    FailureClass,
    SweepState,
    TrialKey,
    TrialState,
    may_move,
    sources_of,
)


def test_the_table_holds_every_state_once() -> None:
    assert set(MOVES) == set(TrialState)
    assert all(state not in targets for state, targets in MOVES.items())


def test_final_states_are_left_only_by_a_retry() -> None:
    assert {state for state in TrialState if state.final} == FINAL
    for state in FINAL:
        assert MOVES[state] <= {TrialState.QUEUED}
    assert all(not MOVES[state] for state in COUNTED), "what counts, counts for good"


def test_only_queued_trials_start_and_only_running_ones_end_well() -> None:
    assert sources_of(TrialState.RUNNING) == (TrialState.QUEUED,)
    for state in (TrialState.COMPLETED, TrialState.FAILED):
        assert sources_of(state) == (TrialState.RUNNING,)


def test_both_readings_of_the_table_agree() -> None:
    for source in TrialState:
        for target in TrialState:
            assert may_move(source, target) is (source in sources_of(target))


def test_every_state_can_end() -> None:
    reached = set(FINAL)
    while True:
        more = {state for state in TrialState if MOVES[state] & reached} | reached
        if more == reached:
            break
        reached = more
    assert reached == set(TrialState)


def test_failure_classes_are_distinct() -> None:
    assert not UNCOUNTED & HOPELESS
    assert {FailureClass.CRASH, FailureClass.HANG, FailureClass.MEMORY}.isdisjoint(UNCOUNTED | HOPELESS)


def test_a_sweep_that_runs_or_pauses_has_not_ended() -> None:
    assert [state for state in SweepState if not state.final] == [SweepState.RUNNING, SweepState.PAUSED]


def test_keys_are_read_as_they_are_written() -> None:
    key = AttemptKey("abcd1234", 7, 3)
    assert str(key) == "abcd1234/7/3"
    assert AttemptKey.parse(str(key)) == key
    assert key.of_trial == TrialKey("abcd1234", 7)
    assert str(key.of_trial) == "abcd1234/7"


@pytest.mark.parametrize("text", ["", "abcd", "abcd/1", "abcd/x/1", "abcd/1/"])
def test_other_texts_are_not_keys(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        AttemptKey.parse(text)
