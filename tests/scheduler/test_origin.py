"""Git is asked for a folder's commit without running anything that the folder configures."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kerasweep.scheduler.deciding.origin import source_of

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="no git")


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job in a repository with one commit."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "train.py").write_text("x = 1\n", encoding="utf-8")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        git(folder, *words)
    return folder / "train.py"


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A program that leaves a file `ran` beside it."""
    program = tmp_path / "trap.sh"
    program.write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\ncat\n", encoding="utf-8")
    program.chmod(0o755)
    return program


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", *who, "-C", str(folder), *words], check=True, capture_output=True)


def test_the_commit_and_whether_there_are_changes(job: Path) -> None:
    found = source_of(job)
    assert len(found["git_commit"]) == 40
    assert found["git_dirty"] is False
    job.write_text("x = 2\n", encoding="utf-8")
    assert source_of(job)["git_dirty"] is True


def test_a_folder_without_git(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_bytes(b"")
    assert source_of(tmp_path / "train.py")["git_commit"] is None


@pytest.mark.parametrize(
    "setting",
    [
        "core.fsmonitor",
        "filter.x.clean",
        "filter.x.process",
        "core.sshCommand",
        "core.pager",
        "diff.external",
    ],
)
def test_no_program_of_the_folder_is_run(job: Path, trap: Path, setting: str) -> None:
    (job.parent / ".gitattributes").write_text("* filter=x diff=x\n", encoding="utf-8")
    git(job.parent, "config", setting, str(trap))
    job.write_text("x = 3\n", encoding="utf-8")
    found = source_of(job)
    assert not (trap.parent / "ran").exists()
    assert found["git_commit"]
    assert found["git_dirty"] in (True, None)


def test_no_hook_is_run(job: Path, trap: Path) -> None:
    for name in ("post-index-change", "fsmonitor-watchman", "post-checkout"):
        shutil.copy2(trap, job.parent / ".git" / "hooks" / name)
    job.touch()
    source_of(job)
    assert not (trap.parent / "ran").exists()


def test_a_trap_would_work(job: Path, trap: Path) -> None:
    git(job.parent, "config", "core.fsmonitor", str(trap))
    git(job.parent, "status", "--porcelain")
    assert (trap.parent / "ran").exists()
