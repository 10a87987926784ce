"""What the page Health reads: alarms, challenges, known parts and drift; short read transactions that give plain records.

May import the store and `data`. `now` is handed in.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dashboard import data
from inspector.drift import MIN_PARTS, RUN_IN, SCORE_SIGMAS, rank_sigma
from inspector.store import challenges, drift, labels
from inspector.store.engine import Reader
from inspector.store.products import find_product
from inspector.store.schema import ChallengeMember, ChallengeRun, DriftPoint, InspectionRow, Label, Recipe, Station
from inspector.types import Step, Verdict

NEWEST_RUNS = 30


@dataclass(frozen=True)
class PointView:
    """How the last parts compared; `band` is where the mean p-value lies while nothing has changed."""

    at: datetime
    recipe_id: int
    parts: int
    p_mean: float | None
    band: tuple[float, float]
    err: int
    cause: str
    measures: dict[str, float]


@dataclass(frozen=True)
class RunView:
    """One challenge and what was seen of each known part."""

    id: int
    product: str
    rev: int
    set_no: int
    mode: str
    result: str
    reason: str
    members: list[dict[str, Any]]
    began_at: datetime
    began_by: str
    ended_at: datetime | None
    override_reason: str
    override_by: str


@dataclass(frozen=True)
class MemberView:
    """A known part of a product."""

    id: int
    set_no: int
    name: str
    expected: str
    kind: str
    part: str
    path: str | None


@dataclass(frozen=True)
class HealthView:
    """Everything of the page but points and known parts; `run_in` counts the first accepted parts, None once complete."""

    station: data.StationView
    runs: list[RunView]
    held_by: int | None
    passed: dict[str, datetime | None]
    due: datetime | None
    inspected: int
    waiting: int
    last_point: int
    run_in: int | None

    @property
    def running(self) -> RunView | None:
        """The challenge that runs; one that a killed worker has left is none."""
        newest = self.runs[0] if self.runs else None
        return newest if newest and newest.result == challenges.RUNNING and self.station.challenge else None

    def signature(self, now: datetime) -> Hashable:
        """All that others can change; while it stays the same the page need not be drawn again."""
        station = self.station
        newest = self.runs[0] if self.runs else None
        run = (newest.id, newest.result, newest.override_reason) if newest else None
        state = (station.alive(now), station.alarms, station.held, station.challenge, station.active)
        overdue = self.due is not None and self.due < now
        return (
            state,
            run,
            self.held_by,
            overdue,
            self.inspected,
            self.waiting,
            self.last_point,
            (self.run_in or 0) // 10,
        )


def health(store: Reader, name: str, every_h: float) -> HealthView | None:
    """The state of a station; None if the database does not know it yet."""
    with store.read() as session:
        row = session.scalar(select(Station).where(Station.name == name))
        if row is None:
            return None
        runs = challenges.runs(session, row.id, NEWEST_RUNS)
        held_by = challenges.standing(session, row.id)
        active = row.active_recipe_id
        return HealthView(
            station=data.station_view(session, row),
            runs=[_run_view(run) for run in runs],
            held_by=None if held_by is None else held_by.id,
            passed={mode: _passed_at(session, row.id, mode) for mode in (challenges.PARTS, challenges.PICTURES)},
            due=None if active is None else challenges.due_at(session, row.id, active, every_h),
            inspected=challenges.inspected(session, runs[0]) if runs and runs[0].result == challenges.RUNNING else 0,
            waiting=len(data.waiting(session, row.id)),
            last_point=session.scalar(select(func.max(DriftPoint.id)).where(DriftPoint.station_id == row.id)) or 0,
            run_in=_run_in(session, row),
        )


def points(store: Reader, station_id: int, since: datetime) -> list[PointView]:
    """Points of the chart, oldest first."""
    with store.read() as session:
        rows = drift.points(session, station_id, since)
        sizes = {recipe_id: _base_size(session, recipe_id) for recipe_id in {row.recipe_id for row in rows}}
        return [_point_view(row, sizes[row.recipe_id]) for row in rows]


def members(store: Reader, product: str) -> list[MemberView]:
    """The known parts of a product, in their order."""
    with store.read() as session:
        rows = challenges.members(session, find_product(session, product).id)
        return [_member_view(row) for row in rows]


def labelled(store: Reader, product: str) -> list[Label]:
    """Parts of a product that people have labelled good or defect, newest first."""
    with store.read() as session:
        said = labels.current(session, find_product(session, product).id, (labels.GOOD, labels.DEFECT))
        return said[::-1]


def in_doubt(store: Reader, station_id: int, number: int | None, limit: int) -> tuple[list[data.PartView], int]:
    """Parts that a failed challenge, or (None) an overdue one, puts in doubt, oldest first, and how many they are in all."""
    with store.read() as session:
        if number is None:
            doubt = challenges.doubt_now(session, station_id)
        else:
            doubt = challenges.doubt_of(session, challenges.get_run(session, number))
        rows = challenges.doubted(session, doubt, limit)
        return [data.part_view(row) for row in rows], challenges.count_doubted(session, doubt)


def label_name(label: Label) -> str:
    """Name of the known part that is made from a labelled picture: the same one each time."""
    number = f" #{label.id}"
    return f"{Path(label.name).stem[: 64 - len(number)]}{number}"


def _passed_at(session: Session, station_id: int, mode: str) -> datetime | None:
    passed = challenges.last_passed(session, station_id, mode)
    return None if passed is None else passed.ended_at


def _run_in(session: Session, station: Station) -> int | None:
    """How many parts of the active recipe were accepted since the start of the worker, if its run-in is not complete."""
    recipe_id = station.active_recipe_id
    if recipe_id is None or drift.run_in(session, station.id, recipe_id):
        return None
    query = select(func.count()).where(
        InspectionRow.station_id == station.id,
        InspectionRow.boot == station.boot,
        InspectionRow.recipe_id == recipe_id,
        InspectionRow.verdict == int(Verdict.OK),
        challenges.PRODUCTION,
    )
    return min(session.scalar(query) or 0, RUN_IN)


def _base_size(session: Session, recipe_id: int) -> int:
    """With how many scores the parts of a recipe are compared: those of its confirmed parts, or of its run-in."""
    recipe = session.get(Recipe, recipe_id)
    n = 0 if recipe is None or recipe.calibration_kind == Step.PROVISIONAL else recipe.calibration_n or 0
    return n if n >= MIN_PARTS else RUN_IN


def _point_view(row: DriftPoint, base_size: int) -> PointView:
    apart = SCORE_SIGMAS * rank_sigma(base_size, max(row.parts, MIN_PARTS))
    band = (max(0.0, 0.5 - apart), min(1.0, 0.5 + apart))
    return PointView(row.at, row.recipe_id, row.parts, row.p_mean, band, row.err, row.cause, row.measures)


def _run_view(row: ChallengeRun) -> RunView:
    names = (name for name in RunView.__dataclass_fields__ if name not in ("product", "rev"))
    values = {name: getattr(row, name) for name in names}
    return RunView(product=row.recipe.product.name, rev=row.recipe.rev, **values)


def _member_view(row: ChallengeMember) -> MemberView:
    return MemberView(**{name: getattr(row, name) for name in MemberView.__dataclass_fields__})
