"""Parts that a killed worker left are found and answered, each once."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.deadlines import Deadlines
from edge.inflight import SLOTS, InFlight, left_behind
from edge.recovery import answer_left_overs
from edge.verdicts import Statement, refuse
from inspector.contract.codes import ErrorCode
from inspector.store import engine, journal, stations
from inspector.store.redo import RedoLog
from inspector.store.schema import InspectionRow
from inspector.store.writer import StoreWriter
from tests.edge.part_maker import AT, failed, part


def test_what_was_not_closed_is_left_behind_in_order(tmp_path: Path) -> None:
    kept = InFlight(tmp_path / "s.inflight", boot=7)
    for number in (1, 2, 3):
        kept.open(part(number, camera="line-a"))
    kept.close(part(2))
    left = left_behind(tmp_path / "s.inflight")
    assert [(one.boot, one.camera, one.frame_id, one.trigger, one.part_id) for one in left] == [
        (7, "line-a", 1, 1, "p1"),
        (7, "line-a", 3, 3, "p3"),
    ]
    assert left[0].captured_at == AT


def test_an_absence_that_a_left_part_told_of_is_not_forgotten(tmp_path: Path) -> None:
    InFlight(tmp_path / "s.inflight", boot=1).open(replace(failed(9, code=ErrorCode.MISSED_TRIGGER), unseen=4000))
    (left,) = left_behind(tmp_path / "s.inflight")
    assert (left.trigger, left.unseen) == (9, 4000)


def test_a_new_worker_begins_with_none(tmp_path: Path) -> None:
    InFlight(tmp_path / "s.inflight", boot=1).open(part(1))
    InFlight(tmp_path / "s.inflight", boot=2)
    assert left_behind(tmp_path / "s.inflight") == ()


@pytest.mark.parametrize("data", [b"", b"VIFL", b"x" * 500_000])
def test_a_damaged_file_gives_nothing_and_does_not_stop_the_worker(
    tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s.inflight"
    path.write_bytes(data)
    assert left_behind(path) == ()
    assert "nothing is taken from it" in caplog.text
    InFlight(path, boot=1)


def test_more_parts_than_slots_are_told_and_harm_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = InFlight(tmp_path / "s.inflight", boot=1)
    for number in range(1, SLOTS + 2):
        kept.open(part(number))
    assert f"part {SLOTS + 1} is not kept" in caplog.text
    kept.close(part(SLOTS + 1))
    assert len(left_behind(tmp_path / "s.inflight")) == SLOTS


@given(st.lists(st.integers(1, 30), max_size=60))
@settings(max_examples=20)
def test_whatever_is_opened_and_closed_exactly_the_open_ones_are_left(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int]
) -> None:
    path = tmp_path_factory.mktemp("f") / "s.inflight"
    kept, expected = InFlight(path, boot=1), set()
    for number in numbers:
        if number in expected:
            kept.close(part(number))
            expected.discard(number)
        else:
            kept.open(part(number))
            expected.add(number)
    assert {one.frame_id for one in left_behind(path)} == expected


def test_left_parts_get_none_once_and_those_that_have_their_row_get_no_second(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    engine.upgrade(url)
    store = engine.open_store(url)
    writer = StoreWriter(store)
    writer.start()
    station_id: int = writer.call(lambda session: stations.ensure_station(session, "s").id)
    path = tmp_path / "s.inflight"
    register = Deadlines(InFlight(path, boot=1))
    parts = [register.open(part) for _ in range(3)]
    done = Statement(refuse(parts[1].fail(ErrorCode.ABORTED, "x"), ErrorCode.ABORTED), 1, 1)
    writer.call(lambda session: journal.commit_verdicts(session, station_id, [done.record(0.0)]))  # and then it died

    redo = RedoLog(tmp_path / "redo", 2)
    assert answer_left_overs(path, writer, station_id, 2, redo) == 2
    assert answer_left_overs(path, writer, station_id, 2, redo) == 0  # killed again before it began a new file
    with store.read() as session:
        rows = session.query(InspectionRow).order_by(InspectionRow.boot, InspectionRow.seq).all()
    assert [(row.boot, row.seq, row.trg, row.verdict, row.err) for row in rows] == [
        (1, 1, 2, 0, 503),
        (2, 1, 1, 0, 503),
        (2, 2, 3, 0, 503),
    ]
    assert rows[1].captured_at == datetime(2026, 1, 1, tzinfo=UTC)
    writer.stop()
    store.close()
