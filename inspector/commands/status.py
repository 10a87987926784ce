"""`inspector status`: how the station is now, in the terminal, from what its worker writes into the database each second.

May import the store and the contract; reads only. It works beside a running worker, and says so when there is none.
"""

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text
from sqlalchemy import select

from inspector.commands.options import ConfigOption, JsonOption
from inspector.config import Config, load_config
from inspector.contract.codes import ErrorCode, StationMode, StationState
from inspector.errors import NotFoundError, StoreError
from inspector.store import engine, queries
from inspector.store.engine import Store
from inspector.store.schema import InspectionRow, Recipe, Station
from inspector.types import Verdict

LAST = 8
FRESH_S = 5.0
"""A worker writes each second; what is older is not of a running one."""
WATCH_S = 1.0
MIB = 2**20
GIB = 2**30
STYLES = {"OK": "green", "NG": "red", "UNDECIDED": "yellow", "NONE": "magenta"}


@dataclass(frozen=True)
class View:
    """One look at the station: what its worker last said, how long ago, and its last verdicts."""

    station: str
    age_s: float | None
    status: Mapping[str, Any]
    recipe: Mapping[str, Any] | None
    verdicts: tuple[Mapping[str, Any], ...]

    @property
    def runs(self) -> bool:
        """Whether a worker runs."""
        return self.age_s is not None and self.age_s < FRESH_S and self.status.get("st", 0) != StationState.OFFLINE

    @property
    def accepts(self) -> bool:
        """Whether a worker runs whose verdicts may let a part pass."""
        return self.runs and StationState(self.status["st"]).can_inspect

    def record(self) -> dict[str, Any]:
        """For programs."""
        return {
            "station": self.station,
            "runs": self.runs,
            "accepts": self.accepts,
            "age_s": self.age_s,
            "status": dict(self.status),
            "recipe": self.recipe,
            "verdicts": list(self.verdicts),
        }


def status(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it anew each second, until Ctrl-C.")] = False,
) -> None:
    """Show the station as it is now; exit code 1 if no worker runs or it cannot accept parts.

    Example: `inspector status --watch --config line1.yaml`
    """
    settings = load_config(config)
    store = engine.open_store(settings.database_url)
    try:
        if watch:
            _watch(store, settings, as_json=as_json)
        view = look(store, settings.station.name, datetime.now(UTC))
    finally:
        store.close()
    if as_json:
        typer.echo(json.dumps(view.record()))
    else:
        Console().print(render(view, settings))
    raise typer.Exit(0 if view.accepts else 1)


def look(store: Store, name: str, now: datetime) -> View:
    """Read the station in one short transaction.

    Raises:
        NotFoundError: the database has no station of that name.
    """
    with store.read() as session:
        station = session.scalar(select(Station).where(Station.name == name))
        if station is None:
            known = ", ".join(session.scalars(select(Station.name))) or "none"
            raise NotFoundError(
                f"the database has no station {name} (there are: {known}); start it with `inspector run`"
            )
        recipe = None if station.active_recipe_id is None else session.get(Recipe, station.active_recipe_id)
        age_s = None if station.seen_at is None else round((now - station.seen_at).total_seconds(), 1)
        return View(
            station=name,
            age_s=age_s,
            status=station.status or {},
            recipe=None if recipe is None else _recipe(recipe),
            verdicts=tuple(_verdict(row) for row in queries.latest_inspections(session, station.id, LAST)),
        )


def _watch(store: Store, settings: Config, *, as_json: bool) -> None:
    """Until Ctrl-C; a database that is away for a while ends nothing."""
    console = Console()
    if as_json or not console.is_terminal:
        while True:
            shown = _shown(store, settings, as_json=as_json)
            typer.echo(shown) if isinstance(shown, str) else console.print(shown)
            sys.stdout.flush()
            time.sleep(WATCH_S)
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            live.update(_shown(store, settings, as_json=False), refresh=True)
            time.sleep(WATCH_S)


def _shown(store: Store, settings: Config, *, as_json: bool) -> RenderableType:
    try:
        view = look(store, settings.station.name, datetime.now(UTC))
    except NotFoundError:
        raise
    except StoreError as error:
        return json.dumps({"error": str(error)}) if as_json else Text(str(error), "red")
    return json.dumps(view.record()) if as_json else render(view, settings)


def render(view: View, settings: Config) -> Group:
    """The whole view for a terminal."""
    if view.age_s is None:
        return Group(
            Text.assemble(
                ("Station ", ""), (view.station, "bold"), ": no worker has run yet; start it with `inspector run`"
            )
        )
    parts: list[Table | Text] = [_headline(view)]
    if not view.runs:
        parts.append(
            Text(f"No worker runs: what follows is {_ago(view.age_s)} old. Start it with `inspector run`.", "bold red")
        )
    parts += _alarms(view.status)
    parts += [_numbers(view, settings), Text(), _last(view)]
    return Group(*parts)


