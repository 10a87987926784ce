"""A real worker keeps its store healthy: damaged at the start, damaged while it runs, and seen from outside."""

import json
import os
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from inspector.contract.broker import free_port
from inspector.contract.codes import ErrorCode
from inspector.contract.messages import Alarms
from inspector.store.backup import backups
from inspector.store.healing import RESTORED
from inspector.store.schema import Audit
from tests.brokers import Witness, wait_until
from tests.end_to_end.plant import START_S, Belt, Line, started

pytestmark = pytest.mark.slow


def inspector(line: Line, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "inspector", *arguments, "--config", str(line.config_path)]
    environment = {key: value for key, value in os.environ.items() if key != "INSPECTOR_DATA_DIR"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


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
        assert inspector(line, "db", "backup").returncode == 0
        with Belt(plc, "flange", 0.2) as belt:
            belt.wait_for(3)
        assert line.stop(worker) == 0
        boot = max(row.boot for row in line.rows())
        damage(path)

        started(line, plc)
        wait_until(lambda: ErrorCode.DATABASE_RESTORED in alarms(witness, line), START_S)
        with Belt(plc, "flange", 0.2) as belt:
            belt.wait_for(5)
        wait_until(lambda: len([row for row in line.rows() if row.boot > boot]) >= len(belt.triggers))
    rows = line.rows()
    assert len({(row.boot, row.seq) for row in rows}) == len(rows)
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
    seen = inspector(line, "status", "--json")
    answer = json.loads(seen.stdout)
    assert answer["runs"]
    assert answer["status"]["latency_ms"]["p99"] > 0
    assert answer["status"]["cameras"]["line"]["frames"] >= 5
    assert len(answer["verdicts"]) > 0
    assert len(backups(line.folder / "data" / "backups", path)) >= 1
