"""The staircase of the method: pictures in, one `Inspection` each out. The only scoring path of the product.

`inspector score`, the worker and the calibration all come through `Detector`, so the number is the same everywhere.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite, nan

import numpy as np
import torch
from torch import Tensor

from inspector.detection import lessons, scoring
from inspector.detection.bank import Progress, ResidualBank
from inspector.detection.calibration import calibrate, calibrate_confirmed, decide, robust_limit
from inspector.detection.encoder import Encoder
from inspector.detection.explanation import explain
from inspector.detection.golden import Golden, check_golden, golden_picture
from inspector.detection.matching import ReferencePatches, matched_residuals, prepared
from inspector.detection.novelty import features, novelty
from inspector.detection.regions import find_regions
from inspector.detection.rois import WHOLE, Layout
from inspector.detection.tiling import chosen, tiled
from inspector.detection.towers import Tokens
from inspector.detection.variations import variations
from inspector.errors import BankError, BankMismatchError, CalibrationError
from inspector.mutual import Mutual, mutual
from inspector.robust import PRIOR_FRACTION
from inspector.types import (
    Align,
    Calibration,
    Fit,
    ImageArray,
    Inspection,
    MapArray,
    Placement,
    Region,
    Roi,
    ScoreParts,
    Tiles,
    Verdict,
    check_image,
)

__all__ = ["Detector", "Progress", "mutual_of"]

VARIATIONS = 8
SINGLE_STRENGTH = 3.0
"""A single reference is varied more: another part differs from it by more than its own picture would."""
VARIED = "a mild variation of a reference"
GAP_OTHERS = 16
"""So many other references tell what a reference lacks; more would cost time with the square of their number."""
FEW_REFERENCES = 3
"""Below this many references, leave-one-out alone says nothing about spread; mild variations join it."""


class Detector:
    """An encoder with one product's calibrated bank; immutable, so a batch can hold on to it."""

    def __init__(self, encoder: Encoder, bank: ResidualBank) -> None:
        if bank.calibration is None or bank.pixel_threshold is None:
            raise CalibrationError("this bank has no calibration; build the product again from its references")
        if bank.encoder_fingerprint != encoder.fingerprint:
            raise BankMismatchError(
                f"the bank was built by {bank.encoder_name} ({bank.encoder_fingerprint[:12]}), but {encoder.name} "
                f"({encoder.fingerprint[:12]}) is loaded; build the product again"
            )
        self._base = encoder
        self.encoder = encoder = tiled(encoder, bank.tiles)
        self.bank = bank
        self._references = _prepared(encoder, bank)
        self._features = features(bank.taps)
        self._layout = Layout.of(bank.rois, encoder.canvas.size_hw, encoder.device)
        self.looks = bank.looks
        """What the references look like."""
        self.calibration: Calibration = bank.calibration
        self._pixel_threshold: float = bank.pixel_threshold
        self.mutual: tuple[Mutual, ...] = ()
        """How the references scored against each other; only of a detector that was just built, with K > 1."""

    @classmethod
    def from_references(
        cls,
        encoder: Encoder,
        images: Sequence[ImageArray],
        *,
        names: Sequence[str] | None = None,
        progress: Progress | None = None,
        prior: float = PRIOR_FRACTION,
        taught: Sequence[lessons.Marked] = (),
        rois: Sequence[Roi] = (),
        align: Align | None = None,
        tiles: Tiles | None = None,
    ) -> "Detector":
        """Build a bank from normal pictures and calibrate it provisionally.

        `prior` is the relative spread of normal scores that other products of the station showed, `taught` what people
        marked as defects to look out for and as marks to tolerate, `rois` where alone, and how strictly, it is inspected,
        `align` that each part is brought to where the first reference lies before, `tiles` that it is seen in tiles.

        With K > 1 the first K scores of the calibration are those of the references, each against all others.
        """
        say = progress or (lambda fraction, message: None)
        tiles = chosen(tiles, images[0], encoder.image_size) if images else None
        plain, encoder = encoder, tiled(encoder, tiles)
        bank = ResidualBank.build(
            encoder, images, names, align=align, progress=lambda done, message: say(0.3 * done, message)
        )
        bank = replace(bank, tiles=tiles)
        if taught:
            say(0.3, "learning from what was marked")
            bank = replace(bank, lessons=_lessons(encoder, bank, taught, images))
        seen = _leave_one_out(encoder, bank, say) if len(images) > 1 else []
        say(0.8, "comparing the references with each other")
        among = _mutual(encoder, bank, seen)
        if len(images) < FEW_REFERENCES:
            say(0.9, "scoring mild variations of the references")
            seen += _scored_variations(encoder, bank, images)
        layout = Layout.of(rois, encoder.canvas.size_hw, encoder.device)
        if layout is None:
            values = [float(value) for scores in seen for value in scores.image]
            scale = float(np.median([float(value) for scores in seen for value in scores.parts["visual_map"]]))
        else:
            bank = replace(bank, rois=tuple(rois), roi_scales=layout.usual([scores.maps for scores in seen]))
            values = [float(one) for scores in seen for one in layout.scaled(scores.maps, bank.roi_scales).amax(dim=1)]
            scale = float(np.median(values))
        peaks = [float(value) for scores in seen for value in scores.maps.amax(dim=(1, 2))]
        calibration = calibrate(values, len(images), scale=scale, prior=prior)
        limit = robust_limit(np.asarray(peaks), len(images), scale=float(np.median(np.abs(peaks))))
        detector = cls(plain, replace(bank, calibration=calibration, pixel_threshold=limit))
        golden = detector._golden(images[0])
        say(1.0, "calibrated")
        built = cls(plain, replace(detector.bank, golden=golden))
        built.mutual = among
        return built

    @property
    def threshold(self) -> float:
        """Raw anomaly score from which a part is NG."""
        return self.calibration.threshold

    @property
    def pixel_threshold(self) -> float:
        """Raw level of the anomaly map that normal pictures stay below."""
        return self._pixel_threshold

    def inspect(self, images: Sequence[ImageArray]) -> list[Inspection]:
        """Inspect RGB uint8 pictures of any size; same order, same length.

        What is no picture, or gives no finite score, is NONE with score nan; the others of its batch are not touched.

        Raises:
            EncoderError: not even one picture fits into the device's memory.
        """
        usable = [number for number, image in enumerate(images) if _is_image(image)]
        inspections = [self._unscored() for _ in images]
        found = self.encoder.limit.run(self._inspected, [images[number] for number in usable])
        for number, inspection in zip(usable, found, strict=True):
            inspections[number] = inspection
        return inspections

    def judge(
        self, tokens: Tokens, sizes_hw: Sequence[tuple[int, int]], places: Sequence[Placement] = ()
    ) -> list[Inspection]:
        """Inspect pictures that `encoder.encode` has been through; `sizes_hw` are their heights and widths in px.

        Of a bank with a fixture they have been aligned, and `places` is where each part lay.
        """
        if len(places) != (0 if self.bank.fixture is None else len(sizes_hw)):
            raise BankError(
                f"{len(places)} places for {len(sizes_hw)} pictures; aligned banks need one each, others none"
            )
        scores = _score(self.encoder, self.bank, self._references, tokens, places)
        values = {name: value.tolist() for name, value in scores.parts.items()}
        images, maps = scores.image.tolist(), scores.maps.cpu().numpy()
        by_roi: list[list[float]] = [[]] * len(sizes_hw)
        if self._layout is not None:
            by_roi = self._layout.scaled(scores.maps, self.bank.roi_scales).tolist()
            images = [max(ratios) for ratios in by_roi]
        with torch.inference_mode():
            novel = novelty(features(tokens.taps), self._features).tolist()
        inspections = []
        for place, size_hw in enumerate(sizes_hw):
            placement = places[place] if places else None
            finite = isfinite(images[place]) and bool(np.isfinite(maps[place]).all())
            score = images[place] if finite else nan
            verdict = decide(score, self.threshold, self.calibration.reject_threshold)
            regions: tuple[Region, ...] = ()
            if verdict in (Verdict.NG, Verdict.UNDECIDED):
                rows = tuple(tap[place] for tap in tokens.taps)
                regions = self._regions(maps[place], rows, size_hw, placement)
            parts = ScoreParts(**{name: value[place] for name, value in values.items()})
            contributions = parts.contributions(scores.residual_weight) if self._layout is None else {}
            rois = tuple(ratio / self.threshold for ratio in by_roi[place])
            inspections.append(
                Inspection(
                    score,
                    self.threshold,
                    verdict,
                    parts,
                    self._in_picture(maps[place], placement),
                    regions,
                    contributions,
                    novelty=novel[place],
                    rois=rois,
                    placement=placement,
                )
            )
        return inspections

    def recalibrated(
        self, scores: Sequence[float], *, target: float | None = None, grey: float = 0.0, above: int = 0
    ) -> "Detector":
        """The same bank with a threshold from parts that were confirmed good; see `calibrate_confirmed`.

        `scores` must be of this bank: a threshold of another bank, precision or image size means nothing here.

        Raises:
            CalibrationError: too few scores for the wish.
        """
        calibration = calibrate_confirmed(scores, target=target, grey=grey, above=above)
        return Detector(self._base, replace(self.bank, calibration=calibration))

    def without(self, index: int) -> "Detector":
        """The same threshold with a bank that lacks one reference: how the detector would see that reference's part."""
        return Detector(self._base, self.bank.without(index))

    def without_lessons(self) -> "Detector":
        """The same threshold with a bank that was taught nothing: what lessons changed is the difference."""
        return Detector(self._base, replace(self.bank, lessons=()))

    def self_test(self, batch: int = 1) -> None:
        """Score the bank's golden picture alone and in a batch; this also warms the device up.

        Raises:
            EncoderMismatchError: it does not score what it scored when the bank was built.
        """
        if self.bank.golden is None:
            raise CalibrationError("this bank has no golden picture; build the product again from its references")
        check_golden(self.inspect, self.bank.golden, self.encoder.precision, batch)

    def _inspected(self, images: Sequence[ImageArray]) -> list[Inspection]:
        """All pictures in one pass; parts that are not where they may lie are not scored."""
        fixture = self.bank.fixture
        if fixture is None:
            return self.judge(self.encoder.encode(images), _sizes_hw(images))
        inspected = (
            [] if self._layout is None else [(roi.name, roi.box) for roi in self._layout.inspected if roi != WHOLE]
        )
        places = [fixture.place(image, inspected) for image in images]
        there = [number for number, place in enumerate(places) if place.fit is Fit.FOUND]
        inspections = [self._unscored(place) for place in places]
        if there:
            views = [fixture.aligned(images[number], places[number]) for number in there]
            found = self.judge(self.encoder.encode(views), _sizes_hw(views), [places[number] for number in there])
            for number, inspection in zip(there, found, strict=True):
                inspections[number] = inspection
        return inspections

    def _inspected_part(self, anomaly_map: MapArray) -> MapArray:
        """The map with nothing where nothing is inspected."""
        if self._layout is None:
            return anomaly_map
        return np.where(self._layout.inside, anomaly_map, np.float32(anomaly_map.min()))

    def _golden(self, reference: ImageArray) -> Golden:
        """The golden picture, with what it scores."""
        picture = golden_picture(reference, upright=self.bank.fixture is not None)
        found = self.inspect([picture])[0]
        if not isfinite(found.score):
            reason = "it has no finite score" if found.placement is None else found.placement.reason
            raise CalibrationError(f"the golden picture, drawn from the first reference, cannot be scored: {reason}")
        return Golden(picture, found.score, float(found.anomaly_map.max()))

    def _in_picture(self, anomaly_map: MapArray, placement: Placement | None) -> MapArray:
        """The map as it lies over the camera's picture."""
        if self.bank.fixture is None or placement is None or not np.isfinite(anomaly_map).all():
            return anomaly_map
        return self.bank.fixture.back(anomaly_map, placement)

    def _regions(
        self, anomaly_map: MapArray, rows: tuple[Tensor, ...], size_hw: tuple[int, int], placement: Placement | None
    ) -> tuple[Region, ...]:
        """Where a part is bad, in the camera's picture, and what it was compared with there."""
        shown = self._in_picture(self._inspected_part(anomaly_map), placement)
        tiles = 1 if self.bank.tiles is None else self.bank.tiles.rows * self.bank.tiles.columns
        found = find_regions(shown, self._pixel_threshold, size_hw, tiles)
        return tuple(self._with_matches(region, rows, size_hw, placement) for region in found)

    def _with_matches(
        self, region: Region, rows: tuple[Tensor, ...], size_hw: tuple[int, int], placement: Placement | None
    ) -> Region:
        place, fixture = (region.peak_x_px / size_hw[1], region.peak_y_px / size_hw[0]), self.bank.fixture
        if fixture is None or placement is None:
            return replace(region, matches=explain(rows, self._references, self.encoder.taps, place))
        found = explain(rows, self._references, self.encoder.taps, fixture.point_in_template(*place, placement))
        matches = tuple(
            replace(
                match,
                patch=fixture.to_picture(match.patch, placement),
                reference_patch=fixture.to_picture(match.reference_patch, self.bank.places[match.reference]),
            )
            for match in found
        )
        return replace(region, matches=matches)

    def _unscored(self, placement: Placement | None = None) -> Inspection:
        blank = np.full(self.encoder.canvas.size_hw, nan, np.float32)
        return Inspection(nan, self.threshold, Verdict.NONE, ScoreParts(nan), blank, placement=placement)


