"""Do the judges agree, with themselves, with each other and with the truth? The arithmetic of an attribute study.

May import `inspector.promises` and errors only. Effectiveness, miss and false-alarm rate and their limits are those of AIAG,
"Measurement Systems Analysis", 4th edition 2010, chapter III, section C; kappa is Cohen's (1960) and Fleiss' (1971).

Intervals count parts, not answers: repeated answers to one part are not independent. A mean over parts of values between 0
and 1 varies at most as much as a count of parts, so the exact binomial interval of that many parts, rounded outwards, is on
the safe side. Kappa takes chance agreement as fixed, as Cohen's own standard error does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from math import ceil, floor

from inspector.errors import UsageError
from inspector.promises import interval

Answers = Mapping[int, Sequence[bool]]
"""For each part (its position) one answer per repeat; True says that it is a defect."""
GOOD_KAPPA, POOR_KAPPA = 0.75, 0.40
_ROUNDING = 1e-9


class Band(StrEnum):
    """What AIAG calls a rate."""

    ACCEPTABLE = "acceptable"
    MARGINAL = "marginal"
    UNACCEPTABLE = "unacceptable"


@dataclass(frozen=True)
class Limits:
    """Up to (or, `at_least`, from) where a rate is acceptable, and where marginal."""

    acceptable: float
    marginal: float
    at_least: bool = False

    def band(self, rate: float) -> Band:
        sign = -1.0 if self.at_least else 1.0
        if sign * rate <= sign * self.acceptable + _ROUNDING:
            return Band.ACCEPTABLE
        return Band.MARGINAL if sign * rate <= sign * self.marginal + _ROUNDING else Band.UNACCEPTABLE


EFFECTIVENESS = Limits(0.90, 0.80, at_least=True)
MISS = Limits(0.02, 0.05)
FALSE_ALARM = Limits(0.05, 0.10)


@dataclass(frozen=True)
class Share:
    """`count` of `n` decisions about `parts` parts."""

    count: int
    n: int
    parts: int

    @property
    def rate(self) -> float:
        return self.count / self.n

    @property
    def bounds(self) -> tuple[float, float]:
        """95 % confidence interval of the rate."""
        return bounds_of_mean(self.rate, self.parts)

    def worst(self, limits: Limits) -> Band:
        """The band of the unfavourable end of the interval: what these few parts cannot rule out."""
        return limits.band(self.bounds[0] if limits.at_least else self.bounds[1])


@dataclass(frozen=True)
class Kappa:
    """Agreement beyond chance, at most 1; `value` is None where all gave one and the same answer, so that chance is 1."""

    value: float | None
    bounds: tuple[float, float] | None
    parts: int

    @property
    def strength(self) -> str:
        """What AIAG says of it: above 0.75 good, below 0.40 poor."""
        if self.value is None:
            return "not defined"
        return "good" if self.value > GOOD_KAPPA else "poor" if self.value < POOR_KAPPA else "moderate"


@dataclass(frozen=True)
class Judge:
    """One judge against the truth and against themselves; None where there is nothing to count.

    `effectiveness`: parts judged right in every repeat. `miss` and `false_alarm`: wrong answers to defects, to good
    parts. `within`: parts judged the same in every repeat.
    """

    name: str
    effectiveness: Share | None
    miss: Share | None
    false_alarm: Share | None
    within: Share | None
    kappa: Kappa | None


@dataclass(frozen=True)
class Pair:
    """How far two judges agree, repeat by repeat."""

    one: str
    other: str
    agreed: Share
    kappa: Kappa


@dataclass(frozen=True)
class Agreement:
    """All that a study says. `together` counts a part as right only if every operator was right in every repeat.

    `between`: parts to which all operators always gave the same answer. `fleiss` takes each repeat of each operator as
    one rating.
    """

    operators: tuple[Judge, ...]
    together: Judge
    system: Judge | None
    pairs: tuple[Pair, ...]
    between: Share | None
    fleiss: Kappa | None


def assess(
    operators: Mapping[str, Answers], truth: Mapping[int, bool], system: tuple[str, Mapping[int, bool]] | None = None
) -> Agreement:
    """What the complete answers of the operators say.

    `truth` and the verdicts of the inspection `system` (with its name) may be known for some of the parts only.

    Raises:
        UsageError: no operator, no part, or operators that did not answer the same number of times to the same parts.
    """
    _check(operators)
    judges = tuple(_judge(name, answers, truth) for name, answers in operators.items())
    everybody = _pooled(operators)
    pairs = [_pair(one, other, operators[one], operators[other]) for one, other in combinations(operators, 2)]
    machine = None
    if system is not None and system[1]:
        name, verdicts = system
        as_answers = {part: (verdict,) for part, verdict in verdicts.items()}
        machine = _judge(name, as_answers, truth)
        pairs += [_pair(one, name, answers, as_answers) for one, answers in operators.items()]
    several = len(operators) > 1
    return Agreement(
        operators=judges,
        together=_judge("all operators", everybody, truth),
        system=machine,
        pairs=tuple(pairs),
        between=_same(everybody) if several else None,
        fleiss=fleiss_kappa(list(everybody.values())) if several else None,
    )


def cohen_kappa(pairs: Sequence[tuple[bool, bool]], parts: int) -> Kappa:
    """Cohen's kappa of two judges' answers to `parts` different parts."""
    n = len(pairs)
    agreed = sum(one == other for one, other in pairs) / n
    first, second = (sum(pair[side] for pair in pairs) / n for side in (0, 1))
    return _kappa(agreed, first * second + (1 - first) * (1 - second), parts)


def fleiss_kappa(ratings: Sequence[Sequence[bool]]) -> Kappa:
    """Fleiss' kappa; `ratings` holds for each part the same number of answers, two or more."""
    raters, parts = len(ratings[0]), len(ratings)
    defects = [sum(row) for row in ratings]
    # The share of all pairs of answers to a part that agree, averaged over the parts: P̄ in the paper.
    agreeing = [count * (count - 1) + (raters - count) * (raters - count - 1) for count in defects]
    agreed = sum(agreeing) / (parts * raters * (raters - 1))
    share = sum(defects) / (parts * raters)
    return _kappa(agreed, share**2 + (1 - share) ** 2, parts)


