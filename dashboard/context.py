"""What every page starts from: who is there, the configuration, the database to read, the station, the operator's clock.

The configuration comes with `--config F` behind `--` of `streamlit run`. A fault that has a sentence for the user is shown
as that sentence, never as a traceback; who is not logged in any more gets the login.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache, wraps
from pathlib import Path
from typing import Never, ParamSpec
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from dashboard import access
from dashboard.access import Permit, Visitor
from dashboard.launch import parse_arguments
from inspector.config import Config, load_config
from inspector.errors import AccessError, InspectorError, LoggedOutError, SchemaError
from inspector.store.engine import Reader
from inspector.users import Role

DRAWN_AGAIN = "drawn-again"
_DRAWING = threading.BoundedSemaphore(2)
"""With a hundred open tabs as many threads would fight for the interpreter, and nothing would be sent to anybody."""
P = ParamSpec("P")
TO_LOGIN = (
    "<script>window.location.replace('login?next=' + encodeURIComponent(location.pathname + location.search))</script>"
)


@dataclass(frozen=True)
class Dashboard:
    """The one plant that these pages show, and who looks at it."""

    config: Config
    store: Reader
    station: str
    visitor: Visitor

    @property
    def data_path(self) -> Path:
        return self.config.data_path

    def require(self, role: Role) -> Permit:
        """Leave to write, for who is at this tab now; see `access.require`."""
        return access.require(self.config, role)


def dashboard(*, used: bool = False) -> Dashboard:
    """The configuration, database and station of this tab; `used` tells that a person did something.

    Raises:
        ConfigError: the configuration, or the users' file, is wrong.
        LoggedOutError: nobody is logged in.
        StoreError: the database cannot be used.
    """
    config = configuration()
    there = access.visitor(config, access.token(config), used=used)
    store = access.opened(config.database_url)
    return Dashboard(config, store, st.session_state.get("station", config.station.name), there)


def used() -> None:
    """A person did something in a part that renews itself; elsewhere the drawing of the page tells it."""
    with told():
        dashboard(used=True)


def configuration() -> Config:
    """The configuration as the file stands now; read again only when it looks otherwise, since each tab asks each second.

    Raises:
        ConfigError: it is wrong.
    """
    path = parse_arguments(sys.argv[1:]).config
    try:
        look = None if path is None else path.stat()
    except OSError:
        look = None
    if path is None or look is None:
        return load_config(path)
    return _configuration(path, (look.st_ino, look.st_mtime_ns, look.st_size))


def renewed(every_s: float) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """A part of a page that draws itself again so often, with its faults told; over all tabs, two at a time.

    A tab that waits for its turn is drawn later; what was asked of it meanwhile is drawn once. Not to be used inside
    another one, which would wait for itself.
    """

    def decorate(draw: Callable[P, None]) -> Callable[P, None]:
        @wraps(draw)
        def in_turn(*args: P.args, **kwargs: P.kwargs) -> None:
            with _DRAWING, told():
                draw(*args, **kwargs)

        return st.fragment(in_turn, run_every=every_s)

    return decorate


def draw_again() -> Never:
    """Draw the whole page again because others have changed something: this is no sign that anybody is there."""
    st.session_state[DRAWN_AGAIN] = True
    st.rerun(scope="app")


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
    except LoggedOutError as error:
        st.warning(sentence(str(error)), icon=":material/lock:")
        st.html(TO_LOGIN, unsafe_allow_javascript=True)
    except AccessError as error:
        st.error(f"{sentence(str(error))} Nothing was changed.", icon=":material/lock:")
    except InspectorError as error:
        st.error(f"{sentence(str(error))} Reload the page to try again.", icon=":material/error:")


def sentence(text: str) -> str:
    """An error's text with a capital and a full stop."""
    text = text.strip()
    return text if not text else text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


@lru_cache(maxsize=4)
def _configuration(path: Path, look: tuple[int, int, int]) -> Config:
    return load_config(path)
