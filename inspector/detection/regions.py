"""From an anomaly map to defect regions in pixels of the camera's image. numpy and OpenCV only."""

from math import ceil, floor

import cv2
import numpy as np

from inspector.types import MapArray, Region

MAX_REGIONS = 16
MIN_AREA_FRACTION = 0.0002
PEAK_FRACTION = 0.7
"""Where a map stays below its pixel threshold though the part is rejected, the region is what reaches this share of
the peak: a rejected part must say where."""


def find_regions(
    anomaly_map: MapArray, pixel_threshold: float, image_hw: tuple[int, int], tiles: int = 1
) -> tuple[Region, ...]:
    """Connected regions of `[H, W]` above the pixel threshold, the worst first, at most 16.

    Args:
        anomaly_map: raw map `[H, W]`.
        tiles: how many tiles it is of; a region may be that much smaller.
        pixel_threshold: raw level that normal pictures stay below.
        image_hw: size of the camera's image in px.
    """
    peak = float(anomaly_map.max())
    level = min(pixel_threshold, PEAK_FRACTION * peak) if peak > 0 else pixel_threshold
    count, labels, stats, centroids = cv2.connectedComponentsWithStats(
        (anomaly_map > level).astype(np.uint8), connectivity=8
    )
    scale_y, scale_x = image_hw[0] / anomaly_map.shape[0], image_hw[1] / anomaly_map.shape[1]
    regions = []
    for label in range(1, count):
        x, y, width, height, area = (int(value) for value in stats[label])
        if area < MIN_AREA_FRACTION / tiles * anomaly_map.size:
            continue
        inside = labels[y : y + height, x : x + width] == label
        part = anomaly_map[y : y + height, x : x + width]
        values = part[inside]
        peak_y, peak_x = divmod(int(np.where(inside, part, -np.inf).argmax()), width)
        left, upper = floor(x * scale_x), floor(y * scale_y)  # whole pixels that the region touches
        regions.append(
            Region(
                x_px=left,
                y_px=upper,
                width_px=ceil((x + width) * scale_x) - left,
                height_px=ceil((y + height) * scale_y) - upper,
                area_px=max(1, round(area * scale_x * scale_y)),
                area_fraction=area / anomaly_map.size,
                centroid_x_px=float((centroids[label][0] + 0.5) * scale_x),
                centroid_y_px=float((centroids[label][1] + 0.5) * scale_y),
                peak=float(values.max()),
                mean_excess=float((values - level).mean()),
                peak_x_px=(x + peak_x + 0.5) * scale_x,
                peak_y_px=(y + peak_y + 0.5) * scale_y,
            )
        )
    return tuple(sorted(regions, key=lambda region: -region.peak)[:MAX_REGIONS])
