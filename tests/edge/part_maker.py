"""Makes parts for tests of the worker."""

from datetime import UTC, datetime

import numpy as np

from edge.parts import Part, part_of_frame
from inspector.contract.codes import ErrorCode
from inspector.types import Frame

IMAGE = np.zeros((2, 2, 3), np.uint8)
AT = datetime(2026, 1, 1, tzinfo=UTC)


def part(number: int, *, camera: str = "a", at_s: float = 0.0, deadline_s: float = 1.0, epoch: int = 0) -> Part:
    frame = Frame(number, camera, f"p{number}", number, AT, at_s, IMAGE)
    return part_of_frame(frame, number=number, epoch=epoch, deadline_s=deadline_s)


def failed(number: int, *, camera: str = "a", code: ErrorCode = ErrorCode.CAMERA_LOST) -> Part:
    return part(number, camera=camera).fail(code, "broken")
