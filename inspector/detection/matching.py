"""Matching of patch tokens with a bank: radial penalty, sparsemax without sorting, matched reference. Pure functions.

Tokens are unit rows. Memory is bounded: queries go through in tiles, whatever the size of the bank.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as fn

TILE_ELEMENTS = 16_000_000
"""Similarities that are held at once; 64 MB in float32."""
MAX_NEWTON_STEPS = 64


@dataclass(frozen=True)
class Matching:
    """How a patch finds its normal counterpart; a part of the encoder's configuration.

    `sparsemax` is Res²CLIP's; `nearest` and `topk` (mean of the `k` most similar) did better for the embedded tower.
    `gamma` weighs the radial penalty per patch of distance; `temperature` divides similarities before the sparsemax.
    """

    kind: Literal["sparsemax", "nearest", "topk"] = "sparsemax"
    gamma: float = 0.01
    k: int = 3
    temperature: float = 1.0


def radii(grid_hw: tuple[int, int]) -> Tensor:
    """Distance ρ of each patch from the grid's centre, in patches: `[N]`."""
    gh, gw = grid_hw
    y = torch.arange(gh, dtype=torch.float32) - (gh - 1) / 2
    x = torch.arange(gw, dtype=torch.float32) - (gw - 1) / 2
    return torch.sqrt(y[:, None] ** 2 + x[None, :] ** 2).reshape(-1)  # [gh, gw] -> [N]


def sparsemax(scores: Tensor) -> Tensor:
    """Euclidean projection of each row of `[Q, R]` onto the simplex (Martins & Astudillo 2016), without a sort.

    The threshold τ solves Σ max(0, s − τ) = 1. Newton steps from max s − 1 rise to it and are exact once the support
    no longer changes (Michelot). Scores count from their row's maximum: thousands of similarities near 0.9 would add up
    to a sum beside which float32 hardly sees the 1.
    """
    z = scores - scores.amax(dim=-1, keepdim=True)  # [Q, R], ≤ 0
    tau = torch.full_like(z[:, :1], -1.0)  # [Q, 1]
    for _ in range(MAX_NEWTON_STEPS):
        support = z > tau
        count = support.sum(dim=-1, keepdim=True)
        step = (torch.where(support, z, 0.0).sum(dim=-1, keepdim=True) - 1.0) / count
        if bool((step <= tau).all()):
            break
        tau = torch.maximum(tau, step)
    return (z - tau).clamp_min(0.0)


def matched_residuals(queries: Tensor, references: Tensor, grid_hw: tuple[int, int], matching: Matching) -> Tensor:
    """Visual residuals `R_v = f_q − f̂_q` of unit tokens.

    Args:
        queries: `[B, N, D]`.
        references: `[K, N, D]`.
        grid_hw: patch grid with gh·gw = N.
        matching: how f̂_q is found.

    Returns:
        `[B, N, D]`.
    """
    B, N, D = queries.shape
    K = references.shape[0]
    bank = references.reshape(K * N, D)
    rho = radii(grid_hw).to(queries)  # [N]
    rho_bank = rho.repeat(K)  # [K·N]
    rows = queries.reshape(B * N, D)
    rho_rows = rho.repeat(B)
    tile = max(1, TILE_ELEMENTS // bank.shape[0])
    residuals = []
    for start in range(0, B * N, tile):
        q = rows[start : start + tile]  # [T, D]
        s = q @ bank.T  # [T, K·N]
        if matching.gamma:
            s -= matching.gamma * (rho_rows[start : start + tile, None] - rho_bank[None, :]).abs()
        residuals.append(q - _matched(s, bank, matching))
    return torch.cat(residuals).reshape(B, N, D)


def _matched(s: Tensor, bank: Tensor, matching: Matching) -> Tensor:
    """Matched reference f̂ `[T, D]` for similarities `s` `[T, R]`."""
    if matching.kind == "nearest":
        return bank[s.max(dim=-1).indices]  # faster than argmax on a CPU
    if matching.kind == "topk":
        best = s.topk(min(matching.k, s.shape[-1]), dim=-1).indices  # [T, k]
        return fn.normalize(bank[best].mean(dim=1), dim=-1)
    weights = sparsemax(s / matching.temperature)  # [T, R], few are not zero
    return fn.normalize(weights @ bank, dim=-1)
