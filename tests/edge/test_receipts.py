"""The PLC's receipts: what is stored of them, and which raise alarm 703."""

import queue
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge import receipts as receipts_module
from edge.receipts import REMEMBERED_S, ReceiptBook, Receipts, Told
from edge.state import Station
from edge.verdicts import Answer, Statement
from inspector.contract.codes import ErrorCode, Flag, StationMode
from inspector.contract.gate import Reason
from inspector.contract.reports import Disposition
from inspector.contract.session import Lost, Received
from inspector.contract.topics import Topics
from inspector.store import engine, journal, stations
from inspector.store.journal import PlcDecision, VerdictRecord
from inspector.store.schema import InspectionRow
from inspector.store.writer import StoreWriter
from inspector.types import Verdict
from tests.brokers import wait_until
from tests.edge.part_maker import part

TOPICS = Topics("a/b")
TIMEOUT_S = 10.0


def told(trg: int, verdict: Verdict = Verdict.NG, *, seq: int | None = None, flg: int = 0) -> Told:
    err = 503 if verdict is Verdict.NONE else 0
    return Told(boot=1, seq=trg if seq is None else seq, trg=trg, part="p", verdict=verdict, err=err, flg=flg)


def receipt(trg: int, *, passed: bool, seq: int | None = None, boot: int = 1) -> Disposition:
    reason = Reason.OK if passed else Reason.NOT_OK
    return Disposition(trg=trg, boot=boot, seq=trg if seq is None else seq, acc=int(passed), rsn=reason.number)


@pytest.mark.parametrize(
    ("verdict", "flg", "passes"),
    [
        (Verdict.OK, 0, True), (Verdict.OK, Flag.SIMULATED, True), (Verdict.OK, Flag.QUALITY_WARNING, True),
        (Verdict.OK, Flag.CHALLENGE, False), (Verdict.OK, 128, False), (Verdict.NG, 0, False),
        (Verdict.UNDECIDED, 0, False), (Verdict.NONE, 0, False),
    ],
)  # fmt: skip
def test_only_an_ok_without_a_blocking_flag_may_pass(verdict: Verdict, flg: int, passes: bool) -> None:
    assert told(1, verdict, flg=int(flg)).may_pass is passes


def test_a_reject_without_a_receipt_is_overdue_once_if_the_plc_has_sent_receipts() -> None:
    book = ReceiptBook(TIMEOUT_S)
    book.take(receipt(1, passed=False), 0.0)
    for trg, verdict in ((2, Verdict.NG), (3, Verdict.OK), (4, Verdict.NONE), (5, Verdict.UNDECIDED)):
        book.tell(told(trg, verdict), 1.0)
    book.take(receipt(4, passed=False), 1.5)
    assert book.overdue(1.0 + TIMEOUT_S) == []
    assert [one.trg for one in book.overdue(1.1 + TIMEOUT_S)] == [2, 5]
    assert book.overdue(100.0) == []


def test_a_plc_that_never_sent_a_receipt_owes_none_and_none_is_awaited_with_a_time_of_zero() -> None:
    silent, off = ReceiptBook(TIMEOUT_S), ReceiptBook(0.0)
    off.take(receipt(1, passed=False), 0.0)
    for book in (silent, off):
        book.tell(told(2), 0.0)
        assert book.overdue(100.0) == []


def test_a_receipt_that_overtakes_its_verdict_is_not_awaited_again() -> None:
    book = ReceiptBook(TIMEOUT_S)
    book.take(receipt(2, passed=False), 0.0)
    assert not book.tell(told(2), 0.1)
    assert book.overdue(100.0) == []


def test_an_old_receipt_of_the_same_number_confirms_no_new_part() -> None:
    book = ReceiptBook(TIMEOUT_S)
    book.take(receipt(2, passed=False), 0.0)
    book.tell(told(2, seq=500), REMEMBERED_S + 1.0)
    assert [one.seq for one in book.overdue(100.0)] == [500]


def test_a_part_that_passed_by_one_camera_and_must_not_by_the_next_is_found() -> None:
    book = ReceiptBook(TIMEOUT_S)
    book.tell(told(2, Verdict.OK, seq=7), 0.0)
    book.take(receipt(2, passed=True, seq=7), 0.1)
    assert book.tell(told(2, Verdict.NG, seq=8), 0.2)


def test_free_running_verdicts_have_no_receipts_and_a_lost_connection_proves_nothing() -> None:
    book = ReceiptBook(TIMEOUT_S)
    book.take(receipt(1, passed=False), 0.0)
    book.tell(replace(told(2), trg=0), 0.0)
    book.tell(told(3), 0.0)
    book.forget()
    assert book.overdue(100.0) == []


class _Link:
    topics = TOPICS
    is_connected = True

    def __init__(self) -> None:
        self.events: queue.Queue[Any] = queue.Queue()

    def listen(self, *_: Any) -> "queue.Queue[Any]":
        return self.events


