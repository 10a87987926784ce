"""The two kinds of image tower behind one small interface: a picture batch in, tokens of all taps out, in one pass.

Works on towers that `encoder.py` has built; imports torch alone, and asks for attributes, not for open_clip's classes.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from inspector.errors import EncoderError

MANY_TOKENS = 256
"""From here on, attention in bf16 on a CPU goes head by head."""


@dataclass(frozen=True, eq=False)
class Tokens:
    """Patch tokens of a batch, unit rows in float32.

    `taps`: one `[B, N_l, D_l]` per tap; `joint`: tokens of the last block `[B, N, D]` in the joint space with text
    (then the last tap is the same tensor), and `global_token` `[B, D]`; both None without a text tower.
    """

    taps: tuple[Tensor, ...]
    joint: Tensor | None = None
    global_token: Tensor | None = None


class Tower(Protocol):
    """A frozen image tower: normalised pictures `[B, 3, S, S]` to tokens."""

    visual: Any
    taps: tuple[int, ...]
    grids: tuple[tuple[int, int], ...]

    def __call__(self, pixels: Tensor) -> Tokens: ...


class VitTower:
    """A ViT of open_clip with the dual path: ordinary attention, and value-value attention for dense tokens."""

    def __init__(self, visual: Any, image_size: int, taps: tuple[int, ...] | None, *, with_joint: bool) -> None:
        self.visual = visual
        self._blocks = list(visual.transformer.resblocks)
        self.with_joint = with_joint
        depth = len(self._blocks)
        self.first_dense = max(1, depth // 4)  # b0, 1-based
        self.taps = taps or tuple(sorted({max(1, depth * quarter // 4) for quarter in (1, 2, 3, 4)}))
        _refuse_unordered(self.taps, self.first_dense, depth, "the blocks from where the dense path begins")
        if with_joint and self.taps[-1] != depth:
            raise EncoderError(
                f"encoder.taps is {list(self.taps)}, but the text and residual branches need the last block, {depth}; "
                "add it"
            )
        if any(not isinstance(getattr(block, "attn", None), nn.MultiheadAttention) for block in self._blocks):
            raise EncoderError("this ViT has attention of its own kind; only open_clip's standard blocks are supported")
        if visual.proj is None or visual.attn_pool is not None or visual.pool_type != "tok":
            raise EncoderError("this ViT does not pool by its class token, or has no projection; the method needs both")
        patch = visual.conv1.kernel_size[0]
        side, rest = divmod(image_size, patch)
        if side < 2 or rest:  # a rest would be a border of the picture that is never looked at
            raise EncoderError(
                f"encoder.image_size is {image_size} px; expected a multiple of the patch of {patch} px, for example "
                f"{max(2, round(image_size / patch)) * patch}"
            )
        self.grids = ((side, side),) * len(self.taps)
        self.positions = _resized_positions(visual.positional_embedding.detach(), side)  # [1 + N, width]

    def __call__(self, pixels: Tensor) -> Tokens:
        visual = self.visual
        x = visual.conv1(pixels).flatten(2).transpose(1, 2)  # [B, N, width]
        cls = visual.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        u = visual.ln_pre(torch.cat([cls, x], dim=1) + self.positions.to(x))  # [B, 1 + N, width]
        z: Tensor | None = None
        dense: list[Tensor] = []
        for number, block in enumerate(self._blocks[: self.taps[-1]], start=1):
            h = block.ln_1(u)
            attention = _Attention(block, h)
            if number >= self.first_dense:
                z = (u if z is None else z) + attention.value_value()
                if number in self.taps:
                    dense.append(self._projected(visual.ln_post(z)[:, 1:]))  # [B, N, D]
            if number == self.taps[-1]:
                if not self.with_joint:
                    return Tokens(taps=tuple(dense))
                u = u[:, :1]  # nothing reads the patches of the ordinary path after the last block: [B, 1, width]
            u = u + attention.ordinary(u.shape[1])
            u = u + block.ls_2(block.mlp(block.ln_2(u)))
        # Without the final layer norm: that is how the published numbers were obtained.
        return Tokens(taps=tuple(dense), joint=dense[-1], global_token=self._projected(u[:, 0]))

    def _projected(self, x: Tensor) -> Tensor:
        return fn.normalize((x @ self.visual.proj.to(x.dtype)).float(), dim=-1)


def _resized_positions(embedding: Tensor, side: int) -> Tensor:
    """Position embedding `[1 + n, width]` for a grid of `side`²: class part kept, patch part bilinear."""
    old = round((embedding.shape[0] - 1) ** 0.5)
    if old == side:
        return embedding
    grid = embedding[1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = fn.interpolate(grid.float(), size=(side, side), mode="bilinear", align_corners=False)
    patches = grid.permute(0, 2, 3, 1).reshape(side * side, -1).to(embedding.dtype)
    return torch.cat([embedding[:1], patches])


class _Attention:
    """Ordinary and value-value attention of one block over `h` `[B, 1 + N, width]`, with shared projections."""

    def __init__(self, block: Any, h: Tensor) -> None:
        B, T, width = h.shape
        self._block = block
        heads = block.attn.num_heads
        qkv = fn.linear(h, block.attn.in_proj_weight, block.attn.in_proj_bias)
        split = qkv.view(B, T, 3, heads, width // heads).permute(2, 0, 3, 1, 4)  # [3, B, heads, T, d_head]
        self._q, self._k, self._v = split.unbind(0)

    def ordinary(self, rows: int) -> Tensor:
        """A_qk of the first `rows` tokens `[B, rows, width]`."""
        return self._out(_attend(self._q[:, :, :rows], self._k, self._v))

    def value_value(self) -> Tensor:
        """A_vv of all tokens `[B, 1 + N, width]`."""
        return self._out(_attend(self._v, self._v, self._v))

    def _out(self, mixed: Tensor) -> Tensor:
        merged: Tensor = self._block.attn.out_proj(mixed.transpose(1, 2).flatten(2))
        scaled: Tensor = self._block.ls_1(merged)
        return scaled


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / √d_head) v: `[B, heads, rows, d_head]`.

    In bf16 on a CPU one head after the other: its matrix of all pairs then stays in the cache, which is more than twice as
    fast as torch's fused kernel (measured with 1,370 tokens).
    """
    if q.device.type != "cpu" or q.dtype != torch.bfloat16 or k.shape[2] < MANY_TOKENS:
        return fn.scaled_dot_product_attention(q, k, v)
    out = torch.empty(q.shape, dtype=q.dtype)
    nothing = q.new_zeros(())
    for picture in range(q.shape[0]):
        for head in range(q.shape[1]):
            keys, values = k[picture, head], v[picture, head]
            pairs = torch.addmm(nothing, q[picture, head], keys.T, beta=0, alpha=q.shape[-1] ** -0.5)  # [rows, T]
            torch.mm(torch.softmax(pairs, dim=-1), values, out=out[picture, head])
    return out


