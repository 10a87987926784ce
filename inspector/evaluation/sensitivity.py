"""What a recipe would catch: defects drawn into held-out copies of its references, by kind, size and contrast.

A drawn defect is no defect of the line; nothing here moves a threshold. It tells before the first part whether the recipe
can see a scratch of a given size at all. numpy, OpenCV and the detector.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from inspector.detection.detector import Detector
from inspector.detection.variations import variations
from inspector.types import ImageArray, Verdict

SIZES = (0.01, 0.02, 0.05, 0.12)
"""Length or diameter, as a fraction of the picture's shorter side."""
CONTRASTS = (0.25, 0.6)
"""Change of brightness, as a fraction of the full scale."""
COPIES = 2
BATCH = 8
FOUND_SHARE = 0.5
"""The smallest size of which at least half is caught is called found."""

Draw = Callable[[np.random.Generator, ImageArray, tuple[int, int], float, float], ImageArray]


@dataclass(frozen=True)
class Sensitivity:
    """Shares of drawn defects that were not accepted, by kind and size; `count` were drawn for each."""

    shares: dict[str, dict[float, float]]
    count: int

    @property
    def smallest(self) -> dict[str, float | None]:
        """The smallest size of each kind from which on at least half are caught; None if not even the largest."""
        found: dict[str, float | None] = {}
        for kind, by_size in self.shares.items():
            caught = [size for size in by_size if all(by_size[s] >= FOUND_SHARE for s in by_size if s >= size)]
            found[kind] = min(caught) if caught else None
        return found

    def record(self) -> dict[str, Any]:
        """As it is stored with a recipe."""
        shares = {kind: {str(size): share for size, share in sizes.items()} for kind, sizes in self.shares.items()}
        return {"shares": shares, "smallest": self.smallest, "count": self.count}


