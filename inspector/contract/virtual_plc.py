"""A PLC in software: triggers with its own counter, the acceptance gate, commands with their answers, and
a receipt on `disp` for each decided part.

May import the configuration and the contract. The demo runs it beside the line and the tests judge the station
with it. One thread stands for the PLC's cycle: it takes messages, feeds the gate and runs the timers.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from inspector.config import MqttConfig
from inspector.contract.binary import ByteOrder
from inspector.contract.codes import AckCode
from inspector.contract.gate import AcceptanceGate, Decision, GateCounts, GateSettings
from inspector.contract.link import BrokerLink
from inspector.contract.messages import (
    COMMANDS,
    U32_MAX,
    Ack,
    CommandMessage,
    Ping,
    SelectRecipe,
    Start,
    State,
    Stop,
    Sync,
    Trigger,
)
from inspector.contract.reports import Disposition
from inspector.contract.session import Connected, Event, Identity, Lost, Received
from inspector.contract.topics import Topics
from inspector.errors import BrokerError, ContractError

log = logging.getLogger(__name__)

CYCLE_S = 0.01
ANSWER_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class PlcSettings:
    """`first_trigger` is where the PLC's counter starts; `timeout_s` is its own timer from trigger to verdict.

    With `result_last` it asks for `result` only once the station is ready, as a PLC with one block per topic may: what
    somebody left retained there then meets a gate that could accept it.
    With `binary` the PLC reads verdicts on `resultb`, in this byte order, and none on `result`.
    """

    client_id: str = "virtual-plc"
    timeout_s: float = 2.0
    allow_simulated: bool = False
    first_trigger: int = 1
    result_last: bool = False
    binary: ByteOrder | None = None


class VirtualPlc:
    """Runs from `start()` (or a `with` block) to `stop()`; survives every restart of broker and station.

    `on_decision` is called in the PLC's thread, once per trigger. `gate` is the acceptance gate to run, if it is not
    to be the contract's own: with a wrong one in it, the PLC shows whether a test would notice.
    """

    def __init__(
        self,
        config: MqttConfig,
        settings: PlcSettings | None = None,
        *,
        wanted_rcp: int | None = None,
        on_decision: Callable[[Decision], None] | None = None,
        gate: AcceptanceGate | None = None,
    ) -> None:
        self.settings = settings or PlcSettings()
        self.topics = Topics(config.prefix)
        self._has_result = not self.settings.result_last
        self._verdicts = self.topics.of("resultb" if self.settings.binary else "result")
        first = (self._verdicts,) if self._has_result else ()
        topics = (*first, self.topics.state, self.topics.hb, self.topics.ack)
        subscriptions = tuple((topic, 1) for topic in topics)
        self.link = BrokerLink(config, Identity(self.settings.client_id, subscriptions=subscriptions))
        self._events: queue.Queue[Event] = self.link.listen(Connected, Lost, Received)
        self._gate = gate or AcceptanceGate(
            GateSettings(self.settings.timeout_s, self.settings.allow_simulated, self.settings.binary or "little"),
            wanted_rcp=wanted_rcp,
        )
        self._on_decision = on_decision
        self._changed = threading.Condition()  # guards the gate, the decisions and the answers
        self._decisions: dict[int, Decision] = {}
        self._answers: dict[int, list[Ack]] = {}
        self._next_trigger = self.settings.first_trigger
        self.unsent_receipts = 0
        """Decisions that were made without a connection, so that nobody was told of them."""
        # Answers are matched by cid: a second run of the same PLC must not read those to the first.
        self._next_cid = int(time.time() * 1000) % U32_MAX
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self.link.start()
        self._thread = threading.Thread(target=self._cycle, name="virtual-plc", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Leave; triggers that are still open are rejected as missing."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        with self._changed:
            self._keep(self._gate.close(time.monotonic()))  # before the goodbye, so that its receipts still leave
        self.link.stop()

    def __enter__(self) -> "VirtualPlc":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def counts(self) -> GateCounts:
        """Triggers, accepted, rejected, missing, stale, duplicates, …; the object is live."""
        return self._gate.counts

    @property
    def decisions(self) -> dict[int, Decision]:
        """Decision by trigger, a copy."""
        with self._changed:
            return dict(self._decisions)

    @property
    def state(self) -> State | None:
        """What the station last said of itself."""
        with self._changed:
            return self._gate.state

    @property
    def is_ready(self) -> bool:
        """Whether a good part could pass now."""
        with self._changed:
            return self._gate.is_ready(time.monotonic())

    def trigger(self, part: str = "") -> int:
        """Trigger the next part over MQTT; gives its number.

        Without a connection the part still goes by: its timer runs out and it is rejected.
        """
        trg = self.expect()
        message = Trigger(cid=self._take_cid(), trg=trg, part=part)
        if self.link.publish(self.topics.cmd("trigger"), message.to_json(), qos=1, expiry_s=1.0) is None:
            log.warning("trigger %d could not be sent", trg)
        return trg

    def expect(self, trg: int | None = None) -> int:
        """Start the timer of a part that is triggered by wire, without sending anything."""
        with self._changed:
            trg = self._next_trigger if trg is None else trg
            self._next_trigger = trg + 1 if trg < U32_MAX else 1
            self._gate.trigger(trg, time.monotonic())
        return trg

    @property
    def wanted_rcp(self) -> int | None:
        """The only product whose parts may pass."""
        with self._changed:
            return self._gate.wanted_rcp

    def want_recipe(self, rcp: int) -> None:
        """From now on only parts of product `rcp` may pass, without telling the station."""
        with self._changed:
            self._gate.wanted_rcp = rcp

    def select_recipe(self, rcp: int, rev: int | None = None, *, timeout_s: float = 30.0) -> None:
        """Change the product, and wait until the station says that it makes it.

        Raises:
            BrokerError: refused, or not done in time.
        """
        self.want_recipe(rcp)
        deadline = time.monotonic() + timeout_s
        ack = self.command(SelectRecipe(cid=self._take_cid(), rcp=rcp, rev=rev), timeout_s=timeout_s)
        if ack.code != AckCode.DONE:
            raise BrokerError(f"the station refused product {rcp}: code {ack.code} in state {ack.st}, err {ack.err}")
        self._wait(lambda: self._has_recipe(rcp, rev), deadline, f"state.rcp {rcp}")

    def start_station(self) -> Ack:
        return self.command(Start(cid=self._take_cid()))

    def stop_station(self) -> Ack:
        return self.command(Stop(cid=self._take_cid()))

    def ping(self) -> Ack:
        return self.command(Ping(cid=self._take_cid()))

    def sync(self) -> Ack:
        return self.command(Sync(cid=self._take_cid()))

    def command(self, message: CommandMessage, *, timeout_s: float = ANSWER_TIMEOUT_S) -> Ack:
        """Send a command and wait for its final answer.

        Raises:
            BrokerError: no connection, or no final answer in time.
        """
        name = next(name for name, model in COMMANDS.items() if type(message) is model)
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._answers[message.cid] = []
        try:
            self._wait(lambda: self.link.is_connected, deadline, "a connection to the broker")
            if self.link.publish(self.topics.cmd(name), message.to_json(), qos=1) is None:
                raise BrokerError(f"the command {name} could not be sent: {self.link.problem}")
            self._wait(lambda: self._final_answer(message.cid) is not None, deadline, f"the final answer to {name}")
            answer = self._final_answer(message.cid)
        finally:
            with self._changed:
                self._answers.pop(message.cid, None)
        if answer is None:
            raise BrokerError(f"the final answer to {name} is lost")
        return answer

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Wait until a good part could pass: connected, state, wanted product, heartbeat.

        Raises:
            BrokerError: not ready in time; the text says what was seen last.
        """
        self._wait(lambda: self._gate.is_ready(time.monotonic()), time.monotonic() + timeout_s, "a ready station")

    def wait_decided(self, timeout_s: float = 30.0) -> None:
        """Wait until no trigger is open.

        Raises:
            BrokerError: triggers are still open, which only happens if the PLC's own thread is gone.
        """
        self._wait(lambda: not self._gate.open_triggers, time.monotonic() + timeout_s, "the last decision")

    def _wait(self, condition: Callable[[], bool], deadline: float, what: str) -> None:
        with self._changed:
            while not condition():
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    state = self._gate.state.to_json().decode() if self._gate.state else "none"
                    link = self.link.problem or "connected"
                    raise BrokerError(f"the PLC waited in vain for {what}; broker: {link}; last state: {state}")
                self._changed.wait(min(left_s, 0.1))

    def _final_answer(self, cid: int) -> Ack | None:
        final = (ack for ack in self._answers.get(cid, ()) if ack.code != AckCode.ACCEPTED)
        return next(final, None)

    def _has_recipe(self, rcp: int, rev: int | None) -> bool:
        state = self._gate.state
        return state is not None and state.rcp == rcp and rev in (None, state.rev)

    def _take_cid(self) -> int:
        with self._changed:
            self._next_cid = self._next_cid % U32_MAX + 1
            return self._next_cid

    def _cycle(self) -> None:
        while not self._stopping.is_set():
            try:
                event: Event | None = self._events.get(timeout=CYCLE_S)
            except queue.Empty:
                event = None
            with self._changed:
                decisions = self._take(event)
                self._keep(decisions)
                if not self._has_result and self._gate.is_ready(time.monotonic()):
                    self._has_result = self.link.subscribe(self._verdicts)
                if event is not None or decisions:
                    self._changed.notify_all()

    def _take(self, event: Event | None) -> list[Decision]:
        if isinstance(event, Lost):
            self._gate.forget_station()
            self._has_result = not self.settings.result_last
        if not isinstance(event, Received):
            return self._gate.poll(time.monotonic())
        kind = self.topics.kind(event.topic) or ""
        if kind == "ack":
            self._take_ack(event)
            return self._gate.poll(time.monotonic())
        return self._gate.feed(kind, event.payload, retained=event.retained, now=event.received_monotonic_s)

    def _take_ack(self, event: Received) -> None:
        try:
            ack = Ack.from_json(event.payload)
        except ContractError as error:
            log.warning("an answer of the station is wrong: %s", error)
            return
        if ack.cid in self._answers and not event.retained:
            self._answers[ack.cid].append(ack)

    def _keep(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            self._decisions[decision.trg] = decision
            self._send_receipt(decision)
            if self._on_decision is not None:
                self._on_decision(decision)

    def _send_receipt(self, decision: Decision) -> None:
        """Tell on `disp` what was done with the part; a receipt that cannot be sent now is counted, never sent later."""
        boot, seq = (0, 0) if decision.result is None else (decision.result.boot, decision.result.seq)
        receipt = Disposition(
            trg=decision.trg, boot=boot, seq=seq, acc=int(decision.accepted), rsn=decision.reason.number
        )
        if self.link.publish(self.topics.of("disp"), receipt.to_json(), qos=1) is None:
            self.unsent_receipts += 1
