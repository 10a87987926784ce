"""What the plant's central database is given: the rows of a station in their order, from where the copy stands.

May import the tables. The place is kept beside the rows, in the same database: whatever happens to that database, the place
belongs to the rows that are there, also when a backup takes over. Rows are read as plain values, a batch at a time.
"""

import json
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from inspector.store.schema import CentralCopy, InspectionRow, Label, Product, Recipe, RegionRow

Row = dict[str, Any]
IDENTITY = ("boot", "seq", "captured_at")
LABELS_AT_ONCE = 200
SETTLED = timedelta(seconds=5)
"""Labels come from several programs; on PostgreSQL a smaller id may appear after a larger one, within moments."""

_VERDICT = (
    InspectionRow.boot, InspectionRow.seq, InspectionRow.captured_at, InspectionRow.trg, InspectionRow.camera,
    InspectionRow.frame_id, InspectionRow.part, InspectionRow.verdict, InspectionRow.err, InspectionRow.flg,
    InspectionRow.recipe_id, InspectionRow.score, InspectionRow.threshold, InspectionRow.roi, InspectionRow.latency_ms,
    InspectionRow.detail, InspectionRow.acc, InspectionRow.rsn,
)  # fmt: skip
_REGION = (
    RegionRow.position, RegionRow.x_px, RegionRow.y_px, RegionRow.width_px, RegionRow.height_px, RegionRow.area_px,
    RegionRow.area_fraction, RegionRow.peak, RegionRow.mean_excess,
)  # fmt: skip
_LABEL = (
    Label.at, Label.who, Label.label, Label.kind, Label.region, Label.lesson, Label.blind, Label.source,
)  # fmt: skip
_KEY = (InspectionRow.boot, InspectionRow.seq, InspectionRow.captured_at)


@dataclass(frozen=True)
class Place:
    """How far the copy has come; ids of this database, which `installation` names."""

    installation: str
    verdict_id: int
    label_id: int
    disposition_no: int
    rewinds: int

    @property
    def cursors(self) -> dict[str, int]:
        """What is copied up to where, by the names that it has in both databases."""
        return {"verdict_id": self.verdict_id, "label_id": self.label_id, "disposition_no": self.disposition_no}


@dataclass(frozen=True)
class Batch:
    """Rows from `start` on, and the place behind them; `recipes` by the id that the verdicts name.

    `dispositions` are of verdicts that were copied before; a verdict of this batch has its own in its row.
    """

    start: Place
    end: Place
    verdicts: tuple[Row, ...]
    regions: tuple[Row, ...]
    recipes: dict[int, Row]
    labels: tuple[Row, ...]
    dispositions: tuple[Row, ...]
    full: bool

    @property
    def is_empty(self) -> bool:
        return not (self.verdicts or self.labels or self.dispositions)


def begin(session: Session, station_id: int) -> None:
    """From now on the rows of this station are copied, from the oldest on."""
    if session.get(CentralCopy, station_id) is None:
        session.add(CentralCopy(station_id=station_id, installation=uuid.uuid4().hex, rewinds=0))


def place_of(session: Session, station_id: int) -> Place | None:
    """Where the copy stands; None before `begin`."""
    row = session.get(CentralCopy, station_id)
    if row is None:
        return None
    return Place(row.installation, row.verdict_id, row.label_id, row.disposition_no, row.rewinds)


def next_disposition(session: Session, station_id: int) -> int | None:
    """The number of what the PLC has said just now; None before `begin`: the verdict will be copied with it."""
    row = session.get(CentralCopy, station_id)
    if row is None:
        return None
    row.dispositions += 1
    return row.dispositions


def next_batch(session: Session, station_id: int, place: Place, limit: int, now: datetime) -> Batch:
    """At most `limit` verdicts behind the place; labels follow once all verdicts are there.

    Dispositions go along with them, at most twice as many, so that they catch up with the verdicts.
    """
    said = _next_dispositions(session, station_id, place, 2 * limit)  # first: what comes later is in the verdicts' rows
    mine = select(InspectionRow.id, *_VERDICT).where(InspectionRow.station_id == station_id)
    found = session.execute(mine.where(InspectionRow.id > place.verdict_id).order_by(InspectionRow.id).limit(limit))
    verdicts = [dict(row) for row in found.mappings()]
    ids = [row.pop("id") for row in verdicts]
    full = len(verdicts) == limit
    end = replace(place, verdict_id=ids[-1]) if ids else place
    known = list(takewhile(lambda row: row["id"] <= end.verdict_id, said))
    end = replace(end, disposition_no=known[-1]["disposition_no"]) if known else end
    labels: list[Row] = []
    if not full:
        labels, label_id = _next_labels(session, station_id, end, now)
        end = replace(end, label_id=label_id)
    return Batch(
        start=place,
        end=end,
        verdicts=tuple(_plain(row) | {"detail": _plain_json(row["detail"])} for row in verdicts),
        regions=_regions(session, ids),
        recipes=_recipes(session, {row["recipe_id"] for row in verdicts} - {None}),
        labels=tuple(_plain(row) for row in labels),
        dispositions=tuple(
            {key: row[key] for key in (*IDENTITY, "acc", "rsn")} for row in known if row["id"] <= place.verdict_id
        ),
        full=full or len(known) == 2 * limit,
    )


