"""Verdicts are stored before they are published; while they cannot be, no part passes and no row is lost."""

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from edge import ledger as ledger_module
from edge.ledger import Ledger
from edge.outbox import StationOutbox
from edge.state import Station
from edge.verdicts import Statement, judge
from inspector.contract.codes import ErrorCode, StationMode
from inspector.errors import StationError
from inspector.store import engine, stations
from inspector.store.redo import RedoLog, last_line, segments
from inspector.store.replay import replay
from inspector.store.schema import InspectionRow
from inspector.store.writer import StoreWriter
from inspector.types import Verdict
from tests.edge.detector_stub import active, inspection
from tests.edge.part_maker import part
from tests.patience import StalledCommit, give_up_when


class Books:
    """A ledger on a real database, which a thief may lock."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "books.db"
        url = f"sqlite:///{self.path}"
        engine.upgrade(url)
        self.store = engine.open_store(url)
        self.writer = StoreWriter(self.store)
        self.writer.start()
        self.station_id: int = self.writer.call(lambda session: stations.ensure_station(session, "s").id)
        self.station = Station(boot=1, mode=StationMode.PRODUCTION, window_ms=2000, heartbeat_ms=1000)
        self.station.set_up(active())
        self.ledger = Ledger(self.writer, self.station_id, self.station, RedoLog(folder / "redo", 2))

    def commit(self, *seqs: int) -> list[tuple[int, bool]]:
        """Commit an OK for each number; gives what may be published: verdict, and whether it is stored."""
        recipe = active(recipe_id=None)
        statements = [Statement(judge(part(seq), inspection(0.2), recipe, now_monotonic_s=0.0), seq, 1) for seq in seqs]
        return [(one.result.res, row is not None) for one, row in self.ledger.commit(statements)]

    def rows(self) -> list[tuple[int, int, int]]:
        with self.store.read() as session:
            found = session.scalars(select(InspectionRow).order_by(InspectionRow.seq))
            return [(row.seq, row.verdict, row.err) for row in found]

    def outbox(self) -> list[tuple[str, int, int]]:
        """What the publisher may send: topic, number, verdict."""
        pending = StationOutbox(self.writer, self.station_id).pending(100)
        payloads = [(row.topic, json.loads(row.payload)) for row in pending]
        return [(topic, said["seq"], said["res"]) for topic, said in payloads]

    def lock(self) -> sqlite3.Connection:
        thief = sqlite3.connect(self.path, isolation_level=None)
        thief.execute("BEGIN IMMEDIATE")
        return thief


@pytest.fixture
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Books]:
    monkeypatch.setattr(ledger_module, "COMMIT_TIMEOUT_S", 0.2)
    made = Books(tmp_path)
    yield made
    made.writer.stop()
    made.store.close()


def test_what_is_stored_may_be_published_as_it_is(books: Books) -> None:
    assert books.commit(1, 2) == [(Verdict.OK, True), (Verdict.OK, True)]
    assert books.rows() == [(1, Verdict.OK, 0), (2, Verdict.OK, 0)]


def test_what_cannot_be_stored_goes_out_as_none_and_is_stored_as_none_later(books: Books) -> None:
    books.commit(1)
    thief = books.lock()
    assert books.commit(2, 3) == [(Verdict.NONE, False), (Verdict.NONE, False)]
    assert books.station.snapshot.refusal is ErrorCode.STORAGE
    assert books.commit(4) == [(Verdict.NONE, False)]
    books.ledger.retry(time.monotonic() + 10)
    assert len(books.ledger) == 3
    thief.execute("ROLLBACK")
    thief.close()
    books.ledger.close(20.0)
    assert books.rows() == [(1, Verdict.OK, 0)] + [(seq, Verdict.NONE, ErrorCode.STORAGE) for seq in (2, 3, 4)]
    assert books.station.snapshot.refusal is ErrorCode.NONE
    assert books.commit(5) == [(Verdict.OK, True)]


def test_a_commit_that_was_given_up_leaves_nothing_that_could_be_sent(books: Books) -> None:
    thief = books.lock()
    assert books.commit(2) == [(Verdict.NONE, False)]
    assert books.commit(3) == [(Verdict.NONE, False)]  # each further part makes the publisher read the outbox
    thief.execute("ROLLBACK")
    thief.close()
    books.writer.call(lambda _: None)  # what was given up has had its turn
    assert (books.rows(), books.outbox()) == ([], [])
    books.ledger.retry(time.monotonic() + 10)
    assert books.outbox() == [(topic, seq, Verdict.NONE) for seq in (2, 3) for topic in ("result", "detail")]


def test_a_commit_that_is_given_up_in_its_last_moment_sends_nothing_until_it_says_what_the_plc_heard(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.commit(1)
    lose_the_commit(books, monkeypatch, 2)
    assert books.commit(3) == [(Verdict.NONE, False)]
    assert books.rows()[1:] == [(2, Verdict.OK, 0)]
    assert {seq for _, seq, _ in books.outbox()} == {1}
    books.ledger.retry(time.monotonic() + 10)
    assert books.rows()[1:] == [(seq, Verdict.NONE, ErrorCode.STORAGE) for seq in (2, 3)]
    assert [verdict for _, seq, verdict in books.outbox() if seq > 1] == [Verdict.NONE] * 4


def lose_the_commit(books: Books, monkeypatch: pytest.MonkeyPatch, seq: int) -> None:
    """The disk stalls while a verdict is written: the PLC hears NONE, and then the OK is in the database."""
    commit = StalledCommit(books.store)
    with monkeypatch.context() as patching:
        give_up_when(commit.begun, patching)
        assert books.commit(seq) == [(Verdict.NONE, False)]
    commit.goes_on.set()
    books.writer.call(lambda _: None)


def test_a_worker_that_is_killed_while_the_database_is_away_leaves_what_the_plc_was_told(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.commit(1)
    lose_the_commit(books, monkeypatch, 2)
    assert books.commit(3) == [(Verdict.NONE, False)]
    books.ledger = None  # type: ignore[assignment]  # kill -9
    replay(books.store, books.station_id, books.path.parent / "redo", books.path.parent)
    assert books.rows() == [(1, Verdict.OK, 0)] + [(seq, Verdict.NONE, ErrorCode.STORAGE) for seq in (2, 3)]
    books.writer.in_doubt = frozenset()  # as in the next worker
    assert {seq for _, seq, _ in books.outbox()} == {1}
    with books.store.read() as session:
        detail = session.scalars(select(InspectionRow.detail).where(InspectionRow.seq == 2)).one()
    assert (detail["res"], detail["err"], detail["reason"]) == (0, 800, "the verdict could not be stored")


def test_what_only_the_redo_log_has_is_on_the_disk_before_the_plc_hears_it(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(Path(f"/proc/self/fd/{handle}").readlink()))
    books.commit(1)
    books.ledger.log_stored()
    assert synced == []
    thief = books.lock()
    books.commit(2)
    folder = books.path.parent / "redo"
    assert synced == [folder / "00000001-0001.jsonl", folder]
    assert last_line_of(books) == (2, Verdict.NONE)
    books.commit(3, 4)
    assert len(synced) == 3, "the folder knows the file by now"
    thief.execute("ROLLBACK")
    thief.close()
    books.ledger.retry(time.monotonic() + 10)
    books.commit(5)
    assert len(synced) == 3


def test_what_is_stored_is_in_the_redo_log_once_it_is_published(books: Books) -> None:
    books.commit(1, 2)
    assert last_line_of(books) is None
    books.ledger.log_stored()
    assert last_line_of(books) == (2, Verdict.OK)


def last_line_of(books: Books) -> tuple[int, int] | None:
    found = [line for path in segments(books.path.parent / "redo") if (line := last_line(path)) is not None]
    return (found[-1].seq, found[-1].verdict) if found else None


def test_no_more_verdicts_are_kept_than_there_is_room_for(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "MAX_BACKLOG", 2)
    thief = books.lock()
    books.commit(1, 2)
    with pytest.raises(StationError, match="2 verdicts wait"):
        books.commit(3)
    with pytest.raises(StationError, match="not in the database"):
        books.ledger.close(0.1)
    thief.execute("ROLLBACK")
    thief.close()


def _damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [_damage, Path.unlink], ids=["damaged", "deleted"])
def test_a_database_that_is_lost_while_the_line_runs_ends_the_worker_so_that_the_next_one_restores_it(
    books: Books, caplog: pytest.LogCaptureFixture, harm: Callable[[Path], None]
) -> None:
    books.commit(1)
    books.store.checkpoint()
    books.store.close()  # what was read before is not asked for again
    harm(books.path)
    assert books.commit(2) == [(Verdict.NONE, False)]
    with pytest.raises(StationError, match="next start restores a backup"):
        books.ledger.retry(time.monotonic() + 10)
    assert "not stored: seq=2" in caplog.text


def test_a_database_that_is_only_locked_does_not_end_the_worker(books: Books) -> None:
    thief = books.lock()
    books.commit(1)
    books.ledger.retry(time.monotonic() + 10)
    assert len(books.ledger) == 1
    thief.execute("ROLLBACK")
    thief.close()
    books.ledger.close(20.0)
