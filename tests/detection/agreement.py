"""How far the product's numbers are from the float64 judge's; ``python -m tests.detection.agreement`` prints the table.

The error of a map is relative to its largest value, that of a score and of each of its parts to the score.
"""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.table import Table

from inspector.detection.detector import Detector
from inspector.detection.encoder import Encoder
from tests.detection import judge, models

COUNTS = (1, 2, 3, 8)


def need_gpu() -> None:
    """Skip the test where no GPU is at hand."""
    if not torch.cuda.is_available():
        pytest.skip("fp16 towers need a GPU")


def largest_error(encoder: Encoder, tower: Any, text: Any, *, count: int, size: int, seed: int) -> float:
    """Largest relative error over maps, scores and parts of two pictures against `count` references."""
    references, queries = models.pictures(count, size, seed=seed), models.pictures(2, size, seed=seed + 100)
    found = Detector.from_references(encoder, references).inspect(queries)
    known = [tower.seen(image) for image in references]
    errors = []
    for inspection, image in zip(found, queries, strict=True):
        wanted = judge.judged(tower.seen(image), known, size, text)
        off = np.abs(inspection.anomaly_map - wanted.anomaly_map).max()
        errors.append(float(off / np.abs(wanted.anomaly_map).max()))
        parts = {name: value for name, value in asdict(inspection.parts).items() if value is not None}
        assert parts.keys() == wanted.parts.keys()
        size_of = abs(wanted.score)
        errors.append(abs(inspection.score - wanted.score) / size_of)
        errors += [abs(parts[name] - value) / size_of for name, value in wanted.parts.items()]
    return max(errors)


def _rows(folder: Path) -> list[tuple[str, str, list[float]]]:
    """Tower, precision, and the error for each K."""
    precisions = ["fp32", "bf16"] + (["fp16"] if torch.cuda.is_available() else [])
    found = []
    for depth, size in ((4, 32), (8, 48), (12, 56)):
        place = folder / f"vit{depth}"
        place.mkdir()
        config, checkpoint = models.write_model(place, models.vit_keys(depth), seed=depth)
        tower, text = judge.JudgeVit(config, checkpoint, size), judge.text_residual(config, checkpoint)
        for precision in precisions:
            device = "cuda" if precision == "fp16" else "cpu"
            encoder = models.load(config, checkpoint, image_size=size, precision=precision, device=device)
            errors = [largest_error(encoder, tower, text, count=count, size=size, seed=depth) for count in COUNTS]
            found.append((f"ViT, {depth} blocks, {size} px", precision, errors))
    place = folder / "resnet"
    place.mkdir()
    config, checkpoint = models.write_model(place, models.resnet_keys())
    stages = judge.JudgeStages(config, checkpoint, [1, 2, 3])
    for precision in precisions:
        device = "cuda" if precision == "fp16" else "cpu"
        encoder = models.load(config, checkpoint, image_size=96, taps=[1, 2, 3], precision=precision, device=device)
        errors = [largest_error(encoder, stages, None, count=count, size=96, seed=1) for count in COUNTS]
        found.append(("ModifiedResNet, 3 stages, 96 px", precision, errors))
    return found


def main() -> None:
    """Print the table."""
    table = Table("tower", "precision", *(f"K = {count}" for count in COUNTS), title="largest relative error")
    with tempfile.TemporaryDirectory() as folder:
        for tower, precision, errors in _rows(Path(folder)):
            table.add_row(tower, precision, *(f"{error:.1e}" for error in errors))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
