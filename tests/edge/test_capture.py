"""Whatever a camera does, each part that passes by is owed one verdict, and the camera is connected again."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from edge import capture as capture_module
from edge.announcer import Pulse
from edge.buffers import Inbox
from edge.cameras import BadFrameError, IdleLineError, MissedFrameError
from edge.capture import CaptureThread, Intake
from edge.deadlines import Deadlines
from edge.parts import Part
from edge.state import ActiveRecipe, Station
from edge.worker import WATCH_S
from inspector.config import CameraConfig
from inspector.contract.codes import ErrorCode, StationMode
from inspector.errors import CameraError, CameraLostError, CameraTimeoutError
from inspector.framing import CropError
from inspector.types import Frame
from tests.brokers import wait_until
from tests.edge.detector_stub import ANYTHING, StubDetector, active

AT = datetime(2026, 1, 1, tzinfo=UTC)


class ScriptedCamera:
    """Gives, or raises, what a test puts in; idle in between."""

    name = "c"

    def __init__(self) -> None:
        self.script: queue.Queue[Any] = queue.Queue()
        self.opened = 0
        self.broken_opens = 0
        self.hung_in: str = ""
        self.is_hung = threading.Event()
        self.may_go_on = threading.Event()

    def hang(self, where: str) -> None:
        """As a driver does, until the test lets it go on."""
        if where == self.hung_in:
            self.is_hung.set()
            self.may_go_on.wait(60)

    def open(self) -> None:
        self.hang("open")
        self.opened += 1
        if self.opened <= self.broken_opens:
            raise CameraLostError("camera c: nobody there")

    def read(self, timeout_s: float) -> Frame | None:
        self.hang("read")
        try:
            item = self.script.get(timeout=0.05)
        except queue.Empty:
            raise IdleLineError("nothing was due") from None
        if isinstance(item, BaseException):
            raise item
        return item  # type: ignore[no-any-return]

    def close(self) -> None:
        """Nothing to let go of."""


class Post:
    """One capture thread with what lies behind it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, last: int = 0, **config: Any) -> None:
        self.camera = ScriptedCamera()
        monkeypatch.setattr(capture_module, "make_camera", lambda *_, **__: self.camera)
        monkeypatch.setattr(capture_module, "backoff_s", lambda *_: 0.01)
        self.station = Station(boot=1, mode=StationMode.PRODUCTION, window_ms=2000, heartbeat_ms=1000)
        self.inbox = Inbox(100)
        pulse = Pulse(None, self.station, 1.0)  # type: ignore[arg-type]  # never beaten here
        intake = Intake(self.station, Deadlines(), self.inbox, pulse, 1.0, part_length=24)
        settings = CameraConfig.model_validate({"name": "c", "trigger": "mqtt", "timeout_s": 0.1, **config})
        self.thread = CaptureThread(settings, intake, self.station, last_trigger=last)

    def run(self, *script: Any) -> None:
        for item in script:
            self.camera.script.put(item)
        self.thread.start()
        self.thread.go()

    def parts(self, count: int) -> list[tuple[int, ErrorCode]]:
        """The next parts: trigger and failure."""
        found: list[Part] = []

        def enough() -> bool:
            found.extend(self.inbox.take(100))
            return len(found) >= count

        wait_until(enough)
        return [(part.trigger, part.failure) for part in found]


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Post]]:
    made: list[Post] = []

    def make(**settings: Any) -> Post:
        made.append(Post(monkeypatch, **settings))
        return made[-1]

    yield make
    for each in made:
        each.camera.may_go_on.set()
        each.thread.stop()
        each.thread.join()


def _frame(trigger: int, value: int = 0, size_px: tuple[int, int] = (8, 8)) -> Frame:
    image = np.full((size_px[1], size_px[0], 3), value, np.uint8)
    return Frame(trigger, "c", "", trigger, AT, float(trigger), image)


def _taught_at(size_px: tuple[int, int]) -> ActiveRecipe:
    looks = replace(ANYTHING, sizes_px=(size_px,))
    return active(detector=StubDetector(lambda _: 0.5, looks=looks))


