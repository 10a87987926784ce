"""`inspector references`: look at pictures before they become references, and decide what becomes of those that are."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from inspector.commands.options import ConfigOption, JsonOption
from inspector.commands.product import NameArgument, built, opened, tell_built, who
from inspector.config import Config, load_config
from inspector.errors import UsageError
from inspector.store import products, queries, references
from inspector.types import ImageArray

app = typer.Typer(
    no_args_is_help=True, help="Look at pictures before they become references; keep, drop and add references."
)
ImageArgument = Annotated[str, typer.Argument(help="Name of the reference, or how its SHA-256 begins.")]


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of pictures of good parts.")],
    product: Annotated[
        str | None,
        typer.Option(help="Say also which of them lie in a position that no reference of this product shows."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """What is odd about each picture: focus, light, size, copies, another product, a defect. Nothing is changed.

    Exit codes: 0 nothing is odd, 1 something is.

    Example: `inspector references check good/ --product bracket`
    """
    from inspector.detection.bank import ResidualBank
    from inspector.detection.detector import mutual_of
    from inspector.detection.encoder import load_encoder
    from inspector.hygiene import check_pictures, check_scores
    from inspector.images import list_images, read_image

    settings = load_config(config)
    paths = list_images(folder)
    images = [read_image(path) for path in paths]
    found = check_pictures(images, [path.name for path in paths])
    encoder = load_encoder(settings.encoder)
    found += check_scores(mutual_of(encoder, ResidualBank.build(encoder, images)))
    rows: list[dict[str, Any]] = [
        {"image": paths[finding.index].name} | finding.record() for finding in sorted(found, key=lambda one: one.index)
    ]
    if product is not None:
        rows += _positions(
            settings, product, encoder, [(path.name, one) for path, one in zip(paths, images, strict=True)]
        )
    if as_json:
        typer.echo(json.dumps({"pictures": len(images), "findings": rows}))
    else:
        for row in rows:
            typer.echo(f"{row['image']}: {row['kind']}: {row['reason']}")
        typer.echo(
            f"{len(images)} pictures, {len(rows)} findings" if rows else f"{len(images)} pictures, nothing is odd"
        )
    raise typer.Exit(1 if rows else 0)


@app.command()
def keep(name: NameArgument, image: ImageArgument, config: ConfigOption = None) -> None:
    """Accept what was found about a reference of the newest revision: it stays, with who said so and when.

    Example: `inspector references keep bracket 004.png`
    """
    with opened(load_config(config)) as store, store.write() as session:
        reference = references.find_reference(references.newest_ready(session, name), image)
        references.keep(session, reference, who(), datetime.now(UTC))
        said = f"{reference.name} of {name} rev {reference.recipe.rev} is kept"
    typer.echo(said)


@app.command()
def drop(name: NameArgument, image: ImageArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """A new revision without one reference of the newest one; what is active stays so until you activate the new one.

    Example: `inspector references drop bracket 004.png`
    """
    from inspector.images import read_image

    settings = load_config(config)
    with opened(settings) as store:
        with store.write() as session:
            base = references.newest_ready(session, name)
            reference = references.find_reference(base, image)
            references.drop(session, reference, who(), datetime.now(UTC))
            kept = [(one.name, settings.data_path / one.path) for one in base.references if one is not reference]
            wish = products.wish_of(base)
        recipe = built(settings, store, name, [(called, read_image(path)) for called, path in kept], wish)
    tell_built(recipe, as_json)


@app.command()
def add(
    name: NameArgument,
    inspection: Annotated[int, typer.Argument(help="Number of the verdict, as History and `product show` give it.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """A new revision with the picture of one inspected part beside the references of the newest one.

    Example: `inspector references add bracket 1234`
    """
    from inspector.images import read_image

    settings = load_config(config)
    with opened(settings) as store:
        with store.read() as session:
            base = references.newest_ready(session, name)
            row = queries.inspection(session, inspection)
            if row.image_path is None or row.recipe is None or row.recipe.product_id != base.product_id:
                raise UsageError(
                    f"verdict {inspection} is no part of {name} whose picture is kept; `review` says which are"
                )
            places = [*((one.name, one.path) for one in base.references), (Path(row.image_path).name, row.image_path)]
            wish = products.wish_of(base)
        pictures = [(called, read_image(settings.data_path / path)) for called, path in places]
        recipe = built(settings, store, name, pictures, wish)
    tell_built(recipe, as_json)


def _positions(
    settings: Config, name: str, encoder: Any, pictures: list[tuple[str, ImageArray]]
) -> list[dict[str, Any]]:
    """Which pictures a product's newest revision does not accept because of how the part lies."""
    from inspector.detection.position import find_position
    from inspector.recipes import load_detector

    with opened(settings) as store, store.read() as session:
        detector = load_detector(settings.data_path, references.newest_ready(session, name), encoder)
    rows = []
    for called, image in pictures:
        found = find_position(detector, image, detector.inspect([image])[0])
        if found is not None:
            rows.append({"image": called} | found.record())
    return rows
