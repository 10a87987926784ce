"""Copies the station's rows to the plant's central database, in a thread of its own; no verdict waits for it.

May import the store and the alarms. The station's own database stays the truth: an outage of the central one, of hours or
weeks, costs nothing but time. Rows go in their order, a batch at a time, and a crash repeats at most one batch, which
changes nothing.
"""

import logging
import random
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from edge.alarms import AlarmBoard
from inspector.config import CentralConfig
from inspector.contract.codes import ErrorCode
from inspector.errors import ConfigError, SchemaError
from inspector.store import central, copying
from inspector.store.copying import Batch, Place
from inspector.store.engine import Store
from inspector.store.writer import StoreWriter

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Between two looks for new rows."""
RETRY_S, MAX_RETRY_S = 1.0, 60.0
SHARE = 0.25
"""Of its time at most a copy that has much to catch up is at work; the rest is the line's."""
COUNT_S = 5.0
SEEN_S = 30.0
"""Without new rows the station says so often that it is there; see `central.TAKEN_OVER_AFTER`."""
HUNG_S = 120.0
"""A batch that takes longer hangs: a server that is frozen answers never."""
STOP_S = 5.0
SOURCE = "central"


@dataclass
class Numbers:
    """How the copy stands; written by its thread, read by others."""

    rows_behind: int = 0
    behind_since_s: float | None = None
    """Monotonic; when the central database last had everything, None while it has."""
    copied: int = 0
    failures: int = 0
    rate_hz: float = 0.0
    problem: str = ""
    needs_hands: bool = False
    """Time alone will not heal the problem."""


