"""Train the embedded image encoder on pictures the project draws itself.

``python -m inspector.training.embedded --out DIR`` trains, reports and exports the open_clip weights that the product
loads where no other CLIP is installed; the run goes on where it stopped when it is called again. The text tower stays as
initialised, and the sidecar says that it is not to be used.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from inspector.detection.encoder import WEIGHTS, untrained_model
from inspector.detection.hub import write_sums
from inspector.errors import InspectorError, UsageError
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
    patches,
    picture_loss,
    ranking_loss,
    second_view,
)

SETTINGS_PATH = Path(__file__).with_name("embedded.yaml")
MODEL_PATH = WEIGHTS / "embedded.json"
SIDECAR_PATH = WEIGHTS / "embedded.inspector.json"
WEIGHTS_NAME = "embedded.safetensors"
CHECKPOINT_NAME = "checkpoint.pt"
HISTORY_NAME = "history.json"
STRIDE_PX = 8
"""The finest grid that is matched, in training as in the product."""
HEAD_SPEED = 5.0
WARM_UP_STEPS = 50
MAX_GRADIENT_NORM = 2.0


class Settings(BaseModel):
    """One training run; the shipped one is ``embedded.yaml``.

    ``sizes_px`` and ``reference_counts`` give the odds of picture sides (multiples of 16) and of references.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(ge=0)
    episodes: int = Field(ge=1)
    falling: float = Field(gt=0.0, le=1.0)
    episodes_per_batch: int = Field(ge=1)
    sizes_px: dict[int, float]
    reference_counts: dict[int, float]
    learning_rate: float = Field(gt=0.0)
    weight_decay: float = Field(ge=0.0)
    ranking_weight: float = Field(ge=0.0)
    picture_weight: float = Field(ge=0.0)
    contrast_weight: float = Field(ge=0.0)
    average_decay: float = Field(ge=0.0, lt=1.0)
    report_every: int = Field(ge=1)
    held_out: int = Field(ge=1)
    held_out_size_px: int = Field(ge=64)

    @property
    def steps(self) -> int:
        """Batches of the whole run."""
        return math.ceil(self.episodes / self.episodes_per_batch)


def read_settings(path: Path) -> Settings:
    """Settings of a run from a YAML file.

    Raises:
        UsageError: no such file, or not valid settings.
    """
    try:
        return Settings.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise UsageError(f"{path}: not valid settings of a training run: {error}") from error


@dataclass
class Progressed:
    """How far a run has come, and what it said on the way."""

    step: int = 0
    elapsed_s: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def taps_of(model: nn.Module, pictures: Tensor) -> list[Tensor]:
    """Taps ``[B, D, h, w]`` of the tower's input ``[B, 3, S, S]``."""
    visual: Any = model.visual
    taps: list[Tensor] = visual.trunk.forward_intermediates(pictures, intermediates_only=True)
    return [tap.float() for tap in taps]


def losses(
    model: nn.Module, head: DistanceHead, batch: EpisodeBatch, generator: torch.Generator, settings: Settings
) -> Tensor:
    """Patch, ranking, picture and contrast loss of one batch of episodes."""
    episodes, count = batch.references.shape[:2]
    pictures = normalised(torch.cat([batch.references.flatten(0, 1), batch.normal, batch.faulty]))
    side = pictures.shape[-1] // STRIDE_PX
    view = second_view(pictures[-2 * episodes : -episodes], generator)
    shown = torch.cat([pictures, view.pictures]).contiguous(memory_format=torch.channels_last)
    with torch.autocast(shown.device.type, torch.bfloat16):
        taps = taps_of(model, shown)
    distances, contrast = [], torch.zeros((), device=shown.device)
    for tap in taps:
        rows = patches(tap[:-episodes], side)  # [E·(K+2), N_l, D]
        references = rows[: episodes * count].reshape(episodes, -1, rows.shape[-1])
        normal, faulty = rows[episodes * count :].chunk(2)
        found = nearest_distance(torch.cat([normal, faulty], 1), references)  # [E, 2·N_l]
        distances.append(torch.cat([on_grid(half, side) for half in found.chunk(2, -1)], -1))
        if settings.contrast_weight:
            contrast = contrast + contrast_loss(
                tap[-3 * episodes : -2 * episodes], tap[-episodes:], view.theta, generator
            )
    logits = head(torch.stack(distances))
    faulty_patches, clean_patches = grid_targets(batch.mask, side)
    nothing, everything = torch.zeros_like(faulty_patches), torch.ones_like(clean_patches)
    by_patch = patch_loss(logits, torch.cat([nothing, faulty_patches], 1), torch.cat([everything, clean_patches], 1))
    of_normal, of_faulty = logits.chunk(2, -1)
    return (
        by_patch
        + settings.ranking_weight * ranking_loss(of_normal, of_faulty)
        + settings.picture_weight * picture_loss(of_normal, of_faulty)
        + settings.contrast_weight * contrast / len(taps)
    )


