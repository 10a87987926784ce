"""Attribute agreement studies: which parts, in which order, and what each operator answered. Answers are only ever added.

Blind and without a way back: an operator is given one question at a time, the next one of a stored order, and an answer to
any other question is refused. So a study can be paused anywhere and goes on where it stood, also in another tab.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload, selectinload

from inspector.errors import NotFoundError, UsageError
from inspector.store import labels, queries
from inspector.store.labels import DEFECT, GOOD
from inspector.store.pictures import Picture
from inspector.store.products import find_product
from inspector.store.schema import Audit, InspectionRow, Label, Study, StudyAnswer, StudyPart
from inspector.types import Verdict

MIN_PARTS, MAX_PARTS = 2, 200
MAX_OPERATORS, MAX_REPEATS = 8, 5
MAX_NAME, MAX_TITLE = 64, 120
LOOKED_AT = 500
"""Among so many of a product's newest verdicts the suggestion chooses."""
FROM_LABEL, FROM_ENGINEER = "label", "engineer"


@dataclass(frozen=True)
class Plan:
    """What a study is to be, without its parts."""

    product: str
    title: str
    operators: tuple[str, ...]
    repeats: int
    seed: int
    with_system: bool = True

    def __post_init__(self) -> None:
        names = tuple(name.strip() for name in self.operators if name.strip())
        object.__setattr__(self, "operators", names)
        object.__setattr__(self, "title", self.title.strip())
        if not 1 <= len(names) <= MAX_OPERATORS:
            raise UsageError(f"a study needs 1 to {MAX_OPERATORS} operators, but {len(names)} are named")
        if len({name.casefold() for name in names}) < len(names):
            raise UsageError(f"each operator needs a name of their own, but one stands twice: {', '.join(names)}")
        if too_long := next((name for name in names if len(name) > MAX_NAME), None):
            raise UsageError(f"the name of an operator has at most {MAX_NAME} characters, but {too_long!r} has more")
        if not 1 <= self.repeats <= MAX_REPEATS:
            raise UsageError(f"each part is judged 1 to {MAX_REPEATS} times, but {self.repeats} were asked for")
        if not 1 <= len(self.title) <= MAX_TITLE:
            raise UsageError(f"a study needs a title of 1 to {MAX_TITLE} characters, but it has {len(self.title)}")


@dataclass(frozen=True)
class Candidate:
    """A stored picture that can be a part of a study, with what is known of it; `truth` is empty if nobody has said."""

    name: str
    path: str
    truth: str = ""
    inspection_id: int | None = None
    verdict: Verdict | None = None
    score: float | None = None
    threshold: float | None = None

    @property
    def key(self) -> str:
        return self.path

    @property
    def distance(self) -> float:
        """How far its score lies from its threshold, as a fraction of that; infinite where there is none."""
        if self.score is None or not self.threshold:
            return float("inf")
        return abs(self.score / self.threshold - 1.0)

    @property
    def looks_bad(self) -> bool:
        """A defect by its label, or by its verdict where nobody has said."""
        return self.truth == DEFECT or (not self.truth and self.verdict in (Verdict.NG, Verdict.UNDECIDED))


@dataclass(frozen=True, eq=False)
class Chosen:
    """A part as it enters a study: its picture (`pictures.staged`), and the truth with where that comes from."""

    picture: Picture
    truth: str = ""
    truth_source: str = ""
    inspection_id: int | None = None
    verdict: Verdict | None = None

    def __post_init__(self) -> None:
        if self.truth not in ("", GOOD, DEFECT):
            raise UsageError(
                f"truth {self.truth!r} of {self.picture.name}: expected {GOOD}, {DEFECT}, or nothing if not known"
            )


@dataclass(frozen=True)
class Question:
    """What an operator is asked next: this part in this round; `done` of `total` are answered."""

    part_id: int
    path: str
    repeat: int
    done: int
    total: int


