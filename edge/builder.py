"""Builds recipes that the dashboard asked for, beside the running inspection, with the encoder that is loaded."""

import logging
import threading
from pathlib import Path

from inspector import recipes
from inspector.detection.encoder import Encoder
from inspector.errors import StoreError
from inspector.store import products
from inspector.store.writer import StoreWriter

POLL_S = 0.5

log = logging.getLogger(__name__)


class Builder:
    """One thread; takes queued recipes of its station, oldest first."""

    def __init__(self, writer: StoreWriter, data_path: Path, station_id: int, encoder: Encoder) -> None:
        self._writer = writer
        self._data_path = data_path
        self._station_id = station_id
        self._encoder = encoder
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="builder", daemon=True)
        self.building: int | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        self._stopping.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.wait(POLL_S):
            try:
                with self._writer.store.read() as session:
                    waiting = products.next_queued(session, self._station_id)
                    self.building = None if waiting is None else waiting.id
                if self.building is not None:
                    recipes.build_recipe(self._writer, self._data_path, self.building, self._encoder)
            except StoreError as error:
                log.warning("the builder waits for the database: %s", error)
            except Exception as error:  # one recipe that cannot be built must not end all teaching
                log.exception("recipe %s could not be built", self.building)
                self._give_up(f"internal error: {error}")
            finally:
                self.building = None

    def _give_up(self, reason: str) -> None:
        recipe_id = self.building
        if recipe_id is not None:
            self._writer.post(lambda session: products.mark_failed(session, recipe_id, reason))
