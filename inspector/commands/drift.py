"""`inspector drift`: how the last parts of the station compare with those that its recipe was calibrated with."""

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from inspector.commands.options import ConfigOption, JsonOption
from inspector.commands.product import opened
from inspector.config import load_config
from inspector.store import drift as rows
from inspector.store import stations
from inspector.store.schema import DriftPoint

SHOWN = ("level", "detail", "novelty")


def drift(
    hours: Annotated[float, typer.Option(min=0.01, max=10_000, help="How far to look back.")] = 24.0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """How the last parts compared, and what has changed: light, focus, camera, product or scores.

    Example: `inspector drift --hours 8`
    """
    settings = load_config(config)
    with opened(settings) as store:
        with store.write() as session:
            station_id = stations.ensure_station(session, settings.station.name).id
        with store.read() as session:
            since = datetime.now(UTC) - timedelta(hours=hours)
            found = [_point(one) for one in rows.points(session, station_id, since)]
    if as_json:
        typer.echo(json.dumps({"points": found}))
        return
    if not found:
        typer.echo(f"No parts were compared in the last {hours:g} h.")
        return
    table = Table("at (UTC)", "parts", "mean p-value", *SHOWN, "what has changed")
    for one in found:
        p_mean = "–" if one["p_mean"] is None else f"{one['p_mean']:.3f}"
        measures = [f"{one['measures'][name]:.4g}" if name in one["measures"] else "–" for name in SHOWN]
        table.add_row(one["at"][:19].replace("T", " "), str(one["parts"]), p_mean, *measures, one["cause"])
    Console().print(table)


def _point(row: DriftPoint) -> dict[str, Any]:
    names = ("recipe_id", "parts", "p_mean", "err", "cause", "measures")
    return {"at": row.at.isoformat()} | {name: getattr(row, name) for name in names}
