"""`inspector challenge`: known parts of a product, challenges of the station with them, and the parts in doubt."""

import csv
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.orm import Session

from inspector.commands.options import ConfigOption, JsonOption
from inspector.commands.product import NameArgument, opened, who
from inspector.commands.worker import ask_worker, require_worker
from inspector.config import Config, load_config
from inspector.contract.codes import AckCode
from inspector.errors import NotFoundError, StationError, UsageError
from inspector.images import read_image
from inspector.store import challenges, products, stations
from inspector.store.engine import Store
from inspector.store.pictures import Picture, staged
from inspector.store.schema import ChallengeMember, ChallengeRun, InspectionRow
from inspector.types import Verdict

POLL_S = 0.2
AWAY_S = 15.0
"""A worker that has given no sign of life for so long will not end the challenge any more."""
SUSPECT_FIELDS = ("id", "boot", "seq", "trg", "part", "captured_at", "product", "rev", "score", "threshold")

app = typer.Typer(help="Known parts that prove that the station still finds what it must.", no_args_is_help=True)
SetOption = Annotated[int, typer.Option("--set", min=1, max=65_535, help="Number of the challenge set.")]


@app.command()
def add(
    product: NameArgument,
    expected: Annotated[str, typer.Option(help="good or defect: what each of them must be found to be.")],
    pictures: Annotated[list[Path] | None, typer.Argument(help="Pictures of known parts, one for each part.")] = None,
    name: Annotated[str, typer.Option(help="Name of the part; default: that of its picture.")] = "",
    kind: Annotated[str, typer.Option(help="What kind of defect it shows.")] = "",
    part: Annotated[
        str, typer.Option(help="Id with which the physical part is triggered; default: parts come in their order.")
    ] = "",
    set_no: SetOption = 1,
    config: ConfigOption = None,
) -> None:
    """Add known parts to a challenge set. Without a picture: a physical part that only an operator can show.

    Example: `inspector challenge add bracket golden/*.png --expected good`
    """
    paths = pictures or []
    if not paths and not name:
        raise UsageError("give pictures, or --name for a physical part of which there is none")
    if len(paths) > 1 and (name or part):
        raise UsageError(f"--name and --part are for one part, but {len(paths)} pictures were given")
    settings = load_config(config)
    titles = [name or path.stem for path in paths] or [name]
    if len(set(titles)) < len(titles):
        raise UsageError("two of the pictures have the same name; rename one")
    images = ((path.name, read_image(path)) for path in paths)
    with opened(settings) as store, staged(settings.data_path, images) as kept, store.write() as session:
        row = products.find_product(session, product)
        shown: list[Picture | None] = [*kept] or [None]
        for title, picture in zip(titles, shown, strict=True):
            known = challenges.Known(title, expected, kind, part)
            challenges.add_member(session, row, known, picture, set_no=set_no, who=who(), now=datetime.now(UTC))
        count = len(challenges.members(session, row.id, set_no))
    typer.echo(f"challenge set {set_no} of {product} has {count} parts")


