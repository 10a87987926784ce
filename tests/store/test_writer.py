"""The one writer: what its caller gave up on leaves nothing, or stays in doubt; and how SQLite is set up for it."""

import threading
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from inspector.errors import StoreError
from inspector.store import copying, engine, journal
from inspector.store.engine import Store
from inspector.store.schema import InspectionRow
from inspector.store.writer import StoreWriter
from inspector.types import Verdict
from tests.patience import StalledCommit, give_up_when
from tests.store.test_store import record, station_id


def test_work_that_its_caller_gave_up_on_leaves_nothing_and_no_doubt(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, writer, at_work, goes_on = station_id(store), StoreWriter(store), threading.Event(), threading.Event()

    def slow(session: Session) -> None:
        journal.commit_verdicts(session, line, [record(1)])
        at_work.set()
        goes_on.wait(60)

    writer.start()
    with monkeypatch.context() as patching:
        give_up_when(at_work, patching)
        with pytest.raises(StoreError, match="did not answer within 2 s"):
            writer.call(slow, timeout_s=2.0, about={(1, 1)})
    goes_on.set()
    writer.call(lambda session: journal.commit_verdicts(session, line, [record(2)]), about={(1, 2)})
    writer.stop()
    assert writer.in_doubt == frozenset()
    with store.read() as session:
        assert session.scalars(select(InspectionRow.seq)).all() == [2]


def test_what_is_given_up_while_it_is_committed_stays_in_doubt_until_it_is_put_right(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, writer, commit = station_id(store), StoreWriter(store), StalledCommit(store)
    writer.start()
    with monkeypatch.context() as patching:
        give_up_when(commit.begun, patching)
        with pytest.raises(StoreError, match="did not answer"):
            writer.call(lambda session: journal.commit_verdicts(session, line, [record(1)]), about={(1, 1)})
    commit.goes_on.set()
    with pytest.raises(ZeroDivisionError):
        writer.call(lambda _: 1 / 0, about={(1, 1)})
    assert writer.in_doubt == {(1, 1)}, "what leaves nothing settles nothing"
    writer.call(lambda session: journal.replace_verdicts(session, line, [record(1, Verdict.NONE)]), about={(1, 1)})
    writer.stop()
    assert writer.in_doubt == frozenset()
    with store.read() as session:
        assert session.scalars(select(InspectionRow.verdict)).all() == [Verdict.NONE]


def test_a_verdict_that_is_replaced_keeps_what_the_plc_did_with_its_part(store: Store) -> None:
    line = station_id(store)
    with store.write() as session:
        copying.begin(session, line)
        journal.commit_verdicts(session, line, [record(1), record(2)])
        journal.set_dispositions(session, line, [journal.PlcDecision(1, 1, 0, 8)])
    with store.write() as session:
        journal.replace_verdicts(session, line, [record(seq, Verdict.NONE, err=800) for seq in (1, 2, 3)])
    with store.read() as session:
        rows = session.scalars(select(InspectionRow).order_by(InspectionRow.seq)).all()
        said = [(row.verdict, row.acc, row.rsn, row.disposition_no) for row in rows]
    assert said == [(Verdict.NONE, 0, 8, 1), (Verdict.NONE, None, None, None), (Verdict.NONE, None, None, None)]


def test_sqlite_is_set_up_so_that_a_power_cut_takes_no_verdict_and_a_reader_writes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    engine.upgrade(url)
    store = engine.open_store(url)

    def pragmas(session: Session, *names: str) -> list[object]:
        return [session.scalar(text(f"PRAGMA {name}")) for name in names]

    everywhere = ("busy_timeout", "foreign_keys", "journal_mode", "query_only")
    with store.write() as session:
        assert pragmas(session, *everywhere) == [5000, 1, "wal", 0]
        assert pragmas(session, "synchronous", "journal_size_limit") == [2, 64 * 2**20]
    with store.read() as session:
        assert pragmas(session, *everywhere) == [5000, 1, "wal", 1]
    store.close()
