"""The alarms of a station: what is wrong now, where, since when, and whether somebody has seen it. No thread.

May import the contract. An alarm belongs to its cause: it is raised and cleared by whoever watches that cause, and
confirming it only says that it was seen.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from inspector.contract.codes import ErrorCode
from inspector.contract.messages import Alarm, Alarms

TEXT_LENGTH = 120


@dataclass(frozen=True)
class _Active:
    text: str
    since_s: int
    confirmed: bool = False


class AlarmBoard:
    """Safe to use from all threads; `announce` is called after each change and must not block."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives UTC seconds."""
        self.announce: Callable[[], None] = lambda: None
        self._clock = clock
        self._active: dict[tuple[ErrorCode, str], _Active] = {}
        self._lock = threading.Lock()

    def up(self, err: ErrorCode, text: str, source: str = "") -> None:
        """Raise an alarm; the same one again only takes the new text."""
        text = text.encode("ascii", "replace").decode()[:TEXT_LENGTH]
        with self._lock:
            known = self._active.get((err, source))
            if known is not None and known.text == text:
                return
            fresh = _Active(text, int(self._clock())) if known is None else replace(known, text=text)
            self._active[(err, source)] = fresh
        self.announce()

    def down(self, err: ErrorCode, source: str = "") -> None:
        """Its cause is gone."""
        with self._lock:
            gone = self._active.pop((err, source), None)
        if gone is not None:
            self.announce()

    def confirm(self, err: int) -> bool:
        """Somebody has seen the alarms of this code; False if there is none."""
        with self._lock:
            keys = [key for key in self._active if key[0] == err]
            for key in keys:
                self._active[key] = replace(self._active[key], confirmed=True)
        if keys:
            self.announce()
        return bool(keys)

    def is_confirmed(self, err: ErrorCode, source: str = "") -> bool:
        """Whether somebody has seen this alarm."""
        with self._lock:
            known = self._active.get((err, source))
        return known is not None and known.confirmed

    @property
    def count(self) -> int:
        """How many are up."""
        with self._lock:
            return len(self._active)

    @property
    def first(self) -> ErrorCode:
        """Code of the oldest alarm, NONE without any."""
        with self._lock:
            return next(iter(self._active), (ErrorCode.NONE, ""))[0]

    def message(self, boot: int) -> Alarms:
        """`alarm`, the oldest first, cut to what one message may hold."""
        with self._lock:
            rows = list(self._active.items())
        alarms = [
            Alarm(err=int(err), src=source, txt=one.text, since=one.since_s, conf=int(one.confirmed))
            for (err, source), one in rows
        ]
        return Alarms(boot=boot, alarms=alarms).fitted()
