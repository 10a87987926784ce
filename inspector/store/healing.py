"""A damaged database is put aside and replaced by its newest good backup, or by a new one, so that the line comes back.

May import the engine, `backup` and the tables. What happened is kept in the audit of the database that took over, until a
person has confirmed it.
"""

import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from inspector.errors import SchemaError, StoreError
from inspector.store import engine
from inspector.store.backup import back_up, backups, database_file, faults, made_at, quarantine
from inspector.store.schema import Audit, Command

log = logging.getLogger(__name__)

RESTORED, SEEN = "database_restored", "database_restored_seen"
WHO = "worker"
NOT_RUN = 99
"""Code of commands that a backup still holds: nobody waits for them any more (`AckCode.INTERNAL`)."""


@dataclass(frozen=True)
class Healing:
    """What was wrong, where the damaged files lie, and which backup took over (None: a new, empty database)."""

    damage: str
    quarantine: Path | None
    backup: Path | None
    made_at: datetime | None

    @property
    def text(self) -> str:
        """For people, at most 120 characters in all usual cases: it is the text of an alarm."""
        if self.made_at is None:
            return "the database was damaged and there was no good backup: it is NEW AND EMPTY; teach products again"
        return f"the database was damaged; the backup of {self.made_at:%Y-%m-%d %H:%M} UTC is used: check product and history"


def backup_folder(data_path: Path) -> Path:
    """Where backups lie."""
    return data_path / "backups"


def heal(url: str, data_path: Path, now: datetime) -> Healing | None:
    """Look at the database before it is used, and replace it if it is damaged, or gone although it has backups.

    Raises:
        StoreError: it cannot be looked at (locked, no permission), or cannot be replaced.
    """
    path = database_file(url)
    if path is None:
        return None
    found = backups(backup_folder(data_path), path, now)
    damage = _damage(path, url, has_backups=bool(found))
    if not damage:
        return None
    log.critical("%s: the database is damaged: %s", path, damage)
    place = quarantine(path, data_path / "quarantine", now)
    taken = next((one for one in found if _take(one, path, url)), None)
    engine.upgrade(url)
    healing = Healing(damage, place, taken, None if taken is None else made_at(taken, path))
    store = engine.Store(url)
    try:
        with store.write() as session:
            _note(session, healing, now)
    finally:
        store.close()
    log.critical("%s (the damaged files lie in %s)", healing.text, place)
    return healing


def restore(url: str, data_path: Path, file: Path, now: datetime) -> Path | None:
    """Replace the database by a backup; gives the folder of the old one. No worker may run.

    Raises:
        StoreError: the backup is damaged or cannot be read, or the database is none of SQLite.
        SchemaError: the backup is of a newer program.
    """
    path = database_file(url)
    if path is None:
        raise StoreError("only SQLite databases are restored here; use the tools of your database server")
    if problem := faults(file):
        raise StoreError(f"{file}: not a good backup: {problem}")
    if engine.current_revision(f"sqlite:///{file.absolute().as_posix()}") is None:
        raise SchemaError(f"{file}: an SQLite database, but none of this program")
    engine.refuse_newer(f"sqlite:///{file.absolute().as_posix()}")
    place = quarantine(path, data_path / "quarantine", now) if path.exists() else None
    back_up(file, path)
    engine.upgrade(url)
    return place


def unseen(session: Session) -> str:
    """What happened to the database and no one has confirmed yet; empty if there is nothing."""
    query = select(Audit).where(Audit.action.in_((RESTORED, SEEN))).order_by(Audit.id.desc()).limit(1)
    newest = session.scalar(query)
    return "" if newest is None or newest.action == SEEN else str(newest.detail.get("text", ""))


def confirm(session: Session, now: datetime) -> None:
    """A person has seen that the database was replaced."""
    session.add(Audit(at=now, who=WHO, action=SEEN, detail={}))


def _damage(path: Path, url: str, *, has_backups: bool) -> str:
    if path.exists() and (problem := faults(path)):
        return problem
    gone = has_backups and engine.current_revision(url) is None
    return "the file is missing or holds nothing, but there are backups of it" if gone else ""


def _take(backup: Path, path: Path, url: str) -> bool:
    """Whether this backup is good and is the database now."""
    try:
        if problem := faults(backup):
            log.error("%s: this backup is damaged, too: %s", backup, problem)
            return False
        engine.refuse_newer(f"sqlite:///{backup.absolute().as_posix()}")
        back_up(backup, path)
        return engine.current_revision(url) is not None
    except StoreError as error:
        log.error("%s: this backup cannot be used: %s", backup, error)
        return False


def _note(session: Session, healing: Healing, now: datetime) -> None:
    detail: dict[str, Any] = {
        "text": healing.text,
        "damage": healing.damage,
        "quarantine": str(healing.quarantine),
        "backup": None if healing.backup is None else healing.backup.name,
    }
    session.add(Audit(at=now, who=WHO, action=RESTORED, detail=detail))
    waiting = update(Command).where(Command.status != "done")
    session.execute(waiting.values(status="done", code=NOT_RUN, finished_at=now))
