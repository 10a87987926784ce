"""The plant's central database as a station writes to it: whole batches, each in one transaction, as often as needed.

May import the engine and the tables. A batch that comes twice changes nothing; a verdict that was replaced at its station is
replaced here. PostgreSQL in a plant, SQLite in tests; both know the same upsert.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, delete, func, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session

from inspector.errors import ConfigError, StoreError
from inspector.store import engine, months
from inspector.store.copying import IDENTITY, Batch, Place, Row
from inspector.store.engine import PLANT, Store
from inspector.store.plant import PlantBase, PlantInspection, PlantLabel, PlantRecipe, PlantRegion, PlantStation
from inspector.store.replay import RESTORED
from inspector.store.schema import UtcDateTime

log = logging.getLogger(__name__)

TAKEN_OVER_AFTER = timedelta(minutes=2)
"""A station comes by at least each half minute; after such a silence another database may go on under its name."""
DISPOSITION = ("acc", "rsn")
DIALECTS = {"postgresql": postgresql, "sqlite": sqlite}


def address(url: str, password_file: Path | None) -> str:
    """The address with the password of its file.

    Raises:
        ConfigError: it is none, or of a database that the plant cannot use, or the file cannot be read.
    """
    try:
        parsed: URL = make_url(url)
    except ArgumentError as error:  # its text is not shown: it may hold a password
        raise ConfigError(
            "central.url is not an SQLAlchemy URL such as postgresql+psycopg://user@host/plant"
        ) from error
    if parsed.get_backend_name() not in DIALECTS:
        raise ConfigError(f"central.url must be of PostgreSQL (or SQLite), but is of {parsed.get_backend_name()}")
    if password_file is not None:
        try:
            parsed = parsed.set(password=password_file.read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"central.password_file {password_file} cannot be read: {error}") from error
    return parsed.render_as_string(hide_password=False)


def open_central(url: str) -> Store:
    """Open the central database.

    Raises:
        SchemaError: not made or upgraded, or newer than this program.
        StoreError: it cannot be reached.
    """
    engine.check(url, PLANT)
    return Store(url)


def put(store: Store, url: str, name: str, batch: Batch) -> Place | None:
    """Bring in a batch of the station `name`; an empty one only says that the station is there.

    Gives None once the batch is in; or, when the central database knows less than the batch takes for granted (it was
    restored from a backup, or is a new one), the place from which the rows must come again. No row is written then.

    Raises:
        SchemaError: somebody has upgraded the database to a newer program's.
        StoreError: another database feeds this station's name, or the database cannot be written.
    """
    months.make(store, (row["captured_at"] for row in batch.verdicts))
    with store.write() as session:
        engine.check_again(session, url, PLANT)
        return _put(session, name, batch)


def _put(session: Session, name: str, batch: Batch) -> Place | None:
    station = _claim(session, name, batch.start.installation)
    known = {key: min(getattr(station, key), taken) for key, taken in batch.start.cursors.items()}
    if known != batch.start.cursors:
        return replace(batch.start, **known)
    recipes = _put_recipes(session, station.id, batch.recipes)
    whole = [row for row in batch.verdicts if not row["detail"].get(RESTORED)]
    keys: list[Any] = [tuple(row[key] for key in IDENTITY) for row in whole]
    identity = tuple_(PlantRegion.boot, PlantRegion.seq, PlantRegion.captured_at)
    if keys:
        session.execute(delete(PlantRegion).where(PlantRegion.station_id == station.id, identity.in_(keys)))
    mine = {"station_id": station.id}
    restored = [row for row in batch.verdicts if row["detail"].get(RESTORED)]
    for rows, is_whole in ((whole, True), (restored, False)):
        verdicts = [row | mine | {"recipe_id": recipes.get(row["recipe_id"])} for row in rows]
        _upsert(session, PlantInspection, verdicts, replaces=is_whole)  # a restored row knows less than the one here
    _upsert(session, PlantRegion, [row | mine for row in batch.regions])
    _upsert(session, PlantLabel, [row | mine for row in batch.labels])
    _put_dispositions(session, station.id, batch.dispositions)
    for key, copied in batch.end.cursors.items():
        setattr(station, key, copied)
    return None


def _claim(session: Session, name: str, installation: str) -> PlantStation:
    """The station's row, locked, for this database of it."""
    now: datetime = session.execute(select(func.now(type_=UtcDateTime()))).scalar_one()  # the clock of the plant
    station = session.scalar(select(PlantStation).where(PlantStation.name == name).with_for_update())
    if station is None:
        station = PlantStation(name=name, installation=installation, seen_at=now)
        session.add(station)
        session.flush()
    if station.installation != installation:
        silent = now - station.seen_at
        if silent < TAKEN_OVER_AFTER:
            raise StoreError(
                f"another database fed {name} {silent.total_seconds():.0f} s ago; give each station a station.name of its own"
            )
        log.warning("the central database knows %s with another database; all rows of this one are copied", name)
        station.installation = installation
        station.verdict_id = station.label_id = station.disposition_no = 0
    station.seen_at = now
    return station


def _put_recipes(session: Session, station_id: int, recipes: dict[int, Row]) -> dict[int | None, int]:
    """The recipes by the ids that the station gave them, as they are called here."""
    found: dict[int | None, int] = {}
    for local_id, recipe in recipes.items():
        values = recipe | {"station_id": station_id}
        identity = ("station_id", "product", "rcp", "rev", "bank_sha256")
        query = select(PlantRecipe.id).where(*(getattr(PlantRecipe, key) == values[key] for key in identity))
        known = session.scalar(query)
        if known is None:
            made = PlantRecipe(**values)
            session.add(made)
            session.flush()
            known = made.id
        found[local_id] = known
    return found


def _put_dispositions(session: Session, station_id: int, rows: Sequence[Row]) -> None:
    """What the PLC did, beside the verdicts; one that the plant has deleted stays deleted."""
    if not rows:
        return
    table: Any = PlantInspection.__table__
    verdict = [table.c.station_id == station_id, *(table.c[key] == bindparam(f"its_{key}") for key in IDENTITY)]
    named = [{f"its_{key}" if key in IDENTITY else key: value for key, value in row.items()} for row in rows]
    said: dict[str, Any] = {key: bindparam(key) for key in DISPOSITION}
    session.connection().execute(update(table).where(*verdict).values(said), named)


def _upsert(session: Session, table: type[PlantBase], rows: Sequence[Row], *, replaces: bool = True) -> None:
    """Insert the rows, and replace those that are there by their primary key, or leave them.

    What the PLC did is only replaced by what it did: a station that goes on from a backup may not know it any more.
    """
    if not rows:
        return
    insert = DIALECTS[session.get_bind().dialect.name].insert(table.__table__)
    keys = [column.name for column in table.__table__.primary_key]
    changed = {
        name: func.coalesce(insert.excluded[name], table.__table__.c[name])
        if name in DISPOSITION
        else insert.excluded[name]
        for name in rows[0]
        if name not in keys
    }
    if replaces:
        session.execute(insert.on_conflict_do_update(index_elements=keys, set_=changed), list(rows))
    else:
        session.execute(insert.on_conflict_do_nothing(index_elements=keys), list(rows))
