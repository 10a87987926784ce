"""`inspector bench`: what a picture costs on this machine, and how much faster than the plain path that is."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from inspector.commands import bench_promises
from inspector.commands.options import ConfigOption, JsonOption, numbers
from inspector.config import EncoderConfig, load_config

if TYPE_CHECKING:
    from inspector.evaluation.bench import Bench

EncoderOption = Annotated[
    str | None,
    typer.Option(help="'embedded', an open_clip model, or a model configuration (.json); default: configured."),
]
RandomOption = Annotated[
    bool, typer.Option("--random-weights", help="Random weights: the time is the same, and nothing is fetched.")
]
ImageSizeOption = Annotated[int | None, typer.Option(help="Side of the model's input in px.")]
PrecisionOption = Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.")]
ShotsOption = Annotated[str, typer.Option(help="Numbers of references, with commas.")]
BatchOption = Annotated[str, typer.Option(help="Batch sizes, with commas.")]
PlainOption = Annotated[bool, typer.Option("--plain/--no-plain", help="Measure the plain path, too.")]
WIDTH = 110


app = typer.Typer(
    invoke_without_command=True,
    help="What a picture costs here; whether calibrations keep their promises; what lessons do.",
)


@app.callback()
def bench(
    context: typer.Context,
    encoder: EncoderOption = None,
    random_weights: RandomOption = False,
    image_size: ImageSizeOption = None,
    precision: PrecisionOption = None,
    shots: ShotsOption = "1,4,16",
    batch: BatchOption = "1,8",
    plain: PlainOption = True,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Milliseconds per stage, pictures per second and memory, and the ratio to the plain batch-of-one float32 path.

    The plain path is the method as research code runs it. All figures are of this machine and of this run.

    Exit codes: 0 done, 2 an option is wrong, 3 encoder.

    Example: `inspector bench --encoder ViT-L-14-336 --random-weights --image-size 518 --shots 4 --batch 1`
    """
    if context.invoked_subcommand is not None:
        return
    from inspector.detection.encoder import load_encoder, write_random_checkpoint
    from inspector.evaluation.bench import bench as measure

    console = Console(stderr=True)
    wished = load_config(config).encoder.model_dump()
    if encoder is not None and encoder != wished["name"]:
        wished |= {"pretrained": None, "adapters": None}  # those of another encoder
    changes = {"name": encoder, "image_size": image_size, "precision": precision}
    wished |= {key: value for key, value in changes.items() if value is not None}
    wanted = numbers(shots, "--shots"), numbers(batch, "--batch")
    with tempfile.TemporaryDirectory() as folder, console.status("loading the encoder") as status:
        if random_weights:
            path = Path(folder) / "random.safetensors"
            write_random_checkpoint(str(wished["name"]), path)
            wished["pretrained"] = str(path)
        loaded = load_encoder(EncoderConfig(**wished))
        other = load_encoder(EncoderConfig(**wished | {"precision": "fp32", "adapters": None})) if plain else None
        found = measure(loaded, other, *wanted, status.update)
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=1))
    else:
        _show(found)


app.command()(bench_promises.calibration)
app.command()(bench_promises.teaching)


def _show(found: "Bench") -> None:
    console = Console()
    console = console if console.width >= WIDTH else Console(width=WIDTH)
    console.print(
        f"{found.encoder}, {found.image_size} px, {found.precision}, matching {found.matching}; {found.device} "
        f"({found.processor}, {found.threads} threads), torch {found.torch}",
        highlight=False,
    )
    stages = list(found.runs[0].ms)
    table = Table("K", "batch", *stages, "per s", "plain", "ratio", box=SIMPLE_HEAD, title="milliseconds per picture")
    for run in found.runs:
        plain = "–" if run.plain_ms is None else f"{run.plain_ms:.1f}"
        ratio = "–" if run.ratio is None else f"{run.ratio:.1f}×"
        cells = (f"{run.ms[stage]:.2f}" for stage in stages)
        table.add_row(str(run.shots), str(run.batch), *cells, f"{run.images_per_s:.1f}", plain, ratio)
    for column in table.columns:
        column.justify = "right"
    console.print(table)
    shares = ", ".join(f"{100 * share:.0f} % (batch of {batch})" for batch, share in found.tower_share_of_peak.items())
    console.print(
        f"tower: {found.tower_gflop:.2f} GFLOP a picture, {shares} of the measured matrix product of "
        f"{found.matrix_peak_gflop_s:.0f} GFLOP/s",
        highlight=False,
    )
    memory = Table(
        "K", "MB per reference", "its search copy", "peak MB while matching", box=SIMPLE_HEAD, title="memory"
    )
    for row in found.memory:
        peak = "not known here" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:.0f}"
        sizes = (row.bytes_per_reference, row.search_bytes_per_reference)
        memory.add_row(str(row.shots), *(f"{size / 1e6:.2f}" for size in sizes), peak)
    console.print(memory)