def _sizes_hw(images: Sequence[ImageArray]) -> list[tuple[int, int]]:
    return [(image.shape[0], image.shape[1]) for image in images]


def _is_image(image: ImageArray) -> bool:
    try:
        check_image(image)
    except (ValueError, AttributeError):  # AttributeError: not even an array
        return False
    return True


def _prepared(encoder: Encoder, bank: ResidualBank) -> tuple[ReferencePatches, ...]:
    """The bank's references, laid out for the search in the encoder's precision."""
    return tuple(
        prepared(references, grid, encoder.matching, encoder.dtype)
        for references, grid in zip(bank.taps, encoder.grids, strict=True)
    )


def _residuals(references: tuple[ReferencePatches, ...], tokens: Tokens) -> tuple[Tensor, ...]:
    """Of a batch against the references, `[B, N_l, D_l]` per tap."""
    return tuple(matched_residuals(queries, patches) for queries, patches in zip(tokens.taps, references, strict=True))


def _score(
    encoder: Encoder,
    bank: ResidualBank,
    references: tuple[ReferencePatches, ...],
    tokens: Tokens,
    places: Sequence[Placement] = (),
) -> scoring.Scores:
    """Tokens of a batch against a bank; what the camera does not show of aligned pictures differs from nothing."""
    with torch.inference_mode():
        residuals = _residuals(references, tokens)
        if bank.fixture is not None:
            seen = [np.stack([bank.fixture.seen(place, grid) for place in places]) for grid in encoder.grids]
            residuals = tuple(
                rows * torch.from_numpy(there).to(rows.device)[..., None]
                for rows, there in zip(residuals, seen, strict=True)
            )
        gains = tuple(lessons.gains(bank.lessons, residuals, encoder.grids)) if bank.lessons else None
        evidence = scoring.Evidence(residuals=residuals, grids=encoder.grids, gains=gains)
        mean_global = bank.mean_global
        if encoder.text_residual is not None and tokens.global_token is not None and mean_global is not None:
            evidence = replace(
                evidence,
                tokens=tokens.joint,
                global_token=tokens.global_token,
                global_residual=tokens.global_token - mean_global,
            )
        return scoring.score(evidence, encoder.text_residual, encoder.canvas, encoder.adapters)


