"""Runs a category: every picture is read once, and judged against the bank of each (shots, seed).

The detectors are those of the line, built and asked as there (`Detector.from_references`, `Detector.inspect`), so that a
score is the same number here and there. Banks that see a picture alike share its tokens; where parts are aligned, each bank
brings them to a place of its own. May import the detector, the contract's codes and this package.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np

from inspector.contract.codes import ErrorCode
from inspector.detection.detector import Detector
from inspector.detection.encoder import Encoder
from inspector.drift import Measures
from inspector.errors import CalibrationError, ImageError, UsageError
from inspector.evaluation.datasets import Category, TestPicture, read_mask
from inspector.evaluation.metrics import Floats, PixelCounts, Ranking
from inspector.images import read_image
from inspector.refusals import refusal
from inspector.types import Align, ImageArray, Inspection, MapArray, Tiles, Verdict

BATCH = 8
MOST_CASES = 4
"""Worst cases of each kind that are kept for the report."""

Advance = Callable[[int, str], None]


@dataclass(frozen=True)
class Plan:
    """What is built and tried: numbers of references, seeds of their choice, and how pictures are seen."""

    shots: Sequence[int]
    seeds: Sequence[int]
    align: Align | None = None
    tiles: Tiles | None = None


@dataclass(frozen=True)
class Case:
    """A picture that came out badly: a good one that scored high, or a bad one that scored low."""

    path: Path
    kind: str
    score: float
    verdict: str
    anomaly_map: MapArray


@dataclass(eq=False)
class Run:
    """One (shots, seed) of a category, while its pictures go by."""

    shots: int
    seed: int
    references: tuple[Path, ...]
    detector: Detector
    pictures: list[dict[str, Any]] = field(default_factory=list)
    pixels: PixelCounts = field(default_factory=PixelCounts)
    cases: dict[bool, list[Case]] = field(default_factory=lambda: {False: [], True: []})

    def add(self, picture: TestPicture, image: ImageArray | None, inspection: Inspection | None) -> None:
        """Count one test picture; None for one that cannot be read."""
        if picture.path in self.references:
            return
        score = nan if inspection is None else inspection.score
        refused = _refused(image, inspection, self.detector)
        verdict = Verdict.NONE if inspection is None or refused else inspection.verdict
        self.pictures.append(
            {
                "picture": f"{picture.path.parent.name}/{picture.path.name}",
                "kind": picture.kind,
                "score": score if isfinite(score) else None,
                "verdict": verdict.name,
            }
            | refused
        )
        if image is None or inspection is None or refused or not isfinite(score):
            return
        if picture.masks or not picture.is_bad:
            found = inspection.anomaly_map
            mask = read_mask(picture.masks, (image.shape[0], image.shape[1]), (found.shape[0], found.shape[1]))
            self.pixels.add(found, mask)
        case = Case(picture.path, picture.kind, score, verdict.name, inspection.anomaly_map)
        worst = sorted([*self.cases[picture.is_bad], case], key=lambda each: each.score, reverse=not picture.is_bad)
        self.cases[picture.is_bad] = worst[:MOST_CASES]


@dataclass(frozen=True)
class Evaluated:
    """What came out of one category: results for the file, and the worst cases of the first seed by shots."""

    results: list[dict[str, Any]]
    cases: dict[int, list[Case]]
    pixel_threshold: dict[int, float]


def chosen_references(category: Category, shots: int, seed: int) -> tuple[Path, ...]:
    """The first `shots` of the pool (by name), shuffled by `numpy.random.default_rng(seed)`: fewer are a part of more.

    Raises:
        UsageError: the pool is too small.
    """
    if shots > len(category.pool):
        raise UsageError(
            f"{category.name} has {len(category.pool)} good pictures to draw references from, but --shots asks for {shots}"
        )
    order = np.random.default_rng(seed).permutation(len(category.pool))
    return tuple(category.pool[place] for place in order[:shots])


def evaluate_category(encoder: Encoder, category: Category, plan: Plan, advance: Advance) -> Evaluated:
    """Build a bank for each (shots, seed), then score all test pictures against all of them.

    `advance` is told of each step done, and what is done next.

    Raises:
        UsageError: too few references, a mask that does not fit, or nothing left to test.
        ImageError: a reference cannot be read, or is too small for its tiles.
        CalibrationError: references cannot be aligned.
        EncoderError: adapters are loaded, which cannot be used with tiles.
    """
    runs = []
    for seed in plan.seeds:
        for count in plan.shots:
            what = f"{category.name}: {count} references, seed {seed}"
            advance(0, what)
            paths = chosen_references(category, count, seed)
            try:
                detector = _built(encoder, paths, plan)
            except CalibrationError as error:
                raise CalibrationError(f"{what}: {error}") from error
            runs.append(Run(count, seed, paths, detector))
            advance(1, f"{category.name}: scoring")
    for batch in _batches(category.test):
        _score(batch, runs)
        advance(len(batch), f"{category.name}: scoring")
    first = [run for run in runs if run.seed == plan.seeds[0]]
    return Evaluated(
        results=[_result(category, run) for run in runs],
        cases={run.shots: [*run.cases[False], *run.cases[True]] for run in first},
        pixel_threshold={run.shots: run.detector.pixel_threshold for run in first},
    )


def steps(category: Category, plan: Plan) -> int:
    """How often `evaluate_category` says that something is done."""
    return len(plan.shots) * len(plan.seeds) + len(category.test)


def _batches(pictures: Sequence[TestPicture]) -> Iterator[Sequence[TestPicture]]:
    for start in range(0, len(pictures), BATCH):
        yield pictures[start : start + BATCH]


def _built(encoder: Encoder, paths: Sequence[Path], plan: Plan) -> Detector:
    """The detector that the product would have with these references."""
    images, names = [read_image(path) for path in paths], [path.name for path in paths]
    return Detector.from_references(encoder, images, names=names, align=plan.align, tiles=plan.tiles)


def _score(batch: Sequence[TestPicture], runs: Sequence[Run]) -> None:
    images: list[ImageArray | None] = []
    for picture in batch:
        try:
            images.append(read_image(picture.path))
        except ImageError:  # counts as NONE, and is named in the result
            images.append(None)
    readable = [image for image in images if image is not None]
    for group in _seeing_alike(runs):
        inspections = _inspected([run.detector for run in group], readable)
        for run, found in zip(group, inspections, strict=True):
            rest = iter(found)
            for picture, image in zip(batch, images, strict=True):
                run.add(picture, image, next(rest) if image is not None else None)


def _seeing_alike(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs, together where their detectors have the same tokens of a picture."""
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        bank = run.detector.bank
        groups.setdefault(bank.tiles if bank.fixture is None else run, []).append(run)
    return list(groups.values())


