"""Where detection and store meet: build the bank of a recipe from its pictures, and load it again to inspect with.

The worker's builder and `inspector product add` both come through here.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from inspector.detection.bank import ResidualBank
from inspector.detection.calibration import relative_spread
from inspector.detection.detector import Detector, Progress
from inspector.detection.encoder import Encoder
from inspector.detection.lessons import Marked, Subject
from inspector.detection.position import find_position
from inspector.errors import BankCorruptError, BankMismatchError, CalibrationError, InspectorError
from inspector.evaluation.sensitivity import sensitivity
from inspector.hygiene import Finding, check_pictures, check_scores
from inspector.images import read_image
from inspector.mutual import Mutual
from inspector.promises import MIN_CONFIRMED
from inspector.store import labels, products, queries, references
from inspector.store.engine import Store
from inspector.store.schema import InspectionRow, Label, Recipe
from inspector.store.writer import StoreWriter
from inspector.types import Calibration, Fit, ImageArray, Inspection, Verdict

BATCH = 8
PREVIEWED = 200
"""Of the last parts, so many are scored anew to show what a revision would change."""
POSITIONS = 6
"""Of the last parts that it would not accept, so many are moved to see whether they only lie otherwise: a second each."""

log = logging.getLogger(__name__)


def build_recipe(
    writer: StoreWriter, data_path: Path, recipe_id: int, encoder: Encoder, say: Progress | None = None
) -> bool:
    """Build, calibrate and save the bank of a recipe; its row tells progress and outcome. False if it failed."""

    def tell(fraction: float, message: str) -> None:
        writer.post(lambda session: products.set_progress(session, recipe_id, fraction * 0.95, message))
        if say is not None:
            say(fraction, message)

    try:
        _build(writer, data_path, recipe_id, encoder, tell)
    except InspectorError as error:
        reason = str(error)
        log.error("recipe %d could not be built: %s", recipe_id, reason)
        writer.call(lambda session: products.mark_failed(session, recipe_id, reason))
        return False
    return True


def _build(writer: StoreWriter, data_path: Path, recipe_id: int, encoder: Encoder, tell: Progress) -> None:
    with writer.store.read() as session:
        task = _Task.read(session, data_path, recipe_id)
    images = [read_image(path) for path in task.paths]
    prior = relative_spread(_calibrations_of_others(writer.store, data_path, recipe_id, encoder))
    built = _taught(encoder, task, images, prior, tell)
    findings = [*check_pictures(images, task.names), *check_scores(built.mutual)]
    detector, report = _tried(built, task, tell)
    tell(0.95, "drawing defects")
    report["sensitivity"] = sensitivity(detector, images).record()
    sha256 = detector.bank.save(data_path / task.bank_path)

    def finish(session: Session) -> None:
        recipe = products.get_recipe(session, recipe_id)
        _note_findings(recipe, findings, built.mutual, references.accepted_of(session, recipe.product_id))
        products.mark_ready(
            session,
            recipe_id,
            bank_path=task.bank_path.as_posix(),
            bank_sha256=sha256,
            encoder=(encoder.name, encoder.fingerprint),
            calibration=detector.calibration,
            report=report,
            now=datetime.now(UTC),
        )

    writer.call(finish)


@dataclass(frozen=True)
class _Task:
    """What a recipe is built from: its references and wish, what people said of its product, and the product's last parts.

    `bank_path` is below the data folder; `known` are the hashes of the references.
    """

    data_path: Path
    bank_path: Path
    names: list[str]
    paths: list[Path]
    known: list[str]
    wish: products.Wish
    said: list[Label]
    last: list[InspectionRow]

    @classmethod
    def read(cls, session: Session, data_path: Path, recipe_id: int) -> "_Task":
        recipe = products.get_recipe(session, recipe_id)
        return cls(
            data_path,
            Path("banks") / str(recipe.product.rcp) / str(recipe.rev),
            names=[reference.name for reference in recipe.references],
            paths=[data_path / reference.path for reference in recipe.references],
            known=[reference.sha256 for reference in recipe.references],
            wish=products.wish_of(recipe),
            said=labels.current(session, recipe.product_id),
            last=queries.latest_of_product(session, recipe.product_id, PREVIEWED),
        )

    @property
    def defects(self) -> list[Label]:
        """Also those that lie among the references: they score near zero, and the gate must say so."""
        return [label for label in self.said if label.label == labels.DEFECT]

    @property
    def teachers(self) -> list[Label]:
        """What was marked to be learned from."""
        return [label for label in self.said if label.lesson and label.region]

    @property
    def confirmed(self) -> list[Label]:
        """Parts that people confirmed as good."""
        return [label for label in self.said if label.label == labels.GOOD]

    @property
    def good(self) -> list[Label]:
        """Those of them that are no references."""
        return [label for label in self.confirmed if label.sha256 not in self.known]


def _taught(encoder: Encoder, task: _Task, images: Sequence[ImageArray], prior: float, tell: Progress) -> Detector:
    """The detector of the task's references and lessons, with a provisional calibration."""
    return Detector.from_references(
        encoder,
        images,
        names=task.names,
        progress=lambda done, message: tell(0.7 * done, message),
        prior=prior,
        taught=[_marked(task.data_path, label) for label in task.teachers],
        rois=task.wish.rois,
        align=task.wish.align,
        tiles=task.wish.tiles,
    )


