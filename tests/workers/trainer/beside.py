"""Runs small programs beside each other, each in an enclave of its own in a thread of its own, as trials are.

    python beside.py FOLDER

Reads lists of programs, a line of JSON each, and prints for each list what every program printed. In FOLDER
libraries may lie. A program may call `meet()`, which waits for the others, and `settings()`, what it has set.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import traceback
from pathlib import Path

from kerasweep.workers.trainer.job.enclave import current
from kerasweep.workers.trainer.job.prints import Prints, RunLog
from kerasweep.workers.trainer.process import own_logging, own_streams

_DEADLINE_S = 60


def run(text: str, number: int, printed: list[str], prints: Prints, meeting: threading.Barrier) -> None:
    """Run a program to its end."""
    log = RunLog(printed.append)
    with prints.into(log):
        enclave = current()
        assert enclave is not None
        enclave.become_program(Path("train.py"))
        own_logging.begin(enclave)
        enclave.ends.callback(enclave.forget_program)
        enclave.ends.callback(own_logging.end, enclave)
        enclave.ends.callback(own_streams.end, enclave)
        names = {"meet": meeting.wait, "number": number, "settings": lambda: own_logging.changes(enclave)}
        try:
            exec(compile(text, "train.py", "exec"), {"__name__": "train", "logging": logging, **names})
        except BaseException:  # noqa: BLE001 - told to the test
            meeting.abort()
            traceback.print_exc()


def beside(programs: list[str], prints: Prints) -> list[str]:
    """Run programs at once; return what each printed."""
    meeting = threading.Barrier(len(programs), timeout=_DEADLINE_S)
    printed: list[list[str]] = [[] for _ in programs]
    threads = [
        threading.Thread(target=run, args=(text, number, printed[number], prints, meeting))
        for number, text in enumerate(programs)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ["\n".join(lines) for lines in printed]


if __name__ == "__main__":
    out = os.fdopen(os.dup(1), "w")
    os.chdir(sys.argv[1])
    sys.path.insert(0, sys.argv[1])
    shared = logging.getLogger("shared")
    shared.addHandler(logging.StreamHandler(out))
    routed = Prints()
    routed.install()
    own_logging.install()
    for line in sys.stdin:
        print(json.dumps(beside(json.loads(line), routed)), file=out, flush=True)
