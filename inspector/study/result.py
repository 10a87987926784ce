"""A study as it stands: who has finished, what every part was given, and what the finished operators' answers say.

May import the store and `inspector.agreement`. An operator who has not finished is left out of the figures and named.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from sqlalchemy.orm import Session

from inspector.agreement import (
    EFFECTIVENESS,
    FALSE_ALARM,
    MISS,
    Agreement,
    Judge,
    Kappa,
    Limits,
    Pair,
    Share,
    assess,
)
from inspector.store import studies
from inspector.store.labels import DEFECT
from inspector.store.schema import Study, StudyAnswer
from inspector.types import Verdict

SYSTEM = "inspection system"


@dataclass(frozen=True)
class PartResult:
    """One part: `answers` of each operator, one per round, in order; `truth` is empty where it is not known."""

    position: int
    name: str
    path: str
    truth: str
    truth_source: str
    verdict: Verdict | None
    answers: Mapping[str, tuple[str, ...]]

    @property
    def disputed(self) -> bool:
        """Whether any two answers differ, or one differs from the truth."""
        given = {answer for answers in self.answers.values() for answer in answers}
        return len(given) > 1 or bool(self.truth and given - {self.truth})


@dataclass(frozen=True)
class StudyResult:
    """A study, its progress, and what it says; `agreement` is None until one operator has finished."""

    id: int
    title: str
    product: str
    created_at: datetime
    created_by: str
    repeats: int
    seed: int
    operators: tuple[str, ...]
    progress: Mapping[str, int]
    total: int
    with_system: bool
    parts: tuple[PartResult, ...]
    median_s: Mapping[str, float]
    last_at: datetime | None
    agreement: Agreement | None

    @property
    def finished(self) -> tuple[str, ...]:
        return tuple(name for name in self.operators if self.progress[name] == self.total)

    @property
    def unfinished(self) -> tuple[str, ...]:
        return tuple(name for name in self.operators if self.progress[name] < self.total)

    @property
    def truths(self) -> tuple[int, int, int]:
        """How many parts are good, defects, and of unknown truth."""
        defects = sum(part.truth == DEFECT for part in self.parts)
        unknown = sum(not part.truth for part in self.parts)
        return len(self.parts) - defects - unknown, defects, unknown


def load(session: Session, study_id: int) -> StudyResult:
    """A study as it stands now.

    Raises:
        NotFoundError: there is none with this number.
    """
    study = studies.get_study(session, study_id)
    rows = studies.answers_of(session, study_id)
    total = len(study.parts) * study.repeats
    progress = {name: sum(row.operator == name for row in rows) for name in study.operators}
    finished = [name for name in study.operators if progress[name] == total]
    given = _by_part(rows)
    parts = tuple(
        PartResult(
            position=part.position,
            name=part.name,
            path=part.path,
            truth=part.truth,
            truth_source=part.truth_source,
            verdict=None if part.verdict is None else Verdict(part.verdict),
            answers={name: given[name, part.id] for name in finished},
        )
        for part in study.parts
    )
    return StudyResult(
        id=study.id,
        title=study.title,
        product=study.product.name,
        created_at=study.created_at,
        created_by=study.created_by,
        repeats=study.repeats,
        seed=study.seed,
        operators=tuple(study.operators),
        progress=progress,
        total=total,
        with_system=study.with_system,
        parts=parts,
        median_s={name: median(row.took_s for row in rows if row.operator == name) for name in finished},
        last_at=rows[-1].at if rows else None,
        agreement=_assessed(study, parts, finished) if finished else None,
    )


def to_json(result: StudyResult) -> dict[str, Any]:
    """The study for programs: settings, progress, every answer, and all figures with intervals and bands."""
    agreement = result.agreement
    return {
        "id": result.id,
        "title": result.title,
        "product": result.product,
        "created_at": result.created_at.isoformat(),
        "created_by": result.created_by,
        "repeats": result.repeats,
        "seed": result.seed,
        "progress": {name: {"answered": result.progress[name], "of": result.total} for name in result.operators},
        "unfinished": list(result.unfinished),
        "median_s": dict(result.median_s),
        "parts": [_part_json(part) for part in result.parts],
        "agreement": None if agreement is None else _agreement_json(agreement),
    }


def _by_part(rows: Sequence[StudyAnswer]) -> dict[tuple[str, int], tuple[str, ...]]:
    found: dict[tuple[str, int], list[StudyAnswer]] = {}
    for row in rows:
        found.setdefault((row.operator, row.part_id), []).append(row)
    return {
        key: tuple(row.answer for row in sorted(answers, key=lambda row: row.repeat)) for key, answers in found.items()
    }


def _assessed(study: Study, parts: Sequence[PartResult], finished: Sequence[str]) -> Agreement:
    operators = {
        name: {part.position: [answer == DEFECT for answer in part.answers[name]] for part in parts}
        for name in finished
    }
    truth = {part.position: part.truth == DEFECT for part in parts if part.truth}
    verdicts = {
        part.position: part.verdict is not Verdict.OK for part in parts if part.verdict not in (None, Verdict.NONE)
    }
    return assess(operators, truth, (SYSTEM, verdicts) if study.with_system else None)


def _part_json(part: PartResult) -> dict[str, Any]:
    return {
        "name": part.name,
        "truth": part.truth or None,
        "truth_source": part.truth_source or None,
        "verdict": None if part.verdict is None else part.verdict.name,
        "answers": {name: list(answers) for name, answers in part.answers.items()},
    }


def _agreement_json(agreement: Agreement) -> dict[str, Any]:
    return {
        "operators": [_judge_json(judge) for judge in agreement.operators],
        "together": _judge_json(agreement.together),
        "system": None if agreement.system is None else _judge_json(agreement.system),
        "pairs": [_pair_json(pair) for pair in agreement.pairs],
        "between": _share_json(agreement.between),
        "fleiss_kappa": _kappa_json(agreement.fleiss),
    }


def _judge_json(judge: Judge) -> dict[str, Any]:
    return {
        "name": judge.name,
        "effectiveness": _share_json(judge.effectiveness, EFFECTIVENESS),
        "miss": _share_json(judge.miss, MISS),
        "false_alarm": _share_json(judge.false_alarm, FALSE_ALARM),
        "within": _share_json(judge.within),
        "kappa": _kappa_json(judge.kappa),
    }


def _pair_json(pair: Pair) -> dict[str, Any]:
    return {
        "one": pair.one,
        "other": pair.other,
        "agreed": _share_json(pair.agreed),
        "kappa": _kappa_json(pair.kappa),
    }


def _share_json(share: Share | None, limits: Limits | None = None) -> dict[str, Any] | None:
    if share is None:
        return None
    low, high = share.bounds
    plain: dict[str, Any] = {"rate": share.rate, "low": low, "high": high, "count": share.count, "n": share.n}
    plain["parts"] = share.parts
    return plain if limits is None else plain | {"band": limits.band(share.rate), "at_worst": share.worst(limits)}


def _kappa_json(kappa: Kappa | None) -> dict[str, Any] | None:
    if kappa is None:
        return None
    low, high = kappa.bounds or (None, None)
    return {"value": kappa.value, "low": low, "high": high, "parts": kappa.parts, "strength": kappa.strength}
