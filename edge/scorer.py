"""Runs the detector so that one bad picture costs one verdict, and a broken device ends the process.

May import the detector's records and torch's errors. A batch that fails is tried again picture by picture; if none of
them works, a picture that must work (a reference) tells whether the pictures or the device are at fault.
"""

import gc
import logging
from collections.abc import Sequence
from math import isfinite

import torch

from edge.state import ActiveRecipe
from inspector.errors import EncoderError, InspectorError
from inspector.types import ImageArray, Inspection

log = logging.getLogger(__name__)


def self_test(active: ActiveRecipe) -> None:
    """Score a reference of the bank; the recipe may be used only if the score is finite.

    Raises:
        EncoderError: it fails or is not finite.
    """
    try:
        score = active.detector.inspect([active.golden])[0].score
    except InspectorError:
        raise
    except Exception as error:  # whatever it is, this recipe or device cannot be used
        raise EncoderError(f"the self-test of {active.name} failed: {error}") from error
    if not isfinite(score):
        raise EncoderError(f"the self-test of {active.name} gave {score}, not a finite score; build it again")


def inspect(active: ActiveRecipe, images: Sequence[ImageArray]) -> list[Inspection | None]:
    """One inspection per picture in order; None for a picture that the detector fails on.

    Raises:
        EncoderError: the device is broken; not even a reference can be scored.
    """
    try:
        return list(active.detector.inspect(images))
    except torch.OutOfMemoryError as error:
        log.warning("no memory for a batch of %d: %s", len(images), error)
        short_of_memory = True
    except Exception:  # one poisoned picture fails a whole batch, by whatever error
        log.exception("a batch of %d failed; its pictures are tried one by one", len(images))
        short_of_memory = False
    # Outside of the except block: the error holds on to the tensors of the failed pass.
    if short_of_memory:
        _free_memory()
        if len(images) > 1:
            half = len(images) // 2
            return [*inspect(active, images[:half]), *inspect(active, images[half:])]
    elif len(images) > 1:
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


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
