"""The arithmetic of what few parts can promise: order statistics and exact binomial bounds. No dependencies.

Clopper and Pearson 1934; for order statistics of exchangeable scores see Vovk, Gammerman, Shafer, "Algorithmic Learning
in a Random World"; for how many of the next parts exceed one, Wilks 1942 (Annals of Mathematical Statistics 13) and David
and Nagaraja, "Order Statistics" (2003), section 7.3.
"""

from math import ceil, comb

from inspector.errors import CalibrationError

MIN_CONFIRMED = 9
"""Confirmed good parts from which on a threshold may rest on them: with fewer the bound is above 30 %."""
CONFIDENCE = 0.95
_BISECTIONS = 60


def needed_for(target: float) -> int:
    """How many confirmed good parts a wished rate of false rejects needs: 1/(n+1) must not exceed it."""
    return ceil(1.0 / target - 1e-9) - 1


def conformal_rank(n: int, target: float) -> int:
    """Rank (from 1) of the order statistic whose expected rate of false rejects is at most `target`.

    Raises:
        CalibrationError: no rate, or n scores cannot support it.
    """
    if not 0.0 < target < 1.0:
        raise CalibrationError(f"the wished rate of false rejects is {target}; expected a number between 0 and 1")
    if n < needed_for(target):
        raise CalibrationError(
            f"a false-reject rate of {100 * target:g} % needs {needed_for(target)} confirmed good parts, but there are {n}; "
            f"with {n}, {100 / (n + 1):.1f} % can be wished"
        )
    return ceil((1.0 - target) * (n + 1) - 1e-9)


def false_reject_bound(n: int, rank: int, confidence: float = CONFIDENCE) -> float:
    """Rate of false rejects that is not exceeded with `confidence`, if the threshold is the `rank`-th of n normal scores.

    The rate r of a threshold at that order statistic exceeds p if fewer than `rank` of n scores lie below the (1 − p)
    quantile: P(r > p) = P(Binomial(n, p) ≤ n − rank). For rank = n that is (1 − p)^n, and p = 1 − 0.05^(1/n).
    """
    return _rate_where(n, n - rank, 1.0 - confidence)


def exceedance_chance(n: int, rank: int, m: int, count: int) -> float:
    """Chance that at most `count` of m further scores lie above the `rank`-th of n, all exchangeable and distinct.

    All orders of the n + m scores are equally likely, so it is counting: x of the m lie above in C(n − rank + x, x) ·
    C(rank − 1 + m − x, m − x) of C(n + m, m) cases. That is the negative hypergeometric law, also called beta-binomial:
    Binomial(m, p) whose rate p has the order statistic's Beta(n + 1 − rank, rank). Ties make it an upper bound of what is
    seen above the threshold.

    Raises:
        CalibrationError: no such rank, or no further scores.
    """
    if not 1 <= rank <= n or m < 1:
        raise CalibrationError(
            f"rank {rank} of {n} scores and {m} further ones; expected a rank from 1 to n, and m from 1 on"
        )
    cases = sum(comb(n - rank + x, x) * comb(rank - 1 + m - x, m - x) for x in range(min(count, m) + 1))
    return cases / comb(n + m, m)


def exceedance_bound(n: int, rank: int, m: int, confidence: float = CONFIDENCE) -> int:
    """So many of m further normal parts, at most, are rejected with `confidence`, if the threshold is the `rank`-th of n.

    `false_reject_bound` is on the rate in the long run, which m → ∞ approaches; m parts scatter around it, so that for few
    of them this bound lies above m times that rate.
    """
    return next(count for count in range(m + 1) if exceedance_chance(n, rank, m, count) >= confidence)


def interval(count: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Two-sided exact confidence interval of a rate of which `count` of n were seen."""
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if count == 0 else 1.0 - _rate_where(n, n - count, tail)
    return low, 1.0 if count == n else _rate_where(n, count, tail)


def _rate_where(n: int, count: int, chance: float) -> float:
    """The rate p at which at most `count` of n are seen with that chance: P(Binomial(n, p) ≤ count) = chance."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        p = 0.5 * (low + high)
        seen = sum(comb(n, k) * p**k * (1.0 - p) ** (n - k) for k in range(count + 1))
        low, high = (p, high) if seen > chance else (low, p)
    return high
