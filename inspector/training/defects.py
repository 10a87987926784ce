"""Random faults with exact masks: scratches down to hairlines, cracks, spots, stains, holes, dents, corrosion, smears.

Each fault takes a float picture and says which pixels it meant to change; ``add_defect`` keeps a fault only
where it can be seen, so a mask never names a region that did not change. Faults of layout (missing,
displaced, broken piece) belong to the scene that has pieces: see ``products``.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.training.textures import (
    FloatImage,
    Rng,
    TextureSpec,
    blob_mask,
    lit_relief,
    octave_noise,
    random_colour,
)

Change = tuple[FloatImage, FloatImage]
MIN_VISIBLE_PX = 12
VISIBLE_DIFFERENCE = 0.035


def _radius_px(rng: Rng, size: int, low: float = 0.012, high: float = 0.16) -> float:
    return float(size * np.exp(rng.uniform(np.log(low), np.log(high))))


def _contrasting(rng: Rng, image: FloatImage, mask: FloatImage) -> FloatImage:
    """A colour away from what is under the mask: darker, brighter or of another hue."""
    inside = mask > 0.3
    under = image[inside].mean(0) if inside.any() else image.mean((0, 1))
    kind = rng.random()
    if kind < 0.4:
        return np.asarray(under * rng.uniform(0.1, 0.75), np.float32)
    if kind < 0.7:
        return np.asarray(under + (1.0 - under) * rng.uniform(0.3, 0.95), np.float32)
    return random_colour(rng)


def _blend(image: FloatImage, colour: FloatImage, alpha: FloatImage) -> FloatImage:
    weight = alpha[..., None]
    return np.asarray(image * (np.float32(1.0) - weight) + colour * weight, np.float32)


def _walk(rng: Rng, start: tuple[float, float], length: float, bend: float, steps: int) -> NDArray[np.int32]:
    """A wandering line of ``steps`` points in 1/16 px, as OpenCV's ``shift=4`` takes it."""
    headings = rng.uniform(0.0, 2.0 * np.pi) + np.cumsum(rng.normal(0.0, bend, steps))
    paces = length / steps * np.stack([np.cos(headings), np.sin(headings)], 1)
    return np.round((np.array(start) + np.cumsum(paces, 0)) * 16.0).astype(np.int32)


def _drawn_line(size: int, points: NDArray[np.int32], thickness_px: int) -> FloatImage:
    mask = np.zeros((size, size), np.uint8)
    cv2.polylines(mask, [points.reshape(-1, 1, 2)], False, 255, thickness_px, cv2.LINE_AA, 4)
    return mask.astype(np.float32) / np.float32(255.0)


def _scratch(rng: Rng, image: FloatImage, at: tuple[float, float]) -> Change:
    size = image.shape[0]
    alpha = np.zeros(image.shape[:2], np.float32)
    length = size * rng.uniform(0.06, 0.5)
    for _ in range(int(rng.integers(1, 4))):
        start = (at[0] + rng.normal(0.0, 0.02 * size), at[1] + rng.normal(0.0, 0.02 * size))
        line = _drawn_line(size, _walk(rng, start, length, 0.06, 16), int(rng.integers(1, 4)))
        np.maximum(alpha, line, out=alpha)
    alpha *= np.float32(rng.uniform(0.3, 1.0))
    return _blend(image, _contrasting(rng, image, alpha), alpha), alpha


def _crack(rng: Rng, image: FloatImage, at: tuple[float, float]) -> Change:
    size = image.shape[0]
    length = size * rng.uniform(0.1, 0.5)
    trunk = _walk(rng, at, length, 0.45, 24)
    alpha = _drawn_line(size, trunk, int(rng.integers(1, 4)))
    for _ in range(int(rng.integers(0, 4))):
        knot = trunk[rng.integers(4, 24)] / 16.0
        branch = _walk(rng, (float(knot[0]), float(knot[1])), 0.4 * length, 0.5, 12)
        np.maximum(alpha, _drawn_line(size, branch, 1), out=alpha)
    dark = (image.mean((0, 1)) * np.float32(rng.uniform(0.05, 0.5))).astype(np.float32)
    return _blend(image, dark, alpha * np.float32(rng.uniform(0.5, 1.0))), alpha


