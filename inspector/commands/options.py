"""Options that several subcommands share, written once."""

from pathlib import Path
from typing import Annotated

import typer

from inspector.errors import UsageError

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Configuration file (YAML) with the keys that differ from the defaults."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")]


def numbers(text: str, option: str) -> list[int]:
    """Whole numbers from 1 on, separated by commas, ascending and each once.

    Raises:
        UsageError: none, or something else.
    """
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or found[0] < 1:
        raise UsageError(f"{option} is {text!r}; expected whole numbers from 1 on with commas, for example 1,4,16")
    return found
