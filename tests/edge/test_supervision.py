"""When a worker is started again: at once, then ever more rarely, never not at all; and how a hang is told."""

from hypothesis import given
from hypothesis import strategies as st

from edge.supervision import MOST_PAUSE_S, OPEN_AFTER, OPEN_PAUSE_S, WINDOW_S, Breaker, Progress


def test_a_single_failure_is_over_in_a_second() -> None:
    restart = Breaker().failed(0.0, jitter=1.0)
    assert (restart.pause_s, restart.open) == (1.0, False)


def test_pauses_double_and_then_the_circuit_opens() -> None:
    breaker = Breaker()
    restarts = [breaker.failed(float(second), jitter=1.0) for second in range(OPEN_AFTER)]
    assert [restart.pause_s for restart in restarts[:-1]] == [1.0, 2.0, 4.0, 8.0]
    assert restarts[-1].open
    assert restarts[-1].pause_s >= OPEN_PAUSE_S


def test_an_open_circuit_goes_on_trying_and_closes_when_the_failures_are_old() -> None:
    breaker = Breaker()
    for second in range(OPEN_AFTER):
        breaker.failed(float(second), jitter=0.0)
    assert breaker.failed(300.0, jitter=0.0).open
    assert not breaker.failed(300.0 + WINDOW_S + 1.0, jitter=0.0).open


@given(st.lists(st.floats(0.0, 5000.0), min_size=1, max_size=40), st.floats(0.0, 1.0))
def test_however_failures_come_there_is_always_another_try(times: list[float], jitter: float) -> None:
    breaker = Breaker()
    for now_s in sorted(times):
        restart = breaker.failed(now_s, jitter)
        assert 0.0 < restart.pause_s <= (1.2 * OPEN_PAUSE_S if restart.open else MOST_PAUSE_S)


def progress() -> Progress:
    return Progress(started_s=0.0, start_limit_s=100.0, beat_limit_s=10.0)


def test_a_worker_that_starts_has_time_until_it_is_ready() -> None:
    assert not progress().hangs(99.0)
    assert progress().hangs(101.0)


def test_a_worker_that_lives_and_says_nothing_hangs() -> None:
    one = progress()
    one.hear("ready", 50.0)
    one.hear("beat", 55.0)
    assert not one.hangs(64.0)
    assert one.hangs(66.0)


def test_other_words_are_no_sign_of_life() -> None:
    one = progress()
    one.hear("ready", 50.0)
    one.hear("a library printed this", 70.0)
    assert one.hangs(61.0)
