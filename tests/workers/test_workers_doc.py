"""docs/workers.md names every flag and every setting, with its default."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.settings import PREFIX, Settings
from kerasweep.scheduler.local.supervise import Patience
from kerasweep.workers import start as main
from kerasweep.workers.devices import plan_devices, read_gpus

DOC = (Path(__file__).parents[2] / "docs" / "workers.md").read_text(encoding="utf-8")


def rows(head: str) -> dict[str, list[str]]:
    """Return the rows of the table whose header begins with `head`, by their first cell."""
    tables = re.findall(rf"^\| {head} .*\n\| ---.*\n((?:\|.*\n)+)", DOC, re.MULTILINE)
    lines = [line for table in tables for line in table.splitlines()]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines]
    return {first: rest for first, *rest in cells}


def test_every_setting_has_its_row_and_default() -> None:
    told = {name.strip("`"): cells[0].strip("`") for name, cells in rows("variable").items()}
    known = {
        PREFIX + field.name.upper(): f"{field.default:g}"
        if isinstance(field.default, float)
        else field.default
        for field in fields(Settings)
    }
    assert told == {name: default or "none" for name, default in known.items()}


def test_every_flag_of_the_worker_has_its_row_and_default() -> None:
    told = {name.strip("`"): cells[0].strip("`") for name, cells in rows("flag").items()}
    known = {
        action.option_strings[-1]: action.default
        for action in main._flags()._actions
        if action.option_strings[-1] != "--help"
    }
    assert set(told) == set(known)
    assert {name: told[name] for name in known if known[name] is not None} == {
        name: str(default) for name, default in known.items() if default is not None
    }


def test_gpus_are_named_by_index_or_by_their_own_name() -> None:
    assert read_gpus("0, 1,GPU-4ad1-9c,MIG-7f/1/0") == ("0", "1", "GPU-4ad1-9c", "MIG-7f/1/0")
    assert read_gpus("") == ()
    with pytest.raises(InputError, match="got 'x'"):
        read_gpus("0,x")


@pytest.mark.parametrize(
    ("flags", "gpus", "per_trial", "logical"),
    [
        ("", (), 1, 0),
        ("", ("0", "1", "2", "3"), 1, 0),
        ("--gpus 0,1,2,3 --gpus-per-trial 2", ("0", "1", "2", "3"), 2, 0),
        ("--logical-cpus 2", (), 1, 2),
    ],
)
def test_a_worker_takes_the_queues_that_the_table_says(
    flags: str, gpus: tuple[str, ...], per_trial: int, logical: int
) -> None:
    where = "" if flags else ", on one with four" if gpus else ", on a machine without GPUs"
    owned, queues = rows("worker")[f"`{f'kerasweep worker {flags}'.strip()}`{where}"]
    sets = plan_devices(gpus, per_trial, None, logical, None)
    assert sorted({queue for devices in sets for queue in devices.queues}) == sorted(
        re.findall(r"`([^`]+)`", queues)
    )
    if gpus:
        assert [",".join(devices.gpus) for devices in sets] == owned.split(r" \| ")


def test_the_figures_of_the_supervisor_and_the_slots_are_true() -> None:
    patience = Patience()
    assert (patience.fast_s, patience.fast_deaths, patience.first_pause_s, patience.longest_pause_s) == (
        10.0, 8, 0.5, 30.0,
    )  # fmt: skip
    assert main._AUTO_SLOTS == 8
    assert int(re.findall(r"TimeoutStopSec=(\d+)", DOC)[0]) > Settings().grace_s + 5
