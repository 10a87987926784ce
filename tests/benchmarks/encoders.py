"""Compare embedded encoders over data sets: the table of the model card.

`python -m tests.benchmarks.encoders DATA [DATA …] --also first=FOLDER` scores the shipped encoder, its tower with random
weights, its closed-form descriptors alone, and any other folder with `embedded.json`, `embedded.inspector.json` and
`embedded.safetensors`. Every DATA may hold one category or many; a table line is the mean over its categories.
"""

import json
import tempfile
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional as fn

from inspector.config import EncoderConfig
from inspector.detection.embedded_tower import EmbeddedTower
from inspector.detection.encoder import Encoder, load_encoder, write_random_checkpoint
from inspector.detection.towers import Tokens
from inspector.evaluation.datasets import read_categories
from inspector.evaluation.results import MEAN, summarise
from inspector.evaluation.runner import Plan, evaluate_category

FOURIER_WIDTH = 512
KERNEL_WIDTH = 10.0
"""About the root of the description's length: the usual distance of two patches."""
SHOWN = ("image_auroc", "pixel_auroc", "aupro", "false_reject_rate", "escape_rate")


class DescriptorTower:
    """The closed-form description alone, each number scaled by its mean and deviation over the training's pictures.

    The detector compares unit vectors; random Fourier features (Rahimi and Recht 2007) make its distance that of a Gaussian
    kernel on the description, which orders patches as their Euclidean distance does.
    """

    def __init__(self, trunk: EmbeddedTower, grid: tuple[int, int]) -> None:
        self.visual, self.taps, self.grids = trunk, (1,), (grid,)
        generator = torch.Generator().manual_seed(0)
        count = trunk.descriptors.scale.num_features
        self._waves = torch.randn(count, FOURIER_WIDTH, generator=generator) / KERNEL_WIDTH
        self._phases = 2.0 * torch.pi * torch.rand(FOURIER_WIDTH, generator=generator)

    def __call__(self, pixels: Tensor) -> Tokens:
        described = self.visual.descriptors.scale(self.visual.descriptors.describe(pixels)).float()
        rows = described.flatten(2).transpose(1, 2)
        return Tokens(taps=(fn.normalize(torch.cos(rows @ self._waves + self._phases), dim=-1),))


def descriptors_alone() -> Encoder:
    """The shipped encoder with everything that was learned taken out."""
    encoder = load_encoder(EncoderConfig())
    encoder.tower = DescriptorTower(encoder.tower.visual.trunk, encoder.grids[-1])
    encoder.taps, encoder.grids = encoder.tower.taps, encoder.tower.grids
    return encoder


def random_weights(folder: Path) -> Encoder:
    """The shipped tower before training."""
    path = folder / "random.safetensors"
    write_random_checkpoint("embedded", path)
    return load_encoder(EncoderConfig(pretrained=str(path)))


def from_folder(folder: Path, taps: list[int] | None = None) -> Encoder:
    """An encoder that the training exported."""
    return load_encoder(
        EncoderConfig(name=str(folder / "embedded.json"), pretrained=str(folder / "embedded.safetensors"), taps=taps)
    )


def main(
    data: Annotated[list[Path], typer.Argument(help="Data sets, as for `inspector evaluate`.")],
    shots: Annotated[str, typer.Option(help="Numbers of references.")] = "1,2,4,8",
    seeds: Annotated[str, typer.Option(help="Seeds of their choice.")] = "0,1,2",
    also: Annotated[list[str] | None, typer.Option(help="NAME=FOLDER, or NAME=FOLDER:1,2,3 for some taps.")] = None,
    only: Annotated[bool, typer.Option(help="Leave out the three of this project.")] = False,
    baseline: Annotated[bool, typer.Option(help="The closed-form descriptors alone, and nothing else.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write all results as JSON.")] = None,
) -> None:
    """Print the comparison as a Markdown table, in percent."""
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        only = only or baseline
        encoders = {"descriptors": descriptors_alone()} if baseline else {}
        if not only:
            encoders["this"] = load_encoder(EncoderConfig())
        for word in also or []:
            name, _, place = word.partition("=")
            where, _, taps = place.partition(":")
            encoders[name] = from_folder(Path(where), [int(tap) for tap in taps.split(",")] if taps else None)
        if not only:
            encoders |= {"descriptors": descriptors_alone(), "random": random_weights(Path(folder))}
        kept = {}
        counts, chosen = [int(word) for word in shots.split(",")], [int(word) for word in seeds.split(",")]
        typer.echo(f"| set | encoder | K | {' | '.join(SHOWN)} |\n|---|---|---|{'---|' * len(SHOWN)}")
        with Progress(transient=True) as progress:
            for root in data:
                categories = read_categories(root)
                for name, encoder in encoders.items():
                    task = progress.add_task(f"{root.name}, {name}", total=None)
                    found = []
                    for category in categories:
                        found += evaluate_category(encoder, category, Plan(counts, chosen), lambda *_: None).results
                    progress.remove_task(task)
                    kept[f"{root.name}/{name}"] = summary = summarise(found)
                    rows = [
                        row
                        for row in summary
                        if row["category"] == (MEAN if len(categories) > 1 else categories[0].name)
                    ]
                    for row in rows:
                        cells = [
                            "–" if row[m] is None else f"{100 * row[m]['mean']:.1f} ± {100 * row[m]['std']:.1f}"
                            for m in SHOWN
                        ]
                        progress.console.print(
                            f"| {root.name} | {name} | {row['shots']} | {' | '.join(cells)} |", soft_wrap=True
                        )
        if out is not None:
            out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
