"""A hot folder: pictures that come while it is watched, none read half, none read twice."""

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.cameras import BadFrameError, Camera, IdleLineError, TriggerQueue, make_camera
from edge.cameras.whole_files import is_whole
from inspector.config import CameraConfig
from inspector.errors import CameraLostError
from inspector.types import Frame

from .fake_time import FakeTime

SETTLE_S = 0.2


def encoded(suffix: str = ".png", seed: int = 1) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 255, (48, 64, 3), np.uint8)
    done, data = cv2.imencode(suffix, noise)
    assert done
    return data.tobytes()


class Hall:
    """A watched folder with its camera and its time; file times follow the fake clock."""

    def __init__(self, folder: Path, *, moves: bool, **settings: Any) -> None:
        self.folder, self.done = folder / "in", folder / "done"
        self.folder.mkdir()
        self.time = FakeTime()
        done = {"done_folder": str(self.done)} if moves else {}
        values = {"name": "cam", "kind": "folder", "source": str(self.folder), "watch": True, "timeout_s": 3.0}
        self.config = CameraConfig.model_validate({**values, "settle_s": SETTLE_S, **done, **settings})
        self.camera = self.again()

    def again(self) -> Camera:
        """A new program on the same folder."""
        return make_camera(self.config, TriggerQueue(), clock=self.time.clock)

    def put(self, name: str, data: bytes | None = None) -> Path:
        path = self.folder / name
        path.write_bytes(encoded() if data is None else data)
        self.time.now_s += 0.001
        os.utime(path, ns=(int(self.time.now_s * 1e9),) * 2)
        return path

    def read(self) -> Frame:
        frame = self.camera.read(1.0)
        assert frame is not None
        return frame

    def assert_idle(self, timeout_s: float = 1.0) -> None:
        with pytest.raises(IdleLineError):
            self.camera.read(timeout_s)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_pictures_that_appear_while_it_runs_come_in_the_order_of_their_arrival(tmp_path: Path) -> None:
    hall = Hall(tmp_path, moves=False)
    hall.camera.open()
    hall.assert_idle()
    for name in ("b.png", "a.png", "c.jpg"):
        hall.put(name, encoded(Path(name).suffix))
    assert [hall.read().part_id for _ in range(3)] == ["b", "a", "c"]
    hall.assert_idle()
    hall.put("d.bmp", encoded(".bmp"))
    assert hall.read().part_id == "d"


def test_a_file_that_still_grows_is_not_read(tmp_path: Path) -> None:
    hall = Hall(tmp_path, moves=False)
    hall.camera.open()
    data = encoded()
    for share in (0.0, 0.3, 0.6, 0.9):
        hall.put("slow.png", data[: int(share * len(data))])
        hall.assert_idle(timeout_s=0.5)
    hall.put("slow.png", data)
    hall.assert_idle(timeout_s=SETTLE_S / 2)
    assert np.array_equal(hall.read().image, cv2.imdecode(np.frombuffer(data, np.uint8), 1)[..., ::-1])


def test_a_slow_file_does_not_hold_up_those_behind_it(tmp_path: Path) -> None:
    hall = Hall(tmp_path, moves=False)
    hall.camera.open()
    hall.put("half.png", encoded()[:500])
    hall.put("whole.png")
    assert hall.read().part_id == "whole"


def test_a_file_that_never_becomes_whole_is_a_part_without_a_picture(tmp_path: Path) -> None:
    hall = Hall(tmp_path, moves=True)
    hall.camera.open()
    hall.put("cut.jpg", encoded(".jpg")[:-200])
    with pytest.raises(BadFrameError, match=r"cut.*not whole"):
        hall.camera.read(10.0)
    hall.assert_idle()
    assert names(hall.folder) == []
    assert names(hall.done) == ["cut.jpg"]


def test_other_programs_half_written_files_and_other_files_are_left_alone(tmp_path: Path) -> None:
    hall = Hall(tmp_path, moves=True)
    hall.camera.open()
    for name in (".part1.png", "part1.png.part", "part1.tmp", "log.txt"):
        hall.put(name)
    hall.assert_idle()
    (hall.folder / ".part1.png").rename(hall.folder / "part1.png")
    assert hall.read().part_id == "part1"


def test_an_inspected_picture_is_moved_once_its_frame_has_been_handed_over(tmp_path: Path) -> None:
    hall = Hall(tmp_path, moves=True)
    hall.camera.open()
    hall.put("a.png")
    hall.read()
    assert names(hall.folder) == ["a.png"]  # a crash in this moment shows it again
    hall.assert_idle()
    assert (names(hall.folder), names(hall.done)) == ([], ["a.png"])


