"""The redo log: each verdict as a line beside the database, so that a restored backup gets back what came after it.

May import the journal's record and how files come to the disk. The worker writes it after each commit, and at once where a
commit failed; `replay` reads it at the next start. It outlives a killed process and a database that is deleted or damaged.
What the database lacks is on the disk before the PLC hears it; the rest the system brings there within half a minute, so that
a power cut which destroys the database, too, may take the last lines.
"""

import json
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from inspector.store.backup import sync
from inspector.store.journal import Identity, VerdictRecord

log = logging.getLogger(__name__)

SEGMENT_BYTES = 64 * 2**20
LIMIT_BYTES = 16 * SEGMENT_BYTES
"""Two and a half million verdicts; beyond it the oldest go, whether a backup needs them or not."""
TAIL_BYTES = 2**16
DETAIL = ("rcp", "rev", "reason", "image", "image_size_px")
"""Of the detail message; regions and branch scores would make the log as large as the database."""

U16 = Annotated[int, Field(ge=0, lt=2**16)]
U32 = Annotated[int, Field(ge=0, lt=2**32)]
Text32 = Annotated[str, Field(max_length=32)]


class Line(BaseModel):
    """A verdict as it stands in the log; what an older program did not write has a default."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    boot: U16
    seq: U32
    trg: U32
    camera: Text32
    frame_id: Annotated[int, Field(ge=0, lt=2**63)]
    part: Text32
    verdict: Annotated[int, Field(ge=0, le=3)]
    err: U16
    flg: U16
    recipe_id: Annotated[int, Field(ge=0, lt=2**31)] | None
    score: float | None
    threshold: float | None
    roi: U16
    latency_ms: float
    captured_at: AwareDatetime
    unseen: U16 = 0
    detail: dict[str, Any] = {}

    @property
    def identity(self) -> Identity:
        return self.boot, self.seq


def redo_folder(data_path: Path, station: str) -> Path:
    """Where the segments of a station's redo log lie."""
    return data_path / "redo" / station


class RedoLog:
    """Segments `GENERATION-PART`, the newest of which is written. Safe to use from all threads."""

    def __init__(
        self, folder: Path, kept: int, *, segment_bytes: int = SEGMENT_BYTES, limit_bytes: int = LIMIT_BYTES
    ) -> None:
        """A generation begins with each backup (`roll`), and the newest `kept` stay; a part ends after `segment_bytes`."""
        self._folder = folder
        self._kept = kept
        self._segment_bytes = segment_bytes
        self._limit_bytes = limit_bytes
        self._path: Path | None = None
        self._entered: Path | None = None
        self._ends_well = False
        self._lock, self._pruning = threading.Lock(), threading.Lock()
        self.problem = ""
        """Why the last verdicts could not be written; they are in the database, or wait for it, all the same."""

    def append(self, records: Sequence[VerdictRecord], *, durable: bool = False) -> None:
        """Write verdicts; a disk that refuses them is told and stops nothing.

        `durable` waits until they are on the disk: for verdicts that are nowhere else. It costs a sync of the file (1.5 ms,
        p99 12 to 31 ms, on a busy machine with ext4).
        """
        text = "".join(map(_text, records))
        try:
            with self._lock:
                full = self._write(text) > self._segment_bytes
                if durable:
                    self._bring_to_disk()
            if full:
                self._begin(new_generation=False)
        except OSError as error:
            self._ends_well = False
            if str(error) != self.problem:
                log.error("the redo log cannot be written: %s", error)
            self.problem = str(error)
        else:
            self.problem = ""

    def roll(self) -> None:
        """Begin a new generation, as after a backup, which needs none but the last one and this. Raises OSError."""
        self._begin(new_generation=True)

    def _write(self, text: str) -> int:
        """Gives the size of the segment."""
        self._path = self._path or self._newest()
        with self._path.open("a+b") as file:
            if not self._ends_well and _ends_within_a_line(file):
                text = "\n" + text
            file.write(text.encode())
            self._ends_well = True
            return file.tell()

    def _bring_to_disk(self) -> None:
        """The segment, and once its entry in the folder."""
        path = self._path or self._newest()
        sync(path)
        if self._entered != path:
            sync(self._folder)
            self._entered = path

    def _newest(self) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        there = segments(self._folder)
        return there[-1] if there else self._folder / "00000001-0001.jsonl"

    def _begin(self, *, new_generation: bool) -> None:
        with self._lock:
            generation, part = _number(self._path or self._newest())
            generation, part = (generation + 1, 1) if new_generation else (generation, part + 1)
            self._path = self._folder / f"{generation:08d}-{part:04d}.jsonl"
            self._path.touch()
        with self._pruning:
            self._prune(generation)

    def _prune(self, generation: int) -> None:
        """Delete what no backup needs, and the oldest of what is too long; nobody who writes waits for it."""
        left = segments(self._folder)
        while len(left) > 1:
            is_needed = _number(left[0])[0] > generation - self._kept
            if is_needed and sum(path.stat().st_size for path in left) <= self._limit_bytes:
                return
            if is_needed:
                log.warning("the redo log is too long: %s goes, though a backup may need it", left[0].name)
            left.pop(0).unlink()


def segments(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted(folder.glob("[0-9]*-[0-9]*.jsonl"))


def lines(path: Path) -> Iterator[Line]:
    """Those of a segment that are whole and right; the others are told and left out. Raises OSError."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, text in enumerate(file, start=1):
            if (line := _line(text)) is None:
                log.warning("%s:%d: this line is not whole and is left out", path, number)
            else:
                yield line


def last_line(path: Path) -> Line | None:
    """The last one that is whole and right, near the end. Raises OSError."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL_BYTES))
        texts = file.read().decode(errors="replace").splitlines()
    return next((line for text in reversed(texts) if (line := _line(text)) is not None), None)


def last_boot(folder: Path) -> int:
    """Boot of the verdict that was written last; 0 if there is none that can be read."""
    for path in reversed(segments(folder)):
        try:
            if (line := last_line(path)) is not None:
                return line.boot
        except OSError as error:
            log.error("%s: cannot be read: %s", path, error)
    return 0


def _text(record: VerdictRecord) -> str:
    values = {name: getattr(record, name) for name in Line.model_fields if name not in ("captured_at", "detail")}
    detail = {name: record.detail[name] for name in DETAIL if name in record.detail}
    return json.dumps(values | {"captured_at": record.captured_at.isoformat(), "detail": detail}) + "\n"


def _line(text: str) -> Line | None:
    try:
        return Line.model_validate_json(text)
    except ValidationError:
        return None


def _number(path: Path) -> tuple[int, int]:
    generation, part = path.stem.split("-")
    return int(generation), int(part)


def _ends_within_a_line(file: BinaryIO) -> bool:
    """Whether the last write was cut short: the process was killed, or the disk was full."""
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"
