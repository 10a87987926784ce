"""Finds a part against a template and brings its picture to the template's place: a fixture without a fixture.

The template is the mean of the aligned references, grey. A part is searched by normalised cross-correlation in steps of its
turn, and then placed to parts of a pixel by maximising the enhanced correlation coefficient (Evangelidis and Psarakis 2008,
`cv2.findTransformECC`). Neither sees how bright a picture is. numpy and OpenCV only.

Places are those of the template: `matrix` leads from there to the camera's picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from inspector.detection.calibration import robust_limit
from inspector.detection.variations import variations
from inspector.errors import CalibrationError
from inspector.types import Align, Box, Fit, ImageArray, MapArray, Placement

Matrix = npt.NDArray[np.float64]
Grey = npt.NDArray[np.float32]

SIDE_PX = 160
"""Longer side at which a part is placed; half of it where it is searched."""
TURN_STEP_DEG = 6.0
BEYOND_SHIFT, BEYOND_TURN_DEG = 0.08, 9.0
"""So much farther than a part may lie it is searched, so that one that lies too far off can be told from none."""
BLUR_SIGMA_PX = 1.0
ECC_BLUR_PX = 5
ECC_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-4)
LEAST_UNLIKE, LEAST_LIMIT = 0.1, 0.25
"""References that are all but the same say little of what a good part may lack; below the limit anything could be found."""
AS_GOOD = 0.05
LEAST_CONTRAST = 2.0
"""Standard deviation in grey levels; a template with less has nothing to be found by."""
COPIES = 8
SEEN_SHARE = 0.98
"""So much of an inspected region of interest must lie in the camera's picture."""
FINE = (4096, 4096)
STEPS, EDGE, SEAM = np.linspace(0.0, 1.0, 21), 0.003, 0.03
NOWHERE = Placement(0.0, 0.0, 0.0, -1.0)


@dataclass(frozen=True, eq=False)
class _Coarse:
    """The best place of a template at one turn; `matrix` leads from it to the picture."""

    turn_deg: float
    likeness: float
    matrix: Matrix


