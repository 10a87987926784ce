"""`python -m edge [--config F]`: the worker of one station, until Ctrl-C, SIGTERM or the end of its sources.

Exit code 0 after a clean stop, else that of the error (see `inspector.errors`), which is told in one sentence.
"""

import argparse
import logging
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from inspector.config import load_config
from inspector.errors import InspectorError

if TYPE_CHECKING:
    from edge.worker import Worker

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


def main() -> None:
    """Run the worker."""
    parser = argparse.ArgumentParser(prog="python -m edge", description="The edge worker of one station.")
    parser.add_argument("--config", type=Path, help="configuration file (YAML)")
    arguments = parser.parse_args()
    try:
        config = load_config(arguments.config)
        logging.basicConfig(level=config.logging.level, format=LOG_FORMAT, stream=sys.stderr)
        for library in ("apscheduler", "alembic"):
            logging.getLogger(library).setLevel(logging.WARNING)
        from edge.worker import run_worker  # torch is loaded only when there is something to run

        run_worker(config, _stop_on_signals)
    except InspectorError as error:
        sys.stderr.write(f"inspector run: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def _stop_on_signals(worker: "Worker") -> None:
    def stop(_number: int, _frame: FrameType | None) -> None:
        worker.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


if __name__ == "__main__":
    main()
