"""`inspector study`: attribute agreement studies that were made and judged in the dashboard; list them, report on one."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from inspector.agreement import EFFECTIVENESS, FALSE_ALARM, MISS, Judge, Kappa, Limits, Share
from inspector.commands.options import ConfigOption, JsonOption
from inspector.commands.product import opened
from inspector.config import load_config
from inspector.errors import UsageError
from inspector.store import studies
from inspector.study import report as reporting
from inspector.study import result as results

app = typer.Typer(no_args_is_help=True, help="Attribute agreement studies: do the people who judge parts agree?")


@app.command("list")
def list_studies(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """All studies, newest first, and how far they are.

    Example: `inspector study list`
    """
    with opened(load_config(config)) as store, store.read() as session:
        found: list[dict[str, Any]] = [
            {
                "id": one.id,
                "title": one.title,
                "product": one.product.name,
                "parts": len(one.parts),
                "repeats": one.repeats,
                "operators": one.operators,
                "answered": sum(studies.answered(session, one.id).values()),
                "of": len(one.parts) * one.repeats * len(one.operators),
                "created_at": one.created_at.isoformat(),
            }
            for one in studies.list_studies(session)
        ]
    if as_json:
        typer.echo(json.dumps({"studies": found}))
        return
    if not found:
        typer.echo("no studies yet; they are made on the Study page of `inspector dashboard`")
    for row in found:
        operators = ", ".join(row["operators"])
        typer.echo(
            f"{row['id']}  {row['title']} ({row['product']}): {row['parts']} parts × {row['repeats']} rounds, {operators}; "
            f"{row['answered']} of {row['of']} answers"
        )


@app.command()
def report(
    study: Annotated[int, typer.Argument(help="Number of the study, as `inspector study list` shows it.")],
    out: Annotated[Path | None, typer.Option(help="Write the printable report (HTML) into this file.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """What a study says: rates against the truth with their bands, agreement and kappa; on paper with --out.

    Example: `inspector study report 1 --out study.html`
    """
    settings = load_config(config)
    with opened(settings) as store, store.read() as session:
        result = results.load(session, study)
    if out is not None:
        zone = datetime.now(UTC).astimezone().tzinfo or UTC
        try:
            out.write_text(reporting.write_html(result, settings.data_path, zone), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{out}: cannot be written: {error.strerror}") from error
    if as_json:
        typer.echo(json.dumps(results.to_json(result)))
        return
    _tell(result)
    if out is not None:
        typer.echo(f"report: {out}")


def _tell(result: results.StudyResult) -> None:
    typer.echo(f"{result.title} ({result.product}): {len(result.parts)} parts × {result.repeats} rounds")
    for name in result.unfinished:
        typer.echo(f"{name} has answered {result.progress[name]} of {result.total} and is left out")
    agreement = result.agreement
    if agreement is None:
        typer.echo("nobody has finished yet")
        return
    table = Table("judge", "effectiveness", "misses", "false alarms", "with themselves", "kappa with the truth")
    system = () if agreement.system is None else (agreement.system,)
    for judge in (*agreement.operators, agreement.together, *system):
        table.add_row(*_row(judge))
    Console().print(table)
    for pair in agreement.pairs:
        typer.echo(f"{pair.one} with {pair.other}: kappa {_kappa(pair.kappa)}")
    if agreement.fleiss is not None:
        typer.echo(f"all answers: Fleiss' kappa {_kappa(agreement.fleiss)}")
    for sentence in reporting.conclusions(agreement):
        typer.echo(sentence)


def _row(judge: Judge) -> tuple[str, ...]:
    return (
        judge.name,
        _share(judge.effectiveness, EFFECTIVENESS),
        _share(judge.miss, MISS),
        _share(judge.false_alarm, FALSE_ALARM),
        _share(judge.within),
        "–" if judge.kappa is None else _kappa(judge.kappa),
    )


def _share(share: Share | None, limits: Limits | None = None) -> str:
    if share is None:
        return "–"
    low, high = share.bounds
    band = "" if limits is None else f", {limits.band(share.rate)}"
    return f"{100 * share.rate:.1f} % ({100 * low:.0f} to {100 * high:.0f}){band}"


def _kappa(kappa: Kappa) -> str:
    if kappa.value is None or kappa.bounds is None:
        return "–"
    return f"{kappa.value:.2f} ({kappa.bounds[0]:.2f} to {kappa.bounds[1]:.2f}), {kappa.strength}"
