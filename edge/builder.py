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
from inspector.errors import StationError, StoreError
from inspector.recipes import build_recipe
from inspector.store import products
from inspector.store.writer import StoreWriter

log = logging.getLogger(__name__)

POLL_S = 0.5
PAUSE_S = 5.0
NICENESS = 10


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
        """A build that runs is given up at its next step, and done again by the next worker."""
        self._stopping.set()
        self._thread.join(10.0)

    def _run(self) -> None:
        _give_way()
        while not self._stopping.is_set():
            recipe_id = 0
            try:
                recipe_id, title = self._next()
                if recipe_id:
                    self._build(recipe_id, title)
                else:
                    self._stopping.wait(POLL_S)
            except StoreError as error:
                self._pause(f"the database failed while building: {error}")
            except Exception as error:  # a library may do anything; the next recipe must be built
                log.exception("a build failed in an unexpected way")
                self._give_up(recipe_id, f"the build failed: {error}")
            self.building = None

    def _next(self) -> tuple[int, str]:
        with self._writer.store.read() as session:
            recipe = products.next_queued(session, self._station_id)
            return (0, "") if recipe is None else (recipe.id, f"{recipe.product.name} revision {recipe.rev}")

    def _build(self, recipe_id: int, title: str) -> None:
        def show(progress: float, message: str) -> None:
            if self._stopping.is_set():
                raise StationError("the worker stops; the next one builds this recipe")
            self.building = {"recipe_id": recipe_id, "title": title, "progress": round(progress, 3), "message": message}

        show(0.0, "starts")
        log.info("building %s", title)
        if build_recipe(self._writer, self._data_path, recipe_id, self._encoder, show):
            log.info("built %s", title)
        elif self._stopping.is_set():
            # "building" is what the next worker takes up again.
            self._writer.call(lambda session: products.set_progress(session, recipe_id, 0.0, "waits for the worker"))
        else:
            self.last_error = f"{title} could not be built"

    def _give_up(self, recipe_id: int, problem: str) -> None:
        if recipe_id:
            self._writer.post(lambda session: products.mark_failed(session, recipe_id, problem))
        self._pause(problem)

    def _pause(self, problem: str) -> None:
        log.error("%s", problem)
        self.last_error = problem
        self._stopping.wait(PAUSE_S)


def _give_way() -> None:
    """Lower the priority of this thread; Linux knows priorities of single threads."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
