"""Takes old pictures and rows away, by count, age and free space. No thread: called by the scheduler, one job at a time.

May import the store and the configuration. Files go first and rows are told afterwards: what is interrupted in between is a
row whose picture is gone, which the pages can say, and never a file that nobody knows of.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain, islice
from pathlib import Path

from sqlalchemy.orm import Session

from inspector.config import Config
from inspector.store import drift, queries, retention
from inspector.store.retention import Picture
from inspector.store.writer import StoreWriter

log = logging.getLogger(__name__)

CHUNK = 200
SAMPLE_AFTER = timedelta(days=1)
DRIFT_KEPT = timedelta(days=90)
UNKNOWN_AFTER = timedelta(days=2)
"""A file without a row may still get it; after so long it does not."""
CLOCK_STEP = timedelta(hours=1)
LONGEST_PAUSE = timedelta(days=14)

Find = Callable[[Session, int], list[Picture]]


class Retention:
    """The rules of one station."""

    def __init__(self, config: Config, writer: StoreWriter, station_id: int) -> None:
        self._images = config.images
        self._keep_days = config.database.keep_days
        self._only_copied = config.central.url is not None
        self._data_path = config.data_path
        self._writer = writer
        self._station_id = station_id
        self._one = threading.Lock()
        self._ages = Ages()
        self.removed = 0
        """Verdicts whose pictures were taken away since the start."""

    def begin(self, now: datetime | None = None) -> None:
        """Before the first part: compare the clock with the last stored part."""
        with self._writer.store.read() as session:
            newest = retention.newest_at(session, self._station_id)
        self._ages.begin(newest, datetime.now(UTC) if now is None else now)

    def remove_pictures(self, now: datetime | None = None) -> int:
        """Delete pictures beyond count, age and sample; the verdict rows stay. Gives of how many parts."""
        now = datetime.now(UTC) if now is None else now
        images, station_id = self._images, self._station_id

        def outdated(session: Session, limit: int) -> list[Picture]:
            ok_before, evidence_before = _before(now, images.ok_days), _before(now, images.evidence_days)
            return retention.outdated(
                session, station_id, ok_before=ok_before, evidence_before=evidence_before, limit=limit
            )

        def beyond_sample(session: Session, limit: int) -> list[Picture]:
            before = now - SAMPLE_AFTER
            return retention.beyond_sample(session, station_id, before=before, every=images.ok_sample, limit=limit)

        def beyond_count(session: Session, limit: int) -> list[Picture]:
            excess = queries.saved_pictures(session, station_id) - images.max_saved
            return retention.expendable(session, station_id, min(excess, limit)) if excess > 0 else []

        removed = self._all(beyond_count)
        if not self._ages.believed(now, time.monotonic()):
            return removed
        removed += self._all(outdated)
        return removed + (self._all(beyond_sample) if images.ok_sample > 1 else 0)

    def make_room(self, parts: int) -> int:
        """The disk is full: take away the pictures of so many parts, at least one; 0 if there are none left."""
        with self._one:
            with self._writer.store.read() as session:
                found = retention.expendable(session, self._station_id, parts)
            self._remove(found)
        return len(found) or self._remove_unknown(datetime.now(UTC), parts)

    def remove_rows(self, now: datetime | None = None) -> int:
        """Delete verdicts that are older than `database.keep_days`, with their pictures; gives how many.

        With a central database only those that are copied to it.
        """
        now = datetime.now(UTC) if now is None else now
        if not self._keep_days or not self._ages.believed(now, time.monotonic()):
            return 0
        before = now - timedelta(days=self._keep_days)
        removed = 0
        while True:
            with self._writer.store.read() as session:
                rows = retention.old_rows(session, self._station_id, before, CHUNK, only_copied=self._only_copied)
            if not rows:
                return removed
            self._unlink(rows)
            self._writer.call(partial(retention.remove_rows, inspection_ids=[row.inspection_id for row in rows]))
            removed += len(rows)

    def remove_drift(self) -> None:
        """Points of the drift chart go after a quarter of a year."""
        before = datetime.now(UTC) - DRIFT_KEPT
        self._writer.call(lambda session: drift.remove_points(session, before))

    def remove_unknown(self, now: datetime | None = None) -> int:
        """Delete pictures that no row knows (a database was restored) once they are too old to be kept; gives how many."""
        now = datetime.now(UTC) if now is None else now
        if not self._ages.believed(now, time.monotonic()):
            return 0
        limit = max(self._images.ok_days, self._images.evidence_days)
        removed = self._remove_unknown(now - timedelta(days=limit), None) if limit else 0
        for folder in (self._data_path / "images").glob("*"):
            if _older(folder, now - UNKNOWN_AFTER) and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        return removed

    def _all(self, find: Find) -> int:
        removed = 0
        while True:
            with self._one:
                with self._writer.store.read() as session:
                    found = find(session, CHUNK)
                self._remove(found)
            if not found:
                return removed
            removed += len(found)

    def _remove(self, pictures: list[Picture]) -> None:
        if not pictures:
            return
        self._unlink(pictures)
        ids = [picture.inspection_id for picture in pictures]
        self._writer.call(partial(retention.forget_pictures, inspection_ids=ids))
        self.removed += len(pictures)

    def _unlink(self, pictures: list[Picture]) -> None:
        for picture in pictures:
            for path in picture.paths:
                (self._data_path / path).unlink(missing_ok=True)

    def _remove_unknown(self, before: datetime, most: int | None) -> int:
        """Unknown files from before `before`, the oldest folder first, at most `most`."""
        old = self._old_files(min(before, datetime.now(UTC) - UNKNOWN_AFTER))
        if (first := next(old, None)) is None:
            return 0
        with self._writer.store.read() as session:
            known = retention.known_pictures(session)
        unknown = (path for path in chain([first], old) if self._name_of(path) not in known)
        removed = 0
        for path in islice(unknown, most):
            path.unlink(missing_ok=True)
            removed += 1
        if removed:
            log.warning("%d pictures that no verdict knows were removed", removed)
        return removed

    def _name_of(self, path: Path) -> str:
        """The picture that a file belongs to, as rows name it; a heat map belongs to its picture."""
        return path.relative_to(self._data_path).with_stem(path.stem.removesuffix("-map")).as_posix()

    def _old_files(self, before: datetime) -> Iterator[Path]:
        for folder in sorted((self._data_path / "images").glob("*/")):
            yield from (path for path in sorted(folder.iterdir()) if _older(path, before))


class Ages:
    """Whether ages can be believed: a clock that jumps ten years ahead must not make all evidence too old.

    They are not, until the next start, once the clock has jumped, or if it stands before or long after the last stored part.
    """

    def __init__(self) -> None:
        self._first: tuple[datetime, float] | None = None
        self.problem = ""

    def begin(self, newest: datetime | None, now: datetime) -> None:
        """The clock at the start, and when the last stored part was seen."""
        if newest is not None and not -CLOCK_STEP <= now - newest <= LONGEST_PAUSE:
            self._doubt(f"it is {now:%Y-%m-%d %H:%M}, but the last stored part is of {newest:%Y-%m-%d %H:%M}")

    def believed(self, now: datetime, now_monotonic_s: float) -> bool:
        """Compares the clock with the monotonic one since the first call."""
        first_at, first_s = self._first = self._first or (now, now_monotonic_s)
        step = now - first_at - timedelta(seconds=now_monotonic_s - first_s)
        if abs(step) > CLOCK_STEP and not self.problem:
            self._doubt(f"the clock jumped by {step}")
        return not self.problem

    def _doubt(self, problem: str) -> None:
        self.problem = problem
        log.warning("%s; nothing is removed for its age until the next start", problem)


def _before(now: datetime, days: float) -> datetime | None:
    return now - timedelta(days=days) if days else None


def _older(path: Path, before: datetime) -> bool:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC) < before
    except OSError:
        return False
