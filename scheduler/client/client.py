"""Sweeps from Python: what the command line does, for notebooks and programs.

    from kerasweep import Client

    sweep = Client().submit("sweep.yaml")
    sweep.wait()
    sweep.trials()      # a pandas DataFrame
    model = sweep.load_model()

Everything heavy (SQLAlchemy, Celery, pandas, Keras) is imported on first use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasweep.jobs.trial import SweepState
from kerasweep.scheduler.client.connections import Connections

if TYPE_CHECKING:
    from kerasweep.scheduler.client.sweep import Sweep, Sweeps


class Client(Connections):
    """Finds sweeps and submits them; its arguments are those of `Connections`."""

    def sweep(self, name: str) -> Sweep:
        """Return a sweep by its id, a unique prefix of its id, or its name (the newest).

        Raises:
            NotFound: none matches, or more than one does; the message lists the candidates.
            OutOfReach: the store does not respond.
        """
        from kerasweep.scheduler.client.sweep import Sweep

        self.expect_store(name)
        return Sweep(self, self.records.find_sweep(name))

    def sweeps(self, states: Sequence[SweepState] | None = None) -> Sweeps:
        """Return the sweeps, newest first; a table in a notebook."""
        from kerasweep.scheduler.client.sweep import Sweep, Sweeps

        records = self.records.sweeps(states) if self.has_store() else []
        return Sweeps(Sweep(self, record) for record in records)

    def submit(
        self,
        source: str | Path | Mapping[str, Any],
        *,
        job_folder: str | Path | None = None,
        name: str | None = None,
        engine: str = "auto",
        warm_from: str | Sweep | None = None,
    ) -> Sweep:
        """Submit a sweep; it starts as soon as a worker is running.

        Args:
            source: a sweep file, or its content as a dict.
            job_folder: what the job's path is relative to; by default the sweep file's folder, or the current
                one.
            name: a name that replaces the sweep file's.
            engine: auto, fit or pack.
            warm_from: an earlier sweep whose results the method learns from; `Sweep.warm_start` of the sweep
                returned says what was taken.

        Raises:
            InputError: the sweep file or the job is not valid, or nothing can be learned from the earlier
                sweep; nothing was written.
            NotFound: there is no such earlier sweep.
            OutOfReach: the store, the artifacts or Redis do not respond.
        """
        from kerasweep.scheduler.client.sweep import Sweep
        from kerasweep.scheduler.deciding.submission import submit

        earlier = self.sweep(warm_from) if isinstance(warm_from, str) else warm_from
        done = submit(
            source if isinstance(source, Mapping) else Path(source),
            records=self.records,
            artifacts=self.artifacts,
            queue=self.queue,
            engine=engine,
            folder=None if job_folder is None else Path(job_folder),
            name=name,
            warm_from=None if earlier is None else (earlier.client.records, earlier.id),
        )
        self.mark_artifacts()
        return Sweep(self, done.sweep)
