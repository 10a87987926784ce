"""Does a picture file end where its format ends? A decoder fills up what is missing with grey, in silence.

Standard library only. TIFF has no end, it may lie anywhere in the file; there the time since the last change must do.
"""

from pathlib import Path

TAIL_BYTES = 4096
"""Some cameras write remarks or zeros behind the end of the picture."""


def is_whole(path: Path) -> bool:
    """False for an empty or cut file, and for one that is gone."""
    try:
        with path.open("rb") as file:
            head = file.read(32)
            size_bytes = file.seek(0, 2)
            file.seek(max(0, size_bytes - TAIL_BYTES))
            tail = file.read()
    except OSError:
        return False
    if head.startswith(b"\x89PNG"):
        return b"IEND\xaeB`\x82" in tail  # the last chunk with its checksum, which is always the same
    if head.startswith(b"\xff\xd8"):
        return b"\xff\xd9" in tail
    if head.startswith(b"BM"):
        return size_bytes >= int.from_bytes(head[2:6], "little")
    if head.startswith(b"RIFF"):
        return size_bytes >= 8 + int.from_bytes(head[4:8], "little")
    return size_bytes > 0
