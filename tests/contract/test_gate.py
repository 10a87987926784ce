"""The acceptance gate: nothing but a fresh, explicit, matching OK lets a part pass."""

from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from inspector.config import MqttConfig
from inspector.contract.codes import Flag
from inspector.contract.gate import AcceptanceGate, Decision, GateSettings, Reason, boot_is_newer
from inspector.contract.messages import U32_MAX, Heartbeat, Result, State
from inspector.contract.virtual_plc import PlcSettings, VirtualPlc

RCP = 3


def state(**changes: Any) -> bytes:
    values = {"on": 1, "st": 7, "mode": 0, "boot": 7, "rcp": RCP, "rev": 1, "err": 0, "win": 2000, "hbp": 1000, "ts": 5}
    return State(**{**values, **changes}).to_json()


def heartbeat(boot: int = 7) -> bytes:
    return Heartbeat(boot=boot, n=1, st=7, age=0, q=0, seq=0).to_json()


def result(trg: int, seq: int, **changes: Any) -> bytes:
    values: dict[str, Any] = {
        "boot": 7, "seq": seq, "trg": trg, "res": 1, "err": 0, "flg": 0, "rcp": RCP, "rev": 1, "scr": 500, "roi": 0,
        "lat": 30, "ts": 5, "ms": 0, "part": "",
    }  # fmt: skip
    return Result(**{**values, **changes}).to_json()


def ready_gate(now: float = 0.0, **options: Any) -> AcceptanceGate:
    gate = AcceptanceGate(GateSettings(**options), wanted_rcp=RCP)
    assert gate.feed("state", state(), retained=True, now=now) == []
    assert gate.feed("hb", heartbeat(), retained=False, now=now) == []
    return gate


def answer(gate: AcceptanceGate, payload: bytes, *, retained: bool = False, now: float = 0.1) -> list[Decision]:
    return gate.feed("result", payload, retained=retained, now=now)


def test_a_fresh_matching_ok_lets_the_part_pass() -> None:
    gate = ready_gate()
    gate.trigger(1, 0.0)

    [decision] = answer(gate, result(1, 1))

    assert decision.accepted
    assert decision.latency_s == pytest.approx(0.1)
    assert (gate.counts.accepted, gate.counts.rejected, gate.counts.triggers) == (1, 0, 1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"res": 0}, Reason.NOT_OK),
        ({"res": 2}, Reason.NOT_OK),
        ({"res": 3}, Reason.NOT_OK),
        ({"res": 0, "err": 501}, Reason.ERROR),
        ({"rcp": RCP + 1}, Reason.WRONG_RECIPE),
        *(({"flg": flag}, Reason.BLOCKING_FLAG) for flag in (1, 2, 4, 32, 64, 128, 2**15, 4 | 8)),
    ],
)
def test_a_verdict_that_is_not_a_plain_ok_rejects_the_part_at_once(changes: dict[str, Any], reason: Reason) -> None:
    gate = ready_gate()
    gate.trigger(1, 0.0)

    [decision] = answer(gate, result(1, 1, **changes))

    assert not decision.accepted
    assert decision.reason is reason


@pytest.mark.parametrize("kind", ["last", "late", "detail", "stats"])
def test_a_copy_of_a_verdict_for_displays_or_the_record_decides_nothing(kind: str) -> None:
    gate = ready_gate()
    gate.trigger(1, 0.0)

    assert gate.feed(kind, result(1, 1), retained=False, now=0.1) == []
    assert gate.open_triggers == (1,)


def test_the_virtual_plc_hears_verdicts_in_one_form_and_no_copies_of_them() -> None:
    for binary, kind in ((None, "result"), ("big", "resultb")):
        plc = VirtualPlc(MqttConfig(), PlcSettings(binary=binary))
        heard = {plc.topics.kind(topic) for topic, _ in plc.link._identity.subscriptions}
        assert heard == {kind, "state", "hb", "ack"}


def test_a_warning_about_the_picture_does_not_block_a_good_part() -> None:
    gate = ready_gate()
    gate.trigger(1, 0.0)

    assert answer(gate, result(1, 1, flg=int(Flag.QUALITY_WARNING | Flag.REINSPECTED)))[0].accepted


