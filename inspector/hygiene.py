"""What is wrong with the pictures that are to become references: said before they enter, with the reason.

Two kinds of checks. `check_pictures` looks at pixels only and runs wherever a person uploads; `check_scores` looks at how
the references score against each other and runs where the bank is built. Nothing is dropped here: a person decides.
numpy and OpenCV only.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from inspector.mutual import Mutual, strengths
from inspector.robust import shrunk_sigma
from inspector.types import ImageArray

SIDE_PX = 256
"""Pictures are compared at this size: sharpness and light do not then depend on the camera's pixels."""
SHARP_FRACTION = 0.35
"""Less detail than this share of the usual one is blurred; a slightly soft focus keeps more than half."""
FLAT_DETAIL = 2.0
"""Detail of a picture that shows nothing but noise, in squared grey levels."""
DARK_LEVEL, BRIGHT_LEVEL = 12.0, 243.0
DARK_FRACTION, BRIGHT_FRACTION = 0.6, 1.6
MIN_STEP_LEVEL = 12.0
CLIPPED_MORE = 0.08
"""So much more of the picture is black or white to the end of the scale than in the others."""
ALONE_CLIPPED = 0.5
NEAR_LEVEL = 1.2
"""Mean difference of two pictures of one moment, in grey levels: the camera's noise and no more."""
MIN_FOR_OTHERS = 3
"""From so many pictures on there is a usual one to compare with."""
MIN_MUTUAL = 6
OUTLIER_STRENGTH = 1.7
"""Names 4 % of the good pictures that lie beside a defective one; higher misses more defects: README, "References"."""
WRONG_PRODUCT_SIGMAS = 4.0
WRONG_PRODUCT_COVERAGE = 0.3
"""A picture of another product differs in most places, a defect in a few."""


class Kind(StrEnum):
    """What a finding is about."""

    BLURRED = "blurred"
    DARK = "dark"
    BRIGHT = "bright"
    CLIPPED = "clipped"
    SIZE = "size"
    DUPLICATE = "duplicate"
    WRONG_PRODUCT = "wrong_product"
    OUTLIER = "outlier"
    LOW_VARIATION = "low_variation"


@dataclass(frozen=True)
class Finding:
    """One thing that is odd about picture number `index`; `reason` is for people, `score` what was measured."""

    index: int
    kind: Kind
    reason: str
    score: float

    def record(self) -> dict[str, Any]:
        """As it is stored and printed, without the index."""
        return {key: value for key, value in asdict(self).items() if key != "index"}


@dataclass(frozen=True, eq=False)
class Look:
    """A picture as it is compared: its size, a hash of its pixels, grey `[256, 256]`, mean level, detail, clipped share."""

    size_hw: tuple[int, int]
    sha256: str
    grey: npt.NDArray[np.float32]
    level: float
    detail: float
    clipped: float

    @classmethod
    def of(cls, image: ImageArray) -> "Look":
        """Look at one picture."""
        small = cv2.resize(image, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
        grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.float32)
        detail = float(cv2.Laplacian(grey, cv2.CV_32F).var())
        ends = (image <= 1).all(axis=2) | (image >= 254).all(axis=2)
        size_hw, sha256 = (image.shape[0], image.shape[1]), hashlib.sha256(image.tobytes()).hexdigest()
        return cls(size_hw, sha256, grey, float(grey.mean()), detail, float(ends.mean()))


def check_pictures(images: Sequence[ImageArray], names: Sequence[str]) -> list[Finding]:
    """Look at the pixels of pictures that are to be references of one product, in the order given."""
    return check_looks([Look.of(image) for image in images], names)


def check_looks(looks: Sequence[Look], names: Sequence[str]) -> list[Finding]:
    """The same of pictures that were looked at before; `names` are what people call them."""
    if not looks:
        return []
    found = [*_sizes(looks), *_light(looks), *_focus(looks), *_copies(looks, names)]
    return sorted(found, key=lambda finding: finding.index)


def check_scores(mutual: Sequence[Mutual]) -> list[Finding]:
    """Look at references that were scored against each other; fewer than six say nothing about which one is odd."""
    if len(mutual) < MIN_MUTUAL:
        return []
    found = []
    for index, (one, strength) in enumerate(zip(mutual, strengths(mutual), strict=True)):
        others = np.array([other.score for place, other in enumerate(mutual) if place != index])
        sigmas = (one.score - float(np.median(others))) / shrunk_sigma(others)
        if sigmas > WRONG_PRODUCT_SIGMAS and one.coverage > WRONG_PRODUCT_COVERAGE:
            reason = f"differs from the others in {100 * one.coverage:.0f} % of the picture: is it another product?"
            found.append(Finding(index, Kind.WRONG_PRODUCT, reason, round(sigmas, 2)))
        elif strength > OUTLIER_STRENGTH:
            reason = "shows something, or lacks something, unlike all others: it may be a defect, or a new position"
            found.append(Finding(index, Kind.OUTLIER, reason, round(strength, 2)))
    return found