def _leave_one_out(encoder: Encoder, bank: ResidualBank, say: Progress) -> list[scoring.Scores]:
    """Each reference against all others; nothing is encoded again."""
    count = len(bank.references)
    seen = []
    for index in range(count):
        say(0.3 + 0.5 * index / count, f"leaving out reference {index + 1} of {count}")
        rest = bank.without(index)
        references, places = _prepared(encoder, rest), bank.places[index : index + 1]
        seen.append(_score(encoder, rest, references, _tokens_of(bank, [index]), places))
    return seen


def _lessons(
    encoder: Encoder, bank: ResidualBank, taught: Sequence[lessons.Marked], images: Sequence[ImageArray]
) -> tuple[lessons.Lesson, ...]:
    """What marked pictures teach, by their residuals against the bank, beside the normal ones of the references.

    Normal is each reference against all others, or variations of the only one against it.
    """
    with torch.inference_mode():
        if len(images) > 1:
            rests = [(bank.without(index), _tokens_of(bank, [index])) for index in range(len(images))]
        else:
            copies, _ = _views(bank, variations(images[0], VARIATIONS, 0, SINGLE_STRENGTH), VARIED)
            rests = [(bank, encoder.encode(copies))]
        found = [_residuals(_prepared(encoder, rest), tokens) for rest, tokens in rests]
        normal = [torch.cat([rows[tap] for rows in found]) for tap in range(len(encoder.taps))]
        references = _prepared(encoder, bank)
        found_lessons = []
        for marked in taught:
            views, places = _views(bank, [marked.image], f"the picture of label {marked.label}")
            if bank.fixture is not None:
                marked = replace(marked, region=bank.fixture.to_template(marked.region, places[0]))  # noqa: PLW2901
            rows = [tap[0] for tap in _residuals(references, encoder.encode(views))]
            found_lessons.append(lessons.learn(marked, rows, normal, encoder.grids))
        return tuple(found_lessons)


