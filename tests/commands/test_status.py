"""`inspector status` and `inspector db` as a stranger uses them, without a worker."""

import io
import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from rich.console import Console

from inspector.commands.status import look, render
from inspector.config import Config
from inspector.errors import NotFoundError
from inspector.store import engine, journal, stations
from inspector.store.engine import Store
from inspector.store.journal import VerdictRecord
from inspector.types import Verdict
from tests.commands.test_commands import run

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SAID: dict[str, Any] = {
    "st": 7,
    "mode": 0,
    "err": 0,
    "boot": 12,
    "win": 2000,
    "deadline_ms": 1000.0,
    "counts": {"OK": 90, "NG": 8, "UNDECIDED": 1, "NONE": 1},
    "latency_ms": {"p50": 21.0, "p99": 48.0, "max": 60.0, "parts": 100},
    "margin_ms": {"least": 1940.0, "p99": 1951.5, "verdicts": 90},
    "queue": 2,
    "in_flight": 3,
    "evicted": 0,
    "cameras": {"top": {"frames": 100, "gaps": 1, "reconnects": 2, "problem": ""}},
    "broker_connected": True,
    "receipts": 95,
    "rejects_not_confirmed": 2,
    "outbox": 0,
    "database_bytes": 3 * 2**20,
    "wal_bytes": 2**20,
    "last_backup_at": "2026-11-21T06:00:00+00:00",
    "disk_free_bytes": 50 * 2**30,
    "ballast_held": True,
    "disk_low": False,
    "alarms": [],
}


@pytest.fixture
def store(tmp_path: Path) -> Any:
    (tmp_path / "data").mkdir()
    url = f"sqlite:///{tmp_path / 'data' / 'inspector.db'}"
    engine.upgrade(url)
    made = engine.open_store(url)
    yield made
    made.close()


def tell(store: Store, said: dict[str, Any], at: datetime = NOW) -> None:
    record = VerdictRecord(
        12, 1, 5, "top", 1, "A[/5]", int(Verdict.NG), 0, 0, None, 1.25, 1.0, 0, 33.0, NOW - timedelta(seconds=1)
    )
    with store.write() as session:
        station = stations.ensure_station(session, "station1")
        if not station.status:
            journal.commit_verdicts(session, station.id, [record])
        stations.set_status(session, station.id, said, at)


def shown(store: Store, now: datetime = NOW) -> str:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(render(look(store, "station1", now), Config()))
    return console.export_text()


def test_a_running_station_is_seen_at_one_glance(store: Store) -> None:
    tell(store, SAID)
    text = shown(store, NOW + timedelta(seconds=1))
    for part in (
        "Station station1  continuous execution",
        "none is active",
        "100 parts:  90 OK  8 NG  1 UNDECIDED  1 NONE",
        "p50 21 ms, p99 48 ms, max 60 ms of the last 100  (deadline 1000 ms, win 2000 ms)",
        "1940 ms left at the slowest verdict, 1952 ms at p99  (of 90 in the last five minutes)",
        "2 in the queue, 3 in flight, 0 given up",
        "100 frames, 1 gaps, 2 reconnects  works",
        "connected, 0 messages in the outbox",
        "95 receipts, 2 rejects not confirmed",
        "3.0 MiB, WAL 1.0 MiB, last backup 2026-11-21 06:00 UTC",
        "50.0 GiB free, ballast held",
        "11:59:59.000",
        "1.25 / 1",
        "A[/5]",
    ):
        assert part in text, text
    assert "No worker" not in text


def test_what_is_wrong_is_told_first(store: Store) -> None:
    alarm = {"err": 802, "src": "disk", "txt": "the disk is full", "since": 1795219200, "conf": 1}
    tell(store, SAID | {"err": 802, "alarms": [alarm], "broker_connected": False, "broker_problem": "refused"})
    lines = shown(store).splitlines()
    assert "error 802 disk low" in lines[0]
    assert lines[1].startswith("! 802 disk: the disk is full")
    assert "(seen)" in lines[1]
    assert "NOT connected: refused" in "\n".join(lines)


@pytest.mark.parametrize(
    ("numbers", "line"),
    [
        ({"rows_behind": 0, "behind_s": 0.0, "copied": 42}, "has everything, 42 verdicts copied"),
        (
            {"rows_behind": 7200, "behind_s": 3600.0, "problem": "Connection refused"},
            "7200 verdicts behind for 60 min  Connection refused",
        ),
        (
            {"rows_behind": 7200, "behind_s": 3600.0, "rate_hz": 800.0},
            "7200 verdicts behind for 60 min, 800.0 per second are copied",
        ),
    ],
)
def test_the_copy_to_the_plant_has_a_line_where_there_is_one(store: Store, numbers: dict[str, Any], line: str) -> None:
    tell(store, SAID | {f"central_{key}": value for key, value in numbers.items()})
    assert line in shown(store)
    tell(store, SAID)
    assert "central" not in shown(store)


