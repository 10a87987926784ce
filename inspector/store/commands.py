"""Commands to a station: each (station, source, cid) runs once, whatever is sent twice."""

import random
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from inspector.errors import NotFoundError
from inspector.store.schema import Audit, Command


def new_cid() -> int:
    """A number for one form or one call of the command line; u32, not 0."""
    return random.SystemRandom().randrange(1, 2**32)


def submit(
    session: Session,
    station_id: int,
    *,
    source: str,
    cid: int,
    name: str,
    payload: dict[str, Any],
    who: str,
    now: datetime,
) -> Command:
    """Ask for a command; the same cid again gives the row that is there."""
    query = select(Command).where(Command.station_id == station_id, Command.source == source, Command.cid == cid)
    known = session.scalar(query)
    if known is not None:
        return known
    row = Command(
        station_id=station_id,
        source=source,
        cid=cid,
        name=name,
        payload=payload,
        status="pending",
        created_at=now,
        created_by=who,
    )
    session.add(row)
    if name not in ("trigger", "ping", "sync"):
        session.add(Audit(at=now, who=who, action=f"command {name}", detail=payload))
    session.flush()
    return row


def note(
    session: Session, station_id: int, *, cid: int, name: str, payload: dict[str, Any], code: int, now: datetime
) -> None:
    """Keep a command of the PLC that has run; an older one of the same cid gives way, its audit entry stays."""
    known = session.scalar(
        select(Command).where(Command.station_id == station_id, Command.source == "mqtt", Command.cid == cid)
    )
    if known is not None:
        session.delete(known)
        session.flush()
    row = submit(session, station_id, source="mqtt", cid=cid, name=name, payload=payload, who="plc", now=now)
    finish(session, row.id, code, now)


def newest(session: Session, station_id: int, source: str, limit: int) -> list[Command]:
    """The last commands of a source that have run, oldest first."""
    mine = (Command.station_id == station_id, Command.source == source, Command.code.is_not(None))
    return list(session.scalars(select(Command).where(*mine).order_by(Command.id.desc()).limit(limit)))[::-1]


def pending(session: Session, station_id: int, source: str | None = None) -> list[Command]:
    """Commands that have not run yet, oldest first."""
    query = select(Command).where(Command.station_id == station_id, Command.status == "pending")
    if source is not None:
        query = query.where(Command.source == source)
    return list(session.scalars(query.order_by(Command.id)))


def finish(session: Session, command_id: int, code: int, now: datetime) -> None:
    """Store the final code."""
    row = get_command(session, command_id)
    row.status, row.code, row.finished_at = "done", code, now


def get_command(session: Session, command_id: int) -> Command:
    row = session.get(Command, command_id)
    if row is None:
        raise NotFoundError(f"there is no command {command_id}")
    return row
