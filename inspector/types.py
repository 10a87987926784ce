"""The records that cross the rooms' borders, checked when they are made; importing this module never imports torch.

Letters of array and tensor shapes, used everywhere in this project:

    B   images of a batch                  K      references of a bank
    N   patches of one image (gh·gw)       D      width of a patch token
    S   side of the model's input in px    gh gw  patch grid
    H W pixels of the camera's image
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from math import inf, isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

ImageArray = npt.NDArray[np.uint8]
"""RGB picture, `[H, W, 3]`, uint8."""
MapArray = npt.NDArray[np.float32]
"""Anomaly map, `[S, S]`, float32, raw: higher is worse."""


class Verdict(IntEnum):
    """The answer for one part, with the codes of OPC 40001-101. Only OK lets a part pass."""

    NONE = 0
    OK = 1
    NG = 2
    UNDECIDED = 3


def check_image(image: ImageArray) -> None:
    """Raise ValueError unless `image` is a non-empty RGB picture `[H, W, 3]` of uint8."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(f"image must be uint8 with shape (H, W, 3), but got {image.dtype} with shape {image.shape}")


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of one part, as the camera gave it.

    `trigger` is the PLC's counter (0 = free running); `captured_at` is aware UTC time of the exposure, a label;
    ages are computed from `captured_monotonic_s` only.
    """

    frame_id: int
    camera: str
    part_id: str
    trigger: int
    captured_at: datetime
    captured_monotonic_s: float
    image: ImageArray

    def __post_init__(self) -> None:
        check_image(self.image)
        if self.captured_at.tzinfo is None:
            raise ValueError("captured_at must be an aware UTC time, but it has no time zone")
        if not 0 <= self.trigger < 2**32:
            raise ValueError(f"trigger must be an unsigned 32-bit number, but got {self.trigger}")


Box = tuple[float, float, float, float]
"""Left, top, width and height as fractions of a picture's width and height."""


MAX_ROIS = 16
"""One bit each in the contract's `roi`."""


@dataclass(frozen=True)
class Roi:
    """A region of interest: where a part is inspected, or where it is not.

    `sensitivity` 2 finds half as much of a defect there as 1 does, at the price of the others; it has no meaning where
    nothing is `inspected`.
    """

    name: str
    box: Box
    sensitivity: float = 1.0
    inspected: bool = True

    def __post_init__(self) -> None:
        left, top, width, height = self.box
        if not (0 <= left < 1 and 0 <= top < 1 and 0 < width <= 1 - left + 1e-9 and 0 < height <= 1 - top + 1e-9):
            raise ValueError(f"region {self.name!r} must lie in the picture, as fractions of it, but is {self.box}")
        if not 1 <= len(self.name) <= 32:
            raise ValueError(f"the name of a region must have 1 to 32 characters, but is {self.name!r}")
        if not 0.1 <= self.sensitivity <= 10.0:
            raise ValueError(f"sensitivity of region {self.name!r} must be 0.1 to 10, but is {self.sensitivity}")


def roi_of(record: Mapping[str, Any]) -> Roi:
    """A region of interest from its stored record.

    Raises:
        ValueError, KeyError, TypeError: it is not one.
    """
    left, top, width, height = (float(side) for side in record["box"])
    return Roi(str(record["name"]), (left, top, width, height), float(record["sensitivity"]), bool(record["inspected"]))


