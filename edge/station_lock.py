"""The lock of a station: one process at a time speaks for it. May import the store's names and errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from inspector.errors import StationError
from inspector.store.stations import station_lock_path


@contextmanager
def only_worker(data_path: Path, station: str) -> Iterator[None]:
    """Hold the station's lock. Raises StationError if another worker has it."""
    path = station_lock_path(data_path, station)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise StationError(
            f"another worker runs station {station} (it holds {path}); stop it, or give this one another station.name"
        ) from error
    except OSError as error:
        raise StationError(f"{path}: the station's lock cannot be made: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()
