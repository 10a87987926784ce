"""From residuals to anomaly map and image score: the three branches (algorithm, section 5). Pure functions."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from inspector.detection import adapters as adapted
from inspector.detection.adapters import Adapters

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
    """Anomaly maps `[B, S, S]`, image scores `[B]`, the five terms `[B]` before their factors, and λ."""

    maps: Tensor
    image: Tensor
    parts: dict[str, Tensor]
    residual_weight: float


def score(
    evidence: Evidence, text_residual: Tensor | None, image_size: int, adapters: Adapters | None = None
) -> Scores:
    """Combine the branches that are on; `text_residual` is R_t `[D]` or None, `adapters` None is the training-free mode."""
    grids = evidence.grids
    seen = evidence.residuals if adapters is None else _each(adapters.visual, evidence.residuals)
    visual = mean_map([residual.norm(dim=-1) for residual in seen], grids, image_size)  # ‖A_v,l(R_v)‖₂
    parts = {"visual_map": top(visual)}
    weight = LAMBDA if adapters is None else adapted.LAMBDA
    if text_residual is None:
        return Scores(blurred(visual), parts["visual_map"], parts, weight)
    if evidence.tokens is None or evidence.global_token is None or evidence.global_residual is None:
        raise ValueError("the text branch needs tokens, global_token and global_residual, but one is None")
    if adapters is None:
        towards = towards_residual = text_residual
        aligned, global_residual = evidence.residuals[-1:], evidence.global_residual  # training-free: the last tap only
    else:
        towards, towards_residual = adapters.adapted_text(text_residual)
        aligned = _each(adapters.residual, evidence.residuals)
        global_residual = adapters.residual_cls(evidence.global_residual)
    text = upsampled(evidence.tokens @ towards, grids[-1], image_size)
    along = [(residual @ towards_residual).clamp_min(0.0) for residual in aligned]  # each [B, N_l]
    residual = mean_map(along, grids[-len(along) :], image_size)
    parts |= {
        "text_map": top(text),
        "text_cls": evidence.global_token @ towards,
        "residual_map": top(residual),
        "residual_cls": (global_residual @ towards_residual).clamp_min(0.0),
    }
    image = (
        0.5 * (parts["text_map"] + parts["text_cls"])
        + parts["visual_map"]
        + weight * 0.5 * (parts["residual_map"] + parts["residual_cls"])
    )
    return Scores(blurred(TEXT_WEIGHT * text + visual + weight * residual), image, parts, weight)


def _each(modules: nn.ModuleList, residuals: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Each tap's residuals through its own adapter."""
    return tuple(module(residual) for module, residual in zip(modules, residuals, strict=True))


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
