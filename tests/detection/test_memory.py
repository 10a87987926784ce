"""Batches that do not fit are halved and tried again; larger ones are tried again later."""

import weakref
from collections.abc import Sequence

import pytest
import torch

from inspector.detection import memory
from inspector.detection.memory import GROWS_AFTER, MOST, BatchLimit
from inspector.errors import EncoderError


class Device:
    """Doubles numbers, at most `room` at once."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.batches: list[int] = []

    def __call__(self, items: "list[int] | range") -> list[int]:  # type: ignore[valid-type]
        self.batches.append(len(items))
        if len(items) > self.room:
            raise torch.OutOfMemoryError("too much\nmore lines of the allocator")
        return [2 * item for item in items]


def test_everything_comes_back_in_order_in_batches_of_the_largest_size() -> None:
    device = Device(100)
    assert BatchLimit().run(device, range(MOST + 3)) == [2 * number for number in range(MOST + 3)]
    assert device.batches == [MOST, 3]


def test_a_batch_that_does_not_fit_is_halved_until_it_does() -> None:
    device, limit = Device(5), BatchLimit()
    assert limit.run(device, range(10)) == [2 * number for number in range(10)]
    assert device.batches == [10, 5, 5]
    assert limit.pictures == 5


def test_what_a_failed_pass_held_is_let_go_before_the_memory_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[torch.Tensor]] = []
    at_emptying: list[bool] = []

    def work(items: Sequence[int]) -> list[int]:
        activations = torch.zeros(8)
        held.append(weakref.ref(activations))
        if len(items) > 2:
            raise torch.OutOfMemoryError("too much")
        return list(items)

    monkeypatch.setattr(memory, "_free", lambda: at_emptying.append(held[-1]() is not None))
    assert BatchLimit().run(work, range(4)) == [0, 1, 2, 3]
    assert at_emptying == [False]


def test_a_single_item_that_does_not_fit_is_an_error_that_says_so() -> None:
    with pytest.raises(EncoderError, match=r"not even one picture fits .*\(too much\).*image_size"):
        BatchLimit().run(Device(0), range(3))


def test_after_many_batches_that_fitted_a_larger_one_is_tried() -> None:
    device, limit = Device(5), BatchLimit()
    limit.run(device, range(10))
    device.room = 100
    limit.run(device, range(5 * GROWS_AFTER))
    assert limit.pictures == 10


def test_nothing_to_do_asks_nothing_of_the_device() -> None:
    device = Device(1)
    assert BatchLimit().run(device, range(0)) == []
    assert device.batches == []