def _spots(rng: Rng, image: FloatImage, at: tuple[float, float]) -> Change:
    size = image.shape[0]
    alpha = np.zeros(image.shape[:2], np.float32)
    spread = _radius_px(rng, size, 0.03, 0.2)
    for index in range(int(rng.integers(1, 6))):
        offset = rng.normal(0.0, spread, 2) if index else np.zeros(2)
        centre = (at[0] + float(offset[0]), at[1] + float(offset[1]))
        np.maximum(alpha, blob_mask(rng, size, centre, _radius_px(rng, size, 0.008, 0.04), 0.15), out=alpha)
    colour = _contrasting(rng, image, alpha)
    return _blend(image, colour, alpha * np.float32(rng.uniform(0.4, 1.0))), alpha


def _stain(rng: Rng, image: FloatImage, at: tuple[float, float]) -> Change:
    size = image.shape[0]
    alpha = blob_mask(rng, size, at, _radius_px(rng, size, 0.03, 0.18))
    soft = cv2.GaussianBlur(alpha, (0, 0), rng.uniform(0.8, 5.0)).astype(np.float32)
    soft *= (octave_noise(rng, size, 12.0, 0.7, 3) * np.float32(0.25) + np.float32(0.8)).clip(0.2, 1.0)
    low, high = (0.25, 1.0) if rng.random() < 0.7 else (1.0, 1.8)
    tint = rng.uniform(low, high, 3).astype(np.float32)
    gain = np.float32(1.0) + soft[..., None] * (tint - np.float32(1.0))
    return np.asarray(image * gain, np.float32), soft


def _hole(rng: Rng, image: FloatImage, at: tuple[float, float]) -> Change:
    size = image.shape[0]
    radius = _radius_px(rng, size, 0.015, 0.08)
    alpha = blob_mask(rng, size, at, radius, 0.25)
    rim = cv2.dilate(alpha, np.ones((3, 3), np.uint8)).astype(np.float32)
    lit = _blend(image, np.float32(1.2) * image.mean((0, 1)), np.float32(0.6) * rim)
    shade = np.float32(rng.uniform(0.02, 0.25)) * np.ones(3, np.float32)
    return _blend(lit, shade, alpha), rim


def _hairline(rng: Rng, image: FloatImage, at: tuple[float, float]) -> Change:
    """A scratch or a crack thinner than a pixel."""
    size = image.shape[0]
    points = _walk(rng, at, size * rng.uniform(0.1, 0.6), float(rng.uniform(0.03, 0.35)), 20)
    double = _drawn_line(2 * size, 2 * points, int(rng.integers(1, 3)))
    alpha = np.asarray(cv2.resize(double, (size, size), interpolation=cv2.INTER_AREA), np.float32)
    alpha = (alpha * np.float32(rng.uniform(0.5, 1.2))).clip(0.0, 1.0)
    return _blend(image, _contrasting(rng, image, alpha), alpha), (alpha > 0.05).astype(np.float32)


def _scuff(rng: Rng, image: FloatImage, at: tuple[float, float]) -> Change:
    """Many fine parallel scratches."""
    size = image.shape[0]
    alpha = np.zeros(image.shape[:2], np.float32)
    heading, reach = rng.uniform(0.0, 2.0 * np.pi), size * rng.uniform(0.03, 0.14)
    along = np.array([np.cos(heading), np.sin(heading)])
    for _ in range(int(rng.integers(6, 24))):
        middle = np.array(at) + rng.normal(0.0, 0.4 * reach, 2)
        half = 0.5 * reach * rng.uniform(0.4, 1.2) * along
        ends = np.round(np.stack([middle - half, middle + half]) * 16.0).astype(np.int32)
        np.maximum(alpha, _drawn_line(size, ends, 1) * np.float32(rng.uniform(0.2, 0.9)), out=alpha)
    meant = cv2.dilate((alpha > 0.1).astype(np.float32), np.ones((3, 3), np.uint8)).astype(np.float32)
    return _blend(image, _contrasting(rng, image, alpha), alpha), meant


def _corrosion(rng: Rng, image: FloatImage, at: tuple[float, float]) -> Change:
    """A patch of pits and crust: rust, mould, flaking."""
    size = image.shape[0]
    soft = cv2.GaussianBlur(blob_mask(rng, size, at, _radius_px(rng, size, 0.03, 0.16)), (0, 0), 2.0)
    noise = octave_noise(rng, size, float(rng.uniform(16.0, 60.0)), 0.7, 2)
    alpha = (np.float32(3.0) * (noise - np.float32(rng.uniform(-0.5, 0.6)))).clip(0.0, 1.0) * soft.astype(np.float32)
    return _blend(image, _contrasting(rng, image, alpha), alpha * np.float32(rng.uniform(0.4, 1.0))), alpha


