"""`inspector db`: make, upgrade or check the database."""

import json

import typer

from inspector.commands.options import ConfigOption, JsonOption
from inspector.config import load_config

app = typer.Typer(help="Make, upgrade or check the database.", no_args_is_help=True)


@app.command()
def upgrade(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Make the database, or bring it to the schema of this program; nothing that is stored is lost.

    Example: `inspector db upgrade --config line1.yaml`
    """
    from inspector.store import engine

    before, after = engine.upgrade(load_config(config).database_url)
    if as_json:
        typer.echo(json.dumps({"before": before, "after": after}))
    else:
        typer.echo(
            f"The database has schema {after}" + (" already." if before == after else f" (was {before or 'empty'}).")
        )


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Exit code 0 if the database fits this program, 4 with the reason if not.

    Example: `inspector db check --config line1.yaml`
    """
    from inspector.store import engine

    url = load_config(config).database_url
    engine.check(url)
    revision = engine.current_revision(url)
    typer.echo(json.dumps({"ok": True, "revision": revision}) if as_json else f"OK: schema {revision}")
