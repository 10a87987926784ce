"""Callers that give up on a write at a moment that the test chooses, whatever the machine's load."""

import threading
from concurrent.futures import Future
from typing import Any

import pytest
from sqlalchemy import event

from inspector.store import writer as writer_module
from inspector.store.engine import Store


class StalledCommit:
    """The database is told to commit and does not come back until `goes_on` is set."""

    def __init__(self, store: Store) -> None:
        self.begun, self.goes_on = threading.Event(), threading.Event()
        event.listen(store._writer, "commit", self._stall)

    def _stall(self, _: object) -> None:
        self.begun.set()
        self.goes_on.wait(60)


def give_up_when(moment: threading.Event, patching: pytest.MonkeyPatch) -> None:
    """Whoever waits for a write from now on, until the patch is undone, gives up on it then."""

    class Impatient(Future[Any]):
        def result(self, timeout: float | None = None) -> Any:
            assert moment.wait(60)
            raise TimeoutError

    patching.setattr(writer_module, "Future", Impatient)
