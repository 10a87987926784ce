"""`python -m edge [--config F]`: the worker of one station, until Ctrl-C, SIGTERM or the end of its sources.

Exit code 0 after a clean stop, else that of the error (see `inspector.errors`), which is told in one sentence. What can
be refused without the encoder (station, database) is refused before torch is loaded; a wrong configuration is a safe state.
"""

import argparse
import os
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from edge.logs import set_up_logging
from edge.progress import VARIABLE
from edge.safe_state import sound_config
from edge.station_lock import only_worker
from inspector.config import Config
from inspector.errors import InspectorError
from inspector.salvage import load_sound
from inspector.store import engine
from inspector.store.healing import heal


def main() -> None:
    """Run the worker; faults become one sentence and an exit code."""
    parser = argparse.ArgumentParser(prog="python -m edge", description="The edge worker of one station.")
    parser.add_argument("--config", type=Path, help="configuration file (YAML)")
    arguments = parser.parse_args()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    try:
        # A supervisor speaks for a station whose configuration is wrong; a worker alone has to do it itself.
        supervised = VARIABLE in os.environ
        config = load_sound(arguments.config) if supervised else sound_config(arguments.config, stopping)
        if config is not None:
            set_up_logging(config.logging)
            with only_worker(config.data_path, config.station.name):
                _run(config, stopping)
    except InspectorError as error:
        sys.stderr.write(f"inspector run: {error}\n")
        sys.exit(error.exit_code)


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
