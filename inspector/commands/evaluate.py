"""`inspector evaluate`: how good the configured encoder is on a data set, with the detector of the line."""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from inspector.commands.options import (
    AlignOption,
    ConfigOption,
    FoundByOption,
    MaxShiftOption,
    MaxTurnOption,
    TilesOption,
    align_wish,
    tiles_wish,
)
from inspector.config import load_config
from inspector.errors import UsageError

if TYPE_CHECKING:
    from inspector.detection.encoder import Encoder
    from inspector.evaluation.datasets import Category
    from inspector.evaluation.runner import Plan

PathArgument = Annotated[Path, typer.Argument(help="A data set, or one category of it.", metavar="PATH")]
FormatOption = Annotated[
    str, typer.Option("--format", help="auto, mvtec, loco, visa, btad, mpdd, or folder (good/ and other folders).")
]
ShotsOption = Annotated[str, typer.Option(help="Numbers of references, with commas.")]
SeedsOption = Annotated[str, typer.Option(help="Seeds of the choice of references, with commas.")]
AdaptersOption = Annotated[
    str | None, typer.Option(help="Adapters (.safetensors of `inspector adapt`); default: those of the configuration.")
]
CategoryOption = Annotated[list[str] | None, typer.Option("--category", help="Only this category; may be repeated.")]
JsonFileOption = Annotated[
    Path | None, typer.Option("--json", help="Write all results here; a broken-off run goes on from this file.")
]
ReportOption = Annotated[Path | None, typer.Option(help="Write report.html with curves and worst cases here.")]
RestartOption = Annotated[bool, typer.Option("--restart", help="Begin afresh, whatever the results file holds.")]

WIDTH = 104
NAME_WIDTH = 12
"""A narrower terminal breaks lines; numbers that are cut off would be worse."""
SHOWN = {
    "image_auroc": "I-AUROC",
    "pixel_auroc": "P-AUROC",
    "aupro": "AUPRO",
    "false_reject_rate": "false\nrejects",
    "escape_rate": "escapes",
    "tnr_at_zero_escapes": "TNR at\n0 escapes",
}


def evaluate(
    path: PathArgument,
    layout: FormatOption = "auto",
    shots: ShotsOption = "1,2,4,8",
    seeds: SeedsOption = "0,1,2",
    category: CategoryOption = None,
    align: AlignOption = None,
    max_shift: MaxShiftOption = None,
    max_turn: MaxTurnOption = None,
    found_by: FoundByOption = None,
    tiles: TilesOption = None,
    adapters: AdaptersOption = None,
    config: ConfigOption = None,
    json_file: JsonFileOption = None,
    report: ReportOption = None,
    restart: RestartOption = False,
) -> None:
    """Measure image and pixel quality, false rejects and escapes with few references, on a data set with a test.

    References are drawn from the good training pictures (by name, shuffled by the seed), the threshold is what the
    product would have used with only these. Same arguments give the same numbers. --align and --tiles are those of
    `inspector product add`. A picture that the line would refuse (nothing can be seen, or no part where it may lie) counts
    as rejected.

    Exit codes: 0 done, 2 the data set or an option is wrong, 3 encoder, 130 stopped (the same command goes on).

    Example: `inspector evaluate mvtec/ --shots 1,4 --seeds 0,1,2 --json results.json --report report/`

    Example: `inspector evaluate my-parts/ --shots 4 --align --max-shift 0.1 --max-turn 8 --report report/`
    """
    from inspector.detection.encoder import load_encoder
    from inspector.evaluation import results
    from inspector.evaluation.datasets import read_categories
    from inspector.evaluation.runner import Plan

    wish = align_wish(align, max_shift, max_turn, found_by)
    plan = Plan(_numbers(shots, "--shots", 1), _numbers(seeds, "--seeds", 0), wish, tiles_wish(tiles))
    categories = read_categories(path, layout, category or ())
    wished = load_config(config).encoder
    if adapters is not None:
        wished = wished.model_copy(update={"adapters": adapters})
    encoder = load_encoder(wished)
    settings = {
        "dataset": path.resolve().name,
        "layout": layout,
        "categories": [each.name for each in categories],
        "files_sha256": results.file_list_hash(categories),
        **_told(plan),
        "encoder": encoder.name,
        "adapters": wished.adapters,
        "precision": encoder.precision,
        "fingerprint": encoder.fingerprint,
    }
    done = results.load(json_file, settings, restart=restart) if json_file is not None else []
    if json_file is not None:
        results.save(json_file, settings, done)  # what cannot be written is said before the work begins
    done = _run(encoder, _Work(categories, plan, settings, json_file, report), done)
    _show(results.summarise(done), encoder.name)
    _show_refused(done)
    if report is not None:
        from inspector.evaluation.report import write_report

        Console(stderr=True).print(f"report: {write_report(report, settings, done)}", highlight=False)