class Training:
    """A resumable run: tower, its running average, optimiser and schedule."""

    def __init__(self, settings: Settings, device: str = "cpu") -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.device = torch.device(device)
        self.model = untrained_model(MODEL_PATH).to(self.device).to(memory_format=torch.channels_last)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad = name.startswith("visual.")
        visual: Any = self.model.visual
        self.head = DistanceHead(len(visual.trunk.feature_info)).to(self.device)
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

    @property
    def done(self) -> bool:
        """Whether the schedule has ended."""
        return self.progressed.step >= self.settings.steps

    def rate(self) -> float:
        """Learning rate of the next step: a short rise, a level, and a fall to zero.

        The level does not know how long the run is, so a run can be made longer while it has not begun to fall.
        """
        left = max(0.0, 1.0 - self.progressed.step / self.settings.steps)
        rise = min(1.0, (self.progressed.step + 1) / WARM_UP_STEPS)
        return self.settings.learning_rate * rise * min(1.0, left / self.settings.falling)

    def step(self, batch: EpisodeBatch) -> float:
        """One optimiser step; the loss before it."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["speed"] * self.rate()
        self.model.train()
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self.progressed.step)
        here = EpisodeBatch(*(tensor.to(self.device) for tensor in vars(batch).values()))
        loss = losses(self.model, self.head, here, generator, self.settings)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        trained = [p for group in self.optimiser.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(trained, MAX_GRADIENT_NORM)
        self.optimiser.step()
        self._follow()
        self.progressed.step += 1
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

    def batches(self, workers: int = 0) -> Iterator[EpisodeBatch]:
        """Batches from where the run stands, drawn in so many processes beside this one."""
        chosen = self.settings
        drawn = DrawnEpisodes(
            chosen.seed, chosen.sizes_px, chosen.reference_counts, chosen.episodes_per_batch, chosen.steps
        )
        rest = Subset(drawn, range(self.progressed.step, chosen.steps))
        return iter(DataLoader(rest, batch_size=None, num_workers=workers, prefetch_factor=8 if workers else None))

    def save(self, path: Path) -> None:
        """Everything a resumed run needs, as one file."""
        state = {
            "settings": self.settings.model_dump(),
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
    def resumed(cls, path: Path, settings: Settings, device: str = "cpu") -> Training:
        """The run saved in ``path``; of its settings only the length may have changed since.

        Raises:
            UsageError: other settings, or a length whose fall would have begun before the point reached.
        """
        state = torch.load(path, map_location=device, weights_only=True)
        saved, reached = Settings(**state["settings"]), state["progressed"]["step"]
        free = {"episodes", "report_every"}
        if saved.model_dump(exclude=free) != settings.model_dump(exclude=free):
            raise UsageError(f"{path} was made with other settings; give them again, or another --out")
        if saved.episodes != settings.episodes and reached > (1.0 - settings.falling) * min(
            saved.steps, settings.steps
        ):
            raise UsageError(f"{path}: its learning rate has begun to fall; the length can no longer be changed")
        training = cls(settings, device)
        training.model.load_state_dict(state["model"])
        training.average.load_state_dict(state["average"])
        training.head.load_state_dict(state["head"])
        training.optimiser.load_state_dict(state["optimiser"])
        training.progressed = Progressed(**state["progressed"])
        return training


def export(model: nn.Module, folder: Path) -> Path:
    """Weights as fp16 safetensors, with model configuration, sidecar and checksums beside them; the path of the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / WEIGHTS_NAME
    halved = {
        name: tensor.half().contiguous() if tensor.is_floating_point() else tensor.contiguous()
        for name, tensor in model.state_dict().items()
    }
    save_file(halved, path, metadata={"format": "pt"})
    if folder.resolve() != WEIGHTS:
        for source in (MODEL_PATH, SIDECAR_PATH):
            (folder / source.name).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    write_sums(folder, [path, *(folder / source.name for source in (MODEL_PATH, SIDECAR_PATH))])
    return path


