"""`python -m dashboard.serve [--config F]`: the pages of app.py behind the login of doors.py, in one process.

Started by `python -m dashboard`, which looks first whether all is well.
"""

import signal
import sys
from pathlib import Path
from types import FrameType

from starlette.middleware import Middleware
from streamlit.starlette import App

from dashboard.context import configuration
from dashboard.doors import Doors, routes
from dashboard.launch import settings


def main() -> None:
    """Serve until SIGTERM or SIGINT; the exit code is then 0."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)  # the server comes to its end first, and then raises the signal once more
    app = App(
        Path(__file__).with_name("app.py"),
        routes=routes(configuration),
        middleware=[Middleware(Doors, configuration=configuration)],
    )
    app.run(config=settings(configuration()))


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    main()