def _tried(built: Detector, task: _Task, tell: Progress) -> tuple[Detector, dict[str, Any]]:
    """The detector as the confirmed good parts calibrate it, and what it says of labelled pictures and of the last parts."""
    tell(0.7, "scoring the confirmed good parts")
    good, teachers = task.good, task.teachers
    seen = _judged(built, task, good)
    plain = _judged(built.without_lessons(), task, good) if teachers else seen
    detector = seen.detector
    tell(0.8, "trying the confirmed defects")
    report = _reported(seen, plain, teachers, _escapes(detector, task.data_path, task.defects))
    report |= {
        "confirmed_good": len(task.confirmed),
        "confirmed_defects": len(task.defects),
        "labels_until": max((label.id for label in task.said), default=0),
    }
    tell(0.9, "comparing with the last parts")
    report |= _flips(detector, task.data_path, task.last)
    tell(0.92, "looking for positions that no reference shows")
    not_advised = {label.inspection_id for label in task.said if label not in good}
    report["positions"] = _positions(detector, task.data_path, task.last, not_advised)
    return detector, report


@dataclass(frozen=True)
class _Judged:
    """A calibrated detector, and what it says of the confirmed good parts beside its references."""

    detector: Detector
    good: list[tuple[Label, Inspection]]

    def raised_since(self, plain: "_Judged") -> list[dict[str, Any]]:
        """Confirmed good parts that lessons lifted over the threshold that there would be without lessons."""
        threshold = plain.detector.threshold
        pairs = zip(plain.good, self.good, strict=True)
        return [_named(*after) for before, after in pairs if before[1].score < threshold <= after[1].score]


