"""How well a tower in training finds faults on held-out drawn products; cheap enough to be asked every few minutes.

The product's own measure of the shipped weights is ``inspector evaluate``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inspector.detection.scoring import PatchScores, top
from inspector.evaluation.metrics import Ranking
from inspector.training.episodes import held_out_product
from inspector.training.objectives import normalised, patches

Encode = Callable[[Tensor], list[Tensor]]
CHUNK = 8


@dataclass(frozen=True)
class Quality:
    """Areas under the ROC curve, 0..1."""

    image_auroc: float
    pixel_auroc: float


def nearest(queries: Tensor, references: Tensor) -> Tensor:
    """Length of the residual ``[Q]`` of unit rows ``[Q, D]`` after the nearest of ``[R, D]``."""
    return (2.0 * (1.0 - (queries @ references.T).amax(-1)).clamp_min(0.0)).sqrt()


@torch.inference_mode()
def encoded(encode: Encode, pictures: Tensor, side: int) -> list[Tensor]:
    """Taps of uint8 pictures ``[n, 3, S, S]``, none finer than ``side``: per tap ``[n, N_l, D_l]``."""
    parts = [[patches(tap, side) for tap in encode(normalised(chunk))] for chunk in torch.split(pictures, CHUNK)]
    return [torch.cat(list(tap)) for tap in zip(*parts, strict=True)]


@torch.inference_mode()
def scored(queries: list[Tensor], references: list[Tensor], size_px: int) -> PatchScores:
    """The product's visual branch of queries against references, both as ``encoded`` gives them."""
    per_tap = []
    for asked, shown in zip(queries, references, strict=True):
        bank = shown.flatten(0, 1)
        per_tap.append(torch.stack([nearest(one, bank) for one in asked]))
    sides = [round(tap.shape[-1] ** 0.5) for tap in per_tap]
    return PatchScores(per_tap, tuple((side, side) for side in sides), (size_px, size_px))


def drawn_quality(encode: Encode, products: int, size_px: int = 256) -> Quality:
    """Mean over held-out drawn products of image and pixel AUROC with four references each."""
    images, pixels = [], []
    for index in range(products):
        product = held_out_product(index, size_px)
        counts = [product.references.shape[0], product.normal.shape[0], product.faulty.shape[0]]
        everything = torch.cat([product.references, product.normal, product.faulty])
        taps = [torch.split(tap, counts) for tap in encoded(encode, everything, size_px // 8)]
        shown = [tap[0] for tap in taps]
        normal, faulty = (scored([tap[part] for tap in taps], shown, size_px) for part in (1, 2))
        images.append(_auroc(top(normal.map), top(faulty.map)))
        masks = torch.from_numpy(product.masks)[:, ::2, ::2]
        thinned = faulty.smooth_map[:, ::2, ::2]
        pixels.append(_auroc(thinned[~masks], thinned[masks]))
    return Quality(float(np.mean(images)), float(np.mean(pixels)))


def _auroc(normal: Tensor, faulty: Tensor) -> float:
    found = Ranking.of_scores(normal.double().numpy(), faulty.double().numpy()).auroc
    if found is None:
        raise ValueError("an AUROC needs normal and faulty values, but one side is empty")
    return found
