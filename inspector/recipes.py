"""Where detection and store meet: build the bank of a recipe from its pictures, and load it again to inspect with.

The worker's builder and `inspector product add` both come through here.
"""

import logging
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from inspector.detection.bank import ResidualBank
from inspector.detection.detector import Detector, Progress
from inspector.detection.encoder import Encoder
from inspector.errors import BankCorruptError, BankMismatchError, InspectorError
from inspector.images import read_image
from inspector.store import products
from inspector.store.schema import Recipe
from inspector.store.writer import StoreWriter
from inspector.types import ImageArray

T = TypeVar("T")
OUTLIER_RATIO = 1.5
"""A reference whose leave-one-out score is this much above the median is worth a look."""

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
        recipe = products.get_recipe(session, recipe_id)
        place = Path("banks") / str(recipe.product.rcp) / str(recipe.rev)
        pictures = [(reference.name, data_path / reference.path) for reference in recipe.references]
    images = [read_image(path) for _, path in pictures]
    detector = Detector.from_references(encoder, images, names=[name for name, _ in pictures], progress=tell)
    sha256 = detector.bank.save(data_path / place)
    scores = detector.calibration.scores[: len(images)] if len(images) > 1 else (None,)
    warnings = reference_warnings(images, scores)

    def finish(session: Any) -> None:
        for reference, score, warning in zip(
            products.get_recipe(session, recipe_id).references, scores, warnings, strict=True
        ):
            reference.score, reference.warning = score, warning
        products.mark_ready(
            session,
            recipe_id,
            bank_path=place.as_posix(),
            bank_sha256=sha256,
            encoder=(encoder.name, encoder.fingerprint),
            calibration=detector.calibration,
            now=datetime.now(UTC),
        )

    writer.call(finish)


def reference_warnings(images: list[ImageArray], scores: tuple[float | None, ...]) -> list[str]:
    """What is odd about each reference: a copy of another, another size, or far from all others; "" if nothing."""
    sizes = Counter(image.shape[:2] for image in images)
    usual = sizes.most_common(1)[0][0]
    seen: dict[bytes, int] = {}
    known = [score for score in scores if score is not None]
    median = float(np.median(known)) if known else 0.0
    warnings = []
    for number, (image, score) in enumerate(zip(images, scores, strict=True), start=1):
        found = []
        key = image.tobytes()
        if key in seen:
            found.append(f"the same picture as number {seen[key]}")
        seen.setdefault(key, number)
        if image.shape[:2] != usual:
            found.append(f"{image.shape[1]}×{image.shape[0]} px, the others have {usual[1]}×{usual[0]} px")
        if score is not None and len(known) > 2 and score > OUTLIER_RATIO * median:
            found.append("unlike the others: it may show a defect, or a position that no other shows")
        warnings.append("; ".join(found))
    return warnings


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
