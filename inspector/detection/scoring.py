"""From residuals to anomaly map and image score: the three branches (algorithm, section 5). Pure functions."""

from dataclasses import dataclass
from functools import lru_cache

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


@dataclass(frozen=True)
class Canvas:
    """The size of a map, and of the windows that a score is taken from: each of `window_px` a side, every `step_px`.

    A picture that is seen at once is one window. One that is seen in tiles has one for each: a defect that fills a tile's
    largest hundredth must not count less because there are other tiles.
    """

    size_hw: tuple[int, int]
    window_px: int
    step_px: int

    @classmethod
    def square(cls, side_px: int) -> "Canvas":
        """Of a picture that is seen at once."""
        return cls((side_px, side_px), side_px, side_px)

    def windows(self, maps: Tensor) -> Tensor:
        """`[B, H, W]` -> `[B, T, S, S]`."""
        S, step = self.window_px, self.step_px
        return maps.unfold(1, S, step).unfold(2, S, step).flatten(1, 2)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a batch shows.

    `residuals` one `[B, N_l, D_l]` per tap with its grid; `tokens` the last tap `[B, N, D]`, `global_token` `[B, D]`,
    and `global_residual` g − ḡ `[B, D]`, all three None where the text branch is off. `gains` are factors on the residuals'
    lengths, one `[B, N_l]` per tap, of what people taught about the product; None: nothing.
    """

    residuals: tuple[Tensor, ...]
    grids: tuple[tuple[int, int], ...]
    tokens: Tensor | None = None
    global_token: Tensor | None = None
    global_residual: Tensor | None = None
    gains: tuple[Tensor, ...] | None = None


@dataclass(frozen=True, eq=False)
class Scores:
    """Anomaly maps `[B, H, W]`, image scores `[B]`, the five terms `[B]` before their factors, and λ."""

    maps: Tensor
    image: Tensor
    parts: dict[str, Tensor]
    residual_weight: float


def score(evidence: Evidence, text_residual: Tensor | None, canvas: Canvas, adapters: Adapters | None = None) -> Scores:
    """Combine the branches that are on; `text_residual` is R_t `[D]` or None, `adapters` None is the training-free mode.

    Of several windows the one with the highest score gives the image score and its parts.
    """
    grids = evidence.grids
    seen = evidence.residuals if adapters is None else _each(adapters.visual, evidence.residuals)
    lengths = [residual.norm(dim=-1) for residual in seen]  # ‖A_v,l(R_v)‖₂
    if evidence.gains is not None:
        lengths = [length * gain for length, gain in zip(lengths, evidence.gains, strict=True)]
    visual = PatchScores(lengths, grids, canvas.size_hw)
    parts = {"visual_map": _tops(visual.map, canvas)}
    weight = LAMBDA if adapters is None else adapted.LAMBDA
    if text_residual is None:
        return _worst(visual.smooth_map, parts["visual_map"], parts, weight)
    if evidence.tokens is None or evidence.global_token is None or evidence.global_residual is None:
        raise ValueError("the text branch needs tokens, global_token and global_residual, but one is None")
    if adapters is None:
        towards = towards_residual = text_residual
        aligned, global_residual = evidence.residuals[-1:], evidence.global_residual  # training-free: the last tap only
    else:
        towards, towards_residual = adapters.adapted_text(text_residual)
        aligned = _each(adapters.residual, evidence.residuals)
        global_residual = adapters.residual_cls(evidence.global_residual)
    text = PatchScores([evidence.tokens @ towards], grids[-1:], canvas.size_hw)
    along = [(residual @ towards_residual).clamp_min(0.0) for residual in aligned]  # each [B, N_l]
    residual = PatchScores(along, grids[-len(along) :], canvas.size_hw)
    parts |= {
        "text_map": _tops(text.map, canvas),
        "text_cls": (evidence.global_token @ towards)[:, None].expand_as(parts["visual_map"]),
        "residual_map": _tops(residual.map, canvas),
        "residual_cls": (global_residual @ towards_residual).clamp_min(0.0)[:, None].expand_as(parts["visual_map"]),
    }
    image = (
        0.5 * (parts["text_map"] + parts["text_cls"])
        + parts["visual_map"]
        + weight * 0.5 * (parts["residual_map"] + parts["residual_cls"])
    )
    maps = TEXT_WEIGHT * text.smooth_map + visual.smooth_map + weight * residual.smooth_map
    return _worst(maps, image, parts, weight)


def _tops(maps: Tensor, canvas: Canvas) -> Tensor:
    """`top` of each window: `[B, H, W]` -> `[B, T]`."""
    windows = canvas.windows(maps)
    return top(windows.flatten(0, 1)).reshape(windows.shape[:2])


def _worst(maps: Tensor, image: Tensor, parts: dict[str, Tensor], weight: float) -> Scores:
    """Image scores and parts `[B, T]` of the windows, those of the worst one of each picture."""
    place = image.argmax(dim=1, keepdim=True)
    return Scores(
        maps, image.gather(1, place)[:, 0], {name: part.gather(1, place)[:, 0] for name, part in parts.items()}, weight
    )


def _each(modules: nn.ModuleList, residuals: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Each tap's residuals through its own adapter."""
    return tuple(module(residual) for module, residual in zip(modules, residuals, strict=True))


