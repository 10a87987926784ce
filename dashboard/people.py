"""Who may log in as the file stands now, and whether the network reaches the pages at all. No Streamlit."""

import ipaddress
import socket
from functools import lru_cache
from pathlib import Path

from inspector.config import Config
from inspector.errors import ConfigError
from inspector.users import User, read_users


def known_users(config: Config) -> dict[str, User]:
    """Who may log in, as the file stands now.

    Raises:
        ConfigError: it cannot be understood.
    """
    path = config.users_path
    try:
        look = path.stat()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    return _users(path, (look.st_ino, look.st_mtime_ns, look.st_size))


@lru_cache(maxsize=4)
def is_local(host: str) -> bool:
    """Whether an address that is bound to can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None) if host else []
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(str(one[4][0])).is_loopback for one in found)


@lru_cache(maxsize=4)
def _users(path: Path, look: tuple[int, int, int]) -> dict[str, User]:
    """Read again when the file looks otherwise."""
    return read_users(path)
