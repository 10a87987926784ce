"""Challenges: the known parts of a product, the runs of a station, and the parts that are in doubt after a failed one."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, joinedload

from inspector.errors import NotFoundError, UsageError
from inspector.store.pictures import Picture
from inspector.store.schema import Activation, Audit, ChallengeMember, ChallengeRun, InspectionRow, Product, Recipe

GOOD, DEFECT = "good", "defect"
RUNNING, PASSED, FAILED, ABORTED = "running", "passed", "failed", "aborted"
PARTS, PICTURES = "parts", "pictures"
CHALLENGE_FLAG = 2
"""Bit 1 of `flg`: the verdict is one of a challenge."""
OK = 1
MAX_MEMBERS = 200
PRODUCTION = InspectionRow.flg.op("&")(CHALLENGE_FLAG) == 0
"""Verdicts of parts that are not known ones: known parts count in no statistics of the line."""


@dataclass(frozen=True)
class Known:
    """A part whose verdict is known; `part` is the id it is triggered with, empty: it comes in its turn."""

    name: str
    expected: str
    kind: str = ""
    part: str = ""

    def __post_init__(self) -> None:
        if self.expected not in (GOOD, DEFECT):
            raise UsageError(f"expected {self.expected!r}: a known part is {GOOD!r} or {DEFECT!r}")
        if not 1 <= len(self.name) <= 64 or len(self.kind) > 64 or len(self.part) > 32:
            raise UsageError(f"known part {self.name!r}: name and kind have at most 64 characters, the part's id 32")


def add_member(
    session: Session,
    product: Product,
    known: Known,
    picture: Picture | None = None,
    *,
    set_no: int,
    who: str,
    now: datetime,
) -> ChallengeMember:
    """Add a known part to a set of the product, with a picture (`pictures.staged`) to inspect it without the part.

    Raises:
        UsageError: the name is taken, or the set is full.
        StoreError: the picture cannot be put in its place.
    """
    there = members(session, product.id, set_no)
    if known.name in {member.name for member in there}:
        raise UsageError(f"{known.name!r} is already in challenge set {set_no} of {product.name}")
    if len(there) >= MAX_MEMBERS:
        raise UsageError(f"a challenge set has at most {MAX_MEMBERS} parts")
    last = session.scalar(
        select(func.max(ChallengeMember.position)).where(
            ChallengeMember.product_id == product.id, ChallengeMember.set_no == set_no
        )
    )
    member = ChallengeMember(
        product_id=product.id,
        set_no=set_no,
        position=0 if last is None else last + 1,
        **asdict(known),
        created_at=now,
        created_by=who,
    )
    session.add(member)
    session.flush()
    if picture is not None:
        member.path = picture.move_to(Path("challenge") / str(product.rcp) / f"{member.id}.png")
    _note(
        session, "challenge part", who, now, product=product.name, set=set_no, part=known.name, expected=known.expected
    )
    return member


def members(session: Session, product_id: int, set_no: int | None = None) -> list[ChallengeMember]:
    """The known parts of a product, or of one set of it, in their order, without the retired ones."""
    query = select(ChallengeMember).where(
        ChallengeMember.product_id == product_id, ChallengeMember.retired_at.is_(None)
    )
    if set_no is not None:
        query = query.where(ChallengeMember.set_no == set_no)
    return list(session.scalars(query.order_by(ChallengeMember.set_no, ChallengeMember.position)))


def retire(session: Session, member_id: int, who: str, now: datetime) -> None:
    """Take a known part out of its set; its past results stay."""
    member = session.get(ChallengeMember, member_id)
    if member is None or member.retired_at is not None:
        raise NotFoundError(f"there is no challenge part {member_id}")
    member.retired_at = now
    _note(session, "challenge part retired", who, now, part=member.name, set=member.set_no)


def begin(session: Session, station_id: int, recipe_id: int, set_no: int, mode: str, who: str, now: datetime) -> int:
    """A challenge starts; gives its number. One that a killed worker left running is aborted."""
    for left in session.scalars(
        select(ChallengeRun).where(ChallengeRun.station_id == station_id, ChallengeRun.result == RUNNING)
    ):
        left.result, left.reason, left.ended_at = ABORTED, "the worker ended", now
    last = session.scalar(select(func.max(InspectionRow.id)).where(InspectionRow.station_id == station_id))
    run = ChallengeRun(
        station_id=station_id,
        recipe_id=recipe_id,
        set_no=set_no,
        mode=mode,
        result=RUNNING,
        after_inspection_id=last or 0,
        began_at=now,
        began_by=who,
    )
    session.add(run)
    session.flush()
    _note(session, "challenge begins", who, now, challenge=run.id, set=set_no, mode=mode)
    return run.id


def end(session: Session, run_id: int, result: str, reason: str, seen: Sequence[dict[str, Any]], now: datetime) -> None:
    """What came of a challenge; `seen` is one record for each member."""
    run = get_run(session, run_id)
    run.result, run.reason, run.members, run.ended_at = result, reason, list(seen), now
    _note(session, f"challenge {result}", run.began_by, now, challenge=run_id, reason=reason)


def override(session: Session, run_id: int, reason: str, who: str, now: datetime) -> None:
    """Let the station go on although a challenge failed; audited.

    Raises:
        UsageError: no reason, or it did not fail.
    """
    run = get_run(session, run_id)
    if not reason.strip():
        raise UsageError("an override needs a reason, which is kept with the name of who gave it")
    if run.result != FAILED:
        raise UsageError(f"challenge {run_id} has not failed (it is {run.result}); there is nothing to override")
    run.override_reason, run.override_by = reason.strip(), who
    _note(session, "challenge overridden", who, now, challenge=run_id, reason=reason.strip())


def get_run(session: Session, run_id: int) -> ChallengeRun:
    run = session.get(ChallengeRun, run_id)
    if run is None:
        raise NotFoundError(f"there is no challenge {run_id}")
    return run


def runs(session: Session, station_id: int, limit: int = 50) -> list[ChallengeRun]:
    """Newest first."""
    query = select(ChallengeRun).where(ChallengeRun.station_id == station_id).order_by(ChallengeRun.id.desc())
    joined = joinedload(ChallengeRun.recipe).joinedload(Recipe.product)
    return list(session.scalars(query.options(joined).limit(limit)))


def unsettled(session: Session, station_id: int) -> list[ChallengeRun]:
    """Failed challenges that no later one has settled, also overridden ones; the one with parts before that with pictures.

    One with parts proves camera, light and detector, one with kept pictures the detector alone: a failure with parts is
    settled only by a challenge with parts.
    """
    found = []
    for mode in (PARTS, PICTURES):
        query = select(ChallengeRun).where(
            ChallengeRun.station_id == station_id, ChallengeRun.result == FAILED, ChallengeRun.mode == mode
        )
        failed = session.scalar(query.order_by(ChallengeRun.id.desc()).limit(1))
        passed = last_passed(session, station_id, mode)
        if failed is not None and (passed is None or passed.id < failed.id):
            found.append(failed)
    return found


def standing(session: Session, station_id: int) -> ChallengeRun | None:
    """The failed challenge that holds the station, unless it was overridden."""
    return next((run for run in unsettled(session, station_id) if not run.override_reason), None)


def last_passed(
    session: Session, station_id: int, mode: str = PICTURES, before: int | None = None
) -> ChallengeRun | None:
    """The last passed challenge of a station, or before number `before`, that proves as much as one of this mode."""
    modes = (PARTS,) if mode == PARTS else (PARTS, PICTURES)
    query = select(ChallengeRun).where(
        ChallengeRun.station_id == station_id, ChallengeRun.result == PASSED, ChallengeRun.mode.in_(modes)
    )
    if before is not None:
        query = query.where(ChallengeRun.id < before)
    return session.scalar(query.order_by(ChallengeRun.id.desc()).limit(1))


def verified_since(session: Session, station_id: int, recipe_id: int) -> datetime | None:
    """Since when a challenge with parts is awaited of the recipe's product: the last passed one, or its first activation.

    The last one is the one with the highest number: times are labels of a clock that may have been set in between.
    """
    product = select(Recipe.product_id).where(Recipe.id == recipe_id).scalar_subquery()
    of_product = select(Recipe.id).where(Recipe.product_id == product)
    passed = session.scalar(
        select(ChallengeRun.ended_at)
        .where(
            ChallengeRun.station_id == station_id,
            ChallengeRun.result == PASSED,
            ChallengeRun.mode == PARTS,
            ChallengeRun.recipe_id.in_(of_product),
        )
        .order_by(ChallengeRun.id.desc())
        .limit(1)
    )
    first = (
        select(Activation.activated_at)
        .where(Activation.station_id == station_id, Activation.recipe_id.in_(of_product))
        .order_by(Activation.id)
        .limit(1)
    )
    return passed or session.scalar(first)


def due_at(session: Session, station_id: int, recipe_id: int, every_h: float) -> datetime | None:
    """When the next challenge with parts must have passed; None if none is awaited (`every_h` is 0)."""
    since = verified_since(session, station_id, recipe_id) if every_h else None
    return None if since is None else since + timedelta(hours=every_h)


def inspected(session: Session, run: ChallengeRun) -> int:
    """How many verdicts of known parts there are since a challenge began."""
    query = select(func.count()).where(
        InspectionRow.station_id == run.station_id,
        InspectionRow.id > run.after_inspection_id,
        ~PRODUCTION,
    )
    return session.scalar(query) or 0


@dataclass(frozen=True)
class Doubt:
    """Which parts of a station are in doubt: the accepted ones after verdict `after_id`, of before `until`."""

    station_id: int
    after_id: int
    until: datetime | None = None


def doubt_now(session: Session, station_id: int, mode: str = PARTS) -> Doubt:
    """All since the last passed challenge began; if none ever passed, all there are."""
    passed = last_passed(session, station_id, mode)
    return Doubt(station_id, 0 if passed is None else passed.after_inspection_id)


def doubt_of(session: Session, failed: ChallengeRun) -> Doubt:
    """Those that a failed challenge puts in doubt: from the last passed one before it until its own end."""
    passed = last_passed(session, failed.station_id, failed.mode, failed.id)
    return Doubt(failed.station_id, 0 if passed is None else passed.after_inspection_id, failed.ended_at)


def count_doubted(session: Session, doubt: Doubt) -> int:
    return session.scalar(select(func.count()).select_from(_accepted(doubt).subquery())) or 0


def doubted(session: Session, doubt: Doubt, limit: int = 100_000) -> list[InspectionRow]:
    """The parts in doubt with their recipe and product, oldest first."""
    query = _accepted(doubt).options(joinedload(InspectionRow.recipe).joinedload(Recipe.product))
    return list(session.scalars(query.order_by(InspectionRow.id).limit(limit)))


def suspects(session: Session, station_id: int, mode: str = PARTS, limit: int = 100_000) -> list[InspectionRow]:
    """Parts that were accepted since the last passed challenge began, oldest first; all if none ever passed."""
    return doubted(session, doubt_now(session, station_id, mode), limit)


def _accepted(doubt: Doubt) -> Select[InspectionRow]:
    query = select(InspectionRow).where(
        InspectionRow.station_id == doubt.station_id,
        InspectionRow.verdict == OK,
        PRODUCTION,
        InspectionRow.id > doubt.after_id,
    )
    return query if doubt.until is None else query.where(InspectionRow.captured_at < doubt.until)


def _note(session: Session, action: str, who: str, now: datetime, **detail: Any) -> None:
    session.add(Audit(at=now, who=who, action=action, detail=detail))
