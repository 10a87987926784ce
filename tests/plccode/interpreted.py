"""The generated gate, run from its own text, in the place of the virtual PLC's gate."""

from contextlib import suppress

from inspector.contract.gate import AcceptanceGate, Decision, GateSettings, Reason
from inspector.contract.messages import Result, State
from inspector.errors import ContractError
from tests.plccode.rig import CLOSE, COUNTERS, LOST, REQUESTS, TICK, TRIGGER, fill
from tests.plccode.st_machine import Program

REASONS = {reason.number: reason for reason in Reason}


class InterpretedGate(AcceptanceGate):
    """Decides as the program does, right or wrong; keeps no rule of its own."""

    def __init__(self, program: Program, settings: GateSettings, *, wanted_rcp: int) -> None:
        super().__init__(settings, wanted_rcp=wanted_rcp)
        self._program = program
        self._memory = program.instance("Vis1_Gate")
        self._message = program.value("Vis1_Message")
        self._memory["Message"] = self._message
        self._now_ms = 0

    def trigger(self, trg: int, now: float) -> None:
        self._call(TRIGGER, now, trg)
        if not self._memory["Refused"]:  # one too many: a reject without a receipt
            self._open[trg] = now
            self.counts.triggers += 1

    def feed(self, kind: str, payload: bytes, *, retained: bool, now: float) -> list[Decision]:
        if kind not in REQUESTS:
            return self.poll(now)
        if kind == "state":
            with suppress(ContractError):
                self.state = State.from_json(payload)
        fill(self._message, payload, retained=retained)
        return self._call(REQUESTS[kind], now)

    def poll(self, now: float) -> list[Decision]:
        return self._call(TICK, now)

    def close(self, now: float) -> list[Decision]:
        return self._call(CLOSE, now)

    def forget_station(self) -> None:
        self._call(LOST, 0.0)

    def is_ready(self, now: float) -> bool:
        return bool(self._memory["Ready"])

    def _call(self, request: int, now: float, trg: int = 0) -> list[Decision]:
        # A message is stamped when it comes, and may be taken after a trigger that was stamped later; a PLC has one clock.
        self._now_ms = max(self._now_ms, int(now * 1000))
        self._memory |= {
            "Request": request,
            "NowMs": self._now_ms % 2**32,
            "Trigger": trg,
            "WantedRcp": self.wanted_rcp,
            "TimeoutMs": int(self.settings.timeout_s * 1000),
        }
        self._program.call("Vis1_Gate", self._memory)
        for name, count in COUNTERS.items():
            setattr(self.counts, count, self._memory[name])
        made = self._memory["Decision"][: self._memory["DecisionCount"]]
        return [self._tell(one["Trg"], one["Accept"], REASONS[one["Reason"]], now) for one in made]

    def _tell(self, trg: int, accepted: bool, reason: Reason, now: float) -> Decision:
        read = self._memory["Verdict"]
        verdict = None if reason is Reason.MISSING else Result.model_construct(boot=read["Boot"], seq=read["Seq"])
        self.counts.accepted += accepted
        self.counts.rejected += not accepted
        self.counts.missing += reason is Reason.MISSING
        return Decision(trg, accepted, reason, verdict, now - self._open.pop(trg))
