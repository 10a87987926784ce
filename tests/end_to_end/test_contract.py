"""What a whole line says beside the verdicts in text: the binary form, counters, receipts, commands."""

from inspector.contract.binary import unpack_result
from inspector.contract.codes import ErrorCode
from inspector.types import Verdict
from tests.brokers import Witness, wait_until
from tests.end_to_end.plant import Belt, Line, results, started

PERIOD_S = 0.1
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
