"""Any camera in a process of its own, ended and started anew when it does not answer; may import the child's messages.

A driver that hangs in native code cannot be interrupted, and its thread takes the device along; a process can be killed.
The parent keeps what must survive that: the trigger on its way, the numbers, size and colours of pictures, and where a source
that ends stands.
"""

import logging
import multiprocessing
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from edge.cameras.frame_ring import FrameRing
from edge.cameras.isolated_child import FAILURES, Answer, Ask, serve
from edge.cameras.pictures import Kind, PictureGate
from edge.cameras.shutter import OPEN_FACTOR, Clock, Exposure, Shutter
from edge.cameras.triggers import Trigger, TriggerQueue
from inspector.config import CameraConfig
from inspector.errors import CameraLostError, ImageError
from inspector.types import Frame

logger = logging.getLogger(__name__)

MAX_TRIGGER = 2**32 - 1
START_S = 30.0
"""A process on a busy machine needs seconds to start; a camera is not even touched in that time."""
OPEN_GRACE_S = 7.0
DRAWING_S = 60.0
"""The simulated line draws for seconds before it is open."""
ANSWER_GRACE_S = 1.0
CLOSE_S = 3.0


class IsolatedCamera:
    """The camera of the configuration in a child process; each `open` starts a fresh one."""

    def __init__(self, config: CameraConfig, triggers: TriggerQueue, clock: Clock, position: int = 0) -> None:
        self.name = config.name
        self.position = position
        self._config = config
        self._triggers = triggers
        self._triggered = config.trigger == "mqtt"
        self._has_order = not self._triggered and not config.watch and config.kind in ("simulated", "folder", "video")
        self._shutter = Shutter(config, triggers, clock)
        self._gate = PictureGate()
        self._first: Kind | None = None
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._ring: FrameRing | None = None
        self._hangs = False

    @property
    def pid(self) -> int | None:
        """The child's process id, None when there is none."""
        return None if self._process is None else self._process.pid

    def open(self) -> None:
        """Raises CameraLostError when the camera cannot be opened, or its process does not answer."""
        self.close()
        context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
        ours, theirs = context.Pipe()
        inner = self._config.model_copy(update={"isolate": False}).model_dump_json()
        process = context.Process(
            target=serve, args=(theirs, inner, self.position, self._first), name=f"camera-{self.name}", daemon=True
        )
        process.start()
        theirs.close()
        self._process, self._connection = process, ours
        try:
            self._await(START_S)
            grace_s = DRAWING_S if self._config.kind == "simulated" else OPEN_GRACE_S
            answer = self._ask(Ask("open"), OPEN_FACTOR * self._config.timeout_s + grace_s)
            if answer.what != "opened":
                raise CameraLostError(answer.reason)
        except CameraLostError:
            self.close()
            raise

    def read(self, timeout_s: float) -> Frame | None:
        """As the camera inside; one that does not answer in time is killed, and its part is named."""
        self._check_alive()
        trigger = self._shutter.wait(timeout_s) if self._triggered else Trigger(0)
        limit_s = self._config.timeout_s if self._triggered else timeout_s
        if self._has_order:  # it may wait for its period, and then a file takes its time
            limit_s = max(timeout_s, self._config.timeout_s)
        ask = Ask("read", 0.0 if self._triggered else timeout_s, trigger if self._triggered else None)
        try:
            answer = self._ask(ask, limit_s + ANSWER_GRACE_S)
        except CameraLostError as error:
            self.close()
            if not self._triggered and not self._has_order:
                raise
            if self._has_order:  # the next process must not meet the same part again
                self.position = self.position % MAX_TRIGGER + 1
                trigger = Trigger(self.position) if self._config.kind == "simulated" else trigger
            raise self._shutter.stamp(trigger, "").bad(str(error), error) from error
        self.position, self._first = answer.position, answer.first
        if self._triggered and answer.untaken:
            self._triggers.give_back(trigger)
        return self._told(answer)

    def close(self) -> None:
        """Ends the child, by force if need be, and removes the shared memory."""
        process, self._process = self._process, None
        connection, self._connection = self._connection, None
        ring, self._ring = self._ring, None
        if connection is not None:
            connection.close()  # which asks it to end
        if process is not None:
            process.join(CLOSE_S if process.exitcode is None and not self._hangs else 0.0)
            if process.exitcode is None:
                process.kill()
                process.join()
            process.close()
        self._hangs = False
        if ring is not None:
            ring.close()

    def _told(self, answer: Answer) -> Frame | None:
        if answer.what == "end":
            return None
        if answer.what == "frame":
            return self._frame(answer)
        if answer.what == "bad":
            failure = FAILURES.get(answer.failure, CameraLostError)(answer.reason) if answer.failure else None
            raise self._exposure(answer).bad(answer.reason, failure)
        raise FAILURES.get(answer.what, CameraLostError)(answer.reason)

    def _frame(self, answer: Answer) -> Frame:
        exposure = self._exposure(answer)
        if self._ring is None:
            raise exposure.bad("a picture came without shared memory")
        try:
            self._gate.check(answer.shape[1], answer.shape[0], answer.shape[2])
            return exposure.frame(self._ring.read(answer.number, answer.shape))
        except ImageError as error:
            raise exposure.bad(str(error)) from error

    def _exposure(self, answer: Answer) -> Exposure:
        return self._shutter.stamp_as(**answer.stamp)

    def _ask(self, ask: Ask, limit_s: float) -> Answer:
        """Raises CameraLostError when the child is dead, or does not answer within `limit_s`."""
        self._send(ask)
        answer = self._await(limit_s)
        if answer.what == "room":
            height_px, width_px, channels = answer.shape
            old, self._ring = self._ring, FrameRing(height_px * width_px * channels)
            if old is not None:
                old.close()
            self._send(Ask("attach", ring=self._ring.name, slot_bytes=self._ring.slot_bytes))
            answer = self._await(limit_s)
        return answer

    def _send(self, ask: Ask) -> None:
        try:
            if self._connection is not None:
                self._connection.send(ask)
        except OSError as error:
            raise CameraLostError(self._death()) from error

    def _await(self, limit_s: float) -> Answer:
        if self._connection is None:
            raise CameraLostError(f"camera {self.name}: not open; open it before reading")
        try:
            if self._connection.poll(limit_s):
                answer: Answer = self._connection.recv()
                return answer
        except (EOFError, OSError) as error:
            raise CameraLostError(self._death()) from error
        self._hangs = True
        raise CameraLostError(f"camera {self.name}: no answer within {limit_s:g} s; its process hangs and is ended")

    def _check_alive(self) -> None:
        """Before a trigger is taken."""
        if self._process is None:
            raise CameraLostError(f"camera {self.name}: not open; open it before reading")
        if not self._process.is_alive():
            raise CameraLostError(self._death())

    def _death(self) -> str:
        if self._process is not None:
            self._process.join(1.0)
        code = None if self._process is None else self._process.exitcode
        return f"camera {self.name}: its process has died (exit code {code})"
