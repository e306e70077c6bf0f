"""All sides of the records over one database."""

from __future__ import annotations

from typing import Any

from kerasweep.jobs.store.attempts import AttemptRecords
from kerasweep.jobs.store.faults.quarantines import QuarantineRecords
from kerasweep.jobs.store.faults.setbacks import SetbackRecords
from kerasweep.jobs.store.identity import IdentityRecords
from kerasweep.jobs.store.overview import OverviewRecords
from kerasweep.jobs.store.presence import PresenceRecords
from kerasweep.jobs.store.reads import RecordReads
from kerasweep.jobs.store.retention import RetentionRecords
from kerasweep.jobs.store.spent import TimeRecords
from kerasweep.jobs.store.sql.database import Database
from kerasweep.jobs.store.sweeps import SweepRecords


class Records(
    AttemptRecords,
    SweepRecords,
    PresenceRecords,
    QuarantineRecords,
    SetbackRecords,
    IdentityRecords,
    RetentionRecords,
    OverviewRecords,
    TimeRecords,
    RecordReads,
):
    """The records of sweeps, trials and attempts. Safe to share between threads.

    Args:
        database: `sqlite:///FILE` or `postgresql://…`, or an open database.
        options: as for `Database`, if a URL is given.

    Raises:
        InputError: a URL of another kind.
        OutOfReach: the database does not respond; every method may raise this.
    """

    def __init__(self, database: str | Database, **options: Any) -> None:
        self._db = Database(database, **options) if isinstance(database, str) else database

    def close(self) -> None:
        """Close every connection."""
        self._db.close()
