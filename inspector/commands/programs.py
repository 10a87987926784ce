"""`inspector run` and `inspector dashboard`: start the two programs as what they are, processes of their own.

The core must not import `edge` or `dashboard`; it hands the process over to them instead.
"""

import os
import subprocess
import sys
from typing import Annotated, NoReturn

import typer

from inspector.commands.options import ConfigOption
from inspector.config import load_config


def run(
    supervised: Annotated[
        bool,
        typer.Option("--supervised/--worker", help="Start a fallen worker again, or run the worker alone."),
    ] = True,
    config: ConfigOption = None,
) -> None:
    """Run the edge worker of this station until it is stopped (Ctrl-C or SIGTERM).

    A supervisor starts the worker again when it ends by a fault or makes no progress any more. While the configuration is
    wrong the PLC is told so and nothing is inspected; the station starts once the file is right.

    Example: `inspector run --config line1.yaml`
    """
    _become("edge.supervisor" if supervised else "edge", *(["--config", str(config)] if config else []))


def dashboard(config: ConfigOption = None) -> None:
    """Open the operators' pages in the browser (127.0.0.1:8501 unless configured otherwise).

    Example: `inspector dashboard --config line1.yaml`
    """
    load_config(config)
    _become("dashboard", *(["--config", str(config)] if config else []))


def _become(package: str, *arguments: str) -> NoReturn:
    """Replace this process with `python -m package`, so that signals and the exit code are that program's own."""
    command = [sys.executable, "-m", package, *arguments]
    if os.name == "posix":
        sys.stdout.flush()
        os.execv(sys.executable, command)  # noqa: S606 - our own program, no shell
    sys.exit(subprocess.run(command, check=False).returncode)
