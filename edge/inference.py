"""The inspection loop: batch → score → commit → publish → evidence, and the heartbeat that proves it is alive.

May import everything of the worker that a verdict needs. One thread; it owns the sequence number, so that each verdict
has its own and they leave in order. Nothing here waits for the broker.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edge import scorer
from edge.absences import Absences
from edge.announcer import Pulse
from edge.batching import Batcher, FrameBatch
from edge.buffers import Inbox
from edge.deadlines import Deadlines
from edge.ledger import Ledger
from edge.publisher import LiveVerdict, Publisher
from edge.recorder import Evidence, Recorder
from edge.state import ActiveRecipe, Station
from edge.verdicts import Answer, Statement, held, judge, refuse
from inspector.contract.codes import ErrorCode, Flag
from inspector.contract.messages import next_seq
from inspector.store.journal import CommittedVerdict
from inspector.types import Inspection, Verdict

log = logging.getLogger(__name__)

TURN_S = 0.1
SMOOTHING = 0.2
CLOSE_S = 5.0
CLOSE_TICK_S = 0.005


@dataclass(frozen=True, eq=False)
class VerdictPath:
    """What the loop works with, in the order in which a part goes through it."""

    station: Station
    deadlines: Deadlines
    inbox: Inbox
    batcher: Batcher
    ledger: Ledger
    absences: Absences
    publisher: Publisher
    recorder: Recorder
    pulse: Pulse
    simulated_cameras: frozenset[str]
    on_the_way: Callable[[], bool]
    most_part_s: float
    observers: Sequence[Callable[[Statement], None]] = ()
    """Told of each verdict once it is stored; they must not block."""
    live_observers: Sequence[Callable[[Statement], None]] = ()
    """Told first, and only of verdicts that were sent to the PLC while it may wait for them."""
    timed: Callable[[str, float], None] = lambda _stage, _took_s: None
    """Told how long the stages after the scoring took, in seconds."""


class Inference:
    """The thread of the loop. `failure` is set when it had to end; the worker then ends, too."""

    def __init__(self, path: VerdictPath, seq: int = 0) -> None:
        """`seq` is the last number that this run of the station has used already."""
        self._path = path
        self._seq = seq
        self._part_s = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self.counts: Counter[Verdict] = Counter()
        self.failure: BaseException | None = None

    @property
    def seq(self) -> int:
        """Number of the last verdict."""
        return self._seq

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Answer what is still in flight, then end. The cameras must have ended."""
        self._stopping.set()
        self._path.inbox.wake()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._turn()
            while self._path.deadlines.in_flight:
                self._turn()
            self._path.ledger.close(CLOSE_S)
            until = time.monotonic() + CLOSE_S
            while self._path.absences.pending and time.monotonic() < until:
                self._settle_absence(idle=True)  # what is still owed then, the next worker settles
                time.sleep(CLOSE_TICK_S)
        except Exception as error:  # the worker ends with this error; what is in flight is answered first
            log.exception("the inspection loop failed")
            self.failure = error
            self._path.station.fail(ErrorCode.INTERNAL, f"the inspection cannot go on: {error}")
            self._answer_all(str(error))

    def _turn(self) -> None:
        path = self._path
        now = time.monotonic()
        path.pulse.beat(now, waiting=len(path.inbox) + len(path.batcher), seq=self._seq)
        due = path.batcher.due_monotonic_s(self._part_s)
        path.inbox.wait(TURN_S if due is None else min(TURN_S, max(0.0, due - now)))
        for part in path.inbox.take(path.batcher.room):
            path.batcher.add(part)
        path.ledger.retry(time.monotonic())
        batch = path.batcher.poll(time.monotonic(), on_the_way=path.on_the_way(), part_s=self._part_s)
        if batch is not None:
            self._publish(self._answers(batch))
        if not self._stopping.is_set() and not len(path.ledger):
            self._settle_absence(idle=batch is None and not len(path.inbox) and not len(path.batcher))

    def _answers(self, batch: FrameBatch) -> list[Answer]:
        """Score the batch, or say why not; each answer goes by one snapshot of the station."""
        before = self._path.station.snapshot
        err = before.refusal_of(batch.epoch)
        if batch.failed:
            return [refuse(part, part.failure) for part in batch.parts]
        if err is not ErrorCode.NONE or before.active is None:
            return [refuse(part, err or ErrorCode.NO_RECIPE, _why(err)) for part in batch.parts]
        started = time.monotonic()
        images = [part.image for part in batch.parts if part.image is not None]
        inspections = scorer.inspect(before.active, images)
        done = time.monotonic()
        self._learn((done - started) / len(images))
        after = self._path.station.snapshot  # one for refusal and hold: they must be of the same moment
        err = after.refusal_of(batch.epoch)
        if err is not ErrorCode.NONE:
            return [refuse(part, err, _why(err)) for part in batch.parts]
        return self._judged(batch, inspections, before.active, after.hold, (started, done))

    def _learn(self, part_s: float) -> None:
        """What a part costs, smoothed; never so much that a fresh part would be given up without being tried."""
        self._part_s = min(self._part_s + SMOOTHING * (part_s - self._part_s), self._path.most_part_s)

    def _judged(
        self,
        batch: FrameBatch,
        inspections: list[Inspection | None],
        active: ActiveRecipe,
        hold: ErrorCode,
        span: tuple[float, float],
    ) -> list[Answer]:
        started, done = span
        answers = []
        for part, inspection in zip(batch.parts, inspections, strict=True):
            answer = held(judge(part, inspection, active, now_monotonic_s=done), hold)
            arrived = part.arrived_monotonic_s or part.captured_monotonic_s
            timings_ms = {
                "camera": (arrived - part.captured_monotonic_s) * 1000,
                "waited": (started - arrived) * 1000,
                "scored": (done - started) * 1000,
                "batch": float(len(batch.parts)),
            }
            answers.append(replace(answer, timings_ms=timings_ms))
        return answers

    def _publish(self, answers: list[Answer]) -> None:
        """Commit, then publish, then keep the evidence; from here on the parts are answered."""
        path = self._path
        started = time.monotonic()
        stored = path.ledger.commit([self._state(answer) for answer in answers])
        took_s = time.monotonic() - started
        for statement, _ in stored:  # all of them first: a fault below must not get a part a second verdict
            path.deadlines.close(statement.answer.part)
        path.timed("committed", took_s)
        for statement, committed in stored:
            part = statement.answer.part
            outbox_id = committed.outbox_ids[0] if committed else 0
            started = time.monotonic()
            path.publisher.publish_live(LiveVerdict(statement.result, outbox_id, part.captured_monotonic_s))
            published = time.monotonic()
            path.timed("published", published - started)
            path.timed("total", published - part.captured_monotonic_s)
            if committed:
                self._keep_evidence(statement, committed)
            for observe in path.live_observers:
                observe(statement)
            self._tell(statement)
        path.ledger.log_stored()
        if any(statement.answer.part.unseen for statement, _ in stored):
            path.absences.noticed()

    def _settle_absence(self, *, idle: bool) -> None:
        """Some of the parts that passed by unseen; nobody waits for them, so they go out by the record lane alone."""
        absences, now = self._path.absences, time.monotonic()
        for statement in absences.settled(now):
            self._tell(statement)
        if answers := absences.due(now, idle=idle):
            absences.store([self._state(answer) for answer in answers])

    def _tell(self, statement: Statement) -> None:
        """The log and the observers hear of a verdict."""
        self.counts[statement.answer.verdict] += 1
        _log(statement)
        for observe in self._path.observers:
            observe(statement)

    def _state(self, answer: Answer) -> Statement:
        self._seq = next_seq(self._seq)
        if answer.part.camera in self._path.simulated_cameras:
            answer = replace(answer, flags=answer.flags | Flag.SIMULATED)
        if answer.part.challenge:
            answer = replace(answer, flags=answer.flags | Flag.CHALLENGE)
        statement = Statement(answer, self._seq, self._path.station.boot)
        return replace(statement, image_path=self._path.recorder.path_for(statement))

    def _keep_evidence(self, statement: Statement, committed: CommittedVerdict) -> None:
        answer = statement.answer
        if statement.image_path is None or answer.part.image is None:
            return
        inspection = answer.inspection
        level = 0.0 if answer.active is None else answer.active.detector.pixel_threshold
        anomaly_map = None if inspection is None else inspection.anomaly_map
        evidence = Evidence(committed.inspection_id, answer.part.image, anomaly_map, level, statement.image_path)
        self._path.recorder.put(evidence)

    def _answer_all(self, reason: str) -> None:
        """The loop is broken: every part in flight gets NONE (503), so that none is lost."""
        log.error("the inspection cannot go on: %s", reason)
        try:
            left = self._path.deadlines.expire()
            self._publish([refuse(part, ErrorCode.ABORTED, reason) for part in left])
        except Exception:  # the second fault in a row: there is nothing left to try, the PLC's timer rejects
            log.exception("parts in flight could not be answered")


def _why(err: ErrorCode) -> str:
    reasons = {
        ErrorCode.NO_RECIPE: "no product is active",
        ErrorCode.FINGERPRINT_MISMATCH: "the active recipe does not fit the encoder",
        ErrorCode.ABORTED: "the station is stopped, or the product is being changed",
        ErrorCode.STORAGE: "verdicts cannot be stored",
    }
    return reasons.get(err, "the station is in error")


def _log(statement: Statement) -> None:
    answer = statement.answer
    level = logging.WARNING if answer.verdict is Verdict.NONE else logging.INFO
    result = statement.result
    log.log(
        level,
        "verdict=%s seq=%d trg=%d part=%s camera=%s err=%d scr=%d rcp=%d rev=%d latency_ms=%.0f%s",
        answer.verdict.name,
        statement.seq,
        result.trg,
        result.part or "-",
        answer.part.camera,
        result.err,
        result.scr,
        result.rcp,
        result.rev,
        (time.monotonic() - answer.part.captured_monotonic_s) * 1000,
        f" reason={answer.reason!r}" if answer.reason else "",
    )
