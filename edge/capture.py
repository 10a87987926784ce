"""One thread per camera: reads frames, opens parts, puts them into the inbox; connects again when a camera is lost.

May import the cameras, the sans-IO parts of the worker and the contract's codes. Whatever a camera does, each part that
passed by is owed one verdict, and the other cameras go on.
"""

import logging
import random
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from edge.announcer import Pulse
from edge.buffers import Inbox
from edge.cameras import (
    BadFrameError,
    Camera,
    Clock,
    IdleLineError,
    MissedFrameError,
    TriggerQueue,
    is_live,
    make_camera,
    patience_s,
)
from edge.deadlines import Deadlines
from edge.gaps import Missed, TriggerGaps
from edge.parts import Part, part_of_frame
from edge.state import Snapshot, Station
from inspector.config import CameraConfig
from inspector.contract.codes import ErrorCode
from inspector.contract.link import backoff_s
from inspector.contract.messages import PART_LENGTH, sanitise_part
from inspector.drift import Measures
from inspector.errors import CameraError, CameraLostError, CameraTimeoutError
from inspector.framing import CropError
from inspector.types import Frame

log = logging.getLogger(__name__)

IDLE_READ_S = 0.5
PAUSE_S = 0.1
HUNG_GRACE_S = 0.2
"""Told so much later than a camera that is well has answered at the latest; within 3 s by the default `timeout_s`."""
OPENING, READING = "opening", "reading"


class Intake:
    """Opens parts for the capture threads: the start of each part's way."""

    def __init__(
        self,
        station: Station,
        deadlines: Deadlines,
        inbox: Inbox,
        pulse: Pulse,
        deadline_s: float,
        *,
        part_length: int = PART_LENGTH,
    ) -> None:
        """`part_length` is how long a part's id may be; a longer one is never cut: the part gets NONE (601)."""
        self._part_length = part_length
        self._station = station
        self._deadlines = deadlines
        self._inbox = inbox
        self._pulse = pulse
        self._deadline_s = deadline_s

    def frame(self, frame: Frame, triggered_monotonic_s: float | None) -> None:
        """A camera's picture of a part, and when its trigger came (None: free running)."""
        self._pulse.new_frame(frame.captured_monotonic_s)
        snapshot = self._station.snapshot
        misfit = snapshot.misfit(*_size_px(frame))
        self._frame(frame, triggered_monotonic_s, snapshot, challenge=snapshot.challenge, misfit=misfit)

    def challenge(self, frame: Frame) -> None:
        """A kept picture of a known part, shown in the midst of the production; kept pictures are made smaller."""
        self._frame(frame, None, self._station.snapshot, challenge=True, misfit="")

    def _frame(
        self, frame: Frame, triggered_monotonic_s: float | None, snapshot: Snapshot, *, challenge: bool, misfit: str
    ) -> None:
        """`misfit` is of the same snapshot as the epoch: by no other recipe can the part be scored."""
        arrived_monotonic_s = time.monotonic()
        epoch, measures = snapshot.epoch, Measures.of(frame.image)

        def make(number: int) -> Part:
            part = part_of_frame(
                frame,
                number=number,
                epoch=epoch,
                measures=measures,
                arrived_monotonic_s=arrived_monotonic_s,
                deadline_s=self._deadline_s,
                triggered_monotonic_s=triggered_monotonic_s,
                challenge=challenge,
            )
            if len(part.part_id) <= self._part_length:
                return part.fail(ErrorCode.FRAME_TIMEOUT, misfit) if misfit else part
            reason = f"a part id may have {self._part_length} characters here, but this one has more: {frame.part_id}"
            return part.fail(ErrorCode.PART_ID_TOO_LONG, reason)

        self._put(make)

    def refused_frame(self, frame: Frame, failure: ErrorCode, reason: str) -> None:
        """A picture that must not be scored."""
        snapshot = self._station.snapshot
        self._put(
            lambda number: part_of_frame(
                frame,
                number=number,
                epoch=snapshot.epoch,
                deadline_s=self._deadline_s,
                challenge=snapshot.challenge,
            ).fail(failure, reason)
        )

    def bad_frame(self, error: BadFrameError) -> None:
        """A part without a usable picture."""
        self._open_failed(
            (error.camera, error.frame_id, error.part_id, error.trigger),
            (error.captured_at, error.captured_monotonic_s),
            _code_of(error.failure),
            error.reason,
        )

    def missed(self, camera: str, missed: Sequence[Missed], reason: str) -> None:
        """Triggers without a frame."""
        for miss in missed:
            seen = (datetime.now(UTC), time.monotonic())
            self._open_failed((camera, 0, miss.part_id, miss.trg), seen, miss.failure, reason, miss.unseen)

    def _open_failed(
        self,
        who: tuple[str, int, str, int],
        seen: tuple[datetime, float],
        failure: ErrorCode,
        reason: str,
        unseen: int = 0,
    ) -> None:
        camera, frame_id, part_id, trigger = who
        snapshot = self._station.snapshot
        self._put(
            lambda number: Part(
                number=number,
                camera=camera,
                frame_id=frame_id,
                part_id=sanitise_part(part_id),
                trigger=trigger,
                captured_at=seen[0],
                captured_monotonic_s=seen[1],
                deadline_monotonic_s=seen[1] + self._deadline_s,
                epoch=snapshot.epoch,
                image=None,
                failure=failure,
                reason=reason,
                challenge=snapshot.challenge,
                unseen=unseen,
            )
        )

    def _put(self, make: Callable[[int], Part]) -> None:
        evicted = self._inbox.put(self._deadlines.open(make))
        if evicted is not None:
            log.warning("the queue is full: part %s of %s is given up", evicted.part_id, evicted.camera)


