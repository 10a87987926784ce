"""The embedded image tower: a small residual network and a closed-form description, known to timm and so to open_clip.

Four taps. Three are learned, at strides 4, 8 and 16; the fourth, at stride 8, is what can be said of a patch without
learning (block cosine transforms on a logarithmic scale, mean and spread of colour) seen through a small learned
projection: it fails elsewhere than the network does. Each tap ends in a linear map without an activation, because
features that are all positive lie so close together that distances between them say little. Imports torch and timm only.
"""

import math
from typing import Any

import torch
from timm.models import register_model
from torch import Tensor, nn
from torch.nn import functional as fn

WIDTHS = (32, 64, 128, 256)
TAP_WIDTHS = (64, 128, 128, 96)
STRIDES_PX = (4, 8, 16, 8)
FINE_PX, COARSE_PX = 8, 16
COARSE_COUNT = 6
"""Coefficients a side of the coarse transform that are kept: the fine one sees the others."""
FINE_GAIN, COARSE_GAIN = 40.0, 20.0
"""What a coefficient is multiplied by before log(1 + x): a fortieth of the input's deviation is still told from noise."""
LUMA = (0.0803, 0.1534, 0.0314)
"""ITU-R BT.601 luma in 0..1 from channels normalised by CLIP's deviations."""


def _unit(inside: int, outside: int, side: int, stride: int = 1, *, active: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(inside, outside, side, stride, side // 2, bias=False),
        nn.BatchNorm2d(outside),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if active else nn.Sequential(*layers)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut; the shortcut is averaged, not skipped over, where the grid gets coarser."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = _unit(inside, outside, 3, stride)
        self.second = _unit(outside, outside, 3, active=False)
        same = stride == 1 and inside == outside
        self.shortcut: nn.Module = nn.Identity()
        if not same:
            pool: nn.Module = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
            self.shortcut = nn.Sequential(pool, _unit(inside, outside, 1, active=False))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` -> `[B, C', H/stride, W/stride]`."""
        return fn.relu(self.second(self.first(x)) + self.shortcut(x))


def cosine_basis(side: int, count: int) -> Tensor:
    """The first `count` × `count` cosine functions of a block but the constant one: `[count² − 1, 1, side, side]`."""
    k = torch.arange(count, dtype=torch.float64)
    x = torch.arange(side, dtype=torch.float64) + 0.5
    rows = torch.cos(math.pi / side * k[:, None] * x[None, :]) * math.sqrt(2.0 / side)  # [count, side]
    rows[0] /= math.sqrt(2.0)
    basis = torch.einsum("ai,bj->abij", rows, rows).reshape(count * count, 1, side, side)
    return basis[1:].float()


class Descriptors(nn.Module):
    """What a patch looks like without learning, at stride 8; `projection` is all that learns."""

    fine: Tensor
    coarse: Tensor

    def __init__(self, outside: int, hidden: int = 128) -> None:
        super().__init__()
        luma = torch.tensor(LUMA).view(1, 3, 1, 1)
        self.register_buffer("fine", cosine_basis(FINE_PX, FINE_PX) * luma, persistent=False)
        self.register_buffer("coarse", cosine_basis(COARSE_PX, COARSE_COUNT) * luma, persistent=False)
        count = len(self.fine) + len(self.coarse) + 6
        self.scale = nn.BatchNorm2d(count)
        self.projection = nn.Sequential(_unit(count, hidden, 1), _unit(hidden, outside, 1, active=False))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised RGB `[B, 3, S, S]` -> `[B, D, S/8, S/8]`."""
        tap: Tensor = self.projection(self.scale(self.describe(x)))
        return tap

    def describe(self, x: Tensor) -> Tensor:
        """Fine and coarse spectra, colour means and deviations: `[B, 104, S/8, S/8]`."""
        fine = _log_spectrum(x, self.fine, 4, FINE_GAIN)
        padded = fn.pad(x, (4, 4, 4, 4), mode="reflect")
        mean = fn.avg_pool2d(padded, COARSE_PX, 8)
        square = fn.avg_pool2d(padded * padded, COARSE_PX, 8)
        deviation = (square - mean * mean).clamp_min(1e-4).sqrt()
        return torch.cat(
            [fn.avg_pool2d(fine, 3, 2, 1), _log_spectrum(x, self.coarse, 8, COARSE_GAIN), mean, deviation], dim=1
        )


def _log_spectrum(x: Tensor, basis: Tensor, stride: int, gain: float) -> Tensor:
    edge = (basis.shape[-1] - stride) // 2
    coefficients = fn.conv2d(fn.pad(x, (edge, edge, edge, edge), mode="reflect"), basis.to(x.dtype), stride=stride)
    return torch.log1p(coefficients.abs() * gain)


class EmbeddedTower(nn.Module):
    """A trunk as open_clip's `TimmModel` wants it; only its stages are of use, it has no pooled output."""

    def __init__(self) -> None:
        super().__init__()
        w = WIDTHS
        self.stem = nn.Sequential(
            _unit(3, w[0], 3, 2), _unit(w[0], w[0], 3), _unit(w[0], w[1], 3), nn.AvgPool2d(2)
        )  # stride 4
        self.stages = nn.ModuleList(
            nn.Sequential(ResidualBlock(inside, outside, stride), ResidualBlock(outside, outside, 1))
            for inside, outside, stride in ((w[1], w[1], 1), (w[1], w[2], 2), (w[2], w[3], 2))
        )
        self.heads = nn.ModuleList(
            _unit(inside, outside, 1, active=False) for inside, outside in zip(w[1:], TAP_WIDTHS[:3], strict=True)
        )
        self.descriptors = Descriptors(TAP_WIDTHS[3])
        self.num_features = TAP_WIDTHS[2]
        self.default_cfg = {"input_size": (3, 256, 256), "pool_size": None}
        self.feature_info = [
            {"num_chs": width, "reduction": stride, "module": f"tap{number}"}
            for number, (width, stride) in enumerate(zip(TAP_WIDTHS, STRIDES_PX, strict=True), 1)
        ]

    def forward_intermediates(
        self, x: Tensor, indices: list[int] | None = None, *, intermediates_only: bool = True
    ) -> list[Tensor]:
        """Taps `[B, D, h, w]` by number, from 0, of normalised RGB `[B, 3, S, S]`, S a multiple of 16."""
        if not intermediates_only:
            raise ValueError("the embedded tower has no pooled output; ask for intermediates_only")
        wanted = list(range(len(TAP_WIDTHS))) if indices is None else indices
        found: dict[int, Tensor] = {}
        picture, x = x, self.stem(x)
        for number, (stage, head) in enumerate(zip(self.stages, self.heads, strict=True)):
            x = stage(x)
            if number in wanted:
                found[number] = head(x)
        if len(self.stages) in wanted:
            found[len(self.stages)] = self.descriptors(picture)
        return [found[number] for number in wanted]

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """timm asks each model for it; there is no classifier to take away."""

    def forward(self, x: Tensor) -> Tensor:
        """Mean of the coarsest learned tap, `[B, D]`: open_clip wants a picture's embedding; it was never trained."""
        return self.forward_intermediates(x, [2])[0].mean((2, 3))


@register_model
def inspector_embedded(pretrained: bool = False, **_: Any) -> EmbeddedTower:
    """The tower under the name by which `timm.create_model` finds it; its weights come from open_clip's checkpoint.

    Raises:
        ValueError: weights of timm's were asked for; there are none.
    """
    if pretrained:
        raise ValueError("inspector_embedded has no weights on a hub; load the checkpoint through open_clip")
    return EmbeddedTower()
