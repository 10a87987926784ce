"""`inspector encoder`: which image towers there are, what they cost here, and how to bring one to this machine."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from inspector.commands.options import ConfigOption, JsonOption
from inspector.config import EncoderConfig, load_config
from inspector.errors import UsageError

if TYPE_CHECKING:
    from inspector.detection.hub import HubEncoder

FOLDER_NAME = "encoders"
NameArgument = Annotated[str, typer.Argument(help="'embedded', or a model of open_clip (ViT-L-14-336).")]
TagArgument = Annotated[str | None, typer.Argument(help="Its weights (openai); not for 'embedded'.")]

app = typer.Typer(no_args_is_help=True, help="Image towers: list, show, pull, verify, export.")


@app.command("list")
def list_encoders(
    config: ConfigOption = None,
    all_: Annotated[bool, typer.Option("--all", help="All that open_clip can fetch, by name only.")] = False,
    as_json: JsonOption = False,
) -> None:
    """What can be used: licence, size, expected time a picture on this machine, and what is already here.

    Example: `inspector encoder list`
    """
    from inspector.detection import hub

    if all_:
        rows = [{"name": name, "tag": tag, "licence": hub.licence_of(tag)} for name, tag in hub.all_tags()]
        if as_json:
            typer.echo(json.dumps({"encoders": rows}))
            return
        _print_table(["encoder", "weights", "licence"], [list(row.values()) for row in rows])
        return
    here = load_config(config).data_path / FOLDER_NAME
    ours = hub.encoders_in(here)
    others = [known for known in hub.RECOMMENDED if known not in ours]
    rate = _gflop_per_ms()
    found = [(hub.describe(name, tag), (name, tag) in ours) for name, tag in [*ours, *others]]
    embedded_ms = _time_ms(EncoderConfig())
    if as_json:
        rows = [one.as_json() | {"expected_ms": round(one.gflop / rate, 1), "in_folder": there} for one, there in found]
        typer.echo(json.dumps({"folder": str(here), "embedded_ms": round(embedded_ms, 1), "encoders": rows}))
        return
    lines = [["embedded", "shipped", hub.licence_of("embedded"), "256", "7", f"{embedded_ms:.0f} (measured)", "yes"]]
    lines += [
        [
            one.name,
            one.tag,
            one.licence,
            str(one.image_size),
            f"{one.image_tower_mb:.0f}",
            f"≥ {one.gflop / rate:.0f}",
            "yes" if there else ("fetched" if one.cached else "no"),
        ]
        for one, there in found
    ]
    _print_table(["encoder", "weights", "licence", "px", "MB", "ms a picture", "here"], lines)
    typer.echo(
        "ms: embedded measured; others what this machine's matrix product allows at best. `inspector encoder show NAME TAG "
        "--measure` builds one and measures it."
    )


@app.command()
def show(
    name: NameArgument,
    tag: TagArgument = None,
    measure: Annotated[bool, typer.Option("--measure", help="Build it with random weights and time it here.")] = False,
    as_json: JsonOption = False,
) -> None:
    """One encoder: licence, size, where its weights come from, and what it costs on this machine.

    Example: `inspector encoder show ViT-L-14-336 openai --measure`
    """
    from inspector.detection import hub

    if name == "embedded":
        from inspector.detection.encoder import WEIGHTS, load_encoder

        encoder = load_encoder(EncoderConfig())
        told: dict[str, object] = {
            "name": name,
            "licence": hub.licence_of(name),
            "image_size": encoder.image_size,
            "taps": list(encoder.taps),
            "grids": [list(grid) for grid in encoder.grids],
            "matching": encoder.matching.kind,
            "weights": str(WEIGHTS / "embedded.safetensors"),
            "fingerprint": encoder.fingerprint,
            "measured_ms": round(_time_ms(EncoderConfig()), 1),
        }
    else:
        known = hub.describe(name, _needed(tag))
        told = known.as_json() | {"expected_ms": round(known.gflop / _gflop_per_ms(), 1)}
        if measure:
            told["measured_ms"] = round(_measured_ms(known), 1)
    if as_json:
        typer.echo(json.dumps(told))
        return
    for key, value in told.items():
        typer.echo(f"{key.replace('_', ' '):15} {value if value not in (None, '') else '-'}")


@app.command()
def pull(
    name: NameArgument,
    tag: TagArgument = None,
    config: ConfigOption = None,
    to: Annotated[Path | None, typer.Option("--to", help="Folder to put it into; default: the station's own.")] = None,
    from_: Annotated[
        Path | None, typer.Option("--from", help="Folder or USB stick that holds it, for machines without internet.")
    ] = None,
) -> None:
    """Bring an encoder to this machine (or to a stick), with checksums, and say how to use it.

    Example: `inspector encoder pull ViT-L-14-336 openai --to /media/stick`, and on a machine without internet the same with
    `--from /media/stick`
    """
    from inspector.detection import hub

    if name == "embedded":
        typer.echo("The embedded encoder comes with the program; there is nothing to pull.")
        return
    folder = to or load_config(config).data_path / FOLDER_NAME
    wanted = _needed(tag)
    path = hub.fetch(name, wanted, folder, typer.echo) if from_ is None else hub.bring(name, wanted, from_, folder)
    weights = hub.weights_beside(path)
    typer.echo(f"{weights} ({weights.stat().st_size / 1e6:.0f} MB, licence: {hub.licence_of(wanted)})")
    typer.echo(f"To use it, put this into the configuration:\nencoder:\n  name: {path}\n  pretrained: {weights}")


@app.command()
def verify(
    name: Annotated[str, typer.Argument(help="'embedded', a model in the station's folder, or a NAME--TAG.json.")],
    tag: TagArgument = None,
    config: ConfigOption = None,
) -> None:
    """Compare an encoder's files with their checksums, and load it as a line would.

    Example: `inspector encoder verify ViT-L-14-336 openai`
    """
    from inspector.detection import hub
    from inspector.detection.encoder import load_encoder

    if name == "embedded":
        hub.check_embedded()
        encoder = load_encoder(EncoderConfig())
    else:
        path = Path(name)
        if not name.endswith(".json"):
            folder = load_config(config).data_path / FOLDER_NAME
            path = folder / f"{name.replace('/', '-')}--{_needed(tag)}.json"
        if not path.is_file():
            raise UsageError(f"{path}: no such encoder; bring it with `inspector encoder pull`")
        weights = hub.weights_beside(path)
        hub.check_sums(path.parent, [path, weights])
        encoder = load_encoder(EncoderConfig(name=str(path), pretrained=str(weights)))
    text = "with" if encoder.has_text else "without"
    typer.echo(
        f"{encoder.name}: checksums and weights are right, {text} text branch, fingerprint {encoder.fingerprint[:12]}"
    )


@app.command()
def export(
    to: Annotated[Path, typer.Option("--to", help="The ONNX file to write.")],
    config: ConfigOption = None,
) -> None:
    """Export the configured encoder's image tower as ONNX, compared with torch.

    Example: `inspector encoder export --to tower.onnx`
    """
    from inspector.detection.encoder import load_encoder
    from inspector.detection.onnx_export import export_onnx

    chosen = load_config(config).encoder
    encoder = load_encoder(chosen.model_copy(update={"precision": "fp32", "device": "cpu"}))
    worst = export_onnx(encoder, to)
    typer.echo(
        f"{to}: {to.stat().st_size / 1e6:.1f} MB, input pixels [B, 3, {encoder.image_size}, {encoder.image_size}] "
        f"normalised, {len(encoder.taps)} taps; largest difference from torch {worst:.1e}"
    )


def _needed(tag: str | None) -> str:
    if tag is None:
        raise UsageError("name its weights too, for example: ViT-L-14-336 openai")
    return tag


def _print_table(titles: list[str], rows: list[list[str]]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold", justify="right" if title in ("px", "MB", "ms a picture") else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _gflop_per_ms() -> float:
    """Billions of operations a millisecond of this machine's matrix product, in the precision that encoders take here."""
    from inspector.detection.encoder import load_encoder
    from inspector.evaluation.bench import matrix_peak

    return matrix_peak(load_encoder(EncoderConfig())) / 1e12


def _time_ms(chosen: EncoderConfig) -> float:
    """Milliseconds of one picture of the model's own size through prepared pixels and tower."""
    from inspector.detection.encoder import load_encoder
    from inspector.evaluation.bench import tower_ms

    return tower_ms(load_encoder(chosen))


def _measured_ms(known: "HubEncoder") -> float:
    import tempfile

    from inspector.detection.encoder import write_random_checkpoint

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.safetensors"
        write_random_checkpoint(known.name, path)
        return _time_ms(EncoderConfig(name=known.name, pretrained=str(path)))
