"""A camera in its own process: what hangs is killed, what is torn is not taken, what must survive is kept."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.cameras import BadFrameError, Camera, IdleLineError, TriggerQueue, make_camera
from edge.cameras.frame_ring import SLOTS, FrameRing
from edge.cameras.isolated import IsolatedCamera
from inspector.config import CameraConfig
from inspector.errors import CameraLostError, ImageError
from inspector.framing import CropError
from tests.brokers import wait_until

Make = Callable[..., IsolatedCamera]


@pytest.fixture
def make() -> Iterator[Make]:
    cameras: list[Camera] = []

    def camera(triggers: TriggerQueue | None = None, **settings: Any) -> Any:
        values = {"name": "cam", "isolate": True, "period_s": 0.05, "timeout_s": 1.0, "source": "gear", **settings}
        cameras.append(make_camera(CameraConfig.model_validate(values), triggers or TriggerQueue()))
        return cameras[-1]

    yield camera
    for each in cameras:
        each.close()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_camera_that_blocks_for_ever_in_a_native_read_is_killed_and_comes_back(make: Make, tmp_path: Path) -> None:
    first = tmp_path / "a.png"
    for path in (first, tmp_path / "b.png"):
        cv2.imwrite(str(path), np.full((48, 64, 3), 90, np.uint8))
    triggers = TriggerQueue()
    camera = make(triggers, kind="folder", source=str(tmp_path), trigger="mqtt")
    camera.open()
    first.unlink()
    os.mkfifo(first)  # reading it waits in the kernel for a writer that never comes
    hung = camera.pid
    assert hung is not None
    triggers.put(7, "part7")
    start_s = time.monotonic()
    with pytest.raises(BadFrameError, match="hangs and is ended") as caught:
        camera.read(0.5)
    assert time.monotonic() - start_s < 4.0
    assert (caught.value.trigger, caught.value.part_id) == (7, "part7")
    assert isinstance(caught.value.failure, CameraLostError)
    assert not is_running(hung)
    first.unlink()
    camera.open()
    assert camera.pid != hung
    triggers.put(8, "part8")
    frame = camera.read(0.5)
    assert frame is not None
    assert (frame.trigger, frame.part_id, frame.frame_id) == (8, "part8", 2)


def test_a_file_that_comes_slowly_is_waited_for_as_long_as_the_camera_may_take(make: Make, tmp_path: Path) -> None:
    slow = tmp_path / "a.png"
    cv2.imwrite(str(slow), np.full((48, 64, 3), 90, np.uint8))
    data = slow.read_bytes()
    camera = make(kind="folder", source=str(tmp_path), timeout_s=30.0)
    camera.open()
    slow.unlink()
    os.mkfifo(slow)
    writer = threading.Timer(3.0, slow.write_bytes, (data,))
    writer.daemon = True  # nobody may ever read what it writes
    writer.start()
    frame = camera.read(0.5)
    assert frame is not None
    assert frame.part_id == "a"


def test_a_stopped_process_is_killed_and_the_line_goes_on_behind_its_part(make: Make) -> None:
    camera = make()
    camera.open()
    first = camera.read(2.0)
    assert first is not None
    pid = camera.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(BadFrameError, match="hangs and is ended") as caught:
        camera.read(0.5)
    assert not is_running(pid)
    camera.open()
    third = camera.read(5.0)
    assert third is not None
    assert [first.trigger, caught.value.trigger, third.trigger] == [1, 2, 3]
    assert [first.frame_id, caught.value.frame_id, third.frame_id] == [1, 2, 3]


def test_a_simulated_hang_costs_one_part_each_time(make: Make) -> None:
    camera = make(faults={"hang": 1.0})
    for trigger in (1, 2):
        camera.open()
        with pytest.raises(BadFrameError) as caught:
            camera.read(0.5)
        assert caught.value.trigger == trigger


def test_a_process_that_dies_is_a_lost_camera_and_takes_no_trigger(make: Make) -> None:
    triggers = TriggerQueue()
    camera = make(triggers, trigger="mqtt")
    camera.open()
    assert camera.pid is not None
    os.kill(camera.pid, signal.SIGKILL)
    wait_until(lambda: not camera._process.is_alive())  # type: ignore[union-attr]
    triggers.put(1, "p1")
    with pytest.raises(CameraLostError, match="died"):
        camera.read(1.0)
    assert [trigger.part_id for trigger in triggers.drain()] == ["p1"]


def test_a_camera_that_cannot_be_opened_says_why_and_leaves_no_process(make: Make, tmp_path: Path) -> None:
    camera = make(kind="folder", source=str(tmp_path / "nowhere"))
    with pytest.raises(CameraLostError, match="does not exist"):
        camera.open()
    assert camera.pid is None


def test_a_video_goes_on_where_its_killed_process_stood(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for shade in (40, 120, 200):
        writer.write(np.full((48, 64, 3), shade, np.uint8))
    writer.release()
    camera = make(kind="video", source=str(path))
    shades = []
    for _ in range(3):
        camera.open()
        frame = camera.read(2.0)
        assert frame is not None
        shades.append(round(float(frame.image.mean()), -1))
        assert camera.pid is not None
        os.kill(camera.pid, signal.SIGKILL)
    assert shades == [40, 120, 200]


def test_pictures_of_another_size_after_a_restart_are_refused(make: Make, tmp_path: Path) -> None:
    for number, side_px in enumerate((48, 64)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((side_px, 64, 3), 90, np.uint8))
    camera = make(kind="folder", source=str(tmp_path))
    camera.open()
    camera.read(2.0)
    camera.close()
    camera.open()
    with pytest.raises(BadFrameError, match="expected 64×48"):
        camera.read(2.0)


def film(path: Path, level: tuple[int, int, int], size_px: tuple[int, int] = (64, 48)) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, size_px)
    writer.write(np.full((size_px[1], size_px[0], 3), level, np.uint8))
    writer.release()


def test_what_a_cameras_first_picture_was_outlives_its_process(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "film.avi"
    film(path, (0, 0, 200))
    camera = make(kind="video", source=str(path), crop=[0, 0, 32, 32])
    camera.open()
    assert camera.read(2.0) is not None
    camera.close()
    film(path, (0, 0, 200), (96, 48))  # the crop lies in it as well
    camera.position = 0
    camera.open()
    with pytest.raises(BadFrameError, match="expected 64×48 px in colour as in the first picture, but got 96×48"):
        camera.read(2.0)


def test_an_isolated_camera_prepares_its_pictures_once_and_tells_of_a_crop_that_reaches_out(
    make: Make, tmp_path: Path
) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "0.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    cv2.imwrite(str(tmp_path / "1.png"), np.full((48, 32, 3), 90, np.uint8))
    camera = make(kind="folder", source=str(tmp_path), crop=[10, 20, 30, 16], rotate_deg=90)
    camera.open()
    frame = camera.read(2.0)
    assert frame is not None
    assert np.array_equal(frame.image, np.rot90(picture[20:36, 10:40], k=3))
    with pytest.raises(BadFrameError, match="the picture has 32×48 px") as caught:
        camera.read(2.0)
    assert isinstance(caught.value.failure, CropError)
    assert caught.value.part_id == "1"


def test_the_process_ends_with_its_parent_even_when_it_hangs(tmp_path: Path) -> None:
    code = (
        "import sys, time, threading\n"
        "from edge.cameras import TriggerQueue, make_camera\n"
        "from inspector.config import CameraConfig\n"
        "if __name__ == '__main__':\n"
        "    values = dict(name='cam', isolate=True, source='gear', timeout_s=60, faults={'hang': 1})\n"
        "    camera = make_camera(CameraConfig.model_validate(values), TriggerQueue())\n"
        "    camera.open()\n"
        "    threading.Thread(target=camera.read, args=(60,), daemon=True).start()\n"
        "    print(camera.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_running(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not is_running(child))


def test_an_idle_line_costs_nothing_but_its_time(make: Make) -> None:
    camera = make(TriggerQueue(), trigger="mqtt")
    camera.open()
    pid = camera.pid
    for _ in range(3):
        with pytest.raises(IdleLineError):
            camera.read(0.05)
    assert camera.pid == pid


def test_what_is_written_while_it_is_read_is_never_delivered_torn() -> None:
    ring, shape = FrameRing(200 * 200 * 3), (200, 200, 3)
    writer = FrameRing(200 * 200 * 3, attach_to=ring.name)
    stop, newest = threading.Event(), [0]

    def write() -> None:
        while not stop.is_set():
            newest[0] += 1
            writer.write(newest[0], np.full(shape, newest[0] % 251, np.uint8))

    thread = threading.Thread(target=write)
    thread.start()
    taken = refused = 0
    try:
        until = time.monotonic() + 10.0
        while (taken < 20 or refused < 20) and time.monotonic() < until:
            wanted = max(1, newest[0] - (SLOTS - 2))
            try:
                image = ring.read(wanted, shape)
            except ImageError:
                refused += 1
            else:
                taken += 1
                assert np.unique(image).tolist() == [wanted % 251]
    finally:
        stop.set()
        thread.join()
        writer.close()
        ring.close()
    assert taken >= 20
    assert refused >= 1


@pytest.mark.parametrize("half", ["begun", "overwritten"])
def test_a_half_written_picture_is_refused(half: str) -> None:
    ring, picture = FrameRing(300), np.full((10, 10, 3), 7, np.uint8)
    ring.write(1, picture)
    first, last, _ = ring._slot(1)
    if half == "begun":
        last[0] = 0
    else:
        first[0] = 1 + SLOTS
    with pytest.raises(ImageError, match="torn"):
        ring.read(1, (10, 10, 3))
    del first, last
    ring.close()


def test_shared_memory_without_room_is_refused_with_a_sentence() -> None:
    with pytest.raises(CameraLostError, match="shared memory has"):
        FrameRing(10**15)
