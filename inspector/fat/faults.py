"""The faults after which no bad part may be accepted, each played step by step.

May import the rest of the room. The first fifteen are the list of the contract, in its order. A part that gets an OK
here by `answer` is a bad one with a wrong OK: accepting it fails the fault. `good` parts must be accepted, so that a
PLC that accepts nothing fails, too.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from inspector.contract.codes import AckCode, ErrorCode, StationState
from inspector.contract.messages import I32_MIN, U16_MAX, U32_MAX, Trigger
from inspector.fat.bench import SETTLE_S, Bench, NotAcceptedError
from inspector.fat.observer import NotPossibleError, ThirdParty

DAY_S = 24 * 3600
HIGH_SEQ = 5000


@dataclass(frozen=True)
class Fault:
    """`why` says what a wrong PLC would do."""

    name: str
    why: str
    play: Callable[[Bench], None]


def broker_killed(bench: Bench) -> None:
    bench.good()
    flying = bench.part()
    bench.onset()
    bench.station.says_state = False
    try:
        passing = bench.unheard_part(bench.plc.kill_broker())
        bench.plc.restart_broker()
        bench.station.wait_connected()
        bench.observer.wait_connected()
        bench.station.beat()
        time.sleep(SETTLE_S)
        early = bench.part()
        bench.answer(early)  # before the station has said its state to the PLC that lost it
        bench.settle(early)
    finally:
        bench.station.says_state = True
    bench.station.say_state()
    bench.learn_lost_receipts(flying, passing)
    bench.recover()


def worker_killed(bench: Bench) -> None:
    bench.good()
    flying = bench.part()
    left_behind = bench.station.wire.payload(bench.station.verdict(flying.trg))
    bench.onset()
    bench.station.kill()
    if not bench.wait_until(lambda: bench.observer.state is not None and not bench.observer.state.on):
        bench.note("the broker did not say the last will of the killed station")
    time.sleep(SETTLE_S)
    bench.observer.publish(bench.station.verdicts, left_behind)  # what still lay in the broker's queue
    during = bench.part()
    bench.settle(flying, during)
    bench.station.begin_anew()
    bench.recover()


def duplicate(bench: Bench) -> None:
    sent = bench.good()
    bench.onset()
    waiting = bench.part()
    bench.repeated = 4
    for _ in range(3):
        bench.station.send_result(sent)
    bench.station.send_result(sent.model_copy(update={"trg": waiting.trg}))
    time.sleep(SETTLE_S)
    bench.close(waiting)
    bench.good()


def reordering(bench: Bench) -> None:
    bench.good()
    first = bench.part()
    second = bench.second_part()
    bench.onset()
    if second is None:
        bench.note("the PLC has one part on the way at a time: only an older seq for a later part was played")
    else:
        overtaken = bench.station.verdict(first.trg)
        second.good = True
        bench.answer(second)
        bench.station.send_result(overtaken)
        bench.expect_accepted(second)
    bench.station.seq += 10
    bench.good()
    older = bench.part()
    bench.answer(older, seq=bench.station.seq - 5)  # never used, and older than the last one
    bench.settle(first, older)
    bench.good()


def seq_wrap(bench: Bench) -> None:
    bench.station.restart(seq=U32_MAX - 3)
    bench.recover()
    bench.station.seq = U32_MAX - 2
    bench.onset()
    for _ in range(4):  # 2³²−2, 2³²−1, 1, 2
        bench.good()
    old = bench.part()
    bench.answer(old, seq=U32_MAX - 10)
    bench.settle(old)
    bench.good()


def boot_change(bench: Bench) -> None:
    bench.station.seq = max(bench.station.seq, HIGH_SEQ)
    bench.good()
    old_boot = bench.station.state.boot
    bench.onset()
    bench.station.restart()
    bench.recover()
    bench.good()
    of_the_old = bench.part()
    bench.answer(of_the_old, boot=old_boot, seq=bench.station.seq + 2 * HIGH_SEQ)
    of_a_next = bench.part()
    next_boot = bench.station.state.boot % U16_MAX + 1
    bench.answer(of_a_next, boot=next_boot, seq=bench.station.seq + 3 * HIGH_SEQ)  # its birth was never said
    bench.settle(of_the_old, of_a_next)
    bench.good()


def retained_result(bench: Bench) -> None:
    bench.good()
    topic = bench.station.verdicts
    with ThirdParty(bench.config, topic) as third:
        waiting = bench.part()
        forged = bench.station.verdict(waiting.trg, seq=bench.station.seq + 10)
        bench.onset()
        with bench.cut_plc():
            third.leave(topic, bench.station.wire.payload(forged))
        bench.settle(waiting)
    bench.station.seq += 10
    if not waiting.receipts:
        raise NotPossibleError("the PLC's timer ended before it was connected again: set a longer one for this test")
    bench.recover()


def late_verdict(bench: Bench) -> None:
    bench.good()
    late = bench.part()
    bench.onset()
    verdict = bench.station.verdict(late.trg)
    bench.ledger.wait_decided([late], bench.plc.timeout_s + 1.0)
    waiting = bench.part()
    bench.station.send_result(verdict)
    time.sleep(SETTLE_S)
    bench.close(waiting)
    bench.settle(late)
    bench.good()


def odd_part_ids(bench: Bench) -> None:
    longest = "x" * bench.station.wire.part_length
    bench.good(part=longest, scr=I32_MIN, lat=U16_MAX, roi=U16_MAX, ts=U32_MAX, ms=999)
    broken = bench.part()
    bench.onset()
    ok = bench.station.verdict(broken.trg)
    for payload in bench.station.wire.spoilt(ok, ok.model_copy(update={"res": 2})):
        bench.station.send_raw(payload)
    bench.settle(broken)
    bench.good(part="")


def product_change(bench: Bench) -> None:
    bench.good()
    wanted = bench.station.state.rcp
    other = wanted % U16_MAX + 1
    flying = bench.part()
    bench.station.keeps_product = True
    bench.onset()
    try:
        bench.station.say_state(st=int(StationState.PREPARING))
        bench.answer(flying, res=0, err=int(ErrorCode.ABORTED))
        preparing = bench.part()
        bench.answer(preparing)
        bench.settle(flying, preparing)
        bench.station.say_state(st=int(StationState.CONTINUOUS_EXECUTION), rcp=other)
        of_the_other = bench.part()
        bench.answer(of_the_other)
        of_the_old = bench.part()
        bench.answer(of_the_old, rcp=wanted)
        bench.settle(of_the_other, of_the_old)
    finally:
        bench.station.say_state(st=int(StationState.CONTINUOUS_EXECUTION), rcp=wanted)
        bench.station.keeps_product = False
    bench.recover()
    mixed = bench.part()
    bench.answer(mixed, rcp=other)
    bench.settle(mixed)
    bench.good()


def clock_jump(bench: Bench) -> None:
    now_s = int(time.time())
    bench.good()
    bench.onset()
    for ts in (now_s + 3600, now_s - 3600, now_s + 3650 * DAY_S, now_s - 3650 * DAY_S, 0, U32_MAX):
        bench.good(ts=min(ts, U32_MAX))
    late = bench.part()
    verdict = bench.station.verdict(late.trg, ts=min(now_s + 3650 * DAY_S, U32_MAX))
    bench.ledger.wait_decided([late], bench.plc.timeout_s + 1.0)
    bench.station.send_result(verdict)  # late, and from the future
    time.sleep(SETTLE_S)
    bench.settle(late)
    bench.good()


def two_in_one_cycle(bench: Bench) -> None:
    bench.good()
    bad = bench.part()
    good = bench.second_part()
    bench.onset()
    if good is None:
        bench.note("the PLC has one part on the way at a time: both verdicts were for the same part")
    else:
        good.good = True
    messages = [bench.station.verdict(bad.trg, res=2), bench.station.verdict((good or bad).trg)]
    for message in messages:
        bench.station.send_result(message)
    bench.settle(bad)
    if good is not None:
        bench.expect_accepted(good)
    twice = bench.part()
    for message in [bench.station.verdict(twice.trg, res=2), bench.station.verdict(twice.trg)]:
        bench.station.send_result(message)
    time.sleep(SETTLE_S)
    bench.settle(twice)
    bench.good()


def retained_command(bench: Bench) -> None:
    bench.good()
    topic = bench.station.topics.cmd("trigger")
    with ThirdParty(bench.config, topic) as third:
        waiting = bench.part()
        third.leave(topic, Trigger(cid=waiting.trg, trg=waiting.trg, part="RETAINED").to_json())
        bench.onset()
        refused = len(bench.station.refused)
        bench.station.restart()
        if not bench.wait_until(lambda: AckCode.RETAINED_REFUSED in bench.station.refused[refused:]):
            raise NotAcceptedError("the station did not refuse the retained command with code 14")
        bench.settle(waiting)
    bench.recover()


def old_last_will(bench: Bench) -> None:
    bench.good()
    old = bench.station.state
    bench.station.restart()
    bench.recover()
    bench.onset()
    bench.observer.publish(bench.station.topics.state, old.as_offline().to_json(), retain=True)
    time.sleep(SETTLE_S)
    bench.good()
    bench.observer.publish(bench.station.topics.state, old.to_json(), retain=True)
    time.sleep(SETTLE_S)
    of_the_old = bench.part()
    bench.answer(of_the_old, boot=old.boot, seq=bench.station.seq + HIGH_SEQ)
    time.sleep(SETTLE_S)
    bench.good()
    bench.settle(of_the_old)
    bench.station.say_state()
    bench.good()


def frozen_camera(bench: Bench) -> None:
    bench.good()
    bench.onset()
    bench.station.frozen_since_s = time.monotonic() - DAY_S
    bench.station.say_state(err=int(ErrorCode.FROZEN_FRAME))
    bench.station.beat()
    frozen = bench.part()
    bench.answer(frozen, res=0, err=int(ErrorCode.FROZEN_FRAME))
    bench.settle(frozen)
    lying = bench.part()
    bench.station.send_result(bench.station.verdict(lying.trg), err=int(ErrorCode.FROZEN_FRAME))
    bench.settle(lying)
    bench.station.frozen_since_s = None
    bench.station.say_state(err=0)
    bench.station.beat()
    bench.good()


def silent_loop(bench: Bench) -> None:
    bench.good()
    topic = bench.station.topics.hb
    with ThirdParty(bench.config, topic) as third:
        beat = bench.station.heartbeat()
        third.leave(topic, beat.to_json())
        bench.station.beat()  # the last one; what was left is older
        bench.onset()
        try:
            bench.be_silent()
            silent = bench.part()
            bench.answer(silent)
            bench.settle(silent)
            try:
                bench.plc.cut_connection()  # it finds the old state, on = 1, and a heartbeat, both retained
            except NotPossibleError as error:
                bench.note(f"an old retained state and heartbeat were not played: {error}")
            else:
                time.sleep(2 * SETTLE_S)
                found = bench.part()
                bench.answer(found)
                bench.settle(found)
        finally:
            bench.station.beats = True
            bench.station.beat()
    bench.recover()


def no_plain_ok(bench: Bench) -> None:
    bench.good()
    bench.onset()
    verdicts: list[dict[str, Any]] = [{"res": res} for res in (0, 2, 3)]
    verdicts += [{"flg": flag} for flag in (1, 2, 4, 32, 64, 128, 2**15)]
    verdicts += [{"res": 0, "err": int(ErrorCode.DEADLINE_MISSED)}, {"res": 2, "err": int(ErrorCode.INTERNAL)}]
    for changes in verdicts:
        part = bench.part()
        bench.answer(part, **changes)
        bench.settle(part)
    raw = bench.part()
    bench.station.send_result(bench.station.verdict(raw.trg), err=int(ErrorCode.DEADLINE_MISSED))
    bench.station.send_result(bench.station.verdict(raw.trg), v=2)
    other = bench.second_part()
    if other is not None:
        for trg in ((other.trg + 1000) % U32_MAX, 0):
            bench.station.send_result(bench.station.verdict(trg))
        time.sleep(SETTLE_S)
        bench.close(other)
    bench.settle(raw)
    bench.good()


FAULTS = (
    Fault("broker killed and restarted", "trusts what it knew before the connection was lost", broker_killed),
    Fault("worker killed with -9", "takes a verdict that the dead worker left behind", worker_killed),
    Fault("duplicate", "gives a repeated verdict to the next part", duplicate),
    Fault("reordering", "takes a verdict that another one has overtaken", reordering),
    Fault("seq wrap", "compares seq as a plain number", seq_wrap),
    Fault("boot change", "ignores boot, or keeps the old seq", boot_change),
    Fault("retained result of a third party", "takes a retained message for a fresh one", retained_result),
    Fault("late verdict", "has no timer of its own, or gives the verdict to the next part", late_verdict),
    Fault("oversize and non-ASCII part ids", "reads a broken message half", odd_part_ids),
    Fault("product change with parts in flight", "compares neither state nor rcp", product_change),
    Fault("clock jump", "believes the time in the message", clock_jump),
    Fault("two verdicts within one PLC cycle", "reads only the last message of a cycle", two_in_one_cycle),
    Fault("retained command", "trusts an answer to a command that is not its own", retained_command),
    Fault("old last will after a new birth", "believes an old state", old_last_will),
    Fault("frozen camera with a living process", "takes the heartbeat for a verdict", frozen_camera),
    Fault("silent heartbeat with a living connection", "asks for no heartbeat, or takes a retained one", silent_loop),
    Fault("verdict that is no plain OK", "ignores res, err, flags or trg", no_plain_ok),
)
"""The list of the contract in its order, then two of ours."""
