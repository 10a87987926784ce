"""`inspector product`: teach products from pictures, look at them, make one active, go back."""

import getpass
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from inspector.commands.options import (
    AlignOption,
    ConfigOption,
    FoundByOption,
    JsonOption,
    MaxShiftOption,
    MaxTurnOption,
    TilesOption,
    align_wish,
    tiles_wish,
)
from inspector.commands.worker import ask_worker
from inspector.config import Config, load_config
from inspector.contract.codes import AckCode
from inspector.errors import NotApprovedError, NotFoundError, StationError, UsageError
from inspector.store import engine, labels, products, stations
from inspector.store.engine import Store
from inspector.store.pictures import staged
from inspector.store.schema import Product, Recipe
from inspector.types import ImageArray, Roi, Tiles, promise_words

SHOWN_ESCAPES = 5

app = typer.Typer(help="Teach products from pictures, make one active, go back.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(help="Name of the product.")]
RevOption = Annotated[int | None, typer.Option("--rev", min=1, help="Revision; default: the newest that is ready.")]


@app.command()
def add(
    name: NameArgument,
    references: Annotated[Path, typer.Option("--references", "-r", help="Folder of pictures of good parts.")],
    align: AlignOption = None,
    max_shift: MaxShiftOption = None,
    max_turn: MaxTurnOption = None,
    found_by: FoundByOption = None,
    tiles: TilesOption = None,
    activate_it: Annotated[bool, typer.Option("--activate", help="Make it the station's product at once.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Teach a product from a handful of pictures of good parts; an existing one gets a new revision.

    Example: `inspector product add bracket --references good/ --activate`

    Example: `inspector product add bracket --references good/ --align --max-shift 0.1 --max-turn 8`
    """
    from inspector.images import list_images, read_image

    settings = load_config(config)
    products.check_name(name)
    pictures = [(path.name, read_image(path)) for path in list_images(references)]
    with opened(settings) as store:
        with store.read() as session:
            wish = products.last_wish(session, name)
        wish = replace(wish, tiles=tiles_wish(tiles, wish.tiles))
        wish = replace(wish, align=align_wish(align, max_shift, max_turn, found_by, wish.align))
        recipe = built(settings, store, name, pictures, wish)
        if activate_it and recipe["status"] == "ready":
            _activate(settings, store, recipe["id"])
    tell_built(recipe, as_json)


@app.command()
def recalibrate(
    name: NameArgument,
    good: Annotated[
        Path | None,
        typer.Option("--good", "-g", help="Folder of parts that were confirmed good; they are kept as such."),
    ] = None,
    false_rejects: Annotated[
        float | None, typer.Option(help="Rate of good parts that may be rejected, for example 0.01.")
    ] = None,
    grey: Annotated[
        float | None, typer.Option(min=0.0, help="Width of the undecided zone, in spreads of the good parts' scores.")
    ] = None,
    roi: Annotated[
        list[str] | None,
        typer.Option(
            help="Region of interest as NAME=left,top,width,height (fractions of the picture), with *2 behind it twice as "
            "sensitive, with a leading - one to leave out; once for each, they replace those of before."
        ),
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Inspect the whole picture again.")] = False,
    align: AlignOption = None,
    max_shift: MaxShiftOption = None,
    max_turn: MaxTurnOption = None,
    found_by: FoundByOption = None,
    tiles: TilesOption = None,
    activate_it: Annotated[bool, typer.Option("--activate", help="Make it the station's product at once.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """A new revision whose threshold rests on parts that were confirmed good: here, on the review page, or before.

    With nine or more, the rate of false rejects that is to be expected is printed, and the bound that it keeps with 95 %
    confidence. A wished rate that they cannot support is refused with the number that would.

    Example: `inspector product recalibrate bracket --good run-in/ --false-rejects 0.02 --activate`

    Example: `inspector product recalibrate bracket --roi thread=0.4,0.1,0.2,0.3*2 --roi -label=0,0.8,1,0.2`
    """
    from inspector.images import list_images, read_image

    settings = load_config(config)
    confirmed = [] if good is None else [(path.name, read_image(path)) for path in list_images(good)]
    with opened(settings) as store:
        pictures, wish = _ready(settings, store, name)
        wish = replace(
            wish,
            target=wish.target if false_rejects is None else false_rejects,
            grey=wish.grey if grey is None else grey,
            rois=() if whole else tuple(_roi(text) for text in roi or []) or wish.rois,
            align=align_wish(align, max_shift, max_turn, found_by, wish.align),
            tiles=tiles_wish(tiles, wish.tiles),
        )
        _confirm(settings, store, name, confirmed)
        recipe = built(settings, store, name, pictures, wish)
        if activate_it and recipe["status"] == "ready":
            _activate(settings, store, recipe["id"])
    tell_built(recipe, as_json)


def _ready(settings: Config, store: Store, name: str) -> tuple[list[tuple[str, ImageArray]], products.Wish]:
    """References and wish of the newest revision that is ready. Raises NotFoundError where there is none."""
    from inspector.images import read_image

    with store.read() as session:
        base = products.find_recipe(session, products.find_product(session, name).rcp)
        if base is None:
            raise NotFoundError(f"product {name!r} has no revision that is ready; see `inspector product show {name}`")
        found = [(reference.name, read_image(settings.data_path / reference.path)) for reference in base.references]
        return found, products.wish_of(base)


def _confirm(settings: Config, store: Store, name: str, pictures: list[tuple[str, ImageArray]]) -> None:
    """Keep pictures as those of good parts; all of them, or none."""
    said, now = labels.Said(labels.GOOD), datetime.now(UTC)
    with staged(settings.data_path, pictures) as kept, store.write() as session:
        product = products.find_product(session, name)
        for picture in kept:
            labels.add_label(session, product, picture, said, source="cli", who=who(), now=now)


def _roi(text: str) -> Roi:
    """A region of interest from NAME=left,top,width,height, perhaps with - before and *sensitivity behind."""
    name, _, rest = text.partition("=")
    box, _, sensitivity = rest.partition("*")
    try:
        left, top, width, height = (float(side) for side in box.split(","))
        factor = float(sensitivity) if sensitivity else 1.0
        return Roi(name.removeprefix("-"), (left, top, width, height), factor, not name.startswith("-"))
    except ValueError as error:
        raise UsageError(
            f"region {text!r}: expected NAME=left,top,width,height as fractions, for example thread=0.4,0.1,0.2,0.3 ({error})"
        ) from error


def built(
    settings: Config,
    store: Store,
    name: str,
    pictures: list[tuple[str, ImageArray]],
    wish: products.Wish | None = None,
) -> dict[str, Any]:
    """A new revision, built here and now, as a record."""
    from inspector.detection.encoder import load_encoder
    from inspector.recipes import build_recipe
    from inspector.store.writer import StoreWriter

    encoder = load_encoder(settings.encoder)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        writer = StoreWriter(store)
        writer.start()
        try:
            with staged(settings.data_path, pictures) as references, store.write() as session:
                recipe_id = products.request_recipe(
                    session,
                    name,
                    references,
                    station_id=None,
                    who=who(),
                    now=datetime.now(UTC),
                    status="building",
                    wish=wish,
                ).id
            task = bar.add_task("building", total=1.0)
            build_recipe(
                writer,
                settings.data_path,
                recipe_id,
                encoder,
                lambda fraction, message: bar.update(task, completed=fraction, description=message),
            )
        finally:
            writer.stop()
    with store.read() as session:
        return _recipe_dict(products.get_recipe(session, recipe_id), with_references=True)


def tell_built(recipe: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(recipe))
    else:
        _show_recipe(recipe)
    raise typer.Exit(0 if recipe["status"] == "ready" else 1)


@app.command("list")
def list_all(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """All products with their newest revision; the station's product is marked.

    Example: `inspector product list`
    """
    settings = load_config(config)
    with opened(settings) as store:
        with store.write() as session:
            station = stations.ensure_station(session, settings.station.name)
            active_id = station.active_recipe_id
        with store.read() as session:
            rows = [_product_dict(product, active_id) for product in products.list_products(session)]
    if as_json:
        typer.echo(json.dumps({"products": rows}))
        return
    if not rows:
        typer.echo("No product yet. Teach one: inspector product add NAME --references FOLDER")
        return
    table = Table()
    for column in ("", "product", "rcp", "revisions", "newest", "threshold"):
        table.add_column(column)
    for row in rows:
        newest = row["recipes"][-1]
        mark = "active" if row["active_rev"] is not None else ""
        table.add_row(
            mark,
            row["name"],
            str(row["rcp"]),
            str(len(row["recipes"])),
            f"rev {newest['rev']}: {newest['status']}",
            _threshold(newest),
        )
    Console().print(table)


@app.command()
def show(name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Revisions and references of a product.

    Example: `inspector product show bracket`
    """
    with opened(load_config(config)) as store, store.read() as session:
        product = products.find_product(session, name)
        recipes = [_recipe_dict(recipe, with_references=True) for recipe in product.recipes]
        head = {"name": product.name, "rcp": product.rcp, "created_at": product.created_at.isoformat()}
    if as_json:
        typer.echo(json.dumps(head | {"recipes": recipes}))
        return
    typer.echo(f"{head['name']} (rcp {head['rcp']}), taught {head['created_at']}")
    for recipe in recipes:
        _show_recipe(recipe)


@app.command()
def activate(
    name: NameArgument,
    rev: RevOption = None,
    override: Annotated[
        str | None, typer.Option(help="Reason for which a revision is activated that would let confirmed defects pass.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a product the station's, also while the worker runs (it changes between two batches).

    A revision that would let a confirmed defect of the product pass is refused, unless --override gives a reason.

    Example: `inspector product activate bracket`
    """
    settings = load_config(config)
    with opened(settings) as store:
        with store.read() as session:
            product = products.find_product(session, name)
            recipe = products.find_recipe(session, product.rcp, rev)
            if recipe is None:
                wanted = f"revision {rev}" if rev else "revision"
                raise NotFoundError(
                    f"product {name!r} has no {wanted} that is ready; see `inspector product show {name}`"
                )
            recipe_id = recipe.id
        if override is not None:
            with store.write() as session:
                products.override(session, recipe_id, override, who(), datetime.now(UTC))
        _say_active(_activate(settings, store, recipe_id), as_json)


@app.command()
def rollback(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Go back to what was active before.

    Example: `inspector product rollback`
    """
    settings = load_config(config)
    with opened(settings) as store:
        with store.write() as session:
            station = stations.ensure_station(session, settings.station.name)
            previous = stations.previous_recipe(session, station.id)
            if previous is None:
                raise NotFoundError("nothing was active before: there is nothing to go back to")
            recipe_id = previous.id
        _say_active(_activate(settings, store, recipe_id), as_json)


def _activate(settings: Config, store: Store, recipe_id: int) -> dict[str, Any]:
    """Through the worker if one runs, else in the database for its next start.

    Raises:
        StationError: the worker refuses, or does not answer.
    """
    now = datetime.now(UTC)
    _try_newer_defects(settings, store, recipe_id)
    lock = FileLock(stations.station_lock_path(settings.data_path, settings.station.name))
    settings.data_path.mkdir(parents=True, exist_ok=True)
    try:
        with lock.acquire(blocking=False), store.write() as session:
            station = stations.ensure_station(session, settings.station.name)
            stations.set_active_recipe(session, station.id, recipe_id, who(), now)
    except Timeout:
        _ask_worker(settings, store, recipe_id)
    with store.read() as session:
        return _recipe_dict(products.get_recipe(session, recipe_id))


def _try_newer_defects(settings: Config, store: Store, recipe_id: int) -> None:
    """Defects that were confirmed since the revision was built, tried here; the encoder is loaded only if there are any."""
    from inspector.recipes import load_detector, newer_defects, try_newer_defects

    with store.read() as session:
        recipe = products.get_recipe(session, recipe_id)
        if recipe.status != "ready" or not newer_defects(session, recipe):
            return
        recipe.product  # noqa: B018 - read while the session lives
    from inspector.detection.encoder import load_encoder
    from inspector.store.writer import StoreWriter

    detector = load_detector(settings.data_path, recipe, load_encoder(settings.encoder))
    writer = StoreWriter(store)
    writer.start()
    try:
        try_newer_defects(writer, settings.data_path, recipe_id, detector)
    finally:
        writer.stop()


def _ask_worker(settings: Config, store: Store, recipe_id: int) -> None:
    with store.read() as session:
        recipe = products.get_recipe(session, recipe_id)
        wanted = {"rcp": recipe.product.rcp, "rev": recipe.rev}
    code = ask_worker(settings, store, "select_recipe", wanted, who())
    if code is AckCode.NOT_APPROVED:
        raise NotApprovedError("confirmed defects would pass; see `inspector product show`, or --override REASON")
    if code is not AckCode.DONE:
        raise StationError(f"the worker refused the product: code {code:d}; its log says why")


@contextmanager
def opened(settings: Config) -> Iterator[Store]:
    """The station's database, upgraded if it is new."""
    if engine.current_revision(settings.database_url) is None:
        engine.upgrade(settings.database_url)  # a new, empty database
    store = engine.open_store(settings.database_url)
    try:
        yield store
    finally:
        store.close()


def who() -> str:
    """The name under which this person's actions are kept."""
    try:
        return getpass.getuser()[:64]
    except (OSError, KeyError):  # a service account may have no name
        return "cli"


def _product_dict(product: Product, active_id: int | None) -> dict[str, Any]:
    active = next((recipe.rev for recipe in product.recipes if recipe.id == active_id), None)
    recipes = [_recipe_dict(recipe) for recipe in product.recipes]
    return {"name": product.name, "rcp": product.rcp, "active_rev": active, "recipes": recipes}


def _recipe_dict(recipe: Recipe, *, with_references: bool = False) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": recipe.id,
        "product": recipe.product.name,
        "rcp": recipe.product.rcp,
        "rev": recipe.rev,
        "status": recipe.status,
        "message": recipe.message,
        "encoder": recipe.encoder,
        "threshold": recipe.threshold,
        "calibration": recipe.calibration_kind,
        "n": recipe.calibration_n,
        "promise": recipe.calibration,
        "report": recipe.report,
        "created_at": recipe.created_at.isoformat(),
    }
    if with_references:
        row["references"] = [
            {"name": reference.name, "sha256": reference.sha256, "score": reference.score, "warning": reference.warning}
            for reference in recipe.references
        ]
        row["findings"] = [
            {"image": reference.name} | finding for reference in recipe.references for finding in reference.findings
        ]
    return row


def _threshold(recipe: dict[str, Any]) -> str:
    if recipe["threshold"] is None:
        return "–"
    promise = recipe["promise"]
    words = promise_words(recipe["calibration"], recipe["n"], promise.get("rate"), promise.get("bound"))
    return f"{recipe['threshold']:.4f} ({words})"


def _show_recipe(recipe: dict[str, Any]) -> None:
    typer.echo(
        f"  rev {recipe['rev']}: {recipe['status']}, threshold {_threshold(recipe)}, encoder {recipe['encoder'] or '–'}, "
        f"{len(recipe['references'])} references"
    )
    if recipe["message"]:
        typer.echo(f"    {recipe['message']}")
    if align := recipe["promise"].get("align"):
        typer.echo(f"    parts are aligned: {100 * align['max_shift']:.0f} % off, {align['max_turn_deg']:.0f}° at most")
    if tiles := recipe["promise"].get("tiles"):
        typer.echo(f"    seen in tiles: {Tiles(**tiles)}")
    for bit, roi in enumerate(one for one in recipe["promise"].get("rois") or [] if one["inspected"]):
        typer.echo(f"    region {bit}: {roi['name']} at {roi['box']}, sensitivity {roi['sensitivity']:g}")
    for reference in recipe["references"]:
        if reference["warning"]:
            typer.echo(f"    warning: {reference['name']}: {reference['warning']}")
    _show_report(recipe["product"], recipe["report"])


def _show_report(product: str, report: dict[str, Any]) -> None:
    """What the build saw of a revision."""
    if report.get("previewed"):
        typer.echo(f"    of the last {report['previewed']} parts, {len(report['flips'])} would be decided otherwise")
    for part in report.get("positions", []):
        typer.echo(f"    verdict {part['inspection']} ({part['picture']}) {part['reason']}")
    if report.get("positions"):
        typer.echo(f"    add a good one of them: `inspector references add {product} NUMBER`")
    smallest = (report.get("sensitivity") or {}).get("smallest", {})
    if smallest:
        seen = (f"{kind} {'none' if size is None else f'from {100 * size:g} %'}" for kind, size in smallest.items())
        typer.echo(f"    drawn defects that it catches, by size of the picture's side: {', '.join(seen)}")
    for lesson in report.get("lessons", []):
        silent = " (changes nothing: good parts look like it)" if lesson.get("silent") else ""
        typer.echo(f"    taught by {lesson['picture']}: {lesson['lesson']}{silent}")
    if raised := report.get("good_raised_by_lessons"):
        names = ", ".join(part["picture"] for part in raised[:SHOWN_ESCAPES])
        typer.echo(f"    lessons lifted {len(raised)} confirmed good parts over the threshold without them: {names}")
    for part in report.get("good_not_accepted", [])[:SHOWN_ESCAPES]:
        typer.echo(f"    a confirmed good part is not accepted: {part['picture']}")
    escapes = report.get("escapes", [])
    for escape in escapes[:SHOWN_ESCAPES]:
        typer.echo(f"    a confirmed defect would pass: {escape['picture']} {escape['kind']}".rstrip())
    if len(escapes) > SHOWN_ESCAPES:
        typer.echo(
            f"    and {len(escapes) - SHOWN_ESCAPES} more; the revision is refused unless --override gives a reason"
        )


def _say_active(recipe: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(recipe))
    else:
        typer.echo(f"{recipe['product']} rev {recipe['rev']} is active; threshold {_threshold(recipe)}.")
