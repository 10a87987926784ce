"""Everything that has a number in the contract has words on the pages."""

from datetime import UTC, datetime

import pytest

from dashboard import words
from edge.drift import CODES
from inspector.contract.codes import AckCode, ErrorCode, Flag, StationState
from inspector.contract.gate import Reason
from inspector.contract.messages import COMMANDS
from inspector.store.challenges import ABORTED, FAILED, PASSED, RUNNING
from inspector.types import Verdict


def test_each_verdict_state_error_answer_and_flag_has_words() -> None:
    assert set(words.VERDICTS) == set(words.VERDICT_ORDER) == set(Verdict)
    assert set(words.STATES) == set(StationState)
    assert set(words.ERRORS) == set(ErrorCode)
    assert set(words.ANSWERS) == set(AckCode)
    assert set(words.FLAGS) == set(Flag)


def test_each_cause_of_drift_and_each_command_of_an_operator_has_words() -> None:
    assert set(words.CAUSES) == set(CODES.values())
    assert set(words.COMMANDS) == set(COMMANDS) - {"select_recipe", "sync", "ping", "trigger"}
    assert set(words.CHALLENGES) == {RUNNING, PASSED, FAILED, ABORTED}


def test_verdicts_differ_by_word_and_symbol_and_not_by_colour_alone() -> None:
    looks = words.VERDICTS.values()
    assert len({look.word for look in looks}) == len({look.symbol for look in looks}) == len(Verdict)


@pytest.mark.parametrize("look", [*words.VERDICTS.values(), *words.STATES.values(), words.WORKER_AWAY])
def test_white_letters_are_readable_on_each_colour(look: words.Look) -> None:
    channels = [int(look.colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]  # WCAG 2.2
    assert 1.05 / (luminance + 0.05) >= 4.5


def test_error_codes_are_shown_with_words_and_number() -> None:
    assert words.error_words(101) == "camera lost: check cable and power (101)"
    assert words.error_words(399) == "unknown fault (399)"
    assert words.error_words(0) == ""


def test_threshold_always_says_what_it_rests_on() -> None:
    assert words.threshold_words(0.43123, "provisional", 8) == "threshold 0.4312 (provisional, n = 8)"
    assert "unknown" in words.threshold_words(0.4, None, None)
    assert words.threshold_words(None, None, None) == "no threshold yet"


@pytest.mark.parametrize(
    ("age_s", "text"),
    [(-1, "0.0 s"), (0.44, "0.4 s"), (61, "61 s"), (600, "10 min"), (7300, "2 h"), (200_000, "2 days")],
)
def test_ages_are_said_as_people_say_them(age_s: float, text: str) -> None:
    assert words.age_words(age_s) == text


@pytest.mark.parametrize(
    ("hour", "begin_day", "begin_hour"), [(5, 9, 22), (6, 10, 6), (13, 10, 6), (14, 10, 14), (21, 10, 14), (23, 10, 22)]
)
def test_shift_begins_at_six_fourteen_and_twenty_two(hour: int, begin_day: int, begin_hour: int) -> None:
    begin = words.shift_start(datetime(2026, 3, 10, hour, 59, tzinfo=UTC), ["06:00", "14:00", "22:00"])
    assert (begin.day, begin.hour, begin.minute) == (begin_day, begin_hour, 0)


def test_flags_and_answers_have_words() -> None:
    assert words.flag_words(1 | 8) == "simulated, image-quality warning"
    assert words.answer_words(30).startswith("refused")
    assert words.answer_words(None) == "no answer yet"
    assert words.answer_words(77) == "answered with code 77"


def test_each_reason_of_the_plc_has_words_and_silence_has_none() -> None:
    assert set(words.PLC_REASONS) == set(Reason)
    assert words.disposition_words(None, None) == ""
    assert words.disposition_words(1, 1) == "it passed"
    assert words.disposition_words(0, 8) == "rejected: the verdict was not OK"
