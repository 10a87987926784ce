"""The command `inspector`: one subcommand per module of `inspector.commands`.

Exit codes: 0 done, 1 the answer is no (a check failed, a picture could not be scored), and those of
`inspector.errors` for faults. A fault is told in one sentence; a traceback is a defect of ours.
"""

import sys
from typing import Annotated

import typer

from inspector import __version__
from inspector.commands import (
    adapt,
    bench,
    camera,
    challenge,
    config,
    contract,
    db,
    demo,
    doctor,
    drift,
    encoder,
    evaluate,
    fat,
    plc,
    product,
    programs,
    references,
    review,
    score,
    status,
    study,
    user,
)
from inspector.errors import InspectorError

EPILOG = "Exit codes: 0 done · 1 the answer is no · 2 usage or configuration · 3 encoder or bank · 4 database · \
5 camera · 6 broker · 7 station."

app = typer.Typer(
    name="inspector",
    help="Streaming visual inspection: camera → score → PLC and SQL → dashboard. Nothing is trained.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("run")(programs.run)
app.command("dashboard")(programs.dashboard)
app.command("status")(status.status)
app.add_typer(product.app, name="product")
app.add_typer(references.app, name="references")
app.add_typer(review.app, name="review")
app.add_typer(study.app, name="study")
app.add_typer(challenge.app, name="challenge")
app.add_typer(camera.app, name="camera")
app.command("drift")(drift.drift)
app.command("score")(score.score)
app.command("evaluate")(evaluate.evaluate)
app.command("adapt")(adapt.adapt)
app.add_typer(bench.app, name="bench")
app.add_typer(encoder.app, name="encoder")
app.add_typer(contract.app, name="contract")
app.add_typer(plc.app, name="plc")
app.command("fat")(fat.fat)
app.add_typer(db.app, name="db")
app.add_typer(user.app, name="user")
app.add_typer(config.app, name="config")
app.command("doctor")(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"inspector {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options before the subcommand."""


def main() -> None:
    """Run the command line; faults become one sentence on standard error and their exit code."""
    try:
        app()
    except InspectorError as error:
        typer.echo(f"inspector: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("inspector: stopped.", err=True)
        sys.exit(130)
