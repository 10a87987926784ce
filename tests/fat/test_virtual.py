"""The virtual PLC passes the acceptance test; a PLC that says nothing is unknown."""

import json
from datetime import UTC, datetime

import pytest

from inspector.contract.binary import ByteOrder
from inspector.contract.gate import AcceptanceGate, Decision, GateSettings
from inspector.contract.virtual_plc import VirtualPlc
from inspector.fat.faults import FAULTS
from inspector.fat.opponents import VirtualOpponent
from inspector.fat.report import conclusion, write_html
from inspector.fat.run import FatResult, Outcome, Status, run

pytestmark = pytest.mark.any_payload  # broken messages are sent on purpose
CONTRACT = [
    "broker killed and restarted", "worker killed with -9", "duplicate", "reordering", "seq wrap", "boot change",
    "retained result of a third party", "late verdict", "oversize and non-ASCII part ids",
    "product change with parts in flight", "clock jump", "two verdicts within one PLC cycle", "retained command",
    "old last will after a new birth", "frozen camera with a living process",
]  # fmt: skip


def test_the_virtual_plc_passes_every_fault_of_the_contract() -> None:
    told: list[tuple[int, str, Status | None]] = []

    result = run(
        VirtualOpponent(rcp=3),
        rcp=3,
        say=lambda place, fault, outcome: told.append((place, fault.name, outcome and outcome.status)),
    )

    assert [outcome.name for outcome in result.outcomes][:15] == CONTRACT
    assert [(outcome.status, outcome.reason) for outcome in result.outcomes] == [(Status.PASSED, "")] * len(FAULTS)
    assert result.passed
    assert all(outcome.bad_accepted == 0 for outcome in result.outcomes)
    assert all(outcome.bad_parts >= 1 and outcome.parts > outcome.bad_parts for outcome in result.outcomes)
    assert all(outcome.safe_s is not None for outcome in result.outcomes)
    duplicates = next(outcome for outcome in result.outcomes if outcome.name == "duplicate")
    assert duplicates.duplicates_sent == duplicates.duplicates_dropped == 4
    assert told[:2] == [(1, CONTRACT[0], None), (1, CONTRACT[0], Status.PASSED)]
    assert len(told) == 2 * len(FAULTS)


@pytest.mark.parametrize("order", ["little", "big"])
def test_the_virtual_plc_passes_every_fault_in_the_binary_form_too(order: ByteOrder) -> None:
    result = run(VirtualOpponent(rcp=3, binary=order), rcp=3)

    assert [(outcome.status, outcome.reason) for outcome in result.outcomes] == [(Status.PASSED, "")] * len(FAULTS)
    assert result.verdicts == f"64 bytes on resultb, {order} endian"
    assert all(outcome.bad_parts >= 1 and outcome.parts > outcome.bad_parts for outcome in result.outcomes)


def test_a_plc_that_reads_the_other_form_accepts_no_good_part_and_fails() -> None:
    faults = [fault for fault in FAULTS if fault.name == "duplicate"]
    gate = AcceptanceGate(GateSettings(byte_order="big"), wanted_rcp=3)
    [outcome] = run(VirtualOpponent(rcp=3, binary="little", gate=gate), rcp=3, faults=faults).outcomes
    assert (outcome.status, outcome.bad_accepted) == (Status.FAILED, 0)


def test_a_plc_that_sends_no_receipt_is_unknown_and_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VirtualPlc, "_send_receipt", lambda *_: None)
    monkeypatch.setattr(VirtualOpponent, "first_part_s", 1.0)

    result = run(VirtualOpponent(rcp=1), rcp=1)

    assert not result.passed
    assert result.count(Status.UNKNOWN) == len(FAULTS)
    assert conclusion(result) == "Unknown: no answer: the PLC triggered parts, but sent no receipt on disp."
    told = result.to_json()
    assert (told["passed"], told["failed"], told["unknown"]) == (False, 0, len(FAULTS))
    assert {fault["passed"] for fault in told["faults"]} == {None}


def test_receipts_that_do_not_fit_the_contract_are_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def send_nonsense(self: VirtualPlc, decision: Decision) -> None:
        self.link.publish(self.topics.of("disp"), b'{"trg":%d,"accepted":true}' % decision.trg, qos=1)

    monkeypatch.setattr(VirtualPlc, "_send_receipt", send_nonsense)
    monkeypatch.setattr(VirtualOpponent, "first_part_s", 1.0)

    result = run(VirtualOpponent(rcp=1), rcp=1)

    assert result.count(Status.UNKNOWN) == len(FAULTS)
    assert "messages on disp, but none that fits the contract" in conclusion(result)


def outcome(name: str, status: Status, **changes: object) -> Outcome:
    values: dict[str, object] = {
        "name": name, "why": "does <so>", "status": status, "reason": "", "notes": (), "safe_s": None, "back_s": None,
        "bad_accepted": 0, "parts": 3, "bad_parts": 1, "duplicates_sent": 0, "duplicates_dropped": None,
    }  # fmt: skip
    return Outcome(**{**values, **changes})  # type: ignore[arg-type]


def result_of(*outcomes: Outcome) -> FatResult:
    return FatResult(
        "real PLC",
        "10.0.0.5:1883",
        "plant/<4>/vis1",
        "JSON on result",
        3,
        2.0,
        datetime(2026, 11, 21, tzinfo=UTC),
        35.2,
        outcomes,
    )


def test_the_report_says_what_passed_failed_and_was_not_run_and_escapes_what_it_is_given() -> None:
    result = result_of(
        outcome("duplicate", Status.PASSED, safe_s=0.3, duplicates_sent=4, duplicates_dropped=4),
        outcome("boot change", Status.FAILED, bad_accepted=2, reason="2 bad parts accepted"),
        outcome("broker killed", Status.NOT_RUN, reason="the broker is <the plant's>"),
    )

    text = write_html(result, UTC)

    assert conclusion(result) == "Failed: 1 of 3 faults passed, 1 failed, 1 not run; 2 bad parts were accepted."
    assert conclusion(result) in text
    assert "✓ passed" in text
    assert "✕ failed" in text
    assert "– not run" in text
    assert "0.30 s" in text
    assert "4, 4" in text
    assert "the broker is &lt;the plant&#x27;s&gt;" in text
    assert "plant/&lt;4&gt;/vis1" in text
    assert "<so>" not in text


def test_what_was_not_run_is_told_apart_and_alone_is_no_pass() -> None:
    passed, left_out = outcome("duplicate", Status.PASSED, safe_s=0.123456), outcome("boot change", Status.NOT_RUN)

    told = result_of(passed, left_out).to_json()

    assert (told["passed"], told["failed"], told["not_run"]) == (True, 0, 1)
    assert [fault["passed"] for fault in told["faults"]] == [True, None]
    assert told["faults"][0]["safe_s"] == 0.123
    assert json.loads(json.dumps(told)) == told
    assert not result_of(left_out).passed
    assert conclusion(result_of(passed, left_out)).startswith("Passed: 1 of 2 faults passed, 1 not run; no bad part")
