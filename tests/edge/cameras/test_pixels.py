"""Raw bytes of industrial cameras: red must stay red whatever the pattern, and half pictures are refused."""

import numpy as np
import pytest

from edge.cameras.pixels import parse_pixel_format, to_rgb
from inspector.errors import ImageError

RED, GREEN, BLUE = 200, 90, 30
COLOURS = {"R": RED, "G": GREEN, "B": BLUE}
FIRST_FOUR = {"BayerRG": "RGGB", "BayerGR": "GRBG", "BayerGB": "GBRG", "BayerBG": "BGGR"}


def raw(values: np.ndarray) -> np.ndarray:
    return np.frombuffer(values.tobytes(), np.uint8)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("layout", sorted(FIRST_FOUR))
def test_each_bayer_pattern_gives_red_first(layout: str, bits: int) -> None:
    cell = [COLOURS[colour] << (bits - 8) for colour in FIRST_FOUR[layout]]
    mosaic = np.tile(np.array(cell).reshape(2, 2), (12, 16)).astype(np.uint8 if bits == 8 else "<u2")
    image = to_rgb(raw(mosaic), f"{layout}{bits}", 32, 24)
    assert image.shape == (24, 32, 3)
    assert image[12, 16].tolist() == [RED, GREEN, BLUE]


@pytest.mark.parametrize("layout", ["RGB", "BGR", "RGBa", "BGRa"])
def test_colours_in_rows_give_red_first(layout: str) -> None:
    order = {"R": RED, "G": GREEN, "B": BLUE, "a": 255}
    pixels = np.tile(np.array([order[name] for name in layout], np.uint8), (24, 32, 1))
    assert to_rgb(raw(pixels), f"{layout}8", 32, 24)[5, 7].tolist() == [RED, GREEN, BLUE]


@pytest.mark.parametrize(("bits", "value", "expected"), [(8, 200, 200), (10, 1023, 255), (12, 2048, 128), (16, 257, 1)])
def test_grey_of_any_depth_becomes_three_equal_channels(bits: int, value: int, expected: int) -> None:
    pixels = np.full((24, 32), value, np.uint8 if bits == 8 else "<u2")
    image = to_rgb(raw(pixels), f"Mono{bits}", 32, 24)
    assert np.unique(image).tolist() == [expected]
    assert image.shape == (24, 32, 3)


def test_a_picture_that_lacks_bytes_is_refused_and_never_filled_up() -> None:
    with pytest.raises(ImageError, match=r"expected 768 bytes.*got 767"):
        to_rgb(np.zeros(767, np.uint8), "Mono8", 32, 24)


@pytest.mark.parametrize("name", ["Mono12Packed", "BayerRG12p", "YUV422_8", "RGB8Packed", "", "mono8"])
def test_formats_that_cannot_be_read_are_refused_with_those_that_can(name: str) -> None:
    with pytest.raises(ImageError, match="pixel_format"):
        parse_pixel_format(name)
