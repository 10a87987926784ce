"""What every source of frames promises, asked of each of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cameras import BadFrameError, Camera, Clock, IdleLineError, TriggerQueue, make_camera
from inspector.config import CameraConfig
from inspector.errors import CameraLostError
from inspector.types import Frame

from .fake_time import FakeTime

WIDTH_PX, HEIGHT_PX, PICTURES = 96, 64, 4
TIMEOUT_S = 5.0


def red(shade: int) -> np.ndarray:
    """A picture, blue first, that is clearly red."""
    picture = np.zeros((HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    picture[..., 2] = shade
    return picture


def folder_source(where: Path) -> str:
    for number in range(PICTURES):
        cv2.imwrite(str(where / f"part-{number:03d}.png"), red(150 + 20 * number))
    return str(where)


def video_source(where: Path) -> str:
    path = where / "parts.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (WIDTH_PX, HEIGHT_PX))
    for number in range(PICTURES):
        writer.write(red(150 + 20 * number))
    writer.release()
    return str(path)


def no_source(where: Path) -> str:
    return ""


@dataclass(frozen=True)
class Source:
    """One kind of camera under test."""

    kind: str
    make: Callable[[Path], str]
    loop: bool = False
    trigger: str = "free"
    ends: bool = False
    red: bool = True


SOURCES = {
    "folder_once": Source("folder", folder_source, ends=True),
    "folder_loop": Source("folder", folder_source, loop=True),
    "folder_triggered": Source("folder", folder_source, trigger="mqtt", ends=True),
    "video_once": Source("video", video_source, ends=True),
    "video_loop": Source("video", video_source, loop=True),
    "video_triggered": Source("video", video_source, trigger="mqtt", ends=True),
    "opencv_file": Source("opencv", video_source, ends=True),
    "opencv_triggered": Source("opencv", video_source, trigger="mqtt"),
    "simulated_free": Source("simulated", no_source, red=False),
    "simulated_triggered": Source("simulated", no_source, trigger="mqtt", red=False),
}
FREE = [name for name, source in SOURCES.items() if source.trigger == "free"]
TRIGGERED = [name for name, source in SOURCES.items() if source.trigger == "mqtt"]


@dataclass
class Rig:
    """A camera under test, the triggers it hears, and its time."""

    source: Source
    config: CameraConfig
    triggers: TriggerQueue
    time: FakeTime
    camera: Camera
    sent: int = 0

    def next(self) -> Frame | None:
        if self.source.trigger == "mqtt":
            self.sent += 1
            assert self.triggers.put(1000 + self.sent, f"p{self.sent}")
        return self.camera.read(TIMEOUT_S)


@pytest.fixture(params=list(SOURCES))
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    source = SOURCES[request.param]
    config = CameraConfig.model_validate(
        {
            "name": "cam",
            "kind": source.kind,
            "source": source.make(tmp_path),
            "loop": source.loop,
            "trigger": source.trigger,
            "period_s": 0.5,
        }
    )
    triggers, time = TriggerQueue(), FakeTime()
    camera = make_camera(config, triggers, clock=time.clock)
    yield Rig(source, config, triggers, time, camera)
    camera.close()


def test_frames_are_rgb_named_numbered_and_stamped(rig: Rig) -> None:
    rig.camera.open()
    frames = [rig.next() for _ in range(3)]
    for number, frame in enumerate(frames, start=1):
        assert frame is not None
        assert frame.camera == rig.camera.name == "cam"
        assert frame.frame_id == number
        assert frame.image.dtype == np.uint8
        assert frame.image.ndim == 3
        assert frame.image.shape[2] == 3
        assert frame.captured_at.tzinfo is UTC
        if rig.source.red:
            assert frame.image[..., 0].mean() > 100 > frame.image[..., 2].mean()


def test_the_order_of_colours_and_the_numbering_survive_a_reconnect(rig: Rig) -> None:
    rig.camera.open()
    first = rig.next()
    rig.camera.close()
    rig.camera.open()
    second = rig.next()
    assert first is not None
    assert second is not None
    assert second.frame_id == first.frame_id + 1
    assert second.image.shape == first.image.shape
    if rig.source.red:
        assert second.image[..., 0].mean() > 100 > second.image[..., 2].mean()


def test_reading_before_open_and_after_close_is_refused_with_a_sentence(rig: Rig) -> None:
    with pytest.raises(CameraLostError, match="open"):
        rig.camera.read(0.0)
    rig.camera.open()
    rig.camera.close()
    rig.camera.close()  # harmless
    with pytest.raises(CameraLostError, match="open"):
        rig.camera.read(0.0)


def test_a_source_that_ends_says_so_again_and_again_and_one_that_does_not_goes_on(rig: Rig) -> None:
    rig.camera.open()
    for _ in range(PICTURES):
        assert rig.next() is not None
    if rig.source.ends:
        assert rig.next() is None
        assert rig.next() is None
    elif rig.source.kind == "opencv":  # its trigger has been taken: that part is named
        with pytest.raises(BadFrameError, match="end"):
            rig.next()
    else:
        assert all(rig.next() is not None for _ in range(2 * PICTURES))


@pytest.mark.parametrize("rig", ["folder_triggered", "video_triggered"], indirect=True)
def test_the_end_of_a_source_takes_no_trigger(rig: Rig) -> None:
    rig.camera.open()
    for _ in range(PICTURES):
        rig.next()
    assert rig.next() is None
    assert [trigger.part_id for trigger in rig.triggers.drain()] == ["p5"]


@pytest.mark.parametrize("rig", TRIGGERED, indirect=True)
def test_each_trigger_gives_one_frame_with_its_number_and_part(rig: Rig) -> None:
    rig.camera.open()
    for number in range(1, 4):
        rig.triggers.put(7000 + number, f"part{number}")
    frames = [rig.camera.read(TIMEOUT_S) for _ in range(3)]
    assert [(f.trigger, f.part_id) for f in frames if f] == [
        (7001, "part1"),
        (7002, "part2"),
        (7003, "part3"),
    ]


@pytest.mark.parametrize("rig", FREE, indirect=True)
def test_free_running_sources_have_trigger_0_except_the_line_with_its_own_counter(rig: Rig) -> None:
    rig.camera.open()
    frames = [rig.next() for _ in range(3)]
    expected = [1, 2, 3] if rig.source.kind == "simulated" else [0, 0, 0]
    assert [frame.trigger for frame in frames if frame] == expected


def test_an_idle_line_is_told_apart_from_a_lost_camera_and_does_not_end_the_grabber(rig: Rig) -> None:
    rig.camera.open()
    assert rig.next() is not None
    for _ in range(3):
        with pytest.raises(IdleLineError):
            rig.camera.read(0.1)
    assert rig.next() is not None


@pytest.mark.parametrize("rig", FREE, indirect=True)
def test_free_frames_come_one_period_apart_by_the_monotonic_clock(rig: Rig) -> None:
    rig.camera.open()
    stamps = [frame.captured_monotonic_s for frame in (rig.next() for _ in range(4)) if frame]
    assert np.diff(stamps) == pytest.approx([0.5, 0.5, 0.5])
    assert rig.time.slept_s == pytest.approx(1.5)


@pytest.mark.parametrize("rig", FREE, indirect=True)
def test_after_a_pause_of_the_reader_frames_do_not_come_in_a_burst(rig: Rig) -> None:
    rig.camera.open()
    rig.next()
    rig.time.now_s += 10.0
    stamps = [frame.captured_monotonic_s for frame in (rig.next() for _ in range(3)) if frame]
    assert min(np.diff(stamps)) >= 0.0
    assert stamps[-1] - stamps[0] == pytest.approx(0.5 * 2, abs=0.5 + 1e-9)


def test_the_real_clock_is_used_when_none_is_given(rig: Rig) -> None:
    camera = make_camera(rig.config, rig.triggers)
    camera.open()
    rig.triggers.put(1)
    frame = camera.read(TIMEOUT_S)
    camera.close()
    assert frame is not None
    assert abs(frame.captured_monotonic_s - Clock().monotonic_s()) < 30