def _bad(trigger: int, failure: CameraError | None = None) -> BadFrameError:
    return BadFrameError(
        "broken",
        frame_id=trigger,
        camera="c",
        part_id="",
        trigger=trigger,
        captured_at=AT,
        captured_monotonic_s=1.0,
        failure=failure,
    )


def test_parts_that_passed_unseen_get_their_none_before_the_next_frame(post: Callable[..., Post]) -> None:
    line = post(last=3)
    line.run(_frame(4), _frame(7))
    missed = ErrorCode.MISSED_TRIGGER
    assert line.parts(4) == [(4, 0), (5, missed), (6, missed), (7, 0)]


def test_a_picture_that_cannot_be_read_gets_none_and_the_line_goes_on(post: Callable[..., Post]) -> None:
    line = post()
    line.run(_frame(1), _bad(2), _frame(3))
    assert line.parts(3) == [(1, 0), (2, ErrorCode.FRAME_TIMEOUT), (3, 0)]
    assert line.camera.opened == 1


def test_a_crop_outside_of_the_picture_is_an_alarm_until_a_picture_fits_again(post: Callable[..., Post]) -> None:
    line = post()
    line.run(_bad(1, CropError("camera c: crop reaches out")))
    assert line.parts(1) == [(1, ErrorCode.FRAME_TIMEOUT)]
    wait_until(lambda: line.thread.problem)
    for _ in range(2):  # when the second one is read, the first one has been taken in
        line.camera.script.put(IdleLineError("nothing was due"))
    wait_until(line.camera.script.empty)
    assert line.station.shown[1] is ErrorCode.FRAME_TIMEOUT
    assert line.thread.problem == "camera c: crop reaches out"
    assert line.camera.opened == 1
    line.camera.script.put(_frame(2))
    assert line.parts(1) == [(2, 0)]
    assert line.station.shown[1] is ErrorCode.NONE


def test_a_part_whose_camera_was_lost_gets_none_101_and_the_camera_is_connected_again(
    post: Callable[..., Post],
) -> None:
    line = post()
    line.run(_frame(1), _bad(2, CameraLostError("unplugged")), _frame(3))
    assert line.parts(3) == [(1, 0), (2, ErrorCode.CAMERA_LOST), (3, 0)]
    assert line.camera.opened == 2


def test_a_camera_that_gives_nothing_when_something_was_due_is_lost_at_once_and_connected_again(
    post: Callable[..., Post],
) -> None:
    line = post()
    line.run(CameraTimeoutError("no frame"), _frame(1))
    assert line.parts(1) == [(1, 0)]
    assert line.camera.opened == 2


def test_a_trigger_without_a_frame_in_time_is_a_lost_camera(post: Callable[..., Post]) -> None:
    line = post()
    line.run(_frame(1), _bad(2, CameraTimeoutError("no frame after its trigger")), _frame(3))
    assert line.parts(3) == [(1, 0), (2, ErrorCode.FRAME_TIMEOUT), (3, 0)]
    assert line.camera.opened == 2


def test_a_frame_that_the_camera_counted_and_nobody_saw_is_a_part_with_none_104(post: Callable[..., Post]) -> None:
    line = post(trigger="free")
    line.run(_frame(0), _bad(0, MissedFrameError("number 7 never came")), _frame(0, 1))
    assert line.parts(3) == [(0, 0), (0, ErrorCode.MISSED_TRIGGER), (0, 0)]
    assert line.camera.opened == 1


