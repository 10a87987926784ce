"""Residual adapters of the adapted mode (algorithm, section 6): trained once on other products, never for a new one.

torch and safetensors only. An untrained adapter is exactly the identity. A file of adapters belongs to one tower, whose
fingerprint stands in it; another one is refused. Precision and image size may differ.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as fn

from inspector.errors import EncoderError, EncoderMismatchError

FORMAT = 1
MANIFEST = "inspector"
LAMBDA = 0.1
"""λ of the adapted mode."""
ADVICE = "Make the adapters with `inspector adapt` and the encoder that is configured."


class ResidualAdapter(nn.Module):
    """x + W₂ GELU(W₁ LN(x)) on the last axis; bottleneck D/4, no biases, W₂ starts at 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.down = nn.Linear(width, max(1, width // 4), bias=False)
        self.up = nn.Linear(max(1, width // 4), width, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """`[…, D]` to `[…, D]`."""
        delta: Tensor = self.up(fn.gelu(self.down(self.norm(x))))
        return x + delta


class MultiScaleConvAdapter(nn.Module):
    """Residual adapter that sees its neighbours: identity, 3×3 and dilated 3×3 side by side at a quarter of the width."""

    def __init__(self, width: int, grid_hw: tuple[int, int]) -> None:
        super().__init__()
        self.grid_hw = grid_hw
        narrow = max(1, width // 4)
        self.norm = nn.LayerNorm(width)
        self.down = nn.Linear(width, narrow)
        self.near = nn.Conv2d(narrow, narrow, 3, padding=1, groups=narrow)
        self.far = nn.Conv2d(narrow, narrow, 3, padding=2, dilation=2, groups=narrow)
        self.joined_norm = nn.LayerNorm(3 * narrow)
        self.mix = nn.Linear(3 * narrow, narrow)
        self.up = nn.Linear(narrow, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, N, D]` to `[B, N, D]`."""
        h = fn.relu(self.down(self.norm(x)))  # [B, N, D/4]
        grid = h.transpose(1, 2).reshape(h.shape[0], h.shape[2], *self.grid_hw)  # [B, D/4, gh, gw]
        scales = [h, *(conv(grid).flatten(2).transpose(1, 2) for conv in (self.near, self.far))]
        mixed = fn.relu(self.mix(self.joined_norm(torch.cat(scales, dim=-1))))
        delta: Tensor = self.up(mixed)
        return x + delta


@dataclass(frozen=True)
class Shape:
    """What adapters must fit: the width and grid of each tap, and the joint width D, None without text."""

    widths: tuple[int, ...]
    grids: tuple[tuple[int, int], ...]
    joint: int | None


class Adapters(nn.Module):
    """All adapters of one encoder: A_v per tap, and with text A_t, A^res_v per tap, A^res_t and A^res_cls."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        layers = list(zip(shape.widths, shape.grids, strict=True))
        self.visual = nn.ModuleList(MultiScaleConvAdapter(width, grid) for width, grid in layers)
        self.has_text = shape.joint is not None
        if shape.joint is not None:
            self.text = ResidualAdapter(shape.joint)
            self.residual = nn.ModuleList(MultiScaleConvAdapter(width, grid) for width, grid in layers)
            self.residual_text = ResidualAdapter(shape.joint)
            self.residual_cls = ResidualAdapter(shape.joint)

    def adapted_text(self, text_residual: Tensor) -> tuple[Tensor, Tensor]:
        """A_t(R_t) and A^res_t(R_t), unit length, each `[D]`."""
        return (
            fn.normalize(self.text(text_residual), dim=-1),
            fn.normalize(self.residual_text(text_residual), dim=-1),
        )

    @property
    def digest(self) -> str:
        """SHA-256 over all weights."""
        found = hashlib.sha256()
        for name, value in sorted(self.state_dict().items()):
            found.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()


def save_adapters(path: Path, adapters: Adapters, manifest: dict[str, Any]) -> None:
    """Write weights and manifest (encoder, data and their licences, losses) as one safetensors file, whole or not at all.

    Raises:
        EncoderError: the file cannot be written.
    """
    told = manifest | {"format": FORMAT, "sha256": adapters.digest}
    state = {name: value.detach().cpu().contiguous() for name, value in adapters.state_dict().items()}
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(safetensors.torch.save(state, {MANIFEST: json.dumps(told)}))
        partial.replace(path)
    except OSError as error:
        raise EncoderError(f"{path}: the adapters cannot be written: {error.strerror}") from error


def load_adapters(path: Path, shape: Shape, fingerprint: str) -> Adapters:
    """Read adapters that were made for the tower with this fingerprint (`Encoder.tower_fingerprint`).

    Raises:
        EncoderError: missing, truncated, foreign or not finite.
        EncoderMismatchError: made for another encoder.
    """
    manifest, state = _read(path)
    if manifest.get("tower_fingerprint") != fingerprint:
        raise EncoderMismatchError(
            f"{path}: made for the encoder {manifest.get('encoder', '?')} "
            f"({str(manifest.get('tower_fingerprint'))[:12]}), but {fingerprint[:12]} is loaded. {ADVICE}"
        )
    adapters = Adapters(shape)
    try:
        adapters.load_state_dict(state)
    except RuntimeError as error:
        raise EncoderError(f"{path}: the weights do not fit this encoder's taps. {ADVICE}") from error
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise EncoderError(f"{path}: holds values that are not finite. {ADVICE}")
    if manifest.get("sha256") != adapters.digest:
        raise EncoderError(f"{path}: the weights were changed (SHA-256 differs). {ADVICE}")
    return adapters.requires_grad_(False).eval()


def read_manifest(path: Path) -> dict[str, Any]:
    """What a file of adapters says of itself.

    Raises:
        EncoderError: missing, or no adapters.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise EncoderError(f"{path}: no such file of adapters; set encoder.adapters to one, or leave it out")
    try:
        with safe_open(path, "pt") as file:
            manifest = json.loads((file.metadata() or {}).get(MANIFEST, "null"))
        state = safetensors.torch.load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise EncoderError(f"{path}: truncated, or not a safetensors file: {error}. {ADVICE}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise EncoderError(f"{path}: not adapters of format {FORMAT}. {ADVICE}")
    return manifest, state
