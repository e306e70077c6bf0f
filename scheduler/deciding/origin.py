"""The origin of a job: its folder and git commit, read without running anything that the folder configures.

A folder from elsewhere may contain a `.git` whose configuration names programs: a file-system monitor, hooks,
filters, transports. Reading a commit must run none of them.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_GIT_S = 5.0
_HARMLESS = (
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.pager=cat",
    "core.untrackedCache=false",
    "core.sshCommand=false",
    "core.askPass=",
    "core.gitProxy=",
    "credential.helper=",
    "diff.external=",
    "status.submoduleSummary=false",
)
# No lazy fetch of objects that a partial clone lacks, by any transport, and nothing is written.
_QUIET = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
}
# A submodule has its own configuration, which our settings do not reach.
_STATUS = ("status", "--porcelain", "--ignore-submodules=all", "--", ".")


def source_of(job: Path) -> Mapping[str, Any]:
    """Return the origin of a job: its folder, git commit, and whether that folder had changes.

    Whether it had changes is None if that would require running the folder's filters.
    """
    folder = job.resolve().parent
    facts: dict[str, Any] = {"job": str(job.resolve()), "git_commit": None, "git_dirty": None}
    commit = _git(folder, "rev-parse", "HEAD")
    if commit:
        changes = None if _has_filters(folder) else _git(folder, *_STATUS)
        facts |= {"git_commit": commit, "git_dirty": None if changes is None else bool(changes)}
    return facts


def _has_filters(folder: Path) -> bool:
    """Whether the folder's own configuration, or an unreadable one, defines filters for its files."""
    found = _git(folder, "config", "--list", "--show-scope", "--name-only")
    lines = ["local\tfilter."] if found is None else found.splitlines()
    return any(line.startswith(("local\tfilter.", "worktree\tfilter.")) for line in lines)


def _git(folder: Path, *words: str) -> str | None:
    settings = [word for setting in _HARMLESS for word in ("-c", setting)]
    try:
        done = subprocess.run(
            ["git", *settings, "-C", str(folder), *words],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_GIT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **_QUIET},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
