"""When a batch closes, and what may be in it; each line of the reliability page is a test."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.batching import Batcher
from edge.buffers import Inbox
from edge.deadlines import Deadlines
from edge.parts import Part
from inspector.contract.codes import ErrorCode
from tests.edge.part_maker import failed, part


def _batcher(*parts: Part, max_batch: int = 4, max_age_s: float = 0.02) -> Batcher:
    batcher = Batcher(max_batch, max_age_s)
    for each in parts:
        batcher.add(each)
    return batcher


def _numbers(batcher: Batcher, now: float, *, on_the_way: bool = True, part_s: float = 0.0) -> list[int] | None:
    batch = batcher.poll(now, on_the_way=on_the_way, part_s=part_s)
    return None if batch is None else [each.number for each in batch.parts]


def test_a_batch_closes_on_size() -> None:
    batcher = _batcher(part(1), part(2), part(3), max_batch=2)
    assert _numbers(batcher, 0.0) == [1, 2]
    assert _numbers(batcher, 0.0) is None


def test_a_batch_closes_on_the_age_of_its_oldest_part() -> None:
    batcher = _batcher(part(1, at_s=0.0), part(2, at_s=0.019))
    assert _numbers(batcher, 0.0199) is None
    assert batcher.due_monotonic_s() == pytest.approx(0.02)
    assert _numbers(batcher, 0.02) == [1, 2]


def test_a_batch_closes_while_its_earliest_deadline_still_leaves_time_to_score() -> None:
    batcher = _batcher(part(1, deadline_s=1.0), part(2, deadline_s=0.1), max_age_s=10)
    assert _numbers(batcher, 0.06, part_s=0.01) is None
    assert _numbers(batcher, 0.07, part_s=0.01) == [1, 2]


def test_an_idle_device_does_not_wait_when_nothing_is_on_the_way() -> None:
    assert _numbers(_batcher(part(1), max_age_s=10), 0.0, on_the_way=False) == [1]


def test_a_batch_holds_one_epoch_only() -> None:
    batcher = _batcher(part(1, epoch=1), part(2, epoch=2), part(3, epoch=2))
    assert _numbers(batcher, 0.0) == [1]
    assert _numbers(batcher, 0.0, on_the_way=False) == [2, 3]


def test_failed_parts_are_answered_without_waiting_for_the_device() -> None:
    batcher = _batcher(failed(1), failed(2), part(3), failed(4), max_age_s=10)
    assert [_numbers(batcher, 0.0) for _ in range(3)] == [[1, 2], [3], [4]]


def test_a_part_whose_budget_is_over_is_not_scored() -> None:
    batcher = _batcher(part(1, deadline_s=0.5), part(2, deadline_s=5.0))
    batch = batcher.poll(0.5)
    assert batch is not None
    assert batch.failed
    assert [(each.number, each.failure) for each in batch.parts] == [(1, ErrorCode.DEADLINE_MISSED)]
    assert _numbers(batcher, 0.5) == [2]


def test_a_part_that_cannot_be_scored_in_time_makes_room_for_those_that_can() -> None:
    batcher = _batcher(part(1, deadline_s=0.5), part(2, deadline_s=5.0))
    batch = batcher.poll(0.4, part_s=0.2)
    assert batch is not None
    assert [(each.number, each.failure) for each in batch.parts] == [(1, ErrorCode.DEADLINE_MISSED)]
    assert _numbers(batcher, 0.4, part_s=0.2) == [2]


def test_a_batch_is_no_larger_than_its_earliest_deadline_allows() -> None:
    batcher = _batcher(part(1, deadline_s=1.0), part(2, deadline_s=1.0), part(3, deadline_s=1.0), part(4))
    assert _numbers(batcher, 0.2, part_s=0.3) == [1, 2]
    assert _numbers(batcher, 0.2, part_s=0.0) == [3, 4]


def test_an_empty_batcher_gives_nothing() -> None:
    batcher = Batcher(1, 0)
    assert batcher.poll(1e9) is None
    assert batcher.due_monotonic_s() is None


def test_a_batch_size_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="max_batch"):
        Batcher(0, 0.1)


Event = tuple[str, int]
EVENTS = st.lists(
    st.tuples(st.sampled_from(["frame", "bad", "swap", "pass", "poll", "take"]), st.integers(0, 2)), max_size=120
)


@given(
    events=EVENTS,
    max_batch=st.integers(1, 5),
    capacity=st.integers(1, 6),
    deadline_ms=st.integers(1, 40),
    part_ms=st.integers(0, 5),
)
def test_every_part_gets_one_verdict_in_order_and_no_batch_mixes_epochs(
    events: list[Event], max_batch: int, capacity: int, deadline_ms: int, part_ms: int
) -> None:
    inbox, deadlines, batcher = Inbox(capacity), Deadlines(), Batcher(max_batch, 0.005)
    now, epoch = 0.0, 0
    answered: list[Part] = []

    def poll(*, on_the_way: bool) -> bool:
        batch = batcher.poll(now, on_the_way=on_the_way, part_s=part_ms / 1000)
        if batch is None:
            return False
        assert len({each.epoch for each in batch.parts}) == 1 or batch.failed
        assert batch.failed or len(batch.parts) <= max_batch
        assert batch.failed or all(each.deadline_monotonic_s > now for each in batch.parts)
        for each in batch.parts:
            deadlines.close(each)
            answered.append(each)
        return True

    for event, choice in events:
        if event in ("frame", "bad"):
            make = part if event == "frame" else _bad
            seen = {"camera": "abc"[choice], "at_s": now, "deadline_s": deadline_ms / 1000, "epoch": epoch}
            inbox.put(deadlines.open(partial(make, **seen)))
        elif event == "swap":
            epoch += 1
        elif event == "pass":
            now += 0.003
        elif event == "take":
            for each in inbox.take(batcher.room):
                batcher.add(each)
        else:
            poll(on_the_way=bool(choice))
    while deadlines.in_flight:
        for each in inbox.take(batcher.room):
            batcher.add(each)
        assert poll(on_the_way=False), "parts are owed a verdict, but no batch comes"
    opened, closed = deadlines.counts
    assert opened == closed == len(answered) == len({each.number for each in answered})
    for camera in "abc":
        numbers = [each.number for each in answered if each.camera == camera]
        assert numbers == sorted(numbers)


def _bad(number: int, *, camera: str, at_s: float, deadline_s: float, epoch: int) -> Part:
    made = part(number, camera=camera, at_s=at_s, deadline_s=deadline_s, epoch=epoch)
    return made.fail(ErrorCode.FRAME_TIMEOUT, "no picture")