def _headline(view: View) -> Text:
    said = view.status
    state = StationState(said.get("st", 0)) if view.runs else StationState.OFFLINE
    mode = StationMode(said.get("mode", 0)).name.lower()
    line = Text.assemble("Station ", (view.station, "bold"), "  ")
    line.append(state.name.replace("_", " ").lower(), "bold green" if state.can_inspect else "bold red")
    if said.get("mode"):
        line.append(f" ({mode})", "yellow")
    err = int(said.get("err", 0))
    if err and view.runs:
        line.append(f"  error {err} {_error(err)}", "red")
    return line


def _alarms(said: Mapping[str, Any]) -> list[Table | Text]:
    lines: list[Table | Text] = []
    for alarm in said.get("alarms", ()):
        seen = " (seen)" if alarm["conf"] else ""
        where = f" {alarm['src']}" if alarm["src"] else ""
        since = datetime.fromtimestamp(alarm["since"], UTC).strftime("%Y-%m-%d %H:%M")
        lines.append(Text(f"! {alarm['err']}{where}: {alarm['txt']} – since {since} UTC{seen}", "red"))
    if said.get("last_error"):
        lines.append(Text(f"! {said['last_error']}", "red"))
    return lines


def _numbers(view: View, settings: Config) -> Table:
    said = view.status
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    rows: list[tuple[str, str | Text]] = [
        ("product", _product(view.recipe)),
        ("since start", _counts(said)),
        ("latency", _latency(said, settings)),
        ("margin", _margin(said, settings)),
        (
            "waiting",
            f"{said.get('queue', 0)} in the queue, {said.get('in_flight', 0)} in flight, "
            f"{said.get('evicted', 0)} given up",
        ),
        *((f"camera {name}", _camera(one)) for name, one in said.get("cameras", {}).items()),
        ("broker", _broker(said)),
        *([("PLC", _receipts(said))] if said.get("receipts") else []),
        ("database", _database(said)),
        *([("central", _central(said))] if "central_rows_behind" in said else []),
        ("disk", _disk(said)),
        (
            "worker",
            f"boot {said.get('boot', 0)}, process {said.get('pid', '–')}, version {said.get('version', '–')}, "
            f"told {_ago(view.age_s or 0.0)} ago",
        ),
    ]
    for name, text in rows:
        table.add_row(name, text)
    return table


def _last(view: View) -> Table:
    table = Table(
        title="last verdicts (newest first)", title_justify="left", title_style="dim", box=None, pad_edge=False
    )
    for column in ("time (UTC)", "verdict", "score", "err", "ms", "trigger", "part", "camera"):
        table.add_column(column, justify="right" if column in ("score", "err", "ms", "trigger") else "left")
    for one in view.verdicts:
        score = "–" if one["score"] is None else f"{one['score']:.3g}"
        if one["score"] is not None and one["threshold"]:
            score += f" / {one['threshold']:.3g}"
        table.add_row(
            str(one["captured_at"])[11:23],
            Text(str(one["verdict"]), STYLES[str(one["verdict"])]),
            score,
            str(one["err"] or ""),
            f"{one['latency_ms']:.0f}",
            str(one["trg"]),
            Text(str(one["part"])),  # it comes from outside and may look like markup
            str(one["camera"]),
        )
    if not view.verdicts:
        table.add_row("none yet")
    return table


def _product(recipe: Mapping[str, Any] | None) -> Text:
    if recipe is None:
        return Text("none is active: every part is rejected; `inspector product activate NAME`", "red")
    promise = "promises nothing"
    if recipe["rate"] is not None:
        promise = f"promises {100 * recipe['rate']:.2g} % false rejects"
        if recipe["bound"] is not None:
            promise += f", at most {100 * recipe['bound']:.2g} %"
    n = "" if recipe["n"] is None else f", n = {recipe['n']}"
    return Text(f"{recipe['name']} revision {recipe['rev']}, {recipe['kind'] or 'not calibrated'}{n}: {promise}")


def _counts(said: Mapping[str, Any]) -> Text:
    counts = said.get("counts", {})
    line = Text(f"{sum(counts.values())} parts:")
    for verdict in (Verdict.OK, Verdict.NG, Verdict.UNDECIDED, Verdict.NONE):
        line.append(f"  {counts.get(verdict.name, 0)} {verdict.name}", STYLES[verdict.name])
    return line


def _latency(said: Mapping[str, Any], settings: Config) -> Text:
    taken = said.get("latency_ms") or {}
    if taken.get("p50") is None:
        return Text("no part yet", "dim")
    deadline_ms = float(said.get("deadline_ms", settings.batching.deadline_ms))
    limit_ms = min(deadline_ms, float(said.get("win", settings.mqtt.window_ms)))
    style = "red" if taken["p99"] > limit_ms else "yellow" if taken["p99"] > limit_ms / 2 else "green"
    text = (
        f"p50 {taken['p50']:.0f} ms, p99 {taken['p99']:.0f} ms, max {taken['max']:.0f} ms of the last {taken['parts']}"
    )
    return Text.assemble((text, style), f"  (deadline {deadline_ms:.0f} ms, win {said.get('win', 0)} ms)")


