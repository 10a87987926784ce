"""Whatever happens to worker, broker and product: each part has one verdict, and only an OK lets it pass."""

import signal
import sqlite3
import time
from collections import Counter

from inspector.contract.codes import AckCode, ErrorCode, StationState
from inspector.contract.messages import Halt, Reset, Start
from inspector.store import commands as command_rows
from inspector.store import products
from inspector.types import Verdict
from tests.brokers import Witness, wait_until
from tests.end_to_end.plant import START_S, Belt, Line, results, seconds, started

PERIOD_S = 0.06
UNSEEN = 5000
"""More than are settled while a few parts come by, on any machine."""
OUTAGE_S = seconds("INSPECTOR_TEST_OUTAGE_S", 5.0)
"""How long the broker is away; the acceptance run takes 30 s."""
WINDOW_MS = int(seconds("INSPECTOR_TEST_WINDOW_MS", 500.0))


def _one_row_per_trigger(line: Line, triggers: list[int]) -> None:
    counted = Counter(row.trg for row in line.rows())
    assert {trg: count for trg, count in counted.items() if count != 1} == {}
    assert sorted(counted) == triggers


def test_triggers_rows_and_published_results_are_the_same_parts(line: Line) -> None:
    witness = Witness(line.broker.port)
    with line.plc("flange") as plc:
        worker = started(line, plc)
        with Belt(plc, "flange", PERIOD_S) as belt:
            belt.wait_for(60)
        plc.wait_decided()
        triggers = belt.triggers
        wait_until(lambda: line.outbox_size() == 0)
        assert line.stop(worker) == 0
        accepted = {trg for trg, decision in plc.decisions.items() if decision.accepted}
    witness.close()
    rows = line.rows()
    _one_row_per_trigger(line, triggers)
    assert [row.trg for row in rows] == triggers
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    published = results(witness, line.topics.result)
    assert [(one.seq, one.trg, one.res) for one in published] == [(row.seq, row.trg, row.verdict) for row in rows]
    assert len(witness.of(line.topics.detail)) == len(rows)
    assert witness.of(line.topics.late) == []
    assert accepted == {row.trg for row in rows if row.verdict == Verdict.OK}
    assert accepted
    assert b'"on":0,"st":0' in witness.of(line.topics.state)[-1]


def test_kill_9_in_mid_run_loses_and_doubles_no_part(line: Line) -> None:
    with line.plc("flange") as plc:
        worker = started(line, plc)
        with Belt(plc, "flange", PERIOD_S) as belt:
            wait_until(lambda: len(line.rows()) > 20)
            worker.send_signal(signal.SIGKILL)
            worker.wait()
            belt.wait_for(5)
            second = line.start()
            wait_until(lambda: plc.is_ready and plc.state is not None and plc.state.boot == 2, START_S)
            belt.wait_for(25)
        plc.wait_decided()
        assert line.stop(second) == 0
        accepted = {trg for trg, decision in plc.decisions.items() if decision.accepted}
    _one_row_per_trigger(line, belt.triggers)
    rows = line.rows()
    assert {row.boot for row in rows} == {1, 2}
    assert ErrorCode.MISSED_TRIGGER in {row.err for row in rows}
    assert accepted <= {row.trg for row in rows if row.verdict == Verdict.OK}
    seen = [row.trg for row in rows if row.err != ErrorCode.MISSED_TRIGGER]
    assert seen == sorted(seen)


def test_after_an_outage_of_the_broker_no_stale_verdict_is_sent_as_a_result(line: Line) -> None:
    line.values["cameras"] = [{"name": "line", "kind": "simulated", "period_s": 0.1}]
    line.values["mqtt"]["window_ms"] = WINDOW_MS
    before = Witness(line.broker.port)
    worker = line.start()
    wait_until(lambda: len(before.of(line.topics.result)) > 5, START_S)
    line.broker.kill()
    rows_at_outage = len(line.rows())
    before.close()
    time.sleep(OUTAGE_S)
    assert len(line.rows()) > rows_at_outage + OUTAGE_S / 0.1 / 2, "the inspection did not go on without a broker"
    worker.send_signal(signal.SIGSTOP)  # the witness must listen before the worker is back
    line.broker.restart()
    after = Witness(line.broker.port)
    worker.send_signal(signal.SIGCONT)
    wait_until(lambda: len(after.of(line.topics.result)) > 5, 30)
    wait_until(lambda: line.outbox_size() < 10, 60)
    assert line.stop(worker) == 0
    after.close()
    rows = line.rows()
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    assert line.outbox_size() == 0
    for topic, payload, _, _ in after.messages:
        if topic == line.topics.result:
            assert results_age_ms(payload) <= WINDOW_MS
    seen = results(before, line.topics.result)
    live = {one.seq for one in seen + results(after, line.topics.result)}
    late = {one.seq for one in results(after, line.topics.late)}
    assert len(late) > OUTAGE_S / 0.1 / 2
    # a broker takes with it what it had acknowledged and not handed on when it was killed
    buried = set(range(max(one.seq for one in seen) - 1, rows_at_outage + 2))
    assert {row.seq for row in rows} - (live | late) <= buried
    details = before.of(line.topics.detail) + after.of(line.topics.detail)
    told = {int(payload.split(b'"seq":')[1].split(b",")[0]) for payload in details}
    assert {row.seq for row in rows} - told <= buried