def test_parts_that_come_while_the_camera_is_away_are_answered_and_not_photographed_late(
    post: Callable[..., Post], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = post()
    line.run(_frame(1))
    assert line.parts(1) == [(1, 0)]
    monkeypatch.setattr(capture_module, "backoff_s", lambda *_: 60.0)
    line.camera.broken_opens = 100
    line.camera.script.put(CameraLostError("unplugged"))
    wait_until(lambda: line.thread.problem)
    for trg in (2, 4):
        line.thread.trigger(trg, f"part{trg}", 0.0)
    lost, missed = ErrorCode.CAMERA_LOST, ErrorCode.MISSED_TRIGGER
    assert line.parts(3) == [(2, lost), (3, missed), (4, lost)]
    assert line.thread.waiting == 0


def test_a_camera_that_is_not_there_is_tried_until_it_comes(post: Callable[..., Post]) -> None:
    line = post()
    line.camera.broken_opens = 3
    line.run(_frame(1))
    assert line.thread.tried.wait(5)
    assert line.parts(1) == [(1, 0)]
    assert line.camera.opened == 4
    assert line.station.shown[1] is ErrorCode.NONE


def test_an_unknown_error_of_a_driver_costs_a_reconnection_and_no_thread(post: Callable[..., Post]) -> None:
    line = post()
    line.run(_frame(1), ZeroDivisionError("a driver's own"), _frame(2))
    assert line.parts(2) == [(1, 0), (2, 0)]
    assert line.camera.opened == 2


def test_a_frozen_camera_lets_no_part_pass(post: Callable[..., Post]) -> None:
    line = post(kind="opencv", source="rtsp://nowhere", trigger="free")
    line.run(_frame(1, 5), _frame(2, 5), _frame(3, 6))
    assert line.parts(3) == [(1, 0), (2, ErrorCode.FROZEN_FRAME), (3, 0)]


def test_the_end_of_a_source_ends_its_thread(post: Callable[..., Post]) -> None:
    line = post()
    line.run(_frame(1), None)
    assert line.thread.ended.wait(5)
    assert line.parts(1) == [(1, 0)]


def test_triggers_that_nobody_read_before_the_stop_get_their_none(post: Callable[..., Post]) -> None:
    line = post()
    line.run()
    line.thread.refuse(3, "", ErrorCode.TRIGGER_OVERRUN)  # as one is that found no room, before others did again
    for trg in (1, 2, *range(4, 71)):
        line.thread.trigger(trg, "", 0.0)
    line.thread.stop()
    line.thread.join()
    told = line.parts(70)
    assert [trigger for trigger, _ in told] == list(range(1, 71)), "the last one is where the next worker goes on"
    assert {code for _, code in told} == {ErrorCode.ABORTED, ErrorCode.TRIGGER_OVERRUN}


def test_the_budget_of_a_part_runs_from_its_trigger(post: Callable[..., Post]) -> None:
    line = post()
    line.thread.trigger(5, "", 2.0)
    line.run(_frame(5))
    wait_until(lambda: len(line.inbox))
    assert line.inbox.take(1)[0].deadline_monotonic_s == 3.0


@pytest.mark.parametrize("where", ["open", "read"])
def test_a_driver_that_does_not_come_back_is_told_and_its_alarm_goes_when_it_does(
    where: str, post: Callable[..., Post]
) -> None:
    line = post(timeout_s=60.0)
    line.camera.hung_in = where
    line.run()
    assert line.camera.is_hung.wait(30)
    line.thread.watch(time.monotonic())
    assert line.station.shown[1] is ErrorCode.NONE
    line.thread.watch(time.monotonic() + 100)
    assert line.station.shown[1] is ErrorCode.FRAME_TIMEOUT
    assert "does not come back" in line.thread.problem
    line.camera.hung_in = ""
    line.camera.may_go_on.set()
    wait_until(lambda: line.station.shown[1] is ErrorCode.NONE)


def test_a_camera_that_waits_for_the_station_to_be_ready_is_not_called_hung(post: Callable[..., Post]) -> None:
    line = post()
    line.thread.start()
    assert line.thread.tried.wait(30)
    line.thread.watch(time.monotonic() + 100)
    assert line.station.shown[1] is ErrorCode.NONE


def test_a_camera_that_is_known_to_be_lost_stays_so_while_it_is_opened_again(post: Callable[..., Post]) -> None:
    line = post()
    line.run(_frame(1))
    assert line.parts(1) == [(1, 0)]
    line.camera.hung_in = "open"
    line.camera.script.put(CameraLostError("camera c: unplugged"))
    assert line.camera.is_hung.wait(30)
    line.thread.watch(time.monotonic() + 100)
    assert (line.station.shown[1], line.thread.problem) == (ErrorCode.CAMERA_LOST, "camera c: unplugged")


@pytest.mark.parametrize("trigger", ["mqtt", "free"])
def test_by_default_a_hung_driver_is_told_within_three_seconds_and_a_slow_one_is_not(
    trigger: str, post: Callable[..., Post]
) -> None:
    timeout_s = CameraConfig().timeout_s
    line = post(kind="folder", trigger=trigger, timeout_s=timeout_s)
    assert timeout_s + WATCH_S < 3.0, "a trigger without a frame is told by the reading thread itself"
    line.camera.hung_in = "read"
    before_s = time.monotonic()
    line.run()
    assert line.camera.is_hung.wait(30)
    after_s = time.monotonic()
    line.thread.watch(before_s + line.thread._read_s + timeout_s)  # idle, and then all the time that it may take
    assert line.station.shown[1] is ErrorCode.NONE
    line.thread.watch(after_s + 3.0 - WATCH_S)
    assert line.station.shown[1] is ErrorCode.FRAME_TIMEOUT


def test_a_picture_of_another_size_than_the_references_is_not_scored_and_is_an_alarm_until_one_fits(
    post: Callable[..., Post],
) -> None:
    line = post()
    line.station.set_up(_taught_at((1280, 960)))
    line.run(_frame(1, 0, (640, 480)))
    assert line.parts(1) == [(1, ErrorCode.FRAME_TIMEOUT)]
    assert line.station.shown[1] is ErrorCode.FRAME_TIMEOUT
    assert "640x480 px, the references 1280x960 px" in line.thread.problem
    for _ in range(2):  # when the second one is read, the first one has been taken in
        line.camera.script.put(IdleLineError("nothing was due"))
    wait_until(line.camera.script.empty)
    assert line.station.shown[1] is ErrorCode.FRAME_TIMEOUT
    line.camera.script.put(_frame(2, 0, (1280, 960)))
    assert line.parts(1) == [(2, 0)]
    assert line.station.shown[1] is ErrorCode.NONE


def test_a_product_that_was_taught_with_the_cameras_size_ends_the_alarm_without_a_part(
    post: Callable[..., Post],
) -> None:
    line = post()
    line.station.set_up(_taught_at((1280, 960)))
    line.run(_frame(1, 0, (640, 480)))
    assert line.parts(1) == [(1, ErrorCode.FRAME_TIMEOUT)]
    line.station.activate(_taught_at((640, 480)))
    wait_until(lambda: line.station.shown[1] is ErrorCode.NONE)


def test_the_kept_pictures_of_a_challenge_may_be_smaller_than_the_cameras(post: Callable[..., Post]) -> None:
    line = post()
    line.station.set_up(_taught_at((1280, 960)))
    line.run()
    line.thread._intake.challenge(_frame(1, 0, (640, 480)))
    assert line.parts(1) == [(1, 0)]


def test_a_part_id_without_room_in_the_binary_form_is_refused_and_never_cut(post: Callable[..., Post]) -> None:
    running = post()
    running.run(replace(_frame(1), part_id="x" * 24), replace(_frame(2, 1), part_id="y" * 25))
    assert running.parts(2) == [(1, ErrorCode.NONE), (2, ErrorCode.PART_ID_TOO_LONG)]


def test_a_refused_trigger_gets_its_verdict_without_waiting_for_the_next_one(post: Callable[..., Post]) -> None:
    running = post()
    running.run()
    running.thread.refuse(1, "y" * 25, ErrorCode.PART_ID_TOO_LONG)
    assert running.parts(1) == [(1, ErrorCode.PART_ID_TOO_LONG)]


def test_an_abort_gives_the_triggers_that_wait_their_verdict_without_a_picture(post: Callable[..., Post]) -> None:
    running = post(last=4)
    for trigger in (6, 7):
        running.thread.trigger(trigger, "", 0.0)
    running.thread.drop()
    running.run(_frame(5))  # was being taken; without a trigger of its own it counts from its exposure, long ago
    assert running.parts(3) == [(trigger, ErrorCode.ABORTED) for trigger in (5, 6, 7)]
    assert running.thread.waiting == 0


def test_a_part_that_was_triggered_before_a_stop_is_not_judged_after_the_next_start(post: Callable[..., Post]) -> None:
    running = post()
    running.thread.trigger(1, "", time.monotonic())
    running.thread.leave()
    running.thread.trigger(2, "", time.monotonic() + 1.0)
    running.run(_frame(1), _frame(2, 1))
    assert running.parts(2) == [(1, ErrorCode.ABORTED), (2, ErrorCode.NONE)]
