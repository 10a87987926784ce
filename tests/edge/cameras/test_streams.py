"""Video files, USB cameras and network streams: what is not there, what hangs, what changes its size."""

import socket
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cameras import BadFrameError, TriggerQueue, make_camera, opencv
from edge.cameras.pictures import PictureGate
from edge.cameras.protocol import Camera
from inspector.config import CameraConfig
from inspector.errors import CameraLostError, CameraTimeoutError, ImageError

from .fake_time import FakeTime

REAL_VIDEO = Path(__file__).parents[3] / ".." / "shared" / "realdata" / "bottle-detection.mp4"


class FakeDevice:
    """A driver in the place of cv2.VideoCapture: gives what `frames` says, then hangs or ends."""

    def __init__(self, frames: list[np.ndarray], *, hangs: bool, stubborn: dict[int, float] | None = None) -> None:
        self.frames = list(frames)
        self.hangs = hangs
        self.stubborn = stubborn or {}
        self.backend = "V4L2"
        self.released = threading.Event()
        self.may_go_on = threading.Event()
        self.settings: dict[int, float] = {}

    def isOpened(self) -> bool:  # noqa: N802  (cv2's name)
        return True

    def set(self, key: int, value: float) -> bool:
        self.settings[key] = value
        return key not in self.stubborn

    def get(self, key: int) -> float:
        return self.stubborn.get(key, self.settings.get(key, 0.0))

    def getBackendName(self) -> str:  # noqa: N802  (cv2's name)
        return self.backend

    def grab(self) -> bool:
        self.may_go_on.wait(0.002)  # a camera takes its time, and gives a picture all the same
        if self.frames:
            return True
        if self.hangs:
            self.may_go_on.wait(20)
        return False

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, self.frames.pop(0) if len(self.frames) > 1 or self.hangs else self.frames[0]

    def release(self) -> None:
        self.released.set()


def live_camera(
    monkeypatch: pytest.MonkeyPatch, *devices: FakeDevice, trigger: str = "free", triggers: TriggerQueue | None = None
) -> Camera:
    waiting = list(devices)
    monkeypatch.setattr(opencv.cv2, "VideoCapture", lambda *_: waiting.pop(0))
    config = CameraConfig.model_validate(
        {"name": "cam", "kind": "opencv", "source": "0", "trigger": trigger, "timeout_s": 0.2, "period_s": 0.001}
    )
    return make_camera(config, triggers or TriggerQueue())


def picture(width_px: int = 32, height_px: int = 24) -> np.ndarray:
    """Red, as cv2 gives it."""
    return np.full((height_px, width_px, 3), (0, 0, 200), np.uint8)


@pytest.mark.parametrize("source", ["63", "/dev/video-that-is-not-there", "rtsp://127.0.0.1:9/none", ""])
def test_a_device_that_is_not_there_is_a_lost_camera_with_a_sentence(source: str) -> None:
    camera = make_camera(CameraConfig(name="cam", kind="opencv", source=source, timeout_s=2.0), TriggerQueue())
    with pytest.raises(CameraLostError, match="camera cam: "):
        camera.open()
    camera.close()


def test_a_stream_that_accepts_and_never_answers_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        source = f"rtsp://127.0.0.1:{server.getsockname()[1]}/line"
        camera = make_camera(CameraConfig(name="cam", kind="opencv", source=source, timeout_s=0.5), TriggerQueue())
        start_s = time.monotonic()
        with pytest.raises(CameraLostError):
            camera.open()
        assert time.monotonic() - start_s < 15.0


