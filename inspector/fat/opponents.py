"""The PLC under test: the virtual one with a broker of its own, or a real one at the plant's broker.

May import the configuration and the contract. The faults know only what is here, so that both meet the same ones; what
cannot be done to a real PLC is a `NotPossibleError` with its reason.
"""

import time
from types import TracebackType
from typing import Protocol, Self

from inspector.config import MqttConfig
from inspector.contract.binary import ByteOrder
from inspector.contract.broker import BrokerProcess, start_broker
from inspector.contract.gate import AcceptanceGate, Decision, GateSettings
from inspector.contract.link import BrokerLink
from inspector.contract.session import Identity
from inspector.contract.virtual_plc import PlcSettings, VirtualPlc
from inspector.errors import BrokerError
from inspector.fat.observer import NotPossibleError
from inspector.fat.station import CONNECT_S

VIRTUAL_PREFIX = "fat/line1"
VIRTUAL_TIMEOUT_S = 2.0
TAKE_OVER_S = 5.0
NO_PLC_ID = "it needs the PLC's own connection to be cut: name its MQTT client id with --plc-client-id"


class Opponent(Protocol):
    """What the faults may ask of a PLC and its broker."""

    name: str
    config: MqttConfig
    timeout_s: float
    """The PLC's own timer from trigger to verdict."""
    first_part_s: float
    """How long its first part is waited for."""
    listen_s: float
    """How long we listen whether a real station is there, before we play one."""
    binary: ByteOrder | None
    """Byte order in which it reads verdicts on `resultb`; None: it reads `result`."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def ask_for_part(self) -> None:
        """Let the PLC trigger a part, if that is in our hands; a real one does it at its own pace."""

    def cut_connection(self) -> None:
        """Cut the PLC's connection to the broker; it comes back by itself."""

    def kill_broker(self) -> int:
        """End the broker as a power cut does; gives the trigger of a part that goes by meanwhile."""

    def restart_broker(self) -> None:
        """Start the broker again, and wait until the PLC is back."""

    def decision_of(self, trg: int) -> Decision | None:
        """What became of a part whose receipt was lost with the broker; None if nobody can know."""

    def duplicates(self) -> int | None:
        """How many verdicts the PLC has dropped as duplicates; None where it cannot be asked."""


class VirtualOpponent:
    """The virtual PLC and a broker on a free port, for as long as the `with` block lasts.

    `gate` puts another acceptance gate into it: a wrong one must fail the test.
    """

    name = "virtual PLC"
    first_part_s = 20.0
    listen_s = 0.0

    def __init__(
        self,
        *,
        rcp: int,
        timeout_s: float = VIRTUAL_TIMEOUT_S,
        gate: AcceptanceGate | None = None,
        binary: ByteOrder | None = None,
    ) -> None:
        self.timeout_s = timeout_s
        self.config = MqttConfig(prefix=VIRTUAL_PREFIX)
        self.binary = binary
        self._rcp = rcp
        self._gate = gate or AcceptanceGate(GateSettings(timeout_s, byte_order=binary or "little"), wanted_rcp=rcp)
        self._broker: BrokerProcess | None = None
        self._plc: VirtualPlc | None = None

    def __enter__(self) -> Self:
        self._broker = start_broker()
        self.config = MqttConfig(prefix=VIRTUAL_PREFIX, port=self._broker.port)
        settings = PlcSettings(timeout_s=self.timeout_s, result_last=True, binary=self.binary)
        self._plc = VirtualPlc(self.config, settings, wanted_rcp=self._rcp, gate=self._gate)
        self._plc.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._plc is not None:
            self._plc.stop()
        if self._broker is not None and self._broker.is_alive:
            self._broker.stop()

    def ask_for_part(self) -> None:
        self._wait_connected(0)
        self._running.trigger("FAT")

    def cut_connection(self) -> None:
        before = self._running.link.connections
        self._running.link.abort("cut by the acceptance test")
        self._wait_connected(before)

    def kill_broker(self) -> int:
        if self._broker is not None:
            self._broker.kill()
        return self._running.expect()

    def restart_broker(self) -> None:
        before = self._running.link.connections
        self._broker = start_broker(self.config.port)
        self._wait_connected(before)

    def decision_of(self, trg: int) -> Decision | None:
        return self._running.decisions.get(trg)

    def duplicates(self) -> int | None:
        return self._running.counts.duplicates

    @property
    def _running(self) -> VirtualPlc:
        if self._plc is None:
            raise BrokerError("the virtual PLC does not run; use it in a `with` block")
        return self._plc

    def _wait_connected(self, before: int) -> None:
        """Until there is a connection after number `before`."""
        link = self._running.link
        deadline = time.monotonic() + CONNECT_S
        while not link.is_connected or link.connections <= before:
            if time.monotonic() > deadline:
                raise BrokerError(f"the virtual PLC found no broker: {link.problem}")
            time.sleep(0.01)


class RealOpponent:
    """A PLC that triggers parts by `cmd/trigger` at its own pace and answers on `disp`.

    `client_id` is its MQTT client id: with it, its connection can be cut, by taking its place for a moment.
    """

    name = "real PLC"
    listen_s = 3.5

    def __init__(
        self,
        config: MqttConfig,
        *,
        timeout_s: float,
        first_part_s: float,
        client_id: str | None,
        binary: ByteOrder | None = None,
    ) -> None:
        self.config = config
        self.binary = binary
        self.timeout_s = timeout_s
        self.first_part_s = first_part_s
        self._client_id = client_id

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is ours: neither the PLC nor its broker."""

    def ask_for_part(self) -> None:
        """It triggers when it wants to."""

    def cut_connection(self) -> None:
        if self._client_id is None:
            raise NotPossibleError(NO_PLC_ID)
        intruder = BrokerLink(self.config, Identity(self._client_id))
        intruder.start()
        deadline = time.monotonic() + TAKE_OVER_S
        while not intruder.connections and time.monotonic() < deadline:
            time.sleep(0.005)
        taken = intruder.connections
        intruder.stop()
        if not taken:
            raise NotPossibleError(f"the broker did not let us take the place of {self._client_id}: {intruder.problem}")

    def kill_broker(self) -> int:
        raise NotPossibleError("the broker is the plant's, and not ours to kill: restart it by hand, and watch the PLC")

    def restart_broker(self) -> None:
        raise NotPossibleError("the broker is the plant's")

    def decision_of(self, trg: int) -> Decision | None:
        return None

    def duplicates(self) -> int | None:
        return None
