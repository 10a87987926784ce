"""Uploaded files: are they pictures, do they fit together, is one of them odd? Judged by content, dropped by people.

No Streamlit here. A file is never believed by its name: it is decoded, and what is stored later is encoded anew.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from inspector.errors import ImageError
from inspector.hygiene import Look, check_looks
from inspector.images import decode_image, encode_jpeg, shrink
from inspector.types import ImageArray

MAX_PICTURES = 64
MAX_FILE_MB = 64
MAX_TOTAL_MB = 512
FEW = 4
THUMBNAIL_SIDE_PX = 220


@dataclass(frozen=True)
class Upload:
    """One file as it came: what it shows, or the sentence why it cannot be used."""

    name: str
    data: bytes
    sha256: str
    size_px: tuple[int, int] | None
    thumbnail: bytes | None
    fault: str
    look: Look | None = field(default=None, compare=False)

    @property
    def usable(self) -> bool:
        return not self.fault


@dataclass(frozen=True)
class Judged:
    """An upload with what the operator should know of it before the build."""

    upload: Upload
    warnings: tuple[str, ...]


def read_upload(name: str, data: bytes) -> Upload:
    """Look at one uploaded file."""
    shown = safe_name(name)
    sha256 = hashlib.sha256(data).hexdigest()
    if len(data) > MAX_FILE_MB * 2**20:
        return Upload(shown, b"", sha256, None, None, f"larger than {MAX_FILE_MB} MB")
    try:
        image = decode_image(data, shown)
    except ImageError as error:
        return Upload(shown, b"", sha256, None, None, str(error).removeprefix(f"{shown}: "))
    height_px, width_px = image.shape[:2]
    look = Look.of(image)
    thumbnail = encode_jpeg(shrink(image, THUMBNAIL_SIDE_PX), 85)
    return Upload(shown, data, look.sha256, (width_px, height_px), thumbnail, "", look)


def judge(uploads: Sequence[Upload]) -> list[Judged]:
    """What is odd about each, seen beside the others: blurred, dark, a copy, another size; or why it is no picture."""
    readable = [upload for upload in uploads if upload.look is not None]
    looks = [upload.look for upload in readable if upload.look is not None]
    found: dict[int, list[str]] = {}
    for finding in check_looks(looks, [upload.name for upload in readable]):
        found.setdefault(id(readable[finding.index]), []).append(finding.reason)
    return [Judged(upload, (upload.fault,) if upload.fault else tuple(found.get(id(upload), ()))) for upload in uploads]


def set_fault(uploads: Sequence[Upload], kept: Sequence[Upload]) -> str:
    """Why these pictures cannot be built into a recipe yet; empty if they can."""
    total_mb = sum(len(upload.data) for upload in kept) / 2**20
    unreadable = [upload.name for upload in kept if upload.fault]
    if not uploads:
        return "Choose pictures of good parts first."
    if not kept:
        return "All pictures are dropped; keep at least one."
    if unreadable:
        return f"Drop what cannot be used first: {', '.join(unreadable)}."
    if len(kept) > MAX_PICTURES:
        return f"At most {MAX_PICTURES} pictures make a recipe, but {len(kept)} are kept; drop some."
    if total_mb > MAX_TOTAL_MB:
        return f"The pictures have {total_mb:.0f} MB in all; at most {MAX_TOTAL_MB} MB are taken."
    return ""


def decode(kept: Sequence[Upload]) -> list[tuple[str, ImageArray]]:
    """Names and pixels for the store.

    Raises:
        ImageError: one of them is no picture.
    """
    return [(upload.name, decode_image(upload.data, upload.name)) for upload in kept]


def safe_name(name: str) -> str:
    """A file's name as it may be shown and stored: no folders, no control characters, at most 80 characters."""
    bare = re.split(r"[/\\]", name)[-1]
    clean = "".join(character for character in bare if character.isprintable()).strip()
    return clean[-80:] or "picture"
