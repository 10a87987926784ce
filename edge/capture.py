"""One capture thread per camera: frames in, parts out. Nothing that passes by is forgotten.

May import cameras, parts, gaps, deadlines, the inbox and the station's state.
"""

import logging
import random
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from edge.buffers import Inbox
from edge.cameras import BadFrameError, Camera, IdleLineError
from edge.deadlines import Deadlines
from edge.gaps import Missed, TriggerGaps
from edge.parts import Part, part_of_frame
from edge.state import StationControl
from inspector.config import CameraConfig
from inspector.contract.codes import ErrorCode
from inspector.contract.messages import sanitise_part
from inspector.errors import CameraLostError, CameraTimeoutError
from inspector.types import Frame

POLL_S = 0.5
FIRST_DELAY_S, LONGEST_DELAY_S = 0.2, 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Intake:
    """Where parts go: their register, their queue, and the station they are seen by."""

    deadlines: Deadlines
    inbox: Inbox
    control: StationControl
    deadline_s: float


class Capture:
    """Reads one camera until it ends or the worker stops; a lost camera is opened again, with a pause that grows."""

    def __init__(self, config: CameraConfig, camera: Camera, gaps: TriggerGaps, intake: Intake) -> None:
        self._config = config
        self._camera = camera
        self.gaps = gaps
        self._intake = intake
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"capture-{config.name}", daemon=True)
        self.ended = False
        self._go = threading.Event()
        self.tried = threading.Event()
        """Set when the camera was opened, or could not be opened, for the first time."""
        self.frames = 0
        self.last_frame_monotonic_s: float | None = None
        self.reading_since_monotonic_s = 0.0

    def start(self) -> None:
        self._thread.start()

    def go(self) -> None:
        """The station is ready: take frames from now on."""
        self._go.set()

    def stop(self, timeout_s: float = 3.0) -> None:
        self._stopping.set()
        self._thread.join(timeout_s)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        attempt = 0
        while not self._stopping.is_set() and not self.ended:
            try:
                try:
                    self._camera.open()
                finally:
                    self.tried.set()
                self._set_problem(ErrorCode.NONE)
                attempt = 0
                self._wait_for_go()
                self._read_on()
            except CameraLostError as error:
                self._set_problem(ErrorCode.CAMERA_LOST)
                log.warning("camera %s is lost: %s", self._config.name, error)
                longest_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(attempt, 10))
                attempt += 1
                self._stopping.wait(longest_s * random.uniform(0.5, 1.0))  # noqa: S311 - a pause, no secret
            finally:
                self._camera.close()

    def _wait_for_go(self) -> None:
        """No frame is taken before there is somebody to judge it."""
        while not self._go.wait(0.1) and not self._stopping.is_set():
            pass

    def _read_on(self) -> None:
        """Until the source ends; raises CameraLostError."""
        while not self._stopping.is_set():
            self.reading_since_monotonic_s = time.monotonic()  # before the blocking read
            try:
                frame = self._camera.read(min(POLL_S, self._config.timeout_s))
            except IdleLineError:
                self._miss(self.gaps.flush())
                continue
            except BadFrameError as error:
                self._bad(error)
                if isinstance(error.failure, CameraLostError):
                    raise error.failure from error
                continue
            except CameraTimeoutError as error:
                self._set_problem(ErrorCode.FRAME_TIMEOUT)
                log.warning("camera %s: %s", self._config.name, error)
                continue
            if frame is None:
                log.info("camera %s: the source has ended after %d frames", self._config.name, self.frames)
                self.ended = True
                return
            self._good(frame)

    def _good(self, frame: Frame) -> None:
        self._set_problem(ErrorCode.NONE)
        self.frames += 1
        self.last_frame_monotonic_s = time.monotonic()
        self._count(frame.trigger)
        now = self._intake.control.snapshot()

        def make(number: int) -> Part:
            part = part_of_frame(frame, number=number, epoch=now.epoch, deadline_s=self._intake.deadline_s)
            refusal = now.refusal
            return part.fail(refusal, "the station does not inspect now") if refusal else part

        self._intake.inbox.put(self._intake.deadlines.open(make))

    def _bad(self, error: BadFrameError) -> None:
        log.warning("%s", error)
        self._count(error.trigger)
        code = ErrorCode.CAMERA_LOST if isinstance(error.failure, CameraLostError) else ErrorCode.FRAME_TIMEOUT

        def make(number: int) -> Part:
            return Part(
                number=number,
                camera=error.camera,
                frame_id=error.frame_id,
                part_id=sanitise_part(error.part_id),
                trigger=error.trigger,
                captured_at=error.captured_at,
                captured_monotonic_s=error.captured_monotonic_s,
                deadline_monotonic_s=error.captured_monotonic_s + self._intake.deadline_s,
                epoch=self._intake.control.snapshot().epoch,
                image=None,
                failure=code,
                reason=error.reason,
            )

        self._intake.inbox.put(self._intake.deadlines.open(make))

    def _count(self, trigger: int) -> None:
        """Parts that the PLC counted and nobody saw get their NONE before this one gets its verdict."""
        step = self.gaps.seen(trigger)
        if step.reset:
            log.warning("camera %s: the trigger counter was reset to %d", self._config.name, trigger)
        self._miss(step.missed)

    def _miss(self, missed: tuple[Missed, ...]) -> None:
        for gone in missed:
            self._intake.inbox.put(self._intake.deadlines.open(partial(self._missing, gone)))

    def _missing(self, gone: Missed, number: int) -> Part:
        now_s = time.monotonic()
        return Part(
            number=number,
            camera=self._config.name,
            frame_id=0,
            part_id=sanitise_part(gone.part_id),
            trigger=gone.trg,
            captured_at=datetime.now(UTC),
            captured_monotonic_s=now_s,
            deadline_monotonic_s=now_s + self._intake.deadline_s,
            epoch=self._intake.control.snapshot().epoch,
            image=None,
            failure=gone.failure,
            reason="a trigger without a frame",
        )

    def _set_problem(self, code: ErrorCode) -> None:
        self._intake.control.set_problem(f"camera {self._config.name}", code)
