"""A database that was replaced by an older one gets back each verdict that was stored since, once."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import delete, select

from inspector.store import journal, stations
from inspector.store import redo as redo_module
from inspector.store.engine import Store
from inspector.store.redo import TAIL_BYTES, RedoLog, last_boot, redo_folder
from inspector.store.replay import replay
from inspector.store.schema import AbsenceRow, InspectionRow, OutboxRow
from inspector.types import Verdict
from tests import stored
from tests.store.test_store import PICTURE, record

NOW = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)


class Plant:
    """A station that stores verdicts; `lose` is what an older backup does."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.data_path = store, folder
        self.folder = redo_folder(folder, "line")
        self.redo = RedoLog(self.folder, 3)
        with store.write() as session:
            self.station_id = stations.ensure_station(session, "line").id

    def inspect(self, *records: journal.VerdictRecord) -> None:
        with self.store.write() as session:
            journal.commit_verdicts(session, self.station_id, records)
        self.redo.append(records)

    def lose(self, after: int) -> None:
        with self.store.write() as session:
            session.execute(delete(InspectionRow).where(InspectionRow.seq > after))

    def replay(self) -> int:
        return replay(self.store, self.station_id, self.folder, self.data_path)

    def rows(self) -> list[InspectionRow]:
        with self.store.read() as session:
            return list(session.scalars(select(InspectionRow).order_by(InspectionRow.id)))

    @property
    def seqs(self) -> list[int]:
        return [row.seq for row in self.rows()]


@pytest.fixture
def plant(store: Store, tmp_path: Path) -> Plant:
    return Plant(store, tmp_path)


@pytest.mark.parametrize("after", [0, 1, 3, 6])
def test_what_came_after_a_backup_is_put_back_once_and_in_order(plant: Plant, after: int) -> None:
    for seq in range(1, 7):
        plant.inspect(record(seq, Verdict.NG, score=0.5 + seq / 16))
        if seq in (2, 4):
            plant.redo.roll()
    plant.lose(after)
    assert (plant.replay(), plant.replay()) == (6 - after, 0)
    assert plant.seqs == [1, 2, 3, 4, 5, 6]
    last = plant.rows()[-1]
    assert (last.verdict, last.score, last.trg, last.part) == (Verdict.NG, 0.875, *_told(6))
    assert last.captured_at == record(6).captured_at


def _told(seq: int) -> tuple[int, str]:
    return record(seq).trg, record(seq).part


def test_verdicts_that_the_database_never_took_are_put_there(plant: Plant) -> None:
    plant.inspect(record(1))
    plant.redo.append([record(2), record(3)])
    assert plant.replay() == 2
    assert plant.seqs == [1, 2, 3]


def test_only_the_newest_segments_stay(plant: Plant) -> None:
    for seq in range(1, 7):
        plant.inspect(record(seq))
        plant.redo.roll()
    assert [path.name for path in sorted(plant.folder.iterdir())] == [f"{n:08d}-0001.jsonl" for n in (5, 6, 7)]
    plant.lose(0)
    assert plant.replay() == 2
    assert plant.seqs == [5, 6]


def test_the_log_never_grows_beyond_its_limit(plant: Plant, caplog: pytest.LogCaptureFixture) -> None:
    redo = RedoLog(plant.folder, 2, segment_bytes=1000, limit_bytes=3000)
    for seq in range(1, 40):
        redo.append([record(seq)])
    there = sorted(plant.folder.iterdir())
    assert sum(path.stat().st_size for path in there) < 4500
    assert "goes, though a backup may need it" in caplog.text
    assert plant.replay() > 0
    assert plant.seqs[-1] == 39


def test_the_next_worker_goes_on_in_the_newest_segment(plant: Plant) -> None:
    plant.inspect(record(1))
    plant.redo.roll()
    plant.inspect(record(2))
    plant.redo = RedoLog(plant.folder, 3)
    plant.inspect(record(3))
    assert (plant.folder / "00000002-0001.jsonl").read_text().count("\n") == 2


def test_a_line_that_a_killed_process_wrote_half_is_told_and_left_out(
    plant: Plant, caplog: pytest.LogCaptureFixture
) -> None:
    plant.inspect(record(1), record(2))
    path = plant.folder / "00000001-0001.jsonl"
    path.write_text(path.read_text()[:-20])
    plant.redo = RedoLog(plant.folder, 3)
    plant.inspect(record(3), record(4))
    plant.lose(0)
    assert plant.replay() == 3
    assert plant.seqs == [1, 3, 4]
    assert "00000001-0001.jsonl:2: this line is not whole" in caplog.text


