"""The PLC's acceptance gate: rule 3 of the contract as code, without threads, clock or network.

May import `binary`, `codes`, `messages` and errors. It is the model for the PLC program and the judge in the tests: each
trigger gets exactly one decision, and without a fresh, explicit, matching OK that decision is "reject".
"""

from collections import Counter, deque
from dataclasses import dataclass, field
from enum import StrEnum

from inspector.contract.binary import ByteOrder, unpack_result
from inspector.contract.codes import PASSING_FLAGS, Flag, StationMode, StationState
from inspector.contract.messages import U16_MAX, Heartbeat, Result, State, seq_is_newer
from inspector.errors import ContractError

HEARTBEAT_PERIODS = 3
REMEMBERED_RESULTS = 256
"""More than a broker can have unacknowledged of one sender (100), and small enough for a PLC."""


class Reason(StrEnum):
    """Why a trigger was decided as it was; all but OK reject the part."""

    OK = "ok"
    MISSING = "missing"
    WRONG_RECIPE = "wrong recipe"
    NOT_READY = "station not ready"
    NO_HEARTBEAT = "no heartbeat"
    ERROR = "error"
    BLOCKING_FLAG = "blocking flag"
    NOT_OK = "not ok"

    @property
    def number(self) -> int:
        """How the PLC's program and `disp` name it, from 1 in the order above."""
        return list(Reason).index(self) + 1


@dataclass(frozen=True)
class Decision:
    """What the PLC does with the part of one trigger; `result` is None where none came in time."""

    trg: int
    accepted: bool
    reason: Reason
    result: Result | None
    latency_s: float


@dataclass
class GateCounts:
    """What came in. triggers = accepted + rejected + those still open; `missing` is a part of `rejected`."""

    triggers: int = 0
    accepted: int = 0
    rejected: int = 0
    missing: int = 0
    stale: int = 0
    duplicates: int = 0
    foreign: int = 0
    malformed: int = 0
    retained: int = 0
    reasons: Counter[Reason] = field(default_factory=Counter)


@dataclass(frozen=True)
class GateSettings:
    """`timeout_s` is the PLC's own timer from trigger to verdict.

    `allow_simulated` is for a line that has no real parts: verdicts with the flag SIMULATED may pass.
    `byte_order` is that of `resultb`.
    """

    timeout_s: float = 2.0
    allow_simulated: bool = False
    byte_order: ByteOrder = "little"


def boot_is_newer(boot: int, than: int) -> bool:
    """Compare across the wrap 65535 → 1: newer means ahead by less than half of the circle."""
    return 0 < (boot - than) % U16_MAX < 2**15


