"""A wall clock that is set is told once, with the size of the step; one that is slewed is not."""

import pytest

from edge.clock_steps import ClockSteps


class Clocks:
    """Both clocks of a machine; the test sets them."""

    def __init__(self) -> None:
        self.monotonic_s, self.utc_s, self.held_up_s = 100.0, 1.8e9, 0.0
        self.steps = ClockSteps(self._utc, lambda: self.monotonic_s)

    def _utc(self) -> float:
        self.monotonic_s += self.held_up_s
        self.utc_s += self.held_up_s
        return self.utc_s

    def go_on(self, duration_s: float, step_s: float = 0.0) -> None:
        self.monotonic_s += duration_s
        self.utc_s += duration_s + step_s
        self.steps.look()


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.mark.parametrize(
    ("step_s", "told"), [(2.0, "+2.0 s"), (-3600.0, "-3600.0 s"), (315_360_000.0, "+315360000.0 s")]
)
def test_a_step_is_one_line_with_its_size(
    step_s: float, told: str, clocks: Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    clocks.go_on(0.2, step_s)
    for _ in range(10):
        clocks.go_on(0.2)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert told in caplog.text


def test_each_step_is_told(clocks: Clocks, caplog: pytest.LogCaptureFixture) -> None:
    clocks.go_on(0.2, 5.0)
    clocks.go_on(0.2, -5.0)
    assert [record.args for record in caplog.records] == [(pytest.approx(5.0),), (pytest.approx(-5.0),)]


@pytest.mark.parametrize("step_s", [0.5, -0.5])
def test_a_small_step_is_not_worth_a_line(step_s: float, clocks: Clocks, caplog: pytest.LogCaptureFixture) -> None:
    clocks.go_on(0.2, step_s)
    assert not caplog.records


def test_a_slewed_clock_is_not_told_however_far_it_goes(clocks: Clocks, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(50_000):
        clocks.go_on(0.2, 0.2 * 0.0005)  # what NTP may do: five seconds in all
    assert not caplog.records


def test_a_process_that_was_held_up_between_the_clocks_says_nothing_of_them(
    clocks: Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    clocks.held_up_s = 3.0
    clocks.go_on(0.2)
    clocks.held_up_s = 0.0
    clocks.go_on(0.2)
    assert not caplog.records
