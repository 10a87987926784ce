"""The part on its way through the worker: a frame, or the lack of one, that is owed exactly one verdict.

May import the records of the core and the contract's codes. A part is opened once (`deadlines.py`), waits in the inbox
(`buffers.py`), is batched (`batching.py`), and is answered by the inference thread.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from inspector.contract.codes import ErrorCode
from inspector.contract.messages import sanitise_part
from inspector.drift import Measures
from inspector.types import Frame, ImageArray


@dataclass(frozen=True, eq=False)
class Part:
    """One part.

    `failure` is NONE as long as the part may be scored; a part that failed has no picture any more, so that a long
    jam costs no memory. `epoch` is the state of the station under which the part was seen: it is scored only if
    nothing has changed since (see `state.py`). A `challenge` part is a known one: its verdict never lets it pass.
    `measures` are those of its picture, `arrived_monotonic_s` is when the camera handed it over. With a missed trigger,
    `unseen` triggers directly before it were missed too and get their verdicts later (see `absences.py`).
    """

    number: int
    camera: str
    frame_id: int
    part_id: str
    trigger: int
    captured_at: datetime
    captured_monotonic_s: float
    deadline_monotonic_s: float
    epoch: int
    image: ImageArray | None
    failure: ErrorCode = ErrorCode.NONE
    reason: str = ""
    challenge: bool = False
    measures: Measures | None = None
    arrived_monotonic_s: float | None = None
    unseen: int = 0

    def __post_init__(self) -> None:
        if (self.image is None) == (self.failure is ErrorCode.NONE):
            raise ValueError("a part has a picture or a failure, but not both and not neither")

    @property
    def failed(self) -> bool:
        """Whether the answer is known to be NONE."""
        return self.failure is not ErrorCode.NONE

    def fail(self, failure: ErrorCode, reason: str) -> "Part":
        """The same part, to be answered NONE with this code; the first failure stays."""
        return self if self.failed else replace(self, image=None, failure=failure, reason=reason)


def part_of_frame(
    frame: Frame,
    *,
    number: int,
    epoch: int,
    deadline_s: float,
    triggered_monotonic_s: float | None = None,
    challenge: bool = False,
    measures: Measures | None = None,
    arrived_monotonic_s: float | None = None,
) -> Part:
    """The part that a frame shows; its budget runs from its trigger, or from the exposure if it had none."""
    since_s = frame.captured_monotonic_s if triggered_monotonic_s is None else triggered_monotonic_s
    return Part(
        number=number,
        camera=frame.camera,
        frame_id=frame.frame_id,
        part_id=sanitise_part(frame.part_id),
        trigger=frame.trigger,
        captured_at=frame.captured_at,
        captured_monotonic_s=frame.captured_monotonic_s,
        deadline_monotonic_s=since_s + deadline_s,
        epoch=epoch,
        image=frame.image,
        challenge=challenge,
        measures=measures,
        arrived_monotonic_s=arrived_monotonic_s,
    )
