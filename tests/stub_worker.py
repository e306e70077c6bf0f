"""The real worker with stub trainers: everything but Keras is as in production."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from kerasweep.jobs.queue.channel import TolerantChannel
from kerasweep.workers.start import main
from kerasweep.workers.trainers import Trainer

STUB = str(Path(__file__).with_name("stub_trainer.py"))
_real_command = Trainer._command


def stub_command(self: Trainer, child_in: int, child_out: int) -> list[str]:
    """Return the command of a stub, replacing `Trainer._command`."""
    python, *words = _real_command(self, child_in, child_out)
    return [python, STUB, *words[words.index("--in-fd") :]]


def go_deaf() -> None:
    """Let the first connection request nothing, as if it had forgotten to."""
    first = TolerantChannel._brpop_start
    channels: list[TolerantChannel] = []

    def ask(channel: TolerantChannel, *args: Any) -> None:
        channels.append(channel)
        if channel is not channels[0]:
            first(channel, *args)

    TolerantChannel._brpop_start = ask


if __name__ == "__main__":
    if "KERASWEEP_TEST_DEAF" in os.environ:
        go_deaf()
    Trainer._command = stub_command  # type: ignore[method-assign]
    sys.exit(main())
