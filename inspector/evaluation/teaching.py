"""What teaching does: the same held-out parts before and after a lesson, by the detector of the line.

A trial draws who of a product is a reference, who was seen (and confirmed good), and who is held out; nobody plays two
parts. Then defects are marked, harmless marks are tolerated, and the worst good parts seen become references. Each time
the bank is built and calibrated again, and what is held out is decided by the old and by the new one. May import the
detector and this package.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from math import inf
from typing import Any

import numpy as np

from inspector.detection.calibration import calibrate_confirmed
from inspector.detection.detector import Detector
from inspector.detection.encoder import Encoder
from inspector.detection.lessons import Marked, Subject
from inspector.errors import UsageError
from inspector.evaluation.marking import Pictures, Product, Scores, drawn_marks, drawn_scratch
from inspector.evaluation.metrics import Ranking
from inspector.promises import MIN_CONFIRMED
from inspector.types import ImageArray, Step

DEFECTS_TAUGHT = (1, 2, 4)
MARKS_TOLERATED = (1, 2)
REFERENCES_ADDED = (1, 2, 4)
LEAST_HELD_OUT = 4
"""Fewer held-out parts, or defects of a kind, tell nothing."""
DRAWN = "drawn scratch"

Say = Callable[[str], None]


class Teaching(StrEnum):
    """What is taught."""

    DEFECT = "defect"
    TOLERATED = "tolerated mark"
    REFERENCE = "overkill to reference"


@dataclass(frozen=True)
class Rates:
    """What came out on held-out parts: rates at the threshold, and I-AUROC, which knows no threshold."""

    false_rejects: float
    escapes: float
    auroc: float


@dataclass(frozen=True)
class Effect:
    """One lesson of one trial, at one step of calibration.

    `risen` counts the confirmed good parts that the lesson lifted to the threshold as it was before, or above it.
    """

    product: str
    seed: int
    teaching: Teaching
    kind: str
    count: int
    step: Step
    before: Rates
    after: Rates
    risen: int

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Seen:
    """What one detector says of the parts of a trial: those confirmed good (inf: it became a reference), and the held-out
    good and bad ones."""

    provisional: float
    confirmed: Scores
    good: Scores
    bad: Scores

    def threshold(self, step: Step) -> float:
        """The product's own, at this step."""
        if step is Step.PROVISIONAL:
            return self.provisional
        beside = self.confirmed[np.isfinite(self.confirmed)]
        return calibrate_confirmed(beside.tolist(), above=len(self.confirmed) - len(beside)).threshold

    def rates(self, step: Step) -> Rates:
        """At the threshold of this step."""
        threshold = self.threshold(step)
        auroc = Ranking.of_scores(self.good, self.bad).auroc
        if auroc is None:
            raise UsageError("no held-out good or no held-out bad part; give a set with more pictures")
        return Rates(float((self.good >= threshold).mean()), float((self.bad < threshold).mean()), auroc)


@dataclass(frozen=True, eq=False)
class Trial:
    """One draw of a product: numbers of the good pictures that are references, seen and held out, in random order."""

    encoder: Encoder
    product: Product
    seed: int
    references: tuple[int, ...]
    seen: tuple[int, ...]
    held_out: tuple[int, ...]

    @classmethod
    def draw(cls, encoder: Encoder, product: Product, references: int, seed: int) -> "Trial":
        """Half of the good pictures beside the references are seen, the other half is held out.

        Raises:
            UsageError: too few good pictures.
        """
        order = np.random.default_rng(seed).permutation(len(product.good.images)).tolist()
        rest = len(order) - references
        needed = references + 2 * max(LEAST_HELD_OUT, max(REFERENCES_ADDED) + 1)
        if len(order) < needed or not product.kinds:
            raise UsageError(
                f"{product.name}: {len(order)} good and {len(product.kinds)} bad pictures are too few to teach with "
                f"{references} references; give at least {needed} good ones and a bad one"
            )
        middle = references + rest // 2
        return cls(
            encoder,
            product,
            seed,
            tuple(order[:references]),
            tuple(order[references:middle]),
            tuple(order[middle:]),
        )

    def image(self, number: int) -> ImageArray:
        """A good picture."""
        return self.product.good.images[number]

    def rng(self, purpose: int) -> np.random.Generator:
        """For what is drawn; each purpose has its own."""
        return np.random.default_rng([self.seed, purpose])

    def build(self, taught: Sequence[Marked] = (), added: Sequence[int] = ()) -> Detector:
        """Bank and provisional threshold, as the builder of the product makes them."""
        images = [self.image(number) for number in (*self.references, *added)]
        return Detector.from_references(self.encoder, images, taught=taught)

    def effects(self, teaching: Teaching, kind: str, count: int, before: Seen, after: Seen) -> Iterator[Effect]:
        """At each step of calibration that so many seen parts support."""
        for step in (Step.PROVISIONAL, Step.CONFIRMED) if len(self.seen) >= MIN_CONFIRMED else (Step.PROVISIONAL,):
            threshold = before.threshold(step)
            still = np.isfinite(after.confirmed)
            risen = int((still & (before.confirmed < threshold) & (after.confirmed >= threshold)).sum())
            yield Effect(
                self.product.name, self.seed, teaching, kind, count, step, before.rates(step), after.rates(step), risen
            )


def bench_teaching(
    encoder: Encoder, product: Product, *, references: int, seeds: Sequence[int], advance: Say
) -> list[Effect]:
    """All lessons on one product, with each seed; `advance` is told after each seed.

    Raises:
        UsageError: too few pictures.
    """
    found: list[Effect] = []
    for seed in seeds:
        trial = Trial.draw(encoder, product, references, seed)
        plain = trial.build()
        good = product.good.scores(plain)
        bad = product.bad.scores(plain)
        before = Seen(plain.threshold, good[list(trial.seen)], good[list(trial.held_out)], bad)
        found += [*_defects(trial, plain, before), *_marks(trial, plain, before), *_references(trial, before, good)]
        advance(f"{product.name}, seed {seed}")
    return found