def _glint(rng: Rng, image: FloatImage, at: tuple[float, float]) -> Change:
    """A drop, a blister or a bubble: dark rim on one side, light on the other."""
    size = image.shape[0]
    alpha = blob_mask(rng, size, at, _radius_px(rng, size, 0.012, 0.07), 0.15)
    height = np.asarray(cv2.GaussianBlur(alpha, (0, 0), 1.5), np.float32) * np.float32(rng.uniform(2.0, 8.0))
    factor, highlight = lit_relief(height, float(rng.uniform(0.0, 360.0)), 0.6, float(rng.uniform(0.0, 0.6)))
    rim = cv2.dilate(alpha, np.ones((5, 5), np.uint8)).astype(np.float32)
    changed = np.asarray(image * factor[..., None] + highlight[..., None] * rim[..., None], np.float32)
    return _blend(image, changed, rim), rim


def _dent(rng: Rng, image: FloatImage, at: tuple[float, float]) -> Change:
    size = image.shape[0]
    radius = _radius_px(rng, size, 0.03, 0.12)
    ys, xs = np.mgrid[0:size, 0:size].astype(np.float32)
    dx, dy = (xs - np.float32(at[0])) / np.float32(radius), (ys - np.float32(at[1])) / np.float32(radius)
    bell = np.exp(-np.float32(1.5) * (dx * dx + dy * dy))
    angle, strength = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.3, 0.9) * rng.choice([-1.0, 1.0])
    slope = bell * (dx * np.float32(np.cos(angle)) + dy * np.float32(np.sin(angle))) * np.float32(strength)
    pull = np.float32(rng.uniform(-0.5, 0.5) * radius) * bell
    bent = cv2.remap(image, xs + pull * dx, ys + pull * dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(bent, np.float32) * (np.float32(1.0) + slope[..., None]), (bell > 0.15).astype(np.float32)


def _foreign_texture(rng: Rng, image: FloatImage, at: tuple[float, float]) -> Change:
    size = image.shape[0]
    alpha = blob_mask(rng, size, at, _radius_px(rng, size, 0.025, 0.14))
    other = TextureSpec.random(rng).sample(rng, size)
    if rng.random() < 0.5:
        inside = alpha > 0.5
        if inside.any():
            other = other - other[inside].mean(0) + image[inside].mean(0)
    return _blend(image, other, alpha * np.float32(rng.uniform(0.5, 1.0))), alpha


def _moved_patch(rng: Rng, image: FloatImage, at: tuple[float, float]) -> Change:
    size = image.shape[0]
    alpha = blob_mask(rng, size, at, _radius_px(rng, size, 0.03, 0.14))
    matrix = cv2.getRotationMatrix2D(at, float(rng.uniform(0.0, 360.0)), float(rng.uniform(0.7, 1.4)))
    matrix[:, 2] += rng.uniform(-0.3, 0.3, 2) * size
    other = cv2.warpAffine(image, matrix, (size, size), borderMode=cv2.BORDER_REFLECT)
    return _blend(image, np.asarray(other, np.float32), alpha), alpha


def _smear(rng: Rng, image: FloatImage, at: tuple[float, float]) -> Change:
    size = image.shape[0]
    alpha = blob_mask(rng, size, at, _radius_px(rng, size, 0.04, 0.14))
    soft = cv2.GaussianBlur(alpha, (0, 0), 1.5).astype(np.float32)
    blurred = cv2.GaussianBlur(image, (0, 0), rng.uniform(2.0, 6.0), sigmaY=rng.uniform(1.0, 8.0))
    return _blend(image, np.asarray(blurred, np.float32), soft), alpha


def _fibre(rng: Rng, image: FloatImage, at: tuple[float, float]) -> Change:
    size = image.shape[0]
    points = _walk(rng, at, size * rng.uniform(0.1, 0.45), 0.3, 28)
    alpha = _drawn_line(size, points, int(rng.integers(1, 4)))
    shadow = cv2.GaussianBlur(np.roll(alpha, 2, (0, 1)), (0, 0), 1.2)[..., None]
    return _blend(image * (np.float32(1.0) - np.float32(0.4) * shadow), random_colour(rng), alpha), alpha


def _hue_shift(rng: Rng, image: FloatImage, at: tuple[float, float]) -> Change:
    size = image.shape[0]
    alpha = blob_mask(rng, size, at, _radius_px(rng, size, 0.03, 0.16))
    gain, lift = rng.uniform(0.5, 1.5, 3).astype(np.float32), rng.normal(0.0, 0.08, 3).astype(np.float32)
    return _blend(image, image * gain + lift, cv2.GaussianBlur(alpha, (0, 0), 1.0).astype(np.float32)), alpha


def gap_mask(rng: Rng, size: int, at: tuple[float, float], covered: FloatImage) -> FloatImage:
    """A ragged gap that starts at ``at`` and runs into the ``covered`` region: ``[size, size]`` in 0..1."""
    rows, columns = np.nonzero(covered > 0.5)
    goal = np.array([columns.mean(), rows.mean()]) if rows.size else np.array([size / 2.0, size / 2.0])
    steps, start = 20, np.array(at)
    along = (goal - start) * rng.uniform(0.4, 1.8)
    across = np.array([-along[1], along[0]]) / (np.linalg.norm(along) + 1e-6)
    sway = np.cumsum(rng.normal(0.0, 0.008 * size, steps))
    path = start + np.linspace(-0.15, 1.0, steps)[:, None] * along + sway[:, None] * across
    mask = np.zeros((size, size), np.uint8)
    widths = size * rng.uniform(0.008, 0.05) * np.linspace(1.0, rng.uniform(0.1, 1.0), steps)
    for (x, y), width in zip(path, widths * rng.uniform(0.6, 1.4, steps), strict=True):
        cv2.circle(mask, (round(x), round(y)), max(1, round(width)), 255, -1)
    cv2.polylines(mask, [np.round(path).astype(np.int32).reshape(-1, 1, 2)], False, 255, 2)
    return cv2.GaussianBlur(mask, (3, 3), 0).astype(np.float32) / np.float32(255.0)


Drawer = Callable[[Rng, FloatImage, tuple[float, float]], Change]
SURFACE_DEFECTS: tuple[Drawer, ...] = (
    _scratch,
    _crack,
    _spots,
    _stain,
    _hole,
    _dent,
    _foreign_texture,
    _moved_patch,
    _smear,
    _fibre,
    _hue_shift,
    _hairline,
    _scuff,
    _corrosion,
    _glint,
)
RARER: dict[Drawer, float] = {_hairline: 0.4, _scuff: 0.4, _corrosion: 0.4, _glint: 0.4}
"""How often against the others. Drawn as often as they, these fine faults made a tower that took fine texture for faults."""
_ODDS = np.array([RARER.get(kind, 1.0) for kind in SURFACE_DEFECTS])
_ODDS /= _ODDS.sum()


def visible_mask(before: FloatImage, after: FloatImage, meant: FloatImage) -> NDArray[np.bool_]:
    """Where ``after`` differs visibly from ``before`` inside the intended region: ``[size, size]``."""
    changed = np.abs(after - before).max(2) > VISIBLE_DIFFERENCE
    near = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)) > 0
    return np.asarray(near & (meant > 0.15), np.bool_)


