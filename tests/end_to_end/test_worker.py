"""The worker as a whole, with a real broker, a real database and a PLC: no part lost, doubled or waved through."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from inspector import simulation
from inspector.contract.messages import Result
from inspector.images import encode_png
from inspector.store import queries
from inspector.types import Verdict
from tests.brokers import Witness
from tests.end_to_end.line import DEFECT_RATE, Line, wait_until

REPOSITORY = Path(__file__).parents[2]
OUTAGE_S = float(os.environ.get("INSPECTOR_TEST_OUTAGE_S", "5"))
"""How long the broker is away; the real thing is 30 s and more."""


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    line = Line(tmp_path)
    yield line
    line.close()


def outbox_size(line: Line) -> int:
    with line.store.read() as session:
        return queries.outbox_size(session, 1)


def test_the_demo_keeps_books_that_agree(tmp_path: Path) -> None:
    environment = os.environ | {"INSPECTOR_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "inspector", "demo", "--parts", "30", "--no-dashboard", "--json", "--rate", "3"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=REPOSITORY, env=environment, timeout=280, check=False
    )

    assert done.returncode == 0, done.stderr[-2000:]
    books = json.loads(done.stdout)
    assert books["parts"] == books["published"] == books["stored"] == 30
    assert books["ok"] + books["ng"] + books["undecided"] + books["none"] == 30
    assert books["plc_accepted"] + books["plc_rejected"] == 30
    assert books["plc_accepted"] <= books["ok"]
    assert books["swaps"] == 2
    with sqlite3.connect(tmp_path / "demo" / "inspector.db") as database:
        assert database.execute("select count(*), count(distinct trg) from inspections").fetchone() == (30, 30)
        assert database.execute("select count(distinct recipe_id) from inspections").fetchone() == (3,)


def test_a_killed_worker_loses_and_doubles_no_row_and_no_bad_part_passes(line: Line) -> None:
    rcp = line.teach("flange", activate="flange")["flange"]
    witness = Witness(line.broker.port, "test/line/vis1/#")
    worker = line.start_worker()
    with line.plc(timeout_s=3.0) as plc:
        plc.want_recipe(rcp)
        plc.wait_ready(90)
        for number in range(40):
            plc.trigger(f"flange:{number:05d}")
            time.sleep(0.15)
            if number == 15:
                worker.send_signal(signal.SIGKILL)
                worker.wait()
                line.start_worker()
            if number == 25:
                plc.wait_ready(90)
        plc.wait_decided(60)
        wait_until(lambda: outbox_size(line) == 0, 60)
        decisions = plc.decisions

    rows = line.rows()
    assert sorted(row.trg for row in rows) == list(range(1, 41))  # each trigger exactly once
    assert len({(row.boot, row.seq) for row in rows}) == 40
    by_trigger = {row.trg: row for row in rows}
    for trg, decision in decisions.items():
        assert not decision.accepted or by_trigger[trg].verdict == Verdict.OK
    published = Counter(
        (result.boot, result.seq)
        for topic in ("result", "late")
        for result in map(Result.from_json, witness.of(f"test/line/vis1/{topic}"))
    )
    assert set(published) == {(row.boot, row.seq) for row in rows}
    assert {row.boot for row in rows} == {1, 2}
    assert any(row.err == 104 for row in rows)  # what passed by while nobody looked has its row too


def test_without_the_broker_inspection_goes_on_and_nothing_stale_is_sent_afterwards(tmp_path: Path) -> None:
    camera = {"kind": "simulated", "seed": 5, "defect_rate": DEFECT_RATE, "period_s": 0.3, "source": "flange"}
    line = Line(tmp_path, camera=camera, mqtt={"window_ms": 1000})
    try:
        line.teach("flange", activate="flange")
        line.start_worker()
        wait_until(lambda: len(line.rows()) >= 5, 90)
        line.broker.kill()
        before = len(line.rows())
        time.sleep(OUTAGE_S)
        during = len(line.rows()) - before
        assert during >= OUTAGE_S / 0.3 * 0.5
        line.broker.restart()
        witness = Witness(line.broker.port, "test/line/vis1/#")
        wait_until(lambda: outbox_size(line) <= 2, 60)
        for payload in witness.of("test/line/vis1/result"):
            result = Result.from_json(payload)
            row = next(row for row in line.rows() if row.seq == result.seq)
            arrived = next(at for _, data, _, at in witness.messages if data == payload)
            age_s = (time.time() - row.captured_at.timestamp()) - (time.monotonic() - arrived)
            assert age_s < 1.5
        late = [Result.from_json(payload) for payload in witness.of("test/line/vis1/late")]
        assert len({result.seq for result in late}) >= during * 0.5
        assert all(result.flg & 4 for result in late)
        triggers = [row.trg for row in line.rows()]
        assert triggers == list(range(1, len(triggers) + 1))
    finally:
        line.close()


def test_a_product_change_loses_and_doubles_no_part_and_each_verdict_names_its_recipe(line: Line) -> None:
    rcp = line.teach("flange", "gear", activate="flange")
    line.start_worker()
    with line.plc() as plc:
        plc.want_recipe(rcp["flange"])
        plc.wait_ready(90)
        for number in range(12):
            plc.trigger(f"flange:{number:05d}")
        plc.select_recipe(rcp["gear"], timeout_s=60)  # with parts in flight
        plc.wait_ready(60)
        for number in range(6):
            plc.trigger(f"gear:{number:05d}")
            time.sleep(0.2)
        plc.wait_decided(60)

    rows = line.rows()
    assert [row.trg for row in rows] == list(range(1, 19))
    detail = {row.trg: row.detail["rcp"] for row in rows}
    assert {detail[trg] for trg in range(13, 19)} == {rcp["gear"]}
    for row in rows[:12]:
        assert row.detail["rcp"] == rcp["flange"] or row.verdict == Verdict.NONE


def test_a_second_worker_of_a_station_is_refused_in_a_sentence(line: Line) -> None:
    line.start_worker()
    wait_until(lambda: "runs (boot" in line.log(), 60)
    second = subprocess.run(
        [sys.executable, "-m", "inspector", "run", "--config", str(line.path)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=60,
        check=False,
    )
    assert second.returncode == 7
    assert "another worker runs station" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_database_of_a_newer_program_is_refused_in_a_sentence(line: Line) -> None:
    path = line.config.data_path / "inspector.db"
    with sqlite3.connect(path) as database:
        database.execute("update alembic_version set version_num = '9999'")
    process = line.start_worker()

    assert process.wait(60) == 4
    assert "belongs to a newer version" in line.log()
    assert "Traceback" not in line.log()


def test_bad_pictures_of_a_folder_get_their_none_and_the_worker_ends_by_itself(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    for number in (1, 4):
        image = simulation.draw_part("flange", 5, number, 0.0)[0]
        (folder / f"{number}-good.png").write_bytes(encode_png(image))
    (folder / "2-text.png").write_text("not a picture")
    (folder / "3-tiny.png").write_bytes(encode_png(image[:1, :1]))
    line = Line(tmp_path, camera={"kind": "folder", "source": str(folder), "period_s": 0.2})
    try:
        line.teach("flange", activate="flange")
        process = line.start_worker()
        assert process.wait(90) == 0, line.log()
        rows = line.rows()
    finally:
        line.close()

    assert [row.part for row in rows] == ["1-good", "2-text", "3-tiny", "4-good"]
    assert [row.err for row in rows] == [0, 102, 102, 0]
    assert [row.verdict for row in rows][1:3] == [Verdict.NONE, Verdict.NONE]
    assert "not a picture" in rows[1].detail["reason"]


def test_a_camera_that_is_not_there_is_an_error_of_the_station_not_an_end_of_the_worker(tmp_path: Path) -> None:
    line = Line(tmp_path, camera={"kind": "folder", "source": str(tmp_path / "missing")})
    try:
        worker = line.start_worker()
        plc = line.plc()
        with plc:
            wait_until(lambda: plc.state is not None and plc.state.err == 101, 60)
        assert worker.poll() is None
        assert "Traceback" not in line.log()
    finally:
        line.close()


def test_frames_without_a_product_get_none_401(tmp_path: Path) -> None:
    line = Line(tmp_path, camera={"kind": "simulated", "period_s": 0.1})
    try:
        line.start_worker()
        wait_until(lambda: len(line.rows()) >= 5, 60)
        assert {(row.verdict, row.err) for row in line.rows()} == {(Verdict.NONE, 401)}
    finally:
        line.close()
