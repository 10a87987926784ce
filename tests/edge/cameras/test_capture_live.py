"""The capture thread with real cameras: what the PLC is told when one goes away, and that it comes back by itself."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edge.announcer import Pulse
from edge.buffers import Inbox
from edge.capture import CaptureThread, Intake
from edge.deadlines import Deadlines
from edge.parts import Part
from edge.state import Station
from inspector.config import CameraConfig
from inspector.contract.codes import ErrorCode, StationMode
from tests.brokers import wait_until

from .servers import gige_camera

PERIOD_S = 0.1


class Line:
    """One capture thread and the parts that it opens."""

    def __init__(self, **config: Any) -> None:
        self.station = Station(boot=1, mode=StationMode.PRODUCTION, window_ms=2000, heartbeat_ms=1000)
        self.inbox = Inbox(1000)
        intake = Intake(self.station, Deadlines(), self.inbox, Pulse(None, self.station, 1.0), 1.0)  # type: ignore[arg-type]
        values = {"name": "cam", "period_s": PERIOD_S, "timeout_s": 2.0, **config}
        self.thread = CaptureThread(CameraConfig.model_validate(values), intake, self.station, last_trigger=0)
        self.thread.start()
        self.thread.go()

    def error(self) -> ErrorCode:
        return self.station.shown[1]

    def parts(self) -> list[Part]:
        return self.inbox.take(1000)

    def wait_for_pictures(self, count: int) -> None:
        until = self.thread.frames + count
        wait_until(lambda: self.thread.frames >= until)


@pytest.fixture
def line() -> Iterator[Callable[..., Line]]:
    made: list[Line] = []

    def make(**config: Any) -> Line:
        made.append(Line(**config))
        return made[-1]

    yield make
    for each in made:
        each.thread.stop()
        each.thread.join()


@pytest.mark.parametrize("isolate", [False, True], ids=["in the worker", "isolated"])
def test_the_plc_knows_within_three_seconds_that_a_camera_was_unplugged_and_it_comes_back(
    isolate: bool, line: Callable[..., Line]
) -> None:
    with gige_camera() as gige:
        gige.plug_in()
        watched = line(kind="genicam", source="127.0.0.1", isolate=isolate)
        watched.wait_for_pictures(5)
        assert watched.error() is ErrorCode.NONE
        gige.unplug()
        gone_s = time.monotonic()
        wait_until(lambda: watched.error() is ErrorCode.CAMERA_LOST)
        assert time.monotonic() - gone_s < 3.0
        gige.plug_in()
        watched.wait_for_pictures(5)
        assert watched.error() is ErrorCode.NONE


def test_a_line_with_all_faults_gives_each_part_one_row_and_no_picture_where_there_was_none(
    line: Callable[..., Line],
) -> None:
    faults = {"missed": 0.1, "timeout": 0.05, "lost": 0.05, "bad": 0.1, "frozen": 0.2}
    watched = line(source="gear", seed=5, period_s=0.01, faults=faults)
    found: list[Part] = []

    def enough() -> bool:
        found.extend(watched.parts())
        return len(found) >= 60

    wait_until(enough)
    assert [part.trigger for part in found] == list(range(1, len(found) + 1))
    codes = {part.failure for part in found}
    assert codes >= {ErrorCode.NONE, ErrorCode.MISSED_TRIGGER, ErrorCode.FRAME_TIMEOUT, ErrorCode.FROZEN_FRAME}
    assert all((part.image is None) == part.failed for part in found)
