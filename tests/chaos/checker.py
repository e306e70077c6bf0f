"""Checks what a sweep left behind for contradictions: journal, records, files, processes.

It is independent of what it checks: plain SQL, plain files, and its own copy of the rules. An empty list of
findings means that every trial was recorded exactly once, each write came from the attempt that held the
trial at that time, and every artifact matches the records.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg.rows import dict_row

Row = dict[str, Any]

#: Two transactions may read their times in one order and commit in the other; in seconds.
SLACK_S = 0.5
COUNTED = ("completed", "stopped")
MOVES = {
    None: {"queued"},
    "queued": {"running", "paused", "cancelled"},
    "running": {"queued", "paused", "waiting", "completed", "stopped", "failed", "cancelled"},
    "waiting": {"queued", "paused", "stopped", "cancelled"},
    "paused": {"queued", "cancelled"},
    "completed": set(),
    "stopped": set(),
    "failed": {"queued"},
    "cancelled": {"queued"},
}
_TABLES = ("sweeps", "trials", "attempts", "epochs", "artifacts", "journal", "logs")
_RESULT = ("number", "seed", "state", "value", "best_epoch", "epochs", "digest")
_TEMPORARY = re.compile(r"\..+~")
#: Log messages that admit to repeated work.
_STARTED_AGAIN = "starts again from epoch 1"


@dataclass(frozen=True)
class Story:
    """Everything recorded about one sweep, as plain rows.

    Args:
        sweep: its id.
        rows: by table, ordered by key.
        artifacts: the folder of the artifacts.
        trials: the expected number of trials.
        lease_s: the lease of the attempts.
        grace_s: how long an artifact may exist before a record names it, and after none does.
    """

    sweep: str
    rows: dict[str, list[Row]]
    artifacts: Path
    trials: int
    lease_s: float
    grace_s: float

    @property
    def spec(self) -> Row:
        """The sweep file."""
        spec: Row = _plain(self.rows["sweeps"][0]["spec"])
        return spec

    def by_trial(self, table: str) -> dict[int, list[Row]]:
        """Return a table's rows by trial."""
        found: dict[int, list[Row]] = defaultdict(list)
        for row in self.rows[table]:
            if row["trial"] is not None:
                found[row["trial"]].append(row)
        return found


def check(
    store_url: str, artifacts: Path, sweep: str, *, trials: int, lease_s: float, grace_s: float = 3600.0
) -> list[str]:
    """Return what is wrong with a sweep that has ended; nothing if all is well."""
    story = read(store_url, artifacts, sweep, trials=trials, lease_s=lease_s, grace_s=grace_s)
    return [f"{rule.__name__}: {finding}" for rule in RULES for finding in rule(story)]


def read(
    store_url: str, artifacts: Path, sweep: str, *, trials: int, lease_s: float, grace_s: float
) -> Story:
    """Read everything recorded about a sweep."""
    rows = _read_tables(store_url)
    own = {
        table: [row for row in found if row["id" if table == "sweeps" else "sweep"] == sweep]
        for table, found in rows.items()
    }
    return Story(sweep, own, artifacts, trials, lease_s, grace_s)


def table(store_url: str, sweep: str) -> bytes:
    """Return the final table of a sweep as bytes that are the same for two equal sweeps, whatever their ids.

    One line of JSON for each trial: its parameters, seed, state, value, best epoch, digest, and the metrics
    of each epoch.
    """
    rows = _read_tables(store_url)
    epochs: dict[int, list[Any]] = defaultdict(list)
    for row in rows["epochs"]:
        if row["sweep"] == sweep:
            epochs[row["trial"]].append([row["epoch"], _plain(row["metrics"])])
    lines = [
        {
            **{name: row[name] for name in _RESULT},
            "params": _plain(row["params"]),
            "metrics": _plain(row["metrics"]),
            "history": sorted(epochs[row["number"]]),
        }
        for row in rows["trials"]
        if row["sweep"] == sweep
    ]
    return b"".join(json.dumps(line, sort_keys=True).encode() + b"\n" for line in lines)


def differences(expected: bytes, found: bytes) -> list[str]:
    """Return the differences between two tables, a line for each trial."""
    if expected == found:
        return []
    ours, theirs = ([json.loads(line) for line in text.splitlines()] for text in (expected, found))
    if len(ours) != len(theirs):
        return [f"the table has {len(theirs)} trials, not {len(ours)}"]
    return [
        f"trial {one['number']} differs in {', '.join(name for name in one if one[name] != other.get(name))}"
        for one, other in zip(ours, theirs, strict=True)
        if one != other
    ]


