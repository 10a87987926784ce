"""What the embedded encoder is trained for: faulty patches far from every reference patch, normal ones near.

The distance, its matching and its aggregation are the product's: length of the residual after the nearest reference, mean
over taps, mean of the largest hundredth. Pure functions of tensors. ``B`` pictures, ``E`` episodes, ``K`` references,
``N`` patches of a grid, ``D`` channels of a tap, ``T`` taps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
TOP_FRACTION = 0.01
CONTRAST_TEMPERATURE = 0.1
DISTANCE_EPS = 1e-4
"""Under the root, so that a distance of zero has a gradient."""


def normalised(pictures: Tensor) -> Tensor:
    """uint8 RGB ``[B, 3, S, S]`` to the tower's input."""
    mean = torch.tensor(CLIP_MEAN, device=pictures.device).view(1, 3, 1, 1)
    std = torch.tensor(CLIP_STD, device=pictures.device).view(1, 3, 1, 1)
    return (pictures.float() / 255.0 - mean) / std


def patches(feature: Tensor, side: int) -> Tensor:
    """Tap ``[B, D, h, w]`` as the product takes it: averaged down to ``side``, never up, unit length: ``[B, N, D]``."""
    if feature.shape[-1] > side:
        feature = fn.adaptive_avg_pool2d(feature, side)
    return fn.normalize(feature.flatten(2).transpose(1, 2), dim=-1, eps=1e-6)


def on_grid(distances: Tensor, side: int) -> Tensor:
    """Distances ``[..., n]`` of a square grid, enlarged bilinearly to ``side`` patches a side: ``[..., N]``."""
    own = round(distances.shape[-1] ** 0.5)
    if own == side:
        return distances
    planes = distances.reshape(-1, 1, own, own)
    larger = fn.interpolate(planes, size=(side, side), mode="bilinear", align_corners=False)
    return larger.reshape(*distances.shape[:-1], side * side)


def nearest_distance(queries: Tensor, references: Tensor) -> Tensor:
    """Length of the residual after the nearest reference patch.

    Args:
        queries: ``[E, Q, D]``, unit rows.
        references: ``[E, R, D]``, unit rows.

    Returns:
        ``[E, Q]`` in 0..2. The search is outside the gradient; the distance of the found pair is inside.
    """
    with torch.no_grad():
        found = torch.bmm(queries, references.transpose(1, 2)).argmax(-1)
    matched = references.gather(1, found.unsqueeze(-1).expand(-1, -1, references.shape[-1]))
    return (2.0 * (1.0 - (queries * matched).sum(-1)).clamp_min(0.0) + DISTANCE_EPS).sqrt()


class DistanceHead(nn.Module):
    """Distance to logit by a learned scale and offset per tap and, last, for their mean."""

    def __init__(self, taps: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((taps + 1,), math.log(6.0)))
        self.offset = nn.Parameter(torch.full((taps + 1,), 0.7))

    def forward(self, distances: Tensor) -> Tensor:
        """Distances ``[T, E, Q]`` to logits ``[T + 1, E, Q]``."""
        together = torch.cat([distances, distances.mean(0, keepdim=True)])
        return self.log_scale.exp().view(-1, 1, 1) * (together - self.offset.view(-1, 1, 1))