def test_closing_puts_the_last_picture_away(tmp_path: Path) -> None:
    hall = Hall(tmp_path, moves=True)
    hall.camera.open()
    hall.put("a.png")
    hall.read()
    hall.camera.close()
    assert (names(hall.folder), names(hall.done)) == ([], ["a.png"])


def test_a_name_that_comes_again_is_another_part_and_overwrites_no_evidence(tmp_path: Path) -> None:
    hall = Hall(tmp_path, moves=True)
    hall.camera.open()
    for seed in (1, 2, 3):
        hall.put("a.png", encoded(seed=seed))
        assert hall.read().part_id == "a"
        hall.assert_idle()
    assert names(hall.done) == ["a-1.png", "a-2.png", "a.png"]
    assert len({path.read_bytes() for path in hall.done.iterdir()}) == 3


def test_with_a_done_folder_what_came_while_nobody_watched_is_inspected(tmp_path: Path) -> None:
    hall = Hall(tmp_path, moves=True)
    hall.put("night.png")
    hall.camera.open()
    assert hall.read().part_id == "night"
    hall.camera.close()
    hall.camera = hall.again()
    hall.camera.open()
    hall.assert_idle()


def test_without_a_done_folder_pictures_stay_and_only_new_ones_count(tmp_path: Path) -> None:
    hall = Hall(tmp_path, moves=False)
    hall.put("old.png")
    hall.camera.open()
    hall.assert_idle()
    hall.put("new.png")
    assert hall.read().part_id == "new"
    hall.assert_idle()
    hall.put("old.png", encoded(seed=5))  # written anew
    assert hall.read().part_id == "old"
    hall.camera.close()
    hall.put("while-closed.png")
    hall.camera.open()
    assert hall.read().part_id == "while-closed"
    hall.assert_idle()
    assert names(hall.folder) == ["new.png", "old.png", "while-closed.png"]


def test_a_part_is_as_old_as_its_file_is_known(tmp_path: Path) -> None:
    hall = Hall(tmp_path, moves=False)
    hall.camera.open()
    for name in ("a.png", "b.png"):
        hall.put(name)
    came_s = hall.time.now_s
    hall.read()
    hall.time.now_s += 100.0
    assert hall.read().captured_monotonic_s == pytest.approx(came_s, abs=0.2)


def test_a_file_that_is_taken_away_before_it_is_read_is_no_part(tmp_path: Path) -> None:
    hall = Hall(tmp_path, moves=False)
    hall.camera.open()
    path = hall.put("a.png")
    hall.assert_idle(timeout_s=SETTLE_S / 2)
    path.unlink()
    hall.assert_idle()


def test_a_file_with_a_picture_s_name_that_is_none_is_named(tmp_path: Path) -> None:
    hall = Hall(tmp_path, moves=False)
    hall.camera.open()
    hall.put("a.png", b"this is not a picture" * 10)
    with pytest.raises(BadFrameError, match="part a"):
        hall.camera.read(1.0)


def test_a_folder_that_goes_away_is_a_lost_camera_and_comes_back(tmp_path: Path) -> None:
    hall = Hall(tmp_path, moves=False)
    hall.camera.open()
    hall.folder.rmdir()
    with pytest.raises(CameraLostError, match="cannot be looked into"):
        hall.camera.read(1.0)
    with pytest.raises(CameraLostError):
        hall.camera.open()
    hall.folder.mkdir()
    hall.camera.open()
    hall.put("a.png")
    assert hall.read().part_id == "a"


def test_the_watched_folder_cannot_be_its_own_done_folder(tmp_path: Path) -> None:
    hall = Hall(tmp_path, moves=False, done_folder=str(tmp_path / "in"))
    with pytest.raises(CameraLostError, match="done_folder"):
        hall.camera.open()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_every_cut_of_a_picture_is_seen(suffix: str, tmp_path: Path) -> None:
    data, path = encoded(suffix), tmp_path / f"a{suffix}"
    path.write_bytes(data)
    assert is_whole(path)
    for length in [0, 1, 20, *range(40, len(data), max(1, len(data) // 40)), len(data) - 1]:
        path.write_bytes(data[:length])
        assert not is_whole(path), length


def test_what_some_cameras_write_behind_a_picture_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(".jpg") + b"\0" * 500)
    assert is_whole(path)