@dataclass(frozen=True)
class Align:
    """The wish that each part is brought to where the first reference lies before it is inspected.

    `max_shift` is how far it may lie off, as a fraction of the picture's width and height, `max_turn_deg` how far it may be
    turned. `box` is what it is found by: where the part lies in the first reference; None is the picture without a margin
    of `max_shift`.
    """

    max_shift: float = 0.15
    max_turn_deg: float = 15.0
    box: Box | None = None

    def __post_init__(self) -> None:
        if not 0.01 <= self.max_shift <= 0.3:
            raise ValueError(f"a part may lie off by 0.01 to 0.3 of the picture, but max_shift is {self.max_shift:g}")
        if not 0.0 <= self.max_turn_deg <= 180.0:
            raise ValueError(f"a part may be turned by 0 to 180 degrees, but max_turn_deg is {self.max_turn_deg:g}")
        left, top, width, height = self.found_by
        if not (0 <= left < 1 and 0 <= top < 1 and 0.1 <= width <= 1 - left + 1e-9 and 0.1 <= height <= 1 - top + 1e-9):
            raise ValueError(
                f"what a part is found by must lie in the picture, as fractions of it of at least 0.1, but is {self.box}"
            )

    @property
    def found_by(self) -> Box:
        """The box, or its default."""
        margin = self.max_shift
        return (margin, margin, 1 - 2 * margin, 1 - 2 * margin) if self.box is None else self.box


MAX_TILES = 16


@dataclass(frozen=True)
class Tiles:
    """How many tiles a picture is seen in, `rows` × `columns`; both 0: as its size asks for."""

    rows: int = 0
    columns: int = 0

    def __post_init__(self) -> None:
        if not self.is_auto and (min(self.rows, self.columns) < 1 or not 2 <= self.rows * self.columns <= MAX_TILES):
            raise ValueError(f"a picture is seen in 2 to {MAX_TILES} tiles, but {self.rows}x{self.columns} were given")

    @property
    def is_auto(self) -> bool:
        """Whether the picture's size decides."""
        return (self.rows, self.columns) == (0, 0)

    def __str__(self) -> str:
        return "auto" if self.is_auto else f"{self.rows}x{self.columns}"


def align_of(record: Mapping[str, Any] | None) -> Align | None:
    """What was wished of alignment, from its stored record.

    Raises:
        ValueError, KeyError, TypeError: it is not one.
    """
    if record is None:
        return None
    box = None
    if record["box"] is not None:
        left, top, width, height = (float(side) for side in record["box"])
        box = (left, top, width, height)
    return Align(float(record["max_shift"]), float(record["max_turn_deg"]), box)


class Fit(StrEnum):
    """Whether a part was found where it may lie."""

    FOUND = "found"
    NOT_FOUND = "not found"
    AWAY = "away"


@dataclass(frozen=True)
class Placement:
    """Where a part lies against the first reference: its shift as a fraction of the picture, its turn clockwise.

    `likeness` is the correlation with the references in that place, at most 1; `reason` says why it is not `FOUND`.
    """

    shift_x: float
    shift_y: float
    turn_deg: float
    likeness: float
    fit: Fit = Fit.FOUND
    reason: str = ""


@dataclass(frozen=True)
class PatchMatch:
    """One reference patch that a patch of the part was compared with.

    `tap` is the encoder's, `patch` lies in the part's picture, `reference` is the place in the bank (from 0), and
    `reference_patch` lies in that reference. `weight` is its share of the matched normal patch (the weights of one tap
    sum to 1, the smallest are left out), `similarity` the cosine.
    """

    tap: int
    patch: Box
    reference: int
    reference_patch: Box
    weight: float
    similarity: float


@dataclass(frozen=True)
class Region:
    """One connected defect region, in pixels of the camera's image.

    `matches` are the reference patches that the region's worst place was compared with, the heaviest of each tap first.
    """

    x_px: int
    y_px: int
    width_px: int
    height_px: int
    area_px: int
    area_fraction: float
    centroid_x_px: float
    centroid_y_px: float
    peak: float
    mean_excess: float
    peak_x_px: float
    peak_y_px: float
    matches: tuple[PatchMatch, ...] = ()


