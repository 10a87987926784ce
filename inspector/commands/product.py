"""`inspector product`: teach products from pictures, look at them, make one active, go back."""

import getpass
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from inspector.commands.options import ConfigOption, JsonOption
from inspector.config import Config, load_config
from inspector.errors import NotFoundError, StationError
from inspector.store import commands, engine, products, stations
from inspector.store.engine import Store
from inspector.store.schema import Product, Recipe

ANSWER_TIMEOUT_S = 60.0

app = typer.Typer(help="Teach products from pictures, make one active, go back.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(help="Name of the product.")]
RevOption = Annotated[int | None, typer.Option("--rev", min=1, help="Revision; default: the newest that is ready.")]


@app.command()
def add(
    name: NameArgument,
    references: Annotated[Path, typer.Option("--references", "-r", help="Folder of pictures of good parts.")],
    activate_it: Annotated[bool, typer.Option("--activate", help="Make it the station's product at once.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Teach a product from a handful of pictures of good parts; an existing one gets a new revision.

    Example: `inspector product add bracket --references good/ --activate`
    """
    from inspector.detection.encoder import load_encoder
    from inspector.images import list_images, read_image
    from inspector.recipes import build_recipe
    from inspector.store.writer import StoreWriter

    settings = load_config(config)
    products.check_name(name)
    pictures = [(path.name, read_image(path)) for path in list_images(references)]
    encoder = load_encoder(settings.encoder)
    with _opened(settings) as store, Progress(console=Console(stderr=True), transient=True) as bar:
        writer = StoreWriter(store)
        writer.start()
        try:
            recipe_id = writer.call(
                lambda session: (
                    products.request_recipe(
                        session,
                        settings.data_path,
                        name,
                        pictures,
                        station_id=None,
                        who=_who(),
                        now=datetime.now(UTC),
                        status="building",
                    ).id
                )
            )
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
            recipe = _recipe_dict(products.get_recipe(session, recipe_id), with_references=True)
        if activate_it and recipe["status"] == "ready":
            _activate(settings, store, recipe_id)
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
    with _opened(settings) as store:
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
    with _opened(load_config(config)) as store, store.read() as session:
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
    name: NameArgument, rev: RevOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Make a product the station's, also while the worker runs (it changes between two batches).

    Example: `inspector product activate bracket`
    """
    settings = load_config(config)
    with _opened(settings) as store:
        with store.read() as session:
            product = products.find_product(session, name)
            recipe = products.find_recipe(session, product.rcp, rev)
            if recipe is None:
                wanted = f"revision {rev}" if rev else "revision"
                raise NotFoundError(
                    f"product {name!r} has no {wanted} that is ready; see `inspector product show {name}`"
                )
            recipe_id = recipe.id
        _say_active(_activate(settings, store, recipe_id), as_json)


@app.command()
def rollback(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Go back to what was active before.

    Example: `inspector product rollback`
    """
    settings = load_config(config)
    with _opened(settings) as store:
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
    lock = FileLock(stations.station_lock_path(settings.data_path, settings.station.name))
    settings.data_path.mkdir(parents=True, exist_ok=True)
    try:
        with lock.acquire(blocking=False), store.write() as session:
            station = stations.ensure_station(session, settings.station.name)
            stations.set_active_recipe(session, station.id, recipe_id, _who(), now)
    except Timeout:
        _ask_worker(settings, store, recipe_id)
    with store.read() as session:
        return _recipe_dict(products.get_recipe(session, recipe_id))


def _ask_worker(settings: Config, store: Store, recipe_id: int) -> None:
    with store.write() as session:
        station = stations.ensure_station(session, settings.station.name)
        recipe = products.get_recipe(session, recipe_id)
        command_id = commands.submit(
            session,
            station.id,
            source="cli",
            cid=commands.new_cid(),
            name="select_recipe",
            payload={"rcp": recipe.product.rcp, "rev": recipe.rev},
            who=_who(),
            now=datetime.now(UTC),
        ).id
    deadline_s = time.monotonic() + ANSWER_TIMEOUT_S
    while time.monotonic() < deadline_s:
        with store.read() as session:
            command = commands.get_command(session, command_id)
        if command.status == "done":
            if command.code != 0:
                raise StationError(f"the worker refused the product: code {command.code}; its log says why")
            return
        time.sleep(0.1)
    raise StationError(f"the worker did not answer within {ANSWER_TIMEOUT_S:.0f} s; look at its log")


@contextmanager
def _opened(settings: Config) -> Iterator[Store]:
    if engine.current_revision(settings.database_url) is None:
        engine.upgrade(settings.database_url)  # a new, empty database
    store = engine.open_store(settings.database_url)
    try:
        yield store
    finally:
        store.close()


def _who() -> str:
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
        "product": recipe.product.name,
        "rcp": recipe.product.rcp,
        "rev": recipe.rev,
        "status": recipe.status,
        "message": recipe.message,
        "encoder": recipe.encoder,
        "threshold": recipe.threshold,
        "calibration": recipe.calibration_kind,
        "n": recipe.calibration_n,
        "created_at": recipe.created_at.isoformat(),
    }
    if with_references:
        row["references"] = [
            {"name": reference.name, "sha256": reference.sha256, "score": reference.score, "warning": reference.warning}
            for reference in recipe.references
        ]
    return row


def _threshold(recipe: dict[str, Any]) -> str:
    if recipe["threshold"] is None:
        return "–"
    return f"{recipe['threshold']:.4f} ({recipe['calibration']}, n={recipe['n']})"


def _show_recipe(recipe: dict[str, Any]) -> None:
    typer.echo(
        f"  rev {recipe['rev']}: {recipe['status']}, threshold {_threshold(recipe)}, encoder {recipe['encoder'] or '–'}, "
        f"{len(recipe['references'])} references"
    )
    if recipe["message"]:
        typer.echo(f"    {recipe['message']}")
    for reference in recipe["references"]:
        if reference["warning"]:
            typer.echo(f"    warning: {reference['name']}: {reference['warning']}")


def _say_active(recipe: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(recipe))
    else:
        typer.echo(f"{recipe['product']} rev {recipe['rev']} is active; threshold {_threshold(recipe)}.")