@dataclass(frozen=True, eq=False)
class Fixture:
    """`template` is grey `[h, w]`, its longer side 160 px; parts less like it than `limit` are not found."""

    align: Align
    template: Grey
    limit: float

    def best(self, image: ImageArray, name: str) -> Placement:
        """Where a part lies, no matter how far off.

        Raises:
            CalibrationError: it is not found.
        """
        found = self._searched(image)
        if found.likeness < self.limit:
            raise CalibrationError(f"{name} cannot be aligned: {self._judged(found).reason}")
        return found

    @classmethod
    def learn(
        cls, align: Align, images: Sequence[ImageArray], names: Sequence[str]
    ) -> tuple["Fixture", tuple[Placement, ...]]:
        """A fixture from references, and where each of them lies.

        What a part may lack of full likeness is half-way, by ratio, between what references lack at most, each against the
        mean of the others, and all of it. A single reference is compared with mild variations of itself.

        Raises:
            CalibrationError: nothing to be found by, or references that are not alike, or that lie too far off.
        """
        first = _grey(images[0], _size_px(images[0]))
        start = cls(align, first, -1.0)
        start._refuse_plain(names[0])
        rough = [start._searched(image) for image in images]
        views = [start._view(image, place) for image, place in zip(images, rough, strict=True)]
        mean = cls(align, np.asarray(np.mean(views, axis=0), np.float32), -1.0)
        alike = mean._likenesses(images, views)
        unlike = max(robust_limit(1.0 - np.asarray(alike), len(images)), LEAST_UNLIKE)
        fixture = replace(mean, limit=1.0 - sqrt(min(unlike, 1.0)))
        if fixture.limit < LEAST_LIMIT:
            raise CalibrationError(_too_unlike(names, alike))
        found = tuple(fixture._judged(fixture._searched(image)) for image in images)
        for name, place in zip(names, found, strict=True):
            if place.fit is not Fit.FOUND:
                raise CalibrationError(
                    f"the reference {name} cannot be aligned with the first one: {place.reason}; leave it out, or allow more"
                )
        return fixture, found

    def place(self, image: ImageArray, inspected: Sequence[tuple[str, Box]] = ()) -> Placement:
        """Where the part of a picture lies; `inspected` are the regions, by name, that must be seen in full."""
        found = self._judged(self._searched(image))
        if found.fit is Fit.FOUND:
            matrix = self.matrix(found, *FINE)
            for name, box in inspected:
                if _seen_share(matrix, box) < SEEN_SHARE:
                    reason = f"the region {name!r} does not lie in the picture, for the part {_words(found)}"
                    return replace(found, fit=Fit.AWAY, reason=reason)
        return found

    def matrix(self, place: Placement, width_px: int, height_px: int) -> Matrix:
        """`[2, 3]`: from a place of the template to that of a picture, both `width_px` × `height_px`."""
        h, w = self.template.shape
        left, top, wide, high = self.align.found_by
        centre = np.array([(left + wide / 2) * w, (top + high / 2) * h])
        turn = np.deg2rad(place.turn_deg)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        shift = np.array([place.shift_x * w, place.shift_y * h])
        offset = centre + shift - rotation @ centre
        stretch = np.array([width_px / w, height_px / h])
        linear = rotation * stretch[:, None] / stretch[None, :]
        moved = offset * stretch
        return np.column_stack([linear, moved + linear @ (0.5, 0.5) - (0.5, 0.5)])  # a pixel's centre lies at its half

    def aligned(self, image: ImageArray, place: Placement) -> ImageArray:
        """The picture as it would be with the part in the template's place; what it does not show is mirrored at its edge."""
        height_px, width_px = image.shape[:2]
        return np.asarray(_fetched(image, self.matrix(place, width_px, height_px), cv2.BORDER_REFLECT), np.uint8)

    def seen(self, place: Placement, grid_hw: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """`[gh·gw]`: which patches of an aligned picture the camera's picture shows.

        Along an edge behind which it shows nothing, a strip as wide as what is missing (3 % at most) does not count either:
        tokens there are half of what was mirrored.
        """
        gh, gw = grid_hw
        x, y = np.meshgrid((np.arange(gw) + 0.5) / gw, (np.arange(gh) + 0.5) / gh)
        there = _moved(self.matrix(place, *FINE), x.ravel(), y.ravel())
        inside = np.ones(gh * gw, bool)
        for depth in (there[0], 1.0 - there[0], there[1], 1.0 - there[1]):
            missing = max(0.0, -float(depth.min()))
            inside &= depth >= min(missing, SEAM)
        return inside

    def back(self, anomaly_map: MapArray, place: Placement) -> MapArray:
        """The map of an aligned picture, laid over the camera's; the lowest value where nothing was inspected."""
        high, wide = anomaly_map.shape
        matrix, least = self.matrix(place, wide, high), float(anomaly_map.min())
        return np.asarray(
            cv2.warpAffine(anomaly_map, matrix, (wide, high), flags=cv2.INTER_LINEAR, borderValue=(least,)), np.float32
        )

    def to_template(self, box: Box, place: Placement) -> Box:
        """A box of the camera's picture, in the aligned one: what encloses it, cut to the picture."""
        return _enclosing(cv2.invertAffineTransform(self.matrix(place, *FINE)), box)

    def to_picture(self, box: Box, place: Placement) -> Box:
        """A small box of an aligned picture, in the camera's: of the same size, moved and not turned, within the picture."""
        left, top, wide, high = box
        x, y = _moved(self.matrix(place, *FINE), left + wide / 2, top + high / 2)
        return (
            min(max(float(x) - wide / 2, 0.0), 1.0 - wide),
            min(max(float(y) - high / 2, 0.0), 1.0 - high),
            wide,
            high,
        )

    def point_in_template(self, x: float, y: float, place: Placement) -> tuple[float, float]:
        """A point of the camera's picture, in the aligned one; both as fractions."""
        there = _moved(cv2.invertAffineTransform(self.matrix(place, *FINE)), x, y)
        return float(there[0]), float(there[1])

    def _refuse_plain(self, name: str) -> None:
        contrast = float(self._wanted(self.template).std())
        if contrast < LEAST_CONTRAST:
            raise CalibrationError(
                f"the reference {name} shows nothing that a part could be found by where it is looked for (contrast "
                f"{contrast:.1f} grey levels, at least {LEAST_CONTRAST:g} are needed); build without alignment, or give the "
                "box where the part lies"
            )

    def _likenesses(self, images: Sequence[ImageArray], views: Sequence[Grey]) -> list[float]:
        """Of each reference with the mean of the others' `views`; of a single one's variations with itself."""
        if len(images) == 1:
            return [self._searched(copy).likeness for copy in variations(images[0], COPIES, 0)]
        found = []
        for at, image in enumerate(images):
            others = np.mean([*views[:at], *views[at + 1 :]], axis=0)
            found.append(replace(self, template=np.asarray(others, np.float32))._searched(image).likeness)
        return found

    def _wanted(self, template: Grey) -> Grey:
        """What is searched: the template's box."""
        h, w = template.shape
        left, top, wide, high = self.align.found_by
        return template[round(top * h) : round((top + high) * h), round(left * w) : round((left + wide) * w)]

    def _judged(self, place: Placement) -> Placement:
        if place.likeness < self.limit:
            reason = f"no part was found: likeness {max(place.likeness, 0.0):.2f}, at least {self.limit:.2f} is needed"
            return replace(place, fit=Fit.NOT_FOUND, reason=reason)
        shift, turn = max(abs(place.shift_x), abs(place.shift_y)), abs(place.turn_deg)
        if shift > self.align.max_shift or turn > self.align.max_turn_deg:
            allowed = f"{100 * self.align.max_shift:.0f} % and {self.align.max_turn_deg:.0f}° are allowed"
            return replace(place, fit=Fit.AWAY, reason=f"the part {_words(place)}; {allowed}")
        return place

    def _searched(self, image: ImageArray) -> Placement:
        """Where the template fits best; likeness -1 where it fits nowhere.

        A part that looks the same turned by some angle (a gear) is taken to be turned by less, if it fits nearly as well.
        """
        grey = _grey(image, self.template.shape[::-1])
        coarse = self._coarse(grey)
        best = self._refined(grey, max(coarse, key=lambda one: one.likeness).matrix)
        if abs(best.turn_deg) <= self.align.max_turn_deg:
            return best
        within = [one for one in coarse if abs(one.turn_deg) <= self.align.max_turn_deg]
        other = self._refined(grey, max(within, key=lambda one: one.likeness).matrix)
        allowed = abs(other.turn_deg) <= self.align.max_turn_deg
        return other if allowed and other.likeness >= best.likeness - AS_GOOD else best

    def _coarse(self, grey: Grey) -> "list[_Coarse]":
        """The best place at each turn, to a few degrees and pixels."""
        template, picture = _halved(self.template), _halved(grey)
        h, w = template.shape
        wanted = self._wanted(template)
        reach = self.align.max_shift + BEYOND_SHIFT
        more_x, more_y = round(reach * w), round(reach * h)
        top, left = (round(part * side) for part, side in zip(self.align.found_by[1::-1], (h, w), strict=True))
        size_px = (wanted.shape[1] + 2 * more_x, wanted.shape[0] + 2 * more_y)
        found = []
        for turn in self._turns():
            matrix = np.asarray(cv2.getRotationMatrix2D(((w - 1) / 2, (h - 1) / 2), -turn, 1.0), np.float64)
            window = matrix.copy()
            window[:, 2] += matrix[:, :2] @ (left - more_x, top - more_y)
            view = _fetched(picture, window, cv2.BORDER_REPLICATE, size_px)
            _, likeness, _, (x, y) = cv2.minMaxLoc(cv2.matchTemplate(view, wanted, cv2.TM_CCOEFF_NORMED))
            matrix[:, 2] += matrix[:, :2] @ (x - more_x, y - more_y)
            matrix[:, 2] = 2.0 * matrix[:, 2] + 0.5 - matrix[:, :2] @ (0.5, 0.5)  # at twice the size
            found.append(_Coarse(turn, likeness, matrix))
        return found

    def _turns(self) -> list[float]:
        """Turns that are tried, 0 among them."""
        most = min(self.align.max_turn_deg + BEYOND_TURN_DEG, 180.0)
        steps = int(np.ceil(most / TURN_STEP_DEG))
        return [most * step / steps for step in range(-steps, steps + 1)]

    def _refined(self, grey: Grey, start: Matrix) -> Placement:
        h, w = self.template.shape
        left, top, wide, high = self.align.found_by
        corner = np.array([round(left * w), round(top * h)])
        begin = start.astype(np.float32)
        begin[:, 2] = start @ (*corner, 1.0)
        everywhere = np.ones(grey.shape, np.uint8)
        try:
            likeness, moved = cv2.findTransformECC(
                self._wanted(self.template), grey, begin, cv2.MOTION_EUCLIDEAN, ECC_STOP, everywhere, ECC_BLUR_PX
            )
        except cv2.error:  # it says so by an error that template and picture have nothing in common there
            return NOWHERE
        found = np.asarray(moved, np.float64)
        centre = np.array([(left + wide / 2) * w, (top + high / 2) * h])  # of pixels' edges
        inside = centre - 0.5 - corner
        there = found[:, :2] @ inside + found[:, 2] + 0.5
        shift = (there - centre) / (w, h)
        turn = float(np.rad2deg(np.arctan2(found[1, 0], found[0, 0])))
        if not np.isfinite([*shift, turn, likeness]).all():
            return NOWHERE
        return Placement(float(shift[0]), float(shift[1]), turn, float(likeness))

    def _view(self, image: ImageArray, place: Placement) -> Grey:
        """The grey picture at the template's size, aligned."""
        h, w = self.template.shape
        grey = _grey(image, (w, h))
        return np.asarray(_fetched(grey, self.matrix(place, w, h), cv2.BORDER_REFLECT), np.float32)


def _words(place: Placement) -> str:
    return f"lies {100 * place.shift_x:+.1f} % and {100 * place.shift_y:+.1f} % off, turned by {place.turn_deg:+.1f}°"


def _too_unlike(names: Sequence[str], alike: Sequence[float]) -> str:
    worst = int(np.argmin(alike))
    return (
        f"the references are too unlike to be aligned: {names[worst]} has a likeness of {max(alike[worst], 0.0):.2f} with "
        "the others in its best place, which is too little to tell a part from none; leave it out, or build without alignment"
    )


def _moved(matrix: npt.NDArray[Any], x: Any, y: Any) -> tuple[Any, Any]:
    """Points, as fractions, through a matrix of pictures of `FINE` size."""
    there = matrix[:, :2] @ np.stack([FINE[0] * x - 0.5, FINE[1] * y - 0.5])
    return (there[0] + matrix[0, 2] + 0.5) / FINE[0], (there[1] + matrix[1, 2] + 0.5) / FINE[1]


def _enclosing(matrix: npt.NDArray[Any], box: Box) -> Box:
    left, top, wide, high = box
    corners = [_moved(matrix, x, y) for x in (left, left + wide) for y in (top, top + high)]
    xs, ys = (np.clip([corner[axis] for corner in corners], 0.0, 1.0) for axis in (0, 1))
    return float(xs.min()), float(ys.min()), float(np.ptp(xs)), float(np.ptp(ys))


def _seen_share(matrix: Matrix, box: Box) -> float:
    """How much of a box, as fractions, lies in the picture; `matrix` is that of pictures of `FINE` size."""
    left, top, wide, high = box
    x, y = np.meshgrid(left + wide * STEPS, top + high * STEPS)
    there = np.stack(_moved(matrix, x.ravel(), y.ravel()))
    return float((np.abs(there - 0.5) <= 0.5 + EDGE).all(axis=0).mean())


def _size_px(image: ImageArray) -> tuple[int, int]:
    """Width and height of the template of a picture."""
    height_px, width_px = image.shape[:2]
    scale = SIDE_PX / max(height_px, width_px)
    return max(16, round(width_px * scale)), max(16, round(height_px * scale))


def _grey(image: ImageArray, size_px: tuple[int, int]) -> Grey:
    """Grey, at this width and height. Pixels of large pictures are skipped first, as `inspector.drift` does."""
    step = max(1, min(image.shape[1] // (2 * size_px[0]), image.shape[0] // (2 * size_px[1])))
    small = cv2.resize(image[::step, ::step], size_px, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.float32)


def _halved(grey: Grey) -> Grey:
    half = cv2.resize(grey, (grey.shape[1] // 2, grey.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(half, (0, 0), BLUR_SIGMA_PX), np.float32)


def _fetched(
    picture: npt.NDArray[Any], matrix: Matrix, border: int, size_px: tuple[int, int] | None = None
) -> npt.NDArray[Any]:
    """A picture whose pixel p is that at `matrix` · p of another one; of its size, unless told."""
    high, wide = picture.shape[:2]
    found: npt.NDArray[Any] = cv2.warpAffine(
        picture, matrix, size_px or (wide, high), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=border
    )
    return found
