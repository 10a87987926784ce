"""What each command does to a station, what it is answered, and that the same cid runs once."""

import json
import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.commands import CommandDesk, CommandTargets
from edge.state import ActiveRecipe, Station
from inspector.contract.codes import AckCode, ErrorCode, StationMode, StationState
from inspector.contract.session import Received
from inspector.contract.topics import Topics
from inspector.errors import StationError
from inspector.store import engine, stations
from inspector.store.writer import StoreWriter
from tests.brokers import wait_until
from tests.edge.detector_stub import active

TOPICS = Topics("a/b")


class _Camera:
    """Waits for triggers like one with `trigger: mqtt`."""

    triggered = True

    def __init__(self) -> None:
        self.triggers: list[tuple[int, str]] = []
        self.refused: list[tuple[int, str, ErrorCode]] = []
        self.dropped = 0

    def trigger(self, trg: int, part_id: str, _came: float) -> bool:
        self.triggers.append((trg, part_id))
        return True

    def refuse(self, trg: int, part_id: str, failure: ErrorCode) -> None:
        self.refused.append((trg, part_id, failure))

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
        station_id: int = self.writer.call(lambda session: stations.ensure_station(session, "s").id)
        targets = CommandTargets(
            station=self.station,
            station_id=station_id,
            cameras=[self.camera],  # type: ignore[list-item]
            writer=self.writer,
            prepare=lambda recipe_id: self.prepare(recipe_id),
            approve=lambda _: 0,
            verification=type("Idle", (), {"running": False, "problem": ""})(),
            part_length=24,
        )
        self.desk = CommandDesk(self.link, self, targets)  # type: ignore[arg-type]
        self.desk.start()

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
