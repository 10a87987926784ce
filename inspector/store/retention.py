"""What may go, and in which order: pictures before rows, good parts before evidence; audit rows never.

Evidence is every part that was not accepted, and each accepted one whose score lies within 10 % of its threshold. Pictures of
labels, studies and challenges are copies of their own and never listed here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from inspector.store.copying import is_copied
from inspector.store.journal import SETTLED_LATER
from inspector.store.schema import InspectionRow, OutboxRow, Station
from inspector.types import Verdict

MAX_CAMERAS = 20
"""More than a station has, the one of challenges included."""
NEAR = 0.9
"""From this share of its threshold on an accepted part is evidence."""

# Among millions of rows only the index of kept pictures is short. These expressions keep a planner from preferring another,
# which would walk through all rows to find none (seen with SQLite 3.40; a test asks for the plan).
_station = InspectionRow.station_id + 0
_verdict = InspectionRow.verdict + 0
_captured_at = func.coalesce(InspectionRow.captured_at, InspectionRow.captured_at)
_OLDEST_FIRST = InspectionRow.id + 0
_FILES = (InspectionRow.id, InspectionRow.image_path, InspectionRow.map_path)

EXPENDABLE = and_(
    _verdict == int(Verdict.OK),
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
    found = _of(session, station_id, EXPENDABLE, limit)
    return found + (_of(session, station_id, ~EXPENDABLE, limit - len(found)) if len(found) < limit else [])


def outdated(
    session: Session, station_id: int, *, ok_before: datetime | None, evidence_before: datetime | None, limit: int
) -> list[Picture]:
    """Pictures that are older than they have to be; None for no limit."""
    found: list[Picture] = []
    for before, wanted in ((ok_before, EXPENDABLE), (evidence_before, ~EXPENDABLE)):
        if before is not None:
            found += _of(session, station_id, and_(wanted, _captured_at < before), limit)
    return found[:limit]


def beyond_sample(session: Session, station_id: int, *, before: datetime, every: int, limit: int) -> list[Picture]:
    """Pictures of good parts from before `before`, all but those of every n-th part."""
    wanted = and_(EXPENDABLE, _captured_at < before, InspectionRow.seq % every != 0)
    return _of(session, station_id, wanted, limit)


def forget_pictures(session: Session, inspection_ids: Sequence[int]) -> None:
    """The pictures of these verdicts are gone; the verdicts stay."""
    gone = {"image_path": None, "map_path": None}
    session.execute(update(InspectionRow).where(InspectionRow.id.in_(inspection_ids)).values(gone))


def known_pictures(session: Session) -> set[str]:
    """All kept pictures of all stations (a data folder may serve several), without their heat maps."""
    known: set[str] = set()
    for station_id in session.scalars(select(Station.id)).all():
        known.update(
            path for path in session.scalars(select(InspectionRow.image_path).where(*_kept(station_id))) if path
        )
    return known


def newest_at(session: Session, station_id: int) -> datetime | None:
    """When the last stored part was seen."""
    query = select(InspectionRow.captured_at).where(InspectionRow.station_id == station_id)
    return session.scalar(query.order_by(InspectionRow.id.desc()).limit(1))


def old_rows(
    session: Session, station_id: int, before: datetime, limit: int, *, only_copied: bool = False
) -> list[Picture]:
    """Verdicts from before `before` whose messages are all delivered; the last of each camera stays, for its trigger.

    So does the newest of all: SQLite would give its id to the next verdict, which would then count as copied.
    `only_copied` keeps those that the plant's central database lacks.
    """
    query = select(*_FILES, InspectionRow.camera).where(
        _station == station_id,
        InspectionRow.captured_at < before,
        InspectionRow.id.not_in(select(OutboxRow.inspection_id)),
    )
    if only_copied:
        query = query.where(is_copied(station_id))
    rows = session.execute(query.order_by(InspectionRow.captured_at).limit(limit + MAX_CAMERAS + 1)).all()
    if not rows:
        return []
    kept = {_last_of(session, station_id, camera) for camera in {row.camera for row in rows}}
    kept.add(session.scalar(select(func.max(InspectionRow.id)).where(InspectionRow.station_id == station_id)))
    return [_picture(*row[:3]) for row in rows if row.id not in kept][:limit]


def remove_rows(session: Session, inspection_ids: Sequence[int]) -> None:
    """Delete verdicts with their regions; labels and studies keep their own copies."""
    session.execute(delete(InspectionRow).where(InspectionRow.id.in_(inspection_ids)))


def _kept(station_id: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return InspectionRow.station_id == station_id, InspectionRow.image_path.is_not(None)


def _of(session: Session, station_id: int, wanted: ColumnElement[bool], limit: int) -> list[Picture]:
    query = select(*_FILES).where(*_kept(station_id), wanted).order_by(_OLDEST_FIRST).limit(limit)
    return [_picture(*row) for row in session.execute(query)]


def _last_of(session: Session, station_id: int, camera: str) -> int | None:
    query = select(InspectionRow.id).where(
        InspectionRow.station_id == station_id, InspectionRow.camera == camera, ~SETTLED_LATER
    )
    return session.scalar(query.order_by(InspectionRow.id.desc()).limit(1))


def _picture(inspection_id: int, *paths: str | None) -> Picture:
    return Picture(inspection_id, tuple(path for path in paths if path is not None))