def test_a_hung_driver_is_a_time_out_and_a_reconnect_finds_colours_and_settings_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hung, well = FakeDevice([picture()], hangs=True), FakeDevice([picture()] * 50, hangs=False)
    camera = live_camera(monkeypatch, hung, well)
    camera.open()
    first = camera.read(5.0)
    start_s = time.monotonic()
    with pytest.raises(CameraTimeoutError, match="cam"):
        camera.read(0.1)
    assert time.monotonic() - start_s < 2.0
    camera.close()
    camera.open()
    second = camera.read(5.0)
    camera.close()
    hung.may_go_on.set()
    assert hung.released.wait(5)  # the abandoned thread lets go as soon as its driver does
    assert well.released.wait(5)
    assert first is not None
    assert second is not None
    assert tuple(first.image[0, 0]) == tuple(second.image[0, 0]) == (200, 0, 0)
    assert second.frame_id == 2
    assert well.settings == hung.settings
    assert well.settings[cv2.CAP_PROP_CONVERT_RGB] == 1


def test_an_unplugged_camera_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    device = FakeDevice([], hangs=False)
    camera = live_camera(monkeypatch, device)
    camera.open()
    with pytest.raises(CameraLostError, match="unplugged"):
        camera.read(5.0)
    camera.close()


def test_a_camera_that_is_gone_in_the_moment_it_was_opened_says_so_when_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    camera = live_camera(monkeypatch, FakeDevice([], hangs=False))
    started = threading.Thread.start

    def to_its_end(thread: threading.Thread) -> None:
        started(thread)
        thread.join()

    monkeypatch.setattr(threading.Thread, "start", to_its_end)
    camera.open()
    with pytest.raises(CameraLostError, match="unplugged"):
        camera.read(5.0)
    camera.close()


