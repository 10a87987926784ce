"""Triggers between two threads: in order, bounded, none lost in silence."""

import threading

import pytest

from edge.cameras import Trigger, TriggerQueue


def test_triggers_come_out_in_the_order_in_which_they_came() -> None:
    triggers = TriggerQueue()
    assert all(triggers.put(number, f"p{number}") for number in (3, 1, 2))
    assert [triggers.get(0) for _ in range(4)] == [Trigger(3, "p3"), Trigger(1, "p1"), Trigger(2, "p2"), None]


def test_a_full_queue_says_so_and_keeps_what_waits() -> None:
    triggers = TriggerQueue(capacity=2)
    assert [triggers.put(number) for number in (1, 2, 3)] == [True, True, False]
    assert triggers.waiting == 2
    assert [trigger.trg for trigger in triggers.drain()] == [1, 2]
    assert triggers.waiting == 0


@pytest.mark.parametrize("trg", [-1, 2**32])
def test_a_trigger_that_is_no_unsigned_32_bit_number_is_refused(trg: int) -> None:
    with pytest.raises(ValueError, match="32-bit"):
        TriggerQueue().put(trg)


def test_an_empty_queue_is_not_taken_for_no_queue() -> None:
    assert TriggerQueue()


def test_a_queue_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity"):
        TriggerQueue(capacity=0)


def test_no_trigger_is_lost_or_doubled_between_threads() -> None:
    triggers, refused = TriggerQueue(capacity=8), []

    def plc(first: int) -> None:
        for number in range(first, first + 500):
            if not triggers.put(number):
                refused.append(number)

    threads = [threading.Thread(target=plc, args=(first,)) for first in (0, 1000)]
    for thread in threads:
        thread.start()
    got = []
    while (trigger := triggers.get(0.05)) is not None or any(thread.is_alive() for thread in threads):
        if trigger is not None:
            got.append(trigger.trg)
    assert sorted(got + refused) == [*range(500), *range(1000, 1500)]


def test_a_trigger_that_was_given_back_is_the_next_one_also_when_the_queue_is_full() -> None:
    triggers = TriggerQueue(capacity=1)
    triggers.put(1)
    first = triggers.get(0)
    assert first is not None
    triggers.put(2)
    triggers.give_back(first)
    assert [trigger.trg for trigger in triggers.drain()] == [1, 2]
