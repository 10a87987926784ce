"""A folder as a camera: order, bad pictures that lose no part, folders that are not there."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cameras import BadFrameError, TriggerQueue, make_camera
from edge.cameras.protocol import Camera
from inspector.config import CameraConfig
from inspector.errors import CameraLostError

from .fake_time import FakeTime


def folder_camera(folder: Path, *, triggers: TriggerQueue | None = None, loop: bool = False) -> Camera:
    config = CameraConfig(
        name="cam", kind="folder", source=str(folder), loop=loop, trigger="mqtt" if triggers else "free"
    )
    return make_camera(config, triggers or TriggerQueue(), clock=FakeTime().clock)


def write(folder: Path, name: str, shade: int = 100) -> None:
    picture = np.full((48, 64, 3), (10, 60, shade), np.uint8)
    assert cv2.imwrite(str(folder / name), picture)


def truncated(path: Path) -> None:
    rng = np.random.default_rng(1)
    _, data = cv2.imencode(".png", rng.integers(0, 255, (200, 200, 3), np.uint8))
    path.write_bytes(data.tobytes()[:40])


def text(path: Path) -> None:
    path.write_text("this is not a picture")


def one_pixel(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((1, 1, 3), np.uint8))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def huge(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((9_000, 12_000), np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 1])


def vanished(path: Path) -> None:
    write(path.parent, path.name)


@pytest.mark.parametrize("spoil", [text, truncated, one_pixel, empty, huge, vanished])
def test_a_picture_that_cannot_be_read_loses_no_part(spoil, tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    spoil(tmp_path / "b.png")
    write(tmp_path, "c.png")
    triggers = TriggerQueue()
    for number in range(1, 4):
        triggers.put(number, f"part{number}")
    camera = folder_camera(tmp_path, triggers=triggers)
    camera.open()
    if spoil is vanished:
        (tmp_path / "b.png").unlink()
    first = camera.read(1.0)
    with pytest.raises(BadFrameError, match="part2") as caught:
        camera.read(1.0)
    third = camera.read(1.0)
    assert first is not None
    assert third is not None
    assert (first.part_id, third.part_id, third.trigger) == ("part1", "part3", 3)
    bad = caught.value
    assert (bad.frame_id, bad.camera, bad.part_id, bad.trigger) == (2, "cam", "part2", 2)
    assert bad.captured_at.tzinfo is not None
    assert bad.captured_monotonic_s >= first.captured_monotonic_s
    assert bad.failure is None
    assert camera.read(1.0) is None


def test_pictures_come_sorted_and_their_part_is_the_name_of_the_file(tmp_path: Path) -> None:
    for name in ("c.png", "a.png", "b.jpg"):
        write(tmp_path, name)
    camera = folder_camera(tmp_path)
    camera.open()
    assert [camera.read(1.0).part_id for _ in range(3)] == ["a", "b", "c"]
    assert camera.read(1.0) is None


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_and_16_bit_pictures_become_rgb_of_8_bits(dtype: type, tmp_path: Path) -> None:
    ramp = np.linspace(0, np.iinfo(dtype).max, 64, dtype=dtype)
    cv2.imwrite(str(tmp_path / "a.png"), np.tile(ramp, (48, 1)))
    camera = folder_camera(tmp_path)
    camera.open()
    frame = camera.read(1.0)
    assert frame.image.dtype == np.uint8
    assert frame.image.shape == (48, 64, 3)
    assert frame.image.max() > 200
    assert np.array_equal(frame.image[..., 0], frame.image[..., 2])


def test_a_missing_folder_is_a_lost_camera_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CameraLostError, match="does not exist"):
        folder_camera(tmp_path / "nowhere").open()


def test_an_empty_folder_is_a_lost_camera_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CameraLostError, match="cam"):
        folder_camera(tmp_path).open()


def test_a_loop_brings_what_was_added_meanwhile_and_says_when_everything_is_gone(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    camera = folder_camera(tmp_path, loop=True)
    camera.open()
    assert camera.read(1.0).part_id == "a"
    write(tmp_path, "b.png")
    assert [camera.read(1.0).part_id for _ in range(3)] == ["a", "b", "a"]
    camera.read(1.0)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(CameraLostError):
        camera.read(1.0)


def test_a_reopened_folder_goes_on_where_it_was(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write(tmp_path, name)
    camera = folder_camera(tmp_path)
    camera.open()
    assert camera.read(1.0).part_id == "a"
    camera.close()
    camera.open()
    assert camera.read(1.0).part_id == "b"
    assert camera.read(1.0) is None