def _defects(trial: Trial, plain: Detector, before: Seen) -> Iterator[Effect]:
    """Each kind that has enough marked pictures, and a drawn scratch: n are marked, the others of the kind are held out."""
    product, most = trial.product, max(DEFECTS_TAUGHT)
    for kind, many in Counter(product.kinds).items():
        mine = [number for number, name in enumerate(product.kinds) if name == kind]
        marked = [number for number in trial.rng(1).permutation(mine) if product.bad.regions[number] is not None]
        if len(marked) < most or many - most < LEAST_HELD_OUT:
            continue
        others = [number for number in mine if number not in marked[:most]]
        teachers = [(product.bad.images[number], product.bad.regions[number]) for number in marked[:most]]
        yield from _taught(trial, kind, teachers, replace(before, bad=before.bad[others]), (product.bad, others))
    rng = trial.rng(2)
    teachers = [drawn_scratch(rng, trial.image(number)) for number in trial.seen[:most]]
    scratched = Pictures.encoded(
        trial.encoder, [drawn_scratch(rng, trial.image(number))[0] for number in trial.held_out]
    )
    known = replace(before, bad=scratched.scores(plain))
    yield from _taught(trial, DRAWN, teachers, known, (scratched, range(len(trial.held_out))))


def _taught(
    trial: Trial,
    kind: str,
    teachers: Sequence[tuple[ImageArray, Any]],
    before: Seen,
    bad: tuple[Pictures, Sequence[int]],
) -> Iterator[Effect]:
    for count in DEFECTS_TAUGHT:
        marks = [Marked(n, Subject.DEFECT, image, region) for n, (image, region) in enumerate(teachers[:count])]
        detector = trial.build(marks)
        good = trial.product.good.scores(detector)
        after = Seen(
            detector.threshold,
            good[list(trial.seen)],
            good[list(trial.held_out)],
            bad[0].scores(detector)[list(bad[1])],
        )
        yield from trial.effects(Teaching.DEFECT, kind, count, before, after)


def _marks(trial: Trial, plain: Detector, before: Seen) -> Iterator[Effect]:
    """All good parts to come bear a harmless mark; n of those that were seen are marked with it as tolerated.

    The ones that were marked are confirmed good parts, before and after.
    """
    most = max(MARKS_TOLERATED)
    drawn = drawn_marks(trial.rng(3), [trial.image(number) for number in (*trial.seen[:most], *trial.held_out)])
    pictures = Pictures.encoded(trial.encoder, [image for image, _ in drawn])
    plainly = pictures.scores(plain)
    for count in MARKS_TOLERATED:
        marks = [Marked(n, Subject.TOLERATED, image, region) for n, (image, region) in enumerate(drawn[:count])]
        detector = trial.build(marks)
        marked, seen = pictures.scores(detector), trial.product.good.scores(detector)[list(trial.seen)]
        earlier = replace(
            before, confirmed=np.concatenate([plainly[:count], before.confirmed[count:]]), good=plainly[most:]
        )
        after = Seen(
            detector.threshold,
            np.concatenate([marked[:count], seen[count:]]),
            marked[most:],
            trial.product.bad.scores(detector),
        )
        yield from trial.effects(Teaching.TOLERATED, "drawn spot", count, earlier, after)


def _references(trial: Trial, before: Seen, good: Scores) -> Iterator[Effect]:
    """The k good parts seen that scored highest become references.

    As in the product each counts as a confirmed part above the threshold (`calibrate_confirmed`).
    """
    worst = sorted(trial.seen, key=lambda number: -good[number])
    for count in REFERENCES_ADDED:
        detector = trial.build(added=worst[:count])
        scores = trial.product.good.scores(detector)
        moved = set(worst[:count])
        after = Seen(
            detector.threshold,
            np.array([inf if number in moved else scores[number] for number in trial.seen]),
            scores[list(trial.held_out)],
            trial.product.bad.scores(detector),
        )
        yield from trial.effects(Teaching.REFERENCE, "", count, before, after)


@dataclass(frozen=True)
class Summary:
    """Effects of one lesson on a set: each figure in percent as (mean, standard deviation) over seeds.

    A seed's figure is the mean over the products of the set. `risen` is the sum over all trials.
    """

    data: str
    teaching: Teaching
    kind: str
    count: int
    step: Step
    trials: int
    before: dict[str, tuple[float, float]]
    after: dict[str, tuple[float, float]]
    risen: int

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def summarise(data: str, effects: Sequence[Effect]) -> list[Summary]:
    """One row for each lesson, number and step, in the order in which they came."""
    groups: dict[tuple[Teaching, str, int, Step], list[Effect]] = {}
    for effect in effects:
        groups.setdefault((effect.teaching, effect.kind, effect.count, effect.step), []).append(effect)
    return [
        Summary(
            data, *key, len(group), _spread(group, "before"), _spread(group, "after"), sum(one.risen for one in group)
        )
        for key, group in groups.items()
    ]


def _spread(group: Sequence[Effect], side: str) -> dict[str, tuple[float, float]]:
    seeds = sorted({one.seed for one in group})
    found = {}
    for field in fields(Rates):
        values = [
            100.0 * float(np.mean([getattr(getattr(one, side), field.name) for one in group if one.seed == seed]))
            for seed in seeds
        ]
        found[field.name] = (round(float(np.mean(values)), 2), round(float(np.std(values)), 2))
    return found