def candidates(session: Session, product: str) -> list[Candidate]:
    """Stored pictures of a product, newest first: its last parts with kept pictures, then labelled ones from elsewhere."""
    found = find_product(session, product)
    said = labels.current(session, found.id)
    by_inspection = {one.inspection_id: one for one in said if one.inspection_id is not None}
    rows = queries.latest_of_product(session, found.id, LOOKED_AT)
    parts = [_of_inspection(row, by_inspection.get(row.id)) for row in rows]
    elsewhere = [one for one in reversed(said) if one.inspection_id not in {row.id for row in rows}]
    verdicts = _verdicts(session, [one.inspection_id for one in elsewhere if one.inspection_id is not None])
    others = [
        Candidate(one.name, one.path, one.label, one.inspection_id, verdicts.get(one.inspection_id or 0))
        for one in elsewhere
    ]
    return [part for part in [*parts, *others] if part.truth != labels.UNUSABLE]


def suggest(found: Sequence[Candidate], number: int) -> list[Candidate]:
    """A balanced mix: a third near the threshold, a third good, a third defects; those with a label first.

    Where one kind is short, the others fill up, so that fewer than `number` come back only if there are no more.
    """
    near = sorted((part for part in found if part.distance < float("inf")), key=lambda part: part.distance)
    share = number // 3
    taken = near[:share]
    keys = {part.key for part in taken}
    rest = sorted((part for part in found if part.key not in keys), key=lambda part: not part.truth)
    bad = [part for part in rest if part.looks_bad]
    good = [part for part in rest if not part.looks_bad]
    wanted_bad = (number - len(taken)) // 2
    wanted_bad = max(wanted_bad, number - len(taken) - len(good))
    bad = bad[:wanted_bad]
    return [*taken, *bad, *good[: number - len(taken) - len(bad)]]


def make_study(session: Session, plan: Plan, parts: Sequence[Chosen], *, who: str, now: datetime) -> Study:
    """Store a study with copies of its pictures and everybody's order.

    Raises:
        UsageError: too few or too many parts, or a picture twice.
        StoreError: a copy cannot be put in its place.
    """
    if not MIN_PARTS <= len(parts) <= MAX_PARTS:
        raise UsageError(f"a study needs {MIN_PARTS} to {MAX_PARTS} parts, but {len(parts)} were chosen")
    _refuse_twins(parts)
    study = Study(
        product=find_product(session, plan.product),
        title=plan.title,
        operators=list(plan.operators),
        repeats=plan.repeats,
        seed=plan.seed,
        orders=orders(len(parts), len(plan.operators), plan.repeats, plan.seed),
        with_system=plan.with_system,
        created_at=now,
        created_by=who,
    )
    session.add(study)
    session.flush()
    study.parts = [_stored(study.id, position, part) for position, part in enumerate(parts)]
    detail = {"study": study.id, "product": plan.product, "parts": len(parts), "operators": list(plan.operators)}
    session.add(Audit(at=now, who=who, action="study", detail=detail))
    session.flush()
    return study


def orders(parts: int, operators: int, repeats: int, seed: int) -> list[list[list[int]]]:
    """An order of the parts for each operator and round; no round begins with the part that ended the one before."""
    made: list[list[list[int]]] = []
    for operator in range(operators):
        rounds: list[list[int]] = []
        for repeat in range(repeats):
            order = [int(place) for place in np.random.default_rng((seed, operator, repeat)).permutation(parts)]
            if rounds and rounds[-1][-1] == order[0]:
                order.append(order.pop(0))
            rounds.append(order)
        made.append(rounds)
    return made


def question(session: Session, study_id: int, operator: str) -> Question | None:
    """What this operator is asked next; None if all is answered.

    Raises:
        NotFoundError: no such study, or the operator is not one of it.
    """
    study = get_study(session, study_id)
    if operator not in study.operators:
        raise NotFoundError(f"{operator!r} is no operator of study {study_id}; there are: {', '.join(study.operators)}")
    rows = session.execute(
        select(StudyAnswer.repeat, StudyAnswer.part_id).where(
            StudyAnswer.study_id == study_id, StudyAnswer.operator == operator
        )
    )
    answered = {(repeat, part_id) for repeat, part_id in rows}
    total = len(study.parts) * study.repeats
    for repeat, order in enumerate(study.orders[study.operators.index(operator)]):
        for position in order:
            part = study.parts[position]
            if (repeat, part.id) not in answered:
                return Question(part.id, part.path, repeat, len(answered), total)
    return None


