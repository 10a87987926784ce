"""A challenge passes only if each known part was seen, scored and judged as it must be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.challenge import Challenge, Member, Seen
from inspector.store.challenges import FAILED, PASSED
from inspector.types import Verdict

GOOD, SCRATCH, HOLE = (
    Member(1, "golden 1", "good"),
    Member(2, "scratch", "defect"),
    Member(3, "hole", "defect", part="H-3"),
)
RIGHT = {"good": Verdict.OK, "defect": Verdict.NG}


def challenge(*members: Member, cameras: tuple[str, ...] = ("a",)) -> Challenge:
    return Challenge(1, members, cameras)


def show(one: Challenge, member: Member, verdict: Verdict | None = None, camera: str = "a") -> Member | None:
    return one.take(member.part, Seen(camera, RIGHT[member.expected] if verdict is None else verdict, member.id))


def test_it_passes_when_each_part_was_judged_as_it_must_be() -> None:
    one = challenge(GOOD, SCRATCH, HOLE)
    for member in (GOOD, SCRATCH, HOLE):
        assert show(one, member) is member
    assert one.complete
    assert one.outcome()[:2] == (PASSED, "")


def test_a_part_with_an_id_is_known_by_it_whenever_it_comes() -> None:
    one = challenge(GOOD, SCRATCH, HOLE)
    assert show(one, HOLE) is HOLE
    assert show(one, GOOD) is GOOD


def test_undecided_is_enough_for_a_defect_because_the_part_does_not_pass() -> None:
    one = challenge(SCRATCH)
    show(one, SCRATCH, Verdict.UNDECIDED)
    assert one.outcome()[0] == PASSED


@pytest.mark.parametrize(
    ("member", "verdict", "fault"),
    [
        (SCRATCH, Verdict.OK, "scratch: a defect that was accepted"),
        (GOOD, Verdict.NG, "golden 1: a good part that was rejected"),
        (GOOD, Verdict.UNDECIDED, "golden 1: a good part that was rejected"),
        (SCRATCH, Verdict.NONE, "scratch: not scored"),
        (GOOD, Verdict.NONE, "golden 1: not scored"),
    ],
)
def test_it_fails_with_the_part_and_the_reason(member: Member, verdict: Verdict, fault: str) -> None:
    one = challenge(member)
    show(one, member, verdict)
    assert one.outcome()[:2] == (FAILED, fault)


def test_a_part_that_did_not_come_has_failed() -> None:
    one = challenge(GOOD, SCRATCH)
    assert one.untouched
    show(one, GOOD)
    assert not one.complete
    assert not one.untouched
    assert one.outcome()[:2] == (FAILED, "scratch: not seen")


def test_of_several_cameras_one_must_find_the_defect_and_all_must_accept_the_good_part() -> None:
    one = challenge(GOOD, SCRATCH, cameras=("a", "b"))
    for camera in ("a", "b"):
        show(one, GOOD, camera=camera)
        show(one, SCRATCH, Verdict.OK if camera == "a" else Verdict.NG, camera=camera)
    assert one.outcome()[0] == PASSED
    other = challenge(GOOD, cameras=("a", "b"))
    show(other, GOOD, camera="a")
    assert other.outcome()[:2] == (FAILED, "golden 1: seen by 1 of 2 cameras")


def test_one_part_too_many_belongs_to_nobody() -> None:
    one = challenge(GOOD)
    show(one, GOOD)
    assert one.take("", Seen("a", Verdict.OK, 9)) is None
    assert one.extra == 1
    assert one.outcome()[0] == PASSED


def test_a_verdict_that_is_booked_on_its_member_counts_once_and_for_no_other() -> None:
    one = challenge(SCRATCH, HOLE)
    for seq in (1, 2):
        one.book(HOLE, Seen("a", Verdict.NG, seq))
    assert (one.has_seen(SCRATCH), one.has_seen(HOLE), one.complete) == (False, True, False)
    assert one.outcome()[:2] == (FAILED, "scratch: not seen")
    assert [seen["seq"] for seen in one.outcome()[2][1]["seen"]] == [1]


@given(st.lists(st.sampled_from(list(Verdict)), min_size=2, max_size=2), st.booleans())
def test_no_defect_that_was_accepted_everywhere_ever_passes(verdicts: list[Verdict], first: bool) -> None:
    one = challenge(SCRATCH, HOLE)
    for member, verdict in zip((SCRATCH, HOLE) if first else (HOLE, SCRATCH), verdicts, strict=True):
        show(one, member, verdict)
    caught = all(verdict in (Verdict.NG, Verdict.UNDECIDED) for verdict in verdicts)
    assert (one.outcome()[0] == PASSED) is caught
