"""The months of the plant's central database: on PostgreSQL each has partitions of its own for verdicts and regions.

May import the engine. A month is made when its first verdict comes, by a function in the database that acts for whoever made
the tables. It goes as a whole, which takes as long for a thousand rows as for a billion, and leaves nothing to clean up.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from inspector.errors import StoreError
from inspector.store.engine import Store

VERDICTS, REGIONS = "plant_inspections", "plant_regions"
LOCK_TIMEOUT = "5s"
"""So long a month's deletion waits for who reads it, and then fails: stations would wait behind us."""

_LISTED = text(
    "SELECT part.relname AS name, pg_total_relation_size(part.oid) AS bytes,"
    " pg_stat_get_live_tuples(part.oid) AS rows"
    " FROM pg_inherits JOIN pg_class AS part ON part.oid = inhrelid"
    " WHERE inhparent IN (CAST(:verdicts AS regclass), CAST(:regions AS regclass))"
)


@dataclass(frozen=True)
class Month:
    """What a month (its first day) holds: verdicts by the server's statistics, and bytes with regions and indexes."""

    month: date
    verdicts: int
    bytes: int


def month_of(moment: datetime) -> date:
    """The first day of the month (UTC) in which a verdict of this moment lies."""
    return moment.astimezone(UTC).date().replace(day=1)


def make(store: Store, moments: Iterable[datetime]) -> None:
    """Make what is missing for verdicts of these moments.

    In a transaction of its own and before any other: it waits for everyone who writes at this moment.

    Raises:
        StoreError: the account may not, or the database cannot be reached.
    """
    wanted = sorted({month_of(moment) for moment in moments})
    if store.is_sqlite or not wanted:
        return
    with store.write() as session:
        for month in wanted:
            if _missing(session, month):
                first = datetime(month.year, month.month, 1, tzinfo=UTC)
                session.execute(text("SELECT plant_month(:moment)"), {"moment": first})


def listed(session: Session) -> list[Month]:
    """All months, the oldest first.

    Raises:
        StoreError: the central database is none of PostgreSQL, which alone has months.
    """
    if session.get_bind().dialect.name != "postgresql":
        raise StoreError("only a central database on PostgreSQL is divided into months")
    found: dict[date, dict[str, int]] = {}
    for row in session.execute(_LISTED, {"verdicts": VERDICTS, "regions": REGIONS}):
        kind, month = _parsed(row.name)
        sums = found.setdefault(month, {"verdicts": 0, "bytes": 0})
        sums["bytes"] += row.bytes
        sums["verdicts"] += row.rows if kind == VERDICTS else 0
    return [Month(month, **found[month]) for month in sorted(found)]


def drop(session: Session, month: date) -> None:
    """Delete a month's verdicts with their regions; what people said of them stays. The account must own the tables.

    Raises:
        StoreError: there is no such month.
    """
    if _missing(session, month):
        raise StoreError(f"there are no verdicts of {month:%Y-%m}")
    verdicts, regions = _name(VERDICTS, month), _name(REGIONS, month)
    session.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
    session.execute(text(f"DROP TABLE IF EXISTS {regions}"))
    session.execute(text(f"ALTER TABLE {VERDICTS} DETACH PARTITION {verdicts}"))
    session.execute(text(f"DROP TABLE {verdicts}"))


def _missing(session: Session, month: date) -> bool:
    return session.scalar(text("SELECT to_regclass(:name)"), {"name": _name(VERDICTS, month)}) is None


def _name(table: str, month: date) -> str:
    return f"{table}_{month:%Y_%m}"


def _parsed(name: str) -> tuple[str, date]:
    found = re.fullmatch(f"({VERDICTS}|{REGIONS})_(\\d{{4,}})_(\\d\\d)", name)
    if found is None:
        raise StoreError(f"the table {name} is no month of the plant; somebody else has made it")
    return found[1], date(int(found[2]), int(found[3]), 1)
