"""Keeps pictures and heat maps as evidence, after the verdict and never in its way: dropped rather than waited for.

May import images, the store's journal and the configuration.
"""

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.verdicts import Statement
from inspector.config import ImagesConfig
from inspector.images import encode_jpeg, heat_map, shrink
from inspector.store import journal
from inspector.store.writer import StoreWriter
from inspector.types import ImageArray, MapArray, Verdict

log = logging.getLogger(__name__)

QUEUE_SIZE = 32
QUEUE_BYTES = 256 * 2**20
JPEG_QUALITY = 90


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is kept of one part; without a map where nothing was scored."""

    inspection_id: int
    image: ImageArray
    anomaly_map: MapArray | None
    pixel_threshold: float
    image_path: str


class Recorder:
    """One thread that writes pictures; what finds the queue full is counted in `dropped`."""

    def __init__(self, config: ImagesConfig, data_path: Path, writer: StoreWriter) -> None:
        self._config = config
        self._data_path = data_path
        self._writer = writer
        self._queue: queue.Queue[Evidence | None] = queue.Queue()
        self._waiting_bytes = 0
        self.has_room: Callable[[], bool] = lambda: True
        """Set by whoever watches the disk: a full one gets no pictures."""
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self.dropped = 0
        self.failed = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Write what waits, then end."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    def wants(self, verdict: Verdict) -> bool:
        """Whether the picture of such a part is to be kept."""
        return self._config.save == "all" or (self._config.save == "not_ok" and verdict is not Verdict.OK)

    def path_for(self, statement: Statement) -> str | None:
        """Where the picture will lie below the data folder; None if it will not be kept."""
        part = statement.answer.part
        if part.image is None or not self.wants(statement.answer.verdict):
            return None
        if not self.has_room():
            self.dropped += 1
            return None
        day = f"{part.captured_at:%Y-%m-%d}"
        return f"images/{day}/{statement.boot:05d}-{statement.seq:08d}-{part.camera}.jpg"

    def put(self, evidence: Evidence) -> None:
        """Never blocks."""
        with self._lock:
            size = evidence.image.nbytes
            if self._queue.qsize() >= QUEUE_SIZE or (self._waiting_bytes and self._waiting_bytes + size > QUEUE_BYTES):
                self.dropped += 1
                return
            self._waiting_bytes += size
        self._queue.put(evidence)

    def _run(self) -> None:
        while (evidence := self._queue.get()) is not None:
            try:
                self._save(evidence)
            except Exception as error:  # noqa: BLE001 - a picture is never worth more than the line: full disk, anything
                self.failed += 1
                log.warning("the picture of inspection %d is lost: %s", evidence.inspection_id, error)
            with self._lock:
                self._waiting_bytes -= evidence.image.nbytes

    def _save(self, evidence: Evidence) -> None:
        image = shrink(evidence.image, self._config.max_side_px)
        path = self._data_path / evidence.image_path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(image, JPEG_QUALITY))
        map_path = None
        if evidence.anomaly_map is not None:
            map_path = evidence.image_path.removesuffix(".jpg") + "-map.jpg"
            overlay = heat_map(evidence.anomaly_map, image, evidence.pixel_threshold)
            (self._data_path / map_path).write_bytes(encode_jpeg(overlay, JPEG_QUALITY))
        image_path, inspection_id = evidence.image_path, evidence.inspection_id
        self._writer.post(lambda session: journal.set_image_paths(session, inspection_id, image_path, map_path))
