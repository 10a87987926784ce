"""Pictures that rows of the database name: written before the transaction of those rows, and only moved within it.

May import pictures and errors. To encode and write a picture of 5 Mpx takes a tenth of a second, and while a transaction of
SQLite is open the line cannot commit its verdicts: fifty uploaded references would cost it seconds of NONE (800).
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from inspector.errors import StoreError
from inspector.images import encode_png
from inspector.types import ImageArray

FOLDER = "incoming"
ABANDONED_S = 24 * 3600.0
"""What lies in the folder for so long belongs to a process that died."""
NAME_LENGTH = 255


@dataclass(frozen=True)
class Picture:
    """A picture that is written and not yet in its place; `name` is what the user called it, `sha256` that of its pixels."""

    name: str
    sha256: str
    _data_path: Path
    _file: Path

    def move_to(self, path: Path) -> str:
        """Put it at `path` below the data folder, in one step; gives that path as the database keeps it.

        Raises:
            StoreError: it cannot be moved.
        """
        target = self._data_path / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._file.replace(target)
        except OSError as error:
            raise StoreError(f"{target}: cannot be written: {error.strerror}") from error
        return path.as_posix()


@contextmanager
def staged(data_path: Path, pictures: Iterable[tuple[str, ImageArray]]) -> Iterator[list[Picture]]:
    """Write pictures (name and RGB `[H, W, 3]`) one by one, for rows that the block adds; what it did not move is deleted.

    Raises:
        StoreError: a picture cannot be written.
    """
    incoming = data_path / FOLDER
    try:
        incoming.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(incoming)
        folder = Path(tempfile.mkdtemp(dir=incoming))
    except OSError as error:
        raise StoreError(f"{incoming}: cannot be written: {error.strerror}") from error
    try:
        yield [_write(data_path, folder / f"{number}.png", *picture) for number, picture in enumerate(pictures)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(data_path: Path, file: Path, name: str, image: ImageArray) -> Picture:
    try:
        with file.open("wb") as handle:
            handle.write(encode_png(image))
            handle.flush()
            os.fsync(handle.fileno())  # after a power cut an empty file would be worse than none
    except OSError as error:
        raise StoreError(f"{file}: cannot be written: {error.strerror}") from error
    return Picture(Path(name).name[:NAME_LENGTH], hashlib.sha256(image.tobytes()).hexdigest(), data_path, file)


def _remove_abandoned(incoming: Path) -> None:
    for folder in incoming.iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of another upload, which has ended
            if time.time() - folder.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(folder, ignore_errors=True)