def _inspected(detectors: Sequence[Detector], images: Sequence[ImageArray]) -> list[list[Inspection | None]]:
    """By detector, what it says of each picture; all must see alike. None: a picture that it cannot take."""
    if not images:
        return [[] for _ in detectors]
    first = detectors[0]
    try:
        if first.bank.fixture is not None:
            return [list(detector.inspect(images)) for detector in detectors]
        tokens = first.encoder.encode(images)
    except ImageError:  # too small for the tiles: as on the line, this picture alone has no verdict
        if len(images) == 1:
            return [[None] for _ in detectors]
        singles = [_inspected(detectors, [image]) for image in images]
        return [[single[place][0] for single in singles] for place in range(len(detectors))]
    sizes = [(image.shape[0], image.shape[1]) for image in images]
    return [list(detector.judge(tokens, sizes)) for detector in detectors]


def _refused(image: ImageArray | None, inspection: Inspection | None, detector: Detector) -> dict[str, Any]:
    """For the entry of a picture that the line would refuse: the code that the PLC would get, and why."""
    if image is None or inspection is None:
        return {}
    err, reason = refusal(Measures.of(image), inspection.placement, detector.looks)
    return {} if err is ErrorCode.NONE else {"err": int(err), "reason": reason}


def _ranked(entries: Sequence[dict[str, Any]]) -> Floats:
    """Scores as they rank: what is refused is rejected whatever the threshold. Unreadable pictures have none."""
    scores = [inf if "err" in entry else entry["score"] for entry in entries]
    return np.array([score for score in scores if score is not None], np.float64)


def _result(category: Category, run: Run) -> dict[str, Any]:
    good = [entry for entry in run.pictures if entry["kind"] == "good"]
    bad = [entry for entry in run.pictures if entry["kind"] != "good"]
    if not good and not bad:
        raise UsageError(f"{category.name}: all test pictures became references; use fewer --shots")
    scores = _ranked(good), _ranked(bad)
    ranking, pixels = Ranking.of_scores(*scores), run.pixels
    has_masks = pixels.regions > 0
    missing = sorted({picture.kind for picture in category.test if picture.is_bad and not picture.masks})
    return {
        "category": category.name,
        "shots": run.shots,
        "seed": run.seed,
        "image_auroc": ranking.auroc,
        "image_ap": ranking.average_precision,
        "image_f1max": ranking.f1_max,
        "pixel_auroc": pixels.ranking.auroc if has_masks else None,
        "pixel_ap": pixels.ranking.average_precision if has_masks else None,
        "pixel_f1max": pixels.ranking.f1_max if has_masks else None,
        "aupro": pixels.aupro,
        "false_reject_rate": _share([entry["verdict"] != Verdict.OK.name for entry in good]),
        "escape_rate": _share([entry["verdict"] == Verdict.OK.name for entry in bad]),
        "tnr_at_zero_escapes": None
        if not len(scores[0]) or not len(scores[1])
        else float(np.mean(scores[0] < scores[1].min())),
        "threshold": run.detector.threshold,
        "good": len(good),
        "bad": len(bad),
        "unscored": [entry["picture"] for entry in run.pictures if entry["score"] is None and "err" not in entry],
        "refused": [entry for entry in run.pictures if "err" in entry],
        "kinds_without_masks": missing,
        "references": [path.name for path in run.references],
        "roc": ranking.curve(),
        "pictures": run.pictures,
    }


def _share(values: Sequence[bool]) -> float | None:
    return float(np.mean(values)) if values else None