def test_simulated_verdicts_pass_only_where_the_line_is_simulated() -> None:
    for allowed in (True, False):
        gate = ready_gate(allow_simulated=allowed)
        gate.feed("state", state(mode=1), retained=False, now=0.0)
        gate.trigger(1, 0.0)
        assert answer(gate, result(1, 1, flg=int(Flag.SIMULATED)))[0].accepted is allowed


@pytest.mark.parametrize(
    "station", [*({"st": st} for st in (1, 2, 3, 4, 8)), {"on": 0, "st": 0}, {"rcp": 9}, {"mode": 4}]
)
def test_no_part_passes_while_the_station_is_not_ready_for_the_wanted_product(station: dict[str, Any]) -> None:
    gate = ready_gate()
    gate.feed("state", state(**station), retained=False, now=0.0)
    gate.trigger(1, 0.0)

    assert not gate.is_ready(0.0)
    assert not answer(gate, result(1, 1))[0].accepted


def test_a_gate_without_a_wanted_product_lets_nothing_pass() -> None:
    gate = ready_gate()
    gate.wanted_rcp = None
    gate.trigger(1, 0.0)

    assert answer(gate, result(1, 1))[0].reason is Reason.WRONG_RECIPE


def test_a_part_without_a_verdict_is_rejected_when_the_own_timer_runs_out() -> None:
    gate = ready_gate(timeout_s=0.5)
    gate.trigger(1, 0.0)

    assert gate.poll(0.5) == []
    [decision] = gate.poll(0.51)

    assert decision.reason is Reason.MISSING
    assert (gate.counts.rejected, gate.counts.missing) == (1, 1)


def test_a_late_verdict_never_lets_its_part_pass() -> None:
    gate = ready_gate(timeout_s=0.5)
    gate.trigger(1, 0.0)

    [decision] = answer(gate, result(1, 1), now=0.6)

    assert (decision.accepted, decision.reason) == (False, Reason.MISSING)
    assert gate.counts.foreign == 1


def test_no_part_passes_without_a_heartbeat_of_the_last_three_periods() -> None:
    gate = ready_gate(timeout_s=60)
    gate.trigger(1, 0.0)
    gate.trigger(2, 0.0)

    assert answer(gate, result(1, 1), now=3.0)[0].accepted
    assert answer(gate, result(2, 2), now=3.1)[0].reason is Reason.NO_HEARTBEAT


def test_a_retained_heartbeat_is_no_sign_of_life() -> None:
    gate = ready_gate(timeout_s=60)
    gate.feed("hb", heartbeat(), retained=True, now=5.0)

    assert not gate.is_ready(5.0)


def test_a_duplicate_is_dropped_and_counted() -> None:
    gate = ready_gate()
    gate.trigger(1, 0.0)

    assert len(answer(gate, result(1, 1))) == 1
    assert answer(gate, result(1, 1)) == []
    assert (gate.counts.duplicates, gate.counts.accepted) == (1, 1)


def test_two_verdicts_within_one_cycle_decide_two_parts() -> None:
    gate = ready_gate()
    gate.trigger(1, 0.0)
    gate.trigger(2, 0.0)

    decisions = answer(gate, result(1, 1, res=2)) + answer(gate, result(2, 2))

    assert [(decision.trg, decision.accepted) for decision in decisions] == [(1, False), (2, True)]


def test_a_second_verdict_for_a_decided_trigger_changes_nothing() -> None:
    gate = ready_gate()
    gate.trigger(1, 0.0)

    assert not answer(gate, result(1, 1, res=2))[0].accepted
    assert answer(gate, result(1, 2)) == []
    assert (gate.counts.foreign, gate.counts.accepted) == (1, 0)


def test_an_overtaken_verdict_is_stale_and_its_part_is_rejected() -> None:
    gate = ready_gate(timeout_s=0.5)
    gate.trigger(1, 0.0)
    gate.trigger(2, 0.0)

    assert answer(gate, result(2, 2))[0].accepted
    assert answer(gate, result(1, 1)) == []
    assert gate.counts.stale == 1
    assert [decision.reason for decision in gate.poll(1.0)] == [Reason.MISSING]