def _views(bank: ResidualBank, images: Sequence[ImageArray], name: str) -> tuple[list[ImageArray], list[Placement]]:
    """The pictures as the encoder gets them, and where their parts lie, if they are aligned.

    Raises:
        CalibrationError: a part is not found; `name` is of what.
    """
    if bank.fixture is None:
        return list(images), []
    places = [bank.fixture.best(image, name) for image in images]
    return [bank.fixture.aligned(image, place) for image, place in zip(images, places, strict=True)], places


def mutual_of(encoder: Encoder, bank: ResidualBank) -> tuple[Mutual, ...]:
    """How the references of a bank, calibrated or not, score against each other; nothing for a single one."""
    seen = _leave_one_out(encoder, bank, lambda *_: None) if len(bank.references) > 1 else []
    return _mutual(encoder, bank, seen)


def _mutual(encoder: Encoder, bank: ResidualBank, seen: Sequence[scoring.Scores]) -> tuple[Mutual, ...]:
    """Of what each reference scored against all others, if there are others."""
    if not seen:
        return ()
    maps = torch.cat([scores.maps for scores in seen]).float().cpu().numpy()  # [K, S, S]
    gaps = np.stack([_gap(encoder, bank, index) for index in range(len(seen))])
    return mutual([float(scores.image[0]) for scores in seen], maps, gaps)


