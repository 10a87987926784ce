"""A configuration that is spoilt while the line runs: no part passes, and mending the file is all that anyone has to do."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from inspector.contract.codes import ErrorCode
from inspector.types import Verdict
from tests.brokers import Witness, wait_until
from tests.end_to_end.plant import START_S, Belt, Line

SAFE = (3, ErrorCode.CONFIGURATION)


def run(line: Line, *arguments: str) -> subprocess.Popen[bytes]:
    """`inspector run` as a person starts it, with a file of its own that can be spoilt."""
    with (line.folder / "worker.log").open("ab") as log:
        command = [sys.executable, "-m", "inspector", "run", *arguments, "--config", str(station_file(line))]
        environment = {key: value for key, value in os.environ.items() if key != "INSPECTOR_DATA_DIR"}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    line.workers.append(process)
    return process


def station_file(line: Line) -> Path:
    return line.folder / "station.yaml"


def spoil(line: Line) -> None:
    wrong = line.values | {"batching": line.values["batching"] | {"max_bach": 3}}
    station_file(line).write_text(yaml.safe_dump(wrong))


def mend(line: Line) -> None:
    station_file(line).write_text(yaml.safe_dump(line.values))


@pytest.mark.parametrize("alone", [False, True], ids=["supervised", "worker"])
def test_a_station_that_starts_with_a_wrong_file_is_safe_and_goes_into_production_once_it_is_mended(
    line: Line, alone: bool
) -> None:
    spoil(line)
    witness = Witness(line.broker.port)
    with line.plc("flange", timeout_s=2.0) as plc:
        process = run(line, *(["--worker"] if alone else []))
        wait_until(lambda: plc.state is not None and (plc.state.st, plc.state.err) == SAFE, START_S)
        wait_until(lambda: witness.of(line.topics.alarm), START_S)
        assert b"max_bach" in witness.of(line.topics.alarm)[-1]
        for number in range(5):
            plc.trigger(f"flange:{number:05d}")
        plc.wait_decided()
        assert (plc.counts.accepted, plc.counts.rejected) == (0, 5)
        assert line.rows() == []
        mend(line)
        wait_until(lambda: plc.is_ready, START_S)
        wait_until(lambda: b"max_bach" not in witness.of(line.topics.alarm)[-1], START_S)
        with Belt(plc, "flange", 0.1) as belt:
            belt.wait_for(20)
        plc.wait_decided()
        assert plc.counts.accepted > 0
        assert line.stop(process, 60) == 0
    witness.close()
    assert "Traceback" not in line.log


def test_a_file_that_is_spoilt_under_the_running_line_counts_from_the_next_start_and_no_part_is_lost(
    line: Line,
) -> None:
    with line.plc("flange", timeout_s=2.0) as plc:
        mend(line)
        supervisor = run(line)
        wait_until(lambda: plc.is_ready, START_S)
        with Belt(plc, "flange", 0.1) as belt:
            belt.wait_for(10)
            spoil(line)
            belt.wait_for(5)
            assert plc.is_ready
            os.kill(int(line.status()["pid"]), signal.SIGKILL)
            wait_until(lambda: plc.state is not None and (plc.state.st, plc.state.err) == SAFE, START_S)
            accepted, begun = plc.counts.accepted, len(belt.triggers)
            belt.wait_for(10)
            assert plc.counts.accepted == accepted
            mend(line)
            wait_until(lambda: plc.is_ready and plc.state is not None and plc.state.boot == 2, START_S)
            belt.wait_for(20)
        plc.wait_decided()
        wait_until(lambda: line.outbox_size() == 0, 60)
        assert line.stop(supervisor, 60) == 0
        passed = {trg for trg, decision in plc.decisions.items() if decision.accepted}
    rows = line.rows()
    assert {trg: count for trg, count in Counter(row.trg for row in rows).items() if count != 1} == {}
    assert sorted(row.trg for row in rows) == belt.triggers
    refused = {row.trg: (row.verdict, row.err) for row in rows if begun < row.trg <= begun + 10}
    assert set(refused.values()) == {(Verdict.NONE, ErrorCode.MISSED_TRIGGER)}
    assert passed <= {row.trg for row in rows if row.verdict == Verdict.OK}


def test_settings_of_the_broker_that_are_spoilt_under_the_running_line_are_tried_again_until_they_are_mended(
    line: Line,
) -> None:
    mend(line)
    with line.plc("flange") as plc:
        supervisor = run(line)
        wait_until(lambda: plc.is_ready, START_S)
        wrong = line.values | {"mqtt": line.values["mqtt"] | {"prot": 1}}
        station_file(line).write_text(yaml.safe_dump(wrong))
        os.kill(int(line.status()["pid"]), signal.SIGKILL)
        wait_until(lambda: line.log.count("the worker ended (exit code 2); it is started again") >= 2, START_S)
        assert "unknown key 'mqtt.prot'" in line.log
        assert plc.state is not None
        assert plc.state.on == 0  # the last will
        mend(line)
        wait_until(lambda: plc.is_ready, START_S)
        assert line.stop(supervisor, 60) == 0
