"""Runs the detector so that one bad picture costs one verdict, and a broken device ends the process.

May import the detector's records. A batch that fails is tried again picture by picture; if none of them works, the golden
picture of the bank tells whether the pictures or the device are at fault. Batches too large for the device's memory are
made smaller inside the detector.
"""

import logging
from collections.abc import Sequence

from edge.state import ActiveRecipe
from inspector.errors import EncoderError, InspectorError
from inspector.types import ImageArray, Inspection

log = logging.getLogger(__name__)


def self_test(active: ActiveRecipe, batch: int = 1) -> None:
    """The bank's golden picture must score what it did when the bank was built; the recipe may be used only then.

    Raises:
        EncoderError: it fails, or gives another score (`EncoderMismatchError`).
    """
    try:
        active.detector.self_test(batch)
    except InspectorError:
        raise
    except Exception as error:  # whatever it is, this recipe or device cannot be used
        raise EncoderError(f"the self-test of {active.name} failed: {error}") from error


def inspect(active: ActiveRecipe, images: Sequence[ImageArray]) -> list[Inspection | None]:
    """One inspection per picture in order; None for a picture that the detector fails on.

    Raises:
        EncoderError: the device is broken; not even the golden picture can be scored.
    """
    try:
        return list(active.detector.inspect(images))
    except Exception:  # one poisoned picture fails a whole batch, by whatever error
        log.exception("a batch of %d failed; its pictures are tried one by one", len(images))
    # Outside of the except block: the error holds on to the tensors of the failed pass.
    if len(images) > 1:
        singles = [_single(active, image) for image in images]
        if any(single is not None for single in singles):
            return singles
    self_test(active)
    return [None] * len(images)


def _single(active: ActiveRecipe, image: ImageArray) -> Inspection | None:
    try:
        return active.detector.inspect([image])[0]
    except Exception:  # the poisoned one, or a broken device: the self-test tells
        log.exception("a picture of shape %s cannot be scored", image.shape)
        return None
