"""Does a picture file end where its format ends? A decoder fills up what is missing with grey, in silence.

Standard library only. TIFF has no end, it may lie anywhere in the file; there the time since the last change must do.
"""

from pathlib import Path

HEAD_BYTES = 32  # less than this is no picture of any format
TAIL_BYTES = 4096
"""Some cameras write remarks or zeros behind the end of the picture."""


def is_whole(path: Path) -> bool:
    """False for an empty or cut file, and for one that is gone."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            size_bytes = file.seek(0, 2)
            file.seek(max(0, size_bytes - TAIL_BYTES))
            tail = file.read()
    except OSError:
        return False
    if len(head) < HEAD_BYTES:
        return False
    if head.startswith(b"BM"):
        return size_bytes >= int.from_bytes(head[2:6], "little")
    if head.startswith(b"RIFF"):
        return size_bytes >= 8 + int.from_bytes(head[4:8], "little")
    ends = {b"\x89PNG": b"IEND\xaeB`\x82", b"\xff\xd8": b"\xff\xd9"}  # a PNG's last chunk is always the same
    return all(end in tail for begin, end in ends.items() if head.startswith(begin))
