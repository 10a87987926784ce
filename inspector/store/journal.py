"""The journal: verdict rows and outbox rows of a batch in one transaction, before anything is published."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import and_, delete, select, tuple_, update
from sqlalchemy.orm import Session, defer

from inspector.store import copying
from inspector.store.schema import AbsenceRow, InspectionRow, OutboxRow, RegionRow
from inspector.types import Region

MISSED_TRIGGER, LATE = 104, 4
"""Code and flag of the contract that together are those of a settled absence."""

TRIGGERS = 2**32 - 1
"""The PLC's counter goes 1 … 2³²−1, 1 …"""

DISPOSITION = (InspectionRow.acc, InspectionRow.rsn, InspectionRow.disposition_no)
"""What the PLC did with the part of a verdict."""

SETTLED_LATER = and_(InspectionRow.err == MISSED_TRIGGER, InspectionRow.flg.op("&")(LATE) != 0)
"""Verdicts of an absence: their triggers came before those of rows that are older."""


Identity = tuple[int, int]
"""Of a verdict of a station: boot and number."""


@dataclass(frozen=True)
class VerdictRecord:
    """One verdict as it is stored; `messages` are (topic kind, JSON) pairs for the outbox, in order.

    `unseen` triggers directly before its own are owed a verdict too; they are kept as an absence.
    """

    boot: int
    seq: int
    trg: int
    camera: str
    frame_id: int
    part: str
    verdict: int
    err: int
    flg: int
    recipe_id: int | None
    score: float | None
    threshold: float | None
    roi: int
    latency_ms: float
    captured_at: datetime
    detail: dict[str, Any] = field(default_factory=dict)
    regions: tuple[Region, ...] = ()
    messages: tuple[tuple[str, str], ...] = ()
    unseen: int = 0

    @property
    def identity(self) -> Identity:
        return self.boot, self.seq


@dataclass(frozen=True)
class PlcDecision:
    """What the PLC did with the part of verdict (boot, seq): `acc` 1 let it pass, 0 did not, for the reason `rsn`."""

    boot: int
    seq: int
    acc: int
    rsn: int

    @property
    def identity(self) -> Identity:
        return self.boot, self.seq


@dataclass(frozen=True)
class CommittedVerdict:
    """Where a verdict lies: its row, and its outbox rows in the order of its messages."""

    inspection_id: int
    outbox_ids: tuple[int, ...]


def commit_verdicts(session: Session, station_id: int, verdicts: Sequence[VerdictRecord]) -> list[CommittedVerdict]:
    """Add the rows of a batch; the caller's transaction makes them durable together.

    A second row of one identity (station, boot, seq) breaks the unique constraint: the whole batch is refused.
    """
    now = datetime.now(UTC)
    rows = [_row(station_id, verdict) for verdict in verdicts]
    session.add_all(rows)
    session.add_all(_absence(station_id, verdict) for verdict in verdicts if verdict.unseen)
    session.flush()
    outbox = [
        [
            OutboxRow(station_id=station_id, inspection_id=row.id, topic=topic, payload=payload, created_at=now)
            for topic, payload in verdict.messages
        ]
        for row, verdict in zip(rows, verdicts, strict=True)
    ]
    for messages in outbox:
        session.add_all(messages)
    session.flush()
    return [
        CommittedVerdict(row.id, tuple(message.id for message in messages))
        for row, messages in zip(rows, outbox, strict=True)
    ]


def replace_verdicts(session: Session, station_id: int, verdicts: Sequence[VerdictRecord]) -> None:
    """Store verdicts whose rows may be there already and tell another story; what was copied of them is copied again.

    What the PLC did with their parts stays.
    """
    mine = InspectionRow.station_id == station_id
    identities = [verdict.identity for verdict in verdicts]
    known = tuple_(InspectionRow.boot, InspectionRow.seq).in_(identities)
    columns = (InspectionRow.id, InspectionRow.boot, InspectionRow.seq, *DISPOSITION)
    there = {(row.boot, row.seq): row for row in session.execute(select(*columns).where(mine, known))}
    if there:
        ids = [row.id for row in there.values()]
        session.execute(delete(InspectionRow).where(InspectionRow.id.in_(ids)))
        copying.go_back(session, station_id, verdict_id=min(ids) - 1)  # SQLite may give the same id to the new row
        told = tuple_(AbsenceRow.boot, AbsenceRow.seq).in_(identities)
        session.execute(delete(AbsenceRow).where(AbsenceRow.station_id == station_id, told))
    committed = commit_verdicts(session, station_id, verdicts)
    for verdict, made in zip(verdicts, committed, strict=True):
        if (old := there.get(verdict.identity)) is not None and old.acc is not None:
            said = {column.key: getattr(old, column.key) for column in DISPOSITION}
            session.execute(update(InspectionRow).where(InspectionRow.id == made.inspection_id).values(said))