def _margin(said: Mapping[str, Any], settings: Config) -> Text:
    """How near the verdicts came to the window after which none is sent as a result."""
    left = said.get("margin_ms")
    if left is None:
        return Text("no verdict in the last five minutes", "dim")
    win = float(said.get("win", settings.mqtt.window_ms))
    style = "red" if left["least"] <= 0 else "yellow" if left["least"] < win / 2 else "green"
    text = f"{left['least']:.0f} ms left at the slowest verdict, {left['p99']:.0f} ms at p99"
    return Text.assemble((text, style), f"  (of {left['verdicts']} in the last five minutes)")


def _camera(one: Mapping[str, Any]) -> Text:
    text = f"{one.get('frames', 0)} frames, {one.get('gaps', 0)} gaps, {one.get('reconnects', 0)} reconnects"
    problem = str(one.get("problem", ""))
    return Text.assemble(text, (f"  {problem}" if problem else "  works", "red" if problem else "green"))


def _broker(said: Mapping[str, Any]) -> Text:
    connected = bool(said.get("broker_connected"))
    word = "connected" if connected else f"NOT connected: {said.get('broker_problem') or 'unknown'}"
    waiting = "?" if said.get("outbox") is None else said["outbox"]
    return Text.assemble((word, "green" if connected else "red"), f", {waiting} messages in the outbox")


def _receipts(said: Mapping[str, Any]) -> Text:
    """What the PLC says that it did, if it does."""
    unconfirmed = said.get("rejects_not_confirmed", 0)
    style = "red" if unconfirmed else "green"
    return Text.assemble(f"{said['receipts']} receipts, ", (f"{unconfirmed} rejects not confirmed", style))


def _database(said: Mapping[str, Any]) -> str:
    size, wal = said.get("database_bytes") or 0, said.get("wal_bytes") or 0
    backup = said.get("last_backup_at")
    when = "no backup yet" if backup is None else f"last backup {str(backup)[:16].replace('T', ' ')} UTC"
    files = f"{size / MIB:.1f} MiB, WAL {wal / MIB:.1f} MiB, {when}" if size else "PostgreSQL"
    return f"{files}, {said.get('store_failures', 0)} failed writes"


def _central(said: Mapping[str, Any]) -> Text:
    problem, behind = str(said.get("central_problem") or ""), int(said["central_rows_behind"])
    age_s = float(said.get("central_behind_s") or 0.0)
    if not age_s:
        return Text.assemble(("has everything", "green"), f", {said.get('central_copied', 0)} verdicts copied")
    text = f"{behind} verdicts behind for {_ago(age_s)}"
    rate = "" if problem else f", {said.get('central_rate_hz', 0)} per second are copied"
    return Text.assemble((text, "red" if problem else "yellow"), rate, (f"  {problem}" if problem else "", "red"))


def _disk(said: Mapping[str, Any]) -> Text:
    if said.get("disk_free_bytes") is None:
        return Text("not measured yet", "dim")
    free = f"{said['disk_free_bytes'] / GIB:.1f} GiB free"
    ballast = "ballast held" if said.get("ballast_held") else "ballast given up"
    lost = f"{said.get('pictures_removed', 0)} pictures removed, {said.get('pictures_dropped', 0)} not kept"
    return Text.assemble((free, "red" if said.get("disk_low") else "green"), f", {ballast}, {lost}")


def _recipe(recipe: Recipe) -> dict[str, Any]:
    calibration = recipe.calibration or {}
    return {
        "name": recipe.product.name,
        "rev": recipe.rev,
        "kind": recipe.calibration_kind,
        "n": recipe.calibration_n,
        "threshold": recipe.threshold,
        "rate": calibration.get("rate"),
        "bound": calibration.get("bound"),
    }


def _verdict(row: InspectionRow) -> dict[str, Any]:
    return {
        "seq": row.seq,
        "trg": row.trg,
        "captured_at": row.captured_at.isoformat(timespec="milliseconds"),
        "verdict": Verdict(row.verdict).name,
        "score": row.score,
        "threshold": row.threshold,
        "err": row.err,
        "latency_ms": round(row.latency_ms, 1),
        "part": row.part,
        "camera": row.camera,
    }


def _error(err: int) -> str:
    try:
        return ErrorCode(err).name.replace("_", " ").lower()
    except ValueError:
        return "unknown to this version"


def _ago(age_s: float) -> str:
    for limit_s, unit_s, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if age_s < limit_s:
            return f"{max(age_s, 0) / unit_s:.0f} {unit}"
    return f"{age_s / 86_400:.0f} days"
