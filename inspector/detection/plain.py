"""The method as research code runs it: one picture at a time, float32, attention and sparsemax spelled out, a full sort.

Nothing of the product scores by it. `inspector bench` measures the fast path against it in the same run, and the tests
that both give the same numbers.
"""

import torch
from torch import Tensor
from torch.nn import functional as fn

from inspector.detection import scoring
from inspector.detection.bank import ResidualBank
from inspector.detection.encoder import Encoder
from inspector.detection.matching import Matching, radii
from inspector.detection.towers import Tokens, VitTower
from inspector.errors import EncoderError
from inspector.types import ImageArray


def plain_tokens(encoder: Encoder, image: ImageArray) -> Tokens:
    """Encode one picture.

    Raises:
        EncoderError: the encoder is not in float32.
    """
    if encoder.dtype != torch.float32:
        raise EncoderError(f"the plain path runs in fp32, but the encoder is in {encoder.precision}")
    pixels = encoder.prepare([image])
    with torch.inference_mode():
        tower = encoder.tower
        return _vit_tokens(tower, pixels) if isinstance(tower, VitTower) else tower(pixels)


def plain_score(encoder: Encoder, bank: ResidualBank, image: ImageArray) -> float:
    """Image score of one picture, training-free."""
    tokens = plain_tokens(encoder, image)
    with torch.inference_mode():
        residuals = tuple(
            _residuals(query[0], references.flatten(0, 1), grid, encoder.matching)[None]
            for query, references, grid in zip(tokens.taps, bank.taps, encoder.grids, strict=True)
        )
        evidence = scoring.Evidence(residuals, encoder.grids)
        if encoder.has_text and tokens.global_token is not None and bank.mean_global is not None:
            residual = tokens.global_token - bank.mean_global
            evidence = scoring.Evidence(residuals, encoder.grids, tokens.joint, tokens.global_token, residual)
        return float(scoring.score(evidence, encoder.text_residual, encoder.canvas).image)


def _vit_tokens(tower: VitTower, pixels: Tensor) -> Tokens:
    visual = tower.visual
    x = visual.conv1(pixels).flatten(2).transpose(1, 2)
    cls = visual.class_embedding.expand(1, 1, -1)
    u = visual.ln_pre(torch.cat([cls, x], dim=1) + tower.positions.to(x))
    z, dense = u, []
    for number, block in enumerate(visual.transformer.resblocks, start=1):
        h = block.ln_1(u)
        if number >= tower.first_dense:
            start = u if number == tower.first_dense else z
            z = start + _attention(block, h, value_value=True)
            if number in tower.taps:
                dense.append(fn.normalize(visual.ln_post(z)[:, 1:] @ visual.proj, dim=-1))
        u = u + _attention(block, h, value_value=False)
        u = u + block.ls_2(block.mlp(block.ln_2(u)))
    if not tower.with_joint:
        return Tokens(tuple(dense))
    return Tokens(tuple(dense), dense[-1], fn.normalize(u[:, 0] @ visual.proj, dim=-1))


def _attention(block: torch.nn.Module, h: Tensor, *, value_value: bool) -> Tensor:
    """Softmax of the full matrix of all pairs; the projections are computed for each path anew."""
    attention: torch.nn.MultiheadAttention = block.attn  # type: ignore[assignment]
    B, T, width = h.shape
    qkv = fn.linear(h, attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = (part.view(B, T, attention.num_heads, -1).transpose(1, 2) for part in qkv.chunk(3, dim=-1))
    if value_value:
        q, k = v, v
    weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1)
    mixed: Tensor = block.ls_1(attention.out_proj((weights @ v).transpose(1, 2).reshape(B, T, width)))  # type: ignore[operator]
    return mixed


def _residuals(queries: Tensor, bank: Tensor, grid_hw: tuple[int, int], matching: Matching) -> Tensor:
    """`[N, D]` against `[K·N, D]`."""
    rho = radii(grid_hw).to(queries)
    references = rho.repeat(len(bank) // len(rho))
    s = queries @ bank.T - matching.gamma * (rho[:, None] - references[None, :]).abs()
    if matching.kind == "nearest":
        return queries - bank[s.argmax(dim=-1)]
    if matching.kind == "topk":
        return queries - fn.normalize(bank[s.topk(min(matching.k, len(bank))).indices].mean(dim=1), dim=-1)
    return queries - fn.normalize(_sorted_sparsemax(s / matching.temperature) @ bank, dim=-1)


def _sorted_sparsemax(s: Tensor) -> Tensor:
    """By sorting all of each row, as Martins & Astudillo (2016) give it."""
    ordered = s.sort(dim=-1, descending=True).values
    total = ordered.cumsum(dim=-1) - 1.0
    rank = torch.arange(1, s.shape[-1] + 1, dtype=s.dtype, device=s.device)
    support = (ordered * rank > total).sum(dim=-1, keepdim=True)
    return (s - total.gather(-1, support - 1) / support).clamp_min(0.0)
