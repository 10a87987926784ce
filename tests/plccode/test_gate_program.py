"""The generated gate, run from its own text, decides as the virtual PLC's gate does."""

from collections import Counter

import pytest

from inspector.contract.gate import REMEMBERED_RESULTS, Reason
from inspector.contract.messages import Heartbeat, Result, State
from inspector.contract.plccode.dialects import DialectName
from inspector.contract.plccode.tables import OPEN_TRIGGERS
from tests.plccode.mutants import MUTANTS, broken
from tests.plccode.rig import GatePlan, Twins, program_of
from tests.plccode.sequences import RCP, Line

BLOCK = 100
SEQUENCES = [("st", first) for first in range(0, 1000, BLOCK)] + [("scl", first) for first in range(0, 200, BLOCK)]
DIALECT_NAMES: list[DialectName] = ["st", "scl"]


@pytest.mark.parametrize(("dialect", "first"), SEQUENCES)
def test_random_sequences_are_decided_as_by_the_virtual_plc(dialect: DialectName, first: int) -> None:
    reasons: Counter[Reason] = Counter()
    for seed in range(first, first + BLOCK):
        twins = Line(program_of(dialect), dialect, seed).run()
        assert not twins.faults, f"seed {seed}: {twins.faults}"
        reasons += twins.reference.counts.reasons
        counts = twins.reference.counts
        assert counts.triggers == counts.accepted + counts.rejected

    assert min(reasons[reason] for reason in Reason) >= 10, reasons


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_gate_that_breaks_one_rule_is_found_by_the_same_sequences(mutant: str) -> None:
    program = broken(MUTANTS[mutant])

    assert any(Line(program, "st", seed).run().faults for seed in range(200))


def ready_twins(dialect: DialectName, plan: GatePlan | None = None) -> Twins:
    twins = Twins(program_of(dialect), dialect, plan or GatePlan(), wanted_rcp=RCP)
    twins.feed("state", state())
    twins.feed("hb", beat())
    return twins


def state() -> bytes:
    return State(on=1, st=7, mode=0, boot=7, rcp=RCP, rev=1, err=0, win=2000, hbp=1000, ts=5).to_json()


def beat() -> bytes:
    return Heartbeat(boot=7, n=1, st=7, age=0, q=0, seq=0).to_json()


def verdict(trg: int, seq: int, boot: int = 7) -> bytes:
    values = {"res": 1, "err": 0, "flg": 0, "rcp": RCP, "rev": 1, "scr": 1, "roi": 0, "lat": 1, "ts": 1, "ms": 0}
    return Result(boot=boot, seq=seq, trg=trg, **values).to_json()


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_the_memory_of_duplicates_goes_round_as_the_virtual_plc_s_does(dialect: DialectName) -> None:
    twins = ready_twins(dialect)
    numbers = range(1, REMEMBERED_RESULTS + 20)
    for seq in numbers:
        twins.feed("result", verdict(0, seq, boot=8))
    for seq in numbers:
        twins.feed("result", verdict(0, seq, boot=8))

    assert not twins.faults
    assert twins.reference.counts.stale == 2 * len(numbers)  # each one had been forgotten just before it came again


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_a_heartbeat_of_weeks_ago_is_not_fresh_when_the_clock_begins_anew(dialect: DialectName) -> None:
    twins = ready_twins(dialect)
    for _ in range(100):
        twins.now_ms += 12 * 3600 * 1000
        twins.tick()
        assert not twins.memory["Ready"]

    assert not twins.faults


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_a_part_too_many_is_refused_and_the_others_keep_their_verdict(dialect: DialectName) -> None:
    twins = ready_twins(dialect)
    for trg in range(1, OPEN_TRIGGERS + 2):
        twins.trigger(trg)
    assert twins.memory["Refused"]
    for trg in range(1, OPEN_TRIGGERS + 2):
        twins.feed("result", verdict(trg, trg))

    assert not twins.faults
    assert twins.accepted == OPEN_TRIGGERS


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_the_work_of_one_call_is_bounded(dialect: DialectName) -> None:
    twins = ready_twins(dialect)
    for seq in range(1, REMEMBERED_RESULTS + 1):
        twins.feed("result", verdict(0, seq, boot=8))
    most = 0
    for payload in (verdict(1, 9), b'{"v":1,' + b"0" * 233, b"x" * 3000, state(), beat()):
        for kind in ("result", "resultb", "state", "hb"):
            before = twins.program.iterations
            twins.feed(kind, payload)
            most = max(most, twins.program.iterations - before)

    assert most < 1500, most
