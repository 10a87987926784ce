"""Random surfaces: noise, weave, mesh, brushed metal, wood, leather-like cells, ribs, dead leaves and blurred clutter.

A ``TextureSpec`` holds what stays the same for one material (colours, scale, direction, how its relief catches the
light); ``sample`` draws a fresh piece of it, because two pieces of one material are alike but never equal. Imports numpy
and OpenCV only: the embedded encoder learns from these pictures, so nothing here may come from a data set.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]
Rng = np.random.Generator

KINDS = (
    "octaves", "spectrum", "woven", "brushed", "wood", "leaves", "cells", "grains", "tiles", "plain", "mesh", "ribs",
    "clutter",
)  # fmt: skip
LEAF_SIZES = 3.0
"""Dead leaves of radii r⁻³ have the 1/f spectrum of photographs."""


def value_noise(rng: Rng, size: int, cells_x: float, cells_y: float | None = None) -> FloatImage:
    """Smooth unit-variance noise, ``[size, size]``, with about ``cells_x`` by ``cells_y`` bumps."""
    columns = max(2, round(cells_x) + 1)
    rows = columns if cells_y is None else max(2, round(cells_y) + 1)
    coarse = rng.standard_normal((min(rows, size), min(columns, size)), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)


def octave_noise(rng: Rng, size: int, cells: float, persistence: float, octaves: int = 4) -> FloatImage:
    """Sum of ``octaves`` noises, each twice as fine and ``persistence`` times as strong; unit variance."""
    total = np.zeros((size, size), np.float32)
    weight, power = 1.0, 0.0
    for octave in range(octaves):
        total += np.float32(weight) * value_noise(rng, size, min(cells * 2**octave, size))
        power += weight * weight
        weight *= persistence
    return total / np.float32(np.sqrt(power))


def spectrum_noise(rng: Rng, size: int, exponent: float) -> FloatImage:
    """Noise with amplitude spectrum ``1 / f**exponent``; zero mean, unit variance, ``[size, size]``."""
    spectrum = np.fft.rfft2(rng.standard_normal((size, size), dtype=np.float32))
    fy = np.fft.fftfreq(size)[:, None]
    fx = np.fft.rfftfreq(size)[None, :]
    spectrum *= np.hypot(fy, fx).clip(1.0 / size) ** -exponent
    spectrum[0, 0] = 0.0
    noise = np.fft.irfft2(spectrum, s=(size, size)).astype(np.float32)
    return noise / np.float32(noise.std() + 1e-6)


def blob_mask(rng: Rng, size: int, centre: tuple[float, float], radius: float, roughness: float = 0.35) -> FloatImage:
    """Irregular soft-edged blob of about ``radius`` px around ``centre`` (x, y): ``[size, size]`` in 0..1."""
    angles = np.linspace(0.0, 2.0 * np.pi, 40, endpoint=False)
    reach = np.ones_like(angles)
    for harmonic in range(1, 6):
        reach += roughness / harmonic * rng.normal() * np.cos(harmonic * angles + rng.uniform(0.0, 2.0 * np.pi))
    reach = radius * reach.clip(0.25)
    stretch = np.exp(rng.normal(0.0, 0.25))
    points = np.stack([centre[0] + reach * stretch * np.cos(angles), centre[1] + reach / stretch * np.sin(angles)], 1)
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.round(points * 16.0).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask.astype(np.float32) / np.float32(255.0)


def random_colour(rng: Rng) -> FloatImage:
    """RGB in 0..1, as products are: half of them greys and metals, a quarter wood, food and skin, the rest any hue."""
    value, draw = rng.uniform(0.05, 0.97), rng.random()
    if draw < 0.5:
        hue, saturation = rng.uniform(0.0, 360.0), rng.uniform(0.0, 0.12)
    elif draw < 0.75:
        hue, saturation = rng.normal(32.0, 12.0) % 360.0, rng.uniform(0.15, 0.75)
    else:
        hue, saturation = rng.uniform(0.0, 360.0), rng.uniform(0.15, 0.9)
    hsv = np.array([[[hue, saturation, value]]], np.float32)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0], np.float32)


def lit_relief(height: FloatImage, light_deg: float, strength: float, gloss: float) -> tuple[FloatImage, FloatImage]:
    """A relief under a slanting lamp.

    Args:
        height: In px, ``[H, W]``.
        light_deg: Where the light comes from.
        strength: Change of brightness where the slope is 1.
        gloss: Brightness added where the surface mirrors the lamp, 0..1.

    Returns:
        Brightness factor and added highlight, both ``[H, W]``.
    """
    across = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.125)
    along = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.125)
    angle = np.deg2rad(light_deg)
    slope = np.float32(np.cos(angle)) * across + np.float32(np.sin(angle)) * along
    factor = np.asarray(np.float32(1.0) + (np.float32(strength) * slope).clip(-0.6, 0.7), np.float32)
    tilt = (slope - np.float32(0.45)) ** 2 + (across**2 + along**2 - slope**2)
    return factor, np.asarray(np.float32(gloss) * np.exp(np.float32(-14.0) * tilt), np.float32)


@dataclass(frozen=True)
class TextureSpec:
    """One material: ``colours`` ``[3, 3]`` in 0..1, ``cells`` bumps per picture side, ``contrast`` 0..1.

    ``relief_px`` is how high its bumps stand, ``grain`` the amplitude of the fine noise that lies over everything seen.
    """

    kind: str
    colours: FloatImage
    cells: float
    contrast: float
    angle_deg: float
    exponent: float
    aspect: float
    relief_px: float
    gloss: float
    light_deg: float
    grain: float

    @classmethod
    def random(cls, rng: Rng, kind: str | None = None, contrast: float | None = None) -> TextureSpec:
        """A new material; ``kind`` one of ``KINDS``."""
        first = random_colour(rng)
        near = (first + rng.normal(0.0, 0.12, 3)).clip(0.0, 1.0).astype(np.float32)
        second = near if rng.random() < 0.5 else random_colour(rng)
        third = (0.5 * (first + second) + rng.normal(0.0, 0.08, 3)).clip(0.0, 1.0).astype(np.float32)
        return cls(
            kind=kind or str(rng.choice(KINDS)),
            colours=np.stack([first, second, third]),
            cells=float(np.exp(rng.uniform(np.log(6.0), np.log(64.0)))),
            contrast=float(rng.uniform(0.15, 1.0)) if contrast is None else contrast,
            angle_deg=float(rng.choice([0.0, 90.0, rng.uniform(0.0, 180.0)])),
            exponent=float(rng.uniform(0.7, 2.0)),
            aspect=float(np.exp(rng.uniform(np.log(2.0), np.log(20.0)))),
            relief_px=float(rng.choice([0.0, rng.uniform(0.3, 2.5)])),
            gloss=float(rng.choice([0.0, rng.uniform(0.1, 0.6)])),
            light_deg=float(rng.uniform(0.0, 360.0)),
            grain=float(rng.choice([0.0, np.exp(rng.uniform(np.log(0.01), np.log(0.12)))])),
        )

    def sample(self, rng: Rng, size: int) -> FloatImage:
        """A fresh piece of the material: RGB ``[size, size, 3]`` in 0..1."""
        if self.kind in ("leaves", "clutter"):
            colour = self._leaves(rng, size) if self.kind == "leaves" else self._clutter(rng, size)
        else:
            height = getattr(self, f"_{self.kind}")(rng, size)
            colour = self._coloured(height)
            if self.relief_px > 0.0:
                smooth = np.asarray(cv2.GaussianBlur(height, (0, 0), 0.8), np.float32)
                factor, highlight = lit_relief(self.relief_px * smooth, self.light_deg, 0.6, self.gloss)
                colour = (colour * factor[..., None] + highlight[..., None]).clip(0.0, 1.0)
        if self.grain > 0.0:
            fine = spectrum_noise(rng, size, 0.5 * self.exponent) * np.float32(self.grain)
            colour = (colour * (np.float32(1.0) + fine[..., None])).clip(0.0, 1.0)
        return np.asarray(colour, np.float32)

    def _coloured(self, height: FloatImage) -> FloatImage:
        """Height ``[size, size]`` of about unit variance to RGB: the first colour mixed with the others."""
        level = (height * np.float32(0.5 * self.contrast) + np.float32(0.5)).clip(0.0, 1.0)
        table = np.empty((256, 3), np.float32)
        steps = np.linspace(0.0, 1.0, 256)
        for channel in range(3):
            stops = [self.colours[0, channel], self.colours[2, channel], self.colours[1, channel]]
            table[:, channel] = np.interp(steps, [0.0, 0.5, 1.0], stops)
        return np.asarray(table[(level * np.float32(255.0)).astype(np.uint8)], np.float32)

    def _turned(self, field: FloatImage, size: int) -> FloatImage:
        """The middle ``size`` px of a larger ``field``, turned by the material's direction."""
        middle = (field.shape[1] - 1) / 2.0
        matrix = cv2.getRotationMatrix2D((middle, middle), self.angle_deg, 1.0)
        matrix[:, 2] -= middle - (size - 1) / 2.0
        turned = cv2.warpAffine(field, matrix, (size, size), borderMode=cv2.BORDER_REFLECT)
        return np.asarray(turned, np.float32)

    def _octaves(self, rng: Rng, size: int) -> FloatImage:
        return octave_noise(rng, size, self.cells, 1.0 / self.exponent)

    def _spectrum(self, rng: Rng, size: int) -> FloatImage:
        return spectrum_noise(rng, size, self.exponent)

    def _plain(self, rng: Rng, size: int) -> FloatImage:
        return np.float32(0.25) * value_noise(rng, size, 2.0)

    def _grains(self, rng: Rng, size: int) -> FloatImage:
        noise = octave_noise(rng, size, 3.0 * self.cells, 0.6, 2)
        return np.asarray(np.tanh(np.float32(4.0) * (noise - np.float32(self.exponent - 1.0))), np.float32)

    def _brushed(self, rng: Rng, size: int) -> FloatImage:
        large = round(size * 1.42)
        streaks = value_noise(rng, large, self.cells / self.aspect, 4.0 * self.cells)
        return self._turned(streaks + np.float32(0.4) * value_noise(rng, large, 2.0, 2.0 * self.cells), size)

    def _wood(self, rng: Rng, size: int) -> FloatImage:
        large = round(size * 1.42)
        warp = value_noise(rng, large, 2.0, 6.0) * np.float32(0.5) + value_noise(rng, large, 5.0, 30.0) * np.float32(
            0.1
        )
        rows = np.linspace(0.0, self.cells * 0.5, large, dtype=np.float32)[:, None]
        rings = np.sin(np.float32(2.0 * np.pi) * (rows + warp))
        return self._turned(rings + np.float32(0.4) * value_noise(rng, large, 8.0, large), size)

    def _woven(self, rng: Rng, size: int) -> FloatImage:
        large = round(size * 1.42)
        threads = max(6.0, 0.7 * self.cells)
        axis = np.linspace(0.0, 2.0 * np.pi * threads, large, dtype=np.float32)
        warp = value_noise(rng, large, 6.0) * np.float32(0.35)
        across = np.sin(axis[None, :] + np.float32(rng.uniform(0.0, 6.28)) + warp)
        along = np.sin(axis[:, None] + np.float32(rng.uniform(0.0, 6.28)) + warp)
        over = np.where(across * along > 0.0, np.abs(across), np.abs(along))
        return self._turned(np.float32(2.0) * over - np.float32(1.2) + np.float32(0.2) * warp, size)

    def _tiles(self, rng: Rng, size: int) -> FloatImage:
        large = round(size * 1.42)
        count = max(3.0, 0.3 * self.cells)
        axis = np.linspace(0.0, np.pi * count, large, dtype=np.float32)
        across = np.abs(np.sin(axis[None, :] + np.float32(rng.uniform(0.0, 6.28))))
        along = np.abs(np.sin(axis[:, None] * np.float32(1.0 if self.aspect < 6.0 else 0.5)))
        joint = np.minimum(across, along) / np.float32(0.04 + 0.05 * count * 0.1 * self.exponent)
        field = np.float32(1.6) * joint.clip(0.0, 1.0) - np.float32(1.0)
        return self._turned(field + np.float32(0.3) * octave_noise(rng, large, 12.0, 0.7, 3), size)

    def _cells(self, rng: Rng, size: int) -> FloatImage:
        seeds = np.full((size, size), 255, np.uint8)
        count = int(min(0.6 * self.cells**2, 0.03 * size * size)) + 8
        seeds[rng.integers(0, size, count), rng.integers(0, size, count)] = 0
        distance = cv2.distanceTransform(seeds, cv2.DIST_L2, 3).astype(np.float32)
        return distance / np.float32(distance.std() + 1e-6) - np.float32(1.5)

    def _leaves(self, rng: Rng, size: int) -> FloatImage:
        canvas = np.empty((size, size, 3), np.float32)
        canvas[:] = self.colours[2]
        count = int(min(6.0 * self.cells, 260.0)) + 40
        radii = size / self.cells * 0.35 / rng.uniform(0.12, 1.0, count)
        centres = rng.uniform(0.0, size, (count, 2))
        mixes = rng.uniform(0.0, 1.0, count)
        jitter = rng.normal(0.0, 0.12 * self.contrast, (count, 3))
        base = self.colours[0] + mixes[:, None] * self.contrast * (self.colours[1] - self.colours[0])
        shades = (base + jitter).clip(0.0, 1.0)
        for centre, radius, shade, turn in zip(centres, radii, shades, rng.uniform(0, 180, count), strict=True):
            long, short = max(1, round(radius)), max(1, round(radius / min(self.exponent, 1.6)))
            where = (round(centre[0]), round(centre[1]))
            cv2.ellipse(canvas, where, (long, short), float(turn), 0.0, 360.0, shade.tolist(), -1, cv2.LINE_AA)
        return canvas

    def _mesh(self, rng: Rng, size: int) -> FloatImage:
        large = round(size * 1.42)
        count = max(4.0, 0.5 * self.cells)
        push = np.float32(0.15) * value_noise(rng, large, 5.0)
        axis = np.linspace(0.0, np.pi * count, large, dtype=np.float32)
        across = np.abs(np.sin(axis[None, :] + np.float32(rng.uniform(0.0, 6.28)) + push))
        along = np.abs(np.sin(axis[:, None] / np.float32(1.0 if self.aspect < 8.0 else 1.6) + push))
        wire = np.minimum(across, along) / np.float32(0.15 + 0.3 * (self.exponent - 0.7))
        return self._turned(np.float32(1.2) - np.float32(2.0) * wire.clip(0.0, 1.0), size)

    def _ribs(self, rng: Rng, size: int) -> FloatImage:
        large = round(size * 1.42)
        axis = np.linspace(0.0, np.pi * max(4.0, 0.8 * self.cells), large, dtype=np.float32)[:, None]
        wave = np.sin(axis + np.float32(rng.uniform(0.0, 6.28)) + np.float32(0.1) * value_noise(rng, large, 4.0))
        profile = np.tanh(np.float32(self.aspect / 5.0) * wave) / np.float32(np.tanh(self.aspect / 5.0))
        return self._turned(np.asarray(profile, np.float32), size)

    def _clutter(self, rng: Rng, size: int) -> FloatImage:
        """Things out of focus behind the part: shapes of all sizes and colours, blurred."""
        canvas = np.empty((size, size, 3), np.float32)
        canvas[:] = self.colours[0]
        for _ in range(24):
            radius = size * 0.03 / rng.uniform(0.05, 1.0) ** (1.0 / (LEAF_SIZES - 1.0))
            centre = rng.uniform(0.0, size, 2)
            shade = (self.colours[int(rng.integers(3))] * rng.uniform(0.5, 1.3)).clip(0.0, 1.0).tolist()
            if rng.random() < 0.5:
                cv2.circle(canvas, (int(centre[0]), int(centre[1])), max(1, int(radius)), shade, -1, cv2.LINE_AA)
            else:
                box = cv2.boxPoints(((centre[0], centre[1]), (radius, radius * self.aspect / 3.0), self.angle_deg))
                cv2.fillConvexPoly(canvas, np.round(box).astype(np.int32), shade, cv2.LINE_AA)
        return np.asarray(cv2.GaussianBlur(canvas, (0, 0), 1.0 + size * 0.02 * self.exponent), np.float32)
