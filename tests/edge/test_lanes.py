"""The two lanes: what may be sent when, judged with a plain list as the broker and a given time."""

from collections import Counter
from typing import Any, Literal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge.lanes import LIVE_QUEUE_SIZE, RETRY_S, Lanes, LiveVerdict, OutboxMessage, Outgoing
from inspector.contract.binary import unpack_result
from inspector.contract.codes import Flag
from inspector.contract.messages import Result
from inspector.contract.session import Token

WINDOW_S = 2.0


def verdict(row_id: int, captured: float = 0.0) -> LiveVerdict:
    return LiveVerdict(Result.from_json(result_row(row_id).payload.encode()), row_id, captured)


def result_row(row_id: int) -> OutboxMessage:
    message = Result(
        boot=1, seq=row_id, trg=row_id, res=1, err=0, flg=0, rcp=1, rev=1, scr=1, roi=0, lat=0, ts=1, ms=0, part="p"
    )
    return OutboxMessage(row_id, "result", message.to_json().decode())


class Wire:
    """Takes messages as a session does; `open` False is a lost connection."""

    def __init__(self) -> None:
        self.open = True
        self.session = 1
        self.sent: list[tuple[Token, Outgoing]] = []

    def send(self, message: Outgoing) -> Token | None:
        if not self.open:
            return None
        self.sent.append((Token(self.session, len(self.sent) + 1), message))
        return self.sent[-1][0]

    def of(self, kind: str) -> list[tuple[Token, Outgoing]]:
        return [(token, message) for token, message in self.sent if message.kind == kind]


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def lanes() -> Lanes:
    return Lanes(WINDOW_S, utc_s=lambda: 1.0)


def test_a_fresh_verdict_goes_out_with_its_latency_and_the_rest_of_the_window_as_expiry(
    lanes: Lanes, wire: Wire
) -> None:
    lanes.offer(verdict(1, captured=10.0))
    lanes.pump_live(10.05, wire.send)

    [(_, message)] = wire.of("result")
    assert Result.from_json(message.payload).lat == 50
    assert (message.qos, message.retain) == (1, False)
    assert message.expiry_s == pytest.approx(1.95)
    [(_, last)] = wire.of("last")
    assert (last.qos, last.retain, last.payload) == (0, True, message.payload)


def test_late_verdict_is_never_published_as_fresh(lanes: Lanes, wire: Wire) -> None:
    lanes.offer(verdict(1, captured=0.0))
    lanes.pump_live(WINDOW_S + 0.001, wire.send)
    lanes.replace_rows([result_row(1)], complete=True)
    lanes.pump_records(WINDOW_S + 0.001, wire.send)

    assert wire.of("result") == []
    [(_, late)] = wire.of("late")
    assert Result.from_json(late.payload).flg == Flag.LATE


def test_a_missed_trigger_of_a_long_absence_need_not_wait_for_the_window(lanes: Lanes, wire: Wire) -> None:
    waits = result_row(1)
    missed = Result.from_json(waits.payload.encode()).model_copy(update={"res": 0, "err": 104, "seq": 2})
    told = [OutboxMessage(2, "result", missed.to_json().decode())]
    told.append(OutboxMessage(3, "result", missed.model_copy(update={"flg": int(Flag.LATE)}).to_json().decode()))
    lanes.replace_rows([waits, *told], complete=True)
    lanes.pump_records(0.0, wire.send)
    assert [message.payload for _, message in wire.of("late")] == [told[1].payload.encode()]
    lanes.pump_records(WINDOW_S + 0.001, wire.send)
    assert len(wire.of("late")) == 3


def test_what_was_in_flight_when_the_connection_died_goes_out_again_in_order_while_it_is_young(
    lanes: Lanes, wire: Wire
) -> None:
    for row_id in (1, 2, 3):
        lanes.offer(verdict(row_id))
    lanes.pump_live(0.1, wire.send)
    lanes.lose(1)
    wire.session = 2
    lanes.pump_live(0.5, wire.send)

    assert [Result.from_json(m.payload).seq for _, m in wire.of("result")] == [1, 2, 3, 1, 2, 3]


def test_what_was_in_flight_when_the_connection_died_goes_to_late_when_it_is_old(lanes: Lanes, wire: Wire) -> None:
    lanes.offer(verdict(1))
    lanes.pump_live(0.1, wire.send)
    lanes.lose(1)
    lanes.pump_live(3.0, wire.send)
    lanes.replace_rows([result_row(1)], complete=True)
    lanes.pump_records(3.0, wire.send)

    assert len(wire.of("result")) == 1
    assert len(wire.of("late")) == 1


