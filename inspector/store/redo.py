"""The redo log: each stored verdict as a line beside the database, so that a restored backup gets back what came after it.

May import the tables and the journal. The worker writes it after each commit and reads it at its next start. It outlives a
killed process and a database that is deleted or damaged; the system brings it to the disk within half a minute, so that a
power cut which destroys the database, too, may take the last lines. Regions and branch scores are not in it.
"""

import json
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import insert, select, tuple_
from sqlalchemy.orm import Session

from inspector.store.engine import Store
from inspector.store.journal import LATE, MISSED_TRIGGER, VerdictRecord, absence_of
from inspector.store.schema import AbsenceRow, InspectionRow, Product, Recipe

log = logging.getLogger(__name__)

CHUNK = 500
SEGMENT_BYTES = 64 * 2**20
NAMES = (
    "boot", "seq", "trg", "camera", "frame_id", "part", "verdict", "err", "flg", "recipe_id", "score", "threshold",
    "roi", "latency_ms", "unseen",
)  # fmt: skip
KEYS = {*NAMES, "captured_at", "detail"}
TAIL_BYTES = 2**16
DETAIL = ("rcp", "rev", "reason", "image", "image_size_px")

Identity = tuple[int, int]


def redo_folder(data_path: Path, station: str) -> Path:
    """Where the segments of a station's redo log lie."""
    return data_path / "redo" / station


class RedoLog:
    """Segments with rising numbers, the newest of which is written. Safe to use from all threads."""

    def __init__(self, folder: Path, kept: int, *, segment_bytes: int | None = None) -> None:
        """The newest `kept` segments stay; a new one begins with `roll`, and after `segment_bytes` if given."""
        self._folder = folder
        self._kept = kept
        self._segment_bytes = segment_bytes
        self._begun = False
        self._lock = threading.Lock()
        self.problem = ""
        """Why the last line could not be written; the verdict is in the database all the same."""

    def append(self, records: Sequence[VerdictRecord]) -> None:
        """Write verdicts that are stored, or never will be; a disk that refuses them is logged and stops nothing."""
        text = "".join(_line(record) for record in records)
        try:
            with self._lock, self._newest().open("a+b") as file:
                if not self._begun and _ends_within_a_line(file):
                    text = "\n" + text
                file.write(text.encode())
                size_bytes = file.tell()
                self._begun = True
            if self._segment_bytes is not None and size_bytes > self._segment_bytes:
                self.roll()
        except OSError as error:
            if str(error) != self.problem:
                log.error("the redo log cannot be written; only the database has these verdicts: %s", error)
            self.problem = str(error)
        else:
            self.problem = ""

    def roll(self) -> None:
        """Begin a new segment, as after a backup, which needs none but the last one and this. Raises OSError."""
        with self._lock:
            newest = self._newest()
            (self._folder / f"{int(newest.stem) + 1:08d}.jsonl").touch()
            for old in _segments(self._folder)[: -self._kept]:
                old.unlink()

    def _newest(self) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        there = _segments(self._folder)
        return there[-1] if there else self._folder / "00000001.jsonl"


def replay(store: Store, station_id: int, folder: Path, data_path: Path) -> int:
    """Put back the verdicts that the database does not have, in the order in which they were given; gives how many.

    A log that cannot be read is told and keeps no line from being inspected.

    Raises:
        StoreError: the database does not take them.
    """
    count = 0
    try:
        for path in _missing_segments(store, station_id, folder):
            for chunk in _chunks(path):
                with store.write() as session:
                    count += _put_back(session, station_id, chunk, data_path)
    except OSError as error:
        log.error("the redo log cannot be read; verdicts may be missing in the database: %s", error)
    if count:
        log.warning("%d verdicts that the database did not have were put back from %s", count, folder)
    return count


def _missing_segments(store: Store, station_id: int, folder: Path) -> list[Path]:
    """From the first segment on whose last verdict the database does not have; those before it are in it as a whole."""
    missing: list[Path] = []
    for path in reversed(_segments(folder)):
        last = _last(path)
        if last is not None:
            with store.read() as session:
                if _known(session, station_id, [(last["boot"], last["seq"])]):
                    break
            missing.append(path)
    return missing[::-1]


