"""Products to teach on: pictures encoded once, with the box a person would mark; and marks that are drawn on good parts.

May import the detector and this package. Regions come from masks; where a set has none, defects are drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inspector.detection.detector import Detector
from inspector.detection.encoder import Encoder
from inspector.detection.towers import Tokens
from inspector.errors import UsageError
from inspector.evaluation.datasets import Category, MaskArray, TestPicture, read_mask
from inspector.evaluation.sensitivity import KINDS, somewhere
from inspector.images import read_image
from inspector.types import Box, ImageArray

BATCH = 8
MASK_SIDE_PX = 1024
"""Boxes are read off masks of this size: a thousandth of the picture is fine enough for a region."""
SCRATCH_SIZE, SCRATCH_CONTRAST = 0.12, 0.4
"""A drawn scratch is as long as an eighth of the picture's shorter side."""
MARK_SIZE, MARK_CONTRAST = 0.08, 0.4
MARK_JITTER = 0.01
"""A harmless mark (a stamp, an ink spot) lies in one place of the part, give or take one hundredth of the picture."""
VISIBLE_LEVELS = 4
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures that the encoder has been through once, in batches; `regions` `None` where nothing is marked."""

    images: tuple[ImageArray, ...]
    regions: tuple[Box | None, ...]
    batches: tuple[Tokens, ...]

    @classmethod
    def encoded(
        cls, encoder: Encoder, images: Sequence[ImageArray], regions: Sequence[Box | None] | None = None
    ) -> "Pictures":
        """In the order given."""
        batches = tuple(encoder.encode(images[start : start + BATCH]) for start in range(0, len(images), BATCH))
        return cls(tuple(images), tuple(regions or [None] * len(images)), batches)

    def scores(self, detector: Detector) -> Scores:
        """Anomaly score of each, by the product's own detector."""
        sizes = [(image.shape[0], image.shape[1]) for image in self.images]
        found: list[float] = []
        for number, tokens in enumerate(self.batches):
            judged = detector.judge(tokens, sizes[number * BATCH : (number + 1) * BATCH])
            found += [inspection.score for inspection in judged]
        return np.array(found)


@dataclass(frozen=True, eq=False)
class Product:
    """One product of a set: its good and its bad pictures, and the kind of each bad one."""

    name: str
    good: Pictures
    bad: Pictures
    kinds: tuple[str, ...]

    @classmethod
    def read(cls, encoder: Encoder, category: Category) -> "Product":
        """All pictures of a category; a good one that lies in pool and test counts once.

        Raises:
            ImageError: a picture cannot be read.
            UsageError: a mask does not fit its picture.
        """
        paths = dict.fromkeys([*category.pool, *(one.path for one in category.test if not one.is_bad)])
        bad = [one for one in category.test if one.is_bad]
        images = [read_image(one.path) for one in bad]
        regions = [_marked_region(one, image) for one, image in zip(bad, images, strict=True)]
        return cls(
            category.name,
            Pictures.encoded(encoder, [read_image(path) for path in paths]),
            Pictures.encoded(encoder, images, regions),
            tuple(one.kind for one in bad),
        )


def box_of(mask: MaskArray) -> Box:
    """The bounding box of a mask `[H, W]`.

    Raises:
        UsageError: nothing is masked.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise UsageError("a mask is empty; a defect without a marked region cannot be taught")
    (high, wide), top, left = mask.shape, int(rows[0]), int(columns[0])
    return left / wide, top / high, (int(columns[-1]) + 1 - left) / wide, (int(rows[-1]) + 1 - top) / high


def drawn_scratch(rng: np.random.Generator, image: ImageArray) -> tuple[ImageArray, Box]:
    """A copy of a good part with a scratch somewhere on it, and its box."""
    scratched = KINDS["scratch"](rng, image, somewhere(rng, image), SCRATCH_SIZE, SCRATCH_CONTRAST)
    return scratched, _changed(image, scratched)


def drawn_marks(rng: np.random.Generator, images: Sequence[ImageArray]) -> list[tuple[ImageArray, Box]]:
    """Copies of good parts that all bear one spot in one place, and its box on each."""
    x, y = somewhere(rng, images[0])
    place = x / images[0].shape[1], y / images[0].shape[0]
    look = int(rng.integers(2**31))
    marked = []
    for image in images:
        dx, dy = rng.uniform(-MARK_JITTER, MARK_JITTER, 2)
        at = round((place[0] + dx) * image.shape[1]), round((place[1] + dy) * image.shape[0])
        spotted = KINDS["spot"](np.random.default_rng(look), image, at, MARK_SIZE, MARK_CONTRAST)
        marked.append((spotted, _changed(image, spotted)))
    return marked


def _marked_region(picture: TestPicture, image: ImageArray) -> Box | None:
    if not picture.masks:
        return None
    return box_of(read_mask(picture.masks, (image.shape[0], image.shape[1]), (MASK_SIDE_PX, MASK_SIDE_PX)))


def _changed(before: ImageArray, after: ImageArray) -> Box:
    return box_of(np.abs(before.astype(np.int16) - after).max(axis=2) > VISIBLE_LEVELS)
