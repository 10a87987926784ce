"""What the pages read: short read transactions that give plain records, so that no page holds a session.

May import the store. Ages are differences of UTC times of one plant's clocks; `now` is handed in.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zlib import crc32

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload, selectinload

from inspector.contract.codes import StationMode, StationState
from inspector.promises import needed_for
from inspector.store import challenges, labels, queries
from inspector.store.engine import Reader
from inspector.store.products import find_product, revision_with
from inspector.store.schema import Activation, Command, InspectionRow, Label, Product, Recipe, Station
from inspector.store.stations import previous_recipe
from inspector.types import Verdict

REVIEWED = 500
"""Of the newest verdicts that nobody has labelled, so many wait on the page."""
STALE_AFTER_S = 5.0
SOURCE = "dashboard"


@dataclass(frozen=True)
class RecipeView:
    """One revision of a product, without its references."""

    id: int
    product: str
    rcp: int
    rev: int
    status: str
    progress: float
    message: str
    threshold: float | None
    calibration_kind: str | None
    calibration_n: int | None
    calibration: dict[str, Any]
    report: dict[str, Any]
    encoder: str | None
    created_at: datetime
    created_by: str
    built_at: datetime | None

    @property
    def title(self) -> str:
        return f"{self.product}, revision {self.rev}"

    @property
    def busy(self) -> bool:
        return self.status in ("queued", "building")

    @property
    def escapes(self) -> list[dict[str, Any]]:
        """Confirmed defects that it would let pass; while there are any, it is not activated without a reason."""
        return [] if self.report.get("override") else list(self.report.get("escapes", []))


@dataclass(frozen=True)
class Reviewed:
    """What people have said of a product's parts; of rejects and of the blind sample of OK parts, how many were wrong."""

    good: int
    defects: int
    unusable: int
    rejects: int
    rejects_good: int
    accepted: int
    accepted_bad: int


@dataclass(frozen=True)
class AlarmView:
    """One active alarm; `source` is a camera or what watches, `confirmed` that somebody has seen it."""

    err: int
    source: str
    text: str
    since: datetime
    confirmed: bool


@dataclass(frozen=True)
class StationView:
    """A station as the worker last described it, at `seen_at`; None if no worker has ever been there."""

    id: int
    name: str
    state: StationState
    mode: StationMode
    err: int
    queue: int
    frame_age_s: float
    broker_connected: bool
    broker_problem: str
    seen_at: datetime | None
    active: RecipeView | None
    alarms: tuple[AlarmView, ...] = ()
    halted: bool = False
    """Halted by a command: a start is refused until a reset."""
    held: int = 0
    """Error code for which no part is accepted although it is scored; 0: the station is not held."""
    challenge: bool = False
    """A challenge runs."""

    @property
    def is_held(self) -> bool:
        """Whether parts of the production are scored and not accepted; a camera's fault is told first."""
        return bool(self.held) and self.state is not StationState.ERROR and self.mode is not StationMode.CHALLENGE

    def age_s(self, now: datetime) -> float | None:
        return None if self.seen_at is None else (now - self.seen_at) / timedelta(seconds=1)

    def alive(self, now: datetime) -> bool:
        """Whether the worker writes its state; one from the future (a clock was set back) is no sign of life."""
        age_s = self.age_s(now)
        return age_s is not None and abs(age_s) <= STALE_AFTER_S


@dataclass(frozen=True)
class PartView:
    """One verdict in a list."""

    id: int
    captured_at: datetime
    part: str
    trg: int
    seq: int
    camera: str
    verdict: Verdict
    err: int
    score: float | None
    threshold: float | None
    latency_ms: float
    product: str
    rcp: int
    rev: int
    image_path: str | None
    map_path: str | None

    @property
    def name(self) -> str:
        """The part's own name, or the number by which people find it."""
        return self.part or (f"trigger {self.trg}" if self.trg else f"no. {self.seq}")


@dataclass(frozen=True)
class CommandView:
    """What has become of a command."""

    name: str
    payload: dict[str, Any]
    status: str
    code: int | None
    created_at: datetime


@dataclass(frozen=True)
class LiveView:
    """Everything that the live page shows, read in one transaction."""

    station: StationView
    counts: dict[Verdict, int]
    parts: list[PartView]
    trend: list[PartView]
    waiting: list[CommandView]


@dataclass(frozen=True)
class ReferenceView:
    """One normal picture of a recipe; `findings` as they are stored, the accepted ones too."""

    name: str
    path: str
    score: float | None
    warning: str
    id: int = 0
    findings: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class ActivationView:
    """When which recipe became active, and by whom."""

    at: datetime
    recipe: RecipeView
    who: str


@dataclass(frozen=True)
class ProductsView:
    """Products with their revisions (newest first), and what can be rolled back to."""

    station: StationView | None
    products: dict[str, list[RecipeView]]
    activations: list[ActivationView] = field(default_factory=list)
    rollback: RecipeView | None = None
    waiting: int = 0  # commands of operators that are not done yet


