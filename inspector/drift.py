"""Whether the parts of a line still look like those that its recipe was calibrated with, and if not, why.

Score drift is a rank test: the mean conformal p-value of the last parts, whose variance under "nothing has changed" is
known exactly (Mann and Whitney 1947). Light, focus, the camera's place and the kind of part are told apart by what can be
measured of a picture alone. numpy and OpenCV only; no clock, no thread.
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from math import log, log1p, sqrt
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from inspector.robust import mad_sigma
from inspector.types import ImageArray

SIDE_PX = 256
SHIFT_SIDE_PX = 128
WINDOW = 100
"""So many of the last parts are compared."""
MIN_PARTS = 30
"""The fewest parts that say anything. So many of the newest are also compared alone: a slow change shows there first."""
RUN_IN = 50
"""So many of the first accepted parts of a revision show how it usually looks."""
EVERY = 10
SCORE_SIGMAS = 5.0
MEASURE_SIGMAS = 6.0
MIN_EFFECT_SIGMAS = 1.0
"""A change that is surely there but smaller than the parts' own spread is not worth an alarm."""
MIN_SHIFT = 0.02
LEAST_SHIFT_SPREAD, MORE_SPREAD = 0.002, 2.5
SEARCH_PX = 19
"""A part is searched for by so much in each direction: 15 % of the picture."""
MIN_LIKENESS = 0.5
"""A correlation weaker than this says nothing about where the part lies."""
MIN_RELATIVE = {"level": 0.04, "contrast": 0.08, "detail": 0.15, "cast": 0.0}
MIN_CAST = 4.0
WRONG_NOVELTY = 0.06
WRONG_FACTOR = 6.0
WRONG_IN_A_ROW = 3
MIX_SHARES = (0.15, 0.9)
ALMOST_DARK, ALMOST_CLIPPED, ALMOST_BLURRED = 0.25, 0.4, 0.15
SAME_ASPECT = 0.05
"""The shapes of sensors (5:4, 4:3, 3:2, 16:10, 16:9) lie farther apart, a crop that was moved a little does not."""
LEAST_SCALE = 0.7
"""The modes of a camera lie a factor of 1.5 or more apart. A larger picture is no sign: references may be kept pictures,
which are made smaller."""


@dataclass(frozen=True)
class Measures:
    """What can be measured of a picture without a product.

    `level` and `contrast` are mean and spread of its grey levels, `detail` the variance of its Laplacian at 256 px,
    `clipped` the share of it that is black or white to the end of the scale, `cast` red minus blue in grey levels.
    """

    level: float
    contrast: float
    detail: float
    clipped: float
    cast: float

    @classmethod
    def of(cls, image: ImageArray) -> "Measures":
        """Measure an RGB picture `[H, W, 3]`."""
        small = _small(image)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        mean, spread = (float(value[0, 0]) for value in cv2.meanStdDev(grey))
        detail = float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_32F))[1][0, 0]) ** 2
        red, _, blue, _ = cv2.mean(small)
        clipped = float(np.count_nonzero((grey <= 1) | (grey >= 254))) / grey.size
        return cls(*(round(value, 4) for value in (mean, spread, detail, clipped, red - blue)))


