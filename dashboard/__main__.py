"""`python -m dashboard [--config F]`: check what can go wrong, then become the server."""

import os
import subprocess
import sys

from dashboard.launch import address, check_access, check_port, command, parse_arguments
from inspector.config import load_config
from inspector.errors import InspectorError


def main() -> int:
    """Serve the pages; a fault is one sentence on standard error and its exit code."""
    try:
        path = parse_arguments(sys.argv[1:]).config
        config = load_config(path)
        check_access(config)
        check_port(config)
    except InspectorError as error:
        sys.stderr.write(f"inspector dashboard: {error}\n")
        return error.exit_code
    sys.stderr.write(f"The pages are at {address(config)}\n")
    sys.stderr.flush()
    arguments = command(path)
    if os.name == "posix":
        os.execv(arguments[0], arguments)  # noqa: S606 - our own program, no shell
    try:
        return subprocess.call(arguments)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