def _put_back(session: Session, station_id: int, lines: list[dict[str, Any]], data_path: Path) -> int:
    known = _known(session, station_id, [(line["boot"], line["seq"]) for line in lines])
    fresh = list({(line["boot"], line["seq"]): line for line in lines}.items())
    lost = [line for identity, line in fresh if identity not in known]
    if lost:
        recipes = _recipes(session)
        session.execute(insert(InspectionRow), [_row(station_id, line, recipes, data_path) for line in lost])
        _follow_absences(session, station_id, lost)
    return len(lost)


def _row(station_id: int, line: dict[str, Any], recipes: dict[int, tuple[int, int]], data_path: Path) -> dict[str, Any]:
    """The row of a line; its recipe only if it is still the same one, its picture if it is still there."""
    detail = line["detail"]
    image = detail.get("image")
    return {name: line[name] for name in NAMES if name != "unseen"} | {
        "station_id": station_id,
        "recipe_id": line["recipe_id"]
        if recipes.get(line["recipe_id"]) == (detail.get("rcp"), detail.get("rev"))
        else None,
        "captured_at": datetime.fromisoformat(line["captured_at"]),
        "image_path": image if image and (data_path / image).is_file() else None,
        "detail": detail,
    }


def _follow_absences(session: Session, station_id: int, lost: list[dict[str, Any]]) -> None:
    """An absence that these verdicts told of is owed again, less the parts of it that they settled."""
    for line in lost:
        if line["unseen"]:
            session.add(absence_of(station_id, _record(line)))
            session.flush()
        elif line["err"] == MISSED_TRIGGER and line["flg"] & LATE:
            of_camera = AbsenceRow.camera == line["camera"]
            owed = session.scalar(
                select(AbsenceRow)
                .where(AbsenceRow.station_id == station_id, of_camera)
                .order_by(AbsenceRow.id)
                .limit(1)
            )
            if owed is not None:
                owed.unseen -= 1
                if not owed.unseen:
                    session.delete(owed)
                session.flush()


def _known(session: Session, station_id: int, identities: Sequence[Identity]) -> set[Identity]:
    query = select(InspectionRow.boot, InspectionRow.seq).where(
        InspectionRow.station_id == station_id, tuple_(InspectionRow.boot, InspectionRow.seq).in_(identities)
    )
    return {(boot, seq) for boot, seq in session.execute(query)}


def _recipes(session: Session) -> dict[int, tuple[int, int]]:
    query = select(Recipe.id, Product.rcp, Recipe.rev).join(Product, Recipe.product_id == Product.id)
    return {number: (rcp, rev) for number, rcp, rev in session.execute(query)}


def _line(record: VerdictRecord) -> str:
    values = {name: getattr(record, name) for name in NAMES}
    detail = {name: record.detail[name] for name in DETAIL if name in record.detail}
    return json.dumps(values | {"captured_at": record.captured_at.isoformat(), "detail": detail}) + "\n"


def _record(line: dict[str, Any]) -> VerdictRecord:
    at = datetime.fromisoformat(line["captured_at"])
    return VerdictRecord(**{name: line[name] for name in NAMES}, captured_at=at)


def _segments(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted(path for path in folder.glob("*.jsonl") if path.stem.isdigit())


def _ends_within_a_line(file: BinaryIO) -> bool:
    """Whether the process before was killed while it wrote."""
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def _last(path: Path) -> dict[str, Any] | None:
    """The last whole line of a segment."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return next((line for text in reversed(lines) if (line := _parsed(text)) is not None), None)


def _parsed(text: str) -> dict[str, Any] | None:
    """None: the line is not whole."""
    try:
        line = json.loads(text)
    except json.JSONDecodeError:
        return None
    return line if isinstance(line, dict) and line.keys() >= KEYS else None


def _chunks(path: Path) -> Iterator[list[dict[str, Any]]]:
    """The lines of a segment; one that a killed process wrote half is told and left out."""
    chunk: list[dict[str, Any]] = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, text in enumerate(file, start=1):
            if (line := _parsed(text)) is None:
                log.warning("%s:%d: this line is not whole and is left out", path, number)
                continue
            chunk.append(line)
            if len(chunk) == CHUNK:
                yield chunk
                chunk = []
    if chunk:
        yield chunk
