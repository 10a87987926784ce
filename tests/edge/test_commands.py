"""What each command does to a station, what it is answered, and that the same cid runs once."""

import json
import queue
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from edge.commands import STALE_S, CommandDesk, CommandTargets
from edge.state import ActiveRecipe, Station
from inspector.contract.codes import AckCode, ErrorCode, StationMode, StationState
from inspector.contract.session import Received
from inspector.contract.topics import Topics
from inspector.errors import StationError, StoreError
from inspector.store import commands, engine, products, stations
from inspector.store.schema import Activation, Audit
from inspector.store.writer import StoreWriter
from tests import stored
from tests.brokers import wait_until
from tests.edge.detector_stub import active

TOPICS = Topics("a/b")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class _Camera:
    """Waits for triggers like one with `trigger: mqtt`."""

    triggered = True

    def __init__(self) -> None:
        self.triggers: list[tuple[int, str]] = []
        self.refused: list[tuple[int, str, ErrorCode]] = []
        self.left = self.dropped = 0

    def trigger(self, trg: int, part_id: str, _came: float) -> bool:
        self.triggers.append((trg, part_id))
        return True

    def refuse(self, trg: int, part_id: str, failure: ErrorCode) -> None:
        self.refused.append((trg, part_id, failure))

    def leave(self) -> None:
        self.left += 1

    def drop(self) -> None:
        self.dropped += 1


class _Link:
    """A broker that hands over what the test sends."""

    topics = TOPICS

    def __init__(self) -> None:
        self.events: queue.Queue[Any] = queue.Queue()

    def listen(self, *_: Any) -> "queue.Queue[Any]":
        return self.events


class _Verification:
    """Holds the station by `hold` for each product that takes over."""

    running, problem, hold = False, "", ErrorCode.NONE

    def __init__(self, station: Station) -> None:
        self._station = station
        self.taken_over: list[tuple[ErrorCode, datetime | None]] = []

    def take_over(self, _: ActiveRecipe, activate: Callable[[], None], first_at: datetime | None) -> None:
        self._station.hold(self.hold)
        self.taken_over.append((self._station.snapshot.refusal, first_at))
        activate()


