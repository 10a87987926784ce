"""How the pages are started: the program, the settings of Streamlit, and what is looked at before.

Streamlit is given every setting that matters, so that no file in somebody's home changes the line's pages. Bound to
127.0.0.1 unless configured, and elsewhere only with users; no telemetry; cross-site requests refused.
"""

import argparse
import errno
import socket
import sys
from pathlib import Path

from dashboard import uploads, words
from dashboard.people import is_local, known_users
from inspector.config import Config
from inspector.errors import ConfigError, UsageError

THEME = {
    "base": "light",
    "primaryColor": words.BLUE,
    "backgroundColor": "#f4f6f8",
    "secondaryBackgroundColor": "#ffffff",
    "textColor": words.INK,
    "borderColor": "#dfe4ea",
    "baseRadius": "8px",
}


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """`--config F`, the same for `python -m dashboard`, the server, and the script that it runs."""
    parser = argparse.ArgumentParser(prog="python -m dashboard", description="The operators' pages.")
    parser.add_argument("--config", type=Path, default=None, help="configuration file (YAML)")
    return parser.parse_args(arguments)


def command(config_path: Path | None) -> list[str]:
    """The program and arguments that serve the pages until they are ended."""
    arguments = ["--config", str(config_path.absolute())] if config_path else []
    return [sys.executable, "-m", "dashboard.serve", *arguments]


def settings(config: Config) -> dict[str, object]:
    """Streamlit's settings; they go before any file of its own."""
    return {
        "server.address": config.dashboard.host,
        "server.port": config.dashboard.port,
        "server.headless": True,
        "server.enableXsrfProtection": True,
        "server.enableCORS": True,
        "server.maxUploadSize": uploads.MAX_FILE_MB,
        "server.fileWatcherType": "none",
        "server.runOnSave": False,
        "browser.gatherUsageStats": False,
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
        "client.showSidebarNavigation": False,
        "runner.magicEnabled": False,
        "runner.postScriptGC": False,
        "global.developmentMode": False,
    } | {f"theme.{name}": value for name, value in THEME.items()}


def address(config: Config) -> str:
    """Where the pages are seen from this machine."""
    host = config.dashboard.host
    seen = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104 - compared, not bound
    return f"http://{f'[{seen}]' if ':' in seen else seen}:{config.dashboard.port}"


def check_access(config: Config) -> None:
    """Do nothing if only this machine reaches the pages, or somebody may log in.

    Raises:
        ConfigError: neither, or the file of users cannot be understood.
    """
    host, users = config.dashboard.host, known_users(config)
    if not users and not is_local(host):
        raise ConfigError(
            f"dashboard.host {host!r} opens the pages to the network, but there are no users in {config.users_path}; "
            "add one first with `inspector user add NAME --role engineer`, or set dashboard.host to 127.0.0.1"
        )


def check_port(config: Config) -> None:
    """Do nothing if the pages can be served where the configuration says.

    Raises:
        UsageError: the port is taken, or the address is not of this machine.
    """
    host, port = config.dashboard.host, config.dashboard.port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"port {port} of {host} is in use; end the other program, or set dashboard.port in the configuration"
            ) from error
        if error.errno == errno.EACCES:
            raise UsageError(
                f"port {port} may not be used without more rights; set dashboard.port to 1024 or more"
            ) from error
        raise UsageError(
            f"the pages cannot be served at {host}:{port}: {error.strerror}; "
            "set dashboard.host to an address of this machine"
        ) from error
