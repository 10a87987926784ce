"""`inspector references`: look at pictures before they become references."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from inspector.commands.options import ConfigOption, JsonOption
from inspector.config import load_config

app = typer.Typer(no_args_is_help=True, help="Look at pictures before they become references.")


@app.callback()
def _group() -> None:
    """Without it, a single command would have no name."""


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of pictures of good parts.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """What is odd about each picture: focus, light, size, copies, another product, a defect. Nothing is changed.

    Exit codes: 0 nothing is odd, 1 something is.

    Example: `inspector references check good/`
    """
    from inspector.detection.detector import Detector
    from inspector.detection.encoder import load_encoder
    from inspector.hygiene import check_pictures, check_scores
    from inspector.images import list_images, read_image

    settings = load_config(config)
    paths = list_images(folder)
    images = [read_image(path) for path in paths]
    found = check_pictures(images, [path.name for path in paths])
    detector = Detector.from_references(load_encoder(settings.encoder), images, names=[path.name for path in paths])
    found += check_scores(detector.mutual)
    rows: list[dict[str, Any]] = [
        {"image": paths[finding.index].name} | finding.record() for finding in sorted(found, key=lambda one: one.index)
    ]
    if as_json:
        typer.echo(json.dumps({"pictures": len(images), "findings": rows}))
    else:
        for row in rows:
            typer.echo(f"{row['image']}: {row['kind']}: {row['reason']}")
        typer.echo(
            f"{len(images)} pictures, {len(rows)} findings" if rows else f"{len(images)} pictures, nothing is odd"
        )
    raise typer.Exit(1 if rows else 0)