class Desk:
    """A command desk with its station and database; `answers` are the codes by cid."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'x.db'}"
        engine.upgrade(self.url)
        self.store = engine.open_store(self.url)
        self.writer = StoreWriter(self.store)
        self.writer.start()
        self.station_id: int = self.writer.call(lambda session: stations.ensure_station(session, "s").id)
        self.station = Station(
            boot=1, mode=StationMode.PRODUCTION, window_ms=2000, heartbeat_ms=1000, stopped=self.stopped
        )
        self.camera, self.link = _Camera(), _Link()
        self.verification = _Verification(self.station)
        self.answers: dict[int, list[AckCode]] = {}
        self.repeated = 0
        self.prepare: Callable[[int], ActiveRecipe] = lambda _: active()
        targets = CommandTargets(
            station=self.station,
            station_id=self.station_id,
            cameras=[self.camera],  # type: ignore[list-item]
            writer=self.writer,
            prepare=self._prepare,
            approve=lambda _: 0,
            verification=self.verification,  # type: ignore[arg-type]
            part_length=24,
        )
        self.desk = CommandDesk(self.link, self, targets)  # type: ignore[arg-type]
        self.desk.start()

    def _prepare(self, recipe_id: int) -> ActiveRecipe:
        return self.prepare(recipe_id)

    def answer(self, cid: int, _name: str, code: AckCode, _since: float) -> None:
        """As the announcer."""
        self.answers.setdefault(cid, []).append(code)

    def say(self) -> None:
        self.repeated += 1

    def send(self, name: str, cid: int, **fields: Any) -> list[AckCode]:
        """Send a command; gives its answers once the final one is there."""
        before = len(self.answers.get(cid, []))
        payload = json.dumps({"v": 1, "cid": cid, **fields}).encode()
        self.link.events.put(Received(TOPICS.cmd(name), payload, False, time.monotonic()))
        wait_until(lambda: any(code.is_final for code in self.answers.get(cid, [])[before:]))
        return self.answers[cid][before:]

    @property
    def stopped(self) -> str:
        """What the database keeps of the last stop."""
        with self.store.read() as session:
            return stations.get_station(session, self.station_id).stopped

    @property
    def st(self) -> StationState:
        return StationState(self.station.state_message(0).st)

    def close(self) -> None:
        self.desk.stop()
        self.writer.stop()
        self.store.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def test_a_trigger_whose_part_id_has_no_room_is_refused_and_its_part_gets_none(desk: Desk) -> None:
    desk.station.set_up(active())
    assert desk.send("trigger", 1, trg=7, part="x" * 24) == [AckCode.DONE]
    assert desk.send("trigger", 2, trg=8, part="y" * 25) == [AckCode.BAD_PAYLOAD]

    assert desk.camera.triggers == [(7, "x" * 24)]
    assert desk.camera.refused == [(8, "y" * 25, ErrorCode.PART_ID_TOO_LONG)]
    assert "trigger 8 is refused" in desk.desk.last_error
    assert "mqtt.resultb" in desk.desk.last_error


ONCE = [AckCode.ACCEPTED, AckCode.DONE]
REFUSED = [AckCode.ACCEPTED, AckCode.WRONG_STATE]


def test_a_stop_ends_with_a_start_and_what_came_by_before_it_is_left(desk: Desk) -> None:
    desk.station.set_up(active())
    assert desk.send("stop", 1) == ONCE
    assert (desk.st, desk.station.snapshot.refusal) == (StationState.HALTED, ErrorCode.ABORTED)
    assert (desk.camera.left, desk.camera.dropped) == (1, 0)
    assert desk.send("start", 2) == ONCE
    assert desk.st is StationState.CONTINUOUS_EXECUTION


def test_an_abort_drops_the_triggers_that_wait_and_ends_with_a_start(desk: Desk) -> None:
    desk.station.set_up(active())
    epoch = desk.station.snapshot.epoch
    assert desk.send("abort", 1) == ONCE
    assert desk.camera.dropped == 1
    assert desk.station.snapshot.epoch > epoch  # nothing that was seen before can get a verdict but NONE
    assert (desk.st, desk.station.snapshot.refusal) == (StationState.HALTED, ErrorCode.ABORTED)
    assert desk.send("start", 2) == ONCE
    assert desk.st is StationState.CONTINUOUS_EXECUTION


def test_after_a_halt_only_a_reset_lets_a_start_begin(desk: Desk) -> None:
    desk.station.set_up(active())
    assert desk.send("halt", 1) == ONCE
    assert (desk.st, desk.station.snapshot.refusal) == (StationState.HALTED, ErrorCode.ABORTED)
    assert desk.send("start", 2) == REFUSED
    assert desk.st is StationState.HALTED
    assert desk.send("reset", 3) == ONCE
    assert (desk.st, desk.station.snapshot.refusal) == (StationState.HALTED, ErrorCode.ABORTED)
    assert desk.send("start", 4) == ONCE
    assert desk.st is StationState.CONTINUOUS_EXECUTION


def test_a_halt_is_obeyed_without_a_product_where_a_stop_is_not(desk: Desk) -> None:
    desk.station.set_up(None)
    assert desk.send("stop", 1) == REFUSED
    assert desk.send("abort", 2) == REFUSED
    assert desk.send("halt", 3) == ONCE
    assert desk.st is StationState.HALTED
    assert desk.send("reset", 4) == ONCE
    assert desk.st is StationState.INITIALIZED


def test_a_reset_of_a_running_station_changes_nothing(desk: Desk) -> None:
    desk.station.set_up(active())
    epoch = desk.station.snapshot.epoch
    assert desk.send("reset", 1) == ONCE
    assert (desk.st, desk.station.snapshot.epoch) == (StationState.CONTINUOUS_EXECUTION, epoch)


@pytest.mark.parametrize("hold", [ErrorCode.CHALLENGE_FAILED, ErrorCode.CHALLENGE_OVERDUE])
def test_a_reset_never_clears_the_hold_of_a_challenge(desk: Desk, hold: ErrorCode) -> None:
    desk.station.set_up(active())
    desk.station.hold(hold)
    desk.station.alarms.up(hold, "challenge 12 failed")
    desk.send("halt", 1)
    assert desk.send("reset", 2) == [AckCode.ACCEPTED, AckCode.VERIFICATION_PENDING]
    assert desk.send("start", 3) == [AckCode.ACCEPTED, AckCode.VERIFICATION_PENDING]
    assert (desk.st, desk.station.snapshot.hold) == (StationState.HALTED, hold)
    assert desk.station.alarms.count == 1


def test_a_reset_does_not_end_a_fault_whose_cause_is_there(desk: Desk) -> None:
    desk.station.set_up(active())
    desk.station.fail(ErrorCode.STORAGE)
    assert desk.send("reset", 1) == REFUSED
    assert desk.st is StationState.ERROR
    desk.station.recover()
    assert desk.send("reset", 2) == ONCE


def _teach(desk: Desk, folder: Path) -> None:
    image = np.zeros((32, 32, 3), np.uint8)

    def teach(session: Session) -> None:
        recipe = stored.request_recipe(
            session, folder, "gear", [("1.png", image)], station_id=None, who="t", now=NOW, status="ready"
        )
        stations.set_active_recipe(session, desk.station_id, recipe.id, "t", NOW)

    desk.writer.call(teach)


def test_a_reset_tries_again_to_load_a_product_that_could_not_be_used(desk: Desk, tmp_path: Path) -> None:
    _teach(desk, tmp_path)

    def refuse(_: int) -> ActiveRecipe:
        raise StationError("the golden picture scores differently")

    desk.prepare = refuse
    desk.station.set_up(None, ErrorCode.FINGERPRINT_MISMATCH)
    assert desk.send("reset", 1) == [AckCode.ACCEPTED, AckCode.PREPARE_FAILED]
    assert (desk.st, desk.station.snapshot.refusal) == (StationState.INITIALIZED, ErrorCode.FINGERPRINT_MISMATCH)
    desk.prepare = lambda _: active()
    assert desk.send("reset", 2) == ONCE
    assert desk.st is StationState.CONTINUOUS_EXECUTION


@pytest.mark.parametrize("name", ["halt", "abort", "reset"])
def test_the_same_cid_gives_the_same_answer_and_runs_once(desk: Desk, name: str) -> None:
    desk.station.set_up(active())
    first = desk.send(name, 7)
    desk.send("reset", 8)
    desk.send("start", 9)
    assert desk.send(name, 7) == first[-1:]
    assert desk.st is StationState.CONTINUOUS_EXECUTION


@pytest.mark.parametrize("name", ["halt", "abort", "reset"])
def test_a_retained_command_is_refused(desk: Desk, name: str) -> None:
    desk.station.set_up(active())
    desk.link.events.put(Received(TOPICS.cmd(name), b'{"v":1,"cid":5}', True, time.monotonic()))
    wait_until(lambda: desk.answers.get(5) == [AckCode.RETAINED_REFUSED])
    assert desk.st is StationState.CONTINUOUS_EXECUTION


def restarted(desk: Desk, folder: Path) -> Desk:
    """The station as the next worker finds it."""
    desk.close()
    return Desk(folder)


@pytest.mark.parametrize("name", ["stop", "abort", "halt"])
def test_a_station_that_was_stopped_stays_so_over_a_restart(tmp_path: Path, name: str) -> None:
    with closing(Desk(tmp_path)) as desk:
        desk.station.set_up(active())
        assert desk.send(name, 1) == ONCE
        assert desk.stopped == ("halted" if name == "halt" else "stopped")
        again = restarted(desk, tmp_path)
    with closing(again):
        again.station.set_up(active())
        assert (again.st, again.station.snapshot.refusal) == (StationState.HALTED, ErrorCode.ABORTED)
        if name == "halt":
            assert again.send("start", 2) == REFUSED
            again.send("reset", 3)
        assert again.send("start", 4) == ONCE
        assert (again.st, again.stopped) == (StationState.CONTINUOUS_EXECUTION, "")


def test_a_stop_during_a_fault_of_the_database_is_kept_once_it_is_back(desk: Desk) -> None:
    desk.station.set_up(active())
    thief = sqlite3.connect(desk.url.removeprefix("sqlite:///"), isolation_level=None)
    thief.execute("BEGIN IMMEDIATE")
    assert desk.send("halt", 1) == ONCE
    assert (desk.st, desk.stopped) == (StationState.HALTED, "")
    thief.execute("ROLLBACK")
    thief.close()
    wait_until(lambda: desk.stopped == "halted", 30)


def test_while_the_station_starts_each_command_is_answered_and_none_is_done_later(desk: Desk) -> None:
    assert desk.send("ping", 1) == ONCE
    assert desk.send("trigger", 2, trg=41, part="A") == [AckCode.WRONG_STATE]
    assert desk.send("select_recipe", 3, rcp=1) == [AckCode.BUSY]
    assert desk.send("start", 4) == REFUSED
    assert desk.send("challenge_begin", 5, set=1) == REFUSED
    assert desk.camera.triggers == []
    assert desk.camera.refused == [(41, "A", ErrorCode.ABORTED)]
    desk.station.set_up(active())
    assert desk.send("trigger", 6, trg=42, part="B") == [AckCode.DONE]
    assert desk.camera.triggers == [(42, "B")]
    assert desk.st is StationState.CONTINUOUS_EXECUTION


@pytest.mark.parametrize("name", ["stop", "halt"])
def test_a_stop_is_obeyed_while_the_station_starts(desk: Desk, name: str) -> None:
    assert desk.send(name, 1) == ONCE
    desk.station.set_up(active())
    assert desk.st is StationState.HALTED


def test_what_people_ask_for_while_the_station_starts_waits_until_it_is_there_but_for_a_halt(desk: Desk) -> None:
    start, halt = ask(desk, "start", 1), ask(desk, "halt", 2)
    wait_until(lambda: code_of(desk, halt) == AckCode.DONE)
    assert code_of(desk, start) is None
    desk.station.set_up(active())
    wait_until(lambda: code_of(desk, start) == AckCode.WRONG_STATE)
    assert desk.st is StationState.HALTED


def ask(desk: Desk, name: str, cid: int, *, now: datetime | None = None, **payload: int) -> int:
    """A command of the dashboard; gives its row."""

    def submit(session: Session) -> int:
        return commands.submit(
            session,
            desk.station_id,
            source="dashboard",
            cid=cid,
            name=name,
            payload=payload,
            who="o",
            now=now or datetime.now(UTC),
        ).id

    row: int = desk.writer.call(submit)
    return row


def code_of(desk: Desk, row: int) -> int | None:
    with desk.store.read() as session:
        return commands.get_command(session, row).code


def test_what_people_ask_for_is_done_once_however_late_its_end_is_written(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _teach(desk, tmp_path)
    desk.station.set_up(active())
    prepared: list[int] = []
    finish, refused = commands.finish, iter(range(6))

    def prepare(recipe_id: int) -> ActiveRecipe:
        prepared.append(recipe_id)
        return active()

    def refuse_at_first(*values: Any) -> None:
        if next(refused, None) is not None:
            raise StoreError("the database is locked")
        finish(*values)

    desk.prepare = prepare
    monkeypatch.setattr(commands, "finish", refuse_at_first)
    stop = ask(desk, "stop", 1)
    wait_until(lambda: desk.st is StationState.HALTED)
    desk.send("start", 2)
    select = ask(desk, "select_recipe", 3, rcp=1)
    wait_until(lambda: (code_of(desk, stop), code_of(desk, select)) == (AckCode.DONE, AckCode.DONE))
    assert next(refused, None) is None
    assert desk.st is StationState.CONTINUOUS_EXECUTION, "the stop was carried out again"
    assert prepared == [1]


def test_a_command_that_fails_in_an_unexpected_way_is_answered(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.station.set_up(active())

    def fail(*_: Any) -> None:
        raise StoreError("the database is away")

    monkeypatch.setattr(products, "find_recipe", fail)
    assert desk.send("select_recipe", 1, rcp=1) == [AckCode.INTERNAL]
    assert desk.send("select_recipe", 1, rcp=1) == [AckCode.INTERNAL]
    assert "the database is away" in desk.desk.last_error
    assert desk.st is StationState.CONTINUOUS_EXECUTION


def test_a_command_that_is_sent_again_after_a_restart_is_answered_and_not_carried_out_again(tmp_path: Path) -> None:
    with closing(Desk(tmp_path)) as desk:
        desk.station.set_up(active())
        desk.send("stop", 7)
        desk.send("start", 8)
        again = restarted(desk, tmp_path)
    with closing(again):
        again.station.set_up(active())
        assert again.send("stop", 7) == [AckCode.DONE]
        assert again.st is StationState.CONTINUOUS_EXECUTION


def test_a_number_that_was_used_long_ago_is_a_new_command(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.station.set_up(active())
    desk.send("stop", 7)
    desk.send("start", 8)
    monkeypatch.setattr("edge.commands.REMEMBERED_S", 0.0)
    assert desk.send("stop", 7) == ONCE
    assert desk.st is StationState.HALTED


def test_a_number_that_comes_with_another_command_is_kept_as_that_command(desk: Desk) -> None:
    desk.station.set_up(active())
    desk.send("stop", 7)
    desk.send("start", 7)

    def kept() -> list[tuple[str, int | None]]:
        with desk.store.read() as session:
            return [(row.name, row.code) for row in commands.newest(session, desk.station_id, "mqtt", 10)]

    wait_until(lambda: kept() == [("start", AckCode.DONE)])
    with desk.store.read() as session:
        told = session.scalars(select(Audit.action).where(Audit.who == "plc").order_by(Audit.id)).all()
    assert told == ["command stop", "command start"]


def test_a_product_takes_over_with_its_hold(desk: Desk, tmp_path: Path) -> None:
    _teach(desk, tmp_path)
    desk.station.set_up(None, ErrorCode.FINGERPRINT_MISMATCH)
    desk.verification.hold = ErrorCode.CHALLENGE_OVERDUE
    assert desk.send("reset", 1) == ONCE
    with desk.store.read() as session:
        stored_at = session.scalars(select(Activation.activated_at).order_by(Activation.id.desc())).first()
    assert desk.verification.taken_over == [(ErrorCode.ABORTED, stored_at)]
    assert desk.station.snapshot.hold is ErrorCode.CHALLENGE_OVERDUE


@pytest.mark.parametrize(
    ("age", "code"),
    [
        (timedelta(0), AckCode.DONE),
        (timedelta(seconds=-STALE_S / 2), AckCode.DONE),
        (timedelta(hours=1), AckCode.EXPIRED),
        (timedelta(days=3652), AckCode.EXPIRED),
        (timedelta(hours=-1), AckCode.EXPIRED),
        (timedelta(days=-3652), AckCode.EXPIRED),
    ],
)
def test_a_start_whose_age_nobody_can_know_because_the_clock_was_set_is_not_carried_out(
    desk: Desk, age: timedelta, code: AckCode
) -> None:
    desk.station.set_up(active())
    desk.station.run(False)
    row = ask(desk, "start", 1, now=datetime.now(UTC) - age)
    wait_until(lambda: code_of(desk, row) is not None)
    assert code_of(desk, row) == code
    assert desk.station.snapshot.running is (code is AckCode.DONE)
