"""Plays the faults one after the other, and says what came of each.

May import the rest of the room. A fault has passed only if it was played, every bad part was said to be rejected, and
the good ones were accepted; silence of the PLC is "unknown", and what could not be played is "not run".
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from inspector.contract.messages import U16_MAX
from inspector.contract.topics import Topics
from inspector.errors import UsageError
from inspector.fat.bench import Bench, NotAcceptedError
from inspector.fat.faults import FAULTS, Fault
from inspector.fat.ledger import Ledger
from inspector.fat.observer import SEEN_S, NotPossibleError, Observer
from inspector.fat.opponents import Opponent
from inspector.fat.station import PlayedStation
from inspector.fat.wire import wire_of

GREETING = "first part"
SHORT_PATIENCE_S = 2.0


class Status(StrEnum):
    """What came of a fault."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Outcome:
    """One fault; `safe_s` is from the fault until the last bad part was rejected, `back_s` until a good one passed again.

    `parts` are those that were played with, `dropped` the duplicates that the PLC says it dropped (None: it cannot be asked).
    """

    name: str
    why: str
    status: Status
    reason: str
    notes: tuple[str, ...]
    safe_s: float | None
    back_s: float | None
    bad_accepted: int
    parts: int
    bad_parts: int
    duplicates_sent: int
    duplicates_dropped: int | None


@dataclass(frozen=True)
class FatResult:
    """The whole test; `base` is the topic of the station that was played, `verdicts` the form in which it told them."""

    plc: str
    broker: str
    base: str
    verdicts: str
    rcp: int
    timeout_s: float
    started_at: datetime
    duration_s: float
    outcomes: tuple[Outcome, ...]

    def count(self, status: Status) -> int:
        """How many faults ended so."""
        return sum(outcome.status is status for outcome in self.outcomes)

    @property
    def passed(self) -> bool:
        """Whether no fault failed and none stayed unknown; those that were not run are counted apart."""
        return self.count(Status.PASSED) > 0 and not (self.count(Status.FAILED) or self.count(Status.UNKNOWN))

    def to_json(self) -> dict[str, Any]:
        """The result for programs."""
        counts = {status.replace(" ", "_"): self.count(status) for status in (Status.UNKNOWN, Status.NOT_RUN)}
        head = {"passed": self.passed, "failed": self.count(Status.FAILED), **counts}
        told = {name: getattr(self, name) for name in ("plc", "broker", "base", "verdicts", "rcp", "timeout_s")}
        times = {"started_at": self.started_at.isoformat(), "duration_s": round(self.duration_s, 3)}
        return head | told | times | {"faults": [_fault_json(outcome) for outcome in self.outcomes]}


def _fault_json(outcome: Outcome) -> dict[str, Any]:
    """`passed` is null where nothing was shown; times are rounded to milliseconds."""
    shown = outcome.status in (Status.PASSED, Status.FAILED)
    head = {"name": outcome.name, "passed": outcome.status is Status.PASSED if shown else None}
    times = {
        name: None if value is None else round(value, 3)
        for name, value in (("safe_s", outcome.safe_s), ("back_s", outcome.back_s))
    }
    return head | vars(outcome) | times | {"notes": list(outcome.notes)}


Say = Callable[[int, Fault, Outcome | None], None]
"""Told the place of a fault and the fault, first without and then with its outcome."""


def run(plc: Opponent, *, rcp: int, faults: Sequence[Fault] = FAULTS, say: Say = lambda *_: None) -> FatResult:
    """Play the faults against a PLC that wants product `rcp`.

    Raises:
        BrokerError: there is no broker, or it went away.
        UsageError: a station is running below the same prefix.
    """
    started_at, started_s = datetime.now(UTC), time.monotonic()
    with plc:
        ledger = Ledger()
        observer = Observer(plc.config, ledger)
        observer.start()
        try:
            _refuse_a_login_that_hears_nothing(observer)
            _refuse_a_second_station(plc, observer)
            known = observer.state
            boot = 1 if known is None else known.boot % U16_MAX + 1
            station = PlayedStation(plc.config, rcp=rcp, boot=boot, wire=wire_of(plc.binary))
            bench = Bench(plc, station, observer, ledger)
            try:
                station.start()
                _refuse_connections_that_end_each_other(observer, boot)
                outcomes = _play_all(bench, faults, say)
            finally:
                station.stop()
        finally:
            observer.stop()
        return FatResult(
            plc=plc.name,
            broker=f"{plc.config.host}:{plc.config.port}",
            base=Topics(plc.config.prefix).base,
            verdicts=station.wire.name,
            rcp=rcp,
            timeout_s=plc.timeout_s,
            started_at=started_at,
            duration_s=time.monotonic() - started_s,
            outcomes=tuple(outcomes),
        )


def _refuse_a_login_that_hears_nothing(observer: Observer) -> None:
    if not observer.hears():
        raise UsageError(
            f"the broker does not let this login say and hear what the station {observer.topics.base} says; give the test a "
            "login of its own that may do both (deploy/mosquitto/acl/fat.acl)"
        )


def _refuse_connections_that_end_each_other(observer: Observer, boot: int) -> None:
    """A broker that makes the client id from the login lets one of our connections live at a time."""
    until = time.monotonic() + SEEN_S
    while time.monotonic() < until:
        if observer.is_connected and observer.state is not None and observer.state.boot == boot and observer.state.on:
            return
        time.sleep(0.05)
    raise UsageError(
        "the connections of the test end each other: the broker may give all clients of one login the same client id "
        "(use_username_as_clientid); use a listener that does not (8885 in deploy/mosquitto/inspector.conf)"
    )