@dataclass(frozen=True)
class ScoreParts:
    """The five terms of the image score before their factors; None where a branch is off."""

    visual_map: float
    text_map: float | None = None
    text_cls: float | None = None
    residual_map: float | None = None
    residual_cls: float | None = None

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of the branches that took part, in the order text, visual, residual."""
        on = (("text", self.text_map), ("visual", self.visual_map), ("residual", self.residual_map))
        return tuple(name for name, value in on if value is not None)

    def contributions(self, residual_weight: float) -> dict[str, float]:
        """What each branch adds to the image score; `residual_weight` is λ. The sum is the score."""
        found = {"visual": self.visual_map}
        if self.text_map is not None and self.text_cls is not None:
            found["text"] = 0.5 * (self.text_map + self.text_cls)
        if self.residual_map is not None and self.residual_cls is not None:
            found["residual"] = residual_weight * 0.5 * (self.residual_map + self.residual_cls)
        return {name: found[name] for name in self.branches}


@dataclass(frozen=True, eq=False)
class Inspection:
    """What the detector says of one picture: exact numbers, the verdict they lead to, and where to look.

    `score` and `threshold` are raw (higher is worse); `anomaly_map` is `[S, S]` float32; `contributions` is what each
    branch adds to the score; `novelty` is how unlike the whole picture is to all references (1 − cosine, from 0).
    `rois` is the score of each inspected region of interest as a share of the threshold; empty without any. `placement` is
    where the part was found, None where the product is not aligned; map and regions lie in the camera's picture.
    """

    score: float
    threshold: float
    verdict: Verdict
    parts: ScoreParts
    anomaly_map: MapArray
    regions: tuple[Region, ...] = field(default=())
    contributions: dict[str, float] = field(default_factory=dict)
    novelty: float = 0.0
    rois: tuple[float, ...] = ()
    placement: Placement | None = None

    @property
    def roi_mask(self) -> int:
        """Bit n is set where region of interest n is over the threshold."""
        return sum(1 << bit for bit, ratio in enumerate(self.rois) if ratio >= 1.0)

    def __post_init__(self) -> None:
        if self.anomaly_map.ndim != 2 or self.anomaly_map.dtype != np.float32:
            raise ValueError(
                f"anomaly_map must be float32 with shape (S, S), but got {self.anomaly_map.dtype} "
                f"with shape {self.anomaly_map.shape}"
            )
        if self.verdict is not Verdict.NONE and not (isfinite(self.score) and isfinite(self.threshold)):
            raise ValueError(f"a verdict needs finite numbers, but score={self.score} and threshold={self.threshold}")


class Step(StrEnum):
    """The step of the calibration ladder: what a threshold rests on."""

    PROVISIONAL = "provisional"
    CONFIRMED = "confirmed"
    CONFORMAL = "conformal"


@dataclass(frozen=True)
class Calibration:
    """Where a threshold comes from, and what it promises.

    `n` normal scores stand behind it, `scores` are those. Above the provisional step: `rate` is the expected rate of
    false rejects, `bound` is not exceeded with 95 % confidence, `target` is what the operator wished. From
    `reject_threshold` on a part is NG, between the two UNDECIDED; None: there is no such zone.
    """

    kind: Step
    n: int
    threshold: float
    scores: tuple[float, ...]
    rate: float | None = None
    bound: float | None = None
    target: float | None = None
    reject_threshold: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", Step(self.kind))
        if not isfinite(self.threshold):
            raise ValueError(f"threshold must be finite, but got {self.threshold}")
        if self.reject_threshold is not None and not self.threshold <= self.reject_threshold < inf:
            raise ValueError(f"reject_threshold must not be below the threshold, but got {self.reject_threshold}")

    @property
    def promise(self) -> str:
        """What can be expected, in words for people."""
        return promise_words(self.kind, self.n, self.rate, self.bound)


def promise_words(kind: str, n: int, rate: float | None, bound: float | None) -> str:
    """A calibration in words: "confirmed, n = 19: false rejects 5.0 % expected, at most 14.6 % (95 %)"."""
    if rate is None or bound is None:
        return f"{kind}, n = {n}: no rate is promised"
    return f"{kind}, n = {n}: false rejects {100 * rate:.1f} % expected, at most {100 * bound:.1f} % (95 %)"
