"""Defect regions stand where the map is high, in pixels of the camera's image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspector.detection.regions import MAX_REGIONS, find_regions


def blank(size: int = 64) -> np.ndarray:
    return np.full((size, size), 0.1, np.float32)


def test_a_spot_becomes_one_region_in_camera_pixels() -> None:
    anomaly_map = blank()
    anomaly_map[16:24, 32:48] = 1.0
    (region,) = find_regions(anomaly_map, 0.5, (128, 640))  # twice as high, ten times as wide

    assert (region.x_px, region.y_px, region.width_px, region.height_px) == (320, 32, 160, 16)
    assert region.area_px == 160 * 16
    assert region.area_fraction == pytest.approx(8 * 16 / 64**2)
    assert (region.centroid_x_px, region.centroid_y_px) == pytest.approx((400, 40))
    assert region.peak == 1.0
    assert region.mean_excess == pytest.approx(0.5)


def test_two_spots_are_two_regions_and_the_worst_comes_first() -> None:
    anomaly_map = blank()
    anomaly_map[2:6, 2:6] = 0.8
    anomaly_map[40:50, 40:50] = 0.9

    regions = find_regions(anomaly_map, 0.5, (64, 64))

    assert [round(region.peak, 3) for region in regions] == [0.9, 0.8]


def test_a_rejected_part_whose_map_stays_below_the_threshold_still_says_where() -> None:
    anomaly_map = blank()
    anomaly_map[10:14, 10:14] = 0.4

    (region,) = find_regions(anomaly_map, 0.5, (64, 64))

    assert (region.x_px, region.y_px) == (10, 10)


def test_specks_are_left_out() -> None:
    anomaly_map = blank(256)
    anomaly_map[5, 5] = 1.0
    anomaly_map[100:120, 100:120] = 0.9

    assert [region.peak for region in find_regions(anomaly_map, 0.5, (256, 256))] == pytest.approx([0.9])


def test_a_noisy_map_gives_no_more_than_the_limit() -> None:
    anomaly_map = blank(256)
    for y in range(0, 256, 16):
        for x in range(0, 256, 16):
            anomaly_map[y : y + 8, x : x + 8] = 1.0

    assert len(find_regions(anomaly_map, 0.5, (256, 256))) == MAX_REGIONS


@given(
    st.integers(0, 63),
    st.integers(0, 63),
    st.integers(1, 64),
    st.integers(1, 64),
    st.integers(16, 5000),
    st.integers(16, 5000),
)
def test_a_region_lies_in_the_image(x: int, y: int, width: int, height: int, image_h: int, image_w: int) -> None:
    anomaly_map = blank()
    anomaly_map[y : y + height, x : x + width] = 1.0

    for region in find_regions(anomaly_map, 0.5, (image_h, image_w)):
        assert 0 <= region.x_px < image_w
        assert 0 <= region.y_px < image_h
        assert region.width_px >= 1
        assert region.height_px >= 1
        assert region.x_px + region.width_px <= image_w
        assert region.y_px + region.height_px <= image_h
        assert region.x_px - 1 <= region.centroid_x_px <= region.x_px + region.width_px + 1
