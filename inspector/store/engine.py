"""One engine factory for SQLite and PostgreSQL, and the migrations of both kinds of database: a station's and the plant's.

SQLite: the write engine begins every transaction with BEGIN IMMEDIATE (SQLAlchemy's default lost concurrent updates without
an error), the read engine is read-only; WAL, synchronous=FULL, busy_timeout. PostgreSQL waits as long for a lock, and ends a
transaction of ours that does nothing. Errors of SQLAlchemy become StoreError here.
"""

import importlib.util
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session

from inspector.errors import SchemaError, StoreError

log = logging.getLogger(__name__)

BUSY_TIMEOUT_MS = 5000
SLOW_S = 1.0
"""A write that takes longer is told: the line's commits may have waited for it."""
CHECKPOINT_WAIT_MS = 100
JOURNAL_LIMIT_BYTES = 64 * 2**20
SERVER_OPTIONS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""Of libpq: a server that went away without a word must not keep a thread waiting for hours."""
IDLE_TIMEOUT_MS = 60_000
"""Our transactions are short: one that does nothing for so long belongs to a program that hangs and is in others' way."""


@dataclass(frozen=True)
class Lineage:
    """The schema revisions of one kind of database, the table that says where it stands, and the command that upgrades it."""

    package: str
    version_table: str
    upgrade_command: str


STATION = Lineage("migrations", "alembic_version", "inspector db upgrade")
PLANT = Lineage("migrations.plant", "plant_version", "inspector db upgrade --central")


class Reader(Protocol):
    """A database for who only reads."""

    def read(self) -> AbstractContextManager[Session]:
        """A read-only session; see `Store.read`."""


