"""Watches whether the line still looks as it did, in a thread of its own; nothing on a verdict's way waits for it.

May import the store, `inspector.drift` and `state`. What it finds becomes alarms and, once a minute, a row for the chart.
"""

import logging
import queue
import threading
import time
from collections.abc import Collection
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from edge.state import ActiveRecipe, Station
from edge.verdicts import Statement
from inspector.contract.codes import ErrorCode
from inspector.drift import Drift, DriftMonitor, Sight
from inspector.store import drift as drift_rows
from inspector.store.writer import StoreWriter
from inspector.types import Fit, Step, Verdict

log = logging.getLogger(__name__)

QUEUE_SIZE = 64
POINT_S = 60.0
SOURCE = "drift"
CODES = {
    "light": ErrorCode.LIGHT_DRIFT,
    "focus": ErrorCode.BLURRED,
    "camera": ErrorCode.CAMERA_MOVED,
    "product": ErrorCode.WRONG_PRODUCT,
    "mix": ErrorCode.WRONG_PRODUCT,
    "score": ErrorCode.SCORE_DRIFT,
}
"""Alarm of each kind of cause."""


class DriftWatch:
    """One thread; what finds the queue full is counted in `skipped`."""

    def __init__(self, writer: StoreWriter, station: Station, station_id: int) -> None:
        self._writer = writer
        self._station = station
        self._station_id = station_id
        self._queue: queue.Queue[Statement | None] = queue.Queue(QUEUE_SIZE)
        self._thread = threading.Thread(target=self._run, name="drift", daemon=True)
        self._recipe_id = 0
        self._monitor: DriftMonitor | None = None
        self._told: dict[ErrorCode, str] = {}
        self._kept_run_in = False
        self._point_at = 0.0
        self.skipped = 0
        self.p_mean: float | None = None
        """Mean p-value of the newest look."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._queue.put(None)
        self._thread.join(5.0)

    def seen(self, statement: Statement) -> None:
        """A verdict is out; called by the inspection loop, never blocks."""
        if statement.answer.part.challenge or statement.answer.inspection is None:
            return
        try:
            self._queue.put_nowait(statement)
        except queue.Full:
            self.skipped += 1

    def _run(self) -> None:
        while (statement := self._queue.get()) is not None:
            try:
                self.take(statement)
            except Exception:  # drift is advice; a fault in it must not end it, and is never on the way of a verdict
                log.exception("drift could not be looked at; it goes on")

    def take(self, statement: Statement) -> None:
        """Look at one scored part; called by the thread."""
        answer = statement.answer
        active, inspection, part = answer.active, answer.inspection, answer.part
        if active is None or inspection is None or part.image is None or part.measures is None:
            return
        if self._monitor is None or active.recipe_id != self._recipe_id:
            self._monitor = self._begin(active)
        accepted = answer.verdict is Verdict.OK
        if inspection.placement is None:
            shifted = self._monitor.shift_of(part.image)
        elif inspection.placement.fit is Fit.NOT_FOUND:
            shifted = None
        else:
            shifted = (inspection.placement.shift_x, inspection.placement.shift_y)
        drift = self._monitor.add(Sight(inspection.score, accepted, inspection.novelty, part.measures, shifted))
        if not self._kept_run_in and self._monitor.run_in is not None:
            self._keep_run_in(self._monitor.run_in)
        if drift is not None:
            self._tell(drift)

    def _begin(self, active: ActiveRecipe) -> DriftMonitor:
        """A monitor of this recipe, with the run-in that was kept of it."""
        with self._writer.store.read() as session:
            kept = drift_rows.run_in(session, self._station_id, active.recipe_id)
        known = [Sight.from_record(record) for record in kept]
        self._recipe_id, self._kept_run_in = active.recipe_id, bool(known)
        self._forget(())
        calibration, detector = active.detector.calibration, active.detector
        scores = () if calibration.kind is Step.PROVISIONAL else calibration.scores
        return DriftMonitor(scores, calibration.threshold, detector.looks, detector.bank.usual.cpu().numpy(), known)

    def _keep_run_in(self, sights: tuple[Sight, ...]) -> None:
        records, recipe_id, now = [sight.record() for sight in sights], self._recipe_id, datetime.now(UTC)
        self._writer.post(lambda session: drift_rows.keep_run_in(session, self._station_id, recipe_id, records, now))
        self._kept_run_in = True

    def _tell(self, drift: Drift) -> None:
        """Alarms for what was found, and a row once a minute or when that changes."""
        self.p_mean = drift.p_mean
        found = {CODES[cause.kind]: cause.text for cause in reversed(drift.causes)}
        changed = found.keys() != self._told.keys()
        for err, text in found.items():
            if err not in self._told:
                log.warning("drift: %s", text)
            self._station.alarms.up(err, text, SOURCE)
        self._forget(found)
        self._told = found
        if changed or time.monotonic() >= self._point_at:
            self._point_at = time.monotonic() + POINT_S
            self._write(drift)

    def _forget(self, found: Collection[ErrorCode]) -> None:
        for err in [err for err in self._told if err not in found]:
            log.warning("drift: alarm %d is over", err)
            self._station.alarms.down(err, SOURCE)
            del self._told[err]

    def _write(self, drift: Drift) -> None:
        cause = drift.causes[0] if drift.causes else None
        point = drift_rows.Point(
            recipe_id=self._recipe_id,
            at=datetime.now(UTC),
            parts=drift.parts,
            p_mean=drift.p_mean,
            err=0 if cause is None else int(CODES[cause.kind]),
            cause="" if cause is None else cause.text,
            measures=drift.medians,
        )

        def write(session: Session) -> None:
            drift_rows.add_point(session, self._station_id, point)

        self._writer.post(write)
