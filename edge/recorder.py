"""Evidence pictures, after the verdict and never in its way: a bounded queue and a thread of its own."""

import logging
import queue
import threading
from dataclasses import dataclass
from pathlib import Path

from edge.verdicts import Answer
from inspector.config import ImagesConfig
from inspector.errors import ImageError
from inspector.images import encode_jpeg, heat_map, shrink
from inspector.store import journal
from inspector.store.writer import StoreWriter
from inspector.types import Verdict

QUEUE_SIZE = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Job:
    given: Answer
    inspection_id: int
    path: str


class Recorder:
    """Saves picture and heat map of a verdict as JPEG below the data folder."""

    def __init__(self, config: ImagesConfig, data_path: Path, writer: StoreWriter) -> None:
        self._config = config
        self._data_path = data_path
        self._writer = writer
        self._jobs: queue.Queue[_Job | None] = queue.Queue(QUEUE_SIZE)
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self.dropped = 0
        self.failures = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Save what waits, then end."""
        try:
            self._jobs.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def path_for(self, given: Answer, boot: int, seq: int) -> str | None:
        """Where the picture of a verdict will lie, below the data folder; None if it is not kept."""
        wanted = self._config.save == "all" or (self._config.save == "not_ok" and given.verdict is not Verdict.OK)
        if given.part.image is None or not wanted:
            return None
        return f"images/{given.part.captured_at:%Y%m%d}/{boot:05d}-{seq:010d}.jpg"

    def offer(self, given: Answer, inspection_id: int, path: str | None) -> None:
        """Take a picture to save; never blocks. When too many wait, it is dropped and counted."""
        if path is None:
            return
        try:
            self._jobs.put_nowait(_Job(given, inspection_id, path))
        except queue.Full:
            self.dropped += 1

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._save(job)
            except (OSError, ImageError) as error:
                self.failures += 1
                log.warning("a picture could not be saved: %s", error)

    def _save(self, job: _Job) -> None:
        image, inspection = job.given.part.image, job.given.inspection
        if image is None:
            return
        small = shrink(image, self._config.max_side_px)
        target = self._data_path / job.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(encode_jpeg(small))
        map_path: str | None = None
        if inspection is not None and job.given.active is not None:
            map_path = job.path.replace(".jpg", "-map.jpg")
            picture = heat_map(inspection.anomaly_map, small, job.given.active.detector.pixel_threshold)
            (self._data_path / map_path).write_bytes(encode_jpeg(picture))
        self._writer.post(lambda session: journal.set_image_paths(session, job.inspection_id, job.path, map_path))
