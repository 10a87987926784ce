"""What each command does to a station, what it is answered, and that the same cid runs once."""

import json
import queue
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy.orm import Session

from edge.commands import CommandDesk, CommandTargets
from edge.state import ActiveRecipe, Station
from inspector.contract.codes import AckCode, ErrorCode, StationMode, StationState
from inspector.contract.session import Received
from inspector.contract.topics import Topics
from inspector.errors import StationError
from inspector.store import engine, stations
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


class Desk:
    """A command desk with its station and database; `answers` are the codes by cid."""

    def __init__(self, folder: Path) -> None:
        url = f"sqlite:///{folder / 'x.db'}"
        engine.upgrade(url)
        self.store = engine.open_store(url)
        self.writer = StoreWriter(self.store)
        self.writer.start()
        self.station = Station(boot=1, mode=StationMode.PRODUCTION, window_ms=2000, heartbeat_ms=1000)
        self.camera, self.link = _Camera(), _Link()
        self.answers: dict[int, list[AckCode]] = {}
        self.repeated = 0
        self.prepare: Callable[[int], ActiveRecipe] = lambda _: active()
        self.station_id: int = self.writer.call(lambda session: stations.ensure_station(session, "s").id)
        targets = CommandTargets(
            station=self.station,
            station_id=self.station_id,
            cameras=[self.camera],  # type: ignore[list-item]
            writer=self.writer,
            prepare=self._prepare,
            approve=lambda _: 0,
            verification=type("Idle", (), {"running": False, "problem": ""})(),
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