def test_an_old_verdict_for_a_trigger_number_that_is_used_again_does_not_pass_the_next_part() -> None:
    gate = ready_gate(timeout_s=0.5)
    gate.trigger(1, 0.0)
    answer(gate, result(1, 10))
    gate.trigger(1, 1.0)  # the PLC's counter was reset

    assert answer(gate, result(1, 10), now=1.1) == []
    assert answer(gate, result(1, 9), now=1.1) == []
    assert (gate.counts.duplicates, gate.counts.stale) == (1, 1)
    assert gate.open_triggers == (1,)


def test_seq_wraps_without_a_lost_part() -> None:
    gate = ready_gate()
    for trg, seq in enumerate((U32_MAX - 1, U32_MAX, 1, 2), start=1):
        gate.trigger(trg, 0.0)
        assert answer(gate, result(trg, seq))[0].accepted


def test_a_retained_result_is_refused_and_does_not_decide() -> None:
    gate = ready_gate()
    gate.trigger(1, 0.0)

    assert answer(gate, result(1, 1), retained=True) == []
    assert gate.counts.retained == 1
    assert answer(gate, result(1, 1, res=2))[0].reason is Reason.NOT_OK


def test_a_verdict_for_another_trigger_is_foreign() -> None:
    gate = ready_gate()
    gate.trigger(1, 0.0)

    assert answer(gate, result(2, 1)) == []
    assert answer(gate, result(0, 2)) == []
    assert gate.counts.foreign == 2


def test_a_verdict_of_an_earlier_boot_is_stale() -> None:
    gate = ready_gate()
    gate.trigger(1, 0.0)

    assert answer(gate, result(1, 1, boot=6)) == []
    assert gate.counts.stale == 1


def test_after_a_new_boot_seq_starts_anew_and_the_heartbeat_must_come_again() -> None:
    gate = ready_gate()
    gate.trigger(1, 0.0)
    answer(gate, result(1, 500))

    gate.feed("state", state(boot=8), retained=False, now=0.2)
    assert not gate.is_ready(0.2)
    gate.feed("hb", heartbeat(boot=8), retained=False, now=0.3)
    gate.trigger(2, 0.3)

    assert answer(gate, result(2, 1, boot=8), now=0.4)[0].accepted


def test_an_old_last_will_after_a_new_birth_is_recognised_by_its_boot() -> None:
    gate = ready_gate()
    gate.feed("state", state(boot=8), retained=False, now=0.0)
    gate.feed("hb", heartbeat(boot=8), retained=False, now=0.0)

    gate.feed("state", state(boot=7, on=0, st=0), retained=False, now=0.1)

    assert gate.is_ready(0.1)
    assert gate.counts.stale == 1
    gate.feed("state", state(boot=8, on=0, st=0), retained=False, now=0.2)
    assert not gate.is_ready(0.2)


def test_the_boot_counter_wraps_from_65535_to_1() -> None:
    assert boot_is_newer(1, 65535)
    assert not boot_is_newer(65535, 1)
    assert not boot_is_newer(7, 7)


def test_a_station_that_lost_its_boot_counter_is_believed_only_after_silence() -> None:
    gate = ready_gate()
    gate.feed("state", state(boot=1), retained=False, now=1.0)
    assert gate.state is not None
    assert gate.state.boot == 7

    gate.feed("state", state(boot=1), retained=False, now=10.0)
    gate.feed("hb", heartbeat(boot=1), retained=False, now=10.0)
    assert gate.is_ready(10.0)


def test_after_a_lost_connection_the_station_must_speak_again() -> None:
    gate = ready_gate()
    gate.forget_station()
    assert not gate.is_ready(0.1)

    gate.feed("state", state(), retained=True, now=0.2)
    assert not gate.is_ready(0.2)
    gate.feed("hb", heartbeat(), retained=False, now=0.3)
    assert gate.is_ready(0.3)


GOOD = result(1, 1)


@pytest.mark.parametrize("payload", [b"", b"{}", b"\xff", GOOD.replace(b'"v":1', b'"v":2'), GOOD + b" "])
def test_a_payload_that_is_no_result_is_counted_and_does_not_decide(payload: bytes) -> None:
    gate = ready_gate()
    gate.trigger(1, 0.0)

    assert answer(gate, payload) == []
    assert gate.counts.malformed == 1
    assert gate.open_triggers == (1,)


