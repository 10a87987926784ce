"""GenICam by Aravis, against Debian's GigE Vision camera in software on loopback."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from edge.cameras import BadFrameError, Camera, IdleLineError, MissedFrameError, TriggerQueue, genicam, make_camera
from inspector.config import CameraConfig
from inspector.errors import CameraLostError, CameraTimeoutError
from inspector.types import Frame

from .servers import SoftwareGigeCamera, gige_camera

Make = Callable[..., Camera]


@pytest.fixture
def gige() -> Iterator[SoftwareGigeCamera]:
    with gige_camera() as camera:
        yield camera


@pytest.fixture
def make() -> Iterator[Make]:
    cameras: list[Camera] = []

    def camera(triggers: TriggerQueue | None = None, **settings: Any) -> Camera:
        config = {"name": "cam", "kind": "genicam", "source": "127.0.0.1", "period_s": 0.05, **settings}
        cameras.append(make_camera(CameraConfig.model_validate(config), triggers or TriggerQueue()))
        return cameras[-1]

    yield camera
    for each in cameras:
        each.close()


def next_frame(camera: Camera) -> Frame:
    frame = camera.read(5.0)
    assert frame is not None
    return frame


def whole_frame(camera: Camera, triggers: TriggerQueue) -> Frame:
    """The next one that comes whole: packets get lost where the processor has no time for them."""
    for number in range(1, 6):
        triggers.put(number)
        part = next_part(camera)
        triggers.drain()  # a free-running camera takes none
        if isinstance(part, Frame):
            return part
    raise AssertionError(part)


def next_part(camera: Camera) -> Frame | BadFrameError:
    try:
        return next_frame(camera)
    except BadFrameError as error:
        return error


def wait_for_loss(camera: Camera) -> str:
    """What the camera says when it is gone; an idle line is waited out, and the half picture that was on its way."""
    while True:
        try:
            camera.read(0.3)
        except (IdleLineError, BadFrameError):
            continue
        except CameraLostError as error:
            return str(error)


def missed_among(parts: list[Frame | BadFrameError]) -> int:
    """How many of these were lost on the way; none may be bad in another way."""
    bad = [part for part in parts if isinstance(part, BadFrameError)]
    assert all(isinstance(part.failure, MissedFrameError) for part in bad)
    return len(bad)


def test_the_settings_are_applied_and_read_back_at_each_connection(gige: SoftwareGigeCamera, make: Make) -> None:
    gige.plug_in()
    settings = {"exposure_us": 4321, "gain": 5, "pixel_format": "RGB8", "features": {"Width": 256, "Height": 128}}
    camera = make(**settings)
    for _ in range(2):  # the second one is another camera, which knows nothing of the first
        camera.open()
        assert next_frame(camera).image.shape == (128, 256, 3)
        camera.close()
        device = genicam.AravisDevice(CameraConfig.model_validate({"kind": "genicam", "source": "127.0.0.1"}))
        device.connect()
        found = {name: str(device.read(name)) for name in ("ExposureTimeAbs", "GainRaw", "Width", "PixelFormat")}
        device.disconnect()
        gige.unplug()
        gige.plug_in()
        assert float(found.pop("ExposureTimeAbs")) == pytest.approx(4321, rel=0.02)
        assert float(found.pop("GainRaw")) == pytest.approx(5)
        assert found == {"Width": "256", "PixelFormat": "RGB8"}


def test_each_pixel_format_of_the_camera_shows_the_same_colours(gige: SoftwareGigeCamera, make: Make) -> None:
    gige.plug_in()
    means = {}
    for name in ("RGB8", "BayerRG8", "BayerGR8", "BayerGB8", "BayerBG8"):
        camera = make(pixel_format=name)
        camera.open()
        means[name] = next_frame(camera).image.mean((0, 1))
        camera.close()
    for name, mean in means.items():
        assert mean == pytest.approx(means["RGB8"], abs=1), name


def test_each_software_trigger_gives_one_frame_with_its_part(gige: SoftwareGigeCamera, make: Make) -> None:
    gige.plug_in()
    triggers = TriggerQueue()
    camera = make(triggers, trigger="mqtt")
    camera.open()
    with pytest.raises(IdleLineError):
        camera.read(0.2)
    for number in range(1, 11):
        triggers.put(number, f"part{number}")
        asked_s = time.monotonic()
        frame = next_frame(camera)
        assert (frame.trigger, frame.part_id, frame.frame_id) == (number, f"part{number}", number)
        assert frame.captured_monotonic_s >= asked_s
    with pytest.raises(IdleLineError):
        camera.read(0.2)


def test_a_hardware_trigger_waits_for_its_input_and_an_idle_line_is_no_loss(
    gige: SoftwareGigeCamera, make: Make
) -> None:
    gige.plug_in()
    camera = make(trigger="hardware", trigger_source="Line0", features={"TriggerActivation": "RisingEdge"})
    camera.open()
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        with pytest.raises(IdleLineError):
            camera.read(0.5)


def test_the_wrap_of_the_camera_s_numbers_loses_no_part(gige: SoftwareGigeCamera, make: Make) -> None:
    gige.plug_in()
    camera = make(period_s=0.02, features={"Width": 64, "Height": 64})
    camera.open()
    parts: list[Frame | BadFrameError] = []
    numbers: list[int] = []
    while not numbers or not numbers[0] > 65_000 > numbers[-1] > 20:
        parts.append(next_part(camera))
        numbers.append(camera._ids._last)  # type: ignore[attr-defined]
    assert 0 not in numbers
    while isinstance(parts[-1], BadFrameError):  # the frame behind a gap comes after all that are missing
        parts.append(next_part(camera))
    passed = numbers[-1] + 65_535 - numbers[0] + 1
    assert len(parts) == passed
    assert missed_among(parts) < 0.2 * passed  # a busy machine may lose some; it tells each of them


def test_frames_that_a_slow_reader_missed_are_told_one_by_one(gige: SoftwareGigeCamera, make: Make) -> None:
    gige.plug_in()
    camera = make(period_s=0.02, features={"Width": 64, "Height": 64})
    camera.open()
    next_frame(camera)
    before = camera._ids._last  # type: ignore[attr-defined]
    time.sleep(1.5)
    parts: list[Frame | BadFrameError] = []
    while sum(isinstance(part, Frame) for part in parts) < 16:
        parts.append(next_part(camera))
    assert missed_among(parts) > 10
    assert len(parts) == camera._ids._last - before  # type: ignore[attr-defined]


def test_frames_with_lost_packets_are_bad_frames_and_never_pictures(gige: SoftwareGigeCamera, make: Make) -> None:
    gige.plug_in(lost_per_thousand=3)
    camera = make(period_s=0.1)
    camera.open()
    images: list[np.ndarray] = []
    bad: list[BadFrameError] = []
    while len(images) < 4 or len(bad) < 4:
        part = next_part(camera)
        if isinstance(part, BadFrameError):
            bad.append(part)
        else:
            images.append(part.image)
    assert any("incomplete" in str(error) for error in bad)
    assert all(error.failure is None or isinstance(error.failure, MissedFrameError) for error in bad)
    for image in images:  # a ramp over the whole picture: a hole would be a step
        assert np.isin(np.diff(image[..., 0].astype(int), axis=1) % 256, (0, 1, 2)).all()


@pytest.mark.parametrize("trigger", ["free", "mqtt", "hardware"])
def test_an_unplugged_camera_is_lost_within_three_seconds_and_comes_back(
    trigger: str, gige: SoftwareGigeCamera, make: Make
) -> None:
    gige.plug_in()
    triggers = TriggerQueue()
    settings = {"trigger_source": "Line0"} if trigger == "hardware" else {}
    camera = make(triggers, trigger=trigger, **settings)
    camera.open()
    if trigger != "hardware":
        whole_frame(camera, triggers)
    gige.unplug()
    gone_s = time.monotonic()
    assert "does not answer any more" in wait_for_loss(camera)
    assert time.monotonic() - gone_s < 3.0
    camera.close()
    with pytest.raises(CameraLostError, match="camera cam"):
        camera.open()
    gige.plug_in()
    camera.open()
    if trigger != "hardware":
        assert whole_frame(camera, triggers).frame_id >= 2


def test_a_trigger_to_an_unplugged_camera_names_its_part(gige: SoftwareGigeCamera, make: Make) -> None:
    gige.plug_in()
    triggers = TriggerQueue()
    camera = make(triggers, trigger="mqtt", timeout_s=2.0)
    camera.open()
    gige.unplug()
    triggers.put(41, "part41")
    with pytest.raises(BadFrameError) as caught:
        camera.read(1.0)
    assert (caught.value.trigger, caught.value.part_id) == (41, "part41")
    assert isinstance(caught.value.failure, CameraLostError | CameraTimeoutError)


def test_an_address_where_nobody_is_and_a_format_the_camera_lacks_are_told(
    gige: SoftwareGigeCamera, make: Make
) -> None:
    with pytest.raises(CameraLostError, match="camera cam"):
        make().open()
    gige.plug_in()
    with pytest.raises(CameraLostError, match="PixelFormat cannot be set to RGB16"):
        make(pixel_format="RGB16").open()


def test_without_aravis_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gi", None)
    with pytest.raises(CameraLostError, match=r"gir1\.2-aravis-0\.8.*inspector\[genicam\]"):
        make().open()
