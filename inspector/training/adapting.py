"""Trains the residual adapters on auxiliary data (algorithm, section 6). The encoder stays frozen.

What the encoder says of each pair is computed once and kept on disk in half precision, so that memory does not grow with
the data. A run is resumed after each epoch, and the same seed gives the same adapters.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as fn

from inspector.detection.adapters import Adapters
from inspector.detection.encoder import Encoder
from inspector.detection.matching import matched_residuals, prepared
from inspector.errors import UsageError
from inspector.training.pairs import Pair

MARGIN = 1.0
"""τ of the losses."""
CLIP_NORM = 1.0
STATE = "inspector"


@dataclass(frozen=True)
class Settings:
    """One run; the defaults are the published ones."""

    epochs: int = 10
    seed: int = 0
    batch: int = 16
    visual_rate: float = 5e-4
    text_rate: float = 1e-4
    betas: tuple[float, float] = (0.5, 0.999)
    warm_up_epochs: int = 1


@dataclass(frozen=True, eq=False)
class Batch:
    """What the encoder says of B pairs: residuals per tap `[B, N_l, D_l]`, masks `[B, S, S]`, and with text the tokens
    of the last tap `[B, N, D]`, the global feature and its residual `[B, D]`."""

    residuals: tuple[Tensor, ...]
    mask: Tensor
    tokens: Tensor | None = None
    global_token: Tensor | None = None
    global_residual: Tensor | None = None


def encode_pair(encoder: Encoder, pair: Pair) -> dict[str, Tensor]:
    """The tensors of one pair, in half precision where they are features."""
    tokens = encoder.encode([pair.query, pair.reference])
    found: dict[str, Tensor] = {"mask": torch.from_numpy(pair.mask)}
    with torch.inference_mode():
        for number, (tap, grid) in enumerate(zip(tokens.taps, encoder.grids, strict=True)):
            references = prepared(tap[1:], grid, encoder.matching, encoder.dtype)
            found[f"tap{number}"] = matched_residuals(tap[:1], references)[0].half()
        if encoder.has_text and tokens.joint is not None and tokens.global_token is not None:
            found["tokens"] = tokens.joint[0].half()
            found["global_token"] = tokens.global_token[0].half()
            found["global_residual"] = (tokens.global_token[0] - tokens.global_token[1]).half()
    return {name: value.cpu().contiguous() for name, value in found.items()}


class Cache:
    """The encoded pairs, one file each; a file that is there is not made again."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.count = count

    def fill(self, encoder: Encoder, pair: Callable[[int], Pair], advance: Callable[[], None]) -> None:
        """Encode what is missing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for number in range(self.count):
            path = self._path(number)
            if not path.exists():
                partial = path.with_suffix(".partial")
                partial.write_bytes(safetensors.torch.save(encode_pair(encoder, pair(number))))
                partial.replace(path)
            advance()

    def batch(self, numbers: list[int], device: torch.device) -> Batch:
        """The pairs with these numbers, in float32 on the device."""
        loaded = [safetensors.torch.load_file(self._path(number)) for number in numbers]

        def stacked(name: str) -> Tensor | None:
            return torch.stack([each[name] for each in loaded]).to(device).float() if name in loaded[0] else None

        taps = sorted((name for name in loaded[0] if name.startswith("tap")), key=lambda name: int(name[3:]))
        return Batch(
            residuals=tuple(torch.stack([each[name] for each in loaded]).to(device).float() for name in taps),
            mask=torch.stack([each["mask"] for each in loaded]).to(device),
            tokens=stacked("tokens"),
            global_token=stacked("global_token"),
            global_residual=stacked("global_residual"),
        )

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.safetensors"


def losses(adapters: Adapters, batch: Batch, text_residual: Tensor | None, *, visual_turn: bool) -> dict[str, Tensor]:
    """The three losses of one batch; in the residual branch, `visual_turn` says which side learns."""
    sides = _Sides(batch.mask)
    before = [residual.norm(dim=-1) for residual in batch.residuals]  # ‖R‖ per tap, [B, N_l]
    changed = [module(residual) for module, residual in zip(adapters.visual, batch.residuals, strict=True)]
    grids = adapters.shape.grids
    found = {
        "visual": _mean([sides.length(c.norm(dim=-1), b, g) for c, b, g in zip(changed, before, grids, strict=True)])
    }
    if text_residual is None or batch.tokens is None or batch.global_token is None or batch.global_residual is None:
        return found
    text, residual_text = adapters.adapted_text(text_residual)
    bad = batch.mask.flatten(1).any(dim=1)
    margin = torch.tensor(MARGIN, device=batch.mask.device)
    found["text"] = (
        sides.margin(batch.tokens @ text, margin, grids[-1])
        + _margin(batch.global_token @ text, margin.expand(len(bad)), bad)
        + 1.0
        - text @ text_residual
    )
    if not visual_turn:
        residual = [module(each).detach() for module, each in zip(adapters.residual, batch.residuals, strict=True)]
        global_residual = adapters.residual_cls(batch.global_residual).detach()
        extra = 1.0 - residual_text @ text_residual
    else:
        residual = [module(each) for module, each in zip(adapters.residual, batch.residuals, strict=True)]
        global_residual, residual_text = adapters.residual_cls(batch.global_residual), residual_text.detach()
        kept = [sides.kept(r.norm(dim=-1), b, g) for r, b, g in zip(residual, before, grids, strict=True)]
        extra = _mean(kept)
    along = [sides.margin(r @ residual_text, MARGIN * b, g) for r, b, g in zip(residual, before, grids, strict=True)]
    length = MARGIN * batch.global_residual.norm(dim=-1)
    found["residual"] = _mean(along) + _margin(global_residual @ residual_text, length, bad) + extra
    return found


class _Sides:
    """Means over the normal and the anomalous pixels of a batch, each over its own count."""

    def __init__(self, mask: Tensor) -> None:
        self._mask = mask  # [B, S, S]

    def _pixels(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        grown = patches.reshape(len(patches), 1, *grid)
        size = self._mask.shape[-1]
        return fn.interpolate(grown, size=(size, size), mode="bilinear", align_corners=False)[:, 0]

    def _mean(self, pixels: Tensor, *, bad: bool) -> Tensor:
        chosen = self._mask if bad else ~self._mask
        return (pixels * chosen).sum() / chosen.sum().clamp_min(1)

    def length(self, now: Tensor, before: Tensor, grid: tuple[int, int]) -> Tensor:
        """mean_n ‖R̃‖ + mean_a |‖R̃‖ − ‖R‖|."""
        now, before = self._pixels(now, grid), self._pixels(before, grid)
        return self._mean(now, bad=False) + self._mean((now - before).abs(), bad=True)

    def margin(self, score: Tensor, margin: Tensor, grid: tuple[int, int]) -> Tensor:
        """mean_n relu(s) + mean_a relu(margin − s); the margin is one number or one per patch."""
        s = self._pixels(score, grid)
        limit = margin if margin.ndim == 0 else self._pixels(margin, grid)
        return self._mean(s.relu(), bad=False) + self._mean((limit - s).relu(), bad=True)

    def kept(self, now: Tensor, before: Tensor, grid: tuple[int, int]) -> Tensor:
        """| ‖R̃‖ − ‖R‖ |, normal and anomalous pixels each averaged over their own count."""
        off = (self._pixels(now, grid) - self._pixels(before, grid)).abs()
        return self._mean(off, bad=False) + self._mean(off, bad=True)


def _margin(score: Tensor, margin: Tensor, bad: Tensor) -> Tensor:
    """mean_n relu(s) + mean_a relu(margin − s) over pictures `[B]`."""
    normal = (score.relu() * ~bad).sum() / (~bad).sum().clamp_min(1)
    return normal + ((margin - score).relu() * bad).sum() / bad.sum().clamp_min(1)


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()


class Training:
    """A resumable run: adapters, optimiser, and what each epoch's losses were."""

    def __init__(self, encoder: Encoder, cache: Cache, settings: Settings, identity: str) -> None:
        self.settings = settings
        self.identity = identity
        self.history: list[dict[str, float]] = []
        self._cache = cache
        self._device = encoder.device
        self._text = None if encoder.text_residual is None else encoder.text_residual.clone()  # not of inference mode
        shape = encoder.adapter_shape
        torch.manual_seed(settings.seed)
        self.adapters = Adapters(shape).to(self._device)
        text = [p for name, p in self.adapters.named_parameters() if name.split(".")[0] in ("text", "residual_text")]
        visual = [p for p in self.adapters.parameters() if not any(p is other for other in text)]
        groups: list[dict[str, Any]] = [{"params": visual, "rate": settings.visual_rate}]
        groups += [{"params": text, "rate": settings.text_rate}] if text else []
        self._optimiser = torch.optim.Adam(groups, lr=settings.visual_rate, betas=settings.betas)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""
        return math.ceil(self._cache.count / self.settings.batch)

    @property
    def is_done(self) -> bool:
        """Whether all epochs are over."""
        return len(self.history) >= self.settings.epochs

    def run_epoch(self) -> Iterator[float]:
        """One epoch; gives the loss of each batch."""
        epoch = len(self.history)
        order = torch.randperm(
            self._cache.count, generator=torch.Generator().manual_seed(self.settings.seed * 100_003 + epoch)
        ).tolist()
        sums: dict[str, float] = {}
        for step in range(self.steps_per_epoch):
            numbers = order[step * self.settings.batch : (step + 1) * self.settings.batch]
            self._set_rates(epoch + step / self.steps_per_epoch)
            batch = self._cache.batch(numbers, self._device)
            found = losses(self.adapters, batch, self._text, visual_turn=epoch % 2 == 0)
            total = torch.stack(list(found.values())).sum()
            self._optimiser.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.adapters.parameters(), CLIP_NORM)
            self._optimiser.step()
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) * len(numbers)
            yield float(total.detach())
        self.history.append({name: round(value / self._cache.count, 6) for name, value in sums.items()})

    def _set_rates(self, epoch: float) -> None:
        """One warm-up epoch, then a cosine to 0."""
        warm = self.settings.warm_up_epochs
        left = max(1.0, self.settings.epochs - warm)
        factor = max(0.02, epoch / warm) if epoch < warm else 0.5 * (1.0 + math.cos(math.pi * (epoch - warm) / left))
        for group in self._optimiser.param_groups:
            group["lr"] = group["rate"] * factor

    def save(self, path: Path) -> None:
        """All that a resumed run needs, as tensors and JSON."""
        state = {f"adapters.{name}": value for name, value in self.adapters.state_dict().items()}
        for number, entry in self._optimiser.state_dict()["state"].items():
            state |= {f"optimiser.{number}.{name}": value for name, value in entry.items()}
        told = {"identity": self.identity, "settings": asdict(self.settings), "history": self.history}
        partial = path.with_name(f"{path.name}.partial")
        tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        partial.write_bytes(safetensors.torch.save(tensors, {STATE: json.dumps(told)}))
        partial.replace(path)

    def resume(self, path: Path) -> None:
        """Go on from what `save` wrote.

        Raises:
            UsageError: of other settings or data, or damaged.
        """
        try:
            with safe_open(path, "pt") as file:
                told = json.loads((file.metadata() or {}).get(STATE, "null"))
            state = safetensors.torch.load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise UsageError(f"{path}: a damaged state of a broken-off run; begin afresh with --restart") from error
        settings = json.loads(json.dumps(asdict(self.settings)))
        if not isinstance(told, dict) or told["identity"] != self.identity or told["settings"] != settings:
            raise UsageError(
                f"{path}: of a run with other data, encoder or settings; give the same ones, or begin afresh with --restart"
            )
        own = {name.removeprefix("adapters."): value for name, value in state.items() if name.startswith("adapters.")}
        self.adapters.load_state_dict(own)
        entries: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            kind, _, rest = name.partition(".")
            if kind == "optimiser":
                number, _, key = rest.partition(".")
                entries.setdefault(int(number), {})[key] = value
        self._optimiser.load_state_dict(self._optimiser.state_dict() | {"state": entries})
        self.history = told["history"]
