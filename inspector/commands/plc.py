"""`inspector plc`: program text for the PLC, made from the contract's models."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Program text for the PLC.")


class DialectChoice(StrEnum):
    """What `--dialect` takes."""

    ST = "st"
    SCL = "scl"


@app.callback()
def _group() -> None:
    """Without it, a single command would have no name."""


@app.command()
def generate(
    out: Annotated[Path, typer.Option("--out", help="Folder for the files; existing ones are replaced.")],
    dialect: Annotated[
        DialectChoice, typer.Option("--dialect", help="st: IEC 61131-3 (CODESYS, TwinCAT); scl: Siemens.")
    ] = DialectChoice.ST,
) -> None:
    """Write the verdict's type, the readers of both forms and the acceptance gate, to be imported in the files' order.

    Example: `inspector plc generate --dialect scl --out plc/`
    """
    from inspector.contract.plccode.generator import write

    for path in write(dialect.value, out):
        typer.echo(str(path))