@pytest.mark.parametrize(("age", "st"), [(timedelta(hours=3), 7), (timedelta(0), 0)], ids=["silent", "stopped"])
def test_it_is_clear_when_no_worker_runs(store: Store, age: timedelta, st: int) -> None:
    tell(store, SAID | {"st": st})
    text = shown(store, NOW + age)
    assert "offline" in text.splitlines()[0]
    assert "No worker runs" in text
    assert "inspector run" in text
    view = look(store, "station1", NOW + age)
    assert (view.runs, view.accepts) == (False, False)


def test_a_station_that_never_ran_and_one_that_is_unknown_are_told_apart(store: Store) -> None:
    with store.write() as session:
        stations.ensure_station(session, "station1")
    assert "no worker has run yet" in shown(store)
    with pytest.raises(NotFoundError, match="there are: station1"):
        look(store, "other", NOW)


def test_the_command_answers_for_programs_and_by_its_exit_code(tmp_path: Path, store: Store) -> None:
    tell(store, SAID, datetime.now(UTC) + timedelta(hours=1))  # as of a worker that is quicker than this test
    good = run(tmp_path, "status", "--json")
    answer = json.loads(good.stdout)
    assert (good.returncode, answer["runs"], answer["accepts"]) == (0, True, True)
    assert answer["verdicts"][0]["verdict"] == "NG"
    tell(store, SAID, NOW - timedelta(days=3))
    silent = run(tmp_path, "status")
    assert (silent.returncode, "No worker runs" in silent.stdout) == (1, True)


def test_a_database_is_backed_up_and_restored_but_not_under_a_worker(tmp_path: Path, store: Store) -> None:
    tell(store, SAID)
    made = run(tmp_path, "db", "backup", "--json")
    assert made.returncode == 0, made.stderr
    file = json.loads(made.stdout)["file"]
    assert "exists" in run(tmp_path, "db", "backup", "--out", file).stderr
    with store.write() as session:
        stations.ensure_station(session, "later")

    with FileLock(tmp_path / "data" / "other.lock").acquire():
        refused = run(tmp_path, "db", "restore", file)
    assert (refused.returncode, "a worker runs" in refused.stderr) == (7, True)
    restored = run(tmp_path, "db", "restore", file, "--json")
    assert restored.returncode == 0, restored.stderr
    old = Path(json.loads(restored.stdout)["old"])
    assert sqlite3.connect(old / "inspector.db").execute("select count(*) from stations").fetchone() == (2,)
    with store.read() as session:
        assert [row.name for row in session.scalars(stations.select(stations.Station))] == ["station1"]


def test_the_central_database_is_made_and_checked_by_command_and_its_password_stays_in_its_file(
    tmp_path: Path, store: Store
) -> None:
    assert "central.url is not set" in run(tmp_path, "db", "upgrade", "--central").stderr
    (tmp_path / "line.yaml").write_text(f"central: {{url: 'sqlite:///{tmp_path / 'plant.db'}'}}\n")
    with_file = ("--central", "--config", str(tmp_path / "line.yaml"))
    empty = run(tmp_path, "db", "check", *with_file)
    assert (empty.returncode, "inspector db upgrade --central" in empty.stderr) == (4, True)
    made = run(tmp_path, "db", "upgrade", *with_file, "--json")
    assert json.loads(made.stdout) == {"before": None, "after": "0003"}, made.stderr
    assert json.loads(run(tmp_path, "db", "check", *with_file, "--json").stdout) == {"ok": True, "revision": "0003"}
    url = "postgresql+psycopg://me@127.0.0.1:1/plant"
    (tmp_path / "line.yaml").write_text(f"central: {{url: '{url}', password_file: secret.txt}}\n")
    (tmp_path / "secret.txt").write_text("sesame")
    away = run(tmp_path, "db", "check", *with_file)
    assert (away.returncode, "sesame" in away.stderr, "me:***@127.0.0.1" in away.stderr) == (4, False, True)


def test_a_damaged_database_fails_the_check_with_what_happens_next(tmp_path: Path, store: Store) -> None:
    assert run(tmp_path, "db", "check").returncode == 0
    store.close()
    path = tmp_path / "data" / "inspector.db"
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)
    failed = run(tmp_path, "db", "check")
    assert failed.returncode == 4
    assert "damaged" in failed.stderr
    assert "restores a backup" in failed.stderr
