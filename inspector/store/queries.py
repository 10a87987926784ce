"""What pages and programs ask the database for; each in one short read."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, joinedload, selectinload

from inspector.errors import NotFoundError
from inspector.store.challenges import PRODUCTION
from inspector.store.schema import Audit, InspectionRow, OutboxRow, Product, Recipe
from inspector.types import Verdict


@dataclass(frozen=True)
class InspectionFilter:
    """What to search for; None takes all."""

    station_id: int | None = None
    product: str | None = None
    verdicts: tuple[Verdict, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    part: str | None = None
    err: int | None = None


def latest_inspections(session: Session, station_id: int, limit: int = 20) -> list[InspectionRow]:
    """Newest first, with their recipe and product."""
    query = _with_recipe(select(InspectionRow)).where(InspectionRow.station_id == station_id)
    return list(session.scalars(query.order_by(InspectionRow.id.desc()).limit(limit)))


def counters(session: Session, station_id: int, since: datetime | None = None) -> dict[Verdict, int]:
    """How many parts of the production have each verdict, from `since` on."""
    query = select(InspectionRow.verdict, func.count()).where(InspectionRow.station_id == station_id, PRODUCTION)
    if since is not None:
        query = query.where(InspectionRow.captured_at >= since)
    found = {Verdict(verdict): count for verdict, count in session.execute(query.group_by(InspectionRow.verdict))}
    return {verdict: found.get(verdict, 0) for verdict in Verdict}


def search_inspections(
    session: Session, wanted: InspectionFilter, *, offset: int = 0, limit: int = 50
) -> tuple[list[InspectionRow], int]:
    """One page, newest first, and how many there are in all."""
    query = _filtered(select(InspectionRow), wanted)
    total = session.scalar(select(func.count()).select_from(query.subquery())) or 0
    page = _with_recipe(query).order_by(InspectionRow.id.desc()).offset(offset).limit(limit)
    return list(session.scalars(page)), total


def inspection(session: Session, inspection_id: int) -> InspectionRow:
    """One verdict with regions, recipe and product."""
    query = _with_recipe(select(InspectionRow)).options(selectinload(InspectionRow.regions))
    row: InspectionRow | None = session.scalar(query.where(InspectionRow.id == inspection_id))
    if row is None:
        raise NotFoundError(f"there is no verdict {inspection_id}")
    return row


def outbox_size(session: Session, station_id: int) -> int:
    """Messages that the broker has not acknowledged."""
    query = select(func.count()).select_from(OutboxRow).where(OutboxRow.station_id == station_id)
    return session.scalar(query) or 0


def saved_pictures(session: Session, station_id: int) -> int:
    """How many verdicts keep a picture."""
    query = select(func.count()).select_from(InspectionRow)
    where = (InspectionRow.station_id == station_id, InspectionRow.image_path.is_not(None))
    return session.scalar(query.where(*where)) or 0


def audit_tail(session: Session, limit: int = 50) -> list[Audit]:
    """Who did what, newest first."""
    return list(session.scalars(select(Audit).order_by(Audit.id.desc()).limit(limit)))


def latest_of_product(session: Session, product_id: int, limit: int) -> list[InspectionRow]:
    """The newest scored verdicts of a product's production whose pictures are kept, newest first."""
    query = select(InspectionRow).join(Recipe, InspectionRow.recipe_id == Recipe.id)
    where = (
        Recipe.product_id == product_id,
        InspectionRow.image_path.is_not(None),
        InspectionRow.score.is_not(None),
        PRODUCTION,
    )
    return list(session.scalars(query.where(*where).order_by(InspectionRow.id.desc()).limit(limit)))


def _with_recipe(query: Select[Any]) -> Select[Any]:
    return query.options(joinedload(InspectionRow.recipe).joinedload(Recipe.product))


def _filtered(query: Select[Any], wanted: InspectionFilter) -> Select[Any]:
    if wanted.station_id is not None:
        query = query.where(InspectionRow.station_id == wanted.station_id)
    if wanted.product:
        query = (
            query.join(Recipe, InspectionRow.recipe_id == Recipe.id).join(Product).where(Product.name == wanted.product)
        )
    if wanted.verdicts:
        query = query.where(InspectionRow.verdict.in_([int(verdict) for verdict in wanted.verdicts]))
    if wanted.since is not None:
        query = query.where(InspectionRow.captured_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(InspectionRow.captured_at < wanted.until)
    if wanted.part:
        query = query.where(InspectionRow.part.icontains(wanted.part, autoescape=True))
    if wanted.err is not None:
        query = query.where(InspectionRow.err == wanted.err)
    return query
