"""Verdicts on parts that passed by unseen in a long absence: a few at a time, between the batches of those that are there.

May import the store's journal, `gaps`, `parts` and the contract's codes. The absence stands in the database from the moment
it shows, and each transaction stores some verdicts and shortens it, so that a restart goes on where it ended. Thousands at
once would keep the line's own verdicts waiting for seconds.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from edge.gaps import triggers_before
from edge.ledger import COMMIT_TIMEOUT_S
from edge.parts import Part
from edge.verdicts import Answer, Statement, refuse
from inspector.contract.codes import ErrorCode, Flag
from inspector.errors import StoreError
from inspector.store import journal
from inspector.store.redo import RedoLog
from inspector.store.schema import AbsenceRow
from inspector.store.writer import StoreWriter

log = logging.getLogger(__name__)

CHUNK = 25
BUSY_PAUSE_S, RETRY_S = 0.25, 1.0
REASON = "the trigger passed by unseen"


class Absences:
    """What is owed. Used by the inference thread alone."""

    def __init__(self, writer: StoreWriter, station_id: int, redo: RedoLog) -> None:
        self._writer = writer
        self._redo = redo
        self._station_id = station_id
        self._may_be_owed = True
        self._next_at = 0.0

    def noticed(self) -> None:
        """A verdict that told of an absence is stored."""
        self._may_be_owed = True

    def due(self, now_monotonic_s: float, *, idle: bool) -> tuple[AbsenceRow, list[Answer]] | None:
        """The next few answers that are owed; a busy line is asked for them only four times a second."""
        if not self._may_be_owed or now_monotonic_s < self._next_at:
            return None
        self._next_at = now_monotonic_s + (0.0 if idle else BUSY_PAUSE_S)
        try:
            with self._writer.store.read() as session:
                absence = journal.first_absence(session, self._station_id)
        except StoreError as error:
            log.warning("parts that passed by unseen wait for the database: %s", error)
            self._next_at = now_monotonic_s + RETRY_S
            return None
        if absence is None:
            self._may_be_owed = False
            return None
        triggers = triggers_before(absence.before, absence.unseen)[:CHUNK]
        return absence, [_answer(absence, trigger) for trigger in triggers]

    def store(self, absence: AbsenceRow, statements: Sequence[Statement]) -> bool:
        """Store these verdicts; False if they are not, and then they are owed as before."""
        records = [statement.record(time.monotonic()) for statement in statements]
        try:
            stored: bool = self._writer.call(
                lambda session: journal.settle_absence(session, absence, records), timeout_s=COMMIT_TIMEOUT_S
            )
        except StoreError as error:
            log.warning("parts that passed by unseen wait for the database: %s", error)
            self._next_at = time.monotonic() + RETRY_S
            return False
        if stored:
            self._redo.append(records)
        return stored


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
