"""Parts that passed by unseen in a long absence: each gets one verdict, a few at a time, and a restart loses none."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from edge.absences import BUSY_PAUSE_S, CHUNK, RETRY_S, Absences
from edge.gaps import COUNTER_PERIOD
from edge.verdicts import Statement, refuse
from inspector.contract.codes import ErrorCode, Flag
from inspector.errors import StoreError
from inspector.store import engine, journal, stations
from inspector.store.redo import RedoLog
from inspector.store.schema import AbsenceRow, InspectionRow
from inspector.store.writer import StoreWriter
from inspector.types import Verdict
from tests.edge.part_maker import failed, part


class Books:
    """A database with verdicts, and what is owed by it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "books.db"
        url = f"sqlite:///{self.path}"
        engine.upgrade(url)
        self.store = engine.open_store(url)
        self.writer = StoreWriter(self.store)
        self.writer.start()
        self.station_id: int = self.writer.call(lambda session: stations.ensure_station(session, "s").id)
        self.redo = RedoLog(folder / "redo", 2)
        self.absences = Absences(self.writer, self.station_id, self.redo)
        self.seq = 0

    def statement(self, answer: object) -> Statement:
        self.seq += 1
        return Statement(answer, self.seq, 1)  # type: ignore[arg-type]

    def told(self, trigger: int, unseen: int) -> None:
        """The missed trigger that ends an absence is stored, and a part after it."""
        missed = replace(failed(trigger, code=ErrorCode.MISSED_TRIGGER), unseen=unseen)
        after = refuse(part(trigger % COUNTER_PERIOD + 1), ErrorCode.NO_RECIPE)
        statements = [self.statement(refuse(missed, missed.failure)), self.statement(after)]
        self.commit(statements)
        self.absences.noticed()

    def commit(self, statements: list[Statement]) -> None:
        records = [one.record(0.0) for one in statements]
        self.writer.call(lambda session: journal.commit_verdicts(session, self.station_id, records))

    def settle(self, now: float = 0.0, *, idle: bool = True) -> int:
        """One round, with the database's answers in between; gives how many verdicts it stored."""
        for _ in range(2):
            if answers := self.absences.due(now, idle=idle):
                self.absences.store([self.statement(answer) for answer in answers])
                break
            self.writer.call(lambda _: None)
        self.writer.call(lambda _: None)
        return len(self.absences.settled(now))

    def rows(self) -> list[InspectionRow]:
        with self.store.read() as session:
            return list(session.scalars(select(InspectionRow).order_by(InspectionRow.seq)))

    def left(self) -> list[int]:
        with self.store.read() as session:
            return list(session.scalars(select(AbsenceRow.unseen)))

    def last_trigger(self) -> int:
        with self.store.read() as session:
            return journal.last_trigger(session, self.station_id, "a")


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    made = Books(tmp_path)
    yield made
    made.writer.stop()
    made.store.close()


def test_each_part_of_an_absence_gets_one_verdict_in_the_order_of_the_counter(books: Books) -> None:
    books.told(1000, 2 * CHUNK + 3)
    assert [books.settle(), books.settle(), books.settle(), books.settle()] == [CHUNK, CHUNK, 3, 0]
    settled = books.rows()[2:]
    assert [row.trg for row in settled] == list(range(1000 - (2 * CHUNK + 3), 1000))
    assert {(row.verdict, row.err, row.flg) for row in settled} == {(Verdict.NONE, ErrorCode.MISSED_TRIGGER, Flag.LATE)}
    assert books.left() == []


def test_an_absence_over_the_end_of_the_counter_is_settled_too(books: Books) -> None:
    books.told(2, 3)
    books.settle()
    assert [row.trg for row in books.rows()[2:]] == [COUNTER_PERIOD - 1, COUNTER_PERIOD, 1]


def test_a_busy_line_is_asked_for_them_only_now_and_then(books: Books) -> None:
    books.told(1000, 3 * CHUNK)
    assert books.settle(0.0, idle=False) == CHUNK
    assert books.settle(BUSY_PAUSE_S / 2, idle=True) == 0
    assert books.settle(BUSY_PAUSE_S, idle=False) == CHUNK


def test_the_next_worker_goes_on_where_this_one_ended_and_knows_the_last_trigger(books: Books) -> None:
    books.told(1000, CHUNK + 5)
    books.settle()
    assert books.last_trigger() == 1001
    books.absences = Absences(books.writer, books.station_id, books.redo)
    assert [books.settle(), books.settle()] == [5, 0]
    assert sorted(row.trg for row in books.rows()) == list(range(1000 - CHUNK - 5, 1002))


def test_while_the_database_is_locked_nobody_waits_and_nothing_is_lost_or_doubled(books: Books) -> None:
    books.told(1000, 10)
    books.absences.due(0.0, idle=True)
    books.writer.call(lambda _: None)
    answers = books.absences.due(0.0, idle=True)
    thief = sqlite3.connect(books.path, isolation_level=None)
    thief.execute("BEGIN IMMEDIATE")
    books.absences.store([books.statement(answer) for answer in answers])
    assert books.absences.settled(0.0) == []
    assert books.absences.due(0.0, idle=True) == []
    assert books.absences.pending
    thief.execute("ROLLBACK")
    thief.close()
    books.writer.call(lambda _: None)
    assert len(books.absences.settled(0.0)) == 10
    assert (books.settle(), books.absences.pending) == (0, False)
    assert sorted(row.trg for row in books.rows()) == list(range(990, 1002))


def test_what_the_database_refuses_is_owed_as_before_and_asked_for_later(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_all(*_: object) -> bool:
        raise StoreError("the disk is full")

    books.told(1000, 10)
    with monkeypatch.context() as broken:
        broken.setattr(journal, "settle_absence", refuse_all)
        assert books.settle(5.0) == 0
    assert books.settle(5.0 + RETRY_S / 2) == 0
    assert books.settle(5.0 + RETRY_S) == 10
    assert sorted(row.trg for row in books.rows()) == list(range(990, 1002))


def test_a_verdict_that_is_stored_anew_tells_of_its_absence_once(books: Books) -> None:
    missed = replace(failed(50, code=ErrorCode.MISSED_TRIGGER), unseen=7)
    record = books.statement(refuse(missed, missed.failure)).record(0.0)
    books.writer.call(lambda session: journal.commit_verdicts(session, books.station_id, [record]))
    books.writer.call(lambda session: journal.replace_verdicts(session, books.station_id, [record]))
    assert books.left() == [7]


def test_the_store_and_the_contract_mean_the_same_code_and_flag() -> None:
    assert (journal.MISSED_TRIGGER, journal.LATE) == (ErrorCode.MISSED_TRIGGER, Flag.LATE)
