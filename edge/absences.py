"""Verdicts on parts that passed by unseen in a long absence: a few at a time, between the batches of those that are there.

May import the store's journal, `gaps`, `parts` and the contract's codes. The absence stands in the database from the moment
it shows, and each transaction stores some verdicts and shortens it, so that a restart goes on where it ended. Thousands at
once would keep the line's own verdicts waiting for seconds; for the same reason nothing here waits for the database.
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from edge.gaps import triggers_before
from edge.parts import Part
from edge.verdicts import Answer, Statement, refuse
from inspector.contract.codes import ErrorCode, Flag
from inspector.store import journal
from inspector.store.journal import VerdictRecord
from inspector.store.redo import RedoLog
from inspector.store.schema import AbsenceRow
from inspector.store.writer import StoreWriter, Work

log = logging.getLogger(__name__)

CHUNK = 25
BUSY_PAUSE_S, RETRY_S = 0.25, 1.0
REASON = "the trigger passed by unseen"


@dataclass(frozen=True, eq=False)
class _Storing:
    statements: Sequence[Statement]
    records: list[VerdictRecord]
    done: "Future[bool]"


class Absences:
    """What is owed: read, answered by the inspection loop, stored, told. Used by its thread alone."""

    def __init__(
        self, writer: StoreWriter, station_id: int, redo: RedoLog, wake: Callable[[], None] = lambda: None
    ) -> None:
        """`wake` is called when the database has answered, so that the loop comes by soon."""
        self._writer = writer
        self._station_id = station_id
        self._redo = redo
        self._wake = wake
        self._noticed, self._seen = 1, 0
        """How often something may have become owed, and up to where it has been looked up."""
        self._next_at = 0.0
        self._reading: tuple[int, Future[AbsenceRow | None]] | None = None
        self._absence: AbsenceRow | None = None
        self._storing: _Storing | None = None

    @property
    def pending(self) -> bool:
        """Whether something is owed, as far as is known."""
        return self._seen < self._noticed or self._reading is not None or self._storing is not None

    def noticed(self) -> None:
        """A verdict that told of an absence is stored."""
        self._noticed += 1

    def due(self, now_monotonic_s: float, *, idle: bool) -> list[Answer]:
        """The next few answers that are owed, once they are known; a busy line is asked for them only now and then."""
        if self._storing is not None:
            return []
        if self._reading is None:
            if self._seen < self._noticed and now_monotonic_s >= self._next_at:
                self._reading = (self._noticed, self._ask(self._first))
            return []
        noticed, asked = self._reading
        if not asked.done():
            return []
        self._reading = None
        if (problem := asked.exception()) is not None:
            self._retry_later(now_monotonic_s, problem)
            return []
        self._absence = absence = asked.result()
        if absence is None:
            self._seen = noticed
            return []
        self._next_at = now_monotonic_s + (0.0 if idle else BUSY_PAUSE_S)
        triggers = triggers_before(absence.before, absence.unseen)[:CHUNK]
        return [_answer(absence, trigger) for trigger in triggers]

    def store(self, statements: Sequence[Statement]) -> None:
        """Begin to store the verdicts on what was due."""
        absence, records = self._absence, [statement.record(time.monotonic()) for statement in statements]
        if absence is None:
            raise ValueError("nothing was due")
        done = self._ask(lambda session: journal.settle_absence(session, absence, records))
        self._storing = _Storing(statements, records, done)

    def settled(self, now_monotonic_s: float) -> Sequence[Statement]:
        """The verdicts that are stored since the last call; what could not be stored is owed as before."""
        if self._storing is None or not self._storing.done.done():
            return []
        storing, self._storing = self._storing, None
        if (problem := storing.done.exception()) is not None:
            self._retry_later(now_monotonic_s, problem)
            return []
        if not storing.done.result():
            return []
        self._redo.append(storing.records)
        return storing.statements

    def _first(self, session: Session) -> AbsenceRow | None:
        return journal.first_absence(session, self._station_id)

    def _ask(self, work: Work) -> "Future[Any]":
        done = self._writer.post(work)
        done.add_done_callback(lambda _: self._wake())
        return done

    def _retry_later(self, now_monotonic_s: float, problem: BaseException) -> None:
        log.warning("parts that passed by unseen wait for the database: %s", problem)
        self._next_at = now_monotonic_s + RETRY_S


def _answer(absence: AbsenceRow, trigger: int) -> Answer:
    part = Part(
        number=0,
        camera=absence.camera,
        frame_id=0,
        part_id="",
        trigger=trigger,
        captured_at=absence.captured_at,
        captured_monotonic_s=time.monotonic(),
        deadline_monotonic_s=0.0,
        epoch=0,
        image=None,
        failure=ErrorCode.MISSED_TRIGGER,
        reason=REASON,
    )
    return replace(refuse(part, part.failure), flags=Flag.LATE)
