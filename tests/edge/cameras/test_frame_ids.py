"""The camera's own counter: what it leaves out was lost, its wrap and its restart were not."""

import pytest

from edge.cameras.frame_ids import MAX_GAP, WRAP, FrameIds


@pytest.mark.parametrize(
    ("ids", "missed"),
    [
        ([1, 2, 3], [0, 0, 0]),
        ([7, 9, 13], [0, 1, 3]),
        ([WRAP - 1, WRAP, 1, 2], [0, 0, 0, 0]),
        ([WRAP - 1, 2], [0, 2]),
        ([WRAP, WRAP + 1], [0, 0]),
        ([5_000_000_000, 5_000_000_003], [0, 2]),
        ([900, 1], [0, 0]),
        ([5_000_000_000, 1], [0, 0]),
        ([5, 5], [0, 0]),
        ([1, MAX_GAP + 2], [0, MAX_GAP]),
        ([1, MAX_GAP + 3], [0, 0]),
    ],
    ids=[
        "steady",
        "gaps",
        "wrap",
        "over the wrap",
        "extended",
        "64 bits",
        "restart",
        "restart 64",
        "again",
        "max",
        "jump",
    ],
)
def test_numbers_that_are_left_out_are_counted(ids: list[int], missed: list[int]) -> None:
    counter = FrameIds()
    assert [counter.missed_before(number) for number in ids] == missed
