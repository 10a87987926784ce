"""`python -m edge [--config F]`: the edge worker of one station, until SIGINT or SIGTERM. `inspector run` starts it."""

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path

from filelock import FileLock, Timeout

from edge.worker import Worker
from inspector.config import Config, load_config
from inspector.errors import InspectorError, StationError
from inspector.store import engine
from inspector.store.stations import station_lock_path

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def run(config: Config, stopping: threading.Event) -> None:
    """Hold the station's lock and run its worker.

    Raises:
        StationError: another worker holds the station.
        InspectorError: the database, the encoder or a certificate cannot be used.
    """
    path = station_lock_path(config.data_path, config.station.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise StationError(
            f"another worker runs station {config.station.name!r} (it holds {path}); stop it first, or give this one another "
            "station.name"
        ) from error
    except OSError as error:
        raise StationError(f"{path.parent}: cannot be written: {error.strerror}") from error
    try:
        if engine.current_revision(config.database_url) is None:
            engine.upgrade(config.database_url)  # a new, empty database
        store = engine.open_store(config.database_url)
        try:
            Worker(config, store).run(stopping.is_set)
        finally:
            store.close()
    finally:
        lock.release()


def main() -> None:
    """Parse the arguments, run, and turn faults into one sentence and an exit code."""
    parser = argparse.ArgumentParser(prog="python -m edge", description="The edge worker of one station.")
    parser.add_argument("--config", type=Path, default=None, help="configuration file (YAML)")
    arguments = parser.parse_args()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    try:
        config = load_config(arguments.config)
        logging.basicConfig(level=config.logging.level, format=FORMAT, stream=sys.stderr)
        logging.getLogger("apscheduler").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        run(config, stopping)
    except InspectorError as error:
        sys.stderr.write(f"inspector run: {error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