def first_absence(session: Session, station_id: int) -> AbsenceRow | None:
    """The oldest triggers in a row that passed by unseen and have no verdict yet."""
    query = select(AbsenceRow).where(AbsenceRow.station_id == station_id).order_by(AbsenceRow.id).limit(1)
    return session.scalar(query)


def settle_absence(session: Session, absence: AbsenceRow, verdicts: Sequence[VerdictRecord]) -> bool:
    """Store the verdicts on the first triggers of an absence; False, and nothing, if it has changed since it was read."""
    there = session.get(AbsenceRow, absence.id)
    if there is None or there.unseen != absence.unseen:
        return False
    commit_verdicts(session, there.station_id, verdicts)
    there.unseen -= len(verdicts)
    if there.unseen == 0:
        session.delete(there)
    return True


def _absence(station_id: int, verdict: VerdictRecord) -> AbsenceRow:
    return AbsenceRow(
        station_id=station_id,
        boot=verdict.boot,
        seq=verdict.seq,
        camera=verdict.camera,
        before=verdict.trg,
        unseen=verdict.unseen,
        captured_at=verdict.captured_at,
    )


def _row(station_id: int, verdict: VerdictRecord) -> InspectionRow:
    plain = {
        name: getattr(verdict, name)
        for name in VerdictRecord.__dataclass_fields__
        if name not in ("regions", "messages", "unseen")
    }
    regions = [RegionRow(position=i, **asdict(region)) for i, region in enumerate(verdict.regions)]
    return InspectionRow(station_id=station_id, regions=regions, **plain)


def set_dispositions(
    session: Session, station_id: int, decisions: Sequence[PlcDecision]
) -> dict[Identity, VerdictRecord]:
    """Put what the PLC did beside its verdicts; gives those that are stored (without pictures and detail), by (boot, seq)."""
    found = {}
    for one in decisions:
        query = select(InspectionRow).where(
            InspectionRow.station_id == station_id, InspectionRow.boot == one.boot, InspectionRow.seq == one.seq
        )
        row = session.scalar(query.options(defer(InspectionRow.detail)))
        if row is not None:
            if (row.acc, row.rsn) != (one.acc, one.rsn):
                row.acc, row.rsn = one.acc, one.rsn
                row.disposition_no = copying.next_disposition(session, station_id)
            found[one.identity] = _plain(row)
    return found


def _plain(row: InspectionRow) -> VerdictRecord:
    left_out = ("detail", "regions", "messages", "unseen")
    names = [name for name in VerdictRecord.__dataclass_fields__ if name not in left_out]
    return VerdictRecord(**{name: getattr(row, name) for name in names})


def pending_outbox(session: Session, station_id: int, limit: int) -> list[tuple[OutboxRow, Identity]]:
    """The oldest messages that the broker has not acknowledged, in order, each with its verdict."""
    query = select(OutboxRow, InspectionRow.boot, InspectionRow.seq).join(InspectionRow)
    found = session.execute(query.where(OutboxRow.station_id == station_id).order_by(OutboxRow.id).limit(limit))
    return [(row, (boot, seq)) for row, boot, seq in found]


def clear_outbox(session: Session, ids: Iterable[int]) -> None:
    """Delete acknowledged messages."""
    session.execute(delete(OutboxRow).where(OutboxRow.id.in_(list(ids))))


def set_image_paths(session: Session, inspection_id: int, image_path: str | None, map_path: str | None) -> None:
    row = session.get(InspectionRow, inspection_id)
    if row is not None:
        row.image_path, row.map_path = image_path, map_path


def last_trigger(session: Session, station_id: int, camera: str) -> int:
    """The trigger of the last stored verdict of a camera, 0 if there is none; not one of an absence, which came before it."""
    query = select(InspectionRow.trg).where(
        InspectionRow.station_id == station_id, InspectionRow.camera == camera, ~SETTLED_LATER
    )
    return session.scalar(query.order_by(InspectionRow.id.desc()).limit(1)) or 0
