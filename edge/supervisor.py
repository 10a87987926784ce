"""`python -m edge.supervisor [--config F]`: keeps the worker of one station running, for months without a person.

The supervisor watches the worker's progress, not its life: the worker says "beat" on a pipe as long as its inspection loop
comes by. A worker that ends or falls silent is ended, started again with growing pauses, and after five failures in ten
minutes the circuit opens: an alarm for the PLC, and one try every five minutes. It imports neither torch nor the
worker, so that what kills the worker does not kill it. The parts in flight are answered by the next worker (`inflight.py`).
Before each start it reads the configuration; while that is wrong it speaks for the station itself (`safe_state.py`).
"""

import argparse
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from edge.notify import notify
from edge.progress import VARIABLE
from edge.safe_state import sound_config
from edge.supervision import Breaker, Progress, Restart
from inspector.config import Config
from inspector.contract.codes import ErrorCode
from inspector.errors import InspectorError, StationError
from inspector.store import engine, stations

log = logging.getLogger(__name__)

TICK_S = 0.2
STOP_LIMIT_S = 30.0
ALIVE_S = 10.0
"""So often at least systemd hears that the supervisor lives; see WatchdogSec in `deploy/inspector@.service`."""
LOG_SUFFIX = "-supervisor"


class Supervisor:
    """One worker at a time. `run` returns the exit code once it is stopped, or the worker came to its end.

    `path` is the configuration file that `config` was read from; it is read again before each start. `stopping` ends it.
    """

    def __init__(self, config: Config, path: Path | None, stopping: threading.Event) -> None:
        self._config = config
        self._path = path
        self._command = [sys.executable, "-m", "edge", *(["--config", str(path)] if path else [])]
        self._breaker = Breaker()
        self._stopping = stopping
        self.restarts = 0

    def run(self) -> int:
        """Start workers until one ends as it should.

        A worker that refuses its configuration before it ever ran is not tried again: a person stands before it.
        """
        ever_ready = False
        while True:
            code, ready = self._next()
            ever_ready = ever_ready or ready
            if self._stopping.is_set() or code == 0:
                return code
            if not ever_ready and 0 < code <= StationError.exit_code:
                return code
            restart = self._breaker.failed(time.monotonic(), random.random())  # noqa: S311 - a pause, not a secret
            self.restarts += 1
            self._tell(code, restart)
            if self._pause(restart.pause_s):
                return 0

    def _pause(self, duration_s: float) -> bool:
        """Rest, without systemd taking that for a hang; True if the supervisor is to end."""
        until = time.monotonic() + duration_s
        while (left_s := until - time.monotonic()) > 0:
            notify("WATCHDOG=1")
            if self._stopping.wait(min(left_s, ALIVE_S)):
                return True
        return self._stopping.is_set()

    def _next(self) -> tuple[int, bool]:
        """Wait for a configuration that is right, and run a worker with it."""
        try:
            config = sound_config(self._path, self._stopping, log_suffix=LOG_SUFFIX, alive=waits_for_a_person)
        except InspectorError as error:
            log.error("%s", error)
            return error.exit_code, False
        if config is None:
            return 0, False
        self._config = config
        notify("STATUS=a worker runs")
        return self._one()

    def _one(self) -> tuple[int, bool]:
        """One worker from its start to its end: its exit code, and whether it was ever ready."""
        limits = self._config.supervisor
        environment = os.environ | {VARIABLE: "1"}
        worker = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,  # its end tells the worker that the supervisor is gone
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=os.name == "posix",  # Ctrl-C goes to the supervisor alone, which ends the worker in order
        )
        progress = Progress(time.monotonic(), limits.start_limit_s, limits.hung_s)
        reader = threading.Thread(target=_listen, args=(worker.stdout, progress), name="progress", daemon=True)
        reader.start()
        try:
            while worker.poll() is None and not self._stopping.wait(TICK_S):
                if progress.hangs(time.monotonic()):
                    log.critical("the worker makes no progress any more; it is ended and started again")
                    worker.kill()
                    worker.wait()
                    return -signal.SIGKILL, progress.ready
                notify("READY=1", "WATCHDOG=1") if progress.ready else notify("WATCHDOG=1")
            return (self._end(worker) if worker.poll() is None else worker.returncode), progress.ready
        finally:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
            for pipe in (worker.stdin, worker.stdout):
                if pipe is not None:
                    pipe.close()

    def _end(self, worker: "subprocess.Popen[bytes]") -> int:
        notify("STOPPING=1")
        worker.terminate()
        try:
            return worker.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            log.error("the worker did not end within %g s; it is killed", STOP_LIMIT_S)
            worker.kill()
            return worker.wait()

    def _tell(self, code: int, restart: Restart) -> None:
        reason = f"signal {-code}" if code < 0 else f"exit code {code}"
        log.error("the worker ended (%s); it is started again in %.0f s", reason, restart.pause_s)
        notify(f"STATUS=the worker ended ({reason}); next start in {restart.pause_s:.0f} s", "WATCHDOG=1")
        if restart.open:
            self._alarm(f"the worker fails again and again ({reason}); next try in {restart.pause_s:.0f} s")

    def _alarm(self, text: str) -> None:
        """The circuit is open: for the PLC on `state` and `alarm`, for the pages in the station's row."""
        from edge.last_words import say

        log.critical("%s", text)
        try:
            say(self._config, ErrorCode.INTERNAL, text)
        except InspectorError as error:
            log.error("the alarm could not be given: %s", error)
        try:
            store = engine.open_store(self._config.database_url)
            try:
                with store.write() as session:
                    station = stations.ensure_station(session, self._config.station.name)
                    station.status = station.status | {"last_error": text}
            finally:
                store.close()
        except InspectorError as error:
            log.error("the pages could not be told: %s", error)


def _listen(pipe: IO[bytes] | None, progress: Progress) -> None:
    """Words of the worker, one in a line; ends with the pipe."""
    if pipe is None:
        return
    try:
        for line in pipe:
            progress.hear(line.decode("ascii", "replace").strip(), time.monotonic())
    except ValueError:  # closed while it was read: the worker is gone
        return


def waits_for_a_person() -> None:
    """Tell systemd that the station is alive, and what it waits for: it would end a service that says nothing."""
    notify("READY=1", "WATCHDOG=1", "STATUS=safe state: the configuration is wrong, see the log")


def main() -> None:
    """Run the supervisor; faults become one sentence and an exit code."""
    parser = argparse.ArgumentParser(prog="inspector run", description="The edge worker of one station, supervised.")
    parser.add_argument("--config", type=Path, help="configuration file (YAML)")
    arguments = parser.parse_args()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    try:
        config = sound_config(arguments.config, stopping, log_suffix=LOG_SUFFIX, alive=waits_for_a_person)
        if config is None:
            sys.exit(0)
        path = config.data_path / f"{config.station.name}.supervisor.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path).acquire(blocking=False):
            code = Supervisor(config, arguments.config, stopping).run()
    except Timeout:
        error = StationError("another supervisor runs this station; stop it, or give this one another station.name")
        sys.stderr.write(f"inspector run: {error}\n")
        sys.exit(error.exit_code)
    except OSError as error:
        sys.stderr.write(f"inspector run: the supervisor's lock cannot be made: {error}\n")
        sys.exit(StationError.exit_code)
    except InspectorError as error:
        sys.stderr.write(f"inspector run: {error}\n")
        sys.exit(error.exit_code)
    sys.exit(code if code >= 0 else StationError.exit_code)


if __name__ == "__main__":
    main()