def _told(plan: "Plan") -> dict[str, Any]:
    """The plan as the results file has it."""
    return {
        "shots": plan.shots,
        "seeds": plan.seeds,
        "align": None if plan.align is None else asdict(plan.align),
        "tiles": None if plan.tiles is None else str(plan.tiles),
    }


@dataclass(frozen=True)
class _Work:
    """What is evaluated, and where the results go."""

    categories: "list[Category]"
    plan: "Plan"
    settings: dict[str, Any]
    json_file: Path | None
    report: Path | None


def _run(encoder: "Encoder", work: _Work, done: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All categories that are not in `done` yet; gives all results."""
    from inspector.evaluation import results
    from inspector.evaluation.report import keep_cases
    from inspector.evaluation.runner import evaluate_category, steps

    console = Console(stderr=True)
    finished = {result["category"] for result in done}
    left = [each for each in work.categories if each.name not in finished]
    if finished:
        console.print(f"{len(finished)} of {len(work.categories)} categories are done already", highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("", total=sum(steps(each, work.plan) for each in left))
            for each in left:
                evaluated = evaluate_category(
                    encoder, each, work.plan, lambda steps_, what: bar.update(task, advance=steps_, description=what)
                )
                done = [*done, *evaluated.results]
                if work.report is not None:
                    keep_cases(work.report, each.name, evaluated)
                if work.json_file is not None:
                    results.save(work.json_file, work.settings, done)
    except KeyboardInterrupt:
        if work.json_file is not None:
            console.print(f"stopped; the same command goes on from {work.json_file}", highlight=False)
        raise
    return done


def _numbers(text: str, option: str, least: int) -> list[int]:
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or found[0] < least:
        raise UsageError(f"{option} is {text!r}; expected whole numbers from {least} on with commas, for example 1,2,4")
    return found


def _show(summary: list[dict[str, Any]], encoder: str) -> None:
    from inspector.evaluation.results import MEAN

    seeds = max((row["seeds"] for row in summary), default=0)
    caption = f"Percent, mean ± deviation over {seeds} seeds. Encoder {encoder}. AUPRO up to FPR 0.3."
    table = Table("category", "refs", *SHOWN.values(), caption=caption, caption_justify="left", box=SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    table.columns[0].no_wrap, table.columns[0].min_width = True, NAME_WIDTH
    for row in summary:
        if row["category"] == MEAN and summary[summary.index(row) - 1]["category"] != MEAN:
            table.add_section()
        cells = ["–" if row[m] is None else f"{100 * row[m]['mean']:.1f} ±{100 * row[m]['std']:4.1f}" for m in SHOWN]
        table.add_row(row["category"], str(row["shots"]), *cells)
    console = Console()
    (console if console.width >= WIDTH else Console(width=WIDTH)).print(table)


def _show_refused(found: list[dict[str, Any]]) -> None:
    """How many pictures the line would refuse, over all banks."""
    codes = Counter(entry["err"] for result in found for entry in result["refused"])
    total = sum(result["good"] + result["bad"] for result in found)
    words = "the line would refuse none of these pictures"
    if codes:
        by_code = ", ".join(f"{err}: {count}" for err, count in sorted(codes.items()))
        words = f"refused, as on the line: {codes.total()} of {total} pictures ({by_code}); they count as rejected"
    Console().print(words, highlight=False, soft_wrap=True)