def sensitivity(detector: Detector, images: Sequence[ImageArray], *, seed: int = 0) -> Sensitivity:
    """Draw defects into copies of references and inspect each against the bank without its own reference.

    A single reference cannot be left out: then a mild variation of it is used, which makes the figures too good.
    """
    rng = np.random.default_rng(seed)
    places = rng.permutation(len(images))[:COPIES]
    caught: dict[str, dict[float, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for index in places.tolist():
        alone = len(images) == 1
        picture = variations(images[index], 1, seed)[0] if alone else images[index]
        held_out = detector if alone else detector.without(index)
        drawn: list[tuple[str, float, ImageArray]] = []
        for kind, draw in KINDS.items():
            for size in SIZES:
                for contrast in CONTRASTS:
                    drawn.append((kind, size, draw(rng, picture, somewhere(rng, picture), size, contrast)))
        for start in range(0, len(drawn), BATCH):
            part = drawn[start : start + BATCH]
            for (kind, size, _), inspection in zip(part, held_out.inspect([one[2] for one in part]), strict=True):
                caught[kind][size].append(inspection.verdict is not Verdict.OK)
    shares = {
        kind: {size: round(float(np.mean(found)), 3) for size, found in sizes.items()} for kind, sizes in caught.items()
    }
    return Sensitivity(shares, len(places) * len(CONTRASTS))


def somewhere(rng: np.random.Generator, image: ImageArray) -> tuple[int, int]:
    """A place (x, y) where the picture shows something: the part, not the empty ground around it."""
    grey = cv2.cvtColor(cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY).astype(
        np.float32
    )
    away = np.abs(grey - np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
    away[:8], away[-8:], away[:, :8], away[:, -8:] = 0, 0, 0, 0
    likely = away.ravel() + 1e-3
    place = int(rng.choice(likely.size, p=likely / likely.sum()))
    return round((place % 64 + 0.5) / 64 * image.shape[1]), round((place // 64 + 0.5) / 64 * image.shape[0])


def _shaded(rng: np.random.Generator, image: ImageArray, mask: np.ndarray, contrast: float) -> ImageArray:
    """Darker or lighter by `contrast` where the mask is: away from what is there, so that it can be seen."""
    weight = (mask.astype(np.float32) / 255.0)[..., None]
    inside = image[mask > 127].mean() if (mask > 127).any() else 128.0
    towards = -1.0 if inside > 255.0 * contrast and (inside > 127 or rng.random() < 0.5) else 1.0
    return np.clip(np.rint(image + towards * 255.0 * contrast * weight), 0, 255).astype(np.uint8)


def _scratch(
    rng: np.random.Generator, image: ImageArray, at: tuple[int, int], size: float, contrast: float
) -> ImageArray:
    side = min(image.shape[:2])
    angle, half = rng.uniform(0.0, np.pi), 0.5 * size * side
    reach = np.array([np.cos(angle), np.sin(angle)]) * half
    mask = np.zeros(image.shape[:2], np.uint8)
    ends = [np.round(16 * (np.array(at) + sign * reach)).astype(int) for sign in (-1, 1)]
    cv2.line(mask, ends[0].tolist(), ends[1].tolist(), 255, max(1, round(side / 256)), cv2.LINE_AA, 4)
    return _shaded(rng, image, mask, contrast)


def _crack(
    rng: np.random.Generator, image: ImageArray, at: tuple[int, int], size: float, contrast: float
) -> ImageArray:
    side, steps = min(image.shape[:2]), 12
    headings = rng.uniform(0.0, 2 * np.pi) + np.cumsum(rng.normal(0.0, 0.5, steps))
    paces = size * side / steps * np.stack([np.cos(headings), np.sin(headings)], 1)
    points = np.round(16 * (np.array(at) + np.cumsum(paces, 0))).astype(np.int32)
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.polylines(mask, [points.reshape(-1, 1, 2)], False, 255, max(1, round(side / 256)), cv2.LINE_AA, 4)
    return _shaded(rng, image, mask, contrast)


def _spot(rng: np.random.Generator, image: ImageArray, at: tuple[int, int], size: float, contrast: float) -> ImageArray:
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.circle(mask, at, max(1, round(0.5 * size * min(image.shape[:2]))), 255, -1, cv2.LINE_AA)
    return _shaded(rng, image, mask, contrast)


def _stain(
    rng: np.random.Generator, image: ImageArray, at: tuple[int, int], size: float, contrast: float
) -> ImageArray:
    radius = max(1.0, 0.5 * size * min(image.shape[:2]))
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.circle(mask, at, max(1, round(radius)), 255, -1)
    soft = cv2.GaussianBlur(mask, (0, 0), 0.5 * radius)
    return _shaded(rng, image, np.asarray(soft, np.uint8), contrast)


def _missing(
    rng: np.random.Generator, image: ImageArray, at: tuple[int, int], size: float, contrast: float
) -> ImageArray:
    """A piece that is not there: what lies around the part shows through. Its contrast is what it is."""
    edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    ground = np.median(edge, axis=0)
    half = max(1, round(0.5 * size * min(image.shape[:2])))
    gone = image.copy()
    gone[max(0, at[1] - half) : at[1] + half, max(0, at[0] - half) : at[0] + half] = ground.astype(np.uint8)
    return gone


def _displaced(
    rng: np.random.Generator, image: ImageArray, at: tuple[int, int], size: float, contrast: float
) -> ImageArray:
    """A piece of twice the size, moved by the size: a part of an assembly in a wrong place."""
    side = min(image.shape[:2])
    half, move = max(2, round(size * side)), max(1, round(size * side))
    x, y = (min(max(v, half), limit - half - 1) for v, limit in zip(at, image.shape[1::-1], strict=True))
    angle = rng.uniform(0.0, 2 * np.pi)
    dx, dy = round(move * np.cos(angle)), round(move * np.sin(angle))
    moved = image.copy()
    there_x, there_y = (
        min(max(x + dx, half), image.shape[1] - half - 1),
        min(max(y + dy, half), image.shape[0] - half - 1),
    )
    moved[there_y - half : there_y + half, there_x - half : there_x + half] = image[
        y - half : y + half, x - half : x + half
    ]
    return moved


KINDS: dict[str, Draw] = {
    "scratch": _scratch,
    "crack": _crack,
    "spot": _spot,
    "stain": _stain,
    "missing": _missing,
    "displaced": _displaced,
}
