"""The generated gate and the virtual PLC's gate side by side: the same messages at the same moments, compared."""

from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

from inspector.contract.gate import AcceptanceGate, Decision, GateSettings
from inspector.contract.messages import Result
from inspector.contract.plccode.dialects import DIALECTS, DialectName
from inspector.contract.plccode.generator import generate
from inspector.contract.plccode.tables import OPEN_TRIGGERS
from tests.plccode.st_machine import Memory, Program

BUFFER_BYTES = 240
TICK, TRIGGER, RESULT, RESULT_BINARY, STATE, HEARTBEAT, LOST, CLOSE = range(8)
REQUESTS = {"result": RESULT, "resultb": RESULT_BINARY, "state": STATE, "hb": HEARTBEAT}
COUNTERS = {
    "StaleCount": "stale", "DuplicateCount": "duplicates", "ForeignCount": "foreign", "MalformedCount": "malformed",
    "RetainedCount": "retained",
}  # fmt: skip


@cache
def program_of(dialect: DialectName) -> Program:
    """The generated text of a dialect, read and checked once."""
    return Program(*generate(dialect).values())


def fill(message: Memory, payload: bytes, *, retained: bool = False) -> None:
    """Put a payload into a Vis1_Message as an MQTT client does; what has no room is only counted."""
    message["Length"], message["Retained"] = len(payload), retained
    message["Data"] = list(payload[:BUFFER_BYTES].ljust(BUFFER_BYTES, b"\0"))


def read_verdict(memory: Memory) -> Result:
    """A Vis1_Verdict as the record of the core."""
    values = {key.lower(): value for key, value in memory.items() if key not in ("Part", "PartLength")}
    part = bytes(memory["Part"])
    assert not any(part[memory["PartLength"] :])
    return Result(**values, part=part[: memory["PartLength"]].decode("ascii"))


@dataclass(frozen=True)
class GatePlan:
    """The settings of one run; `clock_ms` is where the PLC's clock stands at its start."""

    timeout_ms: int = 500
    allow_simulated: bool = False
    big_endian: bool = False
    clock_ms: int = 0


@dataclass
class Twins:
    """Both gates; each method does the same to both, and `faults` says where they differ."""

    program: Program
    dialect: DialectName
    plan: GatePlan
    wanted_rcp: int | None = 3
    now_ms: int = 0
    accepted: int = 0
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        order: Any = "big" if self.plan.big_endian else "little"
        settings = GateSettings(self.plan.timeout_ms / 1000, self.plan.allow_simulated, order)
        self.reference = AcceptanceGate(settings, wanted_rcp=self.wanted_rcp)
        self.memory = self.program.instance("Vis1_Gate")
        self.message = self.program.value("Vis1_Message")
        self.memory["Message"] = self.message

    @property
    def _now_s(self) -> Any:
        """Seconds without rounding: a PLC counts whole milliseconds."""
        return Fraction(self.now_ms, 1000)

    def feed(self, kind: str, payload: bytes, *, retained: bool = False) -> None:
        expected = self.reference.feed(kind, payload, retained=retained, now=self._now_s)
        fill(self.message, payload, retained=retained)
        self._compare(REQUESTS[kind], expected, f"{kind} {payload!r} retained={retained}")

    def trigger(self, trg: int) -> None:
        expected = self.reference.poll(self._now_s)
        is_refused = len(self.reference.open_triggers) >= OPEN_TRIGGERS
        if not is_refused:
            try:
                self.reference.trigger(trg, self._now_s)
            except ValueError:
                is_refused = True
        self._compare(TRIGGER, expected, f"trigger {trg}", trg)
        if self.memory["Refused"] != is_refused:
            self.faults.append(f"trigger {trg}: refused {self.memory['Refused']}, expected {is_refused}")

    def lose_connection(self) -> None:
        expected = self.reference.poll(self._now_s)
        self.reference.forget_station()
        self._compare(LOST, expected, "lost")

    def want(self, rcp: int | None) -> None:
        self.wanted_rcp = self.reference.wanted_rcp = rcp
        self.tick()

    def tick(self) -> None:
        self._compare(TICK, self.reference.poll(self._now_s), "tick")

    def close(self) -> None:
        expected = self.reference.poll(self._now_s)
        self._compare(CLOSE, expected + self.reference.close(self._now_s), "close")

    def _compare(self, request: int, expected: list[Decision], what: str, trg: int = 0) -> None:
        clock_max = DIALECTS[self.dialect].clock_max
        self.memory |= {
            "Request": request,
            "NowMs": (self.plan.clock_ms + self.now_ms) % (clock_max + 1),
            "Trigger": trg,
            "WantedRcp": self.wanted_rcp or 0,
            "TimeoutMs": self.plan.timeout_ms,
            "AllowSimulated": self.plan.allow_simulated,
            "BigEndian": self.plan.big_endian,
        }
        self.program.call("Vis1_Gate", self.memory)
        made = self.memory["Decision"][: self.memory["DecisionCount"]]
        decisions = sorted((one["Trg"], one["Accept"], one["Reason"]) for one in made)
        wanted = sorted((one.trg, one.accepted, one.reason.number) for one in expected)
        counts = self.reference.counts
        pairs = [
            ("decisions", decisions, wanted),
            ("ready", self.memory["Ready"], self.reference.is_ready(self._now_s)),
            ("open", self.memory["OpenCount"], len(self.reference.open_triggers)),
            *((name, self.memory[name], getattr(counts, key)) for name, key in COUNTERS.items()),
        ]
        for decision in expected:
            self.accepted += decision.accepted
            if decision.result is not None:
                pairs.append(("verdict", read_verdict(self.memory["Verdict"]), decision.result))
        self.faults += [
            f"{self.now_ms} ms, {what}: {name} {actual}, expected {right}"
            for name, actual, right in pairs
            if actual != right
        ]
