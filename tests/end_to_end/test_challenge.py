"""Challenges of the whole line: kept pictures beside the production, a held station, and what releases it."""

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pytest

from inspector import simulation
from inspector.contract.codes import AckCode, ErrorCode, StationMode, StationState
from inspector.contract.messages import Alarms, ChallengeBegin, Suspects
from inspector.contract.virtual_plc import VirtualPlc
from inspector.store import challenges, products
from inspector.store.schema import ChallengeRun
from inspector.types import ImageArray, Verdict
from tests import stored
from tests.brokers import Witness, wait_until
from tests.end_to_end.plant import REFERENCES, START_S, Belt, Line, results, started

PERIOD_S = 0.08
HONEST, WRONG = 1, 2


def damaged(image: ImageArray) -> ImageArray:
    """The part with a bright patch that nobody can miss."""
    marked = image.copy()
    height, width = image.shape[:2]
    marked[height // 3 : height // 2, width // 3 : width // 2] = (230, 40, 200)
    return np.ascontiguousarray(marked)


@pytest.fixture
def proven(line: Line) -> Line:
    """Set 1 expects what is there, set 2 says that a damaged part is good."""
    good = simulation.draw_references("flange", REFERENCES)
    sets = (
        (HONEST, "golden", challenges.GOOD, good[0]),
        (HONEST, "golden-2", challenges.GOOD, good[1]),
        (HONEST, "patched", challenges.DEFECT, damaged(good[2])),
        (WRONG, "golden", challenges.GOOD, good[0]),
        (WRONG, "patched", challenges.GOOD, damaged(good[2])),
    )
    with line.store() as store, store.write() as session:
        product = products.find_product(session, "flange")
        for set_no, name, expected, image in sets:
            stored.add_member(
                session,
                line.config.data_path,
                product,
                challenges.Known(name, expected),
                set_no=set_no,
                image=image,
                who="test",
                now=datetime.now(UTC),
            )
    return line


def begin(plc: VirtualPlc, set_no: int, cid: int) -> int:
    return plc.command(ChallengeBegin(cid=cid, set=set_no, pic=1)).code


def newest(line: Line) -> ChallengeRun:
    with line.store() as store, store.read() as session:
        return challenges.runs(session, 1, 1)[0]


def awaited(line: Line, number: int) -> ChallengeRun:
    wait_until(lambda: (run := newest(line)).id == number and run.result != challenges.RUNNING, 60)
    return newest(line)


def accepted(plc: VirtualPlc) -> int:
    return sum(decision.accepted for decision in plc.decisions.values())


def until_held(line: Line, plc: VirtualPlc) -> None:
    wait_until(lambda: plc.state is not None and plc.state.err == ErrorCode.CHALLENGE_FAILED, 20)
    wait_until(lambda: line.status().get("held") == ErrorCode.CHALLENGE_FAILED)
    assert plc.state is not None
    assert plc.state.st == StationState.HALTED


def nothing_passes(line: Line, plc: VirtualPlc, belt: Belt) -> None:
    """Parts that come now are answered NONE with the reason, and the PLC lets none of them pass."""
    first = len(belt.triggers)
    belt.wait_for(12)
    plc.wait_decided()
    triggers = set(belt.triggers[first + 1 :])  # the first one may have been on its way
    wait_until(lambda: triggers <= {row.trg for row in line.rows()})
    rows = [row for row in line.rows() if row.trg in triggers]
    assert {row.verdict for row in rows if row.err == ErrorCode.CHALLENGE_FAILED} == {Verdict.NONE}
    assert {row.err for row in rows} <= {ErrorCode.CHALLENGE_FAILED, ErrorCode.WRONG_PRODUCT}
    assert not any(plc.decisions[trg].accepted for trg in triggers)


def test_a_challenge_of_kept_pictures_passes_while_the_production_goes_on(proven: Line) -> None:
    witness = Witness(proven.broker.port)
    with proven.plc("flange") as plc:
        worker = started(proven, plc)
        with Belt(plc, "flange", PERIOD_S) as belt:
            belt.wait_for(10)
            assert begin(plc, HONEST, 5001) == AckCode.DONE
            run = awaited(proven, 1)
            belt.wait_for(10)
        plc.wait_decided()
        assert accepted(plc) > 0
        assert proven.stop(worker) == 0
    witness.close()
    assert (run.result, run.reason) == (challenges.PASSED, "")
    assert [[seen["verdict"] for seen in member["seen"]] for member in run.members] == [[1], [1], [2]]
    rows = proven.rows()
    known = [row for row in rows if row.flg & challenges.CHALLENGE_FLAG]
    assert sorted(row.trg for row in rows if row not in known) == belt.triggers
    assert {row.camera for row in known} == {"challenge"}
    assert len(known) == 3
    published = {one.seq for one in results(witness, proven.topics.result)}
    assert published == {row.seq for row in rows}
    assert witness.of(proven.topics.suspect) == []


def test_a_failed_challenge_holds_the_station_until_another_one_passes(proven: Line) -> None:
    witness = Witness(proven.broker.port)
    with proven.plc("flange") as plc:
        worker = started(proven, plc)
        with Belt(plc, "flange", PERIOD_S) as belt:
            wait_until(lambda: accepted(plc) > 3, 30)
            assert begin(plc, WRONG, 6001) == AckCode.DONE
            run = awaited(proven, 1)
            until_held(proven, plc)
            nothing_passes(proven, plc, belt)
            passed = {trg for trg, decision in plc.decisions.items() if decision.accepted}
            assert plc.start_station().code == AckCode.VERIFICATION_PENDING
            wait_until(lambda: witness.of(proven.topics.suspect))
            assert begin(plc, HONEST, 6002) == AckCode.DONE
            assert awaited(proven, 2).result == challenges.PASSED
            wait_until(lambda: plc.is_ready, 20)
            before = accepted(plc)
            wait_until(lambda: accepted(plc) > before, 30)
        plc.wait_decided()
        assert proven.stop(worker) == 0
    witness.close()
    assert run.result == challenges.FAILED
    assert run.reason == "patched: a good part that was rejected"
    alarms = [{one.err for one in Alarms.from_json(payload).alarms} for payload in witness.of(proven.topics.alarm)]
    assert any(ErrorCode.CHALLENGE_FAILED in codes for codes in alarms)
    assert ErrorCode.CHALLENGE_FAILED not in alarms[-1]
    (page,) = [Suspects.from_json(payload) for payload in witness.of(proven.topics.suspect)]
    assert (page.err, page.ch) == (ErrorCode.CHALLENGE_FAILED, 1)
    passed_before = [row for row in proven.rows() if row.verdict == Verdict.OK and row.captured_at < run.ended_at]
    in_doubt = [row.seq for row in passed_before if not row.flg & challenges.CHALLENGE_FLAG]
    assert [part.seq for part in page.parts] == in_doubt
    assert passed
    assert passed <= {part.trg for part in page.parts}, "a part that went out is not in the list"


def test_a_held_station_stays_held_over_a_kill_and_is_released_by_an_override(proven: Line) -> None:
    with proven.plc("flange") as plc:
        worker = started(proven, plc)
        with Belt(plc, "flange", PERIOD_S) as belt:
            wait_until(lambda: accepted(plc) > 3, 30)
            assert begin(plc, WRONG, 7001) == AckCode.DONE
            awaited(proven, 1)
            until_held(proven, plc)
            before = accepted(plc)
            worker.send_signal(signal.SIGKILL)
            worker.wait()
            second = proven.start()
            wait_until(lambda: plc.state is not None and plc.state.boot == 2 and plc.state.st == 2, START_S)
            until_held(proven, plc)
            nothing_passes(proven, plc, belt)
            assert accepted(plc) == before
            with proven.store() as store, store.write() as session:
                challenges.override(session, 1, "the set was wrong", "engineer", datetime.now(UTC))
            wait_until(lambda: plc.is_ready, 20)
            wait_until(lambda: accepted(plc) > before, 30)
        assert proven.stop(second) == 0


def test_a_station_whose_challenge_is_overdue_accepts_not_one_part_after_a_start(proven: Line) -> None:
    proven.values["challenge"] = {"every_h": 1e-6, "overdue_holds": True}
    with proven.plc("flange") as plc, Belt(plc, "flange", PERIOD_S):
        for start in (1, 2):
            held_before = len([row for row in proven.rows() if row.err == ErrorCode.CHALLENGE_OVERDUE])
            worker = proven.start()

            def held(before: int = held_before) -> bool:
                rows = [row for row in proven.rows() if row.err == ErrorCode.CHALLENGE_OVERDUE]
                return len(rows) > before + 10

            wait_until(held, START_S)
            assert proven.stop(worker) == 0
            assert proven.boot() == start
        assert accepted(plc) == 0
    assert {row.verdict for row in proven.rows()} == {Verdict.NONE}


def inspector(line: Line, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "inspector", "challenge", *arguments, "--config", str(line.config_path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_line_runs_a_challenge_and_tells_the_parts_in_doubt(proven: Line) -> None:
    away = inspector(proven, "run")
    assert (away.returncode, "no worker of station station1 runs" in away.stderr) == (7, True)
    with proven.plc("flange") as plc:
        worker = started(proven, plc)
        with Belt(plc, "flange", PERIOD_S):
            wait_until(lambda: accepted(plc) > 3, 30)
        passed = inspector(proven, "run", "--json")
        assert (passed.returncode, json.loads(passed.stdout)["result"]) == (0, "passed"), passed.stderr
        with Belt(plc, "flange", PERIOD_S) as belt:
            belt.wait_for(10)
        plc.wait_decided()
        failed = inspector(proven, "run", "--set", "2")
        assert failed.returncode == 1, failed.stderr
        assert "patched: good expected, NG (challenge)  <- a good part that was rejected" in failed.stdout
        unknown = inspector(proven, "run", "--set", "9")
        assert (unknown.returncode, "has no parts" in unknown.stderr) == (7, True)
        doubted = json.loads(inspector(proven, "suspects", "--json").stdout)
        assert doubted["reason"] == "challenge 2 failed"
        came_between = {trg for trg, decision in plc.decisions.items() if decision.accepted and trg >= belt.triggers[0]}
        assert {part["trg"] for part in doubted["parts"]} == came_between
        assert json.loads(inspector(proven, "results", "--json").stdout)["held_by"] == 2
        assert inspector(proven, "override", "2", "--reason", "a test").returncode == 0
        assert json.loads(inspector(proven, "results", "--json").stdout)["held_by"] is None
        assert "no challenge runs" in inspector(proven, "end").stderr
        assert proven.stop(worker) == 0


def test_a_challenge_with_parts_goes_on_when_the_terminal_is_left_and_is_given_up_if_none_came(proven: Line) -> None:
    with proven.plc("flange") as plc:
        worker = started(proven, plc)
        command = [
            sys.executable,
            "-m",
            "inspector",
            "challenge",
            "run",
            "--parts",
            "--config",
            str(proven.config_path),
        ]
        # Programs that are started in the background ignore Ctrl-C and hand that on; a terminal's do not.
        heed = (
            "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
        )
        command = [sys.executable, "-c", heed, *command]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as terminal:
            assert terminal.stderr is not None
            order = [terminal.stderr.readline().strip() for _ in range(4)]
            assert order == [
                "Show these parts now, in this order:",
                "1. golden (good)",
                "2. golden-2 (good)",
                "3. patched (defect)",
            ]
            terminal.send_signal(signal.SIGINT)
            assert "challenge 1 goes on" in terminal.stderr.read()
        assert terminal.returncode == 130
        assert newest(proven).result == challenges.RUNNING
        wait_until(lambda: plc.state is not None and plc.state.mode == StationMode.CHALLENGE)
        assert not plc.is_ready
        assert inspector(proven, "end").returncode == 0
        assert (awaited(proven, 1).result, newest(proven).reason) == (challenges.ABORTED, "none of its parts came")
        wait_until(lambda: plc.is_ready, 20)
        assert proven.stop(worker) == 0