def add_defect(rng: Rng, image: FloatImage, region: FloatImage) -> tuple[FloatImage, NDArray[np.bool_], str]:
    """One visible surface fault inside ``region``.

    Args:
        rng: Source of chance.
        image: RGB in 0..1, ``[size, size, 3]``.
        region: Where faults may start, ``[size, size]`` in 0..1.

    Returns:
        The changed picture, the mask of the pixels that visibly changed (never empty), and what kind of fault it is.
    """
    rows, columns = np.nonzero(region > 0.5)
    if rows.size == 0:
        rows, columns = np.nonzero(np.ones_like(region))
    for _ in range(8):
        pick = int(rng.integers(rows.size))
        kind = SURFACE_DEFECTS[int(rng.choice(len(SURFACE_DEFECTS), p=_ODDS))]
        changed, meant = kind(rng, image, (float(columns[pick]), float(rows[pick])))
        changed = changed.clip(0.0, 1.0)
        mask = visible_mask(image, changed, meant)
        if mask.sum() >= MIN_VISIBLE_PX:
            return np.where(mask[..., None], changed, image), mask, kind.__name__.strip("_")
    centre = (float(columns[rows.size // 2]), float(rows[rows.size // 2]))
    meant = blob_mask(rng, image.shape[0], centre, 0.05 * image.shape[0])
    changed = np.where(meant[..., None] > 0.5, np.float32(1.0) - np.round(image), image)
    return changed, visible_mask(image, changed, meant), "blot"
