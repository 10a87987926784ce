"""Auxiliary data of the adapted mode: a picture, its mask, and one normal reference of its own kind.

From data sets with masks on disk, or drawn by the project. May import the evaluation's readers and the drawings.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inspector.errors import UsageError
from inspector.evaluation.datasets import Category, MaskArray, read_categories, read_mask
from inspector.evaluation.results import file_list_hash
from inspector.images import read_image
from inspector.training.episodes import HELD_OUT_FROM
from inspector.training.products import ProductFamily
from inspector.types import ImageArray

DRAWN = "drawn"
DRAWN_SIDE_PX = 256
NON_COMMERCIAL = "CC BY-NC-SA 4.0 (non-commercial)"
MVTEC = frozenset(
    {"bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw", "tile",
     "toothbrush", "transistor", "wood", "zipper", "breakfast_box", "juice_bottle", "pushpins", "screw_bag",
     "splicing_connectors"}
)  # fmt: skip
MPDD = frozenset({"bracket_black", "bracket_brown", "bracket_white", "connector", "metal_plate", "tubes"})
BTAD = frozenset({"01", "02", "03"})
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Pair:
    """One query `[H, W, 3]` with its mask `[S, S]`, and its reference."""

    query: ImageArray
    mask: MaskArray
    reference: ImageArray


@dataclass(frozen=True)
class Source:
    """A part of the data: what it is, under what licence, a hash that tells whether it changed, and its pairs.

    `pair(number, side_px)` reads or draws one of `count`; the same number gives the same pair.
    """

    name: str
    licence: str
    sha256: str
    count: int
    pair: Callable[[int, int], Pair]


def drawn_source(products: int, seed: int) -> Source:
    """A good and a bad picture of each of so many drawn products; none of them is a held-out one."""

    def pair(number: int, side_px: int) -> Pair:
        rng = np.random.default_rng([seed, number // 2])
        family = ProductFamily(int(rng.integers(HELD_OUT_FROM)))
        reference = family.draw(rng, DRAWN_SIDE_PX)
        if number % 2 == 0:
            return Pair(family.draw(rng, DRAWN_SIDE_PX), np.zeros((side_px, side_px), np.bool_), reference)
        bad = family.draw_defective(rng, DRAWN_SIDE_PX)
        place = np.linspace(0, DRAWN_SIDE_PX - 1, side_px).round().astype(int)
        return Pair(bad.image, bad.mask[np.ix_(place, place)], reference)

    return Source(DRAWN, "drawn by this project (Apache-2.0)", f"{products} products, seed {seed}", 2 * products, pair)


def folder_source(root: Path, licence: str | None, seed: int) -> Source:
    """All test pictures of a data set whose masks are known; each gets a reference of its category by `seed`.

    Raises:
        UsageError: no data set, no defects, or none with a mask.
    """
    categories = read_categories(root)
    usable = [
        (category, picture)
        for category in categories
        for picture in category.test
        if picture.masks or not picture.is_bad
    ]
    if not any(picture.is_bad for _, picture in usable):
        raise UsageError(f"{root}: no defect with a mask; adapters are trained on pictures whose defects are marked")

    def pair(number: int, side_px: int) -> Pair:
        category, picture = usable[number]
        pool = [path for path in category.pool if path != picture.path]
        if not pool:
            raise UsageError(
                f"{root}: {category.name} has one good picture only; a query needs another as its reference"
            )
        reference = pool[int(np.random.default_rng([seed, number]).integers(len(pool)))]
        image = read_image(picture.path)
        mask = read_mask(picture.masks, (image.shape[0], image.shape[1]), (side_px, side_px))
        return Pair(image, mask, read_image(reference))

    return Source(
        root.resolve().name, licence or licence_of(root, categories), file_list_hash(categories), len(usable), pair
    )


def licence_of(root: Path, categories: Sequence[Category]) -> str:
    """The licence of a well-known data set, told by its layout and the names of its categories."""
    names = {category.name for category in categories}
    if (root / "split_csv").is_dir():
        return "VisA: CC BY 4.0"
    for title, known in (("MVTec AD or LOCO", MVTEC), ("MPDD", MPDD), ("BTAD", BTAD)):
        if names <= known:
            return f"{title}: {NON_COMMERCIAL}"
    return UNKNOWN


def warning_of(source: Source) -> str:
    """What a user has to know of a source's licence; empty if nothing."""
    if source.licence == UNKNOWN:
        return f"{source.name}: the licence is not known; make sure that you may use it, and name it with --licence"
    if "non-commercial" in source.licence.lower() or "-nc" in source.licence.lower():
        return f"{source.name}: {source.licence}; adapters that were trained on it must not be used commercially"
    return ""
