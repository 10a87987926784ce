"""Training and held-out episodes: one drawn product, its references, a normal and a faulty query.

An episode is a pure function of (run seed, index), so a resumed run sees the episodes it would have seen.
Held-out products use seeds that training can never draw.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from inspector.training.products import Picture, ProductFamily

HELD_OUT_FROM = 2**40
TWIN_ODDS = 0.5
"""How often the normal picture is the faulty one without its fault: then nothing but the fault tells them apart."""


@dataclass(frozen=True)
class EpisodeBatch:
    """uint8 ``references`` ``[E, K, 3, S, S]``, ``normal`` and ``faulty`` ``[E, 3, S, S]``; bool ``mask``."""

    references: Tensor
    normal: Tensor
    faulty: Tensor
    mask: Tensor


def planar(pictures: list[Picture]) -> Tensor:
    """Pictures ``[S, S, 3]`` to one uint8 tensor ``[n, 3, S, S]``."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


class DrawnEpisodes(Dataset[EpisodeBatch]):
    """Batches of episodes by index; batch ``i`` is the same whenever and wherever it is drawn.

    ``sizes_px`` and ``reference_counts`` say with what odds a batch has which; all episodes of a batch have the same.
    """

    def __init__(
        self,
        seed: int,
        sizes_px: dict[int, float],
        reference_counts: dict[int, float],
        episodes_per_batch: int,
        batches: int,
    ) -> None:
        self.seed = seed
        self.sizes_px = sizes_px
        self.reference_counts = reference_counts
        self.episodes_per_batch = episodes_per_batch
        self.batches = batches

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> EpisodeBatch:
        cv2.setNumThreads(1)
        choice = np.random.default_rng([self.seed, index])
        size, count = _chosen(choice, self.sizes_px), _chosen(choice, self.reference_counts)
        references, normal, faulty, masks = [], [], [], []
        for _ in range(self.episodes_per_batch):
            rng = np.random.default_rng(int(choice.integers(2**62)))
            family = ProductFamily(int(rng.integers(HELD_OUT_FROM)))
            references.append(planar([family.draw(rng, size) for _ in range(count)]))
            defective = family.draw_defective(rng, size)
            faulty.append(defective.image)
            masks.append(torch.from_numpy(defective.mask))
            normal.append(defective.twin if rng.random() < TWIN_ODDS else family.draw(rng, size))
        return EpisodeBatch(torch.stack(references), planar(normal), planar(faulty), torch.stack(masks))


def _chosen(rng: np.random.Generator, odds: dict[int, float]) -> int:
    weights = np.array(list(odds.values()))
    return int(rng.choice(list(odds), p=weights / weights.sum()))


@dataclass(frozen=True)
class HeldOutProduct:
    """A product never trained on: uint8 ``[n, 3, S, S]`` and the masks of the faulty ones ``[n, S, S]``."""

    references: Tensor
    normal: Tensor
    faulty: Tensor
    masks: NDArray[np.bool_]


def held_out_product(index: int, size_px: int, *, references: int = 4, queries: int = 4) -> HeldOutProduct:
    """Held-out product number ``index``; the same for every run."""
    family = ProductFamily(HELD_OUT_FROM + index)
    rng = np.random.default_rng([HELD_OUT_FROM, index])
    shown = planar([family.draw(rng, size_px) for _ in range(references)])
    normal = planar([family.draw(rng, size_px) for _ in range(queries)])
    faulty = [family.draw_defective(rng, size_px) for _ in range(queries)]
    return HeldOutProduct(shown, normal, planar([f.image for f in faulty]), np.stack([f.mask for f in faulty]))
