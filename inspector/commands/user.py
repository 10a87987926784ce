"""`inspector user`: who may log in to the operators' pages, and in which role."""

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from inspector.commands.options import ConfigOption, JsonOption
from inspector.config import load_config
from inspector.errors import UsageError
from inspector.users import Role, check_name, put_user, read_users, remove_user

app = typer.Typer(no_args_is_help=True, help="Who may log in to the operators' pages, and in which role.")
UserArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the person, as the audit will give it.")]


@app.command()
def add(
    name: UserArgument,
    role: Annotated[
        Role,
        typer.Option(
            help="viewer: sees everything; operator: changes the line, too; engineer: also overrides what holds it."
        ),
    ],
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Give a user who is there a new role and password.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Add a user, or change one; the password is asked for twice and kept as a hash. It counts at once, also in open tabs.

    Example: `inspector user add anna --role operator --config line1.yaml`
    """
    path = load_config(config).users_path
    check_name(name)
    put_user(path, name, role, _password(from_stdin=password_stdin), replace=replace)
    typer.echo(f"{name} may log in as {role} ({path})")


@app.command("list")
def list_users(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """All users and their roles.

    Example: `inspector user list --config line1.yaml`
    """
    path = load_config(config).users_path
    users = read_users(path)
    if as_json:
        typer.echo(json.dumps({"users": [{"name": user.name, "role": user.role} for user in users.values()]}))
        return
    if not users:
        typer.echo(f"no users in {path}: on 127.0.0.1 the pages ask for no login, elsewhere they are not served")
        return
    table = Table("name", "role")
    for user in users.values():
        table.add_row(user.name, user.role)
    Console().print(table)


@app.command()
def remove(name: UserArgument, config: ConfigOption = None) -> None:
    """Take a user out; also open tabs of theirs can do nothing from then on.

    Example: `inspector user remove anna --config line1.yaml`
    """
    left = remove_user(load_config(config).users_path, name)
    typer.echo(f"{name} may not log in any more")
    if not left:
        typer.echo("nobody is left: on 127.0.0.1 the pages now ask for no login, elsewhere they are not served")


def _password(*, from_stdin: bool) -> str:
    """What was typed twice without an echo, or the first line of standard input.

    Raises:
        UsageError: there is no terminal to type at.
    """
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to type a password at; give it with --password-stdin")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt="The same again"))
