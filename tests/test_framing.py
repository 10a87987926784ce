"""Crop, flip and rotation: the same picture on the line and on the command line, and never one that was made to fit."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edge.cameras import TriggerQueue, make_camera
from inspector.cli import app
from inspector.config import CameraConfig, load_config
from inspector.errors import ConfigError
from inspector.framing import CropError, framed, is_framed
from inspector.images import encode_png, read_image
from inspector.types import ImageArray


def camera(**values: object) -> CameraConfig:
    return CameraConfig.model_validate({"name": "top", "kind": "folder", "source": "raw", **values})


def picture() -> ImageArray:
    return np.random.default_rng(7).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def test_a_crop_is_that_part_of_the_picture_and_nothing_else() -> None:
    assert np.array_equal(framed(picture(), camera(crop=[10, 20, 30, 16])), picture()[20:36, 10:40])


def test_a_crop_may_end_exactly_at_the_edges() -> None:
    assert framed(picture(), camera(crop=[34, 32, 30, 16])).shape == (16, 30, 3)


@pytest.mark.parametrize("crop", [[35, 32, 30, 16], [34, 33, 30, 16], [64, 0, 16, 16]])
def test_a_crop_that_reaches_out_is_refused_with_both_sizes(crop: list[int]) -> None:
    with pytest.raises(CropError, match="but the picture has 64×48 px") as caught:
        framed(picture(), camera(crop=crop))

    assert str(crop) in str(caught.value)


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_turn_is_clockwise_and_four_quarters_are_none(turn: int) -> None:
    marked = np.zeros((48, 64, 3), np.uint8)
    marked[0, 0] = 255  # the upper left corner
    corners = {0: (0, 0), 90: (0, -1), 180: (-1, -1), 270: (-1, 0)}

    turned = framed(marked, camera(rotate_deg=turn))

    assert turned[corners[turn]].all()
    assert turned.shape[:2] == ((48, 64) if turn % 180 == 0 else (64, 48))
    assert np.array_equal(framed(turned, camera(rotate_deg=(360 - turn) % 360)), marked)


def test_the_picture_is_cropped_then_mirrored_then_turned() -> None:
    found = framed(picture(), camera(crop=[10, 20, 30, 16], flip="horizontal", rotate_deg=90))

    assert np.array_equal(found, np.rot90(picture()[20:36, 10:40][:, ::-1], k=3))
    assert found.flags.c_contiguous
    assert np.array_equal(framed(picture(), camera(flip="vertical")), picture()[::-1])


def test_without_a_setting_a_picture_is_left_as_it_is() -> None:
    assert not is_framed(camera())
    assert np.array_equal(framed(picture(), camera()), picture())


def test_a_crop_smaller_than_a_picture_may_be_is_refused_by_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "line.yaml"
    path.write_text("cameras:\n  - {name: top, crop: [0, 0, 15, 100]}\n")

    with pytest.raises(ConfigError, match="crop needs a width and a height of at least 16 px"):
        load_config(path)


@pytest.mark.parametrize(
    "camera_line",
    [
        "{name: top, kind: simulated, crop: [0, 0, 9999, 100]}",
        "{name: top, kind: genicam, source: x, features: {Width: 640, Height: 480}, crop: [600, 0, 41, 100]}",
        "{name: top, kind: folder, source: raw, crop: [40, 0, 30, 16]}",
    ],
)
def test_config_check_refuses_a_crop_where_the_size_of_the_pictures_is_known(tmp_path: Path, camera_line: str) -> None:
    path = tmp_path / "line.yaml"
    path.write_text(f"cameras:\n  - {camera_line}\n")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.png").write_bytes(encode_png(picture()))

    result = CliRunner().invoke(app, ["config", "check", str(path)])

    assert isinstance(result.exception, ConfigError)
    assert "but the picture has" in str(result.exception)


def test_the_command_prepares_pictures_as_the_line_does(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.png").write_bytes(encode_png(picture()))
    path = tmp_path / "line.yaml"
    path.write_text("cameras:\n  - {name: top, kind: folder, source: raw, crop: [10, 20, 30, 16], rotate_deg: 90}\n")
    command = ["camera", "prepare", "top", str(tmp_path / "raw"), "--out", str(tmp_path / "good"), "-c", str(path)]

    assert CliRunner().invoke(app, command).exit_code == 0
    line = make_camera(load_config(path).cameras[0], TriggerQueue())
    line.open()
    frame = line.read(1.0)
    line.close()

    assert frame is not None
    assert np.array_equal(read_image(tmp_path / "good" / "a.png"), frame.image)
    assert frame.image.shape == (30, 16, 3)
    again = CliRunner().invoke(app, command)
    assert "would be overwritten: a.png" in str(again.exception)


def test_the_command_refuses_a_camera_that_is_not_there(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["camera", "prepare", "side", str(tmp_path), "--out", str(tmp_path / "o")])

    assert "there are: camera1" in str(result.exception)