def results_age_ms(payload: bytes) -> int:
    """What the station itself says: `lat` is the age when the verdict was sent."""
    return int(payload.split(b'"lat":')[1].split(b",")[0])


def test_a_product_change_in_mid_run_loses_no_part_and_names_the_recipe_of_each_verdict(line: Line) -> None:
    with line.plc("flange") as plc:
        worker = started(line, plc)
        with Belt(plc, "flange", PERIOD_S) as belt:
            for kind in ("gear", "flange", "gear"):
                belt.wait_for(15)
                plc.select_recipe(line.taught[kind])
                belt.kind = kind
            belt.wait_for(15)
        plc.wait_decided()
        assert line.stop(worker) == 0
        decisions = plc.decisions
    rows = line.rows()
    _one_row_per_trigger(line, belt.triggers)
    scored = [row for row in rows if row.verdict != Verdict.NONE]
    assert {row.err for row in rows if row.verdict == Verdict.NONE} <= {ErrorCode.ABORTED}
    thresholds = {row.recipe_id: row.threshold for row in scored}
    assert len(set(thresholds.values())) == 2
    assert all(row.threshold == thresholds[row.recipe_id] for row in scored)
    changes = [row.recipe_id for row, last in zip(scored[1:], scored, strict=False) if row.recipe_id != last.recipe_id]
    assert len(changes) == 3
    for decision in decisions.values():
        if decision.accepted:
            row = next(row for row in rows if row.trg == decision.trg)
            assert row.verdict == Verdict.OK
            assert decision.result is not None
            assert decision.result.rcp == row.detail["rcp"]


def test_while_the_database_is_locked_no_part_passes_and_no_row_is_lost(line: Line) -> None:
    with line.plc("flange") as plc:
        worker = started(line, plc)
        with Belt(plc, "flange", PERIOD_S) as belt:
            belt.wait_for(10)
            thief = sqlite3.connect(line.config.database_url.removeprefix("sqlite:///"), isolation_level=None)
            thief.execute("BEGIN IMMEDIATE")
            time.sleep(4.0)
            first_locked = belt.triggers[-20]
            thief.execute("ROLLBACK")
            thief.close()
            wait_until(lambda: plc.is_ready, 20)
            belt.wait_for(10)
        plc.wait_decided()
        assert line.stop(worker) == 0
        decisions = plc.decisions
    _one_row_per_trigger(line, belt.triggers)
    rows = {row.trg: row for row in line.rows()}
    assert rows[first_locked].err == ErrorCode.STORAGE
    for trg, decision in decisions.items():
        assert not decision.accepted or rows[trg].verdict == Verdict.OK
        if decision.result is not None:
            assert decision.result.res == rows[trg].verdict
    assert rows[belt.triggers[-1]].err == ErrorCode.NONE


