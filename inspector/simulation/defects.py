"""Six kinds of defects, put on a part as it happens to real ones; may import numpy, cv2 and the relief only.

A defect changes the layer of the part before it is laid on the belt, so that it moves and turns with it,
and its mask is what has visibly changed.
"""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from inspector.simulation.relief import Layer, PartModel

Coverage = npt.NDArray[np.uint8]
Points = npt.NDArray[np.int32]

SHIFT = 4  # cv2 draws with 1/16 px


def put_defect(name: str, part: PartModel, rng: np.random.Generator) -> tuple[Layer, npt.NDArray[np.uint8]]:
    """A copy of the part with the defect `name`, and the mask `[H, W]` (0 or 255) of what it changed."""
    layer = _DRAWERS[name](part, rng)
    changed = cv2.absdiff(layer, part.whole).max(axis=2)
    mask = np.where(changed > 14, np.uint8(255), np.uint8(0))
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    return layer, np.asarray(closed, dtype=np.uint8)


def _paint(layer: Layer, coverage: Coverage, rgb: tuple[int, int, int], strength: float) -> None:
    """Lay a colour over the part where it is solid, in place."""
    share = (coverage.astype(np.float32) * (strength / 255) * _solid(layer))[..., None]
    mixed = layer[..., :3] * (1 - share) + np.array(rgb, np.float32) * share
    layer[..., :3] = np.rint(mixed).astype(np.uint8)


def _solid(layer: Layer) -> npt.NDArray[np.float32]:
    """Share 0..1 of material in each pixel `[H, W]`; the belt in the deepest shadow is at about 90."""
    return np.asarray(np.clip(1 - layer[..., 3] / np.float32(60), 0, 1), dtype=np.float32)


def _swap(layer: Layer, other: Layer, coverage: Coverage) -> None:
    """Show `other` where covered, in place."""
    share = (coverage.astype(np.float32) / 255)[..., None]
    layer[:] = np.rint(layer * (1 - share) + other * share).astype(np.uint8)


def _curve(rng: np.random.Generator, start: Points, length_px: float, bend: float) -> Points:
    """A bent line from `start`, `[n, 2]` in 1/16 px."""
    n = 24
    wobble = np.cumsum(rng.normal(0, bend, n))
    angles = rng.uniform(0, 2 * np.pi) + wobble + np.linspace(0, rng.normal(0, 4 * bend), n)
    steps = np.column_stack([np.cos(angles), np.sin(angles)]) * (length_px / n)
    points = np.cumsum(steps, axis=0)
    points = start + points - points.mean(axis=0)
    return np.asarray(np.rint(points * 2**SHIFT), dtype=np.int32)


def _blob(rng: np.random.Generator, middle: tuple[float, float], radius_px: float, rough: float) -> Points:
    """An irregular closed outline, `[n, 2]` in 1/16 px."""
    angles = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    radii = np.full(28, 1.0)
    for wave in range(1, 7):
        radii += rough / wave * rng.normal() * np.cos(wave * angles + rng.uniform(0, 2 * np.pi))
    radii = radius_px * np.clip(radii, 0.5, 1.6)
    outline = np.column_stack([middle[0] + radii * np.cos(angles), middle[1] + radii * np.sin(angles)])
    return np.asarray(np.rint(outline * 2**SHIFT), dtype=np.int32)


def _line(shape: tuple[int, ...], points: Points, thickness_px: int) -> Coverage:
    coverage = np.zeros(shape[:2], np.uint8)
    cv2.polylines(coverage, [points], False, 255, thickness_px, cv2.LINE_AA, SHIFT)
    return coverage


def _filled(shape: tuple[int, ...], outline: Points) -> Coverage:
    coverage = np.zeros(shape[:2], np.uint8)
    cv2.fillPoly(coverage, [outline], 255, cv2.LINE_AA, SHIFT)
    return coverage


def _soft(coverage: Coverage, sigma_px: float) -> Coverage:
    return np.asarray(cv2.GaussianBlur(coverage, (0, 0), sigma_px), dtype=np.uint8)


def _somewhere(part: PartModel, rng: np.random.Generator) -> Points:
    """A point on the solid surface."""
    return np.asarray(part.surface[rng.integers(len(part.surface))], dtype=np.int32)


def _scratch(part: PartModel, rng: np.random.Generator) -> Layer:
    """One long groove, at times with a second one beside it: a bright edge and a dark one."""
    layer = part.whole.copy()
    points = _curve(rng, _somewhere(part, rng), rng.uniform(85, 160), 0.035)
    for offset_px in (0, 6) if rng.random() < 0.4 else (0,):
        groove = points + np.array([offset_px, -offset_px], np.int32) * 2**SHIFT
        dark = groove + np.array([1, 2], np.int32) * 2**SHIFT
        _paint(layer, _line(layer.shape, dark, 2), (28, 26, 26), 0.70)
        _paint(layer, _line(layer.shape, groove, 3), part.scratch_rgb, 0.95)
    return layer


def _missing(part: PartModel, rng: np.random.Generator) -> Layer:
    """One bolt hole was not drilled, one tablet was not filled, one tooth was not moulded."""
    layer = part.whole.copy()
    x, y, radius = part.features[rng.integers(len(part.features))]
    coverage = np.zeros(layer.shape[:2], np.uint8)
    centre = (round(x * 2**SHIFT), round(y * 2**SHIFT))
    cv2.circle(coverage, centre, round(radius * 2**SHIFT), 255, -1, cv2.LINE_AA, SHIFT)
    _swap(layer, part.bare, coverage)
    return layer


