"""The judge: the method as plain, slow formulas in float64, to compare the product's path with.

Nothing here is shared with the product but the open_clip model that both look at.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as fn


def sparsemax(scores: np.ndarray) -> np.ndarray:
    """One row, by sorting."""
    ordered = np.sort(scores)[::-1]
    sums = np.cumsum(ordered)
    ranks = np.arange(1, len(scores) + 1)
    support = ranks[1 + ranks * ordered > sums].max()
    tau = (sums[support - 1] - 1) / support
    return np.maximum(0.0, scores - tau)


def vit_tokens(visual: torch.nn.Module, pixels: Tensor, taps: list[int]) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Dense tokens by block `[N, D]`, and the global feature `[D]`, of one picture `[1, 3, S, S]`."""
    v = visual.double()
    patches = v.conv1(pixels.double())
    G = patches.shape[-1]
    x = patches.reshape(1, patches.shape[1], G * G).permute(0, 2, 1)
    positions = v.positional_embedding
    old = round((positions.shape[0] - 1) ** 0.5)
    grid = positions[1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = fn.interpolate(grid, size=(G, G), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    positions = torch.cat([positions[:1], grid.reshape(G * G, -1)])
    u = v.ln_pre(torch.cat([v.class_embedding.reshape(1, 1, -1), x], dim=1) + positions)[0]
    blocks = list(v.transformer.resblocks)
    first = max(1, len(blocks) // 4)
    z = None
    found = {}
    for number, block in enumerate(blocks, start=1):
        h = block.ln_1(u)
        q, k, value = (h @ block.attn.in_proj_weight.T + block.attn.in_proj_bias).chunk(3, dim=-1)
        if number >= first:
            z = (u if z is None else z) + _attend(block.attn, value, value, value)
            if number in taps or number == len(blocks):
                dense = v.ln_post(z)[1:] @ v.proj
                found[number] = fn.normalize(dense, dim=-1).detach().numpy()
        u = u + _attend(block.attn, q, k, value)
        u = u + block.mlp(block.ln_2(u))
    return found, fn.normalize(u[0] @ v.proj, dim=-1).detach().numpy()


def _attend(attention: torch.nn.MultiheadAttention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    heads = []
    d = q.shape[-1] // attention.num_heads
    for head in range(attention.num_heads):
        part = slice(head * d, (head + 1) * d)
        weights = torch.softmax(q[:, part] @ k[:, part].T / d**0.5, dim=-1)
        heads.append(weights @ v[:, part])
    return torch.cat(heads, dim=-1) @ attention.out_proj.weight.T + attention.out_proj.bias


def residuals(query: np.ndarray, references: np.ndarray, gamma: float) -> np.ndarray:
    """R_v `[N, D]` of one picture; references `[K, N, D]`."""
    K, N, D = references.shape
    G = round(N**0.5)
    rho = np.array([np.hypot(i // G - (G - 1) / 2, i % G - (G - 1) / 2) for i in range(N)])
    bank, rho_bank = references.reshape(K * N, D), np.tile(rho, K)
    out = np.empty_like(query)
    for i in range(N):
        weights = sparsemax(bank @ query[i] - gamma * np.abs(rho[i] - rho_bank))
        matched = weights @ bank
        out[i] = query[i] - matched / np.linalg.norm(matched)
    return out


def smooth(pixels: np.ndarray) -> np.ndarray:
    """5×5 Gaussian, σ = 4, zero padding."""
    line = np.exp(-((np.arange(5) - 2.0) ** 2) / 32)
    kernel = np.outer(line, line) / line.sum() ** 2
    padded = np.pad(pixels, 2)
    out = np.zeros_like(pixels)
    for dy in range(5):
        for dx in range(5):
            out += kernel[dy, dx] * padded[dy : dy + pixels.shape[0], dx : dx + pixels.shape[1]]
    return out


def to_map(patches: np.ndarray, size: int) -> np.ndarray:
    G = round(len(patches) ** 0.5)
    grid = torch.from_numpy(patches.reshape(1, 1, G, G))
    return smooth(fn.interpolate(grid, size=(size, size), mode="bilinear", align_corners=False)[0, 0].numpy())


def top(pixels: np.ndarray) -> float:
    ordered = np.sort(pixels.reshape(-1))[::-1]
    return float(ordered[: max(1, int(len(ordered) * 0.01))].mean())


def judge(
    query: tuple[dict[int, np.ndarray], np.ndarray],
    references: list[tuple[dict[int, np.ndarray], np.ndarray]],
    taps: list[int],
    text: np.ndarray,
    size: int,
) -> tuple[np.ndarray, float, dict[str, float]]:
    """Anomaly map, image score and the five terms of one picture."""
    dense, g = query
    by_tap = {tap: residuals(dense[tap], np.stack([r[0][tap] for r in references]), 0.01) for tap in taps}
    mean_g = np.mean([r[1] for r in references], axis=0)
    mean_g /= np.linalg.norm(mean_g)
    visual = np.mean([to_map(np.linalg.norm(by_tap[tap], axis=1), size) for tap in taps], axis=0)
    text_map = to_map(dense[taps[-1]] @ text, size)
    residual = to_map(np.maximum(0.0, by_tap[taps[-1]] @ text), size)
    parts = {
        "text_map": top(text_map),
        "text_cls": float(g @ text),
        "visual_map": top(visual),
        "residual_map": top(residual),
        "residual_cls": max(0.0, float((g - mean_g) @ text)),
    }
    score = (
        0.5 * (parts["text_map"] + parts["text_cls"])
        + parts["visual_map"]
        + 0.5 * (parts["residual_map"] + parts["residual_cls"])
    )
    return smooth(0.1 * text_map + visual + residual), score, parts
