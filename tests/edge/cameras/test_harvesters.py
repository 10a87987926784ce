"""GenICam by Harvesters, against the producer that the GenICam committee ships; and what is wrong without one."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.cameras import Camera, TriggerQueue, make_camera
from inspector.config import CameraConfig
from inspector.errors import CameraLostError

from .servers import viky_producer

Make = Callable[..., Camera]
RED = "VikyTL_DEV_red"


@pytest.fixture
def make() -> Iterator[Make]:
    cameras: list[Camera] = []

    def camera(producer: Path, **settings: Any) -> Camera:
        values = {
            "name": "cam",
            "kind": "harvesters",
            "producer": producer,
            "source": RED,
            "period_s": 0.05,
            **settings,
        }
        cameras.append(make_camera(CameraConfig.model_validate(values), TriggerQueue()))
        return cameras[-1]

    yield camera
    for each in cameras:
        each.close()


def test_its_pictures_are_rgb_and_its_settings_are_read_back(make: Make) -> None:
    camera = make(viky_producer(), pixel_format="RGBa8", features={"Width": 200, "Height": 120})
    for _ in range(2):
        camera.open()
        frame = camera.read(5.0)
        camera.close()
        assert frame is not None
        assert frame.image.shape == (120, 200, 3)
        ball = frame.image[np.ptp(frame.image, axis=2) > 100]
        assert len(ball) > 10
        assert ball[:, 0].mean() > 200  # red
        assert ball[:, 2].mean() < 100


def test_two_cameras_of_one_producer_run_beside_each_other(make: Make) -> None:
    producer = viky_producer()
    cameras = [make(producer), make(producer, source="VikyTL_DEV_blue", pixel_format="Mono8")]
    for camera in cameras:
        camera.open()
    for camera in cameras:
        assert camera.read(5.0) is not None
    cameras[0].close()
    cameras[0].open()
    for camera in cameras:
        assert camera.read(5.0) is not None


@pytest.mark.parametrize(("source", "told"), [("", "3 cameras fit"), ("nobody", "no camera is called 'nobody'")])
def test_a_camera_that_is_not_named_is_asked_for_with_the_list(source: str, told: str, make: Make) -> None:
    with pytest.raises(CameraLostError, match=f"{told}.*{RED}"):
        make(viky_producer(), source=source).open()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"trigger": "mqtt"}, "cannot be triggered"),
        ({"exposure_us": 5}, "remove exposure_us"),
        ({"features": {"Width": 100_000}}, "Width cannot be set to 100000"),
        ({"pixel_format": "RGB8"}, "PixelFormat cannot be set to RGB8"),
    ],
)
def test_what_the_camera_cannot_do_is_told_before_the_first_frame(
    settings: dict[str, Any], told: str, make: Make
) -> None:
    with pytest.raises(CameraLostError, match=told):
        make(viky_producer(), **settings).open()


def test_a_missing_producer_is_named(make: Make, tmp_path: Path) -> None:
    with pytest.raises(CameraLostError, match=r"vendor\.cti does not exist; set `producer`"):
        make(tmp_path / "vendor.cti").open()


def test_a_file_that_is_no_producer_is_named(make: Make, tmp_path: Path) -> None:
    viky_producer()  # without the extra it is the extra that is missing
    path = tmp_path / "vendor.cti"
    path.write_bytes(b"this is not a library")
    with pytest.raises(CameraLostError, match=r"vendor\.cti cannot be loaded"):
        make(path).open()


def test_without_the_extra_the_error_says_what_to_install(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vendor.cti"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "harvesters.core", None)
    monkeypatch.setitem(sys.modules, "genicam.gentl", None)
    with pytest.raises(CameraLostError, match=r"inspector\[harvesters\]"):
        make(path).open()