def answer(
    session: Session, study_id: int, operator: str, asked: Question, said: str, *, took_s: float, now: datetime
) -> StudyAnswer:
    """Keep an answer to the question that the operator was asked.

    Raises:
        UsageError: neither good nor defect, or it is not the operator's next question: answers are never changed.
    """
    if said not in (GOOD, DEFECT):
        raise UsageError(f"answer {said!r}: expected {GOOD} or {DEFECT}")
    due = question(session, study_id, operator)
    if due is None or (due.part_id, due.repeat) != (asked.part_id, asked.repeat):
        raise UsageError("this part has been answered already, and an answer of a study is never changed")
    row = StudyAnswer(
        study_id=study_id,
        part_id=asked.part_id,
        operator=operator,
        repeat=asked.repeat,
        answer=said,
        took_s=took_s,
        at=now,
    )
    session.add(row)
    session.flush()
    return row


def get_study(session: Session, study_id: int) -> Study:
    """A study with its parts and product.

    Raises:
        NotFoundError: there is none with this number.
    """
    query = select(Study).where(Study.id == study_id).options(selectinload(Study.parts), joinedload(Study.product))
    study = session.scalar(query)
    if study is None:
        known = ", ".join(str(number) for number in session.scalars(select(Study.id).order_by(Study.id))) or "none yet"
        raise NotFoundError(f"there is no study {study_id}; there are: {known}")
    return study


def list_studies(session: Session) -> list[Study]:
    """All studies, newest first."""
    query = select(Study).options(selectinload(Study.parts), joinedload(Study.product))
    return list(session.scalars(query.order_by(Study.id.desc())))


def answers_of(session: Session, study_id: int) -> list[StudyAnswer]:
    """Every answer of a study, in the order in which they were given."""
    return list(session.scalars(select(StudyAnswer).where(StudyAnswer.study_id == study_id).order_by(StudyAnswer.id)))


def answered(session: Session, study_id: int) -> dict[str, int]:
    """How many answers each operator who has begun has given."""
    query = select(StudyAnswer.operator, func.count()).where(StudyAnswer.study_id == study_id)
    return {row.operator: int(row[1]) for row in session.execute(query.group_by(StudyAnswer.operator))}


def _of_inspection(row: InspectionRow, label: Label | None) -> Candidate:
    return Candidate(
        name=row.part or f"no. {row.seq}",
        path=row.image_path or "",
        truth="" if label is None else label.label,
        inspection_id=row.id,
        verdict=Verdict(row.verdict),
        score=row.score,
        threshold=row.threshold,
    )


def _verdicts(session: Session, inspection_ids: Sequence[int]) -> dict[int, Verdict]:
    query = select(InspectionRow.id, InspectionRow.verdict).where(InspectionRow.id.in_(inspection_ids))
    return {number: Verdict(verdict) for number, verdict in session.execute(query)}


def _stored(study_id: int, position: int, part: Chosen) -> StudyPart:
    picture = part.picture
    return StudyPart(
        position=position,
        name=picture.name,
        path=picture.move_to(Path("studies") / str(study_id) / f"{position:03d}-{picture.sha256[:8]}.png"),
        sha256=picture.sha256,
        inspection_id=part.inspection_id,
        verdict=None if part.verdict is None else int(part.verdict),
        truth=part.truth,
        truth_source=part.truth_source if part.truth else "",
    )


def _refuse_twins(parts: Sequence[Chosen]) -> None:
    """An operator who meets a picture twice in a round would be counted twice for one part."""
    names: dict[str, str] = {}
    for part in parts:
        name, sha256 = part.picture.name, part.picture.sha256
        if sha256 in names:
            raise UsageError(f"{name} and {names[sha256]} are the same picture; leave one of them out")
        names[sha256] = name
