"""The process that a wrapped camera lives in: does what it is asked, one question and one answer at a time.

May import the sources, never torch: it has to start fast, for it is started anew whenever a camera hangs. Pictures go back
by shared memory, everything else by the pipe.
"""

import os
import signal
import threading
from dataclasses import dataclass, field
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

from edge.cameras import make_camera
from edge.cameras.frame_ring import FrameRing
from edge.cameras.pictures import Kind, PictureGate
from edge.cameras.protocol import BadFrameError, Camera, IdleLineError, MissedFrameError
from edge.cameras.triggers import Trigger, TriggerQueue
from inspector.config import CameraConfig
from inspector.errors import CameraError, CameraLostError, CameraTimeoutError
from inspector.framing import CropError
from inspector.types import ImageArray

FAILURES: dict[str, type[CameraError]] = {
    kind.__name__: kind for kind in (IdleLineError, CameraTimeoutError, CameraLostError, MissedFrameError, CropError)
}


@dataclass(frozen=True)
class Ask:
    """A question: open, read or attach. `trigger` is there when the camera is triggered; `ring` names shared memory."""

    what: str
    timeout_s: float = 0.0
    trigger: Trigger | None = None
    ring: str = ""
    slot_bytes: int = 0


@dataclass(frozen=True)
class Answer:
    """What came of it.

    `what` is ready, opened, frame, room, end, bad or the name of an error; `stamp` has the fields of a frame or of a bad
    frame, but not the picture; `position` is where a source that ends stands. `untaken`: the trigger was not used.
    `number` and `shape` are those of the picture in shared memory; `first` is what the camera's first picture was, if known.
    """

    what: str
    reason: str = ""
    position: int = 0
    untaken: bool = False
    number: int = 0
    shape: tuple[int, int, int] = (0, 0, 0)
    failure: str = ""
    first: Kind | None = None
    stamp: dict[str, Any] = field(default_factory=dict)


def serve(connection: Connection, config_json: str, position: int, first: Kind | None) -> None:
    """Answers until the pipe is closed or the parent is gone. `first`: what the first picture of all was, if known."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent says when to end
    threading.Thread(target=_end_with_parent, daemon=True).start()
    config = CameraConfig.model_validate_json(config_json)
    triggers = TriggerQueue()
    gate = PictureGate(first)
    camera = make_camera(config, triggers, last_trigger=position, position=position, gate=gate)
    try:
        connection.send(Answer("ready"))
        _Server(connection, camera, triggers, gate).run()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent has let go
    finally:
        camera.close()


def _end_with_parent() -> None:
    """A driver that hangs in the main thread must not keep the device from the next worker."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(0)


class _Server:
    def __init__(self, connection: Connection, camera: Camera, triggers: TriggerQueue, gate: PictureGate) -> None:
        self._connection = connection
        self._camera = camera
        self._triggers = triggers
        self._gate = gate
        self._ring: FrameRing | None = None
        self._number = 0

    def run(self) -> None:
        """Raises EOFError when the parent has closed the pipe."""
        while True:
            ask: Ask = self._connection.recv()
            try:
                if ask.what == "open":
                    self._camera.open()
                    self._answer("opened")
                else:
                    self._read(ask)
            except BadFrameError as error:
                self._answer("bad", reason=error.reason, stamp=_stamp(error), failure=_name(error.failure))
            except CameraError as error:
                self._answer(_name(error), reason=str(error))
            except (EOFError, OSError):
                raise
            except Exception as error:  # noqa: BLE001 - a driver may raise anything; the parent must hear of it
                self._answer(CameraLostError.__name__, reason=f"{type(error).__name__}: {error}")

    def _read(self, ask: Ask) -> None:
        if ask.trigger is not None:
            self._triggers.put(ask.trigger.trg, ask.trigger.part_id)
        frame = self._camera.read(ask.timeout_s)
        if frame is None:
            self._answer("end")
            return
        self._number += 1
        self._ring_for(frame.image).write(self._number, frame.image)
        self._answer("frame", number=self._number, stamp=_stamp(frame), shape=frame.image.shape)

    def _ring_for(self, image: ImageArray) -> FrameRing:
        """The ring belongs to the parent, which learns here how large a picture is."""
        if self._ring is None or self._ring.slot_bytes < image.nbytes:
            self._connection.send(Answer("room", shape=image.shape))
            ask: Ask = self._connection.recv()
            if self._ring is not None:
                self._ring.close()
            self._ring = FrameRing(ask.slot_bytes, attach_to=ask.ring)
        return self._ring

    def _answer(self, what: str, **found: Any) -> None:
        untaken = bool(self._triggers.drain())
        position, first = self._camera.position, self._gate.first
        self._connection.send(Answer(what, position=position, untaken=untaken, first=first, **found))


def _stamp(source: Any) -> dict[str, Any]:
    names = ("part_id", "trigger", "captured_at", "captured_monotonic_s")
    return {name: getattr(source, name) for name in names}


def _name(error: CameraError | None) -> str:
    if error is None:
        return ""
    return next(kind.__name__ for kind in (*FAILURES.values(), CameraError) if isinstance(error, kind))