def _reported(
    seen: _Judged, plain: _Judged, teachers: Sequence[Label], escapes: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """What the new revision says of the labelled pictures; `plain` is what it would be without lessons."""
    detector = seen.detector
    return {
        "lessons": [
            {"label": label.id, "picture": label.name, "lesson": label.lesson, "silent": lesson.is_silent}
            for label, lesson in zip(teachers, detector.bank.lessons, strict=True)
        ],
        "good_raised_by_lessons": seen.raised_since(plain),
        "good_not_accepted": [_named(*one) for one in seen.good if not one[1].score < detector.threshold],
        "escapes": list(escapes),
    }


def _judged(detector: Detector, task: _Task, good: Sequence[Label]) -> _Judged:
    """Calibrated by the parts confirmed good; those that became references themselves count as above the threshold.

    A good part that alignment does not find is rejected whatever the threshold: it counts as one above it, too.
    """
    scored = _scored(detector, task.data_path, good)
    scores = [inspection.score for _, inspection in scored if inspection.verdict is not Verdict.NONE]
    above = len(task.confirmed) - len(scores)
    return _Judged(_calibrated(detector, scores, above, task.wish), scored)


def _calibrated(detector: Detector, scores: Sequence[float], moved: int, wish: products.Wish) -> Detector:
    """With the step of calibration that the confirmed good parts support; each counts, an unusual one too.

    Raises:
        CalibrationError: they do not support what is wished.
    """
    if len(scores) >= MIN_CONFIRMED:
        return detector.recalibrated(scores, target=wish.target, grey=wish.grey, above=moved)
    if wish.target is not None or wish.grey:
        raise CalibrationError(
            f"a wished rate of false rejects, or an undecided zone, needs at least {MIN_CONFIRMED} confirmed good parts "
            f"beside the references, but there are {len(scores)}"
        )
    return detector


def _note_findings(
    recipe: Recipe, findings: Sequence[Finding], mutual: Sequence[Mutual], accepted: references.Accepted
) -> None:
    """What was found about each reference, into its row; what a person has accepted before stays accepted."""
    for number, reference in enumerate(recipe.references):
        records = [finding.record() for finding in findings if finding.index == number]
        for record in records:
            if said := accepted.get((reference.sha256, record["kind"])):
                record[references.ACCEPTED] = said
        reference.score = mutual[number].score if mutual else None
        reference.findings, reference.warning = records, references.warning_of(records)


def _marked(data_path: Path, label: Label) -> Marked:
    left, top, width, height = label.region or (0.0, 0.0, 1.0, 1.0)
    return Marked(label.id, Subject(label.lesson), read_image(data_path / label.path), (left, top, width, height))


def _scored(detector: Detector, data_path: Path, said: Sequence[Label]) -> list[tuple[Label, Inspection]]:
    """Labelled pictures with what the detector says of them; one that cannot be scored is an error, not left out.

    A part that is not found where it may lie has been answered: it is not accepted.
    """
    found: list[tuple[Label, Inspection]] = []
    for start in range(0, len(said), BATCH):
        part = said[start : start + BATCH]
        inspections = detector.inspect([read_image(data_path / label.path) for label in part])
        found += zip(part, inspections, strict=True)
    for label, inspection in found:
        if inspection.verdict is Verdict.NONE and (
            inspection.placement is None or inspection.placement.fit is Fit.FOUND
        ):
            raise CalibrationError(f"the labelled picture {label.name} cannot be scored; look at {label.path}")
    return found


def _escapes(detector: Detector, data_path: Path, defects: Sequence[Label]) -> list[dict[str, Any]]:
    """The confirmed defects that the detector lets pass."""
    return [
        _named(label, inspection) | {"kind": label.kind}
        for label, inspection in _scored(detector, data_path, defects)
        if inspection.verdict is Verdict.OK
    ]


def newer_defects(session: Session, recipe: Recipe) -> list[Label]:
    """Defects of the product that were confirmed after this revision was built; none if its gate was overridden."""
    if recipe.report.get("override"):
        return []
    known = int(recipe.report.get("labels_until", 0))
    return [label for label in labels.current(session, recipe.product_id, (labels.DEFECT,)) if label.id > known]


def try_newer_defects(writer: StoreWriter, data_path: Path, recipe_id: int, detector: Detector) -> int:
    """Try a revision against the defects that were confirmed after it was built; gives how many it lets pass.

    They are added to what the build saw, so that pages and commands show them and the revision is not activated: a
    rollback must not bring back what people have meanwhile found to escape.
    """
    with writer.store.read() as session:
        newer = newer_defects(session, products.get_recipe(session, recipe_id))
    found = _escapes(detector, data_path, newer)
    if found:
        writer.call(lambda session: products.add_escapes(session, recipe_id, found))
    return len(found)


def _named(label: Label, inspection: Inspection) -> dict[str, Any]:
    return {"label": label.id, "picture": label.name, "score": _known(inspection.score)}


def _known(score: float) -> float | None:
    """JSON has no nan."""
    return score if isfinite(score) else None


def _flips(detector: Detector, data_path: Path, last: Sequence[InspectionRow]) -> dict[str, Any]:
    """How the last parts whose pictures are kept would have been decided: their number, and those that change."""
    flips, seen = [], 0
    for start in range(0, len(last), BATCH):
        part = [row for row in last[start : start + BATCH] if row.image_path and (data_path / row.image_path).is_file()]
        inspections = detector.inspect([read_image(data_path / str(row.image_path)) for row in part])
        seen += len(part)
        flips += [
            {
                "inspection": row.id,
                "was": row.verdict,
                "now": int(inspection.verdict),
                "score": _known(inspection.score),
            }
            for row, inspection in zip(part, inspections, strict=True)
            if inspection.verdict != row.verdict
        ]
    return {"previewed": seen, "flips": flips}


def _positions(
    detector: Detector, data_path: Path, last: Sequence[InspectionRow], known: set[int | None]
) -> list[dict[str, Any]]:
    """Of the newest parts that were not accepted, those that lie in a position that no reference shows.

    Parts that people called defective or unusable, or that are references now (`known`), are not advised.
    """
    odd = [row for row in last if row.verdict != int(Verdict.OK) and row.id not in known]
    there = [row for row in odd if (data_path / str(row.image_path)).is_file()][:POSITIONS]
    found = []
    for row in there:
        image = read_image(data_path / str(row.image_path))
        position = find_position(detector, image, detector.inspect([image])[0])
        if position is not None:
            name = Path(str(row.image_path)).name
            found.append({"inspection": row.id, "picture": name, "path": row.image_path} | position.record())
    return found


def _calibrations_of_others(store: Store, data_path: Path, recipe_id: int, encoder: Encoder) -> list[Calibration]:
    """Calibrations of the newest revisions of other products by this encoder: what spread good parts have here."""
    with store.read() as session:
        recipe = products.get_recipe(session, recipe_id)
        others = [other for other in products.list_products(session) if other.id != recipe.product_id]
        newest = [products.find_recipe(session, other.rcp) for other in others]
        places = [
            data_path / other.bank_path
            for other in newest
            if other is not None and other.bank_path and other.encoder_fingerprint == encoder.fingerprint
        ]
    return [ResidualBank.load_calibration(place) for place in places if place.is_dir()]


def load_detector(data_path: Path, recipe: Recipe, encoder: Encoder) -> Detector:
    """The detector of a ready recipe.

    Raises:
        BankMismatchError: built by another encoder.
        BankCorruptError: the files are not those that were built.
    """
    if recipe.bank_path is None:
        raise BankCorruptError(f"recipe {recipe.product.name} rev {recipe.rev} has no bank; build it again")
    if recipe.encoder_fingerprint != encoder.fingerprint:
        raise BankMismatchError(
            f"recipe {recipe.product.name} rev {recipe.rev} was built by {recipe.encoder}, but {encoder.name} is loaded or "
            "its settings differ; teach the product again from its references"
        )
    return Detector(encoder, ResidualBank.load(data_path / recipe.bank_path, encoder, sha256=recipe.bank_sha256))