class ConvTower:
    """A convolutional tower whose taps are stages; `grid_side` is the finest patch grid that is matched."""

    def __init__(self, visual: Any, image_size: int, taps: tuple[int, ...] | None, grid_side: int | None) -> None:
        self.visual = visual.to(memory_format=torch.channels_last)  # half the time on a CPU
        self._grid_side = grid_side
        self._trunk = getattr(visual, "trunk", None)
        stages = _stage_count(visual)
        self.taps = taps or (tuple(range(1, stages + 1)) if stages < 4 else tuple(range(stages - 3, stages)))
        _refuse_unordered(self.taps, 1, stages, "the stages of this tower")
        weight = next(visual.parameters())
        blank = torch.zeros(1, 3, image_size, image_size, dtype=weight.dtype, device=weight.device)
        try:
            with torch.inference_mode():
                self.grids = tuple((feature.shape[2], feature.shape[3]) for feature in self._features(blank))
        except Exception as error:  # each kind of timm trunk fails in its own way on a size that it cannot take
            raise EncoderError(f"this tower gives no stages for pictures of {image_size} px: {error}") from error

    def __call__(self, pixels: Tensor) -> Tokens:
        features = self._features(pixels.contiguous(memory_format=torch.channels_last))
        return Tokens(taps=tuple(fn.normalize(f.flatten(2).transpose(1, 2), dim=-1) for f in features))  # [B, N_l, D_l]

    def _features(self, pixels: Tensor) -> list[Tensor]:
        if self._trunk is None:
            stages = self._resnet_stages(pixels)
        else:
            indices = [tap - 1 for tap in self.taps]  # timm counts from 0
            stages = list(self._trunk.forward_intermediates(pixels, indices=indices, intermediates_only=True))
        return [self._on_grid(stage.float()) for stage in stages]

    def _resnet_stages(self, pixels: Tensor) -> list[Tensor]:
        """Stages of open_clip's ModifiedResNet; its pooled output takes no other input size, so it is not asked for."""
        x = self.visual.stem(pixels)
        kept = []
        for number in range(1, max(self.taps) + 1):
            x = getattr(self.visual, f"layer{number}")(x)
            if number in self.taps:
                kept.append(x)
        return kept

    def _on_grid(self, feature: Tensor) -> Tensor:
        """Stages finer than the wished grid are averaged down to it; coarser ones keep their own."""
        side = self._grid_side
        if side is None or feature.shape[-1] <= side:
            return feature
        return fn.adaptive_avg_pool2d(feature, side)


def _stage_count(visual: Any) -> int:
    """Stages that can be tapped: four of a ModifiedResNet, or the features that a timm trunk lists of itself."""
    trunk = getattr(visual, "trunk", None)
    if trunk is None:
        if not all(hasattr(visual, name) for name in ("stem", "layer1", "layer4")):
            raise EncoderError(f"{type(visual).__name__} is a kind of image tower that is not supported")
        return 4
    if not hasattr(trunk, "feature_info") or not hasattr(trunk, "forward_intermediates"):
        raise EncoderError(f"the timm trunk {type(trunk).__name__} gives no features of its stages")
    return len(trunk.feature_info)


def _refuse_unordered(taps: tuple[int, ...], first: int, last: int, what: str) -> None:
    if not all(first <= tap <= last for tap in taps) or list(taps) != sorted(set(taps)):
        raise EncoderError(f"encoder.taps must rise within {first} … {last} ({what}), but is {list(taps)}")
