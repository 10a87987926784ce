"""Stations: boot counter, active recipe with its history, and what the worker last said of itself."""

from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from inspector.errors import NotApprovedError, NotFoundError
from inspector.store.products import escapes_of
from inspector.store.schema import Activation, Audit, Recipe, Station

MAX_BOOT = 65_535


def station_lock_path(data_path: Path, name: str) -> Path:
    """File whose lock the one worker of a station holds."""
    return data_path / f"{name}.lock"


def ensure_station(session: Session, name: str) -> Station:
    """The station of that name, made if it is new."""
    station = session.scalar(select(Station).where(Station.name == name))
    if station is None:
        station = Station(name=name, boot=0, status={})
        session.add(station)
        session.flush()
    return station


def get_station(session: Session, station_id: int, *, lock: dict[str, Any] | None = None) -> Station:
    station = session.get(Station, station_id, with_for_update=lock)
    if station is None:
        raise NotFoundError(f"the database has no station {station_id}")
    return station


def find_status(session: Session, name: str) -> dict[str, Any]:
    """What the worker of that station last said of itself; empty before it ever did."""
    station = session.scalar(select(Station).where(Station.name == name))
    return {} if station is None else dict(station.status)


def next_boot(session: Session, station_id: int, known: int = 0) -> int:
    """Count the boot on: u16, after 65535 comes 1.

    `known` is the last boot that the station itself remembers: a restored database may know an older one, and no number
    may come twice.
    """
    station = get_station(session, station_id)
    last = max(station.boot, known)
    station.boot = last + 1 if last < MAX_BOOT else 1
    return station.boot


def set_stopped(session: Session, station_id: int, stopped: str) -> None:
    """Keep what the station was told, over its restarts: "stopped", "halted", or "" to inspect."""
    get_station(session, station_id).stopped = stopped


def set_status(session: Session, station_id: int, status: dict[str, Any], now: datetime) -> None:
    """What the worker says of itself, each second; where somebody holds the row (PostgreSQL) this fails at once.

    Verdicts would wait behind it.
    """
    station = get_station(session, station_id, lock={"nowait": True, "key_share": True})
    station.status, station.seen_at = status, now


def active_recipe(session: Session, station_id: int) -> Recipe | None:
    station = get_station(session, station_id)
    return None if station.active_recipe_id is None else session.get(Recipe, station.active_recipe_id)


def set_active_recipe(session: Session, station_id: int, recipe_id: int, who: str, now: datetime) -> None:
    """Make a ready recipe the station's, with history and audit.

    Raises:
        NotFoundError: no such recipe, or not ready.
        NotApprovedError: confirmed defects of the product would pass.
    """
    recipe = session.get(Recipe, recipe_id)
    if recipe is None or recipe.status != "ready":
        raise NotFoundError(f"recipe {recipe_id} does not exist or is not ready")
    if escapes := escapes_of(recipe):
        raise NotApprovedError(
            f"{recipe.product.name} revision {recipe.rev} would let {len(escapes)} confirmed defects pass "
            f"({', '.join(str(escape['picture']) for escape in escapes[:3])}); change its references, or override it"
        )
    get_station(session, station_id).active_recipe_id = recipe_id
    session.add(Activation(station_id=station_id, recipe_id=recipe_id, activated_at=now, activated_by=who))
    detail = {"product": recipe.product.name, "rcp": recipe.product.rcp, "rev": recipe.rev}
    session.add(Audit(at=now, who=who, action="activate", detail=detail))


def activations(session: Session, station_id: int, limit: int = 50) -> list[Activation]:
    """Newest first."""
    query = select(Activation).where(Activation.station_id == station_id).order_by(Activation.id.desc()).limit(limit)
    return list(session.scalars(query))


def previous_recipe(session: Session, station_id: int) -> Recipe | None:
    """What a rollback goes to: the last activated recipe that is not the active one."""
    active = get_station(session, station_id).active_recipe_id
    for activation in activations(session, station_id):
        if activation.recipe_id != active:
            return session.get(Recipe, activation.recipe_id)
    return None
