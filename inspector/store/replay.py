"""Puts verdicts of the redo log back that the database lacks, or of which it tells another story than the PLC heard.

May import the redo log, the journal and the tables. It runs before the worker sees its first part, so that the rows are
there when the trigger counter is compared.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import delete, insert, select, tuple_
from sqlalchemy.orm import Session

from inspector.store import copying
from inspector.store.engine import Store
from inspector.store.journal import LATE, MISSED_TRIGGER, TRIGGERS, Identity
from inspector.store.redo import Line, last_line, lines, segments
from inspector.store.schema import AbsenceRow, InspectionRow, OutboxRow, Product, Recipe

log = logging.getLogger(__name__)

CHUNK = 500
RESTORED = "restored"
"""Key of a row's detail: it comes from the redo log and lacks regions and branch scores."""

Known = dict[Identity, tuple[int, int, int]]
"""Row, verdict and code by identity."""


def replay(store: Store, station_id: int, folder: Path, data_path: Path) -> int:
    """Put verdicts back, in the order in which they were given; gives how many.

    A segment that cannot be read is told and keeps no line from being inspected.

    Raises:
        StoreError: the database does not take them.
    """
    count = 0
    for path in _missing(store, station_id, folder):
        try:
            for chunk in _chunks(lines(path)):
                with store.write() as session:
                    count += _put_back(session, station_id, chunk, data_path)
        except OSError as error:
            log.error("%s: cannot be read, so verdicts may be missing in the database: %s", path, error)
    if count:
        log.warning("%d verdicts that the database did not have were put back from %s", count, folder)
    return count


def _missing(store: Store, station_id: int, folder: Path) -> list[Path]:
    """From the first segment on whose last verdict the database does not have; those before it are in it as a whole."""
    missing: list[Path] = []
    for path in reversed(segments(folder)):
        try:
            last = last_line(path)
        except OSError:  # told where it is read as a whole
            last = None
        if last is not None:
            with store.read() as session:
                row = _known(session, station_id, [last]).get(last.identity)
            if row is not None and row[1:] == (last.verdict, last.err):
                break
        missing.append(path)
    return missing[::-1]


def _put_back(session: Session, station_id: int, chunk: Sequence[Line], data_path: Path) -> int:
    known = _known(session, station_id, chunk)
    given = {line.identity: line for line in chunk}
    lost = [line for identity, line in given.items() if identity not in known]
    if lost:
        recipes = _recipes(session)
        session.execute(insert(InspectionRow), [_row(station_id, line, recipes, data_path) for line in lost])
        for line in lost:
            _follow_absences(session, station_id, line)
    wrong = [line for identity, line in given.items() if identity in known and known[identity][1:] != _said(line)]
    for line in wrong:  # a commit that was given up came through after all
        _put_right(session, station_id, known[line.identity][0], line)
    return len(lost) + len(wrong)


def _put_right(session: Session, station_id: int, row_id: int, line: Line) -> None:
    """The row says what the PLC heard; what waits to be sent of it says something else, and goes."""
    row = session.get_one(InspectionRow, row_id)
    row.verdict, row.err, row.flg, row.roi = line.verdict, line.err, line.flg, line.roi
    said = {"res": line.verdict, "err": line.err, "flg": line.flg, "reason": line.detail.get("reason", "")}
    row.detail = row.detail | said
    session.execute(delete(OutboxRow).where(OutboxRow.inspection_id == row_id))
    copying.go_back(session, station_id, verdict_id=row_id - 1)


def _row(station_id: int, line: Line, recipes: dict[int, tuple[int, int]], data_path: Path) -> dict[str, Any]:
    """The row of a line; its recipe only if it is still the same one, its picture if it is still there."""
    image = line.detail.get("image")
    of_product = (line.detail.get("rcp"), line.detail.get("rev"))
    same = line.recipe_id is not None and recipes.get(line.recipe_id) == of_product
    return line.model_dump(exclude={"unseen", "detail"}) | {
        "station_id": station_id,
        "recipe_id": line.recipe_id if same else None,
        "image_path": image if isinstance(image, str) and (data_path / image).is_file() else None,
        "detail": line.detail | {RESTORED: True},
    }


def _follow_absences(session: Session, station_id: int, line: Line) -> None:
    """An absence that a verdict told of is owed again, less the parts of it that other verdicts settled."""
    if line.unseen:
        session.add(_owed(station_id, line, line.unseen))
        session.flush()
    elif line.err == MISSED_TRIGGER and line.flg & LATE:
        mine = (AbsenceRow.station_id == station_id, AbsenceRow.camera == line.camera)
        for owed in session.scalars(select(AbsenceRow).where(*mine).order_by(AbsenceRow.id)):
            behind = (owed.before - line.trg) % TRIGGERS
            if 0 < behind <= owed.unseen:
                _settle(session, owed, line, behind)
                return


def _settle(session: Session, owed: AbsenceRow, line: Line, behind: int) -> None:
    """A trigger of an absence has its verdict, `behind` from its end; those before it that have none are still owed."""
    skipped = owed.unseen - behind
    if skipped:
        session.add(_owed(owed.station_id, line, skipped))
    owed.unseen = behind - 1
    if not owed.unseen:
        session.delete(owed)
    session.flush()


def _owed(station_id: int, line: Line, unseen: int) -> AbsenceRow:
    values = {name: getattr(line, name) for name in ("boot", "seq", "camera", "captured_at")}
    return AbsenceRow(station_id=station_id, before=line.trg, unseen=unseen, **values)


def _known(session: Session, station_id: int, wanted: Sequence[Line]) -> Known:
    identities = [line.identity for line in wanted]
    query = select(
        InspectionRow.boot, InspectionRow.seq, InspectionRow.id, InspectionRow.verdict, InspectionRow.err
    ).where(InspectionRow.station_id == station_id, tuple_(InspectionRow.boot, InspectionRow.seq).in_(identities))
    return {(boot, seq): (row_id, verdict, err) for boot, seq, row_id, verdict, err in session.execute(query)}


def _said(line: Line) -> tuple[int, int]:
    return line.verdict, line.err


def _recipes(session: Session) -> dict[int, tuple[int, int]]:
    query = select(Recipe.id, Product.rcp, Recipe.rev).join(Product, Recipe.product_id == Product.id)
    return {number: (rcp, rev) for number, rcp, rev in session.execute(query)}


def _chunks(found: Iterable[Line]) -> Iterator[list[Line]]:
    rest = iter(found)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk
