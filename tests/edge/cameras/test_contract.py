"""What every source of frames promises, asked of each of them; the live ones are real servers, started here.

Live and isolated sources run on the real clock, all others on one that goes on only when they sleep.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.cameras import BadFrameError, Camera, Clock, IdleLineError, TriggerQueue, make_camera
from inspector.config import CameraConfig
from inspector.errors import CameraLostError
from inspector.types import Frame

from .fake_time import FakeTime
from .servers import gige_camera, rtsp_server, viky_producer

WIDTH_PX, HEIGHT_PX, PICTURES = 96, 64, 4
TIMEOUT_S = 5.0
IDLE_S = 0.02


def red(shade: int) -> np.ndarray:
    """A picture, blue first, that is clearly red."""
    picture = np.zeros((HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    picture[..., 2] = shade
    return picture


@contextmanager
def folder(where: Path) -> Iterator[dict[str, Any]]:
    for number in range(PICTURES):
        cv2.imwrite(str(where / f"part-{number:03d}.png"), red(150 + 20 * number))
    yield {"source": str(where)}


@contextmanager
def hot_folder(where: Path) -> Iterator[dict[str, Any]]:
    for number in range(6 * PICTURES):
        cv2.imwrite(str(where / f"part-{number:03d}.png"), red(150 + number))
    yield {"source": str(where), "watch": True, "done_folder": str(where / "done"), "settle_s": 0.05}


@contextmanager
def video(where: Path) -> Iterator[dict[str, Any]]:
    path = where / "parts.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (WIDTH_PX, HEIGHT_PX))
    for number in range(PICTURES):
        writer.write(red(150 + 20 * number))
    writer.release()
    yield {"source": str(path)}


@contextmanager
def line(where: Path) -> Iterator[dict[str, Any]]:
    yield {"source": "gear"}


@contextmanager
def faulty_line(where: Path) -> Iterator[dict[str, Any]]:
    yield {"source": "gear", "faults": {"bad": 0.0, "frozen": 0.3}}


@contextmanager
def rtsp(where: Path) -> Iterator[dict[str, Any]]:
    with rtsp_server(WIDTH_PX, HEIGHT_PX) as server:
        yield {"source": server.address}


@contextmanager
def gige(where: Path) -> Iterator[dict[str, Any]]:
    with gige_camera() as camera:
        camera.plug_in()
        yield {"source": "127.0.0.1", "pixel_format": "BayerRG8", "exposure_us": 2000, "gain": 2}


@contextmanager
def producer(where: Path) -> Iterator[dict[str, Any]]:
    yield {"source": "VikyTL_DEV_red", "producer": viky_producer()}


@dataclass(frozen=True)
class Source:
    """One kind of camera under test. `live`: it runs on the real clock; `own_pace`: not one picture per question."""

    kind: str
    make: Callable[[Path], AbstractContextManager[dict[str, Any]]]
    trigger: str = "free"
    settings: dict[str, Any] = field(default_factory=dict)
    ends: bool = False
    red: bool = False
    live: bool = False
    own_pace: bool = False


ISOLATED, LOOP = {"isolate": True}, {"loop": True}
SOURCES = {
    "folder_once": Source("folder", folder, ends=True, red=True),
    "folder_loop": Source("folder", folder, settings=LOOP, red=True),
    "folder_triggered": Source("folder", folder, "mqtt", ends=True, red=True),
    "hot_folder": Source("folder", hot_folder, own_pace=True, red=True),
    "video_once": Source("video", video, ends=True, red=True),
    "video_loop": Source("video", video, settings=LOOP, red=True),
    "video_triggered": Source("video", video, "mqtt", ends=True, red=True),
    "opencv_file": Source("opencv", video, ends=True, red=True),
    "opencv_triggered": Source("opencv", video, "mqtt", red=True),
    "rtsp_free": Source("opencv", rtsp, live=True, red=True),
    "rtsp_triggered": Source("opencv", rtsp, "mqtt", live=True, red=True),
    "genicam_free": Source("genicam", gige, live=True),
    "genicam_triggered": Source("genicam", gige, "mqtt", live=True),
    "harvesters_free": Source("harvesters", producer, live=True),
    "simulated_free": Source("simulated", line),
    "simulated_triggered": Source("simulated", line, "mqtt"),
    "simulated_with_faults": Source("simulated", faulty_line),
    "isolated_folder_triggered": Source("folder", folder, "mqtt", settings=ISOLATED, ends=True, red=True, live=True),
    "isolated_hot_folder": Source("folder", hot_folder, settings=ISOLATED, own_pace=True, red=True, live=True),
    "isolated_simulated_triggered": Source("simulated", line, "mqtt", settings=ISOLATED, live=True),
    "isolated_rtsp": Source("opencv", rtsp, settings=ISOLATED, red=True, live=True),
    "isolated_genicam_triggered": Source("genicam", gige, "mqtt", settings=ISOLATED, live=True),
    "isolated_harvesters": Source("harvesters", producer, settings=ISOLATED, live=True),
}
FREE = [name for name, source in SOURCES.items() if source.trigger == "free"]
PACED = [name for name in FREE if not SOURCES[name].own_pace]
TRIGGERED = [name for name, source in SOURCES.items() if source.trigger == "mqtt"]
ENDING_TRIGGERED = [name for name in TRIGGERED if SOURCES[name].ends]


class RealTime:
    """The clock of sources that keep a time of their own."""

    clock = Clock()

    def pause(self, duration_s: float) -> None:
        time.sleep(duration_s)


class SteppedTime(FakeTime):
    """The clock of all others."""

    def pause(self, duration_s: float) -> None:
        self.now_s += duration_s


@dataclass
class Rig:
    """A camera under test, the triggers it hears, and its time."""

    source: Source
    config: CameraConfig
    triggers: TriggerQueue
    time: RealTime | SteppedTime
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
    with source.make(tmp_path) as found:
        config = CameraConfig.model_validate(
            {
                "name": "cam",
                "kind": source.kind,
                "trigger": source.trigger,
                "period_s": 0.2 if source.live else 0.5,
                "timeout_s": TIMEOUT_S,
                **source.settings,
                **found,
            }
        )
        triggers = TriggerQueue()
        time = RealTime() if source.live else SteppedTime()
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
    elif rig.source.kind == "opencv" and not rig.source.live:  # its trigger has been taken: that part is named
        with pytest.raises(BadFrameError, match="end"):
            rig.next()
    else:
        assert all(rig.next() is not None for _ in range(2 * PICTURES))


@pytest.mark.parametrize("rig", ENDING_TRIGGERED, indirect=True)
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
    if rig.source.own_pace:
        while True:
            try:
                rig.camera.read(0.2)
            except IdleLineError:
                break
    idle = 0
    for _ in range(3 if not rig.source.live else 100):  # a live one may have a picture ready on a busy machine
        try:
            rig.camera.read(IDLE_S)
        except IdleLineError:
            idle += 1
        if idle == 3:
            break
    assert idle == 3
    if rig.source.own_pace:
        cv2.imwrite(str(Path(rig.config.source) / "late.png"), red(200))
    assert rig.next() is not None


@pytest.mark.parametrize("rig", PACED, indirect=True)
def test_free_frames_come_one_period_apart_by_the_monotonic_clock(rig: Rig) -> None:
    rig.camera.open()
    rig.next()  # a camera's first one may have waited
    stamps = [frame.captured_monotonic_s for frame in (rig.next() for _ in range(3)) if frame]
    period_s = rig.config.period_s
    if rig.source.live:
        assert 0.5 * period_s < np.mean(np.diff(stamps)) < 5 * period_s  # a busy machine delays, and never hurries
    else:
        assert np.diff(stamps) == pytest.approx([period_s] * (len(stamps) - 1))


@pytest.mark.parametrize("rig", [name for name in PACED if SOURCES[name].kind != "genicam"], indirect=True)
def test_after_a_pause_of_the_reader_frames_do_not_come_in_a_burst(rig: Rig) -> None:
    rig.camera.open()
    rig.next()
    rig.time.pause(5 * rig.config.period_s)
    stamps = [frame.captured_monotonic_s for frame in (rig.next() for _ in range(3)) if frame]
    period_s = rig.config.period_s
    assert min(np.diff(stamps)) >= 0.0
    assert stamps[-1] - stamps[0] >= period_s * 0.7


def test_the_real_clock_is_used_when_none_is_given(rig: Rig) -> None:
    camera = make_camera(rig.config, rig.triggers)
    camera.open()
    rig.triggers.put(1)
    frame = camera.read(TIMEOUT_S)
    camera.close()
    assert frame is not None
    assert abs(frame.captured_monotonic_s - Clock().monotonic_s()) < 30
