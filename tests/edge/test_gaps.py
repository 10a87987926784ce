"""Parts that passed by unseen are found by the PLC's counter."""

from hypothesis import given
from hypothesis import strategies as st

from edge.gaps import COUNTER_PERIOD, LONG_ABSENCE, MAX_GAP, Missed, TriggerGaps, triggers_before
from inspector.contract.codes import ErrorCode


def _missed(gaps: TriggerGaps, trg: int) -> list[int]:
    """Every trigger that is owed a verdict, those too that are left to the last of them."""
    missed = gaps.seen(trg).missed
    return [number for each in missed for number in (*triggers_before(each.trg, each.unseen), each.trg)]


def test_each_trigger_in_a_gap_is_named() -> None:
    gaps = TriggerGaps(last=7)
    assert _missed(gaps, 8) == []
    assert _missed(gaps, 12) == [9, 10, 11]
    assert {each.failure for each in TriggerGaps(1).seen(3).missed} == {ErrorCode.MISSED_TRIGGER}


def test_the_first_trigger_ever_has_no_gap_before_it() -> None:
    assert _missed(TriggerGaps(), 500) == []


def test_the_wrap_of_the_counter_is_no_gap() -> None:
    gaps = TriggerGaps(last=COUNTER_PERIOD - 1)
    assert _missed(gaps, 2) == [COUNTER_PERIOD, 1]


def test_a_counter_that_goes_back_was_reset() -> None:
    gaps = TriggerGaps(last=500)
    step = gaps.seen(1)
    assert step.reset
    assert step.missed == ()
    assert _missed(gaps, 3) == [2]


def test_a_gap_that_is_too_large_is_a_reset_and_not_a_flood() -> None:
    assert len(_missed(TriggerGaps(1), MAX_GAP + 2)) == MAX_GAP
    assert TriggerGaps(1).seen(MAX_GAP + 3).reset


def test_a_long_absence_is_told_by_its_last_trigger() -> None:
    assert TriggerGaps(1).seen(LONG_ABSENCE + 1).missed[0].unseen == 0
    (last,) = TriggerGaps(1).seen(LONG_ABSENCE + 2).missed
    assert (last.trg, last.unseen, last.failure) == (LONG_ABSENCE + 1, LONG_ABSENCE - 1, ErrorCode.MISSED_TRIGGER)


def test_what_is_known_of_a_part_in_a_long_absence_is_told_in_its_place() -> None:
    gaps = TriggerGaps(1)
    gaps.overrun(500, "p500")
    assert [(one.trg, one.part_id, one.unseen) for one in gaps.seen(1000).missed] == [
        (499, "", 497),
        (500, "p500", 0),
        (999, "", 498),
    ]


def test_triggers_before_one_wrap_with_the_counter() -> None:
    assert triggers_before(2, 3) == [COUNTER_PERIOD - 1, COUNTER_PERIOD, 1]
    assert triggers_before(7, 0) == []


def test_free_running_frames_say_nothing_about_triggers() -> None:
    gaps = TriggerGaps(last=3)
    assert gaps.seen(0).missed == ()
    assert _missed(gaps, 5) == [4]


def test_an_overrun_is_told_in_its_place_with_its_own_code() -> None:
    gaps = TriggerGaps(last=3)
    gaps.overrun(5, "p5")
    assert gaps.seen(7).missed == (
        Missed(4, "", ErrorCode.MISSED_TRIGGER),
        Missed(5, "p5", ErrorCode.TRIGGER_OVERRUN),
        Missed(6, "", ErrorCode.MISSED_TRIGGER),
    )
    assert gaps.flush() == ()


def test_overruns_are_told_when_the_line_is_idle() -> None:
    gaps = TriggerGaps(last=3)
    gaps.overrun(4, "p4")
    gaps.overrun(5, "p5")
    assert [each.trg for each in gaps.flush()] == [4, 5]
    assert _missed(gaps, 6) == []


def test_what_passed_by_unseen_before_an_overrun_is_told_with_it_when_the_line_is_idle() -> None:
    gaps = TriggerGaps(last=100)
    gaps.overrun(103, "p103")
    assert gaps.flush() == (
        Missed(101, "", ErrorCode.MISSED_TRIGGER),
        Missed(102, "", ErrorCode.MISSED_TRIGGER),
        Missed(103, "p103", ErrorCode.TRIGGER_OVERRUN),
    )
    assert gaps.seen(104).missed == ()


def test_nothing_is_told_while_a_trigger_waits_for_its_picture() -> None:
    gaps = TriggerGaps(last=100)
    gaps.overrun(103, "p103")
    assert gaps.flush(lambda: 1) == ()
    assert _missed(gaps, 102) == [101]
    assert [each.trg for each in gaps.flush(lambda: 0)] == [103]


def test_an_overrun_of_a_counter_that_was_reset_is_told_alone() -> None:
    gaps = TriggerGaps(last=500)
    gaps.overrun(1, "p1")
    assert [each.trg for each in gaps.flush()] == [1]
    assert _missed(gaps, 3) == [2]


def test_a_trigger_that_has_its_verdict_gets_no_second_one_by_coming_again() -> None:
    gaps = TriggerGaps(last=500)
    gaps.overrun(500, "p500")
    assert gaps.flush() == ()
    assert gaps.seen(501).missed == ()


@given(st.lists(st.sampled_from(["seen", "overrun", "lost", "idle"]), max_size=60), st.integers(1, COUNTER_PERIOD))
def test_whatever_becomes_of_triggers_each_is_told_once_and_in_order(fates: list[str], first: int) -> None:
    gaps, told, wanted, trg = TriggerGaps(last=first), [], [], first
    for fate in fates:
        if fate == "idle":
            told += [each.trg for each in gaps.flush()]
            continue
        trg = trg % COUNTER_PERIOD + 1
        wanted.append(trg)
        if fate == "overrun":
            gaps.overrun(trg, "")
        elif fate == "seen":
            told += [*_missed(gaps, trg), trg]
    trg = trg % COUNTER_PERIOD + 1
    told += [*_missed(gaps, trg)]
    assert told == wanted


@given(st.sets(st.integers(1, 2000)))
def test_frames_and_missed_triggers_together_are_the_whole_counter(seen: set[int]) -> None:
    gaps = TriggerGaps(last=0)
    told: list[int] = []
    for trg in sorted(seen):
        told += [*_missed(gaps, trg), trg]
    assert told == (list(range(min(seen), max(seen) + 1)) if seen else [])
