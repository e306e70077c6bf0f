"""The real keeper with a stub worker and a stub scheduler, which do nothing until they are told to end."""

from __future__ import annotations

import os
import sys
from typing import Any

from kerasweep.scheduler.local import embedded
from kerasweep.scheduler.local.keeper import main
from kerasweep.scheduler.local.supervise import Child

_IDLE = "import time; time.sleep(600)"
#: The program of the worker, in place of one that idles.
WORKER = "STUB_KEEPER_WORKER"


class Idle(Child):
    """A child whose program is replaced."""

    def __init__(self, command: list[str], name: str, *args: Any, **options: Any) -> None:
        program = os.environ.get(WORKER, _IDLE) if name == "the worker" else _IDLE
        super().__init__([sys.executable, "-I", "-S", "-c", program], name, *args, **options)


def install() -> None:
    """Replace the children of every `Local` of this process."""
    embedded.Child = Idle  # type: ignore[attr-defined, misc]


if __name__ == "__main__":
    install()
    sys.exit(main(sys.argv[1:]))
