"""`inspector bench calibration` and `inspector bench teaching`: whether promises are kept, and what lessons do."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from inspector.commands.options import ConfigOption, JsonOption, numbers
from inspector.config import load_config

if TYPE_CHECKING:
    from inspector.evaluation.teaching import Summary

ReferencesOption = Annotated[int, typer.Option(min=1, help="References of the bank.")]
WIDTH = 130


def calibration(
    data: Annotated[list[Path] | None, typer.Argument(help="Data sets whose good pictures are drawn too.")] = None,
    parts: Annotated[int, typer.Option(min=30, help="Good parts of each drawn product.")] = 300,
    references: ReferencesOption = 4,
    confirmed: Annotated[str, typer.Option(help="Numbers of confirmed parts, with commas.")] = "9,19,49,99",
    draws: Annotated[int, typer.Option(min=1, help="How often they are drawn.")] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of all draws.")] = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Whether calibrations keep what they promise: achieved against promised rates of false rejects.

    The bound of a calibration is on the rate in the long run. The m parts that are left to count on scatter around that
    rate, so each draw is also held against the exact bound for m parts, which must hold in at least 95 % of the draws.

    Example: `inspector bench calibration my-parts/ --json`
    """
    from inspector import simulation
    from inspector.detection.encoder import load_encoder
    from inspector.evaluation.calibrating import bench_calibration
    from inspector.evaluation.datasets import read_categories
    from inspector.images import read_image

    ns = numbers(confirmed, "--confirmed")
    loaded = load_encoder(load_config(config).encoder)
    with Console(stderr=True).status("drawing") as status:
        sources = [(kind, simulation.draw_references(kind, parts, seed)) for kind in simulation.KINDS]
        for root in data or []:
            for category in read_categories(root):
                good = [*category.pool, *(picture.path for picture in category.test if not picture.is_bad)]
                sources.append((category.name, [read_image(path) for path in dict.fromkeys(good)]))
        rows = [
            row
            for name, images in sources
            for row in bench_calibration(
                loaded, name, images, references=references, ns=ns, draws=draws, seed=seed, say=status.update
            )
        ]
    if as_json:
        typer.echo(json.dumps({"encoder": loaded.name, "rows": [row.as_json() for row in rows]}))
        return
    columns = (
        "promised %",
        "bound %",
        "achieved %",
        "within %",
        "expected %",
        "bound for m %",
        "within %",
        "expected %",
    )
    table = Table("product", "n", "step", "m", *columns, box=SIMPLE_HEAD)
    for row in rows:
        cells = (
            row.promised,
            row.bound,
            row.achieved,
            row.held,
            row.held_expected,
            row.bound_counted,
            row.held_counted,
            row.held_counted_expected,
        )
        shown = ("–" if value is None else f"{100 * value:.1f}" for value in cells)
        table.add_row(row.product, str(row.n), row.step, str(row.counted_on), *shown)
    _print(table)


def teaching(
    data: Annotated[list[Path], typer.Argument(help="Data sets with good and bad pictures; masks mark the defects.")],
    references: ReferencesOption = 4,
    seeds: Annotated[str, typer.Option(help="Seeds of all draws, with commas.")] = "1,2,3,4,5",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """What lessons do to parts that nobody looked at: false rejects, escapes and I-AUROC, before and after.

    Taught are 1, 2 and 4 defects of a kind by their masks' boxes, and scratches that are drawn on good parts; tolerated is
    a spot that is drawn on all good parts to come, marked on 1 and 2 of them; and the 1, 2 and 4 good parts that scored
    highest become references. `risen` counts confirmed good parts that a lesson lifted over the threshold as it was.

    Exit codes: 0 done, 2 a data set or an option is wrong, 3 encoder.

    Example: `inspector bench teaching my-parts/ --seeds 1,2,3 --json`
    """
    from inspector.detection.encoder import load_encoder
    from inspector.evaluation.datasets import read_categories
    from inspector.evaluation.marking import Product
    from inspector.evaluation.teaching import bench_teaching, summarise

    chosen = numbers(seeds, "--seeds")
    sets = [(root.resolve().name, read_categories(root)) for root in data]
    encoder = load_encoder(load_config(config).encoder)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    effects, rows = [], []
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("reading", total=sum(len(found) for _, found in sets) * len(chosen))
        for name, categories in sets:
            mine = []
            for category in categories:
                progress.update(task, description=f"{category.name}: encoding")
                product = Product.read(encoder, category)
                mine += bench_teaching(
                    encoder,
                    product,
                    references=references,
                    seeds=chosen,
                    advance=lambda message: progress.update(task, advance=1, description=message),
                )
            effects += [effect.as_json() | {"data": name} for effect in mine]
            rows += summarise(name, mine)
    if as_json:
        summary = [row.as_json() for row in rows]
        typer.echo(json.dumps({"encoder": encoder.name, "references": references, "rows": summary, "trials": effects}))
    else:
        _show(rows)


def _show(rows: "list[Summary]") -> None:
    measures = {"false_rejects": "false rejects %", "escapes": "escapes %", "auroc": "I-AUROC"}
    table = Table("set", "taught", "n", "step", *measures.values(), "risen", box=SIMPLE_HEAD)
    for row in rows:
        cells = (f"{_figure(row.before[name])} → {_figure(row.after[name])}" for name in measures)
        what = f"{row.teaching}: {row.kind}" if row.kind else str(row.teaching)
        table.add_row(row.data, what, str(row.count), str(row.step), *cells, str(row.risen))
    _print(table)


def _figure(found: tuple[float, float]) -> str:
    return f"{found[0]:.1f} ± {found[1]:.1f}"


def _print(table: Table) -> None:
    console = Console()
    (console if console.width >= WIDTH else Console(width=WIDTH)).print(table)
