"""Measure drift: how far a line must go before it is told, and how many good parts were rejected until then.

`python -m tests.benchmarks.drift` lets good drawn parts come by, and changes nothing for the run-in; then the light fades,
the focus softens, or the camera slides, a little more with each part. A last run changes nothing: its alarms are false.
"""

from collections.abc import Callable

import cv2
import numpy as np
import typer

from inspector import simulation
from inspector.config import EncoderConfig
from inspector.detection.detector import Detector
from inspector.detection.encoder import load_encoder
from inspector.drift import RUN_IN, DriftMonitor, Measures, Sight
from inspector.types import ImageArray, Verdict

REFERENCES, STEADY, PARTS = 8, 60, 200
BATCH = 8
Spoil = Callable[[ImageArray, float], ImageArray]


def darker(image: ImageArray, amount: float) -> ImageArray:
    """Light fades to 70 %."""
    return np.asarray(image * (1.0 - 0.3 * amount), np.uint8)


def softer(image: ImageArray, amount: float) -> ImageArray:
    """Focus softens to a blur of two pixels."""
    sigma = 2.0 * amount
    return image if sigma < 0.2 else np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def moved(image: ImageArray, amount: float) -> ImageArray:
    """The camera slides by 8 % of the width."""
    step = float(round(0.08 * amount * image.shape[1]))
    matrix = np.array([[1.0, 0.0, step], [0.0, 1.0, 0.0]])
    size = (image.shape[1], image.shape[0])
    return np.asarray(cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def nothing(image: ImageArray, amount: float) -> ImageArray:
    """Nothing changes."""
    return image


CHANGES: dict[str, Spoil] = {"light": darker, "focus": softer, "camera": moved, "none": nothing}


def run(detector: Detector, kind: str, spoil: Spoil) -> tuple[str, int, float, float]:
    """Cause, part at which it is told, how far the change had gone by then, share of good parts rejected before it."""
    bank = detector.bank
    monitor = DriftMonitor((), detector.threshold, detector.looks, bank.usual.cpu().numpy())
    rejected, numbers = 0, range(RUN_IN + STEADY + PARTS)
    for start in range(0, len(numbers), BATCH):
        part = numbers[start : start + BATCH]
        amounts = [max(0.0, (number - RUN_IN - STEADY) / PARTS) for number in part]
        images = [
            spoil(simulation.draw_part(kind, 3, number + 1, 0.0)[0], amount)
            for number, amount in zip(part, amounts, strict=True)
        ]
        for number, amount, image, seen in zip(part, amounts, images, detector.inspect(images), strict=True):
            accepted = seen.verdict is Verdict.OK
            sight = Sight(seen.score, accepted, seen.novelty, Measures.of(image), monitor.shift_of(image))
            drift = monitor.add(sight)
            rejected += amount > 0.0 and not accepted
            if drift is not None and drift.causes:
                after = max(1, number - RUN_IN - STEADY)
                return drift.causes[0].kind, number - RUN_IN - STEADY, amount, 100 * rejected / after
    return "-", len(numbers), 1.0, 100 * rejected / PARTS


def main() -> None:
    encoder = load_encoder(EncoderConfig(threads=1))
    typer.echo(
        "| product | change | told as | after parts | at | good parts rejected until then |\n|---|---|---|--:|--:|--:|"
    )
    for kind in simulation.KINDS:
        detector = Detector.from_references(encoder, simulation.draw_references(kind, REFERENCES))
        for name, spoil in CHANGES.items():
            cause, parts, amount, rejects = run(detector, kind, spoil)
            typer.echo(f"| {kind} | {name} | {cause} | {parts} | {100 * amount:.0f} % | {rejects:.1f} % |")


if __name__ == "__main__":
    main()