def test_a_write_that_was_cut_short_spoils_no_other_of_the_same_worker(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant.inspect(record(1))
    with monkeypatch.context() as full:
        full.setattr(redo_module, "_ends_within_a_line", lambda _: pytest.fail("looked at without need"))
        plant.inspect(record(2))
    path = plant.folder / "00000001-0001.jsonl"
    path.write_bytes(path.read_bytes()[:-20])  # what a full disk leaves
    plant.redo._ends_well = False  # as after the error that it raised
    plant.inspect(record(3))
    plant.lose(0)
    assert plant.replay() == 2
    assert plant.seqs == [1, 3]


WRONG = {
    "another sign": ('+00:00"', 'x00:00"'),
    "no zone": ('+00:00"', '"'),
    "a list": ('"detail": {}', '"detail": []'),
    "nothing": ('"flg": 0', '"flg": null'),
    "too large": ('"trg": 2', '"trg": 99999999999999999999'),
    "not a number": ('"score": 0.5', '"score": NaN'),
    "a boot that is none": ('"boot": 1', '"boot": [1]'),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_damaged_line_stops_no_start(plant: Plant, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    plant.inspect(record(1), record(2), record(3))
    path = plant.folder / "00000001-0001.jsonl"
    whole = path.read_text().splitlines(keepends=True)
    old, new = WRONG[fault]
    assert old in whole[1]
    path.write_text(whole[0] + whole[1].replace(old, new) + whole[2])
    plant.lose(0)
    assert plant.replay() == 2
    assert plant.seqs == [1, 3]
    assert "is left out" in caplog.text


def test_what_a_power_cut_left_empty_hides_no_verdict_before_it(plant: Plant) -> None:
    plant.inspect(record(1), record(2))
    with (plant.folder / "00000001-0001.jsonl").open("ab") as file:
        file.write(bytes(TAIL_BYTES + 10))
    plant.lose(0)
    assert plant.replay() == 2


def test_a_segment_that_cannot_be_read_keeps_none_of_the_others(plant: Plant, caplog: pytest.LogCaptureFixture) -> None:
    plant.inspect(record(1))
    plant.redo.roll()
    (plant.folder / "00000002-0001.jsonl").unlink()
    (plant.folder / "00000002-0001.jsonl").mkdir()
    plant.lose(0)
    assert plant.replay() == 1
    assert "cannot be read, so verdicts may be missing" in caplog.text


def test_lines_of_an_older_program_without_later_columns_are_read(plant: Plant) -> None:
    plant.inspect(record(1))
    path = plant.folder / "00000001-0001.jsonl"
    path.write_text(path.read_text().replace('"unseen": 0, ', ""))
    plant.lose(0)
    assert plant.replay() == 1


def test_a_row_that_tells_another_story_than_the_plc_heard_is_put_right(plant: Plant) -> None:
    with plant.store.write() as session:
        journal.commit_verdicts(
            session, plant.station_id, [record(1, Verdict.OK, detail={"res": 1, "err": 0, "score": 0.5})]
        )  # came through after it was given up
        journal.commit_verdicts(session, plant.station_id, [record(2, Verdict.OK, boot=3)])
    plant.redo.append([record(1, Verdict.NONE, err=800, detail={"reason": "because"})])
    assert (plant.replay(), plant.replay()) == (1, 0)
    wrong, right = plant.rows()
    assert (wrong.verdict, wrong.err) == (Verdict.NONE, 800)
    assert wrong.detail == {"res": 0, "err": 800, "flg": 0, "reason": "because", "score": 0.5}
    assert right.verdict == Verdict.OK
    with plant.store.read() as session:
        waiting = session.scalars(select(OutboxRow.inspection_id)).all()
    assert waiting == [right.id, right.id], "what would tell the other story is not sent"


def test_no_boot_comes_twice_though_only_the_log_knows_the_last(plant: Plant) -> None:
    assert last_boot(plant.folder) == 0
    plant.inspect(record(1), record(2, boot=7))
    plant.redo.roll()
    assert last_boot(plant.folder) == 7


def test_a_verdict_keeps_its_recipe_and_picture_only_if_they_are_still_there(plant: Plant, tmp_path: Path) -> None:
    with plant.store.write() as session:
        made = stored.request_recipe(
            session, tmp_path, "gear", [("a.png", PICTURE)], station_id=None, who="me", now=NOW
        )
    (tmp_path / "kept.jpg").write_bytes(b"x")
    detail = {"rcp": made.product.rcp, "rev": made.rev, "image": "kept.jpg", "reason": "because"}
    same = record(1, recipe_id=made.id, detail=detail)
    other = record(2, recipe_id=made.id, detail=detail | {"rev": made.rev + 1, "image": "gone.jpg"})
    plant.inspect(same, other)
    plant.lose(0)
    plant.replay()
    assert [(row.recipe_id, row.image_path) for row in plant.rows()] == [(made.id, "kept.jpg"), (None, None)]
    assert plant.rows()[0].detail["reason"] == "because"


SETTLED = {
    "from the start": ((90, 91), [(100, 8)]),
    "one is not in the log": ((90, 92), [(92, 1), (100, 7)]),
    "all": (range(90, 100), []),
}


@pytest.mark.parametrize("case", SETTLED)
def test_of_a_long_absence_is_owed_what_was_not_settled(plant: Plant, case: str) -> None:
    triggers, owed = SETTLED[case]
    plant.inspect(replace(record(1), trg=100, err=journal.MISSED_TRIGGER, unseen=10))
    for seq, trg in enumerate(triggers, start=2):
        plant.redo.append([replace(record(seq), trg=trg, err=journal.MISSED_TRIGGER, flg=journal.LATE)])
    plant.lose(0)
    with plant.store.write() as session:
        session.execute(delete(AbsenceRow))
    assert plant.replay() == len(triggers) + 1
    with plant.store.read() as session:
        left = session.scalars(select(AbsenceRow))
        assert sorted((one.before, one.unseen) for one in left) == sorted(owed)


def test_a_disk_that_refuses_the_log_is_told_once_and_stops_nothing(
    plant: Plant, caplog: pytest.LogCaptureFixture
) -> None:
    plant.folder.parent.mkdir(parents=True)
    plant.folder.write_text("a file, not a folder")
    for seq in (1, 2):
        plant.inspect(record(seq))
    assert plant.seqs == [1, 2]
    assert caplog.text.count("the redo log cannot be written") == 1
    assert plant.redo.problem
    assert plant.replay() == 0
