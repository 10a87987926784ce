"""Who is logged in, and how often somebody tried in vain: the memory of one dashboard process. No Streamlit, no clock.

A session is a random token that the browser keeps as a cookie; what it means stands here only, so ending it here ends it
everywhere. Times are those of `time.monotonic()` and are handed in.
"""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from inspector.users import MAX_NAME, User, composed, is_password_of

FREE_TRIES = 2
"""So many wrong passwords in a row cost no pause; the next one 2 s, then it doubles with each, up to the longest."""
LONGEST_PAUSE_S = 300.0
MAX_NAMES = 1000
"""Names whose wrong tries are remembered, also of people who do not exist; the longest unused one is forgotten."""
MAX_SESSIONS = 1000


@dataclass
class Session:
    """One login: of whom, by which password hash, and when something was last done with it."""

    name: str
    password: str
    used_monotonic_s: float


class Sessions:
    """All logins."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_token: OrderedDict[str, Session] = OrderedDict()

    def open(self, user: User, now_monotonic_s: float) -> str:
        """Log a user in; gives the token."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._by_token[token] = Session(user.name, user.password, now_monotonic_s)
            while len(self._by_token) > MAX_SESSIONS:
                self._by_token.popitem(last=False)
        return token

    def find(
        self, token: str, users: Mapping[str, User], idle_s: float, now_monotonic_s: float, *, used: bool
    ) -> User | None:
        """Whose token this is, as the user stands in the file now; None if the login is over.

        It is over after `idle_s` without use, and when the user was removed or has another password. `used` begins the
        idle time anew.
        """
        with self._lock:
            session = self._by_token.get(token)
            if session is None:
                return None
            user = users.get(session.name)
            late = now_monotonic_s - session.used_monotonic_s > idle_s
            if late or user is None or user.password != session.password:
                del self._by_token[token]
                return None
            if used:
                session.used_monotonic_s = now_monotonic_s
                self._by_token.move_to_end(token)
            return user

    def close(self, token: str) -> None:
        """Log out; the token means nothing any more."""
        with self._lock:
            self._by_token.pop(token, None)


class Tries:
    """Checks passwords, and lets each name wait that got it wrong several times."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # one password is checked at a time: guessing takes one core at most
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def check(
        self, users: Mapping[str, User], name: str, password: str, now_monotonic_s: float
    ) -> tuple[User | None, float]:
        """The user if name and password fit; else the seconds that this name has to wait before it is looked at again.

        While a name waits nothing is compared, so that a right guess is not told from a wrong one.
        """
        name = composed(name)[: MAX_NAME + 1]  # longer than any user's
        with self._lock:
            count, until = self._wrong.get(name, (0, 0.0))
            if now_monotonic_s < until:
                return None, until - now_monotonic_s
            user = users.get(name)
            if is_password_of(user, password):
                self._wrong.pop(name, None)
                return user, 0.0
            count += 1
            pause_s = 0.0 if count <= FREE_TRIES else min(2.0 ** (min(count, 99) - FREE_TRIES), LONGEST_PAUSE_S)
            self._wrong[name] = (count, now_monotonic_s + pause_s)
            self._wrong.move_to_end(name)
            while len(self._wrong) > MAX_NAMES:
                self._wrong.popitem(last=False)
            return None, pause_s
