"""Runs a category: every picture is read and encoded once, and judged against the bank of each (shots, seed).

The detectors are those of the line (`Detector.from_references`, `Detector.judge`), so that a score is the same number
here and there. May import the detector and this package.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np

from inspector.detection.detector import Detector
from inspector.detection.encoder import Encoder
from inspector.errors import ImageError, UsageError
from inspector.evaluation.datasets import Category, TestPicture, read_mask
from inspector.evaluation.metrics import PixelCounts, Ranking
from inspector.images import read_image
from inspector.types import ImageArray, Inspection, MapArray, Verdict

BATCH = 8
MOST_CASES = 4
"""Worst cases of each kind that are kept for the report."""

Advance = Callable[[int, str], None]


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
        verdict = Verdict.NONE if inspection is None else inspection.verdict
        self.pictures.append(
            {
                "picture": f"{picture.path.parent.name}/{picture.path.name}",
                "kind": picture.kind,
                "score": score if isfinite(score) else None,
                "verdict": verdict.name,
            }
        )
        if image is None or inspection is None or not isfinite(score):
            return
        if picture.masks or not picture.is_bad:
            side, size_hw = inspection.anomaly_map.shape[0], (image.shape[0], image.shape[1])
            self.pixels.add(inspection.anomaly_map, read_mask(picture.masks, size_hw, side))
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


def evaluate_category(
    encoder: Encoder, category: Category, shots: Sequence[int], seeds: Sequence[int], advance: Advance
) -> Evaluated:
    """Build a bank for each (shots, seed), then score all test pictures against all of them.

    `advance` is told of each step done, and what is done next.

    Raises:
        UsageError: too few references, a mask that does not fit, or nothing left to test.
        ImageError: a reference cannot be read.
    """
    runs = []
    for seed in seeds:
        for count in shots:
            advance(0, f"{category.name}: {count} references, seed {seed}")
            paths = chosen_references(category, count, seed)
            names = [path.name for path in paths]
            detector = Detector.from_references(encoder, [read_image(path) for path in paths], names=names)
            runs.append(Run(count, seed, paths, detector))
            advance(1, f"{category.name}: scoring")
    for batch in _batches(category.test):
        _score(encoder, batch, runs)
        advance(len(batch), f"{category.name}: scoring")
    first = [run for run in runs if run.seed == seeds[0]]
    return Evaluated(
        results=[_result(category, run) for run in runs],
        cases={run.shots: [*run.cases[False], *run.cases[True]] for run in first},
        pixel_threshold={run.shots: run.detector.pixel_threshold for run in first},
    )


def steps(category: Category, shots: Sequence[int], seeds: Sequence[int]) -> int:
    """How often `evaluate_category` says that something is done."""
    return len(shots) * len(seeds) + len(category.test)


def _batches(pictures: Sequence[TestPicture]) -> Iterator[Sequence[TestPicture]]:
    for start in range(0, len(pictures), BATCH):
        yield pictures[start : start + BATCH]


def _score(encoder: Encoder, batch: Sequence[TestPicture], runs: Sequence[Run]) -> None:
    images: list[ImageArray | None] = []
    for picture in batch:
        try:
            images.append(read_image(picture.path))
        except ImageError:  # counts as NONE, and is named in the result
            images.append(None)
    readable = [image for image in images if image is not None]
    tokens = encoder.encode(readable) if readable else None
    sizes = [(image.shape[0], image.shape[1]) for image in readable]
    for run in runs:
        found = iter(run.detector.judge(tokens, sizes)) if tokens is not None else iter(())
        for picture, image in zip(batch, images, strict=True):
            run.add(picture, image, next(found) if image is not None else None)


def _result(category: Category, run: Run) -> dict[str, Any]:
    good = [entry for entry in run.pictures if entry["kind"] == "good"]
    bad = [entry for entry in run.pictures if entry["kind"] != "good"]
    if not good and not bad:
        raise UsageError(f"{category.name}: all test pictures became references; use fewer --shots")
    scores = [np.array([e["score"] for e in side if e["score"] is not None], np.float64) for side in (good, bad)]
    ranking, pixels = Ranking.of_scores(scores[0], scores[1]), run.pixels
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
        "unscored": [entry["picture"] for entry in run.pictures if entry["score"] is None],
        "kinds_without_masks": missing,
        "references": [path.name for path in run.references],
        "roc": ranking.curve(),
        "pictures": run.pictures,
    }


def _share(values: Sequence[bool]) -> float | None:
    return float(np.mean(values)) if values else None