class CentralCopy:
    """The thread of one station."""

    def __init__(
        self, config: CentralConfig, writer: StoreWriter, alarms: AlarmBoard, station_id: int, name: str
    ) -> None:
        """`config.url` must be set; `name` is the station's in the plant."""
        self._config = config
        self._writer = writer
        self._alarms = alarms
        self._station_id = station_id
        self._name = name
        self._central: tuple[str, Store] | None = None
        self._stopping = threading.Event()
        self._thread = self._made()
        self._failed_in_a_row = 0
        self._counted_at_s = self._seen_at_s = float("-inf")
        self._due_s = float("inf")
        self.numbers = Numbers()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End; what is new is copied if that works at once."""
        self._stopping.set()
        self._thread.join(STOP_S)

    def watch(self, now_monotonic_s: float) -> None:
        """Called by the worker's main thread: the copy must not fall behind, hang or die without anybody knowing."""
        if not self._thread.is_alive() and not self._stopping.is_set():
            log.critical("the copy to the central database has died; it is started again")
            self.numbers.failures += 1
            self._thread = self._made()
            self._thread.start()
        numbers, text = self.numbers, ""
        if now_monotonic_s > self._due_s:
            text = f"the central database has not answered for {HUNG_S:.0f} s"
        elif numbers.needs_hands or self._age_s(now_monotonic_s) > self._config.alarm_after_min * 60:
            text = f"the central database is behind: {numbers.problem or 'rows come faster than they can be copied'}"
        if text:
            self._alarms.up(ErrorCode.CENTRAL_BEHIND, text, SOURCE)
        else:
            self._alarms.down(ErrorCode.CENTRAL_BEHIND, SOURCE)

    def status(self) -> dict[str, object]:
        """For the status row and the telemetry."""
        numbers = self.numbers
        return {
            "central_rows_behind": numbers.rows_behind,
            "central_behind_s": round(self._age_s(time.monotonic()), 1),
            "central_copied": numbers.copied,
            "central_failures": numbers.failures,
            "central_rate_hz": round(numbers.rate_hz, 1),
            "central_problem": numbers.problem,
        }

    def turn(self) -> bool:
        """Copy one batch; True if more rows wait.

        Raises:
            InspectorError: one of the two databases fails, or must not be used.
        """
        began_s = time.monotonic()
        place = self._place()
        if self.numbers.behind_since_s is not None and began_s - self._counted_at_s >= COUNT_S:
            self._count(place)
        with self._writer.store.read() as session:
            batch = copying.next_batch(session, self._station_id, place, self._config.batch, datetime.now(UTC))
        if batch.is_empty and began_s - self._seen_at_s < SEEN_S:
            self._caught_up()
            return False
        if not self._put(batch):
            return True
        self._writer.call(lambda session: copying.advance(session, self._station_id, batch))
        self._seen_at_s = time.monotonic()
        self._note(batch, self._seen_at_s - began_s)
        return batch.full

    def _run(self) -> None:
        pause_s = 0.0
        while not self._stopping.wait(pause_s):
            pause_s = self._guarded_turn()
        if not self.numbers.problem:
            self._guarded_turn()
        self._close()

    def _guarded_turn(self) -> float:
        """One turn, whatever happens; gives the seconds until the next."""
        began_s = time.monotonic()
        self._due_s = began_s + HUNG_S
        try:
            more = self.turn()
        except Exception as error:  # noqa: BLE001 - the copy must go on for months, whatever this was
            pause_s = self._failed(error)
        else:
            self._worked()
            pause_s = (time.monotonic() - began_s) * (1 / SHARE - 1) if more else LOOK_S
        self._due_s = time.monotonic() + pause_s + HUNG_S
        return pause_s

    def _place(self) -> Place:
        """Where the copy stands; read each time, since the ledger may have sent it back."""
        with self._writer.store.read() as session:
            place = copying.place_of(session, self._station_id)
        if place is not None:
            return place
        self._writer.call(lambda session: copying.begin(session, self._station_id))
        return self._place()

    def _put(self, batch: Batch) -> bool:
        """Bring the batch into the central database; False if it wants older rows first."""
        url, store = self._opened()
        place = central.put(store, url, self._name, batch)
        if place is None:
            return True
        log.warning(
            "the central database lacks rows that it had; they are copied again from row %d on", place.verdict_id
        )
        self._writer.call(lambda session: copying.go_back(session, self._station_id, **place.cursors))
        return False

    def _opened(self) -> tuple[str, Store]:
        """The central database; the password is read anew at each connecting."""
        if self._central is None:
            if self._config.url is None:
                raise ConfigError("central.url is not set")
            url = central.address(self._config.url, self._config.password_file)
            self._central = url, central.open_central(url)
        return self._central

    def _close(self) -> None:
        opened, self._central = self._central, None
        if opened is not None:
            with suppress(Exception):  # a connection that is broken already
                opened[1].close()

    def _count(self, place: Place) -> None:
        with self._writer.store.read() as session:
            self.numbers.rows_behind, oldest = copying.rows_behind(session, self._station_id, place)
        if self._counted_at_s == float("-inf") and oldest is not None:  # the outage may be older than this process
            age_s = max(0.0, (datetime.now(UTC) - oldest).total_seconds())
            self.numbers.behind_since_s = time.monotonic() - age_s
        self._counted_at_s = time.monotonic()

    def _note(self, batch: Batch, took_s: float) -> None:
        numbers = self.numbers
        numbers.copied += len(batch.verdicts)
        if not batch.full:
            self._caught_up()
            return
        numbers.rows_behind = max(0, numbers.rows_behind - len(batch.verdicts))
        numbers.rate_hz = SHARE * (len(batch.verdicts) + len(batch.dispositions)) / max(took_s, 1e-6)
        if numbers.behind_since_s is None:
            numbers.behind_since_s = time.monotonic()

    def _caught_up(self) -> None:
        self.numbers.rows_behind, self.numbers.behind_since_s = 0, None
        self._counted_at_s = time.monotonic()

    def _worked(self) -> None:
        if self.numbers.problem:
            log.warning("the central database takes rows again")
        self._failed_in_a_row = 0
        self.numbers.problem, self.numbers.needs_hands = "", False

    def _failed(self, error: Exception) -> float:
        """Tell it once, and give the seconds until the next try: twice as long each time, not the same at all stations."""
        numbers, problem = self.numbers, _reason(error)
        if problem != numbers.problem:
            log.error("nothing is copied to the central database: %s", error)
        numbers.failures += 1
        numbers.problem, numbers.needs_hands = problem, isinstance(error, SchemaError | ConfigError)
        if numbers.behind_since_s is None:
            numbers.behind_since_s = time.monotonic()
        self._close()
        pause_s = min(RETRY_S * 2.0 ** min(self._failed_in_a_row, 10), MAX_RETRY_S)
        self._failed_in_a_row += 1
        return pause_s * (0.5 + 0.5 * random.random())  # noqa: S311 - a pause, not a secret

    def _age_s(self, now_monotonic_s: float) -> float:
        since_s = self.numbers.behind_since_s
        return 0.0 if since_s is None else max(0.0, now_monotonic_s - since_s)

    def _made(self) -> threading.Thread:
        return threading.Thread(target=self._run, name="central-copy", daemon=True)


def _reason(error: Exception) -> str:
    """The cause in one line; of a driver's text not the address, which is long and comes first."""
    cause = getattr(error.__cause__, "orig", None)
    return " ".join(str(error).split()) if cause is None else " ".join(str(cause).split()).rpartition(" failed: ")[2]