def _sizes(looks: Sequence[Look]) -> list[Finding]:
    usual = Counter(look.size_hw for look in looks).most_common(1)[0][0]
    found = []
    for index, look in enumerate(looks):
        size = look.size_hw
        if size == usual:
            continue
        turned = " (it lies on its side)" if size == usual[::-1] else ""
        reason = f"{size[1]}×{size[0]} px{turned}, the others have {usual[1]}×{usual[0]} px"
        found.append(Finding(index, Kind.SIZE, reason, round(size[0] * size[1] / (usual[0] * usual[1]), 3)))
    return found


def _light(looks: Sequence[Look]) -> list[Finding]:
    found = []
    for index, look in enumerate(looks):
        usual = _usual([other.level for place, other in enumerate(looks) if place != index])
        clipped = _usual([other.clipped for place, other in enumerate(looks) if place != index])
        if look.level < DARK_LEVEL or (usual is not None and _steps(usual, look.level, DARK_FRACTION)):
            found.append(
                Finding(index, Kind.DARK, _against("mean grey level", look.level, usual), round(look.level, 1))
            )
        if look.level > BRIGHT_LEVEL or (usual is not None and _steps(look.level, usual, 1.0 / BRIGHT_FRACTION)):
            found.append(
                Finding(index, Kind.BRIGHT, _against("mean grey level", look.level, usual), round(look.level, 1))
            )
        limit = ALONE_CLIPPED if clipped is None else clipped + CLIPPED_MORE
        if look.clipped > limit:
            reason = (
                f"{100 * look.clipped:.0f} % of it is black or white to the end of the scale; nothing can be seen there"
            )
            found.append(Finding(index, Kind.CLIPPED, reason, round(look.clipped, 3)))
    return found


def _steps(high: float, low: float, fraction: float) -> bool:
    return low < fraction * high and high - low > MIN_STEP_LEVEL


def _focus(looks: Sequence[Look]) -> list[Finding]:
    found = []
    for index, look in enumerate(looks):
        usual = _usual([other.detail for place, other in enumerate(looks) if place != index])
        if usual is not None and look.detail < SHARP_FRACTION * usual:
            reason = f"{100 * look.detail / usual:.0f} % of the others' detail: out of focus or moved"
            found.append(Finding(index, Kind.BLURRED, reason, round(look.detail / usual, 3)))
        elif usual is None and look.detail < FLAT_DETAIL:
            reason = "shows nothing but a flat surface: out of focus, or nothing in front of the camera"
            found.append(Finding(index, Kind.BLURRED, reason, round(look.detail, 2)))
    return found


def _copies(looks: Sequence[Look], names: Sequence[str]) -> list[Finding]:
    """Pictures that are the same as an earlier one, and sets that show one moment only."""
    apart = np.array([[float(np.abs(one.grey - other.grey).mean()) for other in looks] for one in looks])
    found = []
    for index in range(1, len(looks)):
        nearest = int(apart[index, :index].argmin())
        if looks[index].sha256 in {look.sha256 for look in looks[:index]}:
            first = next(place for place, look in enumerate(looks) if look.sha256 == looks[index].sha256)
            reason = f"the same picture as {names[first]}"
            found.append(Finding(index, Kind.DUPLICATE, reason, 0.0))
        elif apart[index, nearest] < NEAR_LEVEL:
            reason = f"nearly the same picture as {names[nearest]}: it adds nothing"
            found.append(Finding(index, Kind.DUPLICATE, reason, round(float(apart[index, nearest]), 2)))
    if len(looks) > 1 and len(found) == len(looks) - 1:
        reason = f"these {len(looks)} are nearly the same moment; take pictures of different parts of the line"
        found.insert(0, Finding(0, Kind.LOW_VARIATION, reason, round(float(apart.max()), 2)))
    return found


def _usual(values: Sequence[float]) -> float | None:
    """The median of the other pictures, None if they are too few to have a usual value."""
    return float(np.median(values)) if len(values) >= MIN_FOR_OTHERS - 1 else None


def _against(what: str, value: float, usual: float | None) -> str:
    return f"{what} {value:.0f} of 255" + ("" if usual is None else f", the others {usual:.0f}")