def _size_px(frame: Frame) -> tuple[int, int]:
    return frame.image.shape[1], frame.image.shape[0]


def _code_of(failure: CameraError | None) -> ErrorCode:
    if isinstance(failure, CameraLostError):
        return ErrorCode.CAMERA_LOST
    return ErrorCode.MISSED_TRIGGER if isinstance(failure, MissedFrameError) else ErrorCode.FRAME_TIMEOUT


class CaptureThread:
    """Reads one camera until it is stopped or its source ends."""

    def __init__(self, config: CameraConfig, intake: Intake, station: Station, *, last_trigger: int) -> None:
        self.name = config.name
        self._triggers = TriggerQueue()
        self._came: dict[int, float] = {}
        self._left_monotonic_s = float("-inf")
        self._gaps = TriggerGaps(last_trigger)
        self.tried = threading.Event()
        """Set when the camera is open, or could not be opened."""
        self.ended = threading.Event()
        """Set when the source has come to its end, or the thread was stopped."""
        self.frames = 0
        self.gaps = 0
        self.reconnects = 0
        self.problem = ""
        self._misfits = False
        self._size_px: tuple[int, int] | None = None
        self._config = config
        self._intake = intake
        self._station = station
        self._going = threading.Event()
        self._stopping = threading.Event()
        self._camera: Camera = make_camera(
            config, self._triggers, last_trigger=last_trigger, clock=Clock(sleep=self._sleep)
        )
        self._asked: tuple[str, float] | None = None
        self._hung_s = IDLE_READ_S + config.timeout_s + HUNG_GRACE_S
        self._checksum: int | None = None
        self._is_live = is_live(config)
        # Where the next part may be long in coming the camera is asked often, so that a hung one is told from an idle line.
        is_due_soon = self._is_live and config.trigger == "free"
        self._read_s = min(config.timeout_s, patience_s(config) if is_due_soon else IDLE_READ_S)
        self._thread = threading.Thread(target=self._run, name=f"capture-{config.name}", daemon=True)

    def status(self) -> dict[str, int | str]:
        """What the status row tells of the camera."""
        return {"frames": self.frames, "gaps": self.gaps, "reconnects": self.reconnects, "problem": self.problem}

    @property
    def triggered(self) -> bool:
        return self._config.trigger == "mqtt"

    @property
    def waiting(self) -> int:
        """Triggers that wait for their picture."""
        return self._triggers.waiting

    def trigger(self, trg: int, part_id: str, came_monotonic_s: float) -> bool:
        """A part lies before the camera; False if there is no room for more triggers (its NONE follows)."""
        self._came[trg] = came_monotonic_s
        if self._triggers.put(trg, part_id):
            return True
        self._came.pop(trg, None)
        self._gaps.overrun(trg, part_id)
        return False

    def refuse(self, trg: int, part_id: str, failure: ErrorCode) -> None:
        """A trigger that must not be carried out; its part's NONE follows."""
        self._gaps.overrun(trg, part_id, failure)

    def leave(self) -> None:
        """Inspecting is stopped, or the product changes: a part that came by until now gets NONE (503), whatever follows."""
        self._left_monotonic_s = time.monotonic()

    def drop(self) -> None:
        """Leave, and do not even photograph what waits; its NONE follows when the line is idle, or with the next part."""
        self.leave()
        for trigger in self._triggers.drain():
            self._came.pop(trigger.trg, None)
            self._gaps.overrun(trigger.trg, trigger.part_id, ErrorCode.ABORTED)

    def start(self) -> None:
        """Open the camera; no frame is taken before `go`."""
        self._thread.start()

    def go(self) -> None:
        """The station is ready for parts."""
        self._going.set()

    def stop(self) -> None:
        """Ask the thread to end; `join` waits for it."""
        self._stopping.set()
        self._going.set()

    def join(self) -> None:
        """Wait for the thread (a camera may hang: not for ever) and account for triggers that nobody read."""
        self._thread.join(self._config.timeout_s + 2.0)
        for trigger in self._triggers.drain():
            self._gaps.overrun(trigger.trg, trigger.part_id, ErrorCode.ABORTED)
        self._intake.missed(self.name, self._gaps.flush(), "the station stops")

    def watch(self, now_monotonic_s: float) -> None:
        """Called by another thread: a driver that does not come back is told as a frame time-out."""
        asked = self._asked
        if asked is None or now_monotonic_s - asked[1] <= self._hung_s or self.ended.is_set():
            return
        if asked[0] == OPENING and self.problem:  # that it is away is known already, and why
            return
        self._alarm(ErrorCode.FRAME_TIMEOUT, f"camera {self.name} does not come back from {asked[0]}")

    def _sleep(self, duration_s: float) -> None:
        self._stopping.wait(duration_s)

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Stamped before the camera is called: it may never come back."""
        self._asked = (what, time.monotonic())
        try:
            yield
        finally:
            self._asked = None

    def _run(self) -> None:
        attempt = 0
        try:
            while not self._stopping.is_set():
                try:
                    with self._asking(OPENING):
                        self._camera.open()
                    self._size_px = None
                    if self.problem:
                        self._answer_waiting(self.problem)
                    self._clear_alarm()
                    self.tried.set()
                    attempt = 0
                    self._going.wait()
                    if self._read_until_lost():
                        return
                except CameraError as error:
                    self._alarm(ErrorCode.CAMERA_LOST, str(error))
                except Exception as error:  # a driver may raise anything; this camera must come back, others go on
                    log.exception("camera %s failed in an unexpected way", self.name)
                    self._alarm(ErrorCode.CAMERA_LOST, str(error))
                self.tried.set()
                self._answer_waiting(self.problem)
                self._camera.close()
                self._pause(backoff_s(attempt, random.random()))  # noqa: S311 - a pause, not a secret
                attempt += 1
                self.reconnects += 1
        finally:
            self._camera.close()
            self.ended.set()

    def _pause(self, duration_s: float) -> None:
        until = time.monotonic() + duration_s
        while not self._stopping.is_set() and (left_s := until - time.monotonic()) > 0:
            self._stopping.wait(min(PAUSE_S, left_s))
            self._answer_waiting(self.problem)

    def _answer_waiting(self, reason: str) -> None:
        """Parts that came while the camera was away: a picture taken now would show another part under their number."""
        if self._stopping.is_set():
            return  # `join` answers for them
        for trigger in self._triggers.drain():
            self._account_for(trigger.trg)
            self._intake.missed(self.name, [Missed(trigger.trg, trigger.part_id, ErrorCode.CAMERA_LOST)], reason)

    def _read_until_lost(self) -> bool:
        """True when the source is at its end or the thread is stopped; raises CameraError when it is lost."""
        while not self._stopping.is_set():
            try:
                with self._asking(READING):
                    frame = self._camera.read(self._read_s)
            except IdleLineError:
                missed = self._gaps.flush(lambda: self._triggers.waiting)
                self._intake.missed(self.name, missed, "more triggers came than could be taken")
                self._tell_fit()
                continue
            except BadFrameError as error:
                self._account_for(error.trigger)
                self._intake.bad_frame(error)
                self.gaps += isinstance(error.failure, MissedFrameError)
                log.warning("%s", error)
                if isinstance(error.failure, CropError):
                    self._misfits = True
                    self._alarm(ErrorCode.FRAME_TIMEOUT, str(error.failure))
                if isinstance(error.failure, CameraLostError | CameraTimeoutError):
                    raise error.failure from error
                continue
            if frame is None:
                log.info("camera %s has come to its end", self.name)
                return True
            self._misfits, self._size_px = False, _size_px(frame)
            self._tell_fit()
            self._take(frame)
        return True

    def _tell_fit(self) -> None:
        """The camera answers: its alarm goes, unless its last picture was of no use to the product that is active now."""
        misfit = "" if self._size_px is None else self._station.snapshot.misfit(*self._size_px)
        if misfit:
            self._alarm(ErrorCode.FRAME_TIMEOUT, f"camera {self.name}: {misfit}")
        elif not self._misfits:  # only a picture can show that the crop fits again
            self._clear_alarm()

    def _take(self, frame: Frame) -> None:
        self.frames += 1
        triggered = self._account_for(frame.trigger)
        if self._is_frozen(frame):
            self._intake.refused_frame(
                frame, ErrorCode.FROZEN_FRAME, "the picture is the same as the last one, bit by bit"
            )
        elif (frame.captured_monotonic_s if triggered is None else triggered) <= self._left_monotonic_s:
            self._intake.refused_frame(frame, ErrorCode.ABORTED, "the part came by before the station was stopped")
        else:
            self._intake.frame(frame, triggered)

    def _account_for(self, trigger: int) -> float | None:
        """Give the triggers before this one, that nothing was seen of, their verdicts first; gives when it came."""
        step = self._gaps.seen(trigger)
        if step.reset:
            log.warning("camera %s: the PLC's counter jumped to %d; taken as a reset", self.name, trigger)
        if count := sum(1 + missed.unseen for missed in step.missed):
            self.gaps += count
            log.warning("camera %s: %d triggers were missed before %d", self.name, count, trigger)
        self._intake.missed(self.name, step.missed, "the trigger passed by unseen")
        return self._came.pop(trigger, None)

    def _is_frozen(self, frame: Frame) -> bool:
        """A sensor has noise: two equal pictures in a row come from a camera that has stopped seeing."""
        if not self._is_live:
            return False
        last, self._checksum = self._checksum, zlib.crc32(frame.image.data)
        return self._checksum == last

    def _alarm(self, err: ErrorCode, problem: str) -> None:
        if problem != self.problem:
            log.error("%s", problem)
            self.problem = problem
        self._station.set_camera(self.name, err, problem)

    def _clear_alarm(self) -> None:
        if self.problem:
            log.warning("camera %s is back", self.name)
            self.problem = ""
        self._station.set_camera(self.name, ErrorCode.NONE)