def advance(session: Session, station_id: int, batch: Batch) -> None:
    """The batch is in the central database; a place that was sent back meanwhile stays where it is."""
    here = (CentralCopy.station_id == station_id, CentralCopy.rewinds == batch.start.rewinds)
    session.execute(update(CentralCopy).where(*here).values(batch.end.cursors))


def go_back(session: Session, station_id: int, **cursors: int) -> None:
    """Copy again what lies behind these (see `Place.cursors`), others stay; without `begin` there is nothing to do."""
    row = session.get(CentralCopy, station_id)
    if row is not None:
        for key, value in cursors.items():
            setattr(row, key, min(getattr(row, key), value))
        row.rewinds += 1


def rows_behind(session: Session, station_id: int, place: Place) -> tuple[int, datetime | None]:
    """How many verdicts are not copied, and the exposure of the oldest of them."""
    where = (InspectionRow.station_id == station_id, InspectionRow.id > place.verdict_id)
    count = session.scalar(select(func.count()).select_from(InspectionRow).where(*where)) or 0
    oldest = select(InspectionRow.captured_at).where(*where).order_by(InspectionRow.id).limit(1)
    return count, session.scalar(oldest) if count else None


def is_copied(station_id: int) -> ColumnElement[bool]:
    """Of a verdict: it and what people and the PLC said of it are in the central database."""
    mine = CentralCopy.station_id == station_id
    verdict_id = func.coalesce(select(CentralCopy.verdict_id).where(mine).scalar_subquery(), 0)
    label_id = func.coalesce(select(CentralCopy.label_id).where(mine).scalar_subquery(), 0)
    labelled = select(Label.inspection_id).where(Label.id > label_id, Label.inspection_id.is_not(None))
    disposition_no = func.coalesce(select(CentralCopy.disposition_no).where(mine).scalar_subquery(), 0)
    said = func.coalesce(InspectionRow.disposition_no, 0) <= disposition_no
    return (InspectionRow.id + 0 <= verdict_id) & InspectionRow.id.not_in(labelled) & said


def _regions(session: Session, ids: Sequence[int]) -> tuple[Row, ...]:
    query = select(*_KEY, *_REGION).join(InspectionRow, RegionRow.inspection_id == InspectionRow.id)
    found = session.execute(query.where(RegionRow.inspection_id.in_(ids)).order_by(RegionRow.id))
    return tuple(_plain(dict(row)) for row in found.mappings())


def _recipes(session: Session, ids: set[int]) -> dict[int, Row]:
    query = select(
        Recipe.id, Product.name.label("product"), Product.rcp, Recipe.rev, Recipe.bank_sha256, Recipe.encoder,
        Recipe.threshold, Recipe.calibration_kind, Recipe.calibration_n,
    ).join(Product, Recipe.product_id == Product.id)  # fmt: skip
    found = [dict(row) for row in session.execute(query.where(Recipe.id.in_(ids))).mappings()]
    return {row.pop("id"): _plain(row | {"bank_sha256": row["bank_sha256"] or ""}) for row in found}


def _next_dispositions(session: Session, station_id: int, place: Place, limit: int) -> list[Row]:
    """What the PLC did, in the order in which it said so, of verdicts that are copied or not."""
    query = select(InspectionRow.id, InspectionRow.disposition_no, *_KEY, InspectionRow.acc, InspectionRow.rsn)
    query = query.where(InspectionRow.station_id == station_id, InspectionRow.disposition_no > place.disposition_no)
    found = session.execute(query.order_by(InspectionRow.disposition_no).limit(limit))
    return [dict(row) for row in found.mappings()]


def _next_labels(session: Session, station_id: int, place: Place, now: datetime) -> tuple[list[Row], int]:
    """Labels of verdicts that are copied, and the id of the last; it ends before one that was given this moment."""
    query = select(Label.id, Label.inspection_id, *_KEY, *_LABEL).join(
        InspectionRow, Label.inspection_id == InspectionRow.id
    )
    query = query.where(InspectionRow.station_id == station_id, Label.id > place.label_id)
    taken, last = [], place.label_id
    for row in session.execute(query.order_by(Label.id).limit(LABELS_AT_ONCE)).mappings():
        if row["inspection_id"] > place.verdict_id or timedelta(0) <= now - row["at"] < SETTLED:
            break
        taken.append({key: value for key, value in row.items() if key not in ("id", "inspection_id")})
        last = row["id"]
    return taken, last


def _plain(row: Row) -> Row:
    """The same without what SQLite can store and PostgreSQL cannot, or not as a number: NUL in texts, NaN."""
    return {key: _plain_value(value) for key, value in row.items()}


def _plain_json(value: Any) -> Any:
    """The same for JSON; most has nothing of that, which is quickly seen."""
    text = json.dumps(value)
    if not any(mark in text for mark in ("NaN", "Infinity", "\\u0000")):
        return value
    if isinstance(value, dict):
        return {_plain_value(key): _plain_json(one) for key, one in value.items()}
    return [_plain_json(one) for one in value] if isinstance(value, list) else _plain_value(value)


def _plain_value(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "")
    return None if isinstance(value, float) and not math.isfinite(value) else value
