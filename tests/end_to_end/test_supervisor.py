"""The supervisor brings the worker back, whatever took it away, and no part is left without its verdict."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from inspector.contract.codes import ErrorCode
from inspector.types import Verdict
from tests.brokers import wait_until
from tests.end_to_end.plant import START_S, Belt, Line


@pytest.fixture
def supervisor(line: Line) -> Iterator[subprocess.Popen[bytes]]:
    """`inspector run` as a person starts it."""
    line.values["supervisor"] = {"hung_s": 2.0}
    process = line.supervise()
    yield process
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_a_worker_that_is_killed_or_frozen_is_replaced_and_each_part_has_one_verdict(
    line: Line, supervisor: subprocess.Popen[bytes], fault: signal.Signals
) -> None:
    with line.plc("flange") as plc:
        wait_until(lambda: plc.is_ready, START_S)
        with Belt(plc, "flange", 0.08) as belt:
            wait_until(lambda: len(line.rows()) > 10, 30)
            os.kill(line.worker_pid, fault)
            wait_until(lambda: line.boot() == 2 and plc.is_ready, START_S)
            belt.wait_for(15)
        plc.wait_decided()
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(60) == 0
        accepted = {trg for trg, decision in plc.decisions.items() if decision.accepted}
    rows = line.rows()
    assert {trg: count for trg, count in Counter(row.trg for row in rows).items() if count != 1} == {}
    assert sorted(row.trg for row in rows) == belt.triggers
    assert accepted <= {row.trg for row in rows if row.verdict == Verdict.OK}
    assert {row.boot for row in rows} == {1, 2}


def test_a_worker_does_not_outlive_its_supervisor(line: Line, supervisor: subprocess.Popen[bytes]) -> None:
    with line.plc("flange") as plc:
        wait_until(lambda: plc.is_ready, START_S)
    pid = line.worker_pid
    supervisor.kill()
    supervisor.wait()
    wait_until(lambda: not _lives(pid), 30)
    assert "the supervisor is gone" in line.log


def test_a_second_supervisor_of_one_station_is_refused(line: Line, supervisor: subprocess.Popen[bytes]) -> None:
    with line.plc("flange") as plc:
        wait_until(lambda: plc.is_ready, START_S)
    command = [sys.executable, "-m", "inspector", "run", "--config", str(line.config_path)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 7
    assert "another supervisor runs this station" in second.stderr


def test_a_configuration_that_cannot_work_ends_at_once_with_one_sentence(line: Line) -> None:
    line.values["encoder"] = {"name": "no-such-model"}
    command = [sys.executable, "-m", "inspector", "run", "--config", str(line.config_path)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert refused.returncode == 3
    assert refused.stderr.strip().count("no-such-model") >= 1
    assert "Traceback" not in refused.stderr


def test_parts_of_a_killed_worker_are_answered_503_by_the_next_one(line: Line) -> None:
    from edge.inflight import InFlight
    from tests.edge.part_maker import part

    kept = InFlight(line.config.data_path / "station1.inflight", boot=9)
    kept.open(part(41, camera="line"))
    kept.open(part(42, camera="line"))
    worker = line.start()
    wait_until(lambda: len(line.rows()) >= 2, START_S)
    assert line.stop(worker) == 0
    assert [(row.trg, row.verdict, row.err) for row in line.rows()[:2]] == [
        (41, 0, ErrorCode.ABORTED),
        (42, 0, ErrorCode.ABORTED),
    ]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
