"""Train the embedded image encoder on pictures the project draws itself.

``python -m inspector.training.embedded --out DIR --minutes 25`` trains, reports and exports the open_clip
weights the product loads where no other CLIP is installed. Only the first three stages learn; the rest of the
tower and the text tower stay as initialised, and the sidecar says that they are not to be used.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from inspector.training.assess import drawn_quality
from inspector.training.episodes import DrawnEpisodes, EpisodeBatch
from inspector.training.objectives import (
    DistanceHead,
    contrast_loss,
    grid_targets,
    nearest_distance,
    normalised,
    on_grid,
    patch_loss,
    ranking_loss,
    second_view,
)

WEIGHTS_FOLDER = Path(__file__).resolve().parents[1] / "detection" / "weights"
CONFIG_PATH = WEIGHTS_FOLDER / "embedded.json"
TAPS = (1, 2, 3)
STRIDE_PX = 8
HEAD_SPEED = 5.0
TRAINED_STAGES = ("conv", "bn", "layer1", "layer2", "layer3")
SIDECAR = {"matching": {"kind": "nearest"}, "taps": list(TAPS), "text_tower": False, "image_size": 256}


@dataclass(frozen=True)
class Settings:
    """One training run. The schedule follows ``minutes`` where given, else ``episodes``."""

    seed: int = 0
    episodes: int = 8000
    minutes: float | None = None
    size_px: int = 192
    episodes_per_batch: int = 4
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    contrast_weight: float = 0.3
    average_decay: float = 0.998
    workers: int = 1
    report_every_s: float = 240.0
    held_out: int = 24
    held_out_size_px: int = 256


@dataclass
class Progressed:
    """How far a run has come, and what it said on the way."""

    step: int = 0
    elapsed_s: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def create_tower(config_path: Path) -> nn.Module:
    """open_clip's CLIP of our own configuration, untrained, fp32."""
    import open_clip

    logging.getLogger().setLevel(logging.ERROR)
    open_clip.add_model_config(str(config_path))
    model: nn.Module = open_clip.create_model(config_path.stem, pretrained=None, precision="fp32")
    return model


def stage_features(model: nn.Module, pictures: Tensor) -> list[Tensor]:
    """Taps ``[B, D, h, w]`` at strides 4, 8 and 16 of the tower's input ``[B, 3, S, S]``."""
    visual: Any = model.visual
    out = visual.forward_intermediates(pictures, indices=list(TAPS), intermediates_only=True)
    taps: list[Tensor] = out["image_intermediates"]
    return [tap.float() for tap in taps]


def losses(
    model: nn.Module,
    head: DistanceHead,
    batch: EpisodeBatch,
    generator: torch.Generator,
    contrast_weight: float,
) -> Tensor:
    """Patch, ranking and contrast loss of one batch of episodes."""
    episodes, count = batch.references.shape[:2]
    pictures = normalised(torch.cat([batch.references.flatten(0, 1), batch.normal, batch.faulty]))
    view = second_view(pictures[-2 * episodes : -episodes], generator)
    side = pictures.shape[-1] // STRIDE_PX
    distances, contrast = [], torch.zeros(())
    shown_all = torch.cat([pictures, view.pictures]).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        taps = stage_features(model, shown_all)
    for tap in taps:
        shown, asked = (
            on_grid(tap[: episodes * count], side),
            on_grid(tap[episodes * count : -episodes], side),
        )
        queries = asked.reshape(2, episodes, *asked.shape[1:]).transpose(0, 1).flatten(1, 2)
        distances.append(nearest_distance(queries, shown.reshape(episodes, -1, shown.shape[-1])))
        contrast = contrast + contrast_loss(tap[-3 * episodes : -2 * episodes], tap[-episodes:], view.theta, generator)
    stacked = torch.stack(distances)
    faulty, clean = grid_targets(batch.mask, side)
    nothing, everything = torch.zeros_like(faulty), torch.ones_like(clean)
    patches = patch_loss(head(stacked), torch.cat([nothing, faulty], 1), torch.cat([everything, clean], 1))
    together = torch.cat([stacked, stacked.mean(0, keepdim=True)])
    normal_part, faulty_part = together.chunk(2, -1)
    return patches + ranking_loss(normal_part, faulty_part) + contrast_weight * contrast / len(TAPS)


