"""Commits verdicts before they are published, and keeps them when the database fails.

May import the store's journal, `verdicts` and `state`. What cannot be committed goes out as NONE (8xx), never as OK,
and waits here until the database is back; then the rows say what the PLC was told.
"""

import logging
import time
from collections import deque
from collections.abc import Sequence
from functools import partial

from sqlalchemy.orm import Session

from edge.state import Station
from edge.verdicts import Statement
from inspector.contract.codes import ErrorCode
from inspector.errors import StationError, StoreError
from inspector.store import journal
from inspector.store.engine import is_damage
from inspector.store.journal import CommittedVerdict, VerdictRecord
from inspector.store.redo import RedoLog
from inspector.store.writer import StoreWriter

log = logging.getLogger(__name__)

COMMIT_TIMEOUT_S = 2.0
RETRY_S = 1.0
MAX_BACKLOG = 20_000
CHUNK = 200


class Ledger:
    """Used by the inference thread alone."""

    def __init__(self, writer: StoreWriter, station_id: int, station: Station, redo: RedoLog) -> None:
        self._writer = writer
        self._redo = redo
        self._stored: list[VerdictRecord] = []
        self._station_id = station_id
        self._station = station
        self._backlog: deque[VerdictRecord] = deque()
        self._retry_at = 0.0

    def __len__(self) -> int:
        """Verdicts that are not in the database yet."""
        return len(self._backlog)

    def commit(self, statements: Sequence[Statement]) -> list[tuple[Statement, CommittedVerdict | None]]:
        """Store the verdicts of a batch together; what comes back is what may be published.

        Raises:
            StationError: the database is away and no more verdicts can be kept.
        """
        if not self._backlog:
            try:
                records = [statement.record(time.monotonic()) for statement in statements]
                committed = self._writer.call(
                    lambda session: journal.commit_verdicts(session, self._station_id, records),
                    urgent=True,
                    timeout_s=COMMIT_TIMEOUT_S,
                    about={record.identity for record in records},
                )
                self._stored += records
                return list(zip(statements, committed, strict=True))
            except StoreError as error:
                self._close_books(str(error))
            except Exception as error:  # whatever stops a commit must stop the OK
                log.exception("a commit failed in an unexpected way")
                self._close_books(str(error))
        if len(self._backlog) + len(statements) > MAX_BACKLOG:
            raise StationError(f"the database is away and {MAX_BACKLOG} verdicts wait; the station stops")
        failed = [statement.not_stored() for statement in statements]
        owed = [statement.record(time.monotonic()) for statement in failed]
        # At once: neither a worker that dies now nor a power cut may take along what the PLC is told.
        self._redo.append(owed, durable=True)
        self._backlog.extend(owed)
        return [(statement, None) for statement in failed]

    def log_stored(self) -> None:
        """Write the redo log of what was committed; not before it is published, since only a lost database needs it."""
        if self._stored:
            self._redo.append(self._stored)
            self._stored = []

    def _close_books(self, reason: str) -> None:
        log.error("verdicts cannot be stored, parts get NONE (%d): %s", ErrorCode.STORAGE, reason)
        self._station.fail(ErrorCode.STORAGE, f"verdicts cannot be stored: {reason}")
        self._retry_at = time.monotonic() + RETRY_S

    def retry(self, now_monotonic_s: float) -> None:
        """Bring in what waits, once a second; the station recovers when all of it is stored.

        Raises:
            StationError: the database file is damaged; only a new start helps.
        """
        if not self._backlog or now_monotonic_s < self._retry_at:
            return
        while self._backlog:
            chunk = [self._backlog[place] for place in range(min(CHUNK, len(self._backlog)))]
            about = {record.identity for record in chunk}
            try:
                self._writer.call(partial(self._settle, chunk), urgent=True, timeout_s=COMMIT_TIMEOUT_S, about=about)
            except Exception as error:  # noqa: BLE001 - the same as in commit, and told once a second
                log.warning("%d verdicts still wait for the database: %s", len(self._backlog), error)
                if is_damage(error):
                    self._give_up(error)
                self._retry_at = time.monotonic() + RETRY_S
                return
            for _ in chunk:
                self._backlog.popleft()
        log.warning("the database is back and has all verdicts")
        self._station.recover()

    def _give_up(self, error: Exception) -> None:
        """Only the next worker can put another database in the place of a damaged one."""
        self._leave_to_the_next()
        raise StationError(f"the database is damaged, and the next start restores a backup: {error}") from error

    def close(self, timeout_s: float) -> None:
        """The station stops: try for a while to bring in what waits.

        Raises:
            StationError: verdicts are not in the database; the next worker puts them there.
        """
        deadline = time.monotonic() + timeout_s
        while self._backlog and time.monotonic() < deadline:
            self.retry(self._retry_at)
            time.sleep(0.1 if self._backlog else 0.0)
        if count := len(self._backlog):
            self._leave_to_the_next()
            raise StationError(f"{count} verdicts are not in the database; the next start puts them there")

    def _leave_to_the_next(self) -> None:
        """The redo log has them; the log, too, should the disk have refused that."""
        for record in self._backlog:
            log.error("not stored: seq=%d trg=%d verdict=%d err=%d", record.seq, record.trg, record.verdict, record.err)
        self._backlog.clear()

    def _settle(self, records: list[VerdictRecord], session: Session) -> None:
        # A commit that was given up on in its last moment may have come through after all; its row would tell another
        # story than the PLC heard.
        journal.replace_verdicts(session, self._station_id, records)
