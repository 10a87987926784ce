"""A camera that sends numbered frames by itself, with a library that a test plays: what it must not get away with."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge.cameras import BadFrameError, Clock, IdleLineError, MissedFrameError, TriggerQueue
from edge.cameras.pictures import PictureGate
from edge.cameras.streaming import Grab, StreamingCamera
from inspector.config import CameraConfig
from inspector.errors import CameraLostError, CameraTimeoutError

GOOD = Grab(1, 0.0, "BayerRG8", 32, 24, np.full(32 * 24, 99, np.uint8))


class PlayedDevice:
    """Gives, or raises, what the test puts in."""

    def __init__(self) -> None:
        self.script: queue.Queue[Any] = queue.Queue()
        self.hang = threading.Event()
        self.hang.set()
        self.fired = 0
        self.pixel_format = "BayerRG8"
        self.answers_fire = True
        self.disconnected = threading.Event()

    def connect(self) -> str:
        self.hang.wait(20)
        return self.pixel_format

    def fetch(self, timeout_s: float) -> Grab | None:
        try:
            item = self.script.get(timeout=min(timeout_s, 0.01))
        except queue.Empty:
            return None
        if isinstance(item, BaseException):
            raise item
        return replace(item, captured_monotonic_s=time.monotonic())

    def fire(self) -> None:
        self.fired += 1
        if self.answers_fire:
            self.script.put(replace(GOOD, device_frame_id=self.fired))

    def disconnect(self) -> None:
        self.disconnected.set()


@pytest.fixture
def device() -> PlayedDevice:
    return PlayedDevice()


@pytest.fixture
def make(device: PlayedDevice) -> Iterator[Callable[..., StreamingCamera]]:
    cameras: list[StreamingCamera] = []

    def camera(triggers: TriggerQueue | None = None, **settings: Any) -> StreamingCamera:
        config = CameraConfig.model_validate({"name": "cam", "kind": "genicam", "timeout_s": 0.5, **settings})
        cameras.append(StreamingCamera(config, triggers or TriggerQueue(), Clock(), PictureGate(), lambda _: device))
        return cameras[-1]

    yield camera
    device.hang.set()
    for each in cameras:
        each.close()


Make = Callable[..., StreamingCamera]


@pytest.mark.parametrize(
    ("grab", "told"),
    [
        (replace(GOOD, pixel_format="BayerBG8"), "expected pixel format BayerRG8 as set, but got BayerBG8"),
        (
            replace(GOOD, width_px=24, height_px=32),
            "expected 32×24 px in colour as in the first picture, but got 24×32",
        ),
        (replace(GOOD, data=GOOD.data[:-1]), "expected 768 bytes"),
        (replace(GOOD, problem="the frame came incomplete (missing-packets)"), "incomplete"),
        (replace(GOOD, data=None), "empty"),
    ],
    ids=["colours", "size", "bytes", "packets", "nothing"],
)
def test_each_frame_is_checked_and_one_that_is_not_as_the_first_never_becomes_a_picture(
    grab: Grab, told: str, device: PlayedDevice, make: Make
) -> None:
    camera = make()
    camera.open()
    device.script.put(GOOD)
    assert camera.read(5.0) is not None
    device.script.put(replace(grab, device_frame_id=2))
    with pytest.raises(BadFrameError, match=told) as caught:
        camera.read(5.0)
    assert caught.value.failure is None
    device.script.put(replace(GOOD, device_frame_id=3))
    assert camera.read(5.0) is not None


def test_a_camera_that_comes_back_in_grey_is_refused(device: PlayedDevice, make: Make) -> None:
    camera = make()
    camera.open()
    device.script.put(GOOD)
    assert camera.read(5.0) is not None
    camera.close()
    device.pixel_format = "Mono8"
    camera.open()
    device.script.put(replace(GOOD, pixel_format="Mono8"))
    with pytest.raises(BadFrameError, match="32×24 px in colour as in the first picture, but got 32×24 px grey"):
        camera.read(5.0)


def test_each_number_that_is_left_out_is_a_part_before_the_frame_behind_it(device: PlayedDevice, make: Make) -> None:
    camera = make(trigger="hardware")
    camera.open()
    for number in (65_534, 1, 4):
        device.script.put(replace(GOOD, device_frame_id=number))
    seen: list[Any] = []
    for _ in range(6):
        try:
            seen.append(camera.read(5.0).frame_id)  # type: ignore[union-attr]
        except BadFrameError as error:
            seen.append(type(error.failure))
    assert seen == [1, MissedFrameError, 3, MissedFrameError, MissedFrameError, 6]


def test_free_running_it_is_lost_after_three_periods_and_idle_before(device: PlayedDevice, make: Make) -> None:
    camera = make(period_s=0.4, timeout_s=5.0)
    camera.open()
    device.script.put(GOOD)
    assert camera.read(5.0) is not None
    start_s = time.monotonic()
    with pytest.raises(IdleLineError):
        camera.read(0.1)
    with pytest.raises(CameraTimeoutError) as caught:
        camera.read(5.0)
    assert not isinstance(caught.value, IdleLineError)
    assert 1.1 < time.monotonic() - start_s < 2.5


def test_a_trigger_without_a_frame_in_time_names_its_part(device: PlayedDevice, make: Make) -> None:
    triggers = TriggerQueue()
    camera = make(triggers, trigger="mqtt")
    camera.open()
    device.answers_fire = False
    triggers.put(5, "part5")
    with pytest.raises(BadFrameError, match=r"within 0\.5 s after its trigger") as caught:
        camera.read(5.0)
    assert caught.value.trigger == 5
    assert isinstance(caught.value.failure, CameraTimeoutError)


def test_a_frame_that_nobody_asked_for_is_never_taken_for_the_next_part(device: PlayedDevice, make: Make) -> None:
    triggers = TriggerQueue()
    camera = make(triggers, trigger="mqtt")
    camera.open()
    device.script.put(replace(GOOD, device_frame_id=77, data=np.full(32 * 24, 1, np.uint8)))
    while not device.script.empty():
        time.sleep(0.01)
    time.sleep(0.05)
    triggers.put(1)
    frame = camera.read(5.0)
    assert frame is not None
    assert frame.image.max() == 99


@pytest.mark.parametrize("trigger", ["free", "mqtt", "hardware"])
@pytest.mark.parametrize("error", [CameraLostError("unplugged"), ZeroDivisionError("a library's own")])
def test_a_stream_that_ends_is_a_lost_camera_and_takes_no_trigger(
    error: Exception, trigger: str, device: PlayedDevice, make: Make
) -> None:
    triggers = TriggerQueue()
    camera = make(triggers, trigger=trigger)
    camera.open()
    device.script.put(error)
    assert device.disconnected.wait(5)
    triggers.put(1, "p1")
    with pytest.raises(CameraLostError, match=str(error)):
        camera.read(1.0)
    assert triggers.waiting == 1


def test_a_library_that_hangs_while_it_connects_blocks_nobody(
    device: PlayedDevice, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.cameras.streaming.CONNECT_GRACE_S", 0.1)
    monkeypatch.setattr("edge.cameras.streaming.DISCONNECT_S", 0.1)
    device.hang.clear()
    start_s = time.monotonic()
    with pytest.raises(CameraLostError, match="did not answer within"):
        make().open()
    assert time.monotonic() - start_s < 5.0