class PatchScores:
    """One branch: patch scores `[B, N_l]` per tap, and the maps `[B, H, W]` that they become, meaned over taps.

    Enlarging (bilinear) and smoothing (5×5 Gaussian with σ = 4, zero padding) are linear and separable, so each is a
    matrix from the left and from the right; smoothing twice is another such matrix.
    """

    def __init__(self, patches: list[Tensor], grids: tuple[tuple[int, int], ...], size_hw: tuple[int, int]) -> None:
        if len(set(grids)) == 1:  # taps of one grid are meaned before they are enlarged
            patches, grids = [torch.stack(patches).mean(dim=0)], grids[:1]
        self._patches, self._grids, self._size_hw = patches, grids, size_hw

    @property
    def map(self) -> Tensor:
        """The branch's map, smoothed once."""
        return self._enlarged(blurs=1)

    @property
    def smooth_map(self) -> Tensor:
        """Smoothed once more, as a part of the anomaly map."""
        return self._enlarged(blurs=2)

    def _enlarged(self, blurs: int) -> Tensor:
        each = []
        for values, (gh, gw) in zip(self._patches, self._grids, strict=True):
            rows, columns = (
                _spread(side, size_px, blurs, values.device, values.dtype)
                for side, size_px in zip((gh, gw), self._size_hw, strict=True)
            )
            each.append(rows @ values.reshape(-1, gh, gw) @ columns.T)  # [B, H, W]
        return each[0] if len(each) == 1 else torch.stack(each).mean(dim=0)


@lru_cache(maxsize=64)
def _spread(side: int, size_px: int, blurs: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """`[S, side]`: enlarges one axis of a patch grid, and smooths it `blurs` times."""
    with torch.inference_mode(mode=False):
        each = torch.eye(side, dtype=torch.float64)[None]  # every patch alone, [1, side, side]
        spread = fn.interpolate(each, size=size_px, mode="linear", align_corners=False)[0].T  # [S, side]
        offsets = torch.arange(BLUR_SIDE_PX, dtype=torch.float64) - BLUR_SIDE_PX // 2
        kernel = torch.exp(-(offsets**2) / (2 * BLUR_SIGMA_PX**2))
        for _ in range(blurs):
            columns = spread.T[:, None]  # [side, 1, S]
            spread = fn.conv1d(columns, (kernel / kernel.sum()).view(1, 1, -1), padding=BLUR_SIDE_PX // 2)[:, 0].T
        return spread.to(device=device, dtype=dtype).contiguous()


def top(maps: Tensor) -> Tensor:
    """Mean of the largest 1 % of the pixels of each map: `[B, S, S]` -> `[B]`."""
    pixels = maps.flatten(1)
    count = max(1, int(pixels.shape[1] * TOP_FRACTION))
    return pixels.topk(count, dim=1, sorted=False).values.mean(dim=1)
