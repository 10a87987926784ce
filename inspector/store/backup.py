"""Copies of an SQLite database that can be trusted: made by SQLite's backup API, checked, put in their place in one step.

Standard library and the engine's address of the database; PostgreSQL has tools of its own and is refused here. A database
file is never copied as a file: what is written at that moment would be torn.
"""

import contextlib
import logging
import os
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.engine import make_url

from inspector.errors import StoreError

log = logging.getLogger(__name__)

STAMP = "%Y%m%dT%H%M%SZ"
SIDE_FILES = ("-wal", "-shm", "-journal")
CHECK_LIMIT_S = 60.0
"""A check that takes longer is ended, so that a worker with a huge database starts at all."""
BUSY_S = 5.0
PROGRESS_STEPS = 100_000
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def database_file(url: str) -> Path | None:
    """The file of an SQLite database; None for other databases and for one in memory."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database))


def faults(path: Path, limit_s: float = CHECK_LIMIT_S) -> str:
    """What `PRAGMA quick_check` finds; empty if the database is good, or if nothing was found within the time.

    Raises:
        StoreError: it cannot be looked at: missing, locked, no permission. That is not damage.
    """
    until_s = time.monotonic() + limit_s
    try:
        with closing(_connect(path)) as connection:
            connection.set_progress_handler(lambda: int(time.monotonic() > until_s), PROGRESS_STEPS)
            found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(5)")]
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in DAMAGE:
            return str(error)
        if code == sqlite3.SQLITE_INTERRUPT:
            log.warning("%s: no fault was found in %g s; the rest is not checked", path, limit_s)
            return ""
        raise StoreError(f"{path}: the database cannot be checked: {error}") from error
    return "" if found == ["ok"] else "; ".join(found)


def back_up(source: Path, target: Path) -> None:
    """Copy a database that may be in use; `target` is whole and checked, or it is not there.

    Raises:
        StoreError: it cannot be read or written, or the copy is damaged.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        with closing(_connect(source)) as live, closing(sqlite3.connect(part)) as copy:
            live.backup(copy)  # in one step: in several, each write of the line would begin it anew
            copy.execute("PRAGMA journal_mode=DELETE")
        if problem := faults(part):
            raise StoreError(f"{source}: its copy is damaged ({problem}); nothing was kept")
        sync(part)
        part.replace(target)
        sync(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{source}: cannot be backed up to {target}: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def back_up_into(source: Path, folder: Path, kept: int, now: datetime) -> Path:
    """One more backup with a time stamp; of all there are, the newest `kept` stay.

    Raises:
        StoreError: as in `back_up`; the old ones then stay.
    """
    target = folder / f"{source.stem}-{now.astimezone(UTC):{STAMP}}.db"
    back_up(source, target)
    for old in backups(folder, source, now)[kept:]:
        with contextlib.suppress(OSError):
            old.unlink()
    return target


def backups(folder: Path, source: Path, now: datetime) -> list[Path]:
    """The backups of a database, newest first; last those of a clock that stood ahead, which may be older than they say."""
    found = [path for path in folder.glob(f"{source.stem}-*.db") if _stamp(path, source) is not None]
    found.sort(key=lambda path: path.name, reverse=True)
    return sorted(found, key=lambda path: made_at(path, source) > now)


def made_at(path: Path, source: Path) -> datetime:
    """When a backup was made, by its name."""
    made = _stamp(path, source)
    if made is None:
        raise ValueError(f"{path.name} is not the name of a backup of {source.name}")
    return made


def quarantine(path: Path, folder: Path, now: datetime) -> Path:
    """Move a database with its side files out of the way; gives the folder where they lie now.

    Raises:
        StoreError: they cannot be moved.
    """
    place = folder / f"{now.astimezone(UTC):{STAMP}}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        for side in ("", *SIDE_FILES):
            file = path.with_name(path.name + side)
            if file.exists():
                file.replace(place / file.name)
    except OSError as error:
        raise StoreError(f"{path}: cannot be moved to {place}: {error.strerror}") from error
    return place


def sync(path: Path) -> None:
    """Bring a file or a folder to the disk; Windows has no handle of a folder and needs none."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() or os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _connect(path: Path) -> sqlite3.Connection:
    """An existing database; never makes one."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_S)


def _stamp(path: Path, source: Path) -> datetime | None:
    try:
        return datetime.strptime(path.stem.removeprefix(f"{source.stem}-"), STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None
