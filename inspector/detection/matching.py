"""Matching of patch tokens with a bank: radial penalty, sparsemax without sorting, matched reference. Pure functions.

Similarities are computed in the encoder's precision, everything after them in float32. In half precision it is not the
cosine that is computed but the cosine minus one, by one more column: what is near to zero is finely resolved, and near
to zero is where the best match lies. Memory is bounded: queries go through in tiles, whatever the size of the bank.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as fn

TILE_ELEMENTS = 16_000_000
"""Similarities that are held at once; 64 MB in float32."""
CACHE_ELEMENTS = 1_000_000
"""Similarities of one sparsemax on a CPU: its passes then stay in the processor's cache."""
ALIGNMENT = 8
"""Half-precision matrix units want widths that are multiples of it."""
MAX_NEWTON_STEPS = 64
CONVERGED_EPS = 16
"""Weights whose sum is 1 within so many roundings are done."""
DENSE_FRACTION = 0.125
"""With more weights than this that are not zero, a matrix product is faster than gathering."""


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


@dataclass(frozen=True, eq=False)
class ReferencePatches:
    """The patches of all references at one tap, laid out for the search; made by `prepared`.

    `tokens` `[R, D]` unit rows in float32, R = K·N, reference after reference; `search` `[R, D']` the same in the
    search's dtype; `penalty` `[N, N]` γ·|ρ(q) − ρ(r)|, or None where γ is 0.
    """

    tokens: Tensor
    search: Tensor
    penalty: Tensor | None
    grid_hw: tuple[int, int]
    matching: Matching


def prepared(
    references: Tensor, grid_hw: tuple[int, int], matching: Matching, dtype: torch.dtype = torch.float32
) -> ReferencePatches:
    """Lay out references `[K, N, D]` (unit rows) for a search in `dtype`."""
    tokens = references.flatten(0, 1)  # [K, N, D] -> [R, D]
    rho = radii(grid_hw).to(tokens)
    penalty = matching.gamma * (rho[:, None] - rho[None, :]).abs() if matching.gamma else None
    return ReferencePatches(tokens, _for_search(tokens, 1.0, dtype), penalty, grid_hw, matching)


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
    above = torch.empty_like(z)
    close = CONVERGED_EPS * torch.finfo(z.dtype).eps
    for number in range(1, MAX_NEWTON_STEPS + 1):
        torch.sub(z, tau, out=above)
        excess = above.clamp_min_(0.0).sum(dim=-1, keepdim=True) - 1.0
        looks = z.device.type == "cpu" or number % 4 == 0  # asking a GPU makes it wait
        if looks and bool((excess.abs() <= close).all()):
            break
        tau += excess / above.sign_().sum(dim=-1, keepdim=True)  # the support's size, at least 1
    return z.sub_(tau).clamp_min_(0.0)


def matched_residuals(queries: Tensor, references: ReferencePatches) -> Tensor:
    """Visual residuals `R_v = f_q − f̂_q` of unit tokens `[B, N, D]`, same shape."""
    B, N, D = queries.shape
    rows = queries.reshape(B * N, D)
    tile = max(1, TILE_ELEMENTS // len(references.tokens))
    residuals = torch.empty_like(rows)
    for start in range(0, B * N, tile):
        q = rows[start : start + tile]  # [T, D]
        positions = torch.arange(start, start + len(q), device=q.device) % N
        torch.sub(q, _matched(similarities(q, positions, references), references), out=residuals[start : start + tile])
    return residuals.reshape(B, N, D)


def similarities(queries: Tensor, positions: Tensor, references: ReferencePatches) -> Tensor:
    """s(q, r) of unit rows `[T, D]` at patch `positions` `[T]` with all references: `[T, R]`.

    In float32 the cosine less the radial penalty; in half precision that less one, which changes no match.
    """
    s = _for_search(queries, -1.0, references.search.dtype) @ references.search.T
    if references.penalty is not None:
        by_reference = s.view(len(s), -1, references.penalty.shape[1])  # [T, K, N]
        by_reference -= references.penalty[positions].to(s.dtype)[:, None, :]
    return s


def match_weights(queries: Tensor, positions: Tensor, references: ReferencePatches) -> Tensor:
    """Weights `w(q, ·)` of all references, dense `[T, R]`, each row summing to 1; for explaining a few patches."""
    s, matching = similarities(queries, positions, references), references.matching
    if matching.kind == "sparsemax":
        return sparsemax(s.float() / matching.temperature)
    count = 1 if matching.kind == "nearest" else min(matching.k, s.shape[-1])
    best = s.topk(count, dim=-1).indices
    return torch.zeros(s.shape, device=s.device).scatter_(1, best, 1.0 / count)


def _for_search(rows: Tensor, constant: float, dtype: torch.dtype) -> Tensor:
    """Rows in the search's dtype; in half precision with `constant` as one more column, and zeros up to the alignment.

    A query has −1 there and a reference 1, so that their product is the cosine minus one.
    """
    if dtype == torch.float32:
        return rows
    D = rows.shape[1]
    wide = rows.new_zeros((len(rows), (D // ALIGNMENT + 1) * ALIGNMENT), dtype=dtype)
    wide[:, :D] = rows
    wide[:, D] = constant
    return wide


def _matched(s: Tensor, references: ReferencePatches) -> Tensor:
    """Matched reference f̂ `[T, D]` for similarities `s` `[T, R]`."""
    tokens, matching = references.tokens, references.matching
    if matching.kind == "nearest":
        return tokens[s.max(dim=-1).indices]  # faster than argmax on a CPU
    if matching.kind == "topk":
        best = s.topk(min(matching.k, s.shape[-1]), dim=-1).indices  # [T, k]
        return fn.normalize(tokens[best].mean(dim=1), dim=-1)
    rows = len(s) if s.device.type != "cpu" else max(1, CACHE_ELEMENTS // s.shape[1])
    mixed = [_mixed(sparsemax(part.float() / matching.temperature), tokens) for part in torch.split(s, rows)]
    return fn.normalize(torch.cat(mixed), dim=-1)


def _mixed(weights: Tensor, tokens: Tensor) -> Tensor:
    """Σ_r w(q, r) f_r `[T, D]` from the few weights that are not zero."""
    places = weights.nonzero()  # [n, 2]
    if len(places) > DENSE_FRACTION * weights.numel():
        return weights @ tokens
    row, column = places[:, 0].contiguous(), places[:, 1].contiguous()
    starts = torch.searchsorted(row, torch.arange(len(weights), device=row.device))
    return fn.embedding_bag(column, tokens, starts, per_sample_weights=weights[row, column], mode="sum")
