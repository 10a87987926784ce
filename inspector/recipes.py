"""Joins detection and store: builds the bank of a recipe from its stored pictures, and loads it for inspection.

May import detection, store and images. The worker calls it beside the running inspection, the command line without one;
both go through `Writes`, so that the worker keeps its single writer thread.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Protocol, TypeVar

from sqlalchemy.orm import Session

from inspector.detection.bank import MANIFEST, ResidualBank
from inspector.detection.detector import Detector
from inspector.detection.encoder import Encoder
from inspector.errors import BankCorruptError, BankError, BankMismatchError, InspectorError
from inspector.images import read_image
from inspector.store import products
from inspector.store.engine import Store
from inspector.store.schema import Recipe
from inspector.types import ImageArray

T = TypeVar("T")
Progress = Callable[[float, str], None]
ODD_SCORE_FACTOR = 1.5
"""A reference that scores so much higher than the median of all is worth a look."""


class Writes(Protocol):
    """Runs a function in a write transaction: `StoreWriter`, or `OwnTransactions` without a worker."""

    def call(self, work: Callable[[Session], T]) -> T: ...


@dataclass(frozen=True)
class OwnTransactions:
    """Each call is a transaction of the caller's own thread."""

    store: Store

    def call(self, work: Callable[[Session], T]) -> T:
        with self.store.write() as session:
            return work(session)


@dataclass(frozen=True)
class _Job:
    folder: Path
    names: tuple[str, ...]
    paths: tuple[Path, ...]
    hashes: tuple[str, ...]


def build_recipe(
    writes: Writes, data_path: Path, recipe_id: int, encoder: Encoder, *, progress: Progress | None = None
) -> Detector:
    """Build, calibrate and save the bank of a recipe, and mark it ready; a failure is written to the recipe, too.

    Raises:
        InspectorError: a picture, the encoder, the bank or the database failed; the recipe is marked failed.
    """

    def say(fraction: float, message: str) -> None:
        writes.call(lambda session: products.set_progress(session, recipe_id, fraction, message))
        if progress is not None:
            progress(fraction, message)

    try:
        job = writes.call(lambda session: _job(session, recipe_id))
        say(0.0, "reading the references")
        images = [read_image(data_path / path) for path in job.paths]
        detector = Detector.from_references(
            encoder, images, names=job.names, progress=lambda fraction, text: say(0.05 + 0.9 * fraction, text)
        )
        sha256 = detector.bank.save(data_path / job.folder)
        writes.call(lambda session: _finish(session, recipe_id, job, detector, sha256))
    except InspectorError as error:
        reason = str(error)
        writes.call(lambda session: products.mark_failed(session, recipe_id, reason))
        raise
    return detector


def load_detector(data_path: Path, recipe: Recipe, encoder: Encoder) -> Detector:
    """The detector of a ready recipe.

    Raises:
        BankMismatchError: built by another encoder than the loaded one.
        BankError: not built, missing, changed on disk or damaged.
    """
    if recipe.bank_path is None or recipe.status != "ready":
        raise BankError(f"recipe {recipe.id} is {recipe.status}, not ready; wait for its build or build it again")
    if recipe.encoder_fingerprint != encoder.fingerprint:
        raise BankMismatchError(
            f"recipe {recipe.id} was built by encoder {recipe.encoder}, but {encoder.name} is loaded; teach it again"
        )
    folder = data_path / recipe.bank_path
    bank = ResidualBank.load(folder, encoder)
    if _stored_sha256(folder) != recipe.bank_sha256:
        raise BankCorruptError(f"{folder}: not the bank that was built for recipe {recipe.id}; teach it again")
    return Detector(encoder, bank)


def golden_image(data_path: Path, recipe: Recipe) -> ImageArray:
    """A picture that the recipe must be able to score: its first reference. Raises ImageError."""
    return read_image(data_path / recipe.references[0].path)


def reference_warnings(scores: Sequence[float | None], hashes: Sequence[str]) -> list[str]:
    """What is odd about single references: twice the same picture, or far from all the others."""
    known = [score for score in scores if score is not None]
    middle = median(known) if len(known) > 2 else None
    seen = Counter(hashes)
    warnings = []
    for score, digest in zip(scores, hashes, strict=True):
        if seen[digest] > 1:
            warnings.append("the same picture is among the references more than once")
        elif middle is not None and score is not None and middle > 0 and score > ODD_SCORE_FACTOR * middle:
            warnings.append(f"unlike the others: it scores {score / middle:.1f} times their median; is it a good part?")
        else:
            warnings.append("")
    return warnings


def _job(session: Session, recipe_id: int) -> _Job:
    recipe = products.get_recipe(session, recipe_id)
    return _Job(
        folder=Path("banks") / str(recipe.product.rcp) / str(recipe.rev),
        names=tuple(reference.name for reference in recipe.references),
        paths=tuple(Path(reference.path) for reference in recipe.references),
        hashes=tuple(reference.sha256 for reference in recipe.references),
    )


def _finish(session: Session, recipe_id: int, job: _Job, detector: Detector, sha256: str) -> None:
    # Scores of the references come first; with a single one there are only scores of its variations.
    count = len(job.names)
    alone: tuple[float | None, ...] = detector.calibration.scores[:count] if count > 1 else (None,)
    for reference, score, warning in zip(
        products.get_recipe(session, recipe_id).references, alone, reference_warnings(alone, job.hashes), strict=True
    ):
        reference.score, reference.warning = score, warning
    products.mark_ready(
        session,
        recipe_id,
        bank_path=job.folder.as_posix(),
        bank_sha256=sha256,
        encoder=(detector.encoder.name, detector.encoder.fingerprint),
        calibration=detector.calibration,
        now=datetime.now(UTC),
    )


def _stored_sha256(folder: Path) -> str | None:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return str(manifest["sha256"])
