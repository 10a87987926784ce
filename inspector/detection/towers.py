"""The two kinds of image tower behind one small interface: a picture batch in, tokens of all taps out, in one pass.

Works on towers that `encoder.py` has built; imports torch alone, and asks for attributes, not for open_clip's classes.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from inspector.errors import EncoderError


@dataclass(frozen=True, eq=False)
class Tokens:
    """Patch tokens of a batch, unit rows in float32.

    `taps`: one `[B, N_l, D_l]` per tap; `joint`: tokens of the last block `[B, N, D]` in the joint space with text, and
    `global_token` `[B, D]`; both None for a convolutional tower.
    """

    taps: tuple[Tensor, ...]
    joint: Tensor | None = None
    global_token: Tensor | None = None


class Tower(Protocol):
    """A frozen image tower: normalised pictures `[B, 3, S, S]` to tokens."""

    taps: tuple[int, ...]
    grids: tuple[tuple[int, int], ...]

    def __call__(self, pixels: Tensor) -> Tokens: ...


class VitTower:
    """A ViT of open_clip with the dual path: ordinary attention, and value-value attention for dense tokens."""

    def __init__(self, visual: Any, image_size: int, taps: tuple[int, ...] | None) -> None:
        self._visual = visual
        self._blocks = list(visual.transformer.resblocks)
        depth = len(self._blocks)
        self._first_dense = max(1, depth // 4)  # b0, 1-based
        self.taps = taps or tuple(sorted({max(1, depth * quarter // 4) for quarter in (1, 2, 3, 4)}))
        if not all(self._first_dense <= tap <= depth for tap in self.taps):
            raise EncoderError(
                f"encoder.taps must lie between block {self._first_dense}, where the dense path begins, and block "
                f"{depth}, but is {list(self.taps)}"
            )
        if any(not isinstance(getattr(block, "attn", None), nn.MultiheadAttention) for block in self._blocks):
            raise EncoderError("this ViT has attention of its own kind; only open_clip's standard blocks are supported")
        if visual.proj is None or getattr(visual, "attn_pool", None) is not None:
            raise EncoderError("this ViT pools by attention or has no projection; the method needs a class token")
        patch = visual.conv1.kernel_size[0]
        if image_size < patch:
            raise EncoderError(f"encoder.image_size is {image_size} px, but one patch has {patch} px")
        side = image_size // patch
        self.grids = ((side, side),) * len(self.taps)
        self._positions = _resized_positions(visual.positional_embedding.detach(), side)  # [1 + N, width]

    def __call__(self, pixels: Tensor) -> Tokens:
        visual = self._visual
        x = visual.conv1(pixels).flatten(2).transpose(1, 2)  # [B, N, width]
        cls = visual.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        u = visual.ln_pre(torch.cat([cls, x], dim=1) + self._positions.to(x))  # [B, 1 + N, width]
        z: Tensor | None = None
        dense: dict[int, Tensor] = {}
        for number, block in enumerate(self._blocks, start=1):
            with_dense = number >= self._first_dense
            ordinary, vv = _dual_attention(block, block.ln_1(u), with_dense=with_dense)
            if vv is not None:
                z = (u if z is None else z) + vv
                if number in self.taps or number == len(self._blocks):
                    dense[number] = self._projected(visual.ln_post(z)[:, 1:])
            u = u + ordinary
            u = u + block.ls_2(block.mlp(block.ln_2(u)))
        # Without the final layer norm: that is how the published numbers were obtained.
        return Tokens(
            taps=tuple(dense[tap] for tap in self.taps),
            joint=dense[len(self._blocks)],
            global_token=self._projected(u[:, 0]),
        )

    def _projected(self, x: Tensor) -> Tensor:
        return fn.normalize((x @ self._visual.proj.to(x.dtype)).float(), dim=-1)


def _resized_positions(embedding: Tensor, side: int) -> Tensor:
    """Position embedding `[1 + n, width]` for a grid of `side`²: class part kept, patch part bilinear."""
    old = round((embedding.shape[0] - 1) ** 0.5)
    if old == side:
        return embedding
    grid = embedding[1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = fn.interpolate(grid.float(), size=(side, side), mode="bilinear", align_corners=False)
    patches = grid.permute(0, 2, 3, 1).reshape(side * side, -1).to(embedding.dtype)
    return torch.cat([embedding[:1], patches])


def _dual_attention(block: Any, h: Tensor, *, with_dense: bool) -> tuple[Tensor, Tensor | None]:
    """A_qk(h) and, if wanted, A_vv(h), with the same value and output projections: each `[B, 1 + N, width]`."""
    attention = block.attn
    B, T, width = h.shape
    heads = attention.num_heads
    qkv = fn.linear(h, attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = (part.reshape(B, T, heads, width // heads).transpose(1, 2) for part in qkv.chunk(3, dim=-1))

    def out(mixed: Tensor) -> Tensor:
        merged: Tensor = attention.out_proj(mixed.transpose(1, 2).reshape(B, T, width))
        scaled: Tensor = block.ls_1(merged)
        return scaled

    ordinary = out(fn.scaled_dot_product_attention(q, k, v))
    return ordinary, out(fn.scaled_dot_product_attention(v, v, v)) if with_dense else None


class ConvTower:
    """A convolutional tower whose taps are stages; `grid_side` is the finest patch grid that is matched."""

    def __init__(self, visual: Any, image_size: int, taps: tuple[int, ...] | None, grid_side: int | None) -> None:
        self._visual = visual
        self._grid_side = grid_side
        self._trunk = getattr(visual, "trunk", None)
        stages = 4 if self._trunk is None else len(self._trunk.feature_info)
        self.taps = taps or (tuple(range(1, stages + 1)) if stages < 4 else tuple(range(stages - 3, stages)))
        if not all(1 <= tap <= stages for tap in self.taps) or list(self.taps) != sorted(set(self.taps)):
            raise EncoderError(f"encoder.taps must rise within 1 … {stages} (stages of this tower), but is {self.taps}")
        weight = next(visual.parameters())
        blank = torch.zeros(1, 3, image_size, image_size, dtype=weight.dtype, device=weight.device)
        with torch.inference_mode():
            self.grids = tuple((feature.shape[2], feature.shape[3]) for feature in self._features(blank))

    def __call__(self, pixels: Tensor) -> Tokens:
        features = self._features(pixels)
        return Tokens(taps=tuple(fn.normalize(f.flatten(2).transpose(1, 2), dim=-1) for f in features))  # [B, N_l, D_l]

    def _features(self, pixels: Tensor) -> list[Tensor]:
        if self._trunk is None:
            stages = self._resnet_stages(pixels)
        else:
            indices = [tap - 1 for tap in self.taps]
            stages = list(self._trunk.forward_intermediates(pixels, indices=indices, intermediates_only=True))
        return [self._on_grid(stage.float()) for stage in stages]

    def _resnet_stages(self, pixels: Tensor) -> list[Tensor]:
        """Stages of open_clip's ModifiedResNet; its pooled output takes no other input size, so it is not asked for."""
        x = self._visual.stem(pixels)
        kept = []
        for number in range(1, max(self.taps) + 1):
            x = getattr(self._visual, f"layer{number}")(x)
            if number in self.taps:
                kept.append(x)
        return kept

    def _on_grid(self, feature: Tensor) -> Tensor:
        """Stages finer than the wished grid are averaged down to it; coarser ones keep their own."""
        side = self._grid_side
        if side is None or feature.shape[-1] <= side:
            return feature
        return fn.adaptive_avg_pool2d(feature, side)
