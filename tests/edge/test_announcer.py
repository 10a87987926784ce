"""What the station is, is said when it changes, and not when it is repeated."""

import queue
from collections.abc import Iterator
from typing import Any

import pytest

from edge import announcer as module
from edge.announcer import Announcer
from edge.state import Station
from inspector.contract.codes import ErrorCode, StationMode, StationState
from inspector.contract.messages import Alarms, State
from inspector.contract.session import Connected
from inspector.contract.topics import Topics
from tests.brokers import wait_until
from tests.edge.detector_stub import active

TOPICS = Topics("a/b")


class _Link:
    """A broker that keeps what it hears; it can be away."""

    topics = TOPICS
    is_connected = True

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []

    def listen(self, *_: type) -> "queue.Queue[Any]":
        self.connections: queue.Queue[Any] = queue.Queue()
        return self.connections

    def publish(self, topic: str, payload: bytes, **_: Any) -> object | None:
        if self.is_connected:
            self.heard.append((topic, payload))
        return self if self.is_connected else None

    def last(self, topic: str) -> bytes:
        return next(payload for name, payload in reversed(self.heard) if name == topic)

    @property
    def alarms(self) -> list[int]:
        return [one.err for one in Alarms.from_json(self.last(TOPICS.alarm)).alarms]

    @property
    def state(self) -> tuple[int, int]:
        state = State.from_json(self.last(TOPICS.state))
        return state.st, state.err


class Post:
    """A running station with its announcer."""

    def __init__(self) -> None:
        self.link = _Link()
        self.station = Station(boot=1, mode=StationMode.PRODUCTION, window_ms=2000, heartbeat_ms=1000)
        self.announcer = Announcer(self.link, self.station, lambda: None)  # type: ignore[arg-type]
        self.station.set_up(active())
        self.announcer.start()


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Iterator[Post]:
    monkeypatch.setattr(module, "REPEAT_STATE_S", 3600.0)
    made = Post()
    yield made
    made.announcer.stop()


def test_an_alarm_and_its_end_are_told_without_waiting_for_the_repetition(post: Post) -> None:
    post.station.alarms.up(ErrorCode.REJECT_NOT_CONFIRMED, "a rejected part passed")
    wait_until(lambda: post.link.alarms == [ErrorCode.REJECT_NOT_CONFIRMED])
    assert post.link.state == (StationState.CONTINUOUS_EXECUTION, ErrorCode.REJECT_NOT_CONFIRMED)
    post.station.alarms.confirm(ErrorCode.REJECT_NOT_CONFIRMED)
    wait_until(lambda: b'"conf":1' in post.link.last(TOPICS.alarm))
    post.station.alarms.down(ErrorCode.REJECT_NOT_CONFIRMED)
    wait_until(lambda: post.link.alarms == [])


def test_a_fault_that_has_passed_is_named_no_more(post: Post) -> None:
    post.station.fail(ErrorCode.STORAGE)
    assert post.link.state == (StationState.ERROR, ErrorCode.STORAGE)
    wait_until(lambda: post.link.alarms == [ErrorCode.STORAGE])
    post.station.recover()
    assert post.link.state == (StationState.CONTINUOUS_EXECUTION, ErrorCode.NONE)
    wait_until(lambda: post.link.alarms == [])


def test_an_alarm_that_came_while_the_broker_was_away_is_told_once_it_is_back(post: Post) -> None:
    post.link.is_connected = False
    post.station.alarms.up(ErrorCode.DISK_LOW, "the disk is low")
    post.link.is_connected = True
    post.link.connections.put(Connected(2))
    wait_until(lambda: post.link.alarms == [ErrorCode.DISK_LOW])