class AcceptanceGate:
    """Feed it every message on `result` (or `resultb`), `state` and `hb`, its own triggers, and monotonic seconds."""

    def __init__(self, settings: GateSettings | None = None, *, wanted_rcp: int | None = None) -> None:
        self.settings = settings or GateSettings()
        self.wanted_rcp = wanted_rcp
        """The product that the line makes; as long as it is None, no part passes."""
        self.counts = GateCounts()
        self.state: State | None = None
        self._boot: int | None = None
        self._last_seq: int | None = None
        self._heartbeat_monotonic_s: float | None = None
        self._open: dict[int, float] = {}
        self._seen: deque[tuple[int, int]] = deque(maxlen=REMEMBERED_RESULTS)

    @property
    def open_triggers(self) -> tuple[int, ...]:
        return tuple(self._open)

    def trigger(self, trg: int, now: float) -> None:
        """Start the timer of a part.

        Raises:
            ValueError: 0 is not a trigger, or this one is still open.
        """
        if trg <= 0 or trg in self._open:
            raise ValueError(f"trigger must be a positive number that is not open, but is {trg}")
        self._open[trg] = now
        self.counts.triggers += 1

    def feed(self, kind: str, payload: bytes, *, retained: bool, now: float) -> list[Decision]:
        """Take a message of topic `kind` (below the base); gives the decisions that it leads to."""
        decisions = self.poll(now)
        try:
            if kind == "state":
                self._take_state(State.from_json(payload), now)
            elif kind == "hb" and not retained:
                self._take_heartbeat(Heartbeat.from_json(payload), now)
            elif kind in ("result", "resultb") and retained:
                self.counts.retained += 1
            elif kind == "result":
                decisions += self._take_result(Result.from_json(payload), now)
            elif kind == "resultb":
                decisions += self._take_result(unpack_result(payload, self.settings.byte_order), now)
        except ContractError:
            self.counts.malformed += 1
        return decisions

    def poll(self, now: float) -> list[Decision]:
        """Reject every part whose timer has run out."""
        late = [trg for trg, since in self._open.items() if now - since > self.settings.timeout_s]
        return [self._decide(trg, Reason.MISSING, None, now) for trg in late]

    def close(self, now: float) -> list[Decision]:
        """Reject every part that is still open, because the PLC stops."""
        return [self._decide(trg, Reason.MISSING, None, now) for trg in list(self._open)]

    def forget_station(self) -> None:
        """The PLC's own connection is gone: what the station said counts no more until it is said again."""
        self.state = None
        self._heartbeat_monotonic_s = None

    def is_ready(self, now: float) -> bool:
        """Whether a good part could pass now."""
        return self._station_fault(now) is None

    def heartbeat_is_fresh(self, now: float) -> bool:
        if self.state is None or self._heartbeat_monotonic_s is None:
            return False
        return now - self._heartbeat_monotonic_s <= HEARTBEAT_PERIODS * self.state.hbp / 1000

    def _take_state(self, state: State, now: float) -> None:
        if self._boot is not None and state.boot != self._boot:
            # An older boot is an old will or an old retained state. Only a station that lost its boot counter
            # is believed, and only after the one we know has been silent: else it would never be heard again.
            lost_its_counter = bool(state.on) and not self.heartbeat_is_fresh(now)
            if not boot_is_newer(state.boot, self._boot) and not lost_its_counter:
                self.counts.stale += 1
                return
        if state.boot != self._boot:
            self._boot = state.boot
            self._last_seq = None
            self._heartbeat_monotonic_s = None
        self.state = state

    def _take_heartbeat(self, heartbeat: Heartbeat, now: float) -> None:
        if heartbeat.boot == self._boot:
            self._heartbeat_monotonic_s = now

    def _take_result(self, result: Result, now: float) -> list[Decision]:
        """Refuse what is old, double or not ours without a decision; the timer then decides."""
        identity = (result.boot, result.seq)
        if identity in self._seen:
            self.counts.duplicates += 1
            return []
        self._seen.append(identity)
        if result.boot != self._boot or (self._last_seq is not None and not seq_is_newer(result.seq, self._last_seq)):
            self.counts.stale += 1
            return []
        self._last_seq = result.seq
        if result.trg not in self._open:
            self.counts.foreign += 1
            return []
        return [self._decide(result.trg, self._judge(result, now), result, now)]

    def _judge(self, result: Result, now: float) -> Reason:
        passing = PASSING_FLAGS | (Flag.SIMULATED if self.settings.allow_simulated else Flag(0))
        fault = self._station_fault(now)
        if fault is not None:
            return fault
        if result.rcp != self.wanted_rcp:
            return Reason.WRONG_RECIPE
        if result.err != 0:
            return Reason.ERROR
        if result.flg & ~int(passing):
            return Reason.BLOCKING_FLAG
        return Reason.OK if result.res == 1 else Reason.NOT_OK

    def _station_fault(self, now: float) -> Reason | None:
        state = self.state
        modes = {StationMode.PRODUCTION} | ({StationMode.SIMULATION} if self.settings.allow_simulated else set())
        if state is None or not state.on or not StationState(state.st).can_inspect or state.mode not in modes:
            return Reason.NOT_READY
        if self.wanted_rcp is None or state.rcp != self.wanted_rcp:
            return Reason.WRONG_RECIPE
        return None if self.heartbeat_is_fresh(now) else Reason.NO_HEARTBEAT

    def _decide(self, trg: int, reason: Reason, result: Result | None, now: float) -> Decision:
        """Close a trigger; the only place where one is closed."""
        since = self._open.pop(trg)
        decision = Decision(trg, reason is Reason.OK, reason, result, now - since)
        self.counts.reasons[reason] += 1
        self.counts.missing += reason is Reason.MISSING
        if decision.accepted:
            self.counts.accepted += 1
        else:
            self.counts.rejected += 1
        return decision