def test_a_loss_that_is_heard_late_does_not_take_back_what_the_next_session_has_sent(lanes: Lanes, wire: Wire) -> None:
    wire.session = 2
    lanes.offer(verdict(1))
    lanes.pump_live(0.1, wire.send)
    lanes.lose(1)
    lanes.pump_live(0.2, wire.send)

    assert len(wire.of("result")) == 1


def test_an_acknowledged_live_verdict_clears_its_row_and_is_not_sent_for_the_record(lanes: Lanes, wire: Wire) -> None:
    lanes.offer(verdict(1))
    lanes.pump_live(0.1, wire.send)
    lanes.replace_rows([result_row(1)], complete=True)
    lanes.acknowledge(wire.of("result")[0][0], True, 0.2)

    assert lanes.take_acknowledged() == [1]
    lanes.pump_records(9.0, wire.send)
    assert wire.of("late") == []
    lanes.replace_rows([], complete=True)
    assert lanes.is_idle


def test_rows_the_store_could_not_delete_are_given_again_for_deletion_and_not_sent_again(
    lanes: Lanes, wire: Wire
) -> None:
    detail = OutboxMessage(1, "detail", "{}")
    lanes.replace_rows([detail], complete=True)
    lanes.pump_records(0.0, wire.send)
    lanes.acknowledge(wire.sent[0][0], True, 0.1)
    lanes.clearing_failed(lanes.take_acknowledged())
    lanes.replace_rows([detail], complete=True)
    lanes.pump_records(0.2, wire.send)

    assert len(wire.sent) == 1
    assert lanes.take_acknowledged() == [1]


def test_a_row_that_is_being_deleted_is_not_sent_again(lanes: Lanes, wire: Wire) -> None:
    lanes.replace_rows([OutboxMessage(1, "detail", "{}")], complete=True)
    lanes.pump_records(0.0, wire.send)
    lanes.acknowledge(wire.sent[0][0], True, 0.1)
    assert lanes.take_acknowledged() == [1]
    lanes.pump_records(0.2, wire.send)

    assert len(wire.sent) == 1


def test_a_result_row_that_nobody_offered_is_sent_as_late_after_a_whole_window(lanes: Lanes, wire: Wire) -> None:
    lanes.replace_rows([result_row(1)], complete=True)
    for now in (0.0, 1.0, WINDOW_S - 0.01):
        lanes.pump_records(now, wire.send)
    assert wire.sent == []

    lanes.pump_records(WINDOW_S, wire.send)
    assert len(wire.of("late")) == 1


def test_at_most_a_window_of_records_is_unacknowledged_and_the_order_is_kept(lanes: Lanes, wire: Wire) -> None:
    lanes.replace_rows([OutboxMessage(n, "detail", str(n)) for n in range(1, 51)], complete=True)
    lanes.pump_records(0.0, wire.send)
    assert len(wire.sent) == 20

    for token, _ in wire.sent[:5]:
        lanes.acknowledge(token, True, 0.1)
    lanes.pump_records(0.1, wire.send)

    assert [message.payload for _, message in wire.sent] == [str(n).encode() for n in range(1, 26)]


def test_a_refused_message_is_tried_again_after_a_pause(lanes: Lanes, wire: Wire) -> None:
    lanes.replace_rows([OutboxMessage(1, "detail", "{}")], complete=True)
    lanes.pump_records(0.0, wire.send)
    lanes.acknowledge(wire.sent[0][0], False, 0.1)
    lanes.pump_records(0.2, wire.send)
    assert len(wire.sent) == 1

    lanes.pump_records(0.2 + RETRY_S, wire.send)
    assert len(wire.sent) == 2
    assert lanes.take_acknowledged() == []


def test_a_row_that_is_no_message_stays_in_the_outbox_and_does_not_stop_the_others(lanes: Lanes, wire: Wire) -> None:
    lanes.replace_rows([OutboxMessage(1, "result", "garbage"), OutboxMessage(2, "detail", "{}")], complete=True)
    for now in (0.0, 3.0, 6.0):
        lanes.pump_records(now, wire.send)

    assert [message.kind for _, message in wire.sent] == ["detail"]
    assert lanes.counts.malformed == 1


