"""Random single parts: discs, gears, screws, nuts, chips, plates, bottles, pills, boxes, labels and soft shapes.

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

from inspector.training.textures import FloatImage, Rng, TextureSpec, lit_relief, octave_noise, random_colour

Mask = NDArray[np.uint8]

OUTLINES = (
    "disc", "gear", "ring", "screw", "plate", "polygon", "bottle", "box", "soft", "label", "star", "pill", "nut", "chip",
    "comb",
)  # fmt: skip
ROUND = ("screw", "bottle", "pill")
"""Parts that are lit like cylinders."""


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


def _pill(rng: Rng, size: int) -> Mask:
    return _rounded(rng, size, rng.uniform(0.25, 0.6), 0.9)


def _nut(rng: Rng, size: int) -> Mask:
    mask = _filled(size, _polar(np.full(int(rng.choice([4, 6, 8])), 0.94)))
    hole = _filled(size, _polar(np.full(64, rng.uniform(0.3, 0.6))))
    return np.asarray(np.minimum(mask, 255 - hole), np.uint8)


def _chip(rng: Rng, size: int) -> Mask:
    """A body with legs on two or four sides."""
    body_x, body_y = rng.uniform(0.4, 0.75), rng.uniform(0.4, 0.75)
    mask = _filled(size, np.array([(-body_x, -body_y), (body_x, -body_y), (body_x, body_y), (-body_x, body_y)]))
    legs, width = int(rng.integers(3, 11)), rng.uniform(0.25, 0.45)
    for four in range(1 + int(rng.random() < 0.5)):
        along, across = (body_x, body_y) if four else (body_y, body_x)
        for at in np.linspace(-along, along, legs + 2)[1:-1]:
            half = along / (legs + 1) * width
            leg = np.array([(-0.94, at - half), (0.94, at - half), (0.94, at + half), (-0.94, at + half)])
            mask = np.asarray(np.maximum(mask, _filled(size, leg[:, ::-1] if four else leg)), np.uint8)
            if across > 0.9:
                break
    return mask


def _comb(rng: Rng, size: int) -> Mask:
    """A back with teeth on one or both sides: zippers, racks, brushes, connectors."""
    teeth, back, reach = int(rng.integers(6, 24)), rng.uniform(0.06, 0.3), rng.uniform(0.3, 0.9)
    mask = _filled(size, np.array([(-0.94, -back), (0.94, -back), (0.94, back), (-0.94, back)]))
    both, duty = rng.random() < 0.6, rng.uniform(0.25, 0.6)
    for number, at in enumerate(np.linspace(-0.9, 0.9, teeth)):
        half = 0.9 / teeth * duty
        side = -1.0 if both and number % 2 else 1.0
        tooth = np.array([(at - half, 0.0), (at + half, 0.0), (at + half, side * reach), (at - half, side * reach)])
        mask = np.asarray(np.maximum(mask, _filled(size, tooth)), np.uint8)
    return mask


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
    "pill": _pill,
    "nut": _nut,
    "chip": _chip,
    "comb": _comb,
}


def _lit(rng: Rng, rgb: FloatImage, alpha: FloatImage, relief: str, gloss: float) -> FloatImage:
    """The part with light on its form: cylindrical, bevelled or domed, matt or with a highlight."""
    size = alpha.shape[0]
    if relief == "cylinder":
        axis = np.linspace(-1.0, 1.0, size, dtype=np.float32) + np.float32(rng.uniform(-0.3, 0.3))
        profile = np.float32(0.35) + np.float32(0.75) * np.cos(np.float32(1.3) * axis)
        streak = np.float32(gloss) * np.exp(-(((axis - np.float32(rng.uniform(-0.25, 0.25))) / np.float32(0.06)) ** 2))
        return np.asarray(rgb * profile[None, :, None] + streak[None, :, None], np.float32)
    depth = cv2.distanceTransform((alpha > 0.5).astype(np.uint8), cv2.DIST_L2, 3).astype(np.float32)
    width = np.float32(size * (0.3 if relief == "dome" else rng.uniform(0.02, 0.08)))
    height = np.sqrt((depth / width).clip(0.0, 1.0)) * width
    height = np.asarray(cv2.GaussianBlur(height, (0, 0), 1.5), np.float32)
    factor, highlight = lit_relief(height, rng.uniform(0.0, 360.0), 0.5, gloss)
    return np.asarray(rgb * factor[..., None] + highlight[..., None], np.float32)


def _paint(canvas: FloatImage, mask: Mask, colour: FloatImage, strength: float) -> None:
    weight = (mask.astype(np.float32) * np.float32(strength / 255.0))[..., None]
    canvas *= np.float32(1.0) - weight
    canvas += colour * weight


def _engrave(seed: int, canvas: FloatImage, other: int | None) -> None:
    """Concentric rings, slots, stripes and dots: what one part of a series shares with the next.

    ``other`` is the number of the mark that is left out or drawn otherwise, None on a good part.
    """
    size = canvas.shape[0]
    middle = (size // 2, size // 2)
    count = _mark_count(seed)
    colours = [random_colour(np.random.default_rng([seed, 99, number % 2])) for number in range(count)]
    for number in range(count):
        if number == other and seed % 2:
            continue
        rng = np.random.default_rng([seed, number] if number != other else [seed, number, 1])
        mask = np.zeros((size, size), np.uint8)
        kind = rng.integers(5)
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
        elif kind == 3:
            spots, radius = int(rng.integers(3, 13)), size * rng.uniform(0.1, 0.36)
            for angle in np.linspace(0.0, 2.0 * np.pi, spots, endpoint=False):
                spot = (int(middle[0] + radius * np.cos(angle)), int(middle[1] + radius * np.sin(angle)))
                cv2.circle(mask, spot, max(1, int(size * 0.025)), 255, -1, cv2.LINE_AA)
        else:  # traces of a circuit: lines that turn by 45°
            at, heading = size * rng.uniform(0.15, 0.85, 2), int(rng.integers(8))
            points = [at]
            for _ in range(int(rng.integers(2, 6))):
                heading += int(rng.integers(-1, 2))
                at = at + size * rng.uniform(0.08, 0.3) * np.array([np.cos(heading * 0.785), np.sin(heading * 0.785)])
                points.append(at)
            cv2.polylines(mask, [np.round(points).astype(np.int32)], False, 255, thickness, cv2.LINE_AA)
        _paint(canvas, mask, colours[number], float(rng.uniform(0.4, 1.0)))


def _mark_count(seed: int) -> int:
    return int(np.random.default_rng([seed, 98]).integers(1, 9))


def _write_text(seed: int, canvas: FloatImage, *, wrong: bool) -> None:
    """Lines of print; ``wrong`` exchanges or loses its letters."""
    rng, size = np.random.default_rng([seed, 97]), canvas.shape[0]
    letters = list(string.ascii_uppercase + string.digits)
    colour = random_colour(rng)
    scale = size / 224.0 * rng.uniform(0.4, 1.3)
    for line in range(int(rng.integers(1, 4))):
        text = "".join(rng.choice(letters, int(rng.integers(2, 9))))
        if wrong and line == 0:
            changed = np.random.default_rng([seed, 96])
            text = text[: len(text) // 2] if changed.random() < 0.5 else "".join(changed.choice(letters, len(text)))
        mask = np.zeros((size, size), np.uint8)
        where = (int(size * rng.uniform(0.15, 0.4)), int(size * (0.35 + 0.17 * line)))
        cv2.putText(mask, text, where, int(rng.integers(0, 5)), scale, 255, max(1, round(2 * scale)), cv2.LINE_AA)
        _paint(canvas, mask, colour, 0.9)


def _two_tone(rng: Rng, rgb: FloatImage, other: FloatImage) -> None:
    """A second material on one side, in the middle or around: caps, cores, coatings."""
    size, kind = rgb.shape[0], int(rng.integers(3))
    axis = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    if kind == 0:
        inside = np.broadcast_to(axis[:, None] > np.float32(rng.uniform(-0.5, 0.5)), (size, size))
    elif kind == 1:
        inside = np.hypot(axis[:, None], axis[None, :]) < np.float32(rng.uniform(0.2, 0.7))
    else:
        inside = np.maximum(np.abs(axis[:, None]), np.abs(axis[None, :])) > np.float32(rng.uniform(0.4, 0.8))
    weight = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 0.7)[..., None]
    rgb += (other - rgb) * weight


def _fill(rgb: FloatImage, level: float, colour: FloatImage) -> None:
    """Liquid up to ``level`` of the height, seen through the part."""
    size = rgb.shape[0]
    top = round(size * (1.0 - level))
    rgb[top:] = rgb[top:] * np.float32(0.25) + colour * np.float32(0.75)
    rgb[max(0, top - 1) : top + 1] *= np.float32(0.6)


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
    """Identity of one part: everything that repeats is drawn from ``seed``.

    ``level`` is how high it is filled, 0..1, None if it holds nothing.
    """

    seed: int
    outline: str
    relief: str
    gloss: float
    surface: TextureSpec
    second: TextureSpec | None
    level: float | None
    organic: bool
    engraved: bool
    printed: bool
    sprinkles: int
    fresh_grain: bool

    @classmethod
    def random(cls, rng: Rng) -> PieceSpec:
        """A new part."""
        outline = str(rng.choice(OUTLINES))
        contrast = float(rng.uniform(0.03, 0.5))
        two = rng.random() < 0.3
        return cls(
            seed=int(rng.integers(2**31)),
            outline=outline,
            relief="cylinder" if outline in ROUND else str(rng.choice(["flat", "bevel", "dome"])),
            gloss=float(rng.choice([0.0, rng.uniform(0.1, 0.8)])),
            surface=TextureSpec.random(rng, contrast=contrast),
            second=TextureSpec.random(rng, contrast=contrast) if two else None,
            level=float(rng.uniform(0.3, 0.8)) if outline in ("bottle", "box") and rng.random() < 0.5 else None,
            organic=outline == "soft" or bool(rng.random() < 0.22),
            engraved=bool(rng.random() < 0.7),
            printed=outline == "label" or bool(rng.random() < 0.2),
            sprinkles=int(rng.integers(4, 30)) if rng.random() < 0.2 else 0,
            fresh_grain=bool(rng.random() < 0.6),
        )

    @property
    def features(self) -> tuple[str, ...]:
        """What of it can be wrong while the rest is right: its marks, its print, its level."""
        has = {"mark": self.engraved, "print": self.printed, "level": self.level is not None}
        return tuple(name for name, there in has.items() if there)

    def draw(self, rng: Rng, size: int, *, wrong: Rng | None = None) -> Piece:
        """The part on ``size`` px; ``rng`` decides only what varies from part to part.

        With ``wrong``, a source of chance, it misses a mark or has another, has other print, or is filled to another
        level, and is the same part in all else.
        """
        fixed = np.random.default_rng(self.seed)
        fault = "" if wrong is None else str(wrong.choice(self.features))
        alpha = _DRAWERS[self.outline](fixed, size).astype(np.float32) / np.float32(255.0)
        if self.organic:
            alpha = self._rough(rng, alpha)
        grain = rng if self.fresh_grain or self.organic else np.random.default_rng(self.seed + 1)
        rgb = self.surface.sample(grain, size)
        if self.second is not None:
            _two_tone(fixed, rgb, self.second.sample(grain, size))
        if self.level is not None:
            off = rng.normal(0.0, 0.008)
            if wrong is not None and fault == "level":
                off += wrong.choice([-1.0, 1.0]) * wrong.uniform(0.06, 0.2)
            _fill(rgb, self.level + float(off), random_colour(np.random.default_rng(self.seed + 2)))
        if self.engraved:
            which = int(wrong.integers(_mark_count(self.seed))) if wrong is not None and fault == "mark" else None
            _engrave(self.seed, rgb, which)
        if self.printed:
            _write_text(self.seed, rgb, wrong=fault == "print")
        if self.sprinkles:
            colours = np.stack([random_colour(fixed), random_colour(fixed)])
            _sprinkle(rng, rgb, colours, self.sprinkles, float(fixed.uniform(0.01, 0.04)))
        if self.relief != "flat":
            rgb = _lit(fixed, rgb, alpha, self.relief, self.gloss)
        return Piece(rgb.clip(0.0, 1.0), alpha)

    def _rough(self, rng: Rng, alpha: FloatImage) -> FloatImage:
        """The outline pushed about a little, differently on each part."""
        size = alpha.shape[0]
        ys, xs = np.mgrid[0:size, 0:size].astype(np.float32)
        push = np.float32(np.random.default_rng(self.seed + 3).uniform(0.006, 0.04) * size)
        xs += push * octave_noise(rng, size, 4.0, 0.6, 2)
        ys += push * octave_noise(rng, size, 4.0, 0.6, 2)
        return np.asarray(cv2.remap(alpha, xs, ys, cv2.INTER_LINEAR), np.float32)
