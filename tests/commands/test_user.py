"""`inspector user`: people are added, listed and removed, and no password is shown, logged or kept."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from inspector.cli import app
from inspector.errors import UsageError
from inspector.users import Role, is_password_of, read_users

SECRET = "a long enough secret"  # noqa: S105 - of nobody
AT_A_TERMINAL = """
import json, os, pty, sys
number, terminal = pty.fork()
if number == 0:
    os.execv(sys.argv[2], sys.argv[2:])
shown = b""
def read():
    try:
        return os.read(terminal, 1024)
    except OSError:  # the program has ended
        return b""
for line in json.loads(sys.argv[1]):
    while not shown.endswith(b": "):
        shown += read() or sys.exit(shown.decode())
    os.write(terminal, line.encode() + b"\\n")
    shown += b" | "
while more := read():
    shown += more
sys.stdout.write(shown.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]))
"""
"""Somebody who reads each question before answering: what was typed before it is thrown away."""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "line.yaml"
    path.write_text("dashboard: {users_file: users.yaml}\n", encoding="utf-8")
    return path


def run(config: Path, *words: str, typed: str = "") -> Result:
    return CliRunner().invoke(app, ["user", *words, "--config", str(config)], input=typed, catch_exceptions=False)


def add(config: Path, name: str, role: str, *options: str) -> Result:
    return run(config, "add", name, "--role", role, "--password-stdin", *options, typed=f"{SECRET}\n")


def at_a_terminal(config: Path, *typed: str) -> subprocess.CompletedProcess[str]:
    """The command at a terminal at which somebody types."""
    command = [sys.executable, "-m", "inspector", "user", "add", "anna", "--role", "viewer", "--config", str(config)]
    program = [sys.executable, "-c", AT_A_TERMINAL, json.dumps(typed), *command]
    return subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)


def test_who_is_added_is_listed_until_removed(config: Path) -> None:
    assert "no users in" in run(config, "list").stdout
    assert "anna may log in as operator" in add(config, "anna", "operator").stdout
    add(config, "emil", "engineer")
    assert json.loads(run(config, "list", "--json").stdout) == {
        "users": [{"name": "anna", "role": "operator"}, {"name": "emil", "role": "engineer"}]
    }
    assert "anna" in run(config, "list").stdout

    run(config, "remove", "anna")
    assert list(read_users(config.parent / "users.yaml")) == ["emil"]
    assert "nobody is left: on 127.0.0.1 the pages now ask for no login" in run(config, "remove", "emil").stdout
    with pytest.raises(UsageError, match="there is no user 'emil'"):
        run(config, "remove", "emil")


def test_a_role_is_changed_on_purpose_only(config: Path) -> None:
    add(config, "anna", "viewer")
    with pytest.raises(UsageError, match="--replace"):
        add(config, "anna", "engineer")
    add(config, "anna", "engineer", "--replace")
    assert read_users(config.parent / "users.yaml")["anna"].role is Role.ENGINEER
    assert run(config, "add", "anna", "--role", "boss", "--password-stdin").exit_code == 2


def test_without_a_terminal_the_password_has_to_come_by_standard_input(config: Path) -> None:
    with pytest.raises(UsageError, match="--password-stdin"):
        run(config, "add", "anna", "--role", "viewer", typed=f"{SECRET}\n{SECRET}\n")
    assert read_users(config.parent / "users.yaml") == {}


def test_a_password_is_typed_twice_and_not_shown(config: Path) -> None:
    done = at_a_terminal(config, SECRET, "another secret", SECRET, SECRET)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "do not match" in done.stdout
    assert SECRET not in done.stdout
    assert "anna may log in as viewer" in done.stdout
    assert is_password_of(read_users(config.parent / "users.yaml")["anna"], SECRET)