def test_the_live_lane_is_bounded_and_the_rest_is_for_the_record(lanes: Lanes, wire: Wire) -> None:
    for row_id in range(1, LIVE_QUEUE_SIZE + 2):
        lanes.offer(verdict(row_id))

    assert lanes.counts.live_overflow == 1


def test_the_margin_is_what_the_verdicts_of_the_last_five_minutes_left_of_the_window(lanes: Lanes, wire: Wire) -> None:
    assert lanes.margin(0.0) is None
    for row_id in range(1, 201):
        lanes.offer(verdict(row_id, captured=100.0 - (1.5 if row_id == 1 else 0.25)))
    lanes.pump_live(100.0, wire.send)
    told = lanes.margin(101.0)
    assert told is not None
    assert (told.least_s, told.p99_s, told.verdicts) == (0.5, 1.75, 200)

    lanes.offer(verdict(201, captured=200.0))
    lanes.pump_live(203.0, wire.send)
    assert lanes.margin(203.0) is not None
    assert lanes.margin(203.0).least_s == -1.0  # type: ignore[union-attr]  # it went to `late`
    assert lanes.margin(503.5) is None


@pytest.fixture
def both() -> Lanes:
    return Lanes(WINDOW_S, "big")


def test_the_binary_form_says_the_same_and_follows_the_same_rules(both: Lanes, wire: Wire) -> None:
    both.offer(verdict(1, captured=10.0))
    both.pump_live(10.05, wire.send)

    [(_, text)], [(_, binary)] = wire.of("result"), wire.of("resultb")
    assert unpack_result(binary.payload, "big") == Result.from_json(text.payload)
    assert (binary.qos, binary.retain, binary.expiry_s) == (1, False, text.expiry_s)

    both.offer(verdict(2, captured=10.0))
    both.pump_live(10.0 + WINDOW_S + 0.001, wire.send)
    assert len(wire.of("resultb")) == 1


def test_a_verdict_is_delivered_when_both_forms_are_acknowledged(both: Lanes, wire: Wire) -> None:
    both.offer(verdict(1))
    both.pump_live(0.1, wire.send)
    both.acknowledge(wire.of("result")[0][0], True, 0.2)
    assert both.take_acknowledged() == []
    both.acknowledge(wire.of("resultb")[0][0], True, 0.2)
    assert both.take_acknowledged() == [1]


@pytest.mark.parametrize(("refused", "taken"), [("result", "resultb"), ("resultb", "result")])
def test_a_verdict_of_which_a_form_was_refused_goes_on_for_the_record(
    both: Lanes, wire: Wire, refused: str, taken: str
) -> None:
    both.offer(verdict(1))
    both.pump_live(0.1, wire.send)
    both.acknowledge(wire.of(refused)[0][0], False, 0.2)
    both.acknowledge(wire.of(taken)[0][0], True, 0.3)
    assert both.take_acknowledged() == []

    both.replace_rows([result_row(1)], complete=True)
    both.pump_records(0.4, wire.send)
    assert wire.of("late") == []
    both.pump_records(0.2 + RETRY_S, wire.send)
    both.acknowledge(wire.of("late")[0][0], True, 6.0)
    assert both.take_acknowledged() == [1]
    both.replace_rows([], complete=True)
    assert both.is_idle


def test_a_lost_binary_form_is_sent_again_while_it_is_young_and_never_when_it_is_old(both: Lanes, wire: Wire) -> None:
    both.offer(verdict(1))
    both.pump_live(0.1, wire.send)
    both.acknowledge(wire.of("result")[0][0], True, 0.2)
    both.lose(1)
    wire.session = 2
    both.pump_live(0.5, wire.send)
    assert len(wire.of("resultb")) == 2

    both.lose(2)
    both.pump_live(WINDOW_S + 0.1, wire.send)
    assert len(wire.of("resultb")) == 2


def test_a_connection_without_room_for_the_binary_form_gets_it_later_and_the_text_once(both: Lanes, wire: Wire) -> None:
    both.offer(verdict(1))
    both.pump_live(0.1, lambda message: None if message.kind == "resultb" else wire.send(message))
    assert wire.of("resultb") == []
    both.acknowledge(wire.of("result")[0][0], True, 0.2)
    both.pump_live(0.3, wire.send)

    assert (len(wire.of("result")), len(wire.of("resultb"))) == (1, 1)
    both.acknowledge(wire.of("resultb")[0][0], True, 0.4)
    assert both.take_acknowledged() == [1]


