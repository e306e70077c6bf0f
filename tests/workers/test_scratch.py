"""A worker's folder is removed when it ends, however it ends, and never before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

OWNER = """
import os, sys, tempfile
from kerasweep.workers.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "bundles").mkdir()
    print(folder, flush=True)
    sys.stdin.readline()
"""


def owner_in(folder: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def test_it_is_removed_by_its_owner_or_by_the_next_one(tmp_path: Path) -> None:
    killed, left = owner_in(tmp_path)
    living, kept = owner_in(tmp_path)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert left.is_dir()
    third, own = owner_in(tmp_path)
    assert not left.exists()
    assert kept.is_dir()
    assert own.is_dir()
    for process in (living, third):
        process.communicate("\n", timeout=20)
        assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_what_is_started_within_puts_its_temporary_files_there(tmp_path: Path) -> None:
    program = OWNER.replace("sys.stdin.readline()", "print(os.environ['TMPDIR'] == str(folder))")
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.stdout.splitlines()[-1] == "True"
