"""`inspector review`: what people said of pictures, in and out of the station."""

import csv
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import track

from inspector.commands.options import ConfigOption, JsonOption
from inspector.commands.product import NameArgument, opened, who
from inspector.config import load_config
from inspector.errors import UsageError
from inspector.images import list_images, read_image
from inspector.store import labels, products, queries
from inspector.store.pictures import staged

COLUMNS = ("picture", "label", "kind", "left", "top", "width", "height", "teaches", "blind", "source", "at", "who")
LIST_NAME = "labels.csv"

app = typer.Typer(no_args_is_help=True, help="Labels that people gave to pictures: import, export, show.")
FolderArgument = Annotated[Path, typer.Argument(help="Folder of pictures.")]


@app.command("import")
def import_labels(
    name: NameArgument,
    folder: FolderArgument,
    label: Annotated[
        str | None, typer.Option(help="good, defect or unusable, for all of them; default: as labels.csv says.")
    ] = None,
    kind: Annotated[str, typer.Option(help="What kind of defect they show.")] = "",
    config: ConfigOption = None,
) -> None:
    """Label pictures of a product: a folder of one kind, or one that `inspector review export` wrote.

    Example: `inspector review import bracket scratched/ --label defect --kind scratch`
    """
    settings = load_config(config)
    said = _from_list(folder) if label is None else {p.name: labels.Said(label, kind) for p in list_images(folder)}
    now = datetime.now(UTC)
    with opened(settings) as store:
        for file_name in track(said, description="labelling", transient=True):
            image = read_image(folder / file_name)
            with staged(settings.data_path, [(file_name, image)]) as (picture,), store.write() as session:
                product = products.find_product(session, name)
                labels.add_label(session, product, picture, said[file_name], source="import", who=who(), now=now)
    typer.echo(f"{len(said)} pictures of {name} labelled; `inspector product recalibrate {name}` uses them")


@app.command()
def export(name: NameArgument, folder: FolderArgument, config: ConfigOption = None) -> None:
    """Write the newest label of each picture of a product, with the pictures, into a new folder.

    Example: `inspector review export bracket labelled/`
    """
    settings = load_config(config)
    with opened(settings) as store, store.read() as session:
        found = labels.current(session, products.find_product(session, name).id)
        try:
            folder.mkdir(parents=True, exist_ok=False)
            with (folder / LIST_NAME).open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(COLUMNS)
                for one in found:
                    file_name = f"{one.sha256[:16]}.png"
                    shutil.copyfile(settings.data_path / one.path, folder / file_name)
                    region: list[Any] = one.region or ["", "", "", ""]
                    said = (
                        file_name,
                        one.label,
                        one.kind,
                        *region,
                        int(bool(one.lesson)),
                        int(one.blind),
                        one.source,
                        one.at.isoformat(),
                        one.who,
                    )
                    writer.writerow(said)
        except FileExistsError as error:
            raise UsageError(
                f"{folder} exists; give a folder that does not, so that nothing is written over"
            ) from error
        except OSError as error:
            raise UsageError(f"{folder}: cannot be written: {error.strerror}") from error
    typer.echo(f"{len(found)} labelled pictures in {folder}")


@app.command()
def label(
    inspection: Annotated[int, typer.Argument(help="Number of the verdict, as History shows it.")],
    said: Annotated[str, typer.Argument(help="good, defect or unusable.")],
    kind: Annotated[str, typer.Option(help="What kind of defect it is.")] = "",
    region: Annotated[
        str | None, typer.Option(help="Where the defect is: left,top,width,height as fractions of the picture.")
    ] = None,
    teach: Annotated[
        bool,
        typer.Option(
            "--teach", help="Later revisions look out for what the region shows; on a good part they tolerate it."
        ),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Say of one verdict's part whether it was good.

    Example: `inspector review label 1234 defect --kind scratch --region 0.2,0.3,0.1,0.05`
    """
    settings = load_config(config)
    given = labels.Said(said, kind, _box(region), teaches=teach)
    with opened(settings) as store:
        with store.read() as session:
            row = queries.inspection(session, inspection)
            if row.image_path is None or row.recipe is None:
                raise UsageError(f"verdict {inspection} has no picture that is kept, so it cannot be labelled")
            product_name, path = row.recipe.product.name, row.image_path
        image = read_image(settings.data_path / path)
        with staged(settings.data_path, [(path, image)]) as (picture,), store.write() as session:
            labels.add_label(
                session,
                products.find_product(session, product_name),
                picture,
                given,
                inspection_id=inspection,
                source="cli",
                who=who(),
                now=datetime.now(UTC),
            )
    typer.echo(f"verdict {inspection} of {product_name}: {said} {kind}".rstrip())


@app.command("list")
def list_labels(name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """How many pictures of a product have which label, and what kinds of defects they show.

    Example: `inspector review list bracket`
    """
    with opened(load_config(config)) as store, store.read() as session:
        found = labels.current(session, products.find_product(session, name).id)
        counts: dict[str, Any] = {wanted: sum(one.label == wanted for one in found) for wanted in labels.LABELS}
        kinds = sorted({one.kind for one in found if one.kind})
    if as_json:
        typer.echo(json.dumps(counts | {"kinds": kinds}))
        return
    typer.echo(", ".join(f"{count} {wanted}" for wanted, count in counts.items()))
    if kinds:
        typer.echo(f"kinds of defects: {', '.join(kinds)}")


def _from_list(folder: Path) -> dict[str, labels.Said]:
    path = folder / LIST_NAME
    if not path.is_file():
        raise UsageError(f"{path} is missing; give --label good, defect or unusable for all pictures of the folder")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        said = {}
        for row in rows:
            box = [row[side] for side in ("left", "top", "width", "height")]
            region = _box(",".join(box)) if any(box) else None
            said[row["picture"]] = labels.Said(
                row["label"], row["kind"], region, row["blind"] == "1", teaches=row.get("teaches") == "1"
            )
    except (OSError, KeyError, csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a list of labels; expected the columns {', '.join(COLUMNS)}") from error
    for file_name in said:
        if Path(file_name).name != file_name:
            raise UsageError(f"{path}: {file_name!r} is not the name of a file in this folder")
    return said


def _box(text: str | None) -> tuple[float, float, float, float] | None:
    if text is None:
        return None
    try:
        left, top, width, height = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"region {text!r}: expected left,top,width,height as fractions, for example 0.2,0.3,0.1,0.05"
        ) from error
    return left, top, width, height
