"""How commands talk to the worker of the station: is there one, and what does it answer.

May import the store. The worker reads commands from SQL, so this works without a broker, too.
"""

import time
from datetime import UTC, datetime
from typing import Any

from filelock import FileLock, Timeout

from inspector.config import Config
from inspector.contract.codes import AckCode
from inspector.errors import StationError
from inspector.store import commands, stations
from inspector.store.engine import Store

ANSWER_TIMEOUT_S = 60.0
POLL_S = 0.1


def require_worker(settings: Config) -> None:
    """Raises StationError if no worker of the station runs."""
    settings.data_path.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(stations.station_lock_path(settings.data_path, settings.station.name)).acquire(blocking=False):
            pass
    except Timeout:
        return
    raise StationError(f"no worker of station {settings.station.name} runs; start it with `inspector run`")


def ask_worker(settings: Config, store: Store, name: str, payload: dict[str, Any], who: str) -> AckCode:
    """Give a command to the running worker; gives its final answer.

    Raises:
        StationError: it does not answer.
    """
    with store.write() as session:
        station = stations.ensure_station(session, settings.station.name)
        command_id = commands.submit(
            session,
            station.id,
            source="cli",
            cid=commands.new_cid(),
            name=name,
            payload=payload,
            who=who,
            now=datetime.now(UTC),
        ).id
    deadline_s = time.monotonic() + ANSWER_TIMEOUT_S
    while time.monotonic() < deadline_s:
        with store.read() as session:
            command = commands.get_command(session, command_id)
        if command.status == "done" and command.code is not None:
            return AckCode(command.code)
        time.sleep(POLL_S)
    raise StationError(f"the worker did not answer within {ANSWER_TIMEOUT_S:.0f} s; look at its log")