@app.command("list")
def list_members(product: NameArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """The known parts of a product.

    Example: `inspector challenge list bracket`
    """
    with opened(load_config(config)) as store, store.read() as session:
        found = [_member_dict(one) for one in challenges.members(session, products.find_product(session, product).id)]
    if as_json:
        typer.echo(json.dumps({"product": product, "parts": found}))
        return
    if not found:
        typer.echo(
            f"{product} has no known parts; add some: inspector challenge add {product} PICTURES --expected good"
        )
        return
    table = Table("set", "part", "expected", "kind", "id on the line", "picture")
    for one in found:
        table.add_row(
            str(one["set"]), one["name"], one["expected"], one["kind"], one["part"], "yes" if one["path"] else "no"
        )
    Console().print(table)


@app.command()
def remove(
    product: NameArgument,
    name: Annotated[str, typer.Argument(help="Name of the known part.")],
    set_no: SetOption = 1,
    config: ConfigOption = None,
) -> None:
    """Take a known part out of its set; what it showed in past challenges stays.

    Example: `inspector challenge remove bracket scratch-3`
    """
    with opened(load_config(config)) as store, store.write() as session:
        there = challenges.members(session, products.find_product(session, product).id, set_no)
        found = next((one for one in there if one.name == name), None)
        if found is None:
            known = ", ".join(one.name for one in there) or "none"
            raise NotFoundError(f"challenge set {set_no} of {product} has no part {name!r}; there are: {known}")
        challenges.retire(session, found.id, who(), datetime.now(UTC))
    typer.echo(f"{name} is no longer in challenge set {set_no} of {product}")


@app.command()
def run(
    set_no: SetOption = 1,
    parts: Annotated[
        bool, typer.Option("--parts", help="With the physical parts on the line, not with their kept pictures.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the running worker prove itself on a set of the active product; exit code 1 if it fails.

    Kept pictures are inspected beside the production. With --parts the next parts in front of the cameras are the known
    ones, and none of them is accepted.

    Example: `inspector challenge run --set 1`
    """
    settings = load_config(config)
    with opened(settings) as store:
        require_worker(settings)
        station_id = _station_id(settings, store)
        with store.read() as session:
            before = max((one.id for one in challenges.runs(session, station_id, 1)), default=0)
        code = ask_worker(settings, store, "challenge_begin", {"set": set_no, "pic": 0 if parts else 1}, who())
        if code is not AckCode.DONE:
            _refused(code, set_no)
        number = _begun(store, station_id, before)
        try:
            if parts:
                _say_order(store, number)
            outcome = _outcome(settings, store, number)
        except KeyboardInterrupt:
            typer.echo(
                f"challenge {number} goes on; `inspector challenge results` shows what comes of it, "
                "`inspector challenge end` ends it",
                err=True,
            )
            raise typer.Exit(130) from None
    if as_json:
        typer.echo(json.dumps(outcome))
    else:
        _show_run(outcome)
    raise typer.Exit(0 if outcome["result"] == challenges.PASSED else 1)


@app.command()
def end(config: ConfigOption = None) -> None:
    """End the challenge that runs; known parts that were not seen have failed, and if none was, it is given up.

    Example: `inspector challenge end`
    """
    settings = load_config(config)
    with opened(settings) as store:
        require_worker(settings)
        code = ask_worker(settings, store, "challenge_end", {}, who())
    if code is AckCode.WRONG_STATE:
        raise StationError("no challenge runs")
    if code is not AckCode.DONE:
        raise StationError(f"the worker refused it: code {code:d}; its log says why")
    typer.echo("the challenge is over; `inspector challenge results` shows what came of it")


@app.command()
def results(
    limit: Annotated[int, typer.Option(min=1, help="So many of the newest challenges.")] = 20,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """What came of the last challenges, newest first, with each known part that was judged wrongly.

    Example: `inspector challenge results`
    """
    settings = load_config(config)
    with opened(settings) as store:
        station_id = _station_id(settings, store)
        with store.read() as session:
            found = [_run_dict(one) for one in challenges.runs(session, station_id, limit)]
            held = challenges.standing(session, station_id)
            held_by = None if held is None else held.id
    if as_json:
        typer.echo(json.dumps({"held_by": held_by, "challenges": found}))
        return
    if not found:
        typer.echo("No challenge has been run yet: inspector challenge run")
    for one in found:
        _show_run(one)
    if held_by is not None:
        typer.echo(f"Challenge {held_by} holds the station: no part is accepted until another one passes.")


@app.command()
def suspects(
    number: Annotated[
        int | None, typer.Argument(help="Number of a failed challenge; default: the last one, or an overdue one.")
    ] = None,
    csv_path: Annotated[Path | None, typer.Option("--csv", help="Write them into this file.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Parts that were accepted since the last passed challenge, and are in doubt since one failed or is overdue.

    Example: `inspector challenge suspects --csv in-doubt.csv`
    """
    settings = load_config(config)
    with opened(settings) as store:
        station_id = _station_id(settings, store)
        with store.read() as session:
            reason, doubt = _doubt(session, settings, station_id, number)
            rows = [] if doubt is None else [_suspect(one) for one in challenges.doubted(session, doubt)]
    if csv_path is not None:
        _write_csv(csv_path, rows)
    if as_json:
        typer.echo(json.dumps({"reason": reason, "parts": rows}))
        return
    typer.echo(f"{reason}: {len(rows)} accepted parts are in doubt" if reason else "No part is in doubt.")
    if csv_path is None:
        for row in rows:
            typer.echo(f"  {row['captured_at']}  no. {row['boot']}:{row['seq']}  trigger {row['trg']}  {row['part']}")


@app.command()
def override(
    number: Annotated[int, typer.Argument(help="Number of the failed challenge.")],
    reason: Annotated[str, typer.Option(help="Why the station may go on; kept with your name.")],
    config: ConfigOption = None,
) -> None:
    """Let the station go on although a challenge failed; kept in the audit.

    Example: `inspector challenge override 12 --reason "the golden part was dirty"`
    """
    with opened(load_config(config)) as store, store.write() as session:
        challenges.override(session, number, reason, who(), datetime.now(UTC))
    typer.echo(f"challenge {number} is overridden; it holds the station no longer")


def _station_id(settings: Config, store: Store) -> int:
    with store.write() as session:
        return stations.ensure_station(session, settings.station.name).id


def _refused(code: AckCode, set_no: int) -> NoReturn:
    reasons = {
        AckCode.BUSY: "another challenge runs; wait for it, or end it with `inspector challenge end`",
        AckCode.UNKNOWN_RECIPE: f"set {set_no} of the active product has no parts that could be shown; "
        "see `inspector challenge list`",
        AckCode.WRONG_STATE: "no product is active, or the station is stopped or in error",
    }
    raise StationError(
        f"the challenge cannot begin: {reasons.get(code, f'code {code:d}; the log of the worker says why')}"
    )


def _begun(store: Store, station_id: int, before: int) -> int:
    """Number of the challenge that the worker has just begun."""
    with store.read() as session:
        return min(one.id for one in challenges.runs(session, station_id) if one.id > before)


def _say_order(store: Store, number: int) -> None:
    """Which parts to put in front of the cameras."""
    with store.read() as session:
        begun = challenges.get_run(session, number)
        there = challenges.members(session, begun.recipe.product_id, begun.set_no)
        lines = [
            f"  {place}. {one.name} ({one.expected})" + (f", triggered as {one.part}" if one.part else "")
            for place, one in enumerate(there, 1)
        ]
    typer.echo("\n".join(["Show these parts now, in this order:", *lines]), err=True)


def _outcome(settings: Config, store: Store, number: int) -> dict[str, Any]:
    """Wait for the end of a challenge.

    Raises:
        StationError: the worker has ended meanwhile.
    """
    with Console(stderr=True).status(f"challenge {number}") as line:
        while True:
            with store.read() as session:
                row = challenges.get_run(session, number)
                if row.result != challenges.RUNNING:
                    return _run_dict(row)
                seen_at = stations.get_station(session, row.station_id).seen_at
                line.update(f"challenge {number}: {challenges.inspected(session, row)} verdicts")
            if seen_at is not None and (datetime.now(UTC) - seen_at).total_seconds() > AWAY_S:
                raise StationError(
                    f"the worker of {settings.station.name} has ended; challenge {number} proves nothing"
                )
            time.sleep(POLL_S)


def _doubt(
    session: Session, settings: Config, station_id: int, number: int | None
) -> tuple[str, challenges.Doubt | None]:
    """Why parts are in doubt, and which; nothing if no challenge has failed or is overdue."""
    chosen = next(iter(challenges.unsettled(session, station_id)), None)
    if number is not None:
        chosen = challenges.get_run(session, number)
        if chosen.result != challenges.FAILED:
            raise UsageError(f"challenge {number} has not failed (it is {chosen.result}); it puts no part in doubt")
    if chosen is not None:
        return f"challenge {chosen.id} failed", challenges.doubt_of(session, chosen)
    active = stations.active_recipe(session, station_id)
    every_h = settings.challenge.every_h
    due = None if active is None else challenges.due_at(session, station_id, active.id, every_h)
    if due is None or due > datetime.now(UTC):
        return "", None
    return f"a challenge is overdue since {due:%Y-%m-%d %H:%M} UTC", challenges.doubt_now(session, station_id)


def _member_dict(row: ChallengeMember) -> dict[str, Any]:
    names = ("id", "name", "expected", "kind", "part", "path")
    return {"set": row.set_no} | {name: getattr(row, name) for name in names}


def _run_dict(row: ChallengeRun) -> dict[str, Any]:
    names = ("id", "mode", "result", "reason", "members", "began_by", "override_reason", "override_by")
    return {name: getattr(row, name) for name in names} | {
        "set": row.set_no,
        "product": row.recipe.product.name,
        "rev": row.recipe.rev,
        "began_at": row.began_at.isoformat(),
        "ended_at": None if row.ended_at is None else row.ended_at.isoformat(),
    }


def _show_run(one: dict[str, Any]) -> None:
    typer.echo(
        f"challenge {one['id']} {one['result']}: set {one['set']} of {one['product']} rev {one['rev']} with {one['mode']}, "
        f"begun {one['began_at']} by {one['began_by']}"
    )
    for member in one["members"]:
        seen = ", ".join(f"{Verdict(look['verdict']).name} ({look['camera']})" for look in member["seen"]) or "not seen"
        fault = f"  <- {member['fault']}" if member["fault"] else ""
        typer.echo(f"  {member['name']}: {member['expected']} expected, {seen}{fault}")
    if one["result"] == challenges.ABORTED:
        typer.echo(f"  {one['reason']}")
    if one["override_reason"]:
        typer.echo(f"  overridden by {one['override_by']}: {one['override_reason']}")


def _suspect(row: InspectionRow) -> dict[str, Any]:
    recipe = row.recipe
    values = {name: getattr(row, name) for name in ("id", "boot", "seq", "trg", "part", "score", "threshold")}
    return values | {
        "captured_at": row.captured_at.isoformat(),
        "product": "" if recipe is None else recipe.product.name,
        "rev": 0 if recipe is None else recipe.rev,
    }


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, SUSPECT_FIELDS)
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error
