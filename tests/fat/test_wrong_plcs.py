"""A wrong PLC fails: one for each rule of the gate, made from the generated program by breaking that rule."""

import zlib

import pytest

from inspector.contract import gate as gate_module
from inspector.contract.binary import CRC_OFFSET, SIZE_BYTES, ByteOrder, unpack_result
from inspector.contract.gate import AcceptanceGate, GateSettings
from inspector.contract.messages import Result
from inspector.fat.faults import FAULTS
from inspector.fat.opponents import VIRTUAL_TIMEOUT_S, VirtualOpponent
from inspector.fat.run import FatResult, Status, run
from tests.plccode.interpreted import InterpretedGate
from tests.plccode.mutants import MUTANTS, READS_AN_OK_WITH_AN_ERROR, broken

pytestmark = pytest.mark.any_payload  # broken messages are sent on purpose
RCP = 1
FOUND_BY = {
    "ignores boot": "boot change",
    "accepts a retained result": "retained result of a third party",
    "takes a retained heartbeat": "silent heartbeat with a living connection",
    "asks for no heartbeat": "silent heartbeat with a living connection",
    "waits four periods": "silent heartbeat with a living connection",
    "has no timer of its own": "late verdict",
    "takes an older seq": "reordering",
    "cannot wrap seq": "seq wrap",
    "forgets duplicates": "duplicate",
    "ignores err": "verdict that is no plain OK",
    "ignores flags": "verdict that is no plain OK",
    "passes UNDECIDED": "verdict that is no plain OK",
    "ignores the wanted product": "product change with parts in flight",
    "ignores the station's state": "product change with parts in flight",
    "takes any trigger": "late verdict",
    "believes an old will": "old last will after a new birth",
    "keeps seq over a boot": "boot change",
    "keeps what it knew when the connection goes": "broker killed and restarted",
}
REJECTS_GOOD_PARTS = {"cannot wrap seq", "believes an old will", "keeps seq over a boot"}
"""Their fault is not that a bad part passes, but that no good one does."""
SECOND_RULE = {
    "forgets duplicates": MUTANTS["takes an older seq"],
    "ignores err": READS_AN_OK_WITH_AN_ERROR,
}
"""What else must be broken, because another rule stands behind the first one."""


def play(gate: AcceptanceGate, *names: str) -> FatResult:
    opponent = VirtualOpponent(rcp=RCP, gate=gate)
    return run(opponent, rcp=RCP, faults=[fault for fault in FAULTS if not names or fault.name in names])


def test_every_mutant_of_the_generated_program_is_here() -> None:
    assert set(FOUND_BY) == set(MUTANTS)
    assert set(FOUND_BY.values()) <= {fault.name for fault in FAULTS}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_plc_that_breaks_one_rule_fails(mutant: str) -> None:
    changes = [MUTANTS[mutant], *([SECOND_RULE[mutant]] if mutant in SECOND_RULE else [])]
    gate = InterpretedGate(broken(*changes), GateSettings(VIRTUAL_TIMEOUT_S), wanted_rcp=RCP)

    [outcome] = play(gate, FOUND_BY[mutant]).outcomes

    assert outcome.status is Status.FAILED, outcome
    assert (outcome.bad_accepted == 0) is (mutant in REJECTS_GOOD_PARTS), outcome


def test_the_generated_program_itself_passes_every_fault() -> None:
    gate = InterpretedGate(broken(), GateSettings(VIRTUAL_TIMEOUT_S), wanted_rcp=RCP)

    result = play(gate)

    assert result.passed, result.outcomes
    assert result.count(Status.PASSED) == len(FAULTS)


def test_a_plc_that_accepts_no_good_part_fails() -> None:
    result = play(AcceptanceGate(GateSettings(VIRTUAL_TIMEOUT_S), wanted_rcp=RCP + 1), "duplicate", "seq wrap")

    assert not result.passed
    assert result.count(Status.FAILED) == 2
    assert all(outcome.bad_accepted == 0 for outcome in result.outcomes)
    assert "no good part was accepted" in result.outcomes[0].reason


HASTY = {
    "ignores the check sum": lambda data: data[:CRC_OFFSET] + zlib.crc32(data[:CRC_OFFSET]).to_bytes(4, "little"),
    "ignores the size": lambda data: data[:SIZE_BYTES].ljust(SIZE_BYTES, b"\0"),
}
"""What a wrong PLC makes of the bytes before it reads them."""


@pytest.mark.parametrize("hasty", HASTY)
def test_a_plc_that_reads_the_binary_form_hastily_fails(hasty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(data: bytes, order: ByteOrder) -> Result:
        return unpack_result(HASTY[hasty](data), order)

    monkeypatch.setattr(gate_module, "unpack_result", read)
    faults = [fault for fault in FAULTS if fault.name == "oversize and non-ASCII part ids"]
    [outcome] = run(VirtualOpponent(rcp=RCP, binary="little"), rcp=RCP, faults=faults).outcomes
    assert (outcome.status, outcome.bad_accepted) == (Status.FAILED, 1), outcome