def test_a_trigger_that_is_open_cannot_be_opened_again() -> None:
    gate = ready_gate()
    gate.trigger(1, 0.0)

    with pytest.raises(ValueError, match="not open"):
        gate.trigger(1, 0.1)


def test_what_is_open_when_the_plc_stops_is_rejected() -> None:
    gate = ready_gate()
    gate.trigger(1, 0.0)

    assert [decision.accepted for decision in gate.close(0.1)] == [False]
    assert gate.counts.rejected == 1


DEVIATIONS: list[dict[str, Any]] = [
    {},
    {},
    {},
    *({"boot": boot} for boot in (6, 8)),
    *({"res": res, "err": err} for res, err in ((0, 0), (2, 0), (3, 0), (0, 501), (2, 201))),
    *({"flg": flg} for flg in (4, 8, 64)),
    {"rcp": 9},
    {"trg": 0},
]
RESULTS = st.builds(
    lambda trg, seq, deviation: result(**{"trg": trg, "seq": seq, **deviation}),
    st.integers(1, 2),
    st.sampled_from([1, 2, 3, 4, 5, 6, U32_MAX - 1, U32_MAX]),
    st.sampled_from(DEVIATIONS),
)
STATES = st.builds(
    lambda code, boot, rcp: state(on=int(code > 0), st=code, boot=boot, rcp=rcp),
    st.sampled_from([7, 7, 5, 0, 8]),
    st.sampled_from([7, 7, 6, 8]),
    st.sampled_from([RCP, RCP, 9]),
)
HEARTBEATS = (heartbeat(6), heartbeat(7), heartbeat(8))
STEPS = st.one_of(
    st.tuples(st.just("trigger"), st.integers(1, 2), st.just(False)),
    st.tuples(st.just("result"), RESULTS, st.booleans()),
    st.tuples(st.just("result"), RESULTS, st.just(False)),
    st.tuples(st.just("state"), STATES, st.booleans()),
    st.tuples(st.just("hb"), st.sampled_from(HEARTBEATS), st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from([0.01, 0.3, 0.6, 4.0]), st.booleans()),
    st.tuples(st.sampled_from(["result", "state", "hb"]), st.binary(max_size=40), st.booleans()),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, min_size=10, max_size=60))
def test_whatever_comes_each_trigger_has_one_decision_and_only_a_fresh_matching_ok_passes(steps: list[Any]) -> None:
    gate, now = ready_gate(timeout_s=0.5), 0.0
    opened: dict[int, float] = {}
    heard = {6: -99.0, 7: 0.0, 8: -99.0}
    used: set[tuple[int, int]] = set()
    decided = 0
    for kind, what, retained in steps:
        made: list[Decision] = []
        if kind == "wait":
            now += what
            made = gate.poll(now) if retained else []  # a cycle may be late
        elif kind == "trigger":
            if what not in opened:
                gate.trigger(what, now)
                opened[what] = now
        else:
            made = gate.feed(kind, what, retained=retained, now=now)
            if kind == "hb" and not retained and what in HEARTBEATS:
                heard[6 + HEARTBEATS.index(what)] = now
        for decision in made:
            since = opened.pop(decision.trg)  # KeyError: a second decision, or one without a trigger
            decided += 1
            if decision.accepted:
                passed, station = decision.result, gate.state
                assert passed is not None
                assert station is not None
                assert (kind, retained, passed.to_json()) == ("result", False, what)
                assert now - since <= 0.5
                assert (passed.res, passed.err, passed.rcp, passed.trg) == (1, 0, RCP, decision.trg)
                assert passed.flg & ~int(Flag.QUALITY_WARNING | Flag.REINSPECTED) == 0
                assert (passed.boot, station.rcp) == (station.boot, RCP)
                assert station.st in (5, 6, 7)
                assert now - heard[passed.boot] <= 3.0
                assert (passed.boot, passed.seq) not in used
                used.add((passed.boot, passed.seq))
    event(f"accepted {min(gate.counts.accepted, 3)}")
    assert decided + len(gate.close(now)) == gate.counts.triggers == gate.counts.accepted + gate.counts.rejected
