"""How well a tower finds faults: on held-out drawn products, and on a folder in MVTec layout.

``python -m inspector.training.assess FOLDER...`` measures the shipped weights while they are being
developed; the product's own evaluation is ``inspector.evaluation``. The folders are never trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from torch import Tensor
from torch.nn import functional as fn

from inspector.training.episodes import held_out_product, planar
from inspector.training.objectives import normalised, on_grid, top_mean

Encode = Callable[[Tensor], list[Tensor]]
Matching = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Quality:
    """Areas under the ROC curve, 0..1; ``pixel_auroc`` is NaN where no masks exist."""

    image_auroc: float
    pixel_auroc: float


def auroc(normal: NDArray[np.float64], faulty: NDArray[np.float64]) -> float:
    """Chance that a faulty score lies above a normal one; ties count half."""
    scores = np.concatenate([normal, faulty])
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2.0)[inverse]
    above = ranks[normal.size :].sum() - faulty.size * (faulty.size + 1) / 2.0
    return float(above / (normal.size * faulty.size))


def nearest(queries: Tensor, references: Tensor) -> Tensor:
    """Cosine distance ``[Q]`` of unit rows ``[Q, D]`` to the nearest of ``[R, D]``."""
    return 1.0 - (queries @ references.T).amax(-1)


def smoothed(grid_map: Tensor, size_px: int) -> Tensor:
    """Patch map ``[B, N]`` to pixels ``[B, S, S]``: bilinear, then a 5 by 5 Gaussian of sigma 4."""
    side = round(grid_map.shape[-1] ** 0.5)
    pixels = fn.interpolate(
        grid_map.view(-1, 1, side, side), size=(size_px, size_px), mode="bilinear", align_corners=False
    )
    axis = torch.arange(-2, 3, dtype=torch.float32)
    bell = torch.exp(-axis * axis / 32.0)
    bell = bell / bell.sum()
    pixels = fn.conv2d(pixels, bell.view(1, 1, 1, 5), padding=(0, 2))
    return fn.conv2d(pixels, bell.view(1, 1, 5, 1), padding=(2, 0)).squeeze(1)


@torch.inference_mode()
def encoded(encode: Encode, pictures: Tensor, side: int) -> list[Tensor]:
    """Taps of uint8 pictures ``[n, 3, S, S]`` on one grid: per tap ``[n, N, D]``."""
    parts = [[on_grid(tap, side) for tap in encode(normalised(chunk))] for chunk in torch.split(pictures, 8)]
    return [torch.cat(list(tap)) for tap in zip(*parts, strict=True)]


@torch.inference_mode()
def anomaly_maps(queries: list[Tensor], references: list[Tensor], size_px: int, matching: Matching = nearest) -> Tensor:
    """Mean over taps of the distance, as pixels ``[n, S, S]``."""
    per_tap = []
    for asked, shown in zip(queries, references, strict=True):
        bank = shown.flatten(0, 1)
        per_tap.append(torch.stack([matching(one, bank) for one in asked]))
    return smoothed(torch.stack(per_tap).mean(0), size_px)


def image_scores(maps: Tensor) -> NDArray[np.float64]:
    """Mean of the largest 1 % of each map ``[n, S, S]``."""
    return np.asarray(top_mean(maps.flatten(1)).double().numpy(), np.float64)


def drawn_quality(encode: Encode, products: int, size_px: int = 256) -> Quality:
    """Mean over held-out drawn products of image and pixel AUROC with four references each."""
    images, pixels = [], []
    for index in range(products):
        product = held_out_product(index, size_px)
        counts = [product.references.shape[0], product.normal.shape[0], product.faulty.shape[0]]
        everything = torch.cat([product.references, product.normal, product.faulty])
        taps = [torch.split(tap, counts) for tap in encoded(encode, everything, size_px // 8)]
        shown = [tap[0] for tap in taps]
        normal = anomaly_maps([tap[1] for tap in taps], shown, size_px)
        faulty = anomaly_maps([tap[2] for tap in taps], shown, size_px)
        images.append(auroc(image_scores(normal), image_scores(faulty)))
        values = faulty.double().numpy()[:, ::2, ::2]
        masks = product.masks[:, ::2, ::2]
        pixels.append(auroc(values[~masks], values[masks]))
    return Quality(float(np.mean(images)), float(np.mean(pixels)))


def nearest_few(queries: Tensor, references: Tensor, count: int = 3) -> Tensor:
    """Mean cosine distance to the ``count`` nearest rows."""
    return 1.0 - (queries @ references.T).topk(count, -1).values.mean(-1)


def sparsemax_residual(queries: Tensor, references: Tensor, temperature: float = 1.0, kept: int = 256) -> Tensor:
    """Length of what a sparsemax mixture of reference rows leaves over (Martins & Astudillo 2016).

    Exact while fewer than ``kept`` rows carry weight.
    """
    closest = (queries @ references.T).topk(min(kept, references.shape[0]), -1)
    scores = closest.values / temperature
    excess = scores.cumsum(-1) - 1.0
    rank = torch.arange(1, scores.shape[-1] + 1, dtype=scores.dtype)
    support = (scores * rank > excess).sum(-1, keepdim=True)
    threshold = excess.gather(-1, support - 1) / support
    weights = (scores - threshold).clamp_min(0.0)
    used = int(support.max())
    mixture = torch.einsum("qk,qkd->qd", weights[:, :used], references[closest.indices[:, :used]])
    left: Tensor = torch.linalg.vector_norm(queries - fn.normalize(mixture, dim=-1), dim=-1)
    return left


MATCHINGS: dict[str, Matching] = {
    "nearest": nearest,
    "nearest-3": nearest_few,
    "sparsemax": sparsemax_residual,
    "sparsemax-0.1": lambda q, r: sparsemax_residual(q, r, 0.1),
    "sparsemax-0.02": lambda q, r: sparsemax_residual(q, r, 0.02),
}


def pictures_of(folder: Path, size_px: int) -> Tensor:
    """All pictures of a folder by name, bicubic with antialias to uint8 ``[n, 3, S, S]``."""
    found = []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in {".png", ".jpg", ".jpeg", ".bmp"}):
        with Image.open(path) as opened:
            resized = opened.convert("RGB").resize((size_px, size_px), Image.Resampling.BICUBIC)
        found.append(np.array(resized, np.uint8))
    return planar(found)


def masks_of(root: Path, kind: str, size_px: int) -> NDArray[np.bool_] | None:
    """Masks of the faulty pictures of one kind, ``[n, S, S]``; None where the data set has none."""
    folder = root / "ground_truth" / kind
    if not folder.is_dir():
        return None
    found = []
    for path in sorted((root / "test" / kind).iterdir()):
        with Image.open(folder / f"{path.stem}_mask.png") as opened:
            resized = opened.convert("L").resize((size_px, size_px), Image.Resampling.NEAREST)
        found.append(np.array(resized, np.uint8) > 0)
    return np.stack(found)


@dataclass(frozen=True)
class FolderTaps:
    """Encoded folder in MVTec layout: taps ``[n, N, D]`` of each part; masks if it has any."""

    train: list[Tensor]
    good: list[Tensor]
    faulty: list[Tensor]
    masks: NDArray[np.bool_] | None


def encoded_folder(encode: Encode, root: Path, size_px: int) -> FolderTaps:
    """The first kind of fault (by name) at ``root``, encoded once for all seeds and matchings."""
    kind = next(p.name for p in sorted((root / "test").iterdir()) if p.name != "good")
    side = size_px // 8
    train, good, faulty = (
        encoded(encode, pictures_of(root / part, size_px), side) for part in ("train/good", "test/good", f"test/{kind}")
    )
    return FolderTaps(train, good, faulty, masks_of(root, kind, size_px))


def folder_quality(
    folder: FolderTaps, size_px: int, seed: int, *, references: int = 4, matching: Matching = nearest
) -> Quality:
    """Quality with ``references`` training pictures chosen by ``seed``."""
    chosen = np.random.default_rng(seed).choice(folder.train[0].shape[0], references, replace=False)
    shown = [tap[torch.from_numpy(chosen)] for tap in folder.train]
    good = anomaly_maps(folder.good, shown, size_px, matching)
    faulty = anomaly_maps(folder.faulty, shown, size_px, matching)
    image = auroc(image_scores(good), image_scores(faulty))
    if folder.masks is None:
        return Quality(image, float("nan"))
    values = faulty.double().numpy()
    return Quality(image, auroc(values[~folder.masks], values[folder.masks]))


app = typer.Typer(add_completion=False, help="Measure a tower on folders in MVTec layout.")


@app.command()
def main(
    folders: Annotated[list[Path], typer.Argument(help="Data sets in MVTec layout.")],
    weights: Annotated[Path | None, typer.Option(help="Exported tower; else the shipped one.")] = None,
    untrained: Annotated[bool, typer.Option(help="Measure random weights instead.")] = False,
    matching: Annotated[list[str] | None, typer.Option(help="Any of the matchings; all if absent.")] = None,
    size_px: Annotated[int, typer.Option(help="Side of the tower's input.")] = 256,
    drawn: Annotated[int, typer.Option(help="Held-out drawn products to measure as well.")] = 0,
) -> None:
    """Print image and pixel AUROC with four references, seeds 0 to 2."""
    console = Console()
    encode, described = _encoder(weights, untrained)
    if drawn:
        quality = drawn_quality(encode, drawn, size_px)
        console.print(f"{described} drawn I-AUROC {quality.image_auroc:.3f} P-AUROC {quality.pixel_auroc:.3f}")
    for root in folders:
        folder = encoded_folder(encode, root, size_px)
        for name in matching or MATCHINGS:
            found = [folder_quality(folder, size_px, seed, matching=MATCHINGS[name]) for seed in range(3)]
            images = [quality.image_auroc for quality in found]
            spread = " ".join(f"{value:.3f}" for value in images)
            pixels = float(np.mean([quality.pixel_auroc for quality in found]))
            line = f"{root.name} {name}: I-AUROC {np.mean(images):.3f} ({spread}) P-AUROC {pixels:.3f}"
            console.print(f"{described} {line}")


def _encoder(weights: Path | None, untrained: bool) -> tuple[Encode, str]:
    from inspector.training.embedded import (
        CONFIG_PATH,
        WEIGHTS_FOLDER,
        create_tower,
        load_tower,
        stage_features,
    )

    if untrained:
        torch.manual_seed(0)
        tower = create_tower(CONFIG_PATH).eval()
        return (lambda pictures: stage_features(tower, pictures)), "untrained"
    folder = weights or WEIGHTS_FOLDER
    tower = load_tower(folder)
    return (lambda pictures: stage_features(tower, pictures)), folder.name


if __name__ == "__main__":
    app()