def _gap(encoder: Encoder, bank: ResidualBank, index: int) -> MapArray:
    """Where the other references show what reference `index` shows nowhere: `[S, S]`, median of their maps against it.

    Of many references the next `GAP_OTHERS` are the others. Where the camera does not show the part of an aligned picture,
    nothing is missing.
    """
    count = len(bank.references)
    others = [(index + step) % count for step in range(1, min(count - 1, GAP_OTHERS) + 1)]
    alone = bank.only([index])
    places = [bank.places[other] for other in others] if bank.places else []
    maps = _score(encoder, alone, _prepared(encoder, alone), _tokens_of(bank, others), places).maps
    gap: MapArray = np.median(maps.float().cpu().numpy(), axis=0)  # [K - 1, S, S] -> [S, S]
    if bank.fixture is not None:
        gap = gap * bank.fixture.seen(bank.places[index], encoder.canvas.size_hw).reshape(gap.shape)
    return gap


def _tokens_of(bank: ResidualBank, indices: Sequence[int]) -> Tokens:
    """Tokens of some references as a batch."""
    some = list(indices)
    taps = tuple(tap[some] for tap in bank.taps)
    if bank.global_tokens is None:
        return Tokens(taps)
    return Tokens(taps, joint=taps[-1], global_token=bank.global_tokens[some])


def _scored_variations(encoder: Encoder, bank: ResidualBank, images: Sequence[ImageArray]) -> list[scoring.Scores]:
    """Mild variations of each reference against the others, or against the only one."""
    seen = []
    for index, image in enumerate(images):
        rest = bank.without(index) if len(images) > 1 else bank
        strength = 1.0 if len(images) > 1 else SINGLE_STRENGTH
        copies, places = _views(bank, variations(image, VARIATIONS // len(images), index, strength), VARIED)
        seen.append(_score(encoder, rest, _prepared(encoder, rest), encoder.encode(copies), places))
    return seen
