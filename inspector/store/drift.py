"""Rows of drift: the points of the chart, and the run-in that the parts of a recipe are compared with."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from inspector.store.schema import DriftPoint

RUN_IN = "run-in"
"""Cause of the one row of a recipe and station that holds its run-in; not a point of the chart."""


@dataclass(frozen=True)
class Point:
    """How the last parts compared; see `DriftPoint`."""

    recipe_id: int
    at: datetime
    parts: int
    p_mean: float | None
    err: int
    cause: str
    measures: dict[str, float]


def add_point(session: Session, station_id: int, point: Point) -> None:
    session.add(DriftPoint(station_id=station_id, **asdict(point)))


def points(session: Session, station_id: int, since: datetime, limit: int = 5000) -> list[DriftPoint]:
    """Points of the chart, oldest first: the last `limit` since then."""
    query = select(DriftPoint).where(
        DriftPoint.station_id == station_id, DriftPoint.at >= since, DriftPoint.cause != RUN_IN
    )
    return list(session.scalars(query.order_by(DriftPoint.id.desc()).limit(limit)))[::-1]


def keep_run_in(
    session: Session, station_id: int, recipe_id: int, sights: Sequence[dict[str, Any]], now: datetime
) -> None:
    """The first accepted parts of a recipe at a station; kept for as long as the recipe is."""
    session.add(
        DriftPoint(
            station_id=station_id,
            recipe_id=recipe_id,
            at=now,
            parts=len(sights),
            cause=RUN_IN,
            measures={"sights": list(sights)},
        )
    )


def run_in(session: Session, station_id: int, recipe_id: int) -> list[dict[str, Any]]:
    """What `keep_run_in` kept last; empty if nothing."""
    query = select(DriftPoint).where(
        DriftPoint.station_id == station_id, DriftPoint.recipe_id == recipe_id, DriftPoint.cause == RUN_IN
    )
    row = session.scalar(query.order_by(DriftPoint.id.desc()).limit(1))
    return [] if row is None else list(row.measures["sights"])


def remove_points(session: Session, before: datetime) -> None:
    """Old points go; run-ins stay."""
    session.execute(delete(DriftPoint).where(DriftPoint.at < before, DriftPoint.cause != RUN_IN))
