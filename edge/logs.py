"""Where the log of a process goes: standard error, and a file that is begun anew when it is full.

Standard library and the configuration only. The supervisor and its worker are two processes and have a file each, since two
cannot rotate the same one.
"""

import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

from inspector.config import LoggingConfig
from inspector.errors import ConfigError

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
QUIET = ("apscheduler", "alembic")
MIB = 2**20


def log_file(config: LoggingConfig, suffix: str = "") -> Path | None:
    """The log file of this process, if there is one."""
    return None if config.file is None else config.file.with_stem(config.file.stem + suffix)


def set_up_logging(config: LoggingConfig, suffix: str = "") -> None:
    """Make the root logger write by the configuration, instead of by one before.

    Raises:
        ConfigError: the file cannot be written.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    path = log_file(config, suffix)
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            size = int(config.max_mb * MIB)
            handlers.append(RotatingFileHandler(path, maxBytes=size, backupCount=config.backups, encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"logging.file: {path} cannot be written: {error.strerror}") from error
    logging.basicConfig(level=config.level, format=LOG_FORMAT, handlers=handlers, force=True)
    for library in QUIET:
        logging.getLogger(library).setLevel(logging.WARNING)