class Store:
    """A database: `write()` and `read()` give sessions that live for one short transaction."""

    def __init__(self, url: str) -> None:
        self.url = url
        parsed = _parsed(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self._file = parsed.database if self.is_sqlite else None
        self._writer = _engine(parsed, read_only=False)
        self._reader = _engine(parsed, read_only=True)

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session in a write transaction: committed at the end, rolled back on any error.

        Raises:
            StoreError: the database is away, locked for longer than 5 s, full or damaged.
        """
        since_monotonic_s = time.monotonic()
        with _told(self.url), Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session
        took_s = time.monotonic() - since_monotonic_s
        if took_s > SLOW_S:
            log.warning(
                "a write took %.1f s: its own work, a slow disk, or another program that held the database", took_s
            )

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A read-only session; keep it short, since an open one lets the WAL grow.

        Raises:
            StoreError: the database cannot be read.
        """
        with _told(self.url), Session(self._reader, expire_on_commit=False) as session:
            yield session

    def checkpoint(self) -> None:
        """Write the WAL back into the SQLite file and cut it to nothing; PostgreSQL looks after itself.

        While it waits for a reader it keeps the line from writing; so it does not wait, it comes again.
        """
        if self.is_sqlite:
            with _told(self.url), self._writer.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql(f"PRAGMA busy_timeout={CHECKPOINT_WAIT_MS}")
                try:
                    connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
                finally:
                    connection.exec_driver_sql(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")

    @property
    def wal_bytes(self) -> int:
        """Size of the WAL; 0 without one."""
        return _size(self._file, "-wal")

    @property
    def file_bytes(self) -> int:
        """Size of the SQLite file; 0 for other databases."""
        return _size(self._file, "")

    def close(self) -> None:
        self._writer.dispose()
        self._reader.dispose()


def open_store(url: str) -> Store:
    """Open a database whose schema is that of this program.

    Raises:
        SchemaError: not upgraded, or newer than this program.
        StoreError: it cannot be reached.
    """
    check(url)
    return Store(url)


def upgrade(url: str, lineage: Lineage = STATION) -> tuple[str | None, str]:
    """Make or upgrade the database; gives the revisions before and after.

    Raises:
        SchemaError: the database belongs to a newer program.
        StoreError: it cannot be reached or changed.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        try:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{Path(parsed.database).parent}: cannot be made: {error.strerror}") from error
    before = current_revision(url, lineage)
    _refuse_newer(url, before, lineage)
    config = _alembic(lineage)
    engine = _engine(parsed, read_only=False, patient=True)
    try:
        with _told(url), engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()
    return before, head_revision(lineage)


def check(url: str, lineage: Lineage = STATION) -> None:
    """Do nothing if the schema is that of this program.

    Raises:
        SchemaError: not upgraded, or newer.
        StoreError: it cannot be reached.
    """
    _refuse_other(url, current_revision(url, lineage), lineage)


def check_again(session: Session, url: str, lineage: Lineage) -> None:
    """The same on a connection that is open: somebody may upgrade a database that others use.

    Raises:
        SchemaError: not upgraded, or newer.
    """
    _refuse_other(url, _revision(session.connection(), lineage), lineage)


def current_revision(url: str, lineage: Lineage = STATION) -> str | None:
    """Revision of the database, None if it has no schema yet."""
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database and not Path(parsed.database).exists():
        return None
    engine = _engine(parsed, read_only=parsed.get_backend_name() == "sqlite")
    try:
        with _told(url), engine.connect() as connection:
            return _revision(connection, lineage)
    finally:
        engine.dispose()


@lru_cache
def head_revision(lineage: Lineage = STATION) -> str:
    """Revision that this program writes."""
    head = ScriptDirectory.from_config(_alembic(lineage)).get_current_head()
    if head is None:
        raise StoreError(f"the package `{lineage.package}` holds no versions; install the program again")
    return head


def refuse_newer(url: str) -> None:
    """Do nothing if this program knows the schema of a station's database, also an older one.

    Raises:
        SchemaError: it is newer.
        StoreError: it cannot be reached.
    """
    _refuse_newer(url, current_revision(url), STATION)


def _revision(connection: Connection, lineage: Lineage) -> str | None:
    options = {"version_table": lineage.version_table}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def _refuse_other(url: str, revision: str | None, lineage: Lineage) -> None:
    head = head_revision(lineage)
    if revision == head:
        return
    _refuse_newer(url, revision, lineage)
    state = "is empty" if revision is None else f"has schema {revision}, but this program needs {head}"
    raise SchemaError(f"the database {_shown(url)} {state}; run `{lineage.upgrade_command}`")


def _refuse_newer(url: str, revision: str | None, lineage: Lineage) -> None:
    script = ScriptDirectory.from_config(_alembic(lineage))
    try:
        if revision is not None:
            script.get_revision(revision)
    except CommandError as error:
        raise SchemaError(
            f"the database {_shown(url)} has schema {revision}, which this program does not know: it belongs to a newer "
            "version. Update the program, or name another database."
        ) from error


def _alembic(lineage: Lineage = STATION) -> AlembicConfig:
    found = importlib.util.find_spec(lineage.package)
    if found is None or not found.submodule_search_locations:
        raise StoreError(f"the package `{lineage.package}` is missing; install the program again")
    config = AlembicConfig()
    config.set_main_option("script_location", next(iter(found.submodule_search_locations)))
    config.attributes["version_table"] = lineage.version_table
    return config


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError as error:
        raise StoreError(f"database.url {url!r} is not an SQLAlchemy URL such as sqlite:///file.db") from error


def _shown(url: str) -> str:
    return _parsed(url).render_as_string(hide_password=True)


def _engine(url: URL, *, read_only: bool, patient: bool = False) -> Engine:
    """`patient`, for upgrades: what took minutes must not fail for a lock that is free some seconds later."""
    try:
        if url.get_backend_name() != "sqlite":
            limits = {} if patient else {"options": _limits(url)}
            engine = create_engine(url, pool_pre_ping=True, connect_args=SERVER_OPTIONS | limits)
            return engine.execution_options(postgresql_readonly=True) if read_only else engine
        engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000, "check_same_thread": False})
    except (NoSuchModuleError, ArgumentError, ImportError) as error:
        raise StoreError(f"database.url: {error}") from error
    _set_up_sqlite(engine, read_only=read_only)
    if url.database and url.database != ":memory:":
        _follow_the_file(engine, Path(url.database))
    return engine


def _limits(url: URL) -> str:
    """For the server: how long we wait for a lock, and others for one of ours. What the user says comes last and wins."""
    own = f"-c lock_timeout={BUSY_TIMEOUT_MS} -c idle_in_transaction_session_timeout={IDLE_TIMEOUT_MS}"
    said = url.query.get("options") or os.environ.get("PGOPTIONS", "")
    return " ".join([own, *([said] if isinstance(said, str) else said)])


def _follow_the_file(engine: Engine, path: Path) -> None:
    """A database that was replaced (restored from a backup) is another file: no connection may go on in the old one."""

    def identity() -> tuple[int, int] | None:
        try:
            found = path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @event.listens_for(engine, "connect")
    def _on_connect(_: Any, record: Any) -> None:
        record.info["file"] = identity()

    @event.listens_for(engine, "checkout")
    def _on_checkout(_: Any, record: Any, __: Any) -> None:
        if record.info.get("file") != identity():
            raise DisconnectionError(f"{path} was replaced by another file")


def _set_up_sqlite(engine: Engine, *, read_only: bool) -> None:
    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions are begun by _on_begin alone
        pragmas = [f"busy_timeout={BUSY_TIMEOUT_MS}", "foreign_keys=ON"]
        if read_only:
            pragmas.append("query_only=ON")
        else:
            pragmas += ["journal_mode=WAL", "synchronous=FULL", f"journal_size_limit={JOURNAL_LIMIT_BYTES}"]
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Any) -> None:
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


@contextmanager
def _told(url: str) -> Iterator[None]:
    """SQLAlchemy's errors as one sentence of ours."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise StoreError(f"the database {_shown(url)} does not answer as it should: {cause}") from error


def _size(file: str | None, side: str) -> int:
    try:
        return 0 if file is None else Path(file + side).stat().st_size
    except OSError:
        return 0


def is_damage(error: BaseException) -> bool:
    """Whether a failure says that the SQLite file is damaged, or gone with its tables; waiting does not help then."""
    cause: BaseException | None = error
    while cause is not None:
        found = getattr(cause, "orig", cause)
        if isinstance(found, sqlite3.Error) and "no such table" in str(found):
            return True
        if getattr(found, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return True
        cause = cause.__cause__
    return False


def ping(store: Store) -> None:
    """Raise StoreError if the database does not answer."""
    with store.read() as session:
        session.execute(text("SELECT 1"))
