"""Measure alignment: what parts that lie otherwise than the references cost with and without it, and its time.

`python -m tests.benchmarks.fixture [FOLDER…]` takes the drawn kinds of parts, and folders with `train/good`, `test/good` and
one folder for each kind of defect in `test`. Each test picture is shifted and turned at random, by at most what the line
says; what comes into the picture is mirrored at its edge. References stay as they are.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import typer

from inspector import simulation
from inspector.config import EncoderConfig
from inspector.detection.detector import Detector
from inspector.detection.encoder import load_encoder
from inspector.errors import CalibrationError
from inspector.evaluation.metrics import Ranking
from inspector.images import list_images, read_image
from inspector.types import Align, ImageArray, Inspection, Verdict

REFERENCES, PARTS, BATCH = 8, 40, 8
OFF = ((0.0, 0.0), (0.05, 5.0), (0.10, 10.0))
"""Largest shift as a fraction of the picture, and largest turn in degrees."""


@dataclass(frozen=True)
class Set:
    """References and test pictures of one product."""

    name: str
    references: Sequence[ImageArray]
    good: Sequence[ImageArray]
    bad: Sequence[ImageArray]


def drawn(kind: str) -> Set:
    """Parts of the simulated line."""
    numbers = range(1, 4 * PARTS)
    good = [number for number in numbers if simulation.truth(0, number, 0.5) is None][:PARTS]
    bad = [number for number in numbers if simulation.truth(0, number, 0.5) is not None][:PARTS]
    pictures = [[simulation.draw_part(kind, 0, number, 0.5)[0] for number in some] for some in (good, bad)]
    return Set(kind, simulation.draw_references(kind, REFERENCES), pictures[0], pictures[1])


def photographed(folder: Path) -> Set:
    """The first pictures of each folder, by name."""
    bad = [path for kind in sorted((folder / "test").iterdir()) if kind.name != "good" for path in list_images(kind)]
    some = (
        list_images(folder / "train" / "good")[:REFERENCES],
        list_images(folder / "test" / "good")[:PARTS],
        bad[:PARTS],
    )
    references, good, defects = ([read_image(path) for path in paths] for paths in some)
    return Set(folder.name, references, good, defects)


def moved(image: ImageArray, shift: tuple[float, float], turn_deg: float) -> ImageArray:
    """The picture shifted by fractions of its sides, and turned clockwise about its middle."""
    height_px, width_px = image.shape[:2]
    matrix = np.asarray(cv2.getRotationMatrix2D(((width_px - 1) / 2, (height_px - 1) / 2), -turn_deg, 1.0), np.float64)
    matrix[:, 2] += (shift[0] * width_px, shift[1] * height_px)
    return np.asarray(cv2.warpAffine(image, matrix, (width_px, height_px), borderMode=cv2.BORDER_REFLECT), np.uint8)


def displaced(images: Sequence[ImageArray], most: tuple[float, float], seed: int) -> list[ImageArray]:
    rng = np.random.default_rng(seed)
    return [
        moved(image, tuple(rng.uniform(-most[0], most[0], 2)), float(rng.uniform(-most[1], most[1])))
        for image in images
    ]


def inspected(detector: Detector, images: Sequence[ImageArray]) -> list[Inspection]:
    return [one for at in range(0, len(images), BATCH) for one in detector.inspect(images[at : at + BATCH])]


def row(detector: Detector, some: Set, most: tuple[float, float]) -> str:
    """I-AUROC over the parts that were found, false rejects and escapes at the provisional threshold, parts not found."""
    good, bad = (
        inspected(detector, displaced(images, most, seed)) for seed, images in enumerate((some.good, some.bad))
    )
    scores = [np.array([one.score for one in side if one.verdict is not Verdict.NONE]) for side in (good, bad)]
    auroc = Ranking.of_scores(scores[0], scores[1]).auroc or float("nan")
    rejected = float(np.mean([one.verdict is not Verdict.OK for one in good]))
    escaped = float(np.mean([one.verdict is Verdict.OK for one in bad]))
    none = float(np.mean([one.verdict is Verdict.NONE for one in [*good, *bad]]))
    return f"{100 * auroc:5.1f} | {100 * rejected:5.1f} | {100 * escaped:5.1f} | {100 * none:5.1f}"


def cost_ms(detector: Detector, image: ImageArray) -> float:
    """Median time of finding and moving one picture, on one thread."""
    fixture = detector.bank.fixture
    if fixture is None:
        raise ValueError("this detector does not align")
    cv2.setNumThreads(1)
    took = []
    for _ in range(30):
        started = time.perf_counter()
        fixture.aligned(image, fixture.place(image))
        took.append(time.perf_counter() - started)
    return 1000 * float(np.median(took))


def main(folders: list[Path] = typer.Argument(default=None)) -> None:  # noqa: B008
    """Print one line for each product, amount and detector."""
    encoder = load_encoder(EncoderConfig(threads=1))
    sets = [*(drawn(kind) for kind in simulation.KINDS), *(photographed(folder) for folder in folders or [])]
    typer.echo("product | off by | aligned | I-AUROC | false rejects % | escapes % | NONE %")
    for some in sets:
        try:
            aligned = Detector.from_references(encoder, some.references, align=Align())
        except CalibrationError as error:
            typer.echo(f"{some.name}: {error}")
            continue
        detectors = {"no": Detector.from_references(encoder, some.references), "yes": aligned}
        for most in OFF:
            for name, detector in detectors.items():
                typer.echo(
                    f"{some.name} | {100 * most[0]:.0f} %, {most[1]:.0f}° | {name} | {row(detector, some, most)}"
                )
        image = some.good[0]
        large = cv2.resize(image, (2448, 2048), interpolation=cv2.INTER_CUBIC)
        typer.echo(
            f"{some.name}: {cost_ms(detectors['yes'], image):.1f} ms for {image.shape[1]}×{image.shape[0]} px, "
            f"{cost_ms(detectors['yes'], np.asarray(large, np.uint8)):.1f} ms for 2448×2048 px"
        )


if __name__ == "__main__":
    typer.run(main)