def thumbnail(image: ImageArray) -> npt.NDArray[np.float32]:
    """Grey `[128, 128]`, in which shifts are measured."""
    small = cv2.resize(_small(image), (SHIFT_SIDE_PX, SHIFT_SIDE_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.float32)


def _small(image: ImageArray) -> ImageArray:
    """`[256, 256, 3]`. Pixels are skipped first: averaging all of a large picture would cost more than all the rest."""
    step = max(1, min(image.shape[:2]) // SIDE_PX)
    return np.asarray(cv2.resize(image[::step, ::step], (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA), np.uint8)


def shift(picture: npt.NDArray[np.float32], usual: npt.NDArray[np.float32]) -> tuple[float, float] | None:
    """By which fraction of width and height a thumbnail is shifted against the usual one; None if it cannot be told.

    The middle of the usual one is searched in the picture by normalised cross-correlation, to parts of a pixel: neither
    light nor focus moves its peak, and a pattern that repeats itself has edges that do not.
    """
    wanted = cv2.GaussianBlur(usual, (0, 0), 1.0)[SEARCH_PX:-SEARCH_PX, SEARCH_PX:-SEARCH_PX]
    if float(wanted.std()) < 1.0:  # nothing to search for: correlation would be that of noise
        return None
    likeness: npt.NDArray[Any] = cv2.matchTemplate(cv2.GaussianBlur(picture, (0, 0), 1.0), wanted, cv2.TM_CCOEFF_NORMED)
    _, best, _, (x, y) = cv2.minMaxLoc(likeness)
    if best < MIN_LIKENESS:
        return None
    return (
        (_summit(likeness[y], x) - SEARCH_PX) / SHIFT_SIDE_PX,
        (_summit(likeness[:, x], y) - SEARCH_PX) / SHIFT_SIDE_PX,
    )


def _summit(values: npt.NDArray[Any], place: int) -> float:
    """Where the parabola through the largest value and its neighbours has its summit."""
    if not 0 < place < len(values) - 1:
        return float(place)
    before, at, after = (float(value) for value in values[place - 1 : place + 2])
    bend = before - 2.0 * at + after
    return place + (0.5 * (before - after) / bend if bend else 0.0)


def rank_sigma(n: int, W: int) -> float:
    """Standard deviation of the mean p-value of `W` parts against `n` scores of the same kind (Mann and Whitney 1947)."""
    return sqrt((n + W + 1) / (12.0 * n * W))


@dataclass(frozen=True)
class Looks:
    """What the references of a bank look like: the measures of each, and how far it is from the nearest other one.

    `novelty` is 1 − cosine of mean patch tokens; empty for a single reference. `sizes_px` are width and height of each;
    empty where the bank does not know them.
    """

    measures: tuple[Measures, ...]
    novelty: tuple[float, ...]
    sizes_px: tuple[tuple[int, int], ...] = ()

    @property
    def wrong_novelty(self) -> float:
        """Novelty from which a part is taken for one of another product."""
        return max(WRONG_NOVELTY, WRONG_FACTOR * max(self.novelty, default=0.0))

    def misfit(self, width_px: int, height_px: int) -> str:
        """Why a camera's pictures of this size are not those that the product was taught with; empty if they may be.

        They must have the shape of a reference, and not much less of its pixels: a camera that lost its settings has not.
        """
        if not self.sizes_px or any(_of_one_kind((width_px, height_px), size) for size in self.sizes_px):
            return ""
        usual = Counter(self.sizes_px).most_common(1)[0][0]
        return (
            f"the picture has {width_px}x{height_px} px, the references {usual[0]}x{usual[1]} px; set the camera back, "
            "or teach the product anew"
        )

    def refusal(self, part: Measures) -> str:
        """Why nothing could be seen in a picture: "dark", "saturated", "blurred"; empty if it can be judged.

        Only what no good picture of the product comes near: everything milder is left to the score.
        """
        if part.level < ALMOST_DARK * min(one.level for one in self.measures):
            return "dark"
        if part.clipped > max(one.clipped for one in self.measures) + ALMOST_CLIPPED:
            return "saturated"
        if part.detail < ALMOST_BLURRED * min(one.detail for one in self.measures):
            return "blurred"
        return ""


def _of_one_kind(picture_px: tuple[int, int], reference_px: tuple[int, int]) -> bool:
    wider, higher = (now / taught for now, taught in zip(picture_px, reference_px, strict=True))
    return abs(log(wider / higher)) <= log1p(SAME_ASPECT) and sqrt(wider * higher) >= LEAST_SCALE


@dataclass(frozen=True)
class Sight:
    """One scored part as drift sees it; `shifted` is None where it cannot be told."""

    score: float
    accepted: bool
    novelty: float
    measures: Measures
    shifted: tuple[float, float] | None = None

    def record(self) -> dict[str, Any]:
        """As it is stored."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Sight":
        """Raises KeyError or TypeError if it is not such a record."""
        shifted = record["shifted"]
        place = None if shifted is None else (float(shifted[0]), float(shifted[1]))
        measures = Measures(**record["measures"])
        return cls(float(record["score"]), bool(record["accepted"]), float(record["novelty"]), measures, place)


@dataclass(frozen=True)
class Cause:
    """What has changed: `kind` is light, focus, camera, product, mix or score; `text` is for people."""

    kind: str
    text: str


@dataclass(frozen=True)
class Drift:
    """How the last `parts` compare: mean p-value of the accepted ones, and what has changed, the plainest cause first."""

    parts: int
    p_mean: float | None
    causes: tuple[Cause, ...]
    medians: dict[str, float]


class DriftMonitor:
    """Watches one recipe of one station.

    Args:
        scores: normal scores of the calibration, if they are of confirmed parts; empty: the run-in stands for them.
        threshold: accepted are scores below it; both sides of the rank test are cut there, so that a burst of defects
            is no drift.
        looks: of the references.
        usual: thumbnail of the references' mean.
        run_in: the first accepted parts of this revision, if they are known already.
    """

    def __init__(
        self,
        scores: Sequence[float],
        threshold: float,
        looks: Looks,
        usual: npt.NDArray[np.float32],
        run_in: Iterable[Sight] = (),
    ) -> None:
        self._scores = np.sort(np.asarray([score for score in scores if score < threshold]))
        self._looks = looks
        self._usual = usual
        self._run_in = [sight for sight in run_in if sight.accepted][:RUN_IN]
        self._last: deque[Sight] = deque(maxlen=WINDOW)
        self._wrong = 0
        self._since = 0
        self._pending: set[str] = set()
        self._drift = Drift(0, None, (), {})

    @property
    def run_in(self) -> tuple[Sight, ...] | None:
        """The first accepted parts, None before they are complete."""
        return tuple(self._run_in) if len(self._run_in) == RUN_IN else None

    def shift_of(self, image: ImageArray) -> tuple[float, float] | None:
        """Where a part lies against the references' mean."""
        return shift(thumbnail(image), self._usual)

    def add(self, sight: Sight) -> Drift | None:
        """Take in a part; a comparison with each tenth one, and as soon as parts of another product come."""
        self._wrong = self._wrong + 1 if sight.novelty > self._looks.wrong_novelty else 0
        if len(self._run_in) < RUN_IN:
            if sight.accepted:
                self._run_in.append(sight)
        else:
            self._last.append(sight)
        self._since += 1
        wrong = self._wrong == WRONG_IN_A_ROW
        if self._since < EVERY and not wrong:
            return None
        self._since = 0
        self._drift = self._compare()
        return self._drift

    def _compare(self) -> Drift:
        causes: list[Cause] = []
        p_mean, sigmas = self._ranks()
        medians = self._medians()
        if self._wrong >= WRONG_IN_A_ROW:
            causes.append(
                Cause(
                    "product", f"the last {self._wrong} parts look like none of the references: is it another product?"
                )
            )
        elif len(self._last) >= MIN_PARTS:
            causes += self._measured(MIN_PARTS) or self._measured(WINDOW) or self._unlike_references()
            causes += self._moved(MIN_PARTS) or self._moved(WINDOW)
            causes += self._mixed()
            if abs(sigmas) > SCORE_SIGMAS and not causes:
                way = "higher" if sigmas < 0 else "lower"
                risk = "false rejects will rise" if sigmas < 0 else "defects may score too low to be found"
                causes.append(Cause("score", f"scores of accepted parts are {way} than they were: {risk}"))
        # Twice in a row before it counts: one odd batch of parts is no drift. Another product is told at once.
        found = {cause.kind for cause in causes}
        sure = tuple(cause for cause in causes if cause.kind == "product" or cause.kind in self._pending)
        self._pending = found
        return Drift(len(self._last), p_mean, sure, medians)

    def _ranks(self) -> tuple[float | None, float]:
        """Mean conformal p-value of the last accepted parts, and by how many sigmas it is off 0.5."""
        base = self._scores if len(self._scores) >= MIN_PARTS else np.sort([sight.score for sight in self._run_in])
        seen = np.asarray([sight.score for sight in self._last if sight.accepted])
        n, W = len(base), len(seen)
        if n < MIN_PARTS or W < MIN_PARTS:
            return None, 0.0
        higher = n - np.searchsorted(base, seen, side="left")
        equal = np.searchsorted(base, seen, side="right") - np.searchsorted(base, seen, side="left")
        p_mean = float(((higher - 0.5 * equal) / n).mean())
        return p_mean, (p_mean - 0.5) / rank_sigma(n, W)

    def _medians(self) -> dict[str, float]:
        sights = list(self._last) or self._run_in
        if not sights:
            return {}
        found = {
            field.name: float(np.median([getattr(sight.measures, field.name) for sight in sights]))
            for field in fields(Measures)
        }
        found["novelty"] = float(np.median([sight.novelty for sight in sights]))
        return found

    def _measured(self, newest: int) -> list[Cause]:
        """Light and focus: the medians of what was measured of the newest parts against those of the run-in."""
        off = {name: self._change(name, newest) for name in MIN_RELATIVE}
        light = [
            name for name in ("level", "contrast", "cast") if off[name] is not None and self._matters(name, off[name])
        ]
        words = {"level": "mean grey level", "contrast": "contrast", "cast": "red minus blue", "detail": "detail"}
        if light:
            told = "; ".join(f"{words[name]} {off[name][0]:.0f}, was {off[name][1]:.0f}" for name in light)  # type: ignore[index]
            return [Cause("light", f"the light has changed: {told}")]
        detail = off["detail"]
        if detail is not None and self._matters("detail", detail):
            way = "lost" if detail[0] < detail[1] else "gained"
            share = 100 * detail[0] / max(detail[1], 1e-9)
            return [Cause("focus", f"the focus has changed: pictures have {way} detail ({share:.0f} % of what it was)")]
        return []

    def _unlike_references(self) -> list[Cause]:
        """The line as a whole does not look like the pictures that it was taught with."""
        for name, most, kind, words in (
            ("level", 1.35, "light", "mean grey level"),
            ("detail", 2.5, "focus", "detail"),
        ):
            now = float(np.median([getattr(sight.measures, name) for sight in self._last]))
            known = [getattr(one, name) for one in self._looks.measures]
            if not min(known) / most <= now <= max(known) * most:
                told = f"{words} {now:.0f}, in the references {min(known):.0f} to {max(known):.0f}"
                return [
                    Cause(kind, f"the line does not look like the references: {told}; teach it with pictures from here")
                ]
        return []

    def _change(self, name: str, newest: int) -> tuple[float, float] | None:
        """Median of a measure of the newest parts and of the run-in, if they surely differ."""
        now = np.asarray([getattr(sight.measures, name) for sight in self._last][-newest:])
        before = np.asarray([getattr(sight.measures, name) for sight in self._run_in])
        spread = max(mad_sigma(before), 1e-3)
        error = 1.25 * spread * sqrt(1.0 / len(now) + 1.0 / len(before))  # of a difference of medians
        apart = abs(float(np.median(now) - np.median(before)))
        if apart < MEASURE_SIGMAS * error or apart < MIN_EFFECT_SIGMAS * spread:
            return None
        return float(np.median(now)), float(np.median(before))

    @staticmethod
    def _matters(name: str, change: tuple[float, float] | None) -> bool:
        if change is None:
            return False
        apart = abs(change[0] - change[1])
        return apart > (MIN_CAST if name == "cast" else MIN_RELATIVE[name] * abs(change[1]))

    def _moved(self, newest: int) -> list[Cause]:
        """The camera: all of the newest parts lie elsewhere, by the same way."""
        now = np.asarray([sight.shifted for sight in self._last if sight.shifted is not None][-newest:])
        before = np.asarray([sight.shifted for sight in self._run_in if sight.shifted is not None])
        if len(now) < MIN_PARTS or len(before) < MIN_PARTS:
            return []
        apart = np.median(now, axis=0) - np.median(before, axis=0)
        usual = np.maximum([mad_sigma(before[:, axis]) for axis in (0, 1)], LEAST_SHIFT_SPREAD)
        spread = np.asarray([mad_sigma(now[:, axis]) for axis in (0, 1)])
        together = spread < MORE_SPREAD * usual  # else the parts lie anywhere now, which is no moved camera
        sure = (np.abs(apart) > MIN_SHIFT) & (np.abs(apart) > 2.0 * usual) & together
        if not sure.any():
            return []
        x, y = (100 * float(value) for value in apart)
        return [
            Cause(
                "camera",
                f"the camera or the fixture has moved: all parts lie {x:+.1f} % of the width, {y:+.1f} % of the height off",
            )
        ]

    def _mixed(self) -> list[Cause]:
        """Some parts are of another kind, others are not."""
        share = float(np.mean([sight.novelty > self._looks.wrong_novelty for sight in self._last]))
        if not MIX_SHARES[0] <= share <= MIX_SHARES[1]:
            return []
        return [Cause("mix", f"{100 * share:.0f} % of the parts look like none of the references: are parts mixed?")]
