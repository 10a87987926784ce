"""Who may log in to the operators' pages, and what each may do: a file of names, roles and hashed passwords.

May import the errors and the reading of YAML. The command `inspector user` writes the file, the pages read it; a password is
kept as an Argon2id hash only (argon2-cffi), so that who reads the file cannot log in with it.
"""

import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from filelock import FileLock, Timeout

from inspector.errors import ConfigError, UsageError
from inspector.yaml_file import read_document

MAX_NAME, MIN_PASSWORD, MAX_PASSWORD = 64, 8, 256
RESERVED = ("dashboard", "plc", "schedule")
"""Names that the audit gives to what is no person."""
LOCK_WAIT_S = 10.0
HEADER = "# Who may log in to the operators' pages. Written by `inspector user`; passwords are Argon2id hashes.\n"
# OWASP's smallest: 19 MiB, two passes, one lane. A line PC has better to do than to hash for a guesser.
HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


class Role(StrEnum):
    """What a person may do; each role may also do what those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ENGINEER = "engineer"

    def includes(self, other: "Role") -> bool:
        order = list(Role)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True)
class User:
    """One person; `password` is its hash."""

    name: str
    role: Role
    password: str


def read_users(path: Path) -> dict[str, User]:
    """The users by name; none if there is no file.

    Raises:
        ConfigError: the file cannot be read, or an entry is wrong; nobody is let in by a file that is not understood.
    """
    if not path.exists():
        return {}
    values = read_document(path).values
    entries = values.get("users") if isinstance(values, dict) and set(values) == {"users"} else None
    if not isinstance(entries, list):
        raise ConfigError(f"{path}: expected a list `users:` and nothing else; it is written by `inspector user add`")
    users: dict[str, User] = {}
    for number, entry in enumerate(entries, 1):
        user = _user(path, number, entry)
        if user.name in users:
            raise ConfigError(f"{path}: {user.name!r} stands there twice; remove one of the entries")
        users[user.name] = user
    return users


def put_user(path: Path, name: str, role: Role, password: str, *, replace: bool = False) -> None:
    """Add a user, or with `replace` give one a new role and password.

    Raises:
        UsageError: the name or password cannot be taken, or the name is taken or not there.
        ConfigError: the file cannot be read or written.
    """
    name = check_name(name)
    _check_password(password)
    with _changing(path) as users:
        if replace != (name in users):
            raise UsageError(
                f"there is no user {name!r}; leave --replace out"
                if replace
                else f"there is a user {name!r} already; --replace gives a new role and password"
            )
        users[name] = User(name, role, HASHER.hash(composed(password)))


def remove_user(path: Path, name: str) -> int:
    """Take a user out; gives how many are left.

    Raises:
        UsageError: there is none of that name.
        ConfigError: the file cannot be read or written.
    """
    with _changing(path) as users:
        if users.pop(composed(name), None) is None:
            raise UsageError(f"there is no user {name!r} in {path}; `inspector user list` names them")
    return len(users)


def is_password_of(user: User | None, password: str) -> bool:
    """Whether this is the user's password; takes as long for nobody as for somebody."""
    try:
        HASHER.verify(_nobody() if user is None else user.password, composed(password[: 4 * MAX_PASSWORD]))
    except VerificationError:
        return False
    return user is not None


def composed(text: str) -> str:
    """One spelling of what keyboards write in two: ü, or u and a combining mark."""
    return unicodedata.normalize("NFC", text)


def check_name(name: str) -> str:
    """The name as it is kept, in composed Unicode.

    Raises:
        UsageError: it is empty, too long, unprintable, or one that the audit gives to programs.
    """
    name = composed(name)
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable() or name != name.strip():
        raise UsageError(
            f"a user's name has 1 to {MAX_NAME} printable characters and no space at its ends, but got {name!r}"
        )
    if name.casefold() in RESERVED:
        raise UsageError(f"{name!r} is what the audit calls a program; expected the name of a person")
    return name


def _check_password(password: str) -> None:
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise UsageError(
            f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters, but this one has {len(password)}"
        )


@lru_cache(maxsize=1)
def _nobody() -> str:
    """A hash that no password fits, to be compared with in the place of a user's."""
    return HASHER.hash(os.urandom(32))


def _user(path: Path, number: int, entry: Any) -> User:
    where = f"{path}: entry {number}"
    if not isinstance(entry, dict) or set(entry) != {"name", "role", "password"}:
        raise ConfigError(f"{where}: expected name, role and password, but got {_keys(entry)}")
    try:
        name, role = check_name(str(entry["name"])), Role(entry["role"])
        HASHER.check_needs_rehash(str(entry["password"]))  # raises if it is no hash
    except UsageError as error:
        raise ConfigError(f"{where}: {error}") from error
    except InvalidHashError as error:
        raise ConfigError(
            f"{where}: the password is no Argon2 hash; set it by `inspector user add NAME --replace`"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{where}: role {entry['role']!r}; expected {', '.join(Role)}") from error
    return User(name, role, str(entry["password"]))


def _keys(entry: Any) -> str:
    return ", ".join(map(str, entry)) or "nothing" if isinstance(entry, Mapping) else repr(type(entry).__name__)


@contextmanager
def _changing(path: Path) -> Iterator[dict[str, User]]:
    """The users, written back at the end; one change at a time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=LOCK_WAIT_S):
            users = read_users(path)
            yield users
            _write(path, users.values())
    except Timeout as error:
        raise ConfigError(f"{path}: another program has been changing it for {LOCK_WAIT_S:.0f} s; try again") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}; run it as a user who may") from error


def _write(path: Path, users: Iterable[User]) -> None:
    """Whole or not at all, readable by the owner only: of the file before, else of its folder."""
    entries = [asdict(user) | {"role": str(user.role)} for user in users]
    text = HEADER + yaml.safe_dump({"users": entries}, allow_unicode=True, sort_keys=False, width=1000)
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # an administrator writes it, the service's user reads it
        owner = (path if path.exists() else path.parent).stat()
        os.chown(fresh, owner.st_uid, owner.st_gid)
    fresh.replace(path)
