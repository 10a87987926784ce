"""Options that several subcommands share, written once."""

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Configuration file (YAML) with the keys that differ from the defaults."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")]