class Line:
    """A station whose verdicts are stored, and a PLC that answers."""

    def __init__(self, folder: Path, timeout_s: float = TIMEOUT_S) -> None:
        self.path = folder / "x.db"
        url = f"sqlite:///{self.path}"
        engine.upgrade(url)
        self.store = engine.open_store(url)
        self.writer = StoreWriter(self.store)
        self.writer.start()
        self.station_id: int = self.writer.call(lambda session: stations.ensure_station(session, "s").id)
        self.station = Station(boot=1, mode=StationMode.PRODUCTION, window_ms=2000, heartbeat_ms=1000)
        self.link = _Link()
        self.receipts = Receipts(self.link, self.station, self.station_id, self.writer, timeout_s)  # type: ignore[arg-type]
        self.receipts.start()

    def verdict(self, trg: int, verdict: Verdict, *, seen: bool = True) -> None:
        """As the inspection loop: commit, publish, tell."""
        statement = Statement(Answer(part(trg), verdict, ErrorCode.NONE), trg, 1)
        self.writer.call(lambda session: journal.commit_verdicts(session, self.station_id, [statement.record(0.1)]))
        if seen:
            self.receipts.seen(statement)

    def not_stored(self, trg: int) -> VerdictRecord:
        """The PLC hears NONE (800); gives the row that comes later."""
        statement = Statement(Answer(part(trg), Verdict.OK, ErrorCode.NONE), trg, 1).not_stored()
        self.receipts.seen(statement)
        return statement.record(0.1)

    def settle(self, *records: VerdictRecord) -> None:
        self.writer.call(lambda session: journal.replace_verdicts(session, self.station_id, records))

    def say(self, message: Disposition, *, retained: bool = False) -> None:
        before = self.receipts.status()["receipts"]
        self.link.events.put(Received(TOPICS.of("disp"), message.to_json(), retained, time.monotonic()))
        if not retained:
            wait_until(lambda: self.receipts.status()["receipts"] > before)

    def stored(self, trg: int) -> tuple[int | None, int | None]:
        with self.store.read() as session:
            row = session.query(InspectionRow).filter_by(trg=trg).one()
            return row.acc, row.rsn

    @property
    def alarms(self) -> list[tuple[int, str, str]]:
        return [(one.err, one.src, one.txt) for one in self.station.alarms.message(1).alarms]

    def close(self) -> None:
        self.receipts.stop()
        self.writer.stop()
        self.store.close()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path)
    yield made
    made.close()


def test_receipts_stand_beside_their_verdicts(line: Line) -> None:
    line.verdict(1, Verdict.OK)
    line.verdict(2, Verdict.NG)
    line.verdict(3, Verdict.OK)
    line.verdict(4, Verdict.OK)
    line.say(receipt(1, passed=True))
    line.say(receipt(2, passed=False))
    line.say(Disposition(trg=3, boot=0, seq=0, acc=0, rsn=Reason.MISSING.number))
    wait_until(lambda: line.stored(3) == (0, 2))
    assert [line.stored(trg) for trg in (1, 2, 4)] == [(1, 1), (0, 8), (None, None)]
    assert line.alarms == []


@pytest.mark.parametrize("verdict", [Verdict.NG, Verdict.UNDECIDED])
@pytest.mark.parametrize("seen", [True, False])
def test_a_part_that_passed_against_its_verdict_is_alarm_703_with_its_identity(
    line: Line, verdict: Verdict, seen: bool
) -> None:
    line.verdict(7, verdict, seen=seen)  # not seen: told by an earlier run of the worker
    line.say(receipt(7, passed=True))
    wait_until(lambda: line.alarms)
    [(err, source, text)] = line.alarms
    assert (err, source) == (ErrorCode.REJECT_NOT_CONFIRMED, "plc")
    assert text == f"the PLC let pass part p7 (trigger 7, seq 7): {verdict.name}"
    assert line.stored(7) == (1, 1)
    assert line.receipts.status()["rejects_not_confirmed"] == 1


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (receipt(8, passed=True, seq=999), "trigger 8: the station knows no verdict 1/999"),
        (receipt(8, passed=True, boot=0, seq=0), "trigger 8: the station knows no verdict 0/0"),
        (receipt(9, passed=True, seq=8), "trigger 9 by the verdict of another: part p8 (trigger 8, seq 8): OK"),
    ],
)
def test_a_part_that_passed_by_no_verdict_of_its_own_is_alarm_703(line: Line, wrong: Disposition, text: str) -> None:
    line.verdict(8, Verdict.OK)
    line.say(wrong)
    wait_until(lambda: line.alarms)
    assert line.alarms == [(ErrorCode.REJECT_NOT_CONFIRMED, "plc", f"the PLC let pass {text}")]