class AnyInterleaving(RuleBasedStateMachine):
    """Commits, acknowledgements, losses and time in any order, with a store that keeps its rows until told."""

    byte_order: Literal["little"] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.lanes = Lanes(WINDOW_S, self.byte_order)
        self.wire = Wire()
        self.now = 0.0
        self.rows: dict[int, OutboxMessage] = {}
        self.captured: dict[int, float] = {}
        self.acknowledged: Counter[int] = Counter()
        self.open_tokens: list[Token] = []
        self.row_of: dict[Token, int] = {}
        self.offered: set[int] = set()

    def send(self, message: Outgoing) -> Token | None:
        token = self.wire.send(message)
        if token is None:
            return None
        if message.kind in ("result", "resultb", "late"):
            binary = message.kind == "resultb"
            seq = (unpack_result(message.payload, "little") if binary else Result.from_json(message.payload)).seq
            if message.kind != "late":
                assert self.now - self.captured[seq] <= WINDOW_S
                assert not message.retain
            else:
                assert self.now - self.captured[seq] > WINDOW_S or seq not in self.offered
            self.row_of[token] = seq
            self.open_tokens.append(token)
        elif message.kind == "detail":
            self.row_of[token] = int(message.payload)
            self.open_tokens.append(token)
        return token

    @rule(offered=st.booleans(), age=st.sampled_from([0.0, 1.0, 3.0]))
    def commit(self, offered: bool, age: float) -> None:
        result_id = len(self.captured) * 2 + 1
        self.captured[result_id] = self.now - age
        self.rows[result_id] = result_row(result_id)
        self.rows[result_id + 1] = OutboxMessage(result_id + 1, "detail", str(result_id + 1))
        if offered:
            self.offered.add(result_id)
            self.lanes.offer(verdict(result_id, self.captured[result_id]))

    @rule(limit=st.sampled_from([1, 5, 100]))
    def read(self, limit: int) -> None:
        rows = [self.rows[row_id] for row_id in sorted(self.rows)][:limit]
        self.lanes.replace_rows(rows, complete=len(rows) < limit)

    @rule()
    def pump(self) -> None:
        self.lanes.pump_live(self.now, self.send)
        self.lanes.pump_records(self.now, self.send, window=5)

    @rule(which=st.integers(0, 9), accepted=st.sampled_from([True, True, True, False]))
    def answer(self, which: int, accepted: bool) -> None:
        if self.open_tokens:
            token = self.open_tokens.pop(which % len(self.open_tokens))
            self.acknowledged[self.row_of[token]] += accepted
            self.lanes.acknowledge(token, accepted, self.now)

    @rule()
    def lose(self) -> None:
        self.lanes.lose(self.wire.session)
        self.wire.session += 1
        self.open_tokens.clear()

    @rule(fails=st.booleans())
    def clear(self, fails: bool) -> None:
        ids = self.lanes.take_acknowledged()
        if fails:
            self.lanes.clearing_failed(ids)
            return
        for row_id in ids:
            assert self.acknowledged[row_id] > 0
            self.rows.pop(row_id, None)

    @rule(seconds=st.sampled_from([0.1, 1.0, 3.0]), open_=st.booleans())
    def wait(self, seconds: float, open_: bool) -> None:
        self.now += seconds
        self.wire.open = open_

    @invariant()
    def no_unacknowledged_message_is_lost(self) -> None:
        for row_id in range(1, 2 * len(self.captured) + 1):
            assert row_id in self.rows or self.acknowledged[row_id] > 0

    def teardown(self) -> None:
        """However it went, in the end the outbox empties."""
        self.wire.open = True
        for _ in range(20 + len(self.rows)):
            self.now += 3.0
            self.read(100)
            self.pump()
            while self.open_tokens:
                self.answer(0, True)
            self.clear(False)
        assert self.rows == {}


TestAnyInterleaving: Any = AnyInterleaving.TestCase
TestAnyInterleaving.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


class AnyInterleavingOfBothForms(AnyInterleaving):
    """The same with `resultb` switched on."""

    byte_order = "little"

    @rule(seconds=st.sampled_from([0.1, 3.0]))
    def no_room_for_the_second_form(self, seconds: float) -> None:
        self.lanes.pump_live(self.now, lambda message: None if message.kind == "resultb" else self.send(message))
        self.now += seconds


TestAnyInterleavingOfBothForms: Any = AnyInterleavingOfBothForms.TestCase
TestAnyInterleavingOfBothForms.settings = TestAnyInterleaving.settings