def grid_targets(mask: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Mask ``[E, S, S]`` to faulty and surely normal patches, both bool ``[E, N]``; the rim is neither."""
    covered = fn.adaptive_avg_pool2d(mask.float().unsqueeze(1), side)
    touched = fn.max_pool2d((covered > 0.0).float(), 3, 1, 1)
    peak = covered.amax((2, 3), keepdim=True)
    return (covered >= torch.minimum(0.3 * torch.ones_like(peak), 0.7 * peak)).flatten(1), (touched == 0).flatten(1)


def patch_loss(logits: Tensor, faulty: Tensor, clean: Tensor) -> Tensor:
    """Cross-entropy of logits ``[T, E, Q]``, faulty and clean patches weighing the same."""
    of_faulty = fn.softplus(-logits)[:, faulty].mean()
    of_clean = fn.softplus(logits)[:, clean].mean()
    return 0.5 * (of_faulty + of_clean)


def top_mean(scores: Tensor) -> Tensor:
    """Mean of the largest 1 % along the last axis."""
    return scores.topk(max(1, round(TOP_FRACTION * scores.shape[-1])), -1).values.mean(-1)


def ranking_loss(normal: Tensor, faulty: Tensor) -> Tensor:
    """The faulty picture should score above the normal one; logits ``[T, E, N]`` each."""
    return fn.softplus(top_mean(normal) - top_mean(faulty)).mean()


def picture_loss(normal: Tensor, faulty: Tensor) -> Tensor:
    """Cross-entropy of whole pictures: what counts is their largest hundredth; logits ``[T, E, N]`` each."""
    return 0.5 * (fn.softplus(top_mean(normal)) + fn.softplus(-top_mean(faulty))).mean()


@dataclass(frozen=True)
class SecondView:
    """The same pictures seen anew, ``[B, 3, S, S]``, and the ``theta`` ``[B, 2, 3]`` that moved them."""

    pictures: Tensor
    theta: Tensor


def second_view(pictures: Tensor, generator: torch.Generator) -> SecondView:
    """Small turn, zoom, shift and a change of light of the tower's input ``[B, 3, S, S]``."""
    count = pictures.shape[0]
    chance = (torch.rand(count, 8, generator=generator) * 2.0 - 1.0).to(pictures.device)
    turn, zoom = chance[:, 0] * 0.35, torch.exp(chance[:, 1] * 0.15)
    cos, sin = torch.cos(turn) * zoom, torch.sin(turn) * zoom
    theta = torch.stack([cos, -sin, chance[:, 2] * 0.15, sin, cos, chance[:, 3] * 0.15], 1).view(-1, 2, 3)
    grid = fn.affine_grid(theta, list(pictures.shape), align_corners=False)
    moved = fn.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    gain = 1.0 + 0.2 * chance[:, 4].view(-1, 1, 1, 1)
    tint = 0.15 * chance[:, 5:8].view(-1, 3, 1, 1)
    noise = 0.05 * torch.randn(moved.shape, generator=generator).to(moved.device)
    return SecondView(moved * gain + tint + noise, theta)


def contrast_loss(first: Tensor, second: Tensor, theta: Tensor, generator: torch.Generator, points: int = 48) -> Tensor:
    """InfoNCE between matching positions of two views of the same pictures.

    Args:
        first: Tap of the pictures, ``[B, D, h, w]``.
        second: The same tap of their second views.
        theta: ``[B, 2, 3]`` of ``second_view``.
        generator: Chooses the positions.
        points: Positions per picture; the others are the negatives.
    """
    count, width = first.shape[:2]
    spots = (torch.rand(count, 1, points, 2, generator=generator) * 1.6 - 0.8).to(first.device)
    flat = torch.cat([spots, torch.ones_like(spots[..., :1])], -1)
    sources = torch.einsum("bij,bnpj->bnpi", theta, flat)
    inside = (sources.abs().amax(-1) < 1.0).flatten()
    there = fn.grid_sample(second, spots, align_corners=False)
    here = fn.grid_sample(first, sources, align_corners=False)
    left = fn.normalize(here.permute(0, 2, 3, 1).reshape(-1, width)[inside], dim=-1)
    right = fn.normalize(there.permute(0, 2, 3, 1).reshape(-1, width)[inside], dim=-1)
    logits = left @ right.T / CONTRAST_TEMPERATURE
    return fn.cross_entropy(logits, torch.arange(logits.shape[0], device=logits.device)) / math.log(
        max(2, logits.shape[0])
    )
