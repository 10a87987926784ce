"""The inspection loop: batch → score → commit → publish. Its progress is the station's heartbeat.

Nothing here waits for the broker. A part that cannot be answered OK for any reason is answered NONE with its code.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from edge.batching import Batcher, FrameBatch
from edge.buffers import Inbox
from edge.deadlines import Deadlines
from edge.mqtt import MqttLink
from edge.parts import Part
from edge.publisher import LiveVerdict, Publisher
from edge.recorder import Recorder
from edge.state import ActiveRecipe, StationControl
from edge.verdicts import Answer, Numbering, answer, record_of, result_of
from inspector.config import Config
from inspector.contract.codes import ErrorCode
from inspector.contract.messages import U16_MAX, U32_MAX, Heartbeat, Result, next_seq, saturate
from inspector.errors import StoreError
from inspector.store import journal
from inspector.store.writer import StoreWriter
from inspector.types import Inspection, Verdict

IDLE_S = 0.05
STORE_RETRY_S = 0.5
PART_TIME_WEIGHT = 0.2
"""How fast the expected time of a part follows what was measured."""

log = logging.getLogger(__name__)
verdict_log = logging.getLogger("edge.verdict")


class Inference:
    """The one thread that scores. `age_s` tells how long ago the last new frame came."""

    def __init__(
        self,
        config: Config,
        station_id: int,
        control: StationControl,
        parts: tuple[Inbox, Deadlines],
        outlets: tuple[StoreWriter, MqttLink, Publisher, Recorder],
        age_s: Callable[[], float],
    ) -> None:
        self._config = config
        self._station_id = station_id
        self._control = control
        self._inbox, self._deadlines = parts
        self._writer, self._link, self._publisher, self._recorder = outlets
        self._age_s = age_s
        self._batcher = Batcher(config.batching.max_batch, config.batching.max_age_ms / 1000)
        self._seq = 0
        self._beats = 0
        self._part_s = 0.0  # what scoring one part took lately
        self._next_beat_s = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self.failed: BaseException | None = None
        self.counts = dict.fromkeys(Verdict, 0)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Answer what is in flight, then end."""
        self._stopping.set()
        self._inbox.wake()
        self._thread.join(timeout_s)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def seq(self) -> int:
        """Number of the last verdict of this boot."""
        return self._seq

    def _run(self) -> None:
        try:
            while not (self._stopping.is_set() and not len(self._batcher) and not self._inbox.wait(0)):
                self._turn()
        except BaseException as error:  # a device that is lost cannot be mended here: the process ends and is restarted
            log.exception("the inspection loop has failed; the worker ends")
            self.failed = error
            self._abort_all()

    def _turn(self) -> None:
        self._beat()
        if not len(self._batcher):
            self._inbox.wait(IDLE_S)
        for part in self._inbox.take(self._batcher.room):
            self._batcher.add(part)
        batch = self._batcher.poll(time.monotonic(), part_s=self._part_s)
        if batch is not None:
            self._answer(batch)

    def _beat(self) -> None:
        now = time.monotonic()
        if now < self._next_beat_s:
            return
        self._next_beat_s = now + self._config.mqtt.heartbeat_ms / 1000
        self._beats = next_seq(self._beats)
        heartbeat = Heartbeat(
            boot=self._control.boot,
            n=self._beats,
            st=int(self._control.snapshot().state),
            age=saturate(self._age_s() * 1000, U32_MAX),
            q=saturate(len(self._inbox), U16_MAX),
            seq=self._seq,
        )
        self._link.publish(self._link.topics.hb, heartbeat.to_json())

    def _answer(self, batch: FrameBatch) -> None:
        now = self._control.snapshot()
        parts = list(batch.parts)
        if not batch.failed and (batch.epoch != now.epoch or now.active is None):
            parts = [part.fail(ErrorCode.ABORTED, "the station changed while the part was in flight") for part in parts]
        start_s = time.monotonic()
        inspections: list[Inspection | None] = [None] * len(parts)
        if not parts[0].failed and now.active is not None:
            inspections = self._score(now.active, parts)
            took_s = (time.monotonic() - start_s) / len(parts)
            self._part_s = took_s if not self._part_s else self._part_s + PART_TIME_WEIGHT * (took_s - self._part_s)
        end_s = time.monotonic()
        score_ms = (end_s - start_s) * 1000 / len(parts)
        answers = [
            replace(
                answer(part, now.active, inspection, end_s, self._control.mode),
                timings_ms={"wait": (start_s - part.captured_monotonic_s) * 1000, "score": score_ms},
            )
            for part, inspection in zip(parts, inspections, strict=True)
        ]
        self._commit(answers)

    def _score(self, active: ActiveRecipe, parts: Sequence[Part]) -> list[Inspection | None]:
        """Score a batch; if it fails as a whole, each part alone, so that one bad frame costs only itself."""
        images = [part.image for part in parts if part.image is not None]
        try:
            return list(active.detector.inspect(images))
        except (RuntimeError, ValueError) as error:
            log.warning("a batch of %d failed (%s); trying its parts one by one", len(images), error)
        alone: list[Inspection | None] = []
        failures = 0
        for image in images:
            try:
                alone += active.detector.inspect([image])
            except (RuntimeError, ValueError):
                log.exception("a part could not be scored")
                failures += 1
                alone.append(None)
        if failures == len(images) and failures > 1:
            raise RuntimeError("no part of a batch could be scored: the device or the model is broken")
        return alone

    def _commit(self, answers: list[Answer]) -> None:
        """Store first, then publish. While the database fails no part passes: its verdict becomes NONE (800)."""
        numbered = self._numbered(answers)
        while True:
            records = [record_of(given, numbering, result) for given, numbering, result in numbered]
            try:
                commit = partial(journal.commit_verdicts, station_id=self._station_id, verdicts=records)
                committed = self._writer.call(commit, urgent=True, timeout_s=None)
                break
            except StoreError as error:
                log.error("a verdict could not be stored: %s", error)
                self._control.set_problem("database", ErrorCode.STORAGE)
                answers = [replace(given, failure=given.failure or ErrorCode.STORAGE) for given in answers]
                numbered = [
                    (given, numbering, result_of(given, numbering))
                    for given, (_, numbering, _) in zip(answers, numbered, strict=True)
                ]
                if self._stopping.wait(STORE_RETRY_S):
                    raise
                self._beat()
        self._control.set_problem("database", ErrorCode.NONE)
        for (given, numbering, result), row in zip(numbered, committed, strict=True):
            self._deadlines.close(given.part)
            self._publish(given, result, row)
            self._recorder.offer(given, row.inspection_id, numbering.image_path)
            self.counts[given.verdict] += 1
            verdict_log.info("%s", result.to_json().decode())

    def _numbered(self, answers: list[Answer]) -> list[tuple[Answer, Numbering, Result]]:
        numbered = []
        for given in answers:
            self._seq = next_seq(self._seq)
            latency_ms = (time.monotonic() - given.part.captured_monotonic_s) * 1000
            path = self._recorder.path_for(given, self._control.boot, self._seq)
            numbering = Numbering(self._control.boot, self._seq, latency_ms, path)
            numbered.append((given, numbering, result_of(given, numbering)))
        return numbered

    def _publish(self, given: Answer, result: Result, row: journal.CommittedVerdict) -> None:
        self._publisher.publish_live(LiveVerdict(result, row.outbox_ids[0], given.part.captured_monotonic_s))

    def _abort_all(self) -> None:
        """Answer every part in flight NONE before the process ends."""
        parts = [part.fail(ErrorCode.INTERNAL, "the inspection loop failed") for part in self._deadlines.expire()]
        answers = [
            Answer(replace(part, failure=ErrorCode.INTERNAL), None, None, ErrorCode.INTERNAL, answer_flags, {})
            for part in parts
            for answer_flags in [answer(part, None, None, 0.0, self._control.mode).flags]
        ]
        try:
            if answers:
                self._commit(answers)
        except Exception:  # nothing more can be done here; the gap in the trigger counter tells the rest
            log.exception("the parts in flight could not be answered")
