"""Answers for the parts that a killed worker left without a verdict: NONE (503), one row each, told on `late`.

May import the store's journal, `inflight` and `verdicts`. It runs before the worker sees its first part, so that the rows
are there when the trigger counter is compared.
"""

import logging
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from edge.inflight import LeftOver, left_behind
from edge.parts import Part
from edge.verdicts import Statement, refuse
from inspector.contract.codes import ErrorCode
from inspector.store import journal
from inspector.store.journal import VerdictRecord
from inspector.store.redo import RedoLog
from inspector.store.schema import InspectionRow
from inspector.store.writer import StoreWriter

log = logging.getLogger(__name__)

REASON = "the worker ended before this part had its verdict"


def answer_left_overs(path: Path, writer: StoreWriter, station_id: int, boot: int, redo: RedoLog) -> int:
    """Commit a verdict for each of them under the new `boot`; gives how many, which is the last `seq` that is used.

    A part whose verdict was committed just before its worker died has its row already and gets no second one.

    Raises:
        StoreError: the database cannot be used; the file stays as it is.
    """
    left = left_behind(path)
    if not left:
        return 0

    def commit(session: Session) -> list[VerdictRecord]:
        owed = [one for one in left if not _has_verdict(session, station_id, one)]
        records = [
            Statement(refuse(_part(number, one), ErrorCode.ABORTED, REASON), number, boot).record(0.0)
            for number, one in enumerate(owed, start=1)
        ]
        journal.commit_verdicts(session, station_id, records)
        return records

    records = writer.call(commit)
    if count := len(records):
        redo.append(records)
        log.warning("%d parts of before the restart get NONE (%d): %s", count, ErrorCode.ABORTED, REASON)
    return count


def _has_verdict(session: Session, station_id: int, left: LeftOver) -> bool:
    """Whether the part got its row just before its worker died, or from a worker that died while it answered."""
    query = select(InspectionRow.id).where(
        InspectionRow.station_id == station_id,
        InspectionRow.captured_at == left.captured_at,
        InspectionRow.camera == left.camera,
        InspectionRow.frame_id == left.frame_id,
        InspectionRow.trg == left.trigger,
        InspectionRow.part == left.part_id,
    )
    return session.scalar(query.limit(1)) is not None


def _part(number: int, left: LeftOver) -> Part:
    return Part(
        number=number,
        camera=left.camera,
        frame_id=left.frame_id,
        part_id=left.part_id,
        trigger=left.trigger,
        captured_at=left.captured_at,
        captured_monotonic_s=0.0,
        deadline_monotonic_s=0.0,
        epoch=0,
        image=None,
        failure=ErrorCode.ABORTED,
        reason=REASON,
        unseen=left.unseen,
    )
