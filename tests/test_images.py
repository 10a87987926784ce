"""Pictures in: what is read, how, and what is refused in a sentence."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from inspector.errors import ImageError
from inspector.images import (
    FRAME_RGB,
    cut_out,
    decode_image,
    encode_jpeg,
    encode_png,
    heat_map,
    list_images,
    read_image,
    shrink,
)
from inspector.types import Box


def write(path: Path, pixels: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), pixels)
    return path


def test_colours_come_as_rgb_and_survive_png(tmp_path: Path) -> None:
    red_bgr = np.zeros((20, 30, 3), np.uint8)
    red_bgr[..., 2] = 255
    image = read_image(write(tmp_path / "red.png", red_bgr))

    assert image.shape == (20, 30, 3)
    assert tuple(image[0, 0]) == (255, 0, 0)
    assert np.array_equal(decode_image(encode_png(image)), image)


def test_grey_16_bit_and_alpha_become_rgb8_without_being_stretched(tmp_path: Path) -> None:
    grey = read_image(write(tmp_path / "grey.png", np.full((20, 20), 7, np.uint8)))
    deep = read_image(write(tmp_path / "deep.png", np.full((20, 20), 514, np.uint16)))
    alpha = read_image(write(tmp_path / "alpha.png", np.full((20, 20, 4), 9, np.uint8)))

    assert (grey == 7).all()
    assert (deep == 2).all()  # a dark frame stays dark
    assert (alpha == 9).all()
    assert grey.shape == deep.shape == alpha.shape == (20, 20, 3)


def test_what_is_no_usable_picture_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").write_bytes(b"")
    whole = encode_png(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 3])
    write(tmp_path / "tiny.png", np.zeros((1, 1, 3), np.uint8))
    for name, words in (("text", "not a picture"), ("empty", "empty"), ("half", "damaged"), ("tiny", "too small")):
        with pytest.raises(ImageError, match=words) as caught:
            read_image(tmp_path / f"{name}.png")
        assert f"{name}.png" in str(caught.value)
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path / "missing.png")


def test_a_picture_of_108_megapixels_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "huge.png", np.zeros((9_000, 12_000), np.uint8))
    with pytest.raises(ImageError, match="12000×9000 px is too large"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_huge_picture_is_refused_by_its_header_before_it_is_decoded(
    suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, data = cv2.imencode(suffix, np.zeros((9_000, 12_000), np.uint8))
    assert done

    def decode(*_: object) -> None:
        pytest.fail("the picture was decoded")

    monkeypatch.setattr(cv2, "imdecode", decode)
    with pytest.raises(ImageError, match="12000×9000 px is too large; at most 100 Mpx"):
        decode_image(data.tobytes(), "huge")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.98])
def test_half_a_file_is_refused_and_never_half_a_picture(suffix: str, kept: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    done, data = cv2.imencode(suffix, image)
    assert done
    whole = data.tobytes()
    assert decode_image(whole).shape == (64, 80, 3)

    with pytest.raises(ImageError):
        decode_image(whole[: int(len(whole) * kept)], "half")


def test_a_jpeg_whose_end_is_missing_may_still_be_written() -> None:
    whole = encode_jpeg(np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8))

    with pytest.raises(ImageError, match="not complete"):
        decode_image(whole[:-2], "part.jpg")


def test_a_picture_that_a_camera_turned_is_read_upright() -> None:
    upright = np.zeros((32, 64, 3), np.uint8)
    upright[:, :16] = 255
    data = encode_jpeg(upright)
    tag = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    block = b"Exif\x00\x00" + tag  # orientation 6: turn right by 90 degrees
    turned = decode_image(data[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + data[2:])

    assert turned.shape == (64, 32, 3)
    assert turned[:8].mean() > 240
    assert turned[32:].mean() < 15


def test_full_16_bit_range_maps_onto_full_8_bit_range(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    image = read_image(write(tmp_path / "ramp.png", ramp))

    assert (image.min(), image.max()) == (0, 255)
    assert np.abs(image[..., 0].astype(float) - ramp / 257).max() <= 1


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="8 or 16 bits"):
        read_image(write(tmp_path / "float.tiff", np.ones((32, 32), np.float32)))


def test_names_that_are_not_ascii_are_read(tmp_path: Path) -> None:
    path = tmp_path / "Prüfling 部品.png"
    path.write_bytes(encode_png(np.full((20, 20, 3), 5, np.uint8)))

    assert (read_image(path) == 5).all()


def test_a_map_that_is_not_finite_leaves_the_picture_as_it_is() -> None:
    image = np.full((40, 40, 3), 100, np.uint8)

    assert np.array_equal(heat_map(np.full((20, 20), np.nan, np.float32), image, 1.0), image)


def test_a_folder_lists_its_pictures_by_name_and_an_empty_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="holds no picture"):
        list_images(tmp_path)
    with pytest.raises(ImageError, match="not a folder"):
        list_images(tmp_path / "missing")
    for name in ("b.png", "a.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg", "b.png"]


def test_a_heat_map_is_red_where_the_map_is_high_and_leaves_the_rest_alone() -> None:
    image = np.full((40, 40, 3), 100, np.uint8)
    anomaly_map = np.zeros((20, 20), np.float32)
    anomaly_map[:5, :5] = 2.0
    picture = heat_map(anomaly_map, image, 1.0)

    assert (picture[30:, 30:] == 100).all()
    assert picture[2, 2, 0] > picture[2, 2, 2]
    assert shrink(image, 20).shape == (20, 20, 3)
    assert shrink(image, 80) is image


@pytest.mark.parametrize(
    "box", [(0.0, 0.0, 0.1, 0.1), (0.9, 0.9, 0.1, 0.1), (0.4, 0.5, 0.2, 0.1), (0.0, 0.0, 1.0, 1.0)]
)
def test_a_cut_out_shows_its_box_framed_and_nothing_from_outside_the_picture(box: Box) -> None:
    image = np.full((120, 200, 3), 90, np.uint8)
    image[round(box[1] * 120) + 2 : round((box[1] + box[3]) * 120) - 2, :, :] = 200

    view = cut_out(image, box, around=3.0, side_px=64)

    assert view.shape == (64, 64, 3)
    framed = (view == FRAME_RGB).all(axis=2)
    assert framed.any()
    assert (view[~framed] >= 50).all()  # the cubic interpolation swings a little below the darkest pixel
