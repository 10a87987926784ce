"""What operators ask for: rows in `commands`, at most one for each form however often its button is clicked.

A form has one command number (`cid`) from its first drawing until its command is finished; the table takes each number
once. So a double click, a second tab's rerun or a lost connection can never start anything twice.
"""

from dataclasses import dataclass
from typing import Any

import streamlit as st

from dashboard import data, words
from dashboard.access import allowed
from dashboard.context import Dashboard, told, utc_now
from inspector.contract.codes import AckCode
from inspector.store import commands
from inspector.store.stations import ensure_station
from inspector.users import Role


@dataclass(frozen=True)
class Ask:
    """A button and the command behind it; `form` tells it from the other buttons of all pages."""

    form: str
    label: str
    name: str
    payload: dict[str, Any]
    icon: str | None = None


def ask_button(plant: Dashboard, station_id: int | None, ask: Ask, *, disabled: bool, primary: bool) -> None:
    """Draw the button; while its command waits it is locked, then its answer is shown once."""
    cid = st.session_state.setdefault(_key(ask), commands.new_cid())
    row = None if station_id is None else data.command(plant.store, station_id, cid)
    if row is not None and row.status == "done":
        _tell(ask, row.code)
        cid = st.session_state[_key(ask)] = commands.new_cid()
        row = None
    st.button(
        f"{ask.label} …" if row else ask.label,
        key=f"button-{ask.form.replace(':', '-')}",
        on_click=submit,
        args=(plant, ask, cid),
        type="primary" if primary else "secondary",
        icon=ask.icon,
        width="stretch",
        **allowed(plant.visitor, Role.OPERATOR, disabled=disabled or row is not None),
    )


def submit(plant: Dashboard, ask: Ask, cid: int) -> None:
    """Store the command; the same `cid` again changes nothing."""
    with told(), (permit := plant.require(Role.OPERATOR)).write() as session:
        station = ensure_station(session, plant.station)
        commands.submit(
            session,
            station.id,
            source=data.SOURCE,
            cid=cid,
            name=ask.name,
            payload=ask.payload,
            who=permit.who,
            now=utc_now(),
        )


def activation(recipe: data.RecipeView, label: str, form: str) -> Ask:
    """The command that makes a recipe the active one of the station."""
    payload = {"rcp": recipe.rcp, "rev": recipe.rev}
    return Ask(f"{form}:{recipe.id}", label, "select_recipe", payload, ":material/swap_horiz:")


def waiting_words(command: data.CommandView, titles: dict[tuple[int, int], str]) -> str:
    """A command that is not done yet, as people say it."""
    if command.name == "select_recipe":
        wanted = (int(command.payload.get("rcp", 0)), int(command.payload.get("rev", 0)))
        return f"activate {titles.get(wanted, f'recipe {wanted[0]}, revision {wanted[1]}')}"
    return words.COMMANDS.get(command.name, command.name)


def _tell(ask: Ask, code: int | None) -> None:
    good = code in (AckCode.DONE, AckCode.DUPLICATE)
    st.toast(
        f"{ask.label}: {words.answer_words(code)}",
        icon=":material/check_circle:" if good else ":material/error:",
        duration="short" if good else "long",
    )


def _key(ask: Ask) -> str:
    return f"cid:{ask.form}"
