"""What the frame counter of a camera says about frames that never came: no thread, no clock; imports nothing of ours.

GigE Vision counts 1 … 65535, 1 … in 16 bits (0 is never used); cameras with extended ids, and USB3 Vision, count in 64
bits. Both are told apart by the number itself, since a 16-bit counter never exceeds 65535.
"""

WRAP = 65_535
MAX_GAP = 1_000


class FrameIds:
    """The counter of one connection; a jump of more than `MAX_GAP`, or backwards, is a counter that started anew."""

    def __init__(self) -> None:
        self._last: int | None = None

    def missed_before(self, frame_id: int) -> int:
        """How many frames were lost between the last one seen and this one."""
        last, self._last = self._last, frame_id
        if last is None:
            return 0
        ahead = frame_id - last
        if ahead < 0 and last <= WRAP:
            ahead += WRAP  # 65535 is followed by 1
        return ahead - 1 if 1 <= ahead <= MAX_GAP + 1 else 0
