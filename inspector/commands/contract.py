"""`inspector contract`: the contract with the PLC as a document for programs."""

from pathlib import Path
from typing import Annotated

import typer

from inspector.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="The contract with the PLC, for programs.")


@app.callback()
def _group() -> None:
    """Without it, a single command would have no name."""


@app.command()
def asyncapi(
    out: Annotated[Path | None, typer.Option("--out", help="File to write (.yaml, .yml or .json).")] = None,
) -> None:
    """Write the AsyncAPI 3.0 document of all topics and messages; without --out, YAML to standard output.

    Example: `inspector contract asyncapi --out asyncapi.json`
    """
    from inspector.contract.asyncapi import render_json, render_yaml

    if out is None:
        typer.echo(render_yaml(), nl=False)
        return
    renderers = {".yaml": render_yaml, ".yml": render_yaml, ".json": render_json}
    if out.suffix not in renderers:
        raise UsageError(f"--out must end in .yaml, .yml or .json, but is {out}")
    try:
        out.write_text(renderers[out.suffix](), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from error
    typer.echo(f"{out}: written")
