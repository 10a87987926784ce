"""How well a tower finds faults: on held-out drawn products, and on a folder in MVTec layout.

``python -m inspector.training.assess FOLDER...`` measures the shipped weights while they are being developed; the
product's own evaluation lives in ``inspector.evaluation``. Pictures in the folders are only measured, never trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from inspector.training.episodes import held_out_product
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
    pixels = F.interpolate(grid_map.view(-1, 1, side, side), size=(size_px, size_px), mode="bilinear", align_corners=False)
    axis = torch.arange(-2, 3, dtype=torch.float32)
    bell = torch.exp(-axis * axis / 32.0)
    bell = bell / bell.sum()
    pixels = F.conv2d(pixels, bell.view(1, 1, 1, 5), padding=(0, 2))
    return F.conv2d(pixels, bell.view(1, 1, 5, 1), padding=(2, 0)).squeeze(1)


@torch.inference_mode()
def encoded(encode: Encode, pictures: Tensor, side: int) -> list[Tensor]:
    """Taps of uint8 pictures ``[n, 3, S, S]`` on one grid: per tap ``[n, N, D]``."""
    parts = [[on_grid(tap, side) for tap in encode(normalised(chunk))] for chunk in pictures.split(8)]
    return [torch.cat(list(tap)) for tap in zip(*parts, strict=True)]


@torch.inference_mode()
def anomaly_maps(
    queries: list[Tensor], references: list[Tensor], size_px: int, matching: Matching = nearest
) -> Tensor:
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
        taps = [tap.split(counts) for tap in encoded(encode, everything, size_px // 8)]
        shown = [tap[0] for tap in taps]
        normal = anomaly_maps([tap[1] for tap in taps], shown, size_px)
        faulty = anomaly_maps([tap[2] for tap in taps], shown, size_px)
        images.append(auroc(image_scores(normal), image_scores(faulty)))
        values = faulty.double().numpy()[:, ::2, ::2]
        masks = product.masks[:, ::2, ::2]
        pixels.append(auroc(values[~masks], values[masks]))
    return Quality(float(np.mean(images)), float(np.mean(pixels)))
