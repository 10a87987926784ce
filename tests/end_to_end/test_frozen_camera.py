"""A frozen camera with a living process: the heartbeat goes on, the gate would accept, and the station gives no OK."""

from inspector.contract.codes import ErrorCode
from inspector.contract.messages import Heartbeat
from inspector.types import Verdict
from tests.brokers import Witness, wait_until
from tests.end_to_end.plant import Belt, Line, started


def test_a_frozen_camera_lets_no_part_pass_although_the_station_lives(line: Line) -> None:
    line.values["cameras"] = [
        {"name": "line", "kind": "simulated", "trigger": "mqtt", "defect_rate": 0.0, "faults": {"frozen": 1.0}}
    ]
    witness = Witness(line.broker.port)
    with line.plc("flange") as plc:
        worker = started(line, plc)
        with Belt(plc, "flange", 0.2) as belt:
            belt.wait_for(12)
        plc.wait_decided()
        assert plc.is_ready  # nothing but the verdicts tells the PLC
        wait_until(lambda: len(line.rows()) == len(belt.triggers), 60)
        assert line.stop(worker) == 0
        decisions = plc.decisions
    witness.close()

    rows = line.rows()
    assert {(row.verdict, row.err) for row in rows[1:]} == {(Verdict.NONE, ErrorCode.FROZEN_FRAME)}
    assert not any(decisions[row.trg].accepted for row in rows[1:])
    ages_ms = [Heartbeat.from_json(payload).age for payload in witness.of(line.topics.hb)]
    assert max(ages_ms) > 1000  # the repeated picture is no new frame