def test_a_reject_whose_receipt_does_not_come_is_alarm_703(tmp_path: Path) -> None:
    line = Line(tmp_path, timeout_s=0.05)
    line.say(receipt(1, passed=False))
    line.verdict(2, Verdict.NG)
    wait_until(lambda: line.alarms)
    line.close()
    text = "no receipt of the PLC for part p2 (trigger 2, seq 2): NG"
    assert line.alarms == [(ErrorCode.REJECT_NOT_CONFIRMED, "receipt", text)]


def test_the_alarm_goes_once_it_is_confirmed_and_comes_with_the_next_part(line: Line) -> None:
    for trg in (5, 6):
        line.verdict(trg, Verdict.NG)
        line.say(receipt(trg, passed=True))
        wait_until(lambda: line.alarms)
        assert f"trigger {trg}," in line.alarms[0][2]
        assert line.station.alarms.confirm(ErrorCode.REJECT_NOT_CONFIRMED)
        wait_until(lambda: not line.alarms)


def test_a_retained_or_broken_receipt_says_nothing(line: Line) -> None:
    line.verdict(5, Verdict.NG)
    line.say(receipt(5, passed=True), retained=True)
    line.link.events.put(Received(TOPICS.of("disp"), b'{"acc":1}', False, time.monotonic()))
    line.link.events.put(Lost(1, "gone"))
    line.verdict(6, Verdict.OK)
    line.say(receipt(6, passed=True))
    wait_until(lambda: line.stored(6) == (1, 1))
    assert (line.alarms, line.stored(5)) == ([], (None, None))


def test_what_the_plc_did_without_waiting_for_a_verdict_stands_beside_it_when_it_comes(line: Line) -> None:
    line.say(Disposition(trg=5, boot=0, seq=0, acc=0, rsn=Reason.MISSING.number))
    line.verdict(5, Verdict.NG)
    line.say(Disposition(trg=6, boot=0, seq=0, acc=0, rsn=Reason.MISSING.number))
    line.verdict(6, Verdict.OK)
    wait_until(lambda: line.stored(6) == (0, 2))
    assert (line.stored(5), line.alarms) == ((0, 2), [])


def test_what_the_plc_did_while_the_database_was_away_stands_beside_the_verdict_once_it_has_its_row(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts_module, "STORE_TIMEOUT_S", 0.2)
    line.verdict(1, Verdict.OK)
    thief = sqlite3.connect(line.path, isolation_level=None)
    thief.execute("BEGIN IMMEDIATE")
    line.say(receipt(1, passed=True))  # its row is there and cannot be written
    owed = line.not_stored(2)
    line.say(receipt(2, passed=False))
    thief.execute("ROLLBACK")
    thief.close()
    wait_until(lambda: line.stored(1) == (1, 1), 60)
    line.settle(owed)
    wait_until(lambda: line.stored(2) == (0, 8), 60)
    assert line.alarms == []


def test_a_receipt_that_overtakes_the_knowledge_of_a_verdict_without_a_row_waits_for_the_row_too(line: Line) -> None:
    line.say(receipt(3, passed=False))
    line.say(receipt(4, passed=False))
    line.settle(line.not_stored(3))
    wait_until(lambda: line.stored(3) == (0, 8), 60)


def test_a_station_that_stops_stores_what_the_plc_did_as_far_as_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts_module, "RETRY_S", 1000.0)
    line = Line(tmp_path)
    owed = [line.not_stored(trg) for trg in (1, 2)]
    line.say(receipt(1, passed=False))
    line.say(receipt(2, passed=False))
    line.settle(owed[0])
    line.receipts.stop()
    assert line.stored(1) == (0, 8)
    assert "receipts of the PLC that are not stored: 1" in caplog.text
    line.close()


def test_of_receipts_that_wait_the_newest_are_kept_and_the_others_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts_module, "MOST_UNWRITTEN", 3)
    book = ReceiptBook(TIMEOUT_S)
    said = [PlcDecision(1, seq, 0, 8) for seq in range(1, 6)]
    for one in said:
        book.owe(one.identity)
    assert book.unwritten(said, 10) == said
    assert (book.waiting, book.forgotten) == (3, 2)
    book.wrote(said, {(1, 5)})
    assert book.unwritten([], 1) == said[2:3]
    book.wrote(said[2:3], {})
    assert book.unwritten([], 10) == [said[3], said[2]], "those that were tried wait behind the others"


def test_a_receipt_of_a_verdict_that_never_was_does_not_wait_and_a_newer_one_of_the_same_part_counts() -> None:
    book = ReceiptBook(TIMEOUT_S)
    foreign, first, second = (PlcDecision(1, seq, acc, 8) for seq, acc in ((999, 0), (7, 0), (7, 1)))
    book.owe(first.identity)
    tried = book.unwritten([foreign, first], 10)
    book.unwritten([second], 10)
    book.wrote(tried, {(1, 7)})
    assert book.unwritten([], 10) == [second]
    book.wrote([second], {(1, 7)})
    assert book.waiting == 0
