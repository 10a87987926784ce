"""A real PostgreSQL of the tests, on a port of its own, that can be stopped, killed, frozen and started again."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from inspector.contract.broker import free_port
from tests.brokers import wait_until

USER = "postgres"


FEEDER_RIGHTS = (
    "SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public",
    "DELETE ON plant_regions",
    "USAGE ON ALL SEQUENCES IN SCHEMA public",
    "EXECUTE ON FUNCTION plant_month",
)
"""What the README gives to the stations' account of a central database."""


def let_feed(url: str, role: str, rights: Sequence[str] = FEEDER_RIGHTS) -> None:
    """Give a role the rights of the stations' account."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for right in rights:
            connection.execute(text(f"GRANT {right} TO {role}"))
    engine.dispose()


class TestPostgres:
    """PostgreSQL refuses root, so root runs it as the user postgres; without PostgreSQL the test is skipped."""

    __test__ = False

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not found:
            pytest.skip("PostgreSQL is not installed")
        self._programs = found[-1].parent
        self._as_user = ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
        self._folder = Path(tempfile.mkdtemp(prefix="inspector-pg-"))
        if self._as_user:
            shutil.chown(self._folder, USER)
        self._data = self._folder / "data"
        self.port = free_port()
        self._run("initdb", "-D", str(self._data), "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()

    @property
    def url(self) -> str:
        """The database that is always there."""
        return self.url_of(USER)

    def url_of(self, database: str, user: str = USER) -> str:
        return f"postgresql+psycopg://{user}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """A new, empty database; gives its URL."""
        self.execute(f"CREATE DATABASE {database}")
        return self.url_of(database)

    def execute(self, statement: str) -> None:
        """Run one statement as the server's owner."""
        engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()

    def ask_for_passwords(self) -> None:
        """From now on every connection needs one."""
        rules = self._data / "pg_hba.conf"
        rules.write_text(rules.read_text().replace("trust", "scram-sha-256"))
        self._run("pg_ctl", "-D", str(self._data), "reload")

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self._run("pg_ctl", "-D", str(self._data), "-l", str(self._folder / "log"), "-o", options, "-w", "start")

    def stop(self) -> None:
        """In good order; connections are cut."""
        self._run("pg_ctl", "-D", str(self._data), "-m", "fast", "-w", "stop")

    def kill(self) -> None:
        """As a power cut does: no process of the server ends in order."""
        killed = self._signal(signal.SIGKILL)
        wait_until(lambda: not any(_lives(pid) for pid in killed), 30)
        (self._data / "postmaster.pid").unlink(
            missing_ok=True
        )  # where nobody buries the dead, it would say that it runs

    def freeze(self) -> None:
        """The server is there and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        if self._processes():
            self._run("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> list[int]:
        """To the server and its children; one that ends by itself at that moment needs none."""
        found = self._processes()
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return found

    def _processes(self) -> list[int]:
        """The server and its children, the server first; none once it has ended (its number may be another's by then)."""
        try:
            server = int((self._data / "postmaster.pid").read_text().splitlines()[0])
            if str(self._data) not in Path(f"/proc/{server}/cmdline").read_text():
                return []
            return [server, *map(int, Path(f"/proc/{server}/task/{server}/children").read_text().split())]
        except OSError:
            return []

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_user, str(self._programs / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=60, cwd="/")


def _lives(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