def _refuse_a_second_station(plc: Opponent, observer: Observer) -> None:
    """Two stations below one prefix would mix their verdicts; a heartbeat gives the other one away."""
    since = time.monotonic()
    listen_s = plc.listen_s
    while time.monotonic() < since + listen_s:
        if observer.state is not None and observer.state.on:
            listen_s = max(plc.listen_s, 2 * observer.state.hbp / 1000)
        if observer.heartbeats:
            raise UsageError(
                f"a station is running below {observer.topics.base}: its heartbeat was heard; "
                "stop the worker, the test plays the station itself"
            )
        time.sleep(0.05)


def _play_all(bench: Bench, faults: Sequence[Fault], say: Say) -> list[Outcome]:
    silence = _greet(bench)
    played: list[Outcome] = []
    for place, fault in enumerate(faults, start=1):
        say(place, fault, None)
        played.append(_unplayed(fault, silence) if silence else _play(bench, fault))
        outcome = _audit(bench.ledger, played[-1])
        say(place, fault, outcome)
        if not silence:
            _restore(bench, anew=outcome.status is Status.FAILED)
        if outcome.status is Status.FAILED:
            bench.patience_s = SHORT_PATIENCE_S
    # What the PLC said of a part after its fault was over counts, too.
    return [_audit(bench.ledger, outcome) for outcome in played]


def _greet(bench: Bench) -> str:
    """Wait for the PLC's first part and receipt; gives why nothing can be known about it, or nothing."""
    bench.begin(GREETING)
    until = time.monotonic() + bench.plc.first_part_s
    while not bench.ledger.has_receipts:
        if time.monotonic() > until:
            return _why_nothing_is_known(bench)
        bench.plc.ask_for_part()
        part = bench.ledger.claim(1.0, bench.plc.timeout_s)
        if part is not None:
            part.good = True
            bench.answer(part)
            bench.ledger.wait(lambda: bench.ledger.has_receipts, bench.plc.timeout_s + 1.0)
    return ""


def _why_nothing_is_known(bench: Bench) -> str:
    if not bench.ledger.has_triggers:
        return "no answer: the PLC triggered no part by cmd/trigger"
    if bench.observer.malformed:
        return f"no answer: the PLC sent {bench.observer.malformed} messages on disp, but none that fits the contract"
    return "no answer: the PLC triggered parts, but sent no receipt on disp"


def _play(bench: Bench, fault: Fault) -> Outcome:
    before = bench.plc.duplicates()
    bench.begin(fault.name)
    status, reason = Status.PASSED, ""
    try:
        bench.recover()
        bench.back_s = None
        fault.play(bench)
    except NotPossibleError as error:
        status, reason = Status.NOT_RUN, str(error)
    except NotAcceptedError as error:
        status, reason = Status.FAILED, str(error)
    after = bench.plc.duplicates()
    parts = bench.ledger.parts(fault.name)
    bad = [part for part in parts if part.claimed and not part.good]
    return Outcome(
        name=fault.name,
        why=fault.why,
        status=status,
        reason=reason,
        notes=tuple(bench.notes),
        safe_s=_safe_s(bench),
        back_s=bench.back_s,
        bad_accepted=0,
        parts=sum(part.claimed for part in parts),
        bad_parts=len(bad),
        duplicates_sent=bench.repeated,
        duplicates_dropped=None if before is None or after is None else after - before,
    )


def _safe_s(bench: Bench) -> float | None:
    """From the fault until the last bad part was rejected; None where one was accepted or never decided."""
    bad = [part for part in bench.ledger.parts(bench.ledger.fault) if part.claimed and not part.good]
    decided = [part.decided_s for part in bad if part.decided_s is not None and not part.accepted]
    if bench.onset_s is None or not decided or len(decided) < len(bad):
        return None
    return max(0.0, max(decided) - bench.onset_s)


def _audit(ledger: Ledger, outcome: Outcome) -> Outcome:
    """Judge a fault by the books as they stand now."""
    parts = ledger.parts(outcome.name)
    bad_accepted = sum(part.accepted and not part.good for part in parts) + ledger.strangers(outcome.name)
    twice = sum(part.contradicted for part in parts)
    silent = sum(part.claimed and not part.good and not part.receipts for part in parts)
    if bad_accepted or twice:
        found = [f"{bad_accepted} bad {_parts(bad_accepted)} accepted"] if bad_accepted else []
        found += [f"{twice} {_parts(twice)} decided twice, differently"] if twice else []
        found += [outcome.reason] if outcome.status is Status.FAILED else []
        reason = "; ".join(found)
        return replace(outcome, status=Status.FAILED, reason=reason, bad_accepted=bad_accepted, safe_s=None)
    if outcome.status is Status.PASSED and silent:
        return replace(
            outcome, status=Status.UNKNOWN, reason=f"no receipt for {silent} bad {_parts(silent)}", safe_s=None
        )
    return outcome


def _parts(count: int) -> str:
    return "part" if count == 1 else "parts"


def _unplayed(fault: Fault, reason: str) -> Outcome:
    return Outcome(
        name=fault.name, why=fault.why, status=Status.UNKNOWN, reason=reason, notes=(), safe_s=None, back_s=None,
        bad_accepted=0, parts=0, bad_parts=0, duplicates_sent=0, duplicates_dropped=None,
    )  # fmt: skip


def _restore(bench: Bench, *, anew: bool) -> None:
    """Make the station whole again after a fault that may have ended in the middle."""
    station = bench.station
    station.beats, station.says_state, station.keeps_product, station.frozen_since_s = True, True, False, None
    if not station.is_connected:
        station.begin_anew()
    elif anew:
        station.restart()