def _stain(part: PartModel, rng: np.random.Generator) -> Layer:
    """A spill with a soft body, a darker rim and some drops."""
    layer = part.whole.copy()
    x, y = _somewhere(part, rng).astype(float)
    radius = rng.uniform(19, 32)
    body = _filled(layer.shape, _blob(rng, (x, y), radius, 0.22))
    for _ in range(3):
        angle, away = rng.uniform(0, 2 * np.pi), radius * rng.uniform(1.3, 1.7)
        drop = (x + away * np.cos(angle), y + away * np.sin(angle))
        body = np.maximum(body, _filled(layer.shape, _blob(rng, drop, rng.uniform(2.5, 5), 0.1)))
    soft = cv2.GaussianBlur(body, (0, 0), 2.0).astype(np.float32) / 255
    rim = np.clip(soft * (1 - soft) * 4, 0, 1) * (body > 0)
    share = ((soft * 0.78 + rim * 0.22) * _solid(layer))[..., None]
    tint = 1 - (1 - np.array(part.stain_rgb, np.float32)) * share
    layer[..., :3] = np.rint(layer[..., :3] * np.clip(tint, 0, 1)).astype(np.uint8)
    return layer


def _chip(part: PartModel, rng: np.random.Generator) -> Layer:
    """A piece has broken off at an edge; the fracture is bright on one side and dark on the other."""
    layer = part.whole.copy()
    edge = part.edges[rng.integers(len(part.edges))]
    radius = rng.uniform(15, 22)
    outline = _blob(rng, edge, radius, 0.20)
    fracture = _filled(layer.shape, _blob(rng, edge, radius + 5, 0.08))
    material = _soft(np.where(cv2.absdiff(part.whole, part.broken).max(axis=2) > 40, np.uint8(255), np.uint8(0)), 0.7)
    red, green, blue = part.fracture_rgb
    dull = (red * 7 // 10, green * 7 // 10, blue * 7 // 10)
    _paint(layer, np.minimum(np.maximum(fracture, _filled(layer.shape, outline)), material), dull, 0.60)
    rim = _line(layer.shape, np.vstack([outline, outline[:1]]), 4)
    _paint(layer, np.minimum(rim, material), part.fracture_rgb, 0.85)
    _swap(layer, part.broken, _filled(layer.shape, outline))
    return layer


def _particle(part: PartModel, rng: np.random.Generator) -> Layer:
    """A hair, or a curl of swarf with its shadow, lies on the part."""
    layer = part.whole.copy()
    point = _somewhere(part, rng)
    if rng.random() < 0.5:
        hair = _curve(rng, point, rng.uniform(70, 115), 0.16)
        _paint(layer, _soft(_line(layer.shape, hair + 2 * 2**SHIFT, 3), 1.4), (20, 18, 18), 0.5)
        _paint(layer, _line(layer.shape, hair, 2), (34, 26, 24), 0.96)
        return layer
    outline = _blob(rng, (float(point[0]), float(point[1])), rng.uniform(8, 13), 0.45)
    _paint(layer, _soft(_filled(layer.shape, outline + 4 * 2**SHIFT), 2.2), (10, 10, 12), 0.70)
    _paint(layer, _filled(layer.shape, outline), (42, 66, 112), 0.97)
    inner = (outline - outline.mean(axis=0)) * 0.5 + outline.mean(axis=0) - 2 * 2**SHIFT
    light = _filled(layer.shape, np.rint(inner).astype(np.int32))
    _paint(layer, _soft(light, 1.2), (150, 184, 232), 0.75)
    return layer


def _misprint(part: PartModel, rng: np.random.Generator) -> Layer:
    """The print is shifted and turned, printed twice, or ends in the middle."""
    layer = part.whole.copy()
    x, y, width, height = part.print_box
    box = np.zeros(layer.shape[:2], np.uint8)
    box[y : y + height, x : x + width] = 255
    fault = rng.integers(3)
    if fault == 0:  # the second half has not been printed
        box[y : y + height, x : x + width // 2] = 0
        _swap(layer, part.unprinted, box)
        return layer
    angle = float(rng.uniform(8, 12) * rng.choice((-1, 1)))
    turn = cv2.getRotationMatrix2D((x + width / 2, y + height / 2), angle if width < 200 else angle / 3, 1.0)
    turn[:, 2] = turn[:, 2] + rng.choice((-1, 1), 2) * rng.uniform((6, 4), (10, 7))
    ink = part.unprinted[..., :3].astype(np.float32) - part.whole[..., :3]
    ink[box == 0] = 0
    moved = cv2.warpAffine(ink, turn, (layer.shape[1], layer.shape[0]))
    if fault == 1:
        _swap(layer, part.unprinted, box)
    again = np.clip(np.rint(part.unprinted[..., :3] - moved), 0, 255).astype(np.uint8)
    layer[..., :3] = np.minimum(layer[..., :3], again)
    return layer


_DRAWERS: dict[str, Callable[[PartModel, np.random.Generator], Layer]] = {
    "scratch": _scratch,
    "missing": _missing,
    "stain": _stain,
    "chip": _chip,
    "particle": _particle,
    "misprint": _misprint,
}

DEFECTS: tuple[str, ...] = tuple(_DRAWERS)
"""Names of the defects, the values of `truth`."""
