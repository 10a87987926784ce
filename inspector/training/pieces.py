"""Random single parts: discs, gears, screws, plates, bottles, boxes, labels and soft, organic shapes.

A ``PieceSpec`` is one part's identity; ``draw`` gives its picture with an alpha channel. Rigid parts are the
same each time except for their surface grain; organic parts (food, castings) also vary in outline. Imports
numpy and OpenCV only.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.training.textures import FloatImage, Rng, TextureSpec, octave_noise, random_colour

Mask = NDArray[np.uint8]

OUTLINES = ("disc", "gear", "ring", "screw", "plate", "polygon", "bottle", "box", "soft", "label", "star")


@dataclass(frozen=True)
class Piece:
    """A drawn part: ``rgb`` ``[T, T, 3]`` and ``alpha`` ``[T, T]``, both in 0..1."""

    rgb: FloatImage
    alpha: FloatImage


def _filled(size: int, points: NDArray[np.float64]) -> Mask:
    """Closed outline in -1..1 (x, y) to a mask of ``size`` px."""
    mask = np.zeros((size, size), np.uint8)
    pixels = (points * 0.5 + 0.5) * (size - 1) * 16.0
    cv2.fillPoly(mask, [np.round(pixels).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask


def _polar(radii: NDArray[np.float64]) -> NDArray[np.float64]:
    angles = np.linspace(0.0, 2.0 * np.pi, radii.size, endpoint=False)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)


def _disc(rng: Rng, size: int) -> Mask:
    aspect = rng.uniform(0.6, 1.0) if rng.random() < 0.4 else 1.0
    return _filled(size, _polar(np.full(64, 0.92)) * np.array([1.0, aspect]))


def _gear(rng: Rng, size: int) -> Mask:
    teeth, depth = int(rng.integers(6, 26)), rng.uniform(0.08, 0.25)
    angles = np.linspace(0.0, 2.0 * np.pi * teeth, 360, endpoint=False)
    return _filled(size, _polar(0.93 - depth * (0.5 + 0.5 * np.tanh(rng.uniform(1.0, 6.0) * np.sin(angles)))))


def _ring(rng: Rng, size: int) -> Mask:
    mask = _filled(size, _polar(np.full(64, 0.93)))
    hole = _filled(size, _polar(np.full(64, rng.uniform(0.25, 0.75))))
    return np.asarray(np.minimum(mask, 255 - hole), np.uint8)


def _screw(rng: Rng, size: int) -> Mask:
    head, shaft = rng.uniform(0.2, 0.45), rng.uniform(0.08, 0.2)
    neck, tip = rng.uniform(-0.7, -0.4), rng.uniform(0.0, 0.25)
    ys = np.linspace(neck, 0.92 - tip, 64)
    pitch, bite = rng.uniform(25.0, 70.0), rng.uniform(0.0, 0.04)
    right = shaft + bite * np.sign(np.sin(pitch * ys))
    half = [(head, -0.92), (head, neck), *zip(right, ys, strict=True), (0.01, 0.92)]
    return _filled(size, np.array(half + [(-x, y) for x, y in reversed(half)]))


def _bottle(rng: Rng, size: int) -> Mask:
    neck, body = rng.uniform(0.08, 0.2), rng.uniform(0.25, 0.5)
    top, bottom = rng.uniform(-0.5, -0.2), rng.uniform(-0.15, 0.15)
    ys = np.linspace(top, bottom, 12)
    widths = neck + (body - neck) * (0.5 - 0.5 * np.cos(np.linspace(0.0, np.pi, 12)))
    cap = neck * rng.uniform(1.0, 1.4)
    half = [(cap, -0.92), (cap, -0.78), (neck, -0.78), *zip(widths, ys, strict=True), (body, 0.92)]
    return _filled(size, np.array(half + [(-x, y) for x, y in reversed(half)]))


def _rounded(rng: Rng, size: int, half_width: float, half_height: float) -> Mask:
    power = rng.uniform(4.0, 16.0)
    angles = np.linspace(0.0, 2.0 * np.pi, 96, endpoint=False)
    cos, sin = np.cos(angles), np.sin(angles)
    radii = (np.abs(cos) ** power + np.abs(sin) ** power) ** (-1.0 / power)
    return _filled(size, np.stack([half_width * radii * cos, half_height * radii * sin], 1))


def _box(rng: Rng, size: int) -> Mask:
    return _rounded(rng, size, rng.uniform(0.4, 0.92), rng.uniform(0.4, 0.92))


def _plate(rng: Rng, size: int) -> Mask:
    mask = _rounded(rng, size, rng.uniform(0.6, 0.92), rng.uniform(0.5, 0.92))
    columns, rows = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    reach, radius = rng.uniform(0.3, 0.45), rng.uniform(0.05, 0.2) / max(columns, rows) ** 0.5
    for x in np.linspace(-reach, reach, columns):
        for y in np.linspace(-reach, reach, rows):
            hole = _filled(size, _polar(np.full(32, radius)) + np.array([x, y]))
            mask = np.asarray(np.minimum(mask, 255 - hole), np.uint8)
    return mask


def _polygon(rng: Rng, size: int) -> Mask:
    return _filled(size, _polar(np.full(int(rng.integers(3, 9)), 0.93)))


def _star(rng: Rng, size: int) -> Mask:
    arms = int(rng.integers(3, 9))
    radii = np.where(np.arange(2 * arms) % 2 == 0, 0.93, rng.uniform(0.3, 0.8))
    return _filled(size, _polar(radii))


def _soft(rng: Rng, size: int) -> Mask:
    angles = np.linspace(0.0, 2.0 * np.pi, 72, endpoint=False)
    radii = np.full(72, 0.85)
    for harmonic in range(2, 8):
        radii += 0.12 / harmonic * rng.normal() * np.cos(harmonic * angles + rng.uniform(0.0, 6.28))
    return _filled(size, _polar(radii.clip(0.3, 0.96)))


_DRAWERS: dict[str, Callable[[Rng, int], Mask]] = {
    "disc": _disc,
    "gear": _gear,
    "ring": _ring,
    "screw": _screw,
    "plate": _plate,
    "polygon": _polygon,
    "bottle": _bottle,
    "box": _box,
    "soft": _soft,
    "label": _box,
    "star": _star,
}


def _shade(rng: Rng, alpha: FloatImage, relief: str) -> FloatImage:
    """Brightness factor ``[T, T]`` that makes the part look bevelled, cylindrical or domed."""
    size = alpha.shape[0]
    axis = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    if relief == "cylinder":
        profile = np.cos(np.float32(1.3) * (axis + np.float32(rng.uniform(-0.3, 0.3))))
        return np.asarray(np.broadcast_to(np.float32(0.35) + np.float32(0.75) * profile[None, :], alpha.shape))
    depth = cv2.distanceTransform((alpha > 0.5).astype(np.uint8), cv2.DIST_L2, 3).astype(np.float32)
    width = np.float32(size * (0.3 if relief == "dome" else rng.uniform(0.02, 0.08)))
    height = np.sqrt((depth / width).clip(0.0, 1.0)) * width
    height = cv2.GaussianBlur(height, (0, 0), 1.5).astype(np.float32)
    across = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.125)
    along = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.125)
    angle = rng.uniform(0.0, 2.0 * np.pi)
    slope = np.float32(np.cos(angle)) * across + np.float32(np.sin(angle)) * along
    return np.asarray(np.float32(1.0) + (np.float32(0.5) * slope).clip(-0.5, 0.6), np.float32)


def _paint(canvas: FloatImage, mask: Mask, colour: FloatImage, strength: float) -> None:
    weight = (mask.astype(np.float32) * np.float32(strength / 255.0))[..., None]
    canvas *= np.float32(1.0) - weight
    canvas += colour * weight


def _engrave_shapes(rng: Rng, canvas: FloatImage) -> None:
    """Concentric rings, slots, stripes and dots: what one part of a series shares with the next."""
    size = canvas.shape[0]
    middle = (size // 2, size // 2)
    for _ in range(int(rng.integers(1, 5))):
        mask = np.zeros((size, size), np.uint8)
        kind = rng.integers(4)
        thickness = int(rng.integers(1, max(2, size // 24)))
        if kind == 0:
            cv2.circle(mask, middle, int(size * rng.uniform(0.06, 0.4)), 255, thickness, cv2.LINE_AA)
        elif kind == 1:
            corner = (size * rng.uniform(0.2, 0.7, 2)).astype(int)
            far = corner + (size * rng.uniform(0.04, 0.3, 2)).astype(int)
            cv2.rectangle(mask, tuple(corner.tolist()), tuple(far.tolist()), 255, int(rng.choice([-1, thickness])))
        elif kind == 2:
            ends = (size * rng.uniform(0.15, 0.85, (2, 2))).astype(int)
            cv2.line(mask, tuple(ends[0].tolist()), tuple(ends[1].tolist()), 255, thickness, cv2.LINE_AA)
        else:
            count, radius = int(rng.integers(3, 13)), size * rng.uniform(0.1, 0.36)
            for angle in np.linspace(0.0, 2.0 * np.pi, count, endpoint=False):
                spot = (int(middle[0] + radius * np.cos(angle)), int(middle[1] + radius * np.sin(angle)))
                cv2.circle(mask, spot, max(1, int(size * 0.025)), 255, -1, cv2.LINE_AA)
        _paint(canvas, mask, random_colour(rng), float(rng.uniform(0.4, 1.0)))


def _write_text(rng: Rng, canvas: FloatImage) -> None:
    size = canvas.shape[0]
    letters = list(string.ascii_uppercase + string.digits)
    colour = random_colour(rng)
    scale = size / 224.0 * rng.uniform(0.5, 1.3)
    for line in range(int(rng.integers(1, 4))):
        text = "".join(rng.choice(letters, int(rng.integers(2, 9))))
        mask = np.zeros((size, size), np.uint8)
        where = (int(size * rng.uniform(0.15, 0.4)), int(size * (0.35 + 0.17 * line)))
        cv2.putText(mask, text, where, int(rng.integers(0, 5)), scale, 255, max(1, round(2 * scale)), cv2.LINE_AA)
        _paint(canvas, mask, colour, 0.9)


def _sprinkle(rng: Rng, canvas: FloatImage, colours: FloatImage, count: int, radius: float) -> None:
    """Crumbs, seeds, chips: in other places on each part."""
    size = canvas.shape[0]
    for colour in colours:
        mask = np.zeros((size, size), np.uint8)
        for x, y in rng.uniform(0.0, size, (count, 2)):
            long = max(1, round(size * radius * rng.uniform(0.6, 1.4)))
            cv2.ellipse(mask, (int(x), int(y)), (long, max(1, long // 2)), rng.uniform(0, 180), 0, 360, 255, -1)
        _paint(canvas, mask, colour, 0.85)


@dataclass(frozen=True)
class PieceSpec:
    """Identity of one part: everything that repeats is drawn from ``seed``."""

    seed: int
    outline: str
    relief: str
    surface: TextureSpec
    organic: bool
    printed: bool
    sprinkles: int
    fresh_grain: bool

    @classmethod
    def random(cls, rng: Rng) -> PieceSpec:
        """A new part."""
        outline = str(rng.choice(OUTLINES))
        contrast = float(rng.uniform(0.05, 0.5))
        return cls(
            seed=int(rng.integers(2**31)),
            outline=outline,
            relief="cylinder" if outline in ("screw", "bottle") else str(rng.choice(["flat", "bevel", "dome"])),
            surface=TextureSpec.random(rng, contrast=contrast),
            organic=outline == "soft" or bool(rng.random() < 0.22),
            printed=outline == "label" or bool(rng.random() < 0.2),
            sprinkles=int(rng.integers(4, 30)) if rng.random() < 0.2 else 0,
            fresh_grain=bool(rng.random() < 0.6),
        )

    def draw(self, rng: Rng, size: int) -> Piece:
        """The part on ``size`` px; ``rng`` decides only what varies from part to part."""
        fixed = np.random.default_rng(self.seed)
        alpha = _DRAWERS[self.outline](fixed, size).astype(np.float32) / np.float32(255.0)
        if self.organic:
            alpha = self._rough(rng, alpha)
        grain = rng if self.fresh_grain or self.organic else np.random.default_rng(self.seed + 1)
        rgb = self.surface.sample(grain, size)
        if fixed.random() < 0.7:
            _engrave_shapes(fixed, rgb)
        if self.printed:
            _write_text(fixed, rgb)
        if self.sprinkles:
            colours = np.stack([random_colour(fixed), random_colour(fixed)])
            _sprinkle(rng, rgb, colours, self.sprinkles, float(fixed.uniform(0.01, 0.04)))
        if self.relief != "flat":
            rgb = rgb * _shade(fixed, alpha, self.relief)[..., None]
        return Piece(rgb.clip(0.0, 1.0), alpha)

    def _rough(self, rng: Rng, alpha: FloatImage) -> FloatImage:
        """The outline pushed about a little, differently on each part."""
        size = alpha.shape[0]
        ys, xs = np.mgrid[0:size, 0:size].astype(np.float32)
        push = np.float32(0.012 * size)
        xs += push * octave_noise(rng, size, 4.0, 0.6, 2)
        ys += push * octave_noise(rng, size, 4.0, 0.6, 2)
        return np.asarray(cv2.remap(alpha, xs, ys, cv2.INTER_LINEAR), np.float32)
