"""Builds the banks that people have asked for, with the loaded encoder, beside the running inspection.

May import the store and `inspector.recipes`. Its thread gives way to the inspection where the system lets it.
"""

import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

from inspector.detection.encoder import Encoder
from inspector.errors import InspectorError, StationError, StoreError
from inspector.recipes import build_recipe
from inspector.store import products
from inspector.store.writer import StoreWriter

log = logging.getLogger(__name__)

POLL_S = 0.5
NICENESS = 10


class BuildStoppedError(StationError):
    """The worker stops; the build starts again with the next worker."""


class _Writes:
    """The worker's writer, until the worker stops: then every step of a build raises."""

    def __init__(self, writer: StoreWriter, stopping: threading.Event) -> None:
        self._writer = writer
        self._stopping = stopping

    def call(self, work: Any) -> Any:
        if self._stopping.is_set():
            raise BuildStoppedError("the worker stops; the build starts again with the next worker")
        return self._writer.call(work)


class Builder:
    """One thread that takes queued recipes of this station in order. `building` is what the dashboard shows."""

    def __init__(self, writer: StoreWriter, station_id: int, data_path: Path, encoder: Encoder) -> None:
        self._writer = writer
        self._station_id = station_id
        self._data_path = data_path
        self._encoder = encoder
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="builder", daemon=True)
        self.building: dict[str, Any] | None = None
        self.last_error = ""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(10.0)

    def _run(self) -> None:
        _give_way()
        while not self._stopping.is_set():
            try:
                if not self._build_next():
                    self._stopping.wait(POLL_S)
            except BuildStoppedError:
                return
            except InspectorError as error:
                self._failed(error)
            except Exception as error:  # a picture or a library may do anything; the next recipe must be built
                log.exception("a build failed in an unexpected way")
                self._failed(error)
            self.building = None

    def _build_next(self) -> bool:
        with self._writer.store.read() as session:
            recipe = products.next_queued(session, self._station_id)
            if recipe is None:
                return False
            recipe_id, title = recipe.id, {"product": recipe.product.name, "rev": recipe.rev}

        def show(progress: float, message: str) -> None:
            self.building = {"recipe_id": recipe_id, **title, "progress": round(progress, 3), "message": message}

        show(0.0, "starts")
        log.info("building %(product)s revision %(rev)d", title)
        try:
            detector = build_recipe(
                _Writes(self._writer, self._stopping), self._data_path, recipe_id, self._encoder, progress=show
            )
        except InspectorError:
            raise
        except Exception as error:
            reason = f"the build failed: {error}"
            self._writer.call(lambda session: products.mark_failed(session, recipe_id, reason))
            raise
        log.info("built %s revision %d, threshold %.4g", title["product"], title["rev"], detector.threshold)
        return True

    def _failed(self, error: Exception) -> None:
        log.error("building failed: %s", error)
        self.last_error = str(error)
        if isinstance(error, StoreError):
            self._stopping.wait(POLL_S * 10)


def _give_way() -> None:
    """Lower the priority of this thread; Linux knows priorities of single threads."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
