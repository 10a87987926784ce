"""What a whole line says beside the verdicts in text: the binary form, counters, receipts, commands."""

from dataclasses import replace

from inspector.contract.binary import unpack_result
from inspector.contract.codes import AckCode, ErrorCode, StationState
from inspector.contract.gate import Decision, Reason
from inspector.contract.messages import Abort, Alarms, CommandMessage, Confirm, Halt, Reset, Result, Start
from inspector.contract.reports import Stats
from inspector.contract.virtual_plc import PlcSettings, VirtualPlc
from inspector.types import Verdict
from tests.brokers import Witness, wait_until
from tests.end_to_end.plant import Belt, Line, results, started

PERIOD_S = 0.1
CID = 2**31
LONG = "a-part-id-of-more-than-24"


def test_a_plc_that_reads_the_binary_form_decides_as_one_that_reads_the_text(line: Line) -> None:
    line.values["mqtt"]["resultb"] = "big"
    witness = Witness(line.broker.port)
    with line.plc("flange", binary="big") as plc:
        worker = started(line, plc)
        with Belt(plc, "flange", PERIOD_S) as belt:
            belt.wait_for(10)
        plc.wait_decided()
        plc.trigger(LONG)
        wait_until(lambda: any(row.err == ErrorCode.PART_ID_TOO_LONG for row in line.rows()))
        plc.wait_decided()
        assert line.stop(worker) == 0
        accepted = {trg for trg, decision in plc.decisions.items() if decision.accepted}
    wait_until(lambda: len(witness.of(line.topics.of("resultb"))) >= len(line.rows()))
    witness.close()
    binary = [unpack_result(payload, "big") for payload in witness.of(line.topics.of("resultb"))]
    text = results(witness, line.topics.result)
    assert binary[:-1] == text[:-1]
    assert (binary[-1].part, text[-1].part, binary[-1].res) == ("", LONG, 0)
    assert accepted == {row.trg for row in line.rows() if row.verdict == Verdict.OK}


def test_abort_halt_and_reset_in_mid_run_lose_no_part_and_let_none_pass(line: Line) -> None:
    with line.plc("flange") as plc:
        worker = started(line, plc)
        cids = iter(range(CID, CID + 100))

        def command(model: type[CommandMessage]) -> int:
            return plc.command(model(cid=next(cids)), timeout_s=30).code

        def st() -> int:
            return -1 if plc.state is None else plc.state.st

        with Belt(plc, "flange", PERIOD_S) as belt:
            belt.wait_for(8)
            assert command(Abort) == AckCode.DONE
            wait_until(lambda: st() == StationState.HALTED)
            stopped = len(belt.triggers)
            belt.wait_for(4)
            assert command(Halt) == AckCode.DONE
            assert command(Start) == AckCode.WRONG_STATE
            assert command(Reset) == AckCode.DONE
            assert st() == StationState.HALTED
            resumed = len(belt.triggers)
            assert command(Start) == AckCode.DONE
            wait_until(lambda: st() == StationState.CONTINUOUS_EXECUTION)
            belt.wait_for(8)
        plc.wait_decided()
        wait_until(lambda: line.outbox_size() == 0)
        assert line.stop(worker) == 0
        accepted = {trg for trg, decision in plc.decisions.items() if decision.accepted}
    rows = line.rows()
    assert [row.trg for row in rows] == belt.triggers
    while_stopped = rows[stopped:resumed]
    assert {row.err for row in while_stopped} == {ErrorCode.ABORTED}
    assert not accepted & {row.trg for row in while_stopped}
    assert accepted & set(belt.triggers[resumed:])


def stats_of(witness: Witness, line: Line) -> Stats:
    """The newest `stats`."""
    wait_until(lambda: witness.of(line.topics.of("stats")), 60)
    return Stats.from_json(witness.of(line.topics.of("stats"))[-1])


def test_the_counters_of_a_shift_outlive_a_killed_worker(line: Line) -> None:
    witness = Witness(line.broker.port)
    with line.plc("flange") as plc:
        worker = started(line, plc)
        with Belt(plc, "flange", PERIOD_S) as belt:
            belt.wait_for(10)
        plc.wait_decided()
        wait_until(lambda: line.outbox_size() == 0)
        worker.kill()
        worker.wait()
        second = line.start()
        wait_until(lambda: stats_of(witness, line).boot == 2, 60)
        plc.wait_ready(60)
        with Belt(plc, "flange", PERIOD_S) as belt:
            belt.wait_for(5)
        plc.wait_decided()
        rows = line.rows()
        wait_until(lambda: plc.sync().code == AckCode.DONE and stats_of(witness, line).shift.n >= len(rows), 60)
        shift = stats_of(witness, line).shift
        assert line.stop(second) == 0
    late = Witness(line.broker.port, client_id="display")
    wait_until(lambda: late.of(line.topics.last) and late.of(line.topics.of("stats")))
    late.close()
    witness.close()
    assert Result.from_json(late.of(line.topics.last)[-1]).seq == rows[-1].seq
    counted = [sum(row.verdict == verdict for row in rows) for verdict in (1, 2, 3, 0)]
    assert [shift.ok, shift.ng, shift.und, shift.none] == counted
    assert shift.n == len(rows)


class _BrokenEjector(VirtualPlc):
    """A PLC whose rejects stay on the belt: what it decides is right, what it does is not."""

    def _send_receipt(self, decision: Decision) -> None:
        if decision.result is not None:
            decision = replace(decision, accepted=True, reason=Reason.OK)
        super()._send_receipt(decision)


def test_a_plc_that_lets_a_rejected_part_pass_is_told_by_alarm_703(line: Line) -> None:
    line.values["mqtt"]["receipt_s"] = 60.0
    alarms = Witness(line.broker.port, line.topics.alarm, client_id="operator")
    settings = PlcSettings(allow_simulated=True, timeout_s=20.0)

    def text() -> str:
        return "".join(payload.decode() for payload in alarms.of(line.topics.alarm)[-1:])

    with line.plc("flange") as plc:
        worker = started(line, plc)
        with Belt(plc, "flange", PERIOD_S) as belt:
            wait_until(lambda: {row.verdict for row in line.rows() if row.acc is not None} >= {1, 2}, 60)
        plc.wait_decided()
        wait_until(lambda: all(row.acc is not None for row in line.rows()), 30)
        assert {row.trg for row in line.rows() if row.acc} == {
            trg for trg, decision in plc.decisions.items() if decision.accepted
        }
        first = len(belt.triggers)
    assert '"err":703' not in text()
    broken = replace(settings, client_id="broken-plc", first_trigger=first + 1)
    with _BrokenEjector(line.config.mqtt, broken, wanted_rcp=line.taught["flange"]) as plc:
        plc.wait_ready(60)
        with Belt(plc, "flange", PERIOD_S):
            wait_until(lambda: '"err":703' in text(), 60)
        plc.wait_decided()
        told = next(one for one in Alarms.from_json(text().encode()).alarms if one.err == 703)
        assert told.src == "plc"
        wrong = [row for row in line.rows() if f"(trigger {row.trg}," in told.txt]
        assert [(row.acc, row.verdict == Verdict.OK) for row in wrong] == [(1, False)]
        assert plc.command(Confirm(cid=CID, alarm=703)).code == AckCode.DONE
        wait_until(lambda: '"err":703' not in text(), 60)
    assert line.stop(worker) == 0
    alarms.close()