@pytest.mark.parametrize("hangs", [True, False])
def test_a_trigger_without_a_frame_names_its_part_and_what_the_camera_did(
    hangs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    triggers, device = TriggerQueue(), FakeDevice([], hangs=hangs)
    camera = live_camera(monkeypatch, device, trigger="mqtt", triggers=triggers)
    camera.open()
    triggers.put(41, "part41")
    with pytest.raises(BadFrameError) as caught:
        camera.read(1.0)
    device.may_go_on.set()
    camera.close()
    assert (caught.value.trigger, caught.value.part_id) == (41, "part41")
    assert isinstance(caught.value.failure, CameraTimeoutError if hangs else CameraLostError)


def test_a_trigger_never_gets_a_picture_from_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    triggers, device = TriggerQueue(), FakeDevice([picture()], hangs=False)
    camera = live_camera(monkeypatch, device, trigger="mqtt", triggers=triggers)
    camera.open()
    for number in range(1, 6):
        triggers.put(number)
        asked_s = time.monotonic()
        frame = camera.read(1.0)
        assert frame is not None
        assert frame.trigger == number
        assert frame.captured_monotonic_s >= asked_s
    camera.close()


def test_a_picture_of_another_size_is_refused_also_after_a_reconnect(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = live_camera(monkeypatch, FakeDevice([picture()], hangs=False), FakeDevice([picture(64, 48)], hangs=False))
    camera.open()
    assert camera.read(5.0) is not None
    camera.close()
    camera.open()
    with pytest.raises(BadFrameError, match="expected 32×24"):
        camera.read(5.0)
    camera.close()


def test_a_steady_camera_gives_each_picture_once(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = live_camera(monkeypatch, FakeDevice([picture()], hangs=False))
    camera.open()
    stamps = [frame.captured_monotonic_s for frame in (camera.read(5.0) for _ in range(20)) if frame]
    camera.close()
    assert len(set(stamps)) == 20
    assert stamps == sorted(stamps)


def test_pictures_that_turn_grey_or_get_colours_are_refused() -> None:
    gate = PictureGate()
    gate.rgb(picture())
    with pytest.raises(ImageError, match="32×24 px in colour as in the first picture, but got 32×24 px grey"):
        gate.rgb(np.full((24, 32), 90, np.uint8))
    grey = PictureGate()
    grey.rgb(np.full((24, 32, 1), 90, np.uint8))
    grey.rgb(np.full((24, 32), 90, np.uint8))
    with pytest.raises(ImageError, match="grey as in the first picture, but got 32×24 px in colour"):
        grey.rgb(picture())


@pytest.mark.parametrize("claimed", [0.0, -1.0])
def test_a_driver_that_would_give_raw_pictures_after_a_reconnect_stays_closed(
    claimed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = FakeDevice([picture()], hangs=False, stubborn={cv2.CAP_PROP_CONVERT_RGB: claimed})
    camera = live_camera(monkeypatch, FakeDevice([picture()], hangs=False), raw, FakeDevice([picture()], hangs=False))
    camera.open()
    camera.close()
    with pytest.raises(
        CameraLostError, match=rf"camera cam: .*CONVERT_RGB is {claimed:g} after it was set to 1 \(V4L2\)"
    ):
        camera.open()
    assert raw.released.wait(5)
    camera.open()
    assert camera.read(5.0) is not None
    camera.close()


def test_a_system_that_always_gives_bgr_needs_no_such_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    device = FakeDevice([picture()], hangs=False, stubborn={cv2.CAP_PROP_CONVERT_RGB: 0.0})
    device.backend = "AVFOUNDATION"
    camera = live_camera(monkeypatch, device)
    camera.open()
    assert camera.read(5.0) is not None
    camera.close()


def test_a_driver_with_its_own_number_of_buffers_is_used_and_noted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    device = FakeDevice([picture()], hangs=False, stubborn={cv2.CAP_PROP_BUFFERSIZE: 4.0})
    camera = live_camera(monkeypatch, device)
    camera.open()
    assert camera.read(5.0) is not None
    camera.close()
    assert "keeps its own number of buffers (V4L2 says 4)" in caplog.text


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((24, 32, 3), np.uint16),
        np.zeros((24, 32, 2), np.uint8),
        np.zeros((24, 32, 4), np.uint8),
        np.zeros((0, 32, 3), np.uint8),
    ],
)
def test_pictures_of_unknown_format_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ImageError, match="but got"):
        PictureGate().rgb(bad)


@pytest.mark.parametrize("shape", [(24, 32), (24, 32, 1)])
def test_grey_pictures_become_rgb(shape: tuple[int, ...]) -> None:
    assert PictureGate().rgb(np.full(shape, 90, np.uint8)).tolist() == np.full((24, 32, 3), 90).tolist()


@pytest.mark.parametrize("content", [None, b"", b"this is not a video" * 100])
def test_a_video_that_is_missing_or_none_is_a_lost_camera(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "film.avi"
    if content is not None:
        path.write_bytes(content)
    camera = make_camera(CameraConfig(name="cam", kind="video", source=str(path)), TriggerQueue())
    with pytest.raises(CameraLostError, match=r"film\.avi"):
        camera.open()


def test_a_reopened_video_goes_on_behind_the_last_frame_given(tmp_path: Path) -> None:
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for shade in (40, 120, 200):
        writer.write(np.full((48, 64, 3), shade, np.uint8))
    writer.release()
    config = CameraConfig(name="cam", kind="video", source=str(path))
    camera = make_camera(config, TriggerQueue(), clock=FakeTime().clock)
    shades, parts = [], []
    for _ in range(3):
        camera.open()
        frame = camera.read(1.0)
        shades.append(round(float(frame.image.mean()), -1))
        parts.append(frame.part_id)
        camera.close()
    camera.open()
    assert camera.read(1.0) is None
    assert shades == [40, 120, 200]
    assert parts == ["film-000001", "film-000002", "film-000003"]


@pytest.mark.skipif(not REAL_VIDEO.is_file(), reason="the real pictures are not beside this checkout")
def test_a_real_film_gives_its_frames_in_order_and_none_is_skipped() -> None:
    config = CameraConfig(name="cam", kind="video", source=str(REAL_VIDEO))
    camera = make_camera(config, TriggerQueue(), clock=FakeTime().clock)
    capture = cv2.VideoCapture(str(REAL_VIDEO))
    camera.open()
    for number in range(1, 21):
        frame = camera.read(1.0)
        _, expected = capture.read()
        assert frame.frame_id == number
        assert np.array_equal(frame.image[..., ::-1], expected)
    camera.close()
    capture.release()
