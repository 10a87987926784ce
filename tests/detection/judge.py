"""A second, slow writing of the method in float64 and plain numpy, to judge the fast one by. It shares no code with it.

Pictures must already have the tower's input size. Every loop is spelled out; nothing is tiled, fused or shared.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import torch
from safetensors.numpy import load_file

Array = npt.NDArray[np.float64]

MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
STD = np.array([0.26862954, 0.26130258, 0.27577711])
PHRASES = {
    "normal": ["object", "perfect object", "flawless object", "clean object", "undamaged object"],
    "anomalous": ["damaged object", "object with damaged"],
}
SENTENCES = """a photo of a {}.|a photo of the {}.|a cropped photo of a {}.|a cropped photo of the {}.
a close-up photo of a {}.|a close-up photo of the {}.|the {} in the image.|the {} in the scene.|an image of a {}.
an image of the {}.|a rendering of a {}.|a photo of one {}.|showing the {}.|showing a {}.|itap of a {}.""".replace(
    "\n", "|"
)


@dataclass
class Seen:
    """One picture: per tap `[N, D]`, and the global feature `[D]` or None."""

    taps: list[Array]
    grids: list[tuple[int, int]]
    global_feature: Array | None


@dataclass
class Judgement:
    anomaly_map: Array
    score: float
    parts: dict[str, float]


def unit(x: Array) -> Array:
    return x / np.sqrt((x * x).sum(axis=-1, keepdims=True))


def planes_of(image: npt.NDArray[np.uint8]) -> Array:
    return ((image.astype(np.float64) / 255.0 - MEAN) / STD).transpose(2, 0, 1)


def bilinear(grid: Array, height: int, width: int) -> Array:
    """`[h, w]` to `[height, width]`, pixel centres at halves, edges repeated."""
    out = np.zeros((height, width))
    h, w = grid.shape
    for i in range(height):
        y = min(max((i + 0.5) * h / height - 0.5, 0.0), h - 1.0)
        y0 = math.floor(y)
        y1 = min(y0 + 1, h - 1)
        for j in range(width):
            x = min(max((j + 0.5) * w / width - 0.5, 0.0), w - 1.0)
            x0 = math.floor(x)
            x1 = min(x0 + 1, w - 1)
            above = grid[y0, x0] * (1 - (x - x0)) + grid[y0, x1] * (x - x0)
            below = grid[y1, x0] * (1 - (x - x0)) + grid[y1, x1] * (x - x0)
            out[i, j] = above * (1 - (y - y0)) + below * (y - y0)
    return out


class JudgeVit:
    """The dual path of section 1, from the checkpoint's arrays."""

    def __init__(self, config: Path, checkpoint: Path, image_size: int) -> None:
        keys = json.loads(config.read_text())
        self.weights = {
            k: np.asarray(v, np.float64) for k, v in load_file(checkpoint).items() if k.startswith("visual.")
        }
        self.quick = bool(keys["quick_gelu"])
        self.depth = int(keys["vision_cfg"]["layers"])
        self.head_width = int(keys["vision_cfg"]["head_width"])
        self.patch = int(keys["vision_cfg"]["patch_size"])
        self.side = image_size // self.patch

    def seen(self, image: npt.NDArray[np.uint8]) -> Seen:
        w = self.weights
        u = self._layer_norm(self._embedded(planes_of(image)), "visual.ln_pre")
        first = self.depth // 4
        tapped = [self.depth * quarter // 4 for quarter in (1, 2, 3, 4)]
        z = u
        taps = []
        for number in range(1, self.depth + 1):
            name = f"visual.transformer.resblocks.{number - 1}"
            h = self._layer_norm(u, f"{name}.ln_1")
            if number == first:
                z = u + self._attention(h, name, value_value=True)
            elif number > first:
                z = z + self._attention(h, name, value_value=True)
            if number in tapped:
                taps.append(unit(self._layer_norm(z, "visual.ln_post")[1:] @ w["visual.proj"]))
            u = u + self._attention(h, name, value_value=False)
            u = u + self._mlp(self._layer_norm(u, f"{name}.ln_2"), name)
        return Seen(taps, [(self.side, self.side)] * len(taps), unit(u[0] @ w["visual.proj"]))

    def _embedded(self, planes: Array) -> Array:
        kernel = self.weights["visual.conv1.weight"]  # [width, 3, p, p]
        rows = [self.weights["visual.class_embedding"]]
        for i in range(self.side):
            for j in range(self.side):
                patch = planes[:, i * self.patch : (i + 1) * self.patch, j * self.patch : (j + 1) * self.patch]
                rows.append((kernel * patch[None]).sum(axis=(1, 2, 3)))
        positions = self.weights["visual.positional_embedding"]
        old = round(math.sqrt(len(positions) - 1))
        grid = positions[1:].reshape(old, old, -1)
        resized = np.stack([bilinear(grid[:, :, c], self.side, self.side) for c in range(grid.shape[2])], axis=-1)
        return np.stack(rows) + np.concatenate([positions[:1], resized.reshape(self.side**2, -1)])

    def _layer_norm(self, x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def _attention(self, h: Array, name: str, *, value_value: bool) -> Array:
        width = h.shape[1]
        full = h @ self.weights[f"{name}.attn.in_proj_weight"].T + self.weights[f"{name}.attn.in_proj_bias"]
        q, k, v = full[:, :width], full[:, width : 2 * width], full[:, 2 * width :]
        if value_value:
            q, k = v, v
        mixed = np.zeros_like(h)
        for start in range(0, width, self.head_width):
            head = slice(start, start + self.head_width)
            logits = q[:, head] @ k[:, head].T / math.sqrt(self.head_width)
            raised = np.exp(logits - logits.max(axis=1, keepdims=True))
            mixed[:, head] = raised / raised.sum(axis=1, keepdims=True) @ v[:, head]
        return mixed @ self.weights[f"{name}.attn.out_proj.weight"].T + self.weights[f"{name}.attn.out_proj.bias"]

    def _mlp(self, x: Array, name: str) -> Array:
        inner = x @ self.weights[f"{name}.mlp.c_fc.weight"].T + self.weights[f"{name}.mlp.c_fc.bias"]
        if self.quick:
            raised = inner / (1.0 + np.exp(-1.702 * inner))
        else:
            raised = inner * 0.5 * (1.0 + np.vectorize(math.erf)(inner / math.sqrt(2.0)))
        return raised @ self.weights[f"{name}.mlp.c_proj.weight"].T + self.weights[f"{name}.mlp.c_proj.bias"]


class JudgeStages:
    """Stages of a convolutional tower, by open_clip's or timm's own pass in float64."""

    def __init__(self, config: Path, checkpoint: Path, indices: list[int]) -> None:
        self.model = double_model(config, checkpoint)
        self.indices = indices

    def seen(self, image: npt.NDArray[np.uint8]) -> Seen:
        planes = torch.from_numpy(planes_of(image))[None]
        with torch.no_grad():
            out = self.model.visual.forward_intermediates(planes, indices=self.indices, intermediates_only=True)
        stages = [stage[0].numpy() for stage in out["image_intermediates"]]
        taps = [unit(stage.reshape(stage.shape[0], -1).T) for stage in stages]
        return Seen(taps, [(stage.shape[1], stage.shape[2]) for stage in stages], None)


def double_model(config: Path, checkpoint: Path) -> Any:
    open_clip.add_model_config(config)
    model = open_clip.create_model(config.stem, pretrained=str(checkpoint))
    return model.double().eval()


def text_residual(config: Path, checkpoint: Path) -> Array:
    """Section 2, with the text tower in float64."""
    model = double_model(config, checkpoint)
    sides = {}
    for side, phrases in PHRASES.items():
        sentences = [sentence.format(phrase) for phrase in phrases for sentence in SENTENCES.split("|")]
        assert len(sentences) == 15 * len(phrases)
        with torch.no_grad():
            embedded = model.encode_text(open_clip.tokenize(sentences)).numpy()
        sides[side] = unit(unit(embedded).mean(axis=0))
    return unit(sides["anomalous"] - sides["normal"])


def sparsemax(scores: Array) -> Array:
    """By sorting, as Martins & Astudillo give it."""
    ordered = np.sort(scores)[::-1]
    total, threshold = 0.0, 0.0
    for rank, value in enumerate(ordered, start=1):
        total += value
        if 1.0 + rank * value > total:
            threshold = (total - 1.0) / rank
    return np.maximum(scores - threshold, 0.0)


def residuals(queries: Array, references: list[Array], grid: tuple[int, int], gamma: float = 0.01) -> Array:
    """Section 4 for one tap: `[N, D]`."""
    rho = []
    for i in range(grid[0]):
        for j in range(grid[1]):
            rho.append(math.hypot(i - (grid[0] - 1) / 2, j - (grid[1] - 1) / 2))
    bank = np.concatenate(references)
    out = np.zeros_like(queries)
    for q, feature in enumerate(queries):
        scores = np.array([feature @ bank[r] - gamma * abs(rho[q] - rho[r % len(rho)]) for r in range(len(bank))])
        out[q] = feature - unit(sparsemax(scores) @ bank)
    return out


def smooth(pixels: Array) -> Array:
    """5×5 Gaussian of σ = 4, zeros outside."""
    offsets = range(-2, 3)
    kernel = np.array([[math.exp(-(dy * dy + dx * dx) / 32.0) for dx in offsets] for dy in offsets])
    kernel /= kernel.sum()
    padded = np.pad(pixels, 2)
    out = np.zeros_like(pixels)
    for dy in range(5):
        for dx in range(5):
            out += kernel[dy, dx] * padded[dy : dy + pixels.shape[0], dx : dx + pixels.shape[1]]
    return out


def enlarged(values: Array, grid: tuple[int, int], size: int) -> Array:
    return smooth(bilinear(values.reshape(grid), size, size))


def top(pixels: Array) -> float:
    ordered = np.sort(pixels.reshape(-1))[::-1]
    return float(ordered[: max(1, math.floor(0.01 * ordered.size))].mean())


def judged(query: Seen, references: list[Seen], size: int, text: Array | None) -> Judgement:
    """Sections 3 to 5, training-free."""
    per_tap = [
        residuals(query.taps[tap], [reference.taps[tap] for reference in references], query.grids[tap])
        for tap in range(len(query.taps))
    ]
    maps = [enlarged(np.sqrt((r * r).sum(axis=1)), grid, size) for r, grid in zip(per_tap, query.grids, strict=True)]
    visual = sum(maps[1:], maps[0]) / len(maps)
    parts = {"visual_map": top(visual)}
    if text is None:
        return Judgement(smooth(visual), parts["visual_map"], parts)
    assert query.global_feature is not None
    known = [reference.global_feature for reference in references if reference.global_feature is not None]
    mean_global = unit(np.mean(known, axis=0))
    of_text = enlarged(query.taps[-1] @ text, query.grids[-1], size)
    residual = enlarged(np.maximum(0.0, per_tap[-1] @ text), query.grids[-1], size)
    parts["text_map"] = top(of_text)
    parts["text_cls"] = float(query.global_feature @ text)
    parts["residual_map"] = top(residual)
    parts["residual_cls"] = max(0.0, float((query.global_feature - mean_global) @ text))
    score = (
        0.5 * parts["text_map"]
        + 0.5 * parts["text_cls"]
        + parts["visual_map"]
        + 0.5 * parts["residual_map"]
        + 0.5 * parts["residual_cls"]
    )
    return Judgement(smooth(0.1 * of_text + visual + residual), score, parts)
