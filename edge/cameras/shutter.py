"""When a picture is taken, and the stamp it gets: the part of a camera that is the same for every source.

Free running it opens once per period by the monotonic clock; triggered it opens once per trigger. It may
import the core's records and the trigger queue; time is injected, so that tests do not sleep.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edge.cameras.protocol import BadFrameError, IdleLineError
from edge.cameras.triggers import Trigger, TriggerQueue
from inspector.config import GENICAM_KINDS, CameraConfig
from inspector.errors import CameraError
from inspector.types import Frame, ImageArray

LOST_PERIODS = 3
LEAST_PATIENCE_S = 1.0
"""No camera is given up sooner: a network's hiccup is no loss."""
OPEN_FACTOR = 5.0
"""A network stream opens with its next key picture, which may be seconds away; times `timeout_s`."""


def is_live(config: CameraConfig) -> bool:
    """Whether there is a sensor whose pictures are never equal, and that does not wait for its reader."""
    if config.kind == "opencv":
        return not Path(config.source).is_file()
    return config.kind in GENICAM_KINDS or bool(config.faults)


def patience_s(config: CameraConfig) -> float:
    """A free-running live camera that gives no frame for so long is lost: three periods, within bounds."""
    wished_s = min(LOST_PERIODS * config.period_s, config.timeout_s)
    return max(wished_s, LEAST_PATIENCE_S, 1.5 * config.period_s)


@dataclass(frozen=True)
class Clock:
    """The three faces of time; UTC is a label, the monotonic clock is what ages are computed from."""

    monotonic_s: Callable[[], float] = time.monotonic
    utc: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Exposure:
    """The moment of one exposure: everything of a frame but its picture."""

    frame_id: int
    camera: str
    part_id: str
    trigger: int
    captured_at: datetime
    captured_monotonic_s: float

    def frame(self, image: ImageArray) -> Frame:
        """The frame with its picture."""
        return Frame(image=image, **vars(self))

    def bad(self, reason: str, failure: CameraError | None = None) -> BadFrameError:
        """The same part without a usable picture."""
        return BadFrameError(reason, failure=failure, **vars(self))


class Shutter:
    """Waits for the next exposure and stamps it; frame ids count from 1 and go on over reconnects."""

    def __init__(self, config: CameraConfig, triggers: TriggerQueue, clock: Clock) -> None:
        self._camera = config.name
        self._period_s = config.period_s
        self._triggers = triggers if config.trigger == "mqtt" else None
        self._clock = clock
        self._due_monotonic_s: float | None = None
        self._frame_id = 0

    @property
    def triggered(self) -> bool:
        """True when each frame answers a trigger."""
        return self._triggers is not None

    def wait(self, timeout_s: float) -> Trigger:
        """Until the next exposure is due; a trigger that is given here belongs to the caller.

        Free running the trigger is `Trigger(0)`. Raises IdleLineError when nothing is due within `timeout_s`.
        """
        if self._triggers is not None:
            trigger = self._triggers.get(timeout_s)
            if trigger is None:
                raise IdleLineError(f"camera {self._camera}: no trigger in {timeout_s:g} s")
            return trigger
        now = self._clock.monotonic_s()
        due = now if self._due_monotonic_s is None else self._due_monotonic_s
        if due - now > timeout_s:
            self._clock.sleep(timeout_s)
            raise IdleLineError(
                f"camera {self._camera}: the next is due in {due - now:.3g} s, not within {timeout_s:g} s"
            )
        if due > now:
            self._clock.sleep(due - now)
        # After a pause of the reader the cadence starts anew: parts are not made up for in a burst.
        self._due_monotonic_s = max(due, now - self._period_s) + self._period_s
        return Trigger(0)

    def stamp(self, trigger: Trigger, default_part_id: str, captured_monotonic_s: float | None = None) -> Exposure:
        """The exposure happens now, or happened at `captured_monotonic_s`."""
        now = self._clock.monotonic_s()
        captured = now if captured_monotonic_s is None else captured_monotonic_s
        utc = self._clock.utc()
        return self.stamp_as(
            part_id=trigger.part_id or default_part_id,
            trigger=trigger.trg,
            captured_at=utc if captured == now else datetime.fromtimestamp(utc.timestamp() - (now - captured), UTC),
            captured_monotonic_s=captured,
        )

    def stamp_as(self, *, part_id: str, trigger: int, captured_at: datetime, captured_monotonic_s: float) -> Exposure:
        """An exposure whose moment is known already; gets the next frame id."""
        self._frame_id += 1
        return Exposure(self._frame_id, self._camera, part_id, trigger, captured_at, captured_monotonic_s)
