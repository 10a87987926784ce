"""The line above each page: which station, how old its data are, and who is logged in."""

from datetime import datetime

import streamlit as st

from dashboard import access, data, tiles
from dashboard.context import Dashboard, dashboard, local_zone, renewed, utc_now
from inspector.store.engine import Reader

EVERY_S = 2.0


def draw(plant: Dashboard, *, renewed: bool) -> None:
    """Draw the line; `renewed` says that the page draws itself again when its data change."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="head"):
        _choose_station(plant)
        with st.container():
            _age(None if renewed else utc_now())
        if plant.visitor.logged_in:
            st.html(tiles.person(plant.visitor.name, plant.visitor.role), width="content")
            st.button("Log out", key="log-out", icon=":material/logout:", on_click=access.log_out, args=(plant.config,))


def _choose_station(plant: Dashboard) -> None:
    """Which station the pages are about, where there is more than one."""
    names = sorted({*data.station_names(plant.store), plant.config.station.name})
    if len(names) > 1:
        st.selectbox("Station", names, index=names.index(plant.station), key="station", label_visibility="collapsed")


@renewed(EVERY_S)
def _age(read_at: datetime | None) -> None:
    """How old the data are: since the worker wrote its state, and since the page was read if it does not renew itself."""
    plant = dashboard()
    now = utc_now()
    seen_at = _seen_at(plant.store, plant.config.database_url, plant.station)
    read = None if read_at is None else (read_at.astimezone(local_zone()), (now - read_at).total_seconds())
    st.html(tiles.age(plant.station, None if seen_at is None else (now - seen_at).total_seconds(), read))


@st.cache_data(ttl=0.9, max_entries=16, show_spinner=False)
def _seen_at(_store: Reader, url: str, station: str) -> datetime | None:
    """One reading for all open tabs; `url` keeps two databases apart."""
    return data.seen_at(_store, station)