def test_commands_are_answered_run_once_and_change_what_parts_get(line: Line) -> None:
    witness = Witness(line.broker.port)
    with line.plc("flange") as plc:
        worker = started(line, plc)
        assert plc.ping().code == AckCode.DONE
        assert plc.stop_station().code == AckCode.DONE
        stopped = plc.trigger("flange:00001")
        wait_until(line.rows)
        assert [(row.trg, row.verdict, row.err) for row in line.rows()] == [(stopped, 0, ErrorCode.ABORTED)]
        assert plc.start_station().code == AckCode.DONE
        plc.wait_ready()
        twice = b'{"v":1,"cid":77,"trg":2,"part":"flange:00002"}'
        witness.publish(line.topics.cmd("trigger"), twice)
        witness.publish(line.topics.cmd("trigger"), twice)
        witness.publish(line.topics.cmd("select_recipe"), b'{"v":1,"cid":78,"rcp":999}')
        witness.publish(line.topics.cmd("stop"), b'{"v":1,"cid":79}', retain=True)
        witness.publish(line.topics.cmd("nonsense"), b'{"v":1,"cid":80}')
        expected = {(77, 0), (78, AckCode.UNKNOWN_RECIPE), (80, AckCode.UNKNOWN_COMMAND)}
        wait_until(lambda: expected <= set(_acks(witness, line)))
        wait_until(lambda: len(line.rows()) == 2)
        with line.store() as store, store.write() as session:
            row = command_rows.submit(
                session,
                1,
                source="dashboard",
                cid=5,
                name="select_recipe",
                payload={"rcp": line.taught["gear"]},
                who="operator",
                now=line.rows()[0].captured_at,
            )
        wait_until(lambda: plc.state is not None and plc.state.rcp == line.taught["gear"])
        wait_until(lambda: _code(line, row.id) == AckCode.DONE)
        with line.store() as store, store.write() as session:
            barred = products.find_recipe(session, line.taught["flange"])
            assert barred is not None
            barred.report = {"escapes": [{"label": 1, "picture": "seen.png", "kind": "scratch", "score": 0.1}]}
        witness.publish(line.topics.cmd("select_recipe"), b'{"v":1,"cid":81,"rcp":%d}' % line.taught["flange"])
        wait_until(lambda: (81, AckCode.NOT_APPROVED) in _acks(witness, line))
        assert plc.state is not None
        assert plc.state.rcp == line.taught["gear"], "a revision that lets a confirmed defect pass was activated"
        assert line.stop(worker) == 0
        third = line.start()
        halted = (2, StationState.HALTED)  # the retained stop came to a station that was there, and was obeyed
        wait_until(lambda: plc.state is not None and (plc.state.boot, plc.state.st) == halted, START_S)
        assert plc.start_station().code == AckCode.DONE
        wait_until(lambda: plc.state is not None and plc.state.st == StationState.CONTINUOUS_EXECUTION)
        assert plc.state is not None
        assert plc.state.rcp == line.taught["gear"], "the active product is not kept over a restart"
        wait_until(lambda: (79, AckCode.RETAINED_REFUSED) in _acks(witness, line))
        assert line.stop(third) == 0
    witness.close()
    assert len(line.rows()) == 2


def test_a_station_that_was_halted_lets_no_part_pass_after_a_kill_until_it_is_reset_and_started(line: Line) -> None:
    with line.plc("flange") as plc:
        worker = started(line, plc)
        assert plc.command(Halt(cid=901)).code == AckCode.DONE
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        second = line.start()
        wait_until(
            lambda: plc.state is not None and (plc.state.boot, plc.state.st) == (2, StationState.HALTED), START_S
        )
        with Belt(plc, "flange", PERIOD_S) as belt:
            belt.wait_for(10)
            plc.wait_decided()
            assert plc.counts.accepted == 0
            assert plc.command(Start(cid=902)).code == AckCode.WRONG_STATE
            assert plc.command(Reset(cid=903)).code == AckCode.DONE
            assert plc.command(Start(cid=904)).code == AckCode.DONE
            wait_until(lambda: plc.counts.accepted > 0, 30)
        plc.wait_decided()
        assert line.stop(second) == 0
    _one_row_per_trigger(line, belt.triggers)


def _acks(witness: Witness, line: Line) -> list[tuple[int, int]]:
    import json

    return [(ack["cid"], ack["code"]) for ack in map(json.loads, witness.of(line.topics.ack))]


def _code(line: Line, command_id: int) -> int | None:
    with line.store() as store, store.read() as session:
        return command_rows.get_command(session, command_id).code


def test_a_long_absence_holds_up_no_part_and_a_kill_in_its_midst_loses_none(line: Line) -> None:
    with line.plc("flange") as plc:
        worker = started(line, plc)
        with Belt(plc, "flange", PERIOD_S) as belt:
            belt.wait_for(3)
        plc.wait_decided()
    far = belt.triggers[-1] + UNSEEN + 1
    with line.plc("flange", first_trigger=far) as plc:
        plc.wait_ready(START_S)
        with Belt(plc, "flange", PERIOD_S) as after:
            after.wait_for(20)
        plc.wait_decided()
        rows = line.rows()
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    assert ErrorCode.STORAGE not in {row.err for row in rows}
    assert len(rows) < UNSEEN, "the parts of the absence were to come after those that were there"
    second = line.start()
    total = after.triggers[-1]
    wait_until(lambda: len(line.rows()) >= total, 240)
    assert line.stop(second) == 0
    _one_row_per_trigger(line, list(range(1, total + 1)))
    unseen = [row for row in line.rows() if belt.triggers[-1] < row.trg < far]
    assert {(row.verdict, row.err) for row in unseen} == {(Verdict.NONE, ErrorCode.MISSED_TRIGGER)}
    assert {row.boot for row in unseen} == {1, 2}
