"""From residuals to anomaly map and image score: the three branches (algorithm, section 5). Pure functions."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as fn

BLUR_SIDE_PX = 5
BLUR_SIGMA_PX = 4.0
TOP_FRACTION = 0.01
TEXT_WEIGHT = 0.1
LAMBDA = 1.0
"""λ, the weight of the residual branch without adapters."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a batch shows.

    `residuals` one `[B, N_l, D_l]` per tap with its grid; `tokens` the last tap `[B, N, D]`, `global_token` `[B, D]`,
    and `global_residual` g − ḡ `[B, D]`, all three None where the text branch is off.
    """

    residuals: tuple[Tensor, ...]
    grids: tuple[tuple[int, int], ...]
    tokens: Tensor | None = None
    global_token: Tensor | None = None
    global_residual: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Scores:
    """Anomaly maps `[B, S, S]`, image scores `[B]`, and the five terms `[B]` before their factors."""

    maps: Tensor
    image: Tensor
    parts: dict[str, Tensor]


def score(evidence: Evidence, text_residual: Tensor | None, image_size: int) -> Scores:
    """Combine the branches that are on; `text_residual` is R_t `[D]` or None."""
    patches = [residual.norm(dim=-1) for residual in evidence.residuals]  # ‖R_v,l‖₂, each [B, N_l]
    visual = mean_map(patches, evidence.grids, image_size)
    parts = {"visual_map": top(visual)}
    maps, image = visual, parts["visual_map"]
    if text_residual is not None:
        if evidence.tokens is None or evidence.global_token is None or evidence.global_residual is None:
            raise ValueError("the text branch needs tokens, global_token and global_residual, but one is None")
        grid = evidence.grids[-1]
        text = upsampled(evidence.tokens @ text_residual, grid, image_size)
        aligned = (evidence.residuals[-1] @ text_residual).clamp_min(0.0)  # training-free: the last tap only
        residual = upsampled(aligned, grid, image_size)
        parts |= {
            "text_map": top(text),
            "text_cls": evidence.global_token @ text_residual,
            "residual_map": top(residual),
            "residual_cls": (evidence.global_residual @ text_residual).clamp_min(0.0),
        }
        maps = TEXT_WEIGHT * text + visual + LAMBDA * residual
        image = (
            0.5 * (parts["text_map"] + parts["text_cls"])
            + parts["visual_map"]
            + LAMBDA * 0.5 * (parts["residual_map"] + parts["residual_cls"])
        )
    return Scores(maps=blurred(maps), image=image, parts=parts)


def mean_map(patches: list[Tensor], grids: tuple[tuple[int, int], ...], size_px: int) -> Tensor:
    """Mean over taps of their smoothed maps `[B, S, S]`; taps of one grid are averaged before they are enlarged."""
    if len(set(grids)) == 1:
        return upsampled(torch.stack(patches).mean(dim=0), grids[0], size_px)
    each = [upsampled(values, grid, size_px) for values, grid in zip(patches, grids, strict=True)]
    return torch.stack(each).mean(dim=0)


def upsampled(patches: Tensor, grid_hw: tuple[int, int], size_px: int) -> Tensor:
    """Patch scores `[B, N]` as a smoothed map `[B, S, S]`."""
    grid = patches.reshape(patches.shape[0], 1, *grid_hw)  # [B, 1, gh, gw]
    pixels = fn.interpolate(grid, size=(size_px, size_px), mode="bilinear", align_corners=False)
    return blurred(pixels[:, 0])


def blurred(maps: Tensor) -> Tensor:
    """5×5 Gaussian with σ = 4 and zero padding on `[B, S, S]`, as two one-dimensional passes."""
    offsets = torch.arange(BLUR_SIDE_PX, dtype=maps.dtype, device=maps.device) - BLUR_SIDE_PX // 2
    weights = torch.exp(-(offsets**2) / (2 * BLUR_SIGMA_PX**2))
    kernel = weights / weights.sum()
    half = BLUR_SIDE_PX // 2
    rows = fn.conv2d(maps[:, None], kernel.view(1, 1, -1, 1), padding=(half, 0))
    return fn.conv2d(rows, kernel.view(1, 1, 1, -1), padding=(0, half))[:, 0]


def top(maps: Tensor) -> Tensor:
    """Mean of the largest 1 % of the pixels of each map: `[B, S, S]` -> `[B]`."""
    pixels = maps.flatten(1)
    count = max(1, int(pixels.shape[1] * TOP_FRACTION))
    return pixels.topk(count, dim=1, sorted=False).values.mean(dim=1)
