"""What goes, in which order, and what never goes."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select

from edge import retention as retention_module
from edge.retention import Ages, Retention
from inspector.config import Config
from inspector.store import engine, journal, queries, stations
from inspector.store import retention as store_rules
from inspector.store.journal import VerdictRecord
from inspector.store.schema import Audit, InspectionRow
from inspector.store.writer import StoreWriter
from inspector.types import Verdict

NOW = datetime(2026, 6, 1, tzinfo=UTC)
OK, NG, UNDECIDED, NONE = Verdict.OK, Verdict.NG, Verdict.UNDECIDED, Verdict.NONE


class Shelf:
    """Verdicts with pictures in a data folder."""

    def __init__(self, folder: Path) -> None:
        url = f"sqlite:///{folder / 'inspector.db'}"
        engine.upgrade(url)
        self.folder = folder
        self.writer = StoreWriter(engine.open_store(url))
        self.writer.start()
        self.writer.call(lambda session: stations.ensure_station(session, "s"))
        self.seq = 0

    def put(self, verdict: Verdict, score: float | None = 0.2, days: float = 0.0, **changes: Any) -> int:
        """One verdict with picture and heat map, `days` old."""
        self.seq += 1
        record = VerdictRecord(
            1, self.seq, self.seq, "c", self.seq, "", int(verdict), 0, 0, None, score, 1.0, 0, 0.0,
            NOW - timedelta(days=days),
        )  # fmt: skip
        record = replace(record, **changes)
        (row,) = self.writer.call(lambda session: journal.commit_verdicts(session, 1, [record]))
        names = f"images/{row.inspection_id}.jpg", f"images/{row.inspection_id}-map.jpg"
        (self.folder / "images").mkdir(exist_ok=True)
        for name in names:
            (self.folder / name).write_bytes(b"x")
        self.writer.call(lambda session: journal.set_image_paths(session, row.inspection_id, *names))
        return row.inspection_id

    def rules(self, images: dict[str, Any] | None = None, **database: Any) -> Retention:
        config = Config.model_validate({"data_dir": str(self.folder), "images": images or {}, "database": database})
        return Retention(config, self.writer, 1)

    @property
    def pictures(self) -> list[int]:
        """Whose pictures are there, on the disk and by the rows, which must agree."""
        on_disk = sorted(int(path.stem) for path in self.folder.glob("images/*.jpg") if "-map" not in path.stem)
        maps = sorted(int(path.stem.removesuffix("-map")) for path in self.folder.glob("images/*-map.jpg"))
        with self.writer.store.read() as session:
            query = select(InspectionRow.id).where(InspectionRow.image_path.is_not(None))
            known = list(session.scalars(query.order_by(InspectionRow.id)))
        assert on_disk == maps == known
        return on_disk

    @property
    def rows(self) -> list[int]:
        with self.writer.store.read() as session:
            return list(session.scalars(select(InspectionRow.id).order_by(InspectionRow.id)))


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    monkeypatch.delenv("INSPECTOR_DATA_DIR", raising=False)
    made = Shelf(tmp_path)
    yield made
    made.writer.stop()
    made.writer.store.close()


def test_beyond_the_count_the_oldest_good_parts_go_first_and_their_rows_stay(shelf: Shelf) -> None:
    ids = [shelf.put(verdict) for verdict in (NG, OK, OK, NG, OK)]
    assert shelf.rules({"max_saved": 2}).remove_pictures(NOW) == 3
    assert shelf.pictures == [ids[0], ids[3]]
    assert shelf.rows == ids


def test_evidence_goes_last_and_the_oldest_of_it_first(shelf: Shelf) -> None:
    ids = [shelf.put(NONE, None), shelf.put(UNDECIDED), shelf.put(NG), shelf.put(OK)]
    assert shelf.rules({"max_saved": 2}).remove_pictures(NOW) == 2
    assert shelf.pictures == ids[1:3]


def test_a_part_that_nearly_was_rejected_counts_as_evidence(shelf: Shelf) -> None:
    near, far = shelf.put(OK, 0.91), shelf.put(OK, 0.89)
    newest = shelf.put(OK, 0.1)
    assert shelf.rules({"max_saved": 1}).remove_pictures(NOW) == 2
    assert shelf.pictures == [near]
    assert {near, far, newest} == set(shelf.rows)


def test_pictures_go_by_age_good_ones_sooner(shelf: Shelf) -> None:
    kept = [shelf.put(OK, days=9), shelf.put(NG, days=40), shelf.put(OK, 0.95, days=40)]
    shelf.put(OK, days=11)
    shelf.put(NG, days=101)
    shelf.put(NONE, None, days=101)
    rules = shelf.rules({"ok_days": 10, "evidence_days": 100})
    assert rules.remove_pictures(NOW) == 3
    assert shelf.pictures == kept
    assert rules.removed == 3
    assert shelf.rules({"ok_days": 0, "evidence_days": 0}).remove_pictures(NOW + timedelta(days=9999)) == 0


def test_of_good_parts_a_sample_stays_after_a_day(shelf: Shelf) -> None:
    old = [shelf.put(OK, days=2) for _ in range(8)]
    evidence = [shelf.put(NG, days=2), shelf.put(OK, 0.95, days=2)]
    fresh = [shelf.put(OK) for _ in range(3)]
    assert shelf.rules({"ok_sample": 4}).remove_pictures(NOW) == 6
    assert shelf.pictures == [old[3], old[7], *evidence, *fresh]


def test_more_than_one_chunk_goes_in_one_run(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention_module, "CHUNK", 3)
    for _ in range(10):
        shelf.put(OK, days=50)
    assert shelf.rules().remove_pictures(NOW) == 10
    assert shelf.pictures == []


def test_room_is_made_with_good_parts_first_and_the_last_evidence_goes_in_the_end(shelf: Shelf) -> None:
    ids = [shelf.put(NG), shelf.put(OK), shelf.put(OK)]
    rules = shelf.rules()
    assert rules.make_room(1) == 1
    assert shelf.pictures == [ids[0], ids[2]]
    assert rules.make_room(5) == 2
    assert (shelf.pictures, rules.make_room(5), shelf.rows) == ([], 0, ids)


def test_rows_stay_for_ever_unless_somebody_says_otherwise(shelf: Shelf) -> None:
    shelf.put(OK, days=5000)
    assert shelf.rules().remove_rows(NOW) == 0
    assert len(shelf.rows) == 1


def test_old_rows_go_with_their_pictures_but_not_what_is_owed_nor_the_last_of_a_camera(shelf: Shelf) -> None:
    shelf.put(OK, days=20)
    owed = shelf.put(NG, days=20, messages=(("detail", "{}"),))
    last_of_other = shelf.put(OK, days=20, camera="other")
    fresh = shelf.put(OK, days=1)
    shelf.writer.call(lambda session: session.add(Audit(at=NOW - timedelta(days=9999), who="t", action="a", detail={})))
    assert shelf.rules(keep_days=10).remove_rows(NOW) == 1
    assert shelf.rows == shelf.pictures == [owed, last_of_other, fresh]
    with shelf.writer.store.read() as session:
        assert session.scalar(select(func.count()).select_from(Audit)) == 1
        assert queries.outbox_size(session, 1) == 1


def test_the_newest_row_stays_though_it_is_old_so_that_no_id_is_given_twice(shelf: Shelf) -> None:
    for _ in range(2):
        shelf.put(OK, days=20)
    late = shelf.put(NONE, days=19, err=journal.MISSED_TRIGGER, flg=journal.LATE)
    assert shelf.rules(keep_days=10).remove_rows(NOW) == 1
    assert shelf.rows == [late - 1, late]
    assert shelf.put(OK) > late


def test_pictures_that_no_row_knows_go_when_they_are_too_old_and_empty_folders_with_them(shelf: Shelf) -> None:
    import os

    def age(path: Path, days: float) -> None:
        at = (datetime.now(UTC) - timedelta(days=days)).timestamp()
        os.utime(path, (at, at))

    row = shelf.put(NG)
    day, empty = shelf.folder / "images" / "2020-01-01", shelf.folder / "images" / "2020-01-02"
    day.mkdir()
    empty.mkdir()
    for name, days in (("old.jpg", 400), ("young.jpg", 10), ("known.jpg", 400)):
        (day / name).write_bytes(b"x")
        age(day / name, days)
    age(empty, 3)
    known = "images/2020-01-01/known.jpg"
    shelf.writer.call(lambda session: journal.set_image_paths(session, row, known, None))
    assert shelf.rules().remove_unknown() == 1
    assert sorted(path.name for path in day.iterdir()) == ["known.jpg", "young.jpg"]
    assert not empty.exists()
    shelf.writer.call(lambda session: journal.set_image_paths(session, row, None, None))
    assert shelf.rules().make_room(1) == 1, "when there is no room they go sooner"


def test_a_clock_that_jumps_ten_years_does_not_make_all_evidence_too_old(shelf: Shelf) -> None:
    kept = [shelf.put(NG), shelf.put(OK)]
    rules = shelf.rules(keep_days=30)
    assert rules.remove_pictures(NOW) == 0
    for jump in (timedelta(days=3650), timedelta(days=-3650), timedelta(0)):
        assert (rules.remove_pictures(NOW + jump), rules.remove_rows(NOW + jump)) == (0, 0)
    assert shelf.pictures == shelf.rows == kept


@pytest.mark.parametrize("away", [timedelta(days=3650), timedelta(days=-1)], ids=["ahead", "back"])
def test_a_clock_that_is_wrong_at_the_start_removes_nothing_for_its_age(shelf: Shelf, away: timedelta) -> None:
    kept = [shelf.put(NG)]
    rules = shelf.rules({"max_saved": 1}, keep_days=30)
    rules.begin(NOW + away)
    assert (rules.remove_pictures(NOW + away), rules.remove_rows(NOW + away)) == (0, 0)
    assert shelf.pictures == kept
    shelf.put(OK)
    assert rules.remove_pictures(NOW + away) == 1, "count and free space need no clock"


def test_ages_are_believed_while_the_clock_goes_as_it_should() -> None:
    ages = Ages()
    ages.begin(NOW - timedelta(days=3), NOW)
    for hours in range(0, 5000, 100):
        assert ages.believed(NOW + timedelta(hours=hours, minutes=5), 7.0 + 3600 * hours)
    assert not ages.believed(NOW + timedelta(hours=5000), 7.0 + 3600 * 4990)


def test_clean_up_never_walks_through_all_rows(shelf: Shelf) -> None:
    asked: list[tuple[str, Any]] = []
    store = shelf.writer.store
    event.listen(
        store._reader, "before_cursor_execute", lambda _c, _u, text, values, _x, _m: asked.append((text, values))
    )
    with store.read() as session:
        queries.saved_pictures(session, 1)
        store_rules.expendable(session, 1, 5)
        store_rules.outdated(session, 1, ok_before=NOW, evidence_before=NOW, limit=5)
        store_rules.beyond_sample(session, 1, before=NOW, every=3, limit=5)
        store_rules.known_pictures(session)
        store_rules.old_rows(session, 1, NOW, 5)
    plans = []
    with sqlite3.connect(shelf.folder / "inspector.db") as database:
        for text, values in asked:
            if "FROM inspections" in text:
                plans.append(next(row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {text}", values)))
    assert len(plans) == 8
    assert all("USING INDEX ix_inspections_pictures (station_id=?" in plan for plan in plans[:-1]), plans
    assert "ix_inspections_captured_at (captured_at<?)" in plans[-1]
