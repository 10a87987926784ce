"""What may go, and in which order: pictures before rows, good parts before evidence; audit rows never.

Evidence is every part that was not accepted, and each accepted one whose score lies within 10 % of its threshold. Pictures of
labels, studies and challenges are copies of their own and never listed here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from inspector.store.schema import InspectionRow, OutboxRow
from inspector.types import Verdict

NEAR = 0.9
"""From this share of its threshold on an accepted part is evidence."""
EXPENDABLE = and_(
    InspectionRow.verdict == int(Verdict.OK),
    or_(
        InspectionRow.score.is_(None),
        InspectionRow.threshold.is_(None),
        InspectionRow.score < NEAR * InspectionRow.threshold,
    ),
)
"""Never NULL, so that its negation is everything else."""


@dataclass(frozen=True)
class Picture:
    """The files of one verdict, below the data folder."""

    inspection_id: int
    paths: tuple[str, ...]


def expendable(session: Session, station_id: int, limit: int) -> list[Picture]:
    """Pictures in the order in which they go when there are too many: expendable ones first, then the oldest."""
    kept = (InspectionRow.station_id == station_id, InspectionRow.image_path.is_not(None))
    found: list[Picture] = []
    for wanted in (EXPENDABLE, ~EXPENDABLE):
        if len(found) < limit:
            query = select(InspectionRow).where(*kept, wanted).order_by(InspectionRow.id)
            found += [_picture(row) for row in session.scalars(query.limit(limit - len(found)))]
    return found


def outdated(
    session: Session, station_id: int, *, ok_before: datetime | None, evidence_before: datetime | None, limit: int
) -> list[Picture]:
    """Pictures that are older than they have to be; None for no limit."""
    found: list[Picture] = []
    for before, wanted in ((ok_before, EXPENDABLE), (evidence_before, ~EXPENDABLE)):
        if before is not None:
            found += _of(session, station_id, and_(wanted, InspectionRow.captured_at < before), limit)
    return found[:limit]


def beyond_sample(session: Session, station_id: int, *, before: datetime, every: int, limit: int) -> list[Picture]:
    """Pictures of good parts from before `before`, all but those of every n-th part."""
    wanted = and_(EXPENDABLE, InspectionRow.captured_at < before, InspectionRow.seq % every != 0)
    return _of(session, station_id, wanted, limit)


def forget_pictures(session: Session, inspection_ids: Sequence[int]) -> None:
    """The pictures of these verdicts are gone; the verdicts stay."""
    gone = {"image_path": None, "map_path": None}
    session.execute(update(InspectionRow).where(InspectionRow.id.in_(inspection_ids)).values(gone))


def known_pictures(session: Session, paths: Sequence[str]) -> set[str]:
    """Which of these files belong to a verdict."""
    columns = (InspectionRow.image_path, InspectionRow.map_path)
    return {path for column in columns for path in session.scalars(select(column).where(column.in_(paths))) if path}


def old_rows(session: Session, station_id: int, before: datetime, limit: int) -> list[Picture]:
    """Verdicts from before `before` whose messages are all delivered; the last of each camera stays, for its trigger."""
    last = select(func.max(InspectionRow.id)).where(InspectionRow.station_id == station_id)
    query = select(InspectionRow).where(
        InspectionRow.station_id == station_id,
        InspectionRow.captured_at < before,
        InspectionRow.id.not_in(select(OutboxRow.inspection_id)),
        InspectionRow.id.not_in(last.group_by(InspectionRow.camera)),
    )
    return [_picture(row) for row in session.scalars(query.order_by(InspectionRow.id).limit(limit))]


def remove_rows(session: Session, inspection_ids: Sequence[int]) -> None:
    """Delete verdicts with their regions; labels and studies keep their own copies."""
    session.execute(delete(InspectionRow).where(InspectionRow.id.in_(inspection_ids)))


def _of(session: Session, station_id: int, wanted: ColumnElement[bool], limit: int) -> list[Picture]:
    kept = (InspectionRow.station_id == station_id, InspectionRow.image_path.is_not(None))
    query = select(InspectionRow).where(*kept, wanted).order_by(InspectionRow.id).limit(limit)
    return [_picture(row) for row in session.scalars(query)]


def _picture(row: InspectionRow) -> Picture:
    return Picture(row.id, tuple(path for path in (row.image_path, row.map_path) if path is not None))
