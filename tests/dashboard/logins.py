"""People who log in, for tests of the pages without a server."""

import time

import pytest

from dashboard import access
from inspector.users import Role, User, put_user, read_users
from tests.dashboard.seed import Scene

PASSWORD = "correct horse battery"  # noqa: S105 - of nobody


def user(scene: Scene, name: str, role: Role, password: str = PASSWORD, *, replace: bool = False) -> User:
    """A user of a plant's pages."""
    path = scene.config.users_path
    put_user(path, name, role, password, replace=replace)
    return read_users(path)[name]


def logged_in(monkeypatch: pytest.MonkeyPatch, who: User | None) -> str:
    """The tab's browser has the token of this user; None: it has none."""
    token = "" if who is None else access.SESSIONS.open(who, time.monotonic())
    monkeypatch.setattr(access, "token", lambda config: token)
    return token