def leftovers(marker: str) -> list[str]:
    """Return the processes that are still running with `marker` in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if marker.encode() in (entry / "environ").read_bytes():
                state = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
                if state != "Z":
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found.append(f"process {entry.name} still runs: {command[:120]}")
        except OSError:  # it has ended, or is another user's
            continue
    return found


def every_trial_once(story: Story) -> Iterator[str]:
    """Every trial exists, is completed, and was completed once."""
    numbers = [row["number"] for row in story.rows["trials"]]
    if numbers != list(range(story.trials)):
        yield f"the trials must be 0 to {story.trials - 1}, got {numbers}"
    if story.rows["sweeps"][0]["state"] != "completed":
        yield f"the sweep is {story.rows['sweeps'][0]['state']}"
    journal, attempts = story.by_trial("journal"), story.by_trial("attempts")
    for trial in story.rows["trials"]:
        number = trial["number"]
        if trial["state"] not in COUNTED or not trial["digest"] or trial["value"] is None:
            why = f": {trial['failure_message']}" if trial["failure_message"] else ""
            yield f"trial {number} is {trial['state']} with value {trial['value']}{why}"
        ends = [row["attempt"] for row in journal[number] if row["state"] in COUNTED]
        if len(ends) != 1:
            yield f"trial {number} was completed {len(ends)} times, by attempts {ends}"
        elif ends != [trial["attempt"]]:
            yield f"trial {number} was completed by attempt {ends[0]}, its newest is {trial['attempt']}"
        good = [row["number"] for row in attempts[number] if row["outcome"] in COUNTED]
        if not good and trial["state"] == "stopped":  # where it waited, by a decision
            good = [row["number"] for row in attempts[number][-1:] if row["outcome"].startswith("held: ")]
        if good != ends:
            yield f"trial {number}: the journal has ends by attempts {ends}, the attempts say {good}"


def moves_allowed(story: Story) -> Iterator[str]:
    """Every trial follows the allowed transitions, and its attempts count up."""
    for number, lines in story.by_trial("journal").items():
        state, attempt = None, 0
        for row in lines:
            claimed = row["event"] == "claimed"
            if claimed and row["attempt"] != attempt + 1:
                yield f"trial {number}: attempt {row['attempt']} was claimed after attempt {attempt}"
            attempt = row["attempt"] if claimed else attempt
            if row["attempt"] not in (None, attempt):
                yield f"trial {number}: {row['event']} by attempt {row['attempt']}, the newest was {attempt}"
            if row["state"] is None:
                continue
            if row["state"] not in MOVES[state]:
                yield f"trial {number} went from {state} to {row['state']} in line {row['id']} of the journal"
            state = row["state"]


def leases_apart(story: Story) -> Iterator[str]:
    """One attempt of a trial ends before the next begins; only dead processes lose a lease early."""
    writes = _writes(story)
    for number, attempts in story.by_trial("attempts").items():
        if [row["number"] for row in attempts] != list(range(1, len(attempts) + 1)):
            yield f"trial {number} has attempts {[row['number'] for row in attempts]}"
        for row in attempts:
            if row["ended_at"] is None:
                yield f"trial {number}: attempt {row['number']} has no end"
        for before, after in pairwise(attempts):
            if before["ended_at"] is not None and after["started_at"] < before["ended_at"] - SLACK_S:
                yield f"trial {number}: attempts {before['number']} and {after['number']} overlap"
        for row in attempts:
            if row["outcome"] == "failed: lost" and row["message"] != f"{row['worker']} has died":
                renewed = max([row["started_at"], *(at for _, at in writes[number, row["number"]])])
                held_s = row["ended_at"] - renewed
                if held_s < story.lease_s - SLACK_S:
                    yield f"trial {number}: attempt {row['number']} lost its lease after {held_s:.2f} s"


def newest_attempt_writes(story: Story) -> Iterator[str]:
    """Whatever an attempt wrote, it wrote between its claim and its end."""
    attempts = {(row["trial"], row["number"]): row for row in story.rows["attempts"]}
    for key, written in _writes(story).items():
        attempt = attempts.get(key)
        for what, at in written:
            if attempt is None:
                yield f"trial {key[0]}: {what} by attempt {key[1]}, which nobody claimed"
            elif at < attempt["started_at"] - SLACK_S:
                yield f"trial {key[0]}: {what} by attempt {key[1]} before it was claimed"
            elif attempt["ended_at"] is not None and at > attempt["ended_at"] + SLACK_S:
                late_s = at - attempt["ended_at"]
                yield f"trial {key[0]}: {what} by attempt {key[1]}, {late_s:.1f} s after its end"


def epochs_whole(story: Story) -> Iterator[str]:
    """The epochs are 1, 2, 3… to the last, by attempts that count up, and the best of them is the result."""
    metric = story.spec["metric"]
    epochs = story.by_trial("epochs")
    for trial in story.rows["trials"]:
        rows = epochs[trial["number"]]
        name = f"trial {trial['number']}"
        numbers = [row["epoch"] for row in rows]
        if numbers != list(range(1, trial["epochs"] + 1)) or not numbers:
            yield f"{name} must have epochs 1 to {trial['epochs']}, got {numbers}"
            continue
        writers = [row["attempt"] for row in rows]
        if writers != sorted(writers):
            yield f"{name}: its epochs were written by attempts {writers}"
        values = [float(_plain(row["metrics"])[metric["name"]]) for row in rows]
        best = (min if metric["goal"] == "minimize" else max)(values)
        if math.isnan(best) or (best, values.index(best) + 1) != (trial["value"], trial["best_epoch"]):
            told = f"{trial['best_epoch']} with {trial['value']}"
            yield f"{name}: the best epoch is {values.index(best) + 1} with {best}, on record is {told}"


def nothing_started_again(story: Story) -> Iterator[str]:
    """No trial lost all its checkpoints."""
    for row in story.rows["logs"]:
        if _STARTED_AGAIN in row["text"]:
            yield f"trial {row['trial']}, attempt {row['attempt']}: {row['text'][:160]}"


def artifacts_right(story: Story) -> Iterator[str]:
    """Every recorded artifact exists with its digest, and the best trials have their models."""
    refs = [(row["key"], row["sha256"]) for row in story.rows["artifacts"]]
    refs += [(row["bundle_key"], row["bundle_sha256"]) for row in story.rows["sweeps"]]
    for key, sha256 in refs:
        path = story.artifacts / key
        if not path.is_file():
            yield f"{key} is on record and gone"
        elif hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            yield f"{key} does not have the digest on record"
    models = {row["trial"]: row["epoch"] for row in story.rows["artifacts"] if row["kind"] == "model"}
    keep = story.spec["checkpoints"]["keep_top"]
    for trial in _best(story)[:keep]:
        if models.get(trial["number"]) != trial["best_epoch"]:
            yield f"trial {trial['number']} is among the best and has no model of its best epoch"


def nothing_unreferenced(story: Story) -> Iterator[str]:
    """No unrecorded file is among the artifacts after the grace period."""
    known = {row["key"] for row in story.rows["artifacts"]}
    known |= {row["bundle_key"] for row in story.rows["sweeps"]}
    for path in sorted(story.artifacts.rglob("*")):
        if not path.is_file() or path.parent == story.artifacts / "stores":  # the store's own marker
            continue
        key, age_s = path.relative_to(story.artifacts).as_posix(), time.time() - path.stat().st_mtime
        if age_s > story.grace_s and (key not in known or _TEMPORARY.fullmatch(path.name)):
            yield f"{key} is {age_s:.0f} s old and on no record"


RULES: tuple[Callable[[Story], Iterator[str]], ...] = (
    every_trial_once,
    moves_allowed,
    leases_apart,
    newest_attempt_writes,
    epochs_whole,
    nothing_started_again,
    artifacts_right,
    nothing_unreferenced,
)


def _writes(story: Story) -> dict[tuple[int, int], list[tuple[str, float]]]:
    """Return what each attempt wrote and when, by trial and attempt."""
    found: dict[tuple[int, int], list[tuple[str, float]]] = defaultdict(list)
    for row in story.rows["epochs"]:
        found[row["trial"], row["attempt"]].append((f"epoch {row['epoch']}", row["at"]))
    for row in story.rows["artifacts"]:
        found[row["trial"], row["attempt"]].append((f"{row['kind']} {row['epoch']}", row["created_at"]))
    for row in story.rows["logs"]:
        found[row["trial"], row["attempt"]].append(("a log line", row["at"]))
    return found


def _best(story: Story) -> list[Row]:
    counted = [row for row in story.rows["trials"] if row["value"] is not None]
    sign = 1.0 if story.spec["metric"]["goal"] == "minimize" else -1.0
    return sorted(counted, key=lambda row: (sign * row["value"], row["number"]))


def _plain(value: Any) -> Any:
    """Return a JSON column's content: PostgreSQL's driver parses it, SQLite's does not."""
    return json.loads(value) if isinstance(value, str) else value


def _read_tables(store_url: str) -> dict[str, list[Row]]:
    order = {"sweeps": "id", "trials": "number", "attempts": "trial, number", "epochs": "trial, epoch"}
    queries = {name: f"select * from {name} order by {order.get(name, _key_of(name))}" for name in _TABLES}
    if store_url.startswith("sqlite:///"):
        path = Path(store_url.removeprefix("sqlite:///"))
        lite = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30.0)
        lite.row_factory = sqlite3.Row
        try:
            return {name: [dict(row) for row in lite.execute(query)] for name, query in queries.items()}
        finally:
            lite.close()
    if not urlsplit(store_url).scheme.startswith("postgresql"):
        raise ValueError(f"a store is sqlite:/// or postgresql://, got {store_url}")
    with psycopg.connect(store_url, row_factory=dict_row) as conn:
        return {name: conn.execute(query.encode()).fetchall() for name, query in queries.items()}


def _key_of(name: str) -> str:
    return "key" if name == "artifacts" else "id"
