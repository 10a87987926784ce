"""`python -m edge [--config F]`: the worker of one station, until Ctrl-C, SIGTERM or the end of its sources.

Exit code 0 after a clean stop, else that of the error (see `inspector.errors`), which is told in one sentence. What can
be refused without the encoder (configuration, station, database) is refused before torch is loaded.
"""

import argparse
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from edge.logs import set_up_logging
from inspector.config import Config, load_config
from inspector.errors import InspectorError, StationError
from inspector.store import engine
from inspector.store.healing import heal
from inspector.store.stations import station_lock_path


def main() -> None:
    """Run the worker; faults become one sentence and an exit code."""
    parser = argparse.ArgumentParser(prog="python -m edge", description="The edge worker of one station.")
    parser.add_argument("--config", type=Path, help="configuration file (YAML)")
    arguments = parser.parse_args()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    try:
        config = load_config(arguments.config)
        set_up_logging(config.logging)
        with only_worker(config):
            _run(config, stopping)
    except InspectorError as error:
        sys.stderr.write(f"inspector run: {error}\n")
        sys.exit(error.exit_code)


@contextmanager
def only_worker(config: Config) -> Iterator[None]:
    """Hold the station's lock. Raises StationError if another worker has it."""
    path = station_lock_path(config.data_path, config.station.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise StationError(
            f"another worker runs station {config.station.name} (it holds {path}); stop it, or give this one another "
            "station.name"
        ) from error
    except OSError as error:
        raise StationError(f"{path}: the station's lock cannot be made: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def _run(config: Config, stopping: threading.Event) -> None:
    heal(config.database_url, config.data_path, datetime.now(UTC))  # it logs what it did; `Keeping` raises the alarm
    if engine.current_revision(config.database_url) is None:
        engine.upgrade(config.database_url)  # a new database; an old one is upgraded only by its owner
    store = engine.open_store(config.database_url)
    try:
        from edge.worker import Worker

        Worker(config, store, stopping).run()
    finally:
        store.close()


if __name__ == "__main__":
    main()
