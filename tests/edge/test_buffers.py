"""The inbox never blocks, keeps order, and gives up the oldest part of the busiest camera."""

import pytest

from edge.buffers import Inbox
from inspector.contract.codes import ErrorCode
from tests.edge.part_maker import failed, part


def test_a_full_inbox_gives_up_its_oldest_part_in_place() -> None:
    inbox = Inbox(2)
    assert inbox.put(part(1)) is None
    assert inbox.put(part(2)) is None
    evicted = inbox.put(part(3))
    assert evicted is not None
    assert evicted.number == 1
    taken = inbox.take(10)
    assert [(p.number, p.failure) for p in taken] == [(1, ErrorCode.QUEUE_OVERFLOW), (2, 0), (3, 0)]
    assert taken[0].image is None
    assert inbox.evicted == 1


def test_a_busy_camera_cannot_push_out_another() -> None:
    inbox = Inbox(3)
    inbox.put(part(1, camera="slow"))
    for number in range(2, 10):
        inbox.put(part(number, camera="busy"))
    alive = [p for p in inbox.take(10) if not p.failed]
    assert [(p.camera, p.number) for p in alive] == [("slow", 1), ("busy", 8), ("busy", 9)]


def test_failed_parts_take_no_room_and_keep_their_place() -> None:
    inbox = Inbox(1)
    inbox.put(failed(1))
    inbox.put(part(2))
    inbox.put(failed(3))
    assert len(inbox) == 1
    assert [p.number for p in inbox.take(0)] == [1]
    assert [p.number for p in inbox.take(1)] == [2, 3]


def test_wait_returns_at_once_when_a_part_is_there_or_somebody_wakes_it() -> None:
    inbox = Inbox(1)
    inbox.wake()
    assert inbox.wait(60) is False
    inbox.put(part(1))
    assert inbox.wait(60) is True


def test_a_capacity_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Inbox(0)
