"""The arithmetic of agreement: published tables, scikit-learn as the judge, hand-computed Fleiss, intervals that hold."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from inspector.agreement import (
    EFFECTIVENESS,
    FALSE_ALARM,
    MISS,
    Band,
    Share,
    assess,
    bounds_of_mean,
    cohen_kappa,
    fleiss_kappa,
)
from inspector.errors import UsageError


def pairs(both_bad: int, first_only: int, second_only: int, both_good: int) -> list[tuple[bool, bool]]:
    """Answers of two judges as a table counts them."""
    return (
        [(True, True)] * both_bad
        + [(True, False)] * first_only
        + [(False, True)] * second_only
        + [(False, False)] * both_good
    )


@pytest.mark.parametrize(
    ("table", "kappa"),
    [((44, 6, 3, 97), 0.86), ((42, 5, 9, 94), 0.79), ((43, 7, 8, 92), 0.78), ((45, 5, 3, 97), 0.88)],
)
def test_the_cross_tables_of_the_aiag_manual_give_its_kappas(table: tuple[int, int, int, int], kappa: float) -> None:
    assert cohen_kappa(pairs(*table), 50).value == pytest.approx(kappa, abs=0.005)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=80))
def test_kappa_of_two_judges_is_that_of_scikit_learn(answers: list[tuple[bool, bool]]) -> None:
    ours = cohen_kappa(answers, len(answers)).value
    if len(set(answers)) == 1 and answers[0][0] == answers[0][1]:
        assert ours is None  # chance agreement is 1: there is nothing that kappa could tell
        return
    assert ours == pytest.approx(cohen_kappa_score(*zip(*answers, strict=True)), abs=1e-9)


def test_fleiss_kappa_is_the_one_computed_by_hand() -> None:
    # Defects named by three raters: 3, 0, 1, 2 of 3. Agreeing pairs: 1, 1, 1/3, 1/3, mean 2/3; half of all answers are
    # defects, so chance is 1/2 and kappa (2/3 - 1/2) / (1 - 1/2) = 1/3.
    ratings = [[True] * 3, [False] * 3, [True, False, False], [True, True, False]]
    assert fleiss_kappa(ratings).value == pytest.approx(1 / 3)


def test_fleiss_kappa_of_one_opinion_is_not_defined_and_of_two_that_agree_is_one() -> None:
    assert fleiss_kappa([[False, False], [False, False]]).value is None
    whole = fleiss_kappa([[False, False], [True, True]])
    assert whole.value == pytest.approx(1.0)
    assert whole.bounds is not None
    assert whole.bounds[0] < 0.0  # two parts prove nothing


def test_rates_are_those_of_a_small_study_counted_by_hand() -> None:
    truth = {0: True, 1: True, 2: False, 3: False, 4: False}
    anna = {0: (True, True), 1: (True, True), 2: (False, False), 3: (False, False), 4: (True, True), 5: (True, False)}
    ben = {
        0: (True, False),
        1: (False, False),
        2: (False, False),
        3: (False, False),
        4: (False, False),
        5: (True, True),
    }
    found = assess({"Anna": anna, "Ben": ben}, truth, ("machine", {0: True, 2: False, 4: True}))
    of_anna, of_ben = found.operators

    assert of_anna.effectiveness == Share(4, 5, 5)
    assert of_anna.miss == Share(0, 4, 2)
    assert of_anna.false_alarm == Share(2, 6, 3)
    assert of_anna.within == Share(5, 6, 6)  # also part 5, whose truth nobody knows
    assert of_ben.effectiveness == Share(3, 5, 5)
    assert of_ben.miss == Share(3, 4, 2)
    assert of_ben.false_alarm == Share(0, 6, 3)
    assert found.together.effectiveness == Share(2, 5, 5)  # parts 2 and 3
    assert found.together.miss == Share(3, 8, 2)
    assert found.between == Share(2, 6, 6)
    assert found.system is not None
    assert (found.system.effectiveness, found.system.within) == (Share(2, 3, 3), None)
    assert [(pair.one, pair.other, pair.agreed) for pair in found.pairs] == [
        ("Anna", "Ben", Share(6, 12, 6)),
        ("Anna", "machine", Share(6, 6, 3)),
        ("Ben", "machine", Share(3, 6, 3)),
    ]


def test_a_study_without_a_known_truth_still_tells_of_agreement() -> None:
    found = assess({"Anna": {0: (True,), 1: (False,)}, "Ben": {0: (True,), 1: (True,)}}, {})
    assert found.operators[0].effectiveness is None
    assert found.operators[0].kappa is None
    assert found.operators[0].within is None  # one round says nothing of that
    assert found.between == Share(1, 2, 2)


def test_a_single_operator_has_nobody_to_agree_with() -> None:
    found = assess({"Anna": {0: (True, True), 1: (False, False)}}, {0: True, 1: False})
    assert (found.pairs, found.between, found.fleiss) == ((), None, None)
    assert found.operators[0].effectiveness == Share(2, 2, 2)


@pytest.mark.parametrize(
    "operators",
    [
        {},
        {"Anna": {}},
        {"Anna": {0: (True, True)}, "Ben": {0: (True,)}},
        {"Anna": {0: (True,)}, "Ben": {1: (True,)}},
        {"Anna": {0: (True,), 1: (True, False)}},
    ],
)
def test_answers_that_are_not_complete_are_refused(operators: dict[str, dict[int, tuple[bool, ...]]]) -> None:
    with pytest.raises(UsageError):
        assess(operators, {0: True})


@pytest.mark.parametrize(
    ("limits", "rate", "band"),
    [
        (EFFECTIVENESS, 0.90, Band.ACCEPTABLE),
        (EFFECTIVENESS, 0.899, Band.MARGINAL),
        (EFFECTIVENESS, 0.80, Band.MARGINAL),
        (EFFECTIVENESS, 0.79, Band.UNACCEPTABLE),
        (MISS, 0.02, Band.ACCEPTABLE),
        (MISS, 0.05, Band.MARGINAL),
        (MISS, 0.051, Band.UNACCEPTABLE),
        (FALSE_ALARM, 0.05, Band.ACCEPTABLE),
        (FALSE_ALARM, 0.10, Band.MARGINAL),
        (FALSE_ALARM, 0.11, Band.UNACCEPTABLE),
    ],
)
def test_bands_are_those_of_aiag(limits: object, rate: float, band: Band) -> None:
    assert limits.band(rate) is band  # type: ignore[attr-defined]


def test_few_parts_rule_nothing_out_however_often_they_are_judged() -> None:
    assert Share(0, 100, 10).bounds == Share(0, 10, 10).bounds
    assert Share(0, 100, 10).bounds[1] == pytest.approx(1 - 0.025 ** (1 / 10))
    assert Share(0, 20, 10).worst(MISS) is Band.UNACCEPTABLE
    assert Share(0, 400, 200).worst(MISS) is Band.ACCEPTABLE
    widths = [high - low for low, high in (bounds_of_mean(0.5, parts) for parts in (10, 20, 40, 80))]
    assert all(wide > narrow for wide, narrow in pairwise(widths))


@pytest.mark.parametrize("dependence", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("defects", "errors"), [(0.5, 0.1), (0.3, 0.2), (0.15, 0.05)])
def test_intervals_hold_in_95_of_100_studies_however_repeats_depend(
    defects: float, errors: float, dependence: float
) -> None:
    """Two judges who err independently of each other; their second answer repeats the first with `dependence`."""
    rng = np.random.default_rng((7, int(100 * defects), int(10 * dependence)))
    studies, parts = 400, 24
    said = defects * (1 - errors) + (1 - defects) * errors
    chance = said**2 + (1 - said) ** 2
    kappa = ((1 - errors) ** 2 + errors**2 - chance) / (1 - chance)
    held_rate = held_kappa = defined = 0
    for _ in range(studies):
        truth = rng.random(parts) < defects
        answers = []
        for _ in range(2):
            first, second = (truth ^ (rng.random(parts) < errors) for _ in range(2))
            answers.append(np.concatenate([first, np.where(rng.random(parts) < dependence, first, second)]))
        low, high = bounds_of_mean(float(np.mean(answers[0] != np.tile(truth, 2))), parts)
        held_rate += low <= errors <= high
        found = cohen_kappa(list(zip(answers[0].tolist(), answers[1].tolist(), strict=True)), parts)
        if found.bounds is not None:
            defined += 1
            held_kappa += found.bounds[0] <= kappa <= found.bounds[1]
    assert held_rate / studies >= 0.95
    assert held_kappa / defined >= 0.95
    assert defined > 0.9 * studies