def station_names(store: Reader) -> list[str]:
    with store.read() as session:
        return list(session.scalars(select(Station.name).order_by(Station.name)))


def seen_at(store: Reader, station: str) -> datetime | None:
    """When the worker of a station last wrote its state; None if it never has."""
    with store.read() as session:
        return session.scalar(select(Station.seen_at).where(Station.name == station))


def live(store: Reader, station: str, *, since: datetime, strip: int, trend: int) -> LiveView | None:
    """What happens at a station; None if the database does not know it yet."""
    with store.read() as session:
        row = session.scalar(select(Station).where(Station.name == station))
        if row is None:
            return None
        latest = [part_view(part) for part in queries.latest_inspections(session, row.id, max(strip, trend))]
        return LiveView(
            station=station_view(session, row),
            counts=queries.counters(session, row.id, since),
            parts=latest[:strip],
            trend=latest[:trend],
            waiting=waiting(session, row.id),
        )


def products(store: Reader, station: str) -> ProductsView:
    """All products; what is active where, and since when."""
    with store.read() as session:
        row = session.scalar(select(Station).where(Station.name == station))
        found = session.scalars(select(Product).options(selectinload(Product.recipes)).order_by(Product.name))
        by_name = {product.name: [_recipe_view(recipe) for recipe in reversed(product.recipes)] for product in found}
        if row is None:
            return ProductsView(None, by_name)
        query = select(Activation, Recipe).join(Recipe, Activation.recipe_id == Recipe.id)
        query = query.options(joinedload(Recipe.product)).where(Activation.station_id == row.id)
        history = session.execute(query.order_by(Activation.id.desc()).limit(50))
        rollback = previous_recipe(session, row.id)
        return ProductsView(
            station_view(session, row),
            by_name,
            [ActivationView(act.activated_at, _recipe_view(recipe), act.activated_by) for act, recipe in history],
            None if rollback is None else _recipe_view(rollback),
            len(waiting(session, row.id)),
        )


def recipe_with(store: Reader, product: str, reference: str) -> RecipeView | None:
    """The revision that took in a picture as its reference; None if no revision has."""
    with store.read() as session:
        recipe = revision_with(session, find_product(session, product).id, reference)
        return None if recipe is None else _recipe_view(recipe)


def parts(store: Reader, inspection_ids: Sequence[int]) -> list[PartView]:
    """These verdicts, newest first; those that were tidied away are left out."""
    query = select(InspectionRow).where(InspectionRow.id.in_(inspection_ids))
    query = query.options(joinedload(InspectionRow.recipe).joinedload(Recipe.product))
    with store.read() as session:
        return [part_view(row) for row in session.scalars(query.order_by(InspectionRow.id.desc()))]


def references(store: Reader, recipe_id: int) -> list[ReferenceView]:
    with store.read() as session:
        recipe = session.get(Recipe, recipe_id)
        rows = [] if recipe is None else recipe.references
        return [ReferenceView(row.name, row.path, row.score, row.warning, row.id, list(row.findings)) for row in rows]


def search(store: Reader, wanted: queries.InspectionFilter, *, offset: int, limit: int) -> tuple[list[PartView], int]:
    """One page of verdicts, newest first, and how many there are in all."""
    with store.read() as session:
        rows, total = queries.search_inspections(session, wanted, offset=offset, limit=limit)
        return [part_view(row) for row in rows], total


def errors_seen(store: Reader, since: datetime | None) -> list[int]:
    """Which error codes there are, for the filter."""
    query = select(InspectionRow.err).where(InspectionRow.err != 0)
    if since is not None:
        query = query.where(InspectionRow.captured_at >= since)
    with store.read() as session:
        return sorted(session.scalars(query.distinct()))


def to_review(store: Reader, station: str, verdicts: Sequence[Verdict], *, sample: bool) -> list[int]:
    """Verdicts that wait for a person, newest first; a sample is a random order that stays the same."""
    with store.read() as session:
        row = session.scalar(select(Station).where(Station.name == station))
        if row is None:
            return []
        wanted = [int(verdict) for verdict in verdicts]
        found = [one.id for one in labels.unlabelled(session, row.id, wanted, REVIEWED)]
    return sorted(found, key=lambda number: crc32(str(number).encode())) if sample else found


def scored(store: Reader, recipe_id: int, limit: int) -> list[PartView]:
    """The newest parts that one revision has scored, newest first."""
    query = select(InspectionRow).where(
        InspectionRow.recipe_id == recipe_id, InspectionRow.score.is_not(None), challenges.PRODUCTION
    )
    query = query.options(joinedload(InspectionRow.recipe).joinedload(Recipe.product))
    with store.read() as session:
        return [part_view(row) for row in session.scalars(query.order_by(InspectionRow.id.desc()).limit(limit))]


