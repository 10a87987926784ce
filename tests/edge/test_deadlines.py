"""One verdict per part, neither none nor two."""

import pytest

from edge.deadlines import Deadlines
from inspector.contract.codes import ErrorCode
from tests.edge.part_maker import part


def test_a_part_is_closed_exactly_once() -> None:
    deadlines = Deadlines()
    seen = deadlines.open(part)
    deadlines.close(seen)
    assert deadlines.counts == (1, 1)
    with pytest.raises(ValueError, match="not owed a verdict"):
        deadlines.close(seen)


def test_a_part_that_was_never_opened_cannot_be_closed() -> None:
    with pytest.raises(ValueError, match="not owed a verdict"):
        Deadlines().close(part(1))


def test_overdue_parts_are_named_in_order_without_their_pictures() -> None:
    deadlines = Deadlines()
    for at_s in (0.0, 0.5, 3.0):
        deadlines.open(lambda number, at_s=at_s: part(number, at_s=at_s, deadline_s=1.0))
    overdue = deadlines.expire(1.5)
    assert [(p.number, p.failure, p.image) for p in overdue] == [
        (1, ErrorCode.DEADLINE_MISSED, None),
        (2, ErrorCode.DEADLINE_MISSED, None),
    ]
    assert deadlines.in_flight == 3
    assert len(deadlines.expire()) == 3


def test_a_part_with_a_number_of_its_own_is_refused() -> None:
    with pytest.raises(ValueError, match="must have the number 1"):
        Deadlines().open(lambda _number: part(7))
