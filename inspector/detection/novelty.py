"""How unlike a whole picture is to all references of a bank: tells another product from a defect. Pure functions.

A defect changes some patches and hardly moves the mean of all; another product moves it by ten times as much as good
parts differ among each other (measured; README, "Drift").
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as fn


def features(taps: Sequence[Tensor]) -> Tensor:
    """Mean patch token of each tap, `[B, N_l, D_l]` each -> `[B, ΣD_l]`; a dot product is the mean cosine over taps."""
    means = [fn.normalize(tap.float().mean(dim=1), dim=-1) for tap in taps]  # [B, D_l] each
    joined: Tensor = torch.cat(means, dim=-1) / len(means) ** 0.5
    return joined


def novelty(of: Tensor, references: Tensor) -> Tensor:
    """1 − cosine to the nearest reference: `[B, F]`, `[K, F]` -> `[B]`."""
    apart: Tensor = 1.0 - of @ references.T  # [B, K]
    return apart.amin(dim=1).clamp_min(0.0)


def among(references: Tensor) -> tuple[float, ...]:
    """The same of each reference against the others; empty for a single one."""
    if len(references) < 2:
        return ()
    apart = 1.0 - references @ references.T  # [K, K]
    apart.fill_diagonal_(torch.inf)
    return tuple(max(0.0, float(value)) for value in apart.amin(dim=1))
