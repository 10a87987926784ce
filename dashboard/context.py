"""What every page starts from: the configuration, the open database, the station, the operator's clock.

The configuration comes with `--config F` behind `--` of `streamlit run`; the database is opened once for all tabs.
A fault that has a sentence for the user is shown as that sentence, never as a traceback.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from dashboard import data
from dashboard.launch import parse_arguments
from inspector.config import Config, load_config
from inspector.errors import InspectorError, SchemaError
from inspector.store.engine import Store, open_store

WHO = "dashboard"


@dataclass(frozen=True)
class Dashboard:
    """The one plant that these pages show."""

    config: Config
    store: Store
    station: str

    @property
    def data_path(self) -> Path:
        return self.config.data_path


def dashboard() -> Dashboard:
    """The configuration, database and station of this tab.

    Raises:
        ConfigError: the configuration is wrong.
        StoreError: the database cannot be used.
    """
    config = load_config(parse_arguments(sys.argv[1:]).config)
    store = _store(config.database_url)
    return Dashboard(config, store, st.session_state.get("station", config.station.name))


def local_zone() -> tzinfo:
    """Time zone of the browser; that of this machine where the browser does not tell."""
    try:
        return ZoneInfo(st.context.timezone or "")
    except (ZoneInfoNotFoundError, ValueError):
        return datetime.now(UTC).astimezone().tzinfo or UTC


def utc_now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def told() -> Iterator[None]:
    """Show a fault as one sentence in the page; the next run tries again."""
    try:
        yield
    except SchemaError as error:
        st.warning(
            f"{sentence(str(error))} Starting the worker (`inspector run`) does that too. "
            "This page looks again when it is reloaded.",
            icon=":material/database_off:",
        )
    except InspectorError as error:
        st.error(f"{sentence(str(error))} Reload the page to try again.", icon=":material/error:")


def sentence(text: str) -> str:
    """An error's text with a capital and a full stop."""
    text = text.strip()
    return text if not text else text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def choose_station(plant: Dashboard) -> None:
    """Which station the pages are about, where there is more than one."""
    names = sorted({*data.station_names(plant.store), plant.config.station.name})
    if len(names) > 1:
        st.selectbox("Station", names, index=names.index(plant.station), key="station")


@st.cache_resource(show_spinner=False)
def _store(url: str) -> Store:
    return open_store(url)