def bounds_of_mean(mean: float, parts: int) -> tuple[float, float]:
    """95 % interval of a mean over `parts` parts of values between 0 and 1."""
    fewest, most = floor(mean * parts + _ROUNDING), ceil(mean * parts - _ROUNDING)
    return interval(fewest, parts)[0], interval(most, parts)[1]


def _kappa(agreed: float, chance: float, parts: int) -> Kappa:
    if chance >= 1.0 - _ROUNDING:
        return Kappa(None, None, parts)
    low, high = ((bound - chance) / (1.0 - chance) for bound in bounds_of_mean(agreed, parts))
    return Kappa((agreed - chance) / (1.0 - chance), (max(low, -1.0), high), parts)


def _judge(name: str, answers: Answers, truth: Mapping[int, bool]) -> Judge:
    known = [part for part in answers if part in truth]
    right = sum(all(answer == truth[part] for answer in answers[part]) for part in known)
    pairs = [(answer, truth[part]) for part in known for answer in answers[part]]
    return Judge(
        name=name,
        effectiveness=_share(right, len(known), len(known)),
        miss=_wrong(answers, [part for part in known if truth[part]], wrong=False),
        false_alarm=_wrong(answers, [part for part in known if not truth[part]], wrong=True),
        within=_same(answers),
        kappa=cohen_kappa(pairs, len(known)) if pairs else None,
    )


def _wrong(answers: Answers, parts: Sequence[int], *, wrong: bool) -> Share | None:
    given = [answer for part in parts for answer in answers[part]]
    return _share(given.count(wrong), len(given), len(parts))


def _same(answers: Answers) -> Share | None:
    """Parts that were judged the same each time; None where each was judged once only."""
    rows = list(answers.values())
    if len(rows[0]) < 2:
        return None
    return Share(sum(len(set(row)) == 1 for row in rows), len(rows), len(rows))


def _pair(one: str, other: str, first: Answers, second: Answers) -> Pair:
    """Repeat by repeat; a judge with a single answer to a part meets each repeat of the other with it."""
    both = [part for part in first if part in second]
    pairs = [
        (answer, second[part][repeat if len(second[part]) > 1 else 0])
        for part in both
        for repeat, answer in enumerate(first[part])
    ]
    agreed = sum(answer == of_other for answer, of_other in pairs)
    return Pair(one, other, Share(agreed, len(pairs), len(both)), cohen_kappa(pairs, len(both)))


def _pooled(operators: Mapping[str, Answers]) -> dict[int, list[bool]]:
    parts = next(iter(operators.values()))
    return {part: [answer for answers in operators.values() for answer in answers[part]] for part in parts}


def _share(count: int, n: int, parts: int) -> Share | None:
    return Share(count, n, parts) if n else None


def _check(operators: Mapping[str, Answers]) -> None:
    shapes = {
        name: {part: len(given) for part, given in sorted(answers.items())} for name, answers in operators.items()
    }
    first = next(iter(shapes.values()), {})
    if not first or 0 in first.values():
        raise UsageError("agreement needs at least one operator with at least one answer to each part")
    for name, shape in shapes.items():
        if shape != first or len(set(shape.values())) > 1:
            raise UsageError(
                f"{name} answered {sum(shape.values())} times to {len(shape)} parts, but all operators must answer to "
                f"the same {len(first)} parts, equally often; leave out who has not finished"
            )
