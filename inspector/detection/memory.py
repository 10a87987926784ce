"""How many pictures go through the tower at once: as many as the device's memory takes, found by trying.

torch alone. A batch that does not fit is halved and tried again; after some that fitted, more are tried again.
"""

import gc
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from inspector.errors import EncoderError

MOST = 32
"""Pictures at once; larger batches gain nothing on the devices that we know."""
GROWS_AFTER = 64
"""Batches that fitted, until a larger one is tried again."""

log = logging.getLogger(__name__)
In = TypeVar("In")
Out = TypeVar("Out")


class BatchLimit:
    """The largest batch that is tried now; shared by all who use one encoder."""

    def __init__(self) -> None:
        self.pictures = MOST
        self._fitted = 0

    def run(self, work: Callable[[Sequence[In]], list[Out]], items: Sequence[In]) -> list[Out]:
        """`work` over all items in order, in batches that fit.

        Raises:
            EncoderError: not even one item fits into the device's memory.
        """
        done: list[Out] = []
        while len(done) < len(items):
            batch = items[len(done) : len(done) + self.pictures]
            try:
                found = work(batch)
            except torch.OutOfMemoryError as error:
                reason = str(error).splitlines()[0]
            else:
                done += found
                self._grow(len(batch))
                continue
            self._shrink(len(batch), reason)  # outside of the except block: the error holds the failed pass's tensors
        return done

    def _shrink(self, tried: int, reason: str) -> None:
        _free()
        if tried == 1:
            raise EncoderError(
                f"not even one picture fits into the memory of the device ({reason}); make encoder.image_size smaller"
            )
        self.pictures, self._fitted = max(1, tried // 2), 0
        log.warning("a batch of %d does not fit into the device's memory; at most %d are tried", tried, self.pictures)

    def _grow(self, fitted: int) -> None:
        self._fitted += 1
        if self.pictures < MOST and fitted == self.pictures and self._fitted >= GROWS_AFTER:
            self.pictures, self._fitted = min(MOST, self.pictures * 2), 0


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