class Training:
    """A resumable run: tower, its running average, optimiser and schedule."""

    def __init__(self, settings: Settings) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.model = create_tower(CONFIG_PATH)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad = name.removeprefix("visual.").startswith(TRAINED_STAGES) and "visual." in name
        self.model.to(memory_format=torch.channels_last)
        self.head = DistanceHead(len(TAPS))
        self.average = copy.deepcopy(self.model).eval()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        decay = {"weight_decay": settings.weight_decay, "speed": 1.0}
        plain = {"weight_decay": 0.0, "speed": 1.0}
        groups: list[dict[str, Any]] = [
            {"params": [p for p in trained if p.ndim > 1], **decay},
            {"params": [p for p in trained if p.ndim <= 1], **plain},
            {"params": list(self.head.parameters()), **plain, "speed": HEAD_SPEED},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate)
        self.progressed = Progressed()

    def done_fraction(self) -> float:
        """0 at the start, 1 at the end of the schedule."""
        if self.settings.minutes is not None:
            return min(1.0, self.progressed.elapsed_s / (60.0 * self.settings.minutes))
        return min(1.0, self.progressed.step * self.settings.episodes_per_batch / self.settings.episodes)

    def step(self, batch: EpisodeBatch) -> float:
        """One optimiser step; the loss before it."""
        started = time.monotonic()
        rate = self.settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * self.done_fraction()))
        for group in self.optimiser.param_groups:
            group["lr"] = group["speed"] * rate * min(1.0, (self.progressed.step + 1) / 50.0)
        self.model.train()
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self.progressed.step)
        loss = losses(self.model, self.head, batch, generator, self.settings.contrast_weight)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        trained = [p for group in self.optimiser.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(trained, 1.0)
        self.optimiser.step()
        self._follow()
        self.progressed.step += 1
        self.progressed.elapsed_s += time.monotonic() - started
        return float(loss.detach())

    @torch.no_grad()
    def _follow(self) -> None:
        decay = min(self.settings.average_decay, (1.0 + self.progressed.step) / (10.0 + self.progressed.step))
        current = self.model.state_dict()
        for name, kept in self.average.state_dict().items():
            if kept.is_floating_point():
                kept.lerp_(current[name], 1.0 - decay)
            else:
                kept.copy_(current[name])

    def batches(self) -> Iterator[EpisodeBatch]:
        """Batches from where the run stands; drawn in worker processes where the settings ask for them."""
        total = 10_000_000 if self.settings.minutes is not None else self._last_step()
        drawn = DrawnEpisodes(self.settings.seed, self.settings.size_px, self.settings.episodes_per_batch, total)
        rest = Subset(drawn, range(self.progressed.step, total))
        ahead = 4 if self.settings.workers else None
        return iter(DataLoader(rest, batch_size=None, num_workers=self.settings.workers, prefetch_factor=ahead))

    def _last_step(self) -> int:
        return math.ceil(self.settings.episodes / self.settings.episodes_per_batch)

    def save(self, path: Path) -> None:
        """Everything a resumed run needs, as one file."""
        state = {
            "settings": asdict(self.settings),
            "progressed": asdict(self.progressed),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "head": self.head.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    @classmethod
    def resumed(cls, path: Path, **changes: Any) -> Training:
        """The run saved in ``path``, with some settings changed."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        training = cls(replace(Settings(**state["settings"]), **changes))
        training.model.load_state_dict(state["model"])
        training.average.load_state_dict(state["average"])
        training.head.load_state_dict(state["head"])
        training.optimiser.load_state_dict(state["optimiser"])
        training.progressed = Progressed(**state["progressed"])
        return training


def export(model: nn.Module, folder: Path) -> Path:
    """Weights as fp16 safetensors, with configuration and sidecar beside them; the path of the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "embedded.safetensors"
    halved = {n: t.half().contiguous() if t.is_floating_point() else t for n, t in model.state_dict().items()}
    save_file(halved, path, metadata={"format": "pt"})
    if folder.resolve() != CONFIG_PATH.parent:
        (folder / CONFIG_PATH.name).write_text(CONFIG_PATH.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "embedded.inspector.json").write_text(json.dumps(SIDECAR, indent=2) + "\n", encoding="utf-8")
    return path


def load_tower(folder: Path) -> nn.Module:
    """The exported tower, strict, fp32, ready to encode."""
    model = create_tower(folder / CONFIG_PATH.name)
    model.load_state_dict(
        {n: t.float() if t.is_floating_point() else t for n, t in load_file(folder / "embedded.safetensors").items()}
    )
    return model.eval()


def run(training: Training, out: Path, console: Console) -> list[float]:
    """Train to the end of the schedule, saving checkpoint, snapshot and report on the way; the losses."""
    out.mkdir(parents=True, exist_ok=True)
    settings, seen, last_report = training.settings, [], time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        bar = shown.add_task("training", total=1.0)
        started = time.monotonic() - training.progressed.elapsed_s
        for batch in training.batches():
            seen.append(training.step(batch))
            training.progressed.elapsed_s = max(training.progressed.elapsed_s, time.monotonic() - started)
            recent = sum(seen[-100:]) / len(seen[-100:])
            drawn = training.progressed.step * settings.episodes_per_batch
            shown.update(bar, completed=training.done_fraction(), description=f"{drawn} episodes, loss {recent:.3f}")
            finished = training.done_fraction() >= 1.0
            if finished or time.monotonic() - last_report > settings.report_every_s:
                _report(training, out, recent, console)
                last_report = time.monotonic()
            if finished:
                break
    return seen


def _report(training: Training, out: Path, loss: float, console: Console) -> None:
    progressed = training.progressed
    quality = drawn_quality(
        lambda x: stage_features(training.average, x),
        training.settings.held_out,
        training.settings.held_out_size_px,
    )
    line = {
        "minutes": progressed.elapsed_s / 60.0,
        "episodes": float(progressed.step * training.settings.episodes_per_batch),
        "loss": loss,
        "drawn_image_auroc": quality.image_auroc,
        "drawn_pixel_auroc": quality.pixel_auroc,
    }
    progressed.history.append(line)
    console.print("  ".join(f"{name} {value:.3f}" for name, value in line.items()))
    training.save(out / "checkpoint.pt")
    export(training.average, out / f"snapshot-{progressed.step:06d}")


app = typer.Typer(add_completion=False, help="Train the embedded image encoder on drawn pictures.")


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, snapshots and the exported weights.")],
    minutes: Annotated[float | None, typer.Option(help="Length of the schedule in minutes.")] = None,
    episodes: Annotated[int, typer.Option(help="Length of the schedule where no minutes are given.")] = 8000,
    seed: Annotated[int, typer.Option(help="Seed of weights and pictures.")] = 0,
    size_px: Annotated[int, typer.Option(help="Side of the training pictures, a multiple of 16.")] = 192,
    resume: Annotated[Path | None, typer.Option(help="Checkpoint to go on from.")] = None,
    threads: Annotated[int, typer.Option(help="Threads; no more than cores that are free.")] = 1,
) -> None:
    """Train, report on held-out drawn products, export."""
    console = Console()
    torch.set_num_threads(threads)
    length: dict[str, Any] = {"minutes": minutes, "episodes": episodes}
    if resume is None:
        training = Training(Settings(seed=seed, size_px=size_px, **length))
    else:
        training = Training.resumed(resume, **length)
    run(training, out, console)
    console.print(f"exported {export(training.average, out)}")


if __name__ == "__main__":
    app()
