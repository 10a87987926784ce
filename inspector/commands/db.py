"""`inspector db`: make, upgrade, check, back up or restore the database."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from filelock import FileLock, Timeout

from inspector.commands.options import ConfigOption, JsonOption
from inspector.config import Config, load_config
from inspector.errors import ConfigError, StationError, StoreError

if TYPE_CHECKING:
    from inspector.store.months import Month

CentralOption = Annotated[
    bool, typer.Option("--central", help="The plant's central database (central.url) instead of the station's.")
]

app = typer.Typer(help="Make, upgrade, check, back up or restore the database.", no_args_is_help=True)


@app.command()
def upgrade(config: ConfigOption = None, central: CentralOption = False, as_json: JsonOption = False) -> None:
    """Make the database, or bring it to the schema of this program; nothing that is stored is lost.

    Example: `inspector db upgrade --config line1.yaml`, `inspector db upgrade --central --config line1.yaml`
    """
    from inspector.store import engine

    settings = load_config(config)
    if central:
        before, after = engine.upgrade(_central_url(settings), engine.PLANT)
    else:
        before, after = engine.upgrade(settings.database_url)
    if as_json:
        typer.echo(json.dumps({"before": before, "after": after}))
    else:
        typer.echo(
            f"The database has schema {after}" + (" already." if before == after else f" (was {before or 'empty'}).")
        )


@app.command()
def check(config: ConfigOption = None, central: CentralOption = False, as_json: JsonOption = False) -> None:
    """Exit code 0 if the database fits this program and is not damaged, 4 with the reason if not.

    Example: `inspector db check --config line1.yaml`
    """
    from inspector.store import backup, engine

    settings = load_config(config)
    if central:
        engine.check(_central_url(settings), engine.PLANT)
        head = engine.head_revision(engine.PLANT)
        typer.echo(json.dumps({"ok": True, "revision": head}) if as_json else f"OK: schema {head}")
        return
    url = settings.database_url
    file = backup.database_file(url)
    if file is not None and file.exists() and (problem := backup.faults(file, float("inf"))):
        raise StoreError(f"{file}: the database is damaged: {problem}; the next start of the worker restores a backup")
    engine.check(url)
    revision = engine.current_revision(url)
    typer.echo(json.dumps({"ok": True, "revision": revision}) if as_json else f"OK: schema {revision}, no damage found")


@app.command("months")
def plant_months(
    drop_before: Annotated[
        str | None, typer.Option("--drop-before", metavar="YYYY-MM", help="Delete all months before this one.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the months (UTC) of the plant's central database, or delete old ones as a whole; PostgreSQL only.

    Labels stay, and what is deleted is not copied again. The account of central.url must own the tables to delete.

    Example: `inspector db months --config admin.yaml`, `inspector db months --drop-before 2025-01 --config admin.yaml`
    """
    from inspector.store import central, months

    before = None if drop_before is None else _month(drop_before)
    store = central.open_central(_central_url(load_config(config)))
    try:
        with store.read() as session:
            found = months.listed(session)
        if before is None:
            _tell_months(found, as_json)
            return
        old = [one for one in found if one.month < before]
        if old and not yes:
            _tell_months(old, False)
            typer.confirm(
                f"Delete {len(old)} months with about {sum(one.verdicts for one in old):,} verdicts?",
                abort=True,
                err=True,
            )
        for one in old:
            with store.write() as session:
                months.drop(session, one.month)
        if as_json:
            typer.echo(json.dumps({"dropped": [f"{one.month:%Y-%m}" for one in old]}))
        else:
            typer.echo(f"{len(old)} months deleted." if old else f"There is nothing before {before:%Y-%m}.")
    finally:
        store.close()


def _month(said: str) -> date:
    try:
        month = datetime.strptime(said, "%Y-%m").date()  # noqa: DTZ007 - a month has no zone
    except ValueError:
        raise typer.BadParameter(f"{said!r} is no month such as 2025-01", param_hint="--drop-before") from None
    if month > datetime.now(UTC).date():
        raise typer.BadParameter("the month that runs now is never deleted", param_hint="--drop-before")
    return month


def _tell_months(found: "Sequence[Month]", as_json: bool) -> None:
    if as_json:
        rows = [{"month": f"{one.month:%Y-%m}", "verdicts": one.verdicts, "bytes": one.bytes} for one in found]
        typer.echo(json.dumps({"months": rows}))
        return
    for one in found:
        typer.echo(f"{one.month:%Y-%m}  about {one.verdicts:>12,} verdicts  {one.bytes / 2**20:>10,.1f} MiB")
    if not found:
        typer.echo("There are no verdicts yet.")


@app.command("backup")
def back_up(
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; default: the next one of the scheduled backups.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Back up an SQLite database, also while the worker runs; the copy is checked.

    Example: `inspector db backup --out /media/usb/line1.db --config line1.yaml`
    """
    from inspector.store import backup, healing

    settings = load_config(config)
    file = backup.database_file(settings.database_url)
    if file is None:
        raise StoreError("only SQLite databases are backed up here; use the tools of your database server")
    if not file.exists():
        raise StoreError(f"{file}: there is no database yet; make it with `inspector db upgrade`")
    if out is None:
        kept, folder = settings.database.backups_kept, healing.backup_folder(settings.data_path)
        out = backup.back_up_into(file, folder, kept, datetime.now(UTC))
    elif out.exists():
        raise StoreError(f"{out} exists; name another file")
    else:
        backup.back_up(file, out)
    size = out.stat().st_size
    typer.echo(
        json.dumps({"file": str(out), "bytes": size}) if as_json else f"Backed up to {out} ({size / 2**20:.1f} MiB)."
    )


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A backup.")], config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Replace the database by a backup; no worker may run. The old one is kept in the folder `quarantine`.

    Verdicts that were stored since the backup come back with the worker's next start, from its redo log.

    Example: `inspector db restore backups/inspector-20261121T120000Z.db --config line1.yaml`
    """
    from inspector.store import healing

    settings = load_config(config)
    if not file.is_file():
        raise StoreError(f"{file}: there is no such file")
    with _no_worker(settings):
        old = healing.restore(settings.database_url, settings.data_path, file, datetime.now(UTC))
    if as_json:
        typer.echo(json.dumps({"restored": str(file), "old": None if old is None else str(old)}))
    else:
        place = "" if old is None else f" The old database lies in {old}."
        typer.echo(f"Restored from {file}.{place} Later verdicts come back with the worker's next start.")


def _central_url(settings: Config) -> str:
    from inspector.store import central

    if settings.central.url is None:
        raise ConfigError("central.url is not set; name the plant's database in the configuration")
    return central.address(settings.central.url, settings.central.password_file)


@contextmanager
def _no_worker(settings: Config) -> Iterator[None]:
    """Hold the locks of all stations of this data folder, and of their supervisors."""
    from inspector.store.stations import station_lock_path

    folder = settings.data_path
    folder.mkdir(parents=True, exist_ok=True)
    locks = {station_lock_path(folder, settings.station.name), *folder.glob("*.lock")}
    with ExitStack() as stack:
        for path in sorted(locks):
            try:
                stack.enter_context(FileLock(path).acquire(blocking=False))
            except Timeout as error:
                raise StationError(f"a worker runs (it holds {path}); stop it before you restore a backup") from error
        yield
