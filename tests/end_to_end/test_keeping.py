"""A real worker keeps its store healthy: damaged at the start, damaged while it runs, and seen from outside."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from inspector.contract.broker import free_port
from inspector.contract.codes import ErrorCode
from inspector.contract.messages import Alarms
from inspector.store.healing import RESTORED
from inspector.store.schema import Audit
from inspector.types import Verdict
from tests.brokers import Witness, wait_until
from tests.end_to_end.plant import START_S, Belt, Line, started
from tests.end_to_end.test_supervisor import supervisor

pytestmark = pytest.mark.slow

__all__ = ["supervisor"]


def inspector(line: Line, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "inspector", *arguments, "--config", str(line.config_path)]
    environment = {key: value for key, value in os.environ.items() if key != "INSPECTOR_DATA_DIR"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def told_status(line: Line) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(inspector(line, "status", "--json").stdout)
    return answer


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)


def alarms(witness: Witness, line: Line) -> dict[int, str]:
    told = witness.of(line.topics.alarm)
    return {row.err: row.txt for row in Alarms.from_json(told[-1]).alarms} if told else {}


def test_a_station_whose_database_is_damaged_comes_back_by_itself_and_says_so(line: Line) -> None:
    line.values["telemetry"] = {"port": free_port()}
    path = line.folder / "data" / "inspector.db"
    with closing(Witness(line.broker.port)) as witness, line.plc("flange") as plc:
        worker = started(line, plc)
        with Belt(plc, "flange", 0.2) as belt:
            belt.wait_for(5)
        wait_until(lambda: len(line.rows()) == len(belt.triggers))
        made = inspector(line, "db", "backup", "--json")
        assert made.returncode == 0, made.stderr
        with Belt(plc, "flange", 0.2) as belt:
            belt.wait_for(3)
        assert line.stop(worker) == 0
        before = [(row.boot, row.seq, row.trg, row.verdict, row.score, row.recipe_id) for row in line.rows()]
        boot = max(row.boot for row in line.rows())
        damage(path)

        started(line, plc)
        wait_until(lambda: ErrorCode.DATABASE_RESTORED in alarms(witness, line), START_S)
        with Belt(plc, "flange", 0.2) as belt:
            belt.wait_for(5)
        wait_until(lambda: len([row for row in line.rows() if row.boot > boot]) >= len(belt.triggers))
    rows = line.rows()
    assert len({(row.boot, row.seq) for row in rows}) == len(rows)
    again = [(row.boot, row.seq, row.trg, row.verdict, row.score, row.recipe_id) for row in rows]
    assert again[: len(before)] == before, "what came after the backup is put back by the redo log"
    assert "check product and history" in alarms(witness, line)[ErrorCode.DATABASE_RESTORED]
    with line.store() as store, store.read() as session:
        assert session.query(Audit).filter(Audit.action == RESTORED).count() == 1
    assert len(list((line.folder / "data" / "quarantine").glob("*/inspector.db"))) == 1

    metrics = urllib.request.urlopen(f"http://127.0.0.1:{line.values['telemetry']['port']}/metrics", timeout=10)
    text = metrics.read().decode()
    assert f"inspector_boot {boot + 1}.0" in text
    assert 'inspector_stage_seconds_count{stage="committed"}' in text
    assert "inspector_ballast_held 1.0" in text
    assert f'inspector_alarm{{err="{int(ErrorCode.DATABASE_RESTORED)}",source="database"}} 1.0' in text
    wait_until(lambda: told_status(line)["status"]["cameras"]["line"]["frames"] >= 5, 60)  # it is written each second
    answer = told_status(line)
    assert answer["runs"]
    assert answer["status"]["latency_ms"]["p99"] > 0
    assert len(answer["verdicts"]) > 0
    assert Path(json.loads(made.stdout)["file"]).exists()


def test_a_database_that_is_deleted_under_the_running_line_is_back_by_itself(
    line: Line, supervisor: subprocess.Popen[bytes]
) -> None:
    path = line.folder / "data" / "inspector.db"
    with closing(Witness(line.broker.port)) as witness, line.plc("flange") as plc:
        wait_until(lambda: plc.is_ready, START_S)
        assert inspector(line, "db", "backup").returncode == 0
        with Belt(plc, "flange", 0.2) as belt:
            belt.wait_for(5)
            for side in ("", "-wal", "-shm"):
                path.with_name(path.name + side).unlink(missing_ok=True)
            wait_until(lambda: ErrorCode.DATABASE_RESTORED in alarms(witness, line), START_S)
            wait_until(lambda: plc.is_ready, START_S)
            belt.wait_for(10)
        plc.wait_decided()
        wait_until(lambda: {row.trg for row in line.rows()} >= set(belt.triggers))
        rows = line.rows()
        assert sorted(row.trg for row in rows) == belt.triggers
        stored = {row.trg: row.verdict for row in rows}
        accepted = {trg for trg, decision in plc.decisions.items() if decision.accepted}
        assert all(stored[trg] == Verdict.OK for trg in accepted)
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(60) == 0


@pytest.fixture
def small_disk(line: Line) -> Iterator[Path]:
    """The line's data folder on a real file system of 48 MiB."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("a small file system can be mounted by root on Linux only")
    place = line.folder / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(place)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    shutil.copytree(line.folder / "data", place / "data")
    line.values |= {
        "data_dir": str(place / "data"),
        "images": {"save": "all", "min_free_mb": 12},
        "disk": {"ballast_mb": 8},
    }
    yield place
    line.close()
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(file: Path) -> None:
    """Take every byte that is left."""
    with file.open("ab", buffering=0) as taken:
        try:
            while True:
                taken.write(bytes(min(2**20, max(1, shutil.disk_usage(file.parent).free))))
        except OSError:
            return


def test_a_disk_that_somebody_fills_costs_pictures_and_no_row_and_the_line_goes_on(
    line: Line, small_disk: Path
) -> None:
    ballast = small_disk / "data" / "station1.ballast"
    with closing(Witness(line.broker.port)) as witness, line.plc("flange") as plc:
        started(line, plc)
        wait_until(ballast.exists)
        with Belt(plc, "flange", 0.2) as belt:
            belt.wait_for(5)
            fill(small_disk / "somebody-elses")
            wait_until(lambda: ErrorCode.DISK_LOW in alarms(witness, line))
            wait_until(lambda: not ballast.exists())
            belt.wait_for(20)
        wait_until(lambda: len(line.rows()) == len(belt.triggers))
        rows = line.rows()
        assert sorted(row.trg for row in rows) == belt.triggers
        assert {row.err for row in rows} <= {ErrorCode.NONE, ErrorCode.STORAGE}
        assert all(row.err == ErrorCode.NONE for row in rows[-10:]), "the reserve must be enough to go on"
        assert "pictures" in alarms(witness, line)[ErrorCode.DISK_LOW]

        (small_disk / "somebody-elses").unlink()
        wait_until(ballast.exists, 60)
        before = len(line.rows())
        with Belt(plc, "flange", 0.2):  # the guard looks at its own times, so that the next part may be too early
            wait_until(lambda: any(row.image_path is not None for row in line.rows()[before:]), 60)