def labels_of(store: Reader, inspection_ids: Sequence[int]) -> dict[int, Label]:
    """The newest label of each of these verdicts that has one."""
    with store.read() as session:
        return labels.of_inspections(session, inspection_ids)


def reviewed(store: Reader, product: str) -> Reviewed:
    """What the newest labels of a product's pictures say, and how often the verdict was wrong by them."""
    with store.read() as session:
        said = labels.current(session, find_product(session, product).id)
        numbers = [one.inspection_id for one in said if one.inspection_id is not None]
        query = select(InspectionRow.id, InspectionRow.verdict).where(InspectionRow.id.in_(numbers))
        verdicts = {number: Verdict(verdict) for number, verdict in session.execute(query)}
    judged = [(one, verdicts.get(one.inspection_id or 0)) for one in said if one.label != labels.UNUSABLE]
    rejects = [one for one, verdict in judged if verdict is Verdict.NG]
    accepted = [one for one, verdict in judged if verdict is Verdict.OK and one.blind]
    return Reviewed(
        good=sum(one.label == labels.GOOD for one in said),
        defects=sum(one.label == labels.DEFECT for one in said),
        unusable=sum(one.label == labels.UNUSABLE for one in said),
        rejects=len(rejects),
        rejects_good=sum(one.label == labels.GOOD for one in rejects),
        accepted=len(accepted),
        accepted_bad=sum(one.label == labels.DEFECT for one in accepted),
    )


def wish_fault(target: float, good: int) -> str:
    """Why a wished rate of false rejects cannot be had with so many confirmed good parts; empty if it can."""
    if target <= 0.0 or good >= needed_for(target):
        return ""
    return (
        f"{100 * target:g} % needs {needed_for(target)} confirmed good parts, but there are {good}; "
        f"with {good}, {100 / (good + 1):.1f} % can be wished."
    )


def inspection(store: Reader, inspection_id: int) -> InspectionRow:
    """One verdict with its regions and recipe, loaded in full.

    Raises:
        NotFoundError: there is none with this number.
    """
    with store.read() as session:
        return queries.inspection(session, inspection_id)


def command(store: Reader, station_id: int, cid: int) -> CommandView | None:
    """What has become of a command of these pages."""
    query = select(Command).where(Command.station_id == station_id, Command.source == SOURCE, Command.cid == cid)
    with store.read() as session:
        row = session.scalar(query)
        return None if row is None else _command_view(row)


def waiting(session: Session, station_id: int) -> list[CommandView]:
    """What operators have asked for and the worker has not done yet; a PLC's own commands are its own affair."""
    query = select(Command).where(Command.station_id == station_id, Command.status != "done")
    rows = session.scalars(query.where(Command.source != "mqtt").order_by(Command.id))
    return [_command_view(row) for row in rows]


def _command_view(row: Command) -> CommandView:
    return CommandView(row.name, row.payload, row.status, row.code, row.created_at)


def station_view(session: Session, row: Station) -> StationView:
    status = row.status
    active = None if row.active_recipe_id is None else session.get(Recipe, row.active_recipe_id)
    return StationView(
        id=row.id,
        name=row.name,
        state=StationState(status.get("st", StationState.OFFLINE)),
        mode=StationMode(status.get("mode", StationMode.PRODUCTION)),
        err=int(status.get("err", 0)),
        queue=int(status.get("queue", 0)),
        frame_age_s=float(status.get("frame_age_s", 0.0)),
        broker_connected=bool(status.get("broker_connected", False)),
        broker_problem=str(status.get("broker_problem") or ""),
        seen_at=row.seen_at,
        active=None if active is None else _recipe_view(active),
        alarms=tuple(_alarm_view(alarm) for alarm in status.get("alarms", ())),
        halted=bool(status.get("halted", False)),
        held=int(status.get("held", 0)),
        challenge=bool(status.get("challenge", False)),
    )


def _alarm_view(alarm: dict[str, Any]) -> AlarmView:
    since = datetime.fromtimestamp(alarm["since"], UTC)
    return AlarmView(alarm["err"], alarm["src"], alarm["txt"], since, bool(alarm["conf"]))


def _recipe_view(recipe: Recipe) -> RecipeView:
    names = (name for name in RecipeView.__dataclass_fields__ if name not in ("product", "rcp"))
    values = {name: getattr(recipe, name) for name in names}
    return RecipeView(product=recipe.product.name, rcp=recipe.product.rcp, **values)


def part_view(row: InspectionRow) -> PartView:
    names = (name for name in PartView.__dataclass_fields__ if name not in ("verdict", "product", "rcp", "rev"))
    values = {name: getattr(row, name) for name in names}
    recipe = row.recipe
    return PartView(
        verdict=Verdict(row.verdict),
        product="" if recipe is None else recipe.product.name,
        rcp=0 if recipe is None else recipe.product.rcp,
        rev=0 if recipe is None else recipe.rev,
        **values,
    )
