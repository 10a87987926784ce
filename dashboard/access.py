"""Who is at the page and what they may do; the only way to write to the database from the pages.

An action asks `require` for a permit before it does anything, and writes with that permit: there is no other write session
in this package. Who is there is looked up anew for each run of a page and each action, from the login's cookie and the
users' file as it is now; a button that is not shown, or shown locked, protects nothing.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypedDict

import streamlit as st
from sqlalchemy.orm import Session

from dashboard.people import is_local, known_users
from dashboard.sessions import Sessions, Tries
from inspector.config import Config
from inspector.errors import AccessError, LoggedOutError
from inspector.store.engine import Store, open_store
from inspector.users import Role

WHO = "dashboard"
"""What the audit calls everybody while nobody needs to log in."""
SESSIONS, TRIES = Sessions(), Tries()
WHO_MAY = {
    Role.VIEWER: "everybody who is logged in",
    Role.OPERATOR: "operators and engineers",
    Role.ENGINEER: "engineers",
}


@dataclass(frozen=True)
class Visitor:
    """Who is at the page. Without users on this machine everybody is an engineer, and nobody has logged in."""

    name: str
    role: Role
    logged_in: bool

    def may(self, role: Role) -> bool:
        return self.role.includes(role)


ANYBODY = Visitor(WHO, Role.ENGINEER, logged_in=False)


@dataclass(frozen=True)
class Permit:
    """Leave to do one thing, under the name that the audit gets."""

    who: str
    logged_in: bool
    _store: Store

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session in a write transaction.

        Raises:
            StoreError: the database cannot be written.
        """
        with self._store.write() as session:
            yield session


class ButtonState(TypedDict):
    """Whether a button is locked, and why."""

    disabled: bool
    help: str | None


def require(config: Config, role: Role) -> Permit:
    """Leave for who is at the page now to do what needs this role; each action calls it before it does anything.

    Raises:
        LoggedOutError: nobody is logged in.
        AccessError: the role is too low.
        ConfigError: the users' file cannot be understood.
        StoreError: the database cannot be opened.
    """
    there = visitor(config, token(config), used=True)
    if not there.may(role):
        raise AccessError(f"only {WHO_MAY[role]} may do this, but {there.name} is logged in as {there.role}")
    return Permit(there.name, there.logged_in, opened(config.database_url))


def visitor(config: Config, token: str, *, used: bool) -> Visitor:
    """Whose token this is; `used` tells that a person did something, which begins the idle time anew.

    Raises:
        LoggedOutError: nobody's, or not any more.
        ConfigError: the users' file cannot be understood.
    """
    users = known_users(config)
    if not users and is_local(config.dashboard.host):
        return ANYBODY
    idle_s = 3600 * config.dashboard.session_h
    user = SESSIONS.find(token, users, idle_s, time.monotonic(), used=used)
    if user is None:
        raise LoggedOutError("you are not logged in, or not any more; log in to go on")
    return Visitor(user.name, user.role, logged_in=True)


def token(config: Config) -> str:
    """The token that the browser of this tab sent; empty if it has none."""
    return st.context.cookies.get(cookie_name(config), "")


def cookie_name(config: Config) -> str:
    """One for each port: a browser keeps the cookies of two stations on one machine together."""
    return f"inspector-{config.dashboard.port}"


def log_out(config: Config) -> None:
    """End the login of this tab's browser."""
    SESSIONS.close(token(config))


def allowed(there: Visitor, role: Role, *, disabled: bool = False) -> ButtonState:
    """How a button that needs a role is drawn: locked with the reason for who may not use it."""
    if there.may(role):
        return {"disabled": disabled, "help": None}
    return {"disabled": True, "help": f"Only for {WHO_MAY[role]}; you are logged in as {there.role}."}


@st.cache_resource(show_spinner=False)
def opened(url: str) -> Store:
    """The database, opened once for all tabs; what is not in this module gets it for reading only."""
    return open_store(url)