def load_exported(folder: Path) -> nn.Module:
    """The exported model, strict, fp32, ready to encode."""
    model = untrained_model(folder / MODEL_PATH.name)
    state = load_file(folder / WEIGHTS_NAME)
    model.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in state.items()})
    return model.eval()


def run(training: Training, out: Path, console: Console, workers: int = 0) -> list[float]:
    """Train to the end of the schedule, saving checkpoint, snapshot and report on the way; the losses."""
    out.mkdir(parents=True, exist_ok=True)
    settings, seen = training.settings, []
    every = max(1, settings.report_every // settings.episodes_per_batch)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        bar = shown.add_task("training", total=settings.steps, completed=training.progressed.step)
        started = time.monotonic() - training.progressed.elapsed_s
        for batch in training.batches(workers):
            seen.append(training.step(batch))
            training.progressed.elapsed_s = time.monotonic() - started
            recent = sum(seen[-100:]) / len(seen[-100:])
            drawn = training.progressed.step * settings.episodes_per_batch
            shown.update(bar, completed=training.progressed.step, description=f"{drawn} episodes, loss {recent:.3f}")
            if training.done or training.progressed.step % every == 0:
                _report(training, out, recent, console)
    return seen


def _report(training: Training, out: Path, loss: float, console: Console) -> None:
    progressed, settings = training.progressed, training.settings
    quality = drawn_quality(
        lambda x: taps_of(training.average, x.to(training.device)), settings.held_out, settings.held_out_size_px
    )
    line = {
        "episodes": float(progressed.step * settings.episodes_per_batch),
        "minutes": progressed.elapsed_s / 60.0,
        "loss": loss,
        "drawn_image_auroc": quality.image_auroc,
        "drawn_pixel_auroc": quality.pixel_auroc,
    }
    progressed.history.append(line)
    console.print("  ".join(f"{name} {value:.3f}" for name, value in line.items()))
    training.save(out / CHECKPOINT_NAME)
    (out / HISTORY_NAME).write_text(json.dumps(progressed.history, indent=1) + "\n", encoding="utf-8")
    export(training.average, out / f"snapshot-{progressed.step:06d}")


app = typer.Typer(add_completion=False, help="Train the embedded image encoder on drawn pictures.")


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, snapshots, history and the exported weights.")],
    config: Annotated[Path, typer.Option(help="Settings of the run (YAML).")] = SETTINGS_PATH,
    episodes: Annotated[int | None, typer.Option(min=1, help="Length of the run, instead of the file's.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of weights and pictures, instead of the file's.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads that train; no more than cores that are free.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes that draw.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda; pictures are always drawn on the CPU.")] = "cpu",
) -> None:
    """Train, report on held-out drawn products, export; a run that was stopped goes on from its checkpoint."""
    console = Console()
    torch.set_num_threads(threads)
    changed = {key: value for key, value in (("episodes", episodes), ("seed", seed)) if value is not None}
    checkpoint = out / CHECKPOINT_NAME
    try:
        settings = Settings.model_validate(read_settings(config).model_dump() | changed)
        if checkpoint.is_file():
            training = Training.resumed(checkpoint, settings, device)
            console.print(f"goes on after {training.progressed.step * settings.episodes_per_batch} episodes")
        else:
            training = Training(settings, device)
        run(training, out, console, workers)
        console.print(f"exported {export(training.average, out)}")
    except InspectorError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.exit_code) from error


if __name__ == "__main__":
    app()
