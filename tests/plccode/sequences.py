"""Random lines: a station, a PLC, a broker and somebody with bad intentions, all drawn from one seed."""

import json
import random
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any

from inspector.contract.binary import pack_result
from inspector.contract.messages import I32_MAX, I32_MIN, U16_MAX, U32_MAX, Heartbeat, Result, State, next_seq
from inspector.contract.plccode.dialects import DIALECTS, DialectName
from inspector.contract.plccode.tables import OPEN_TRIGGERS
from inspector.errors import ContractError
from tests.plccode.rig import GatePlan, Twins
from tests.plccode.st_machine import Program

STEPS = 40
RCP = 3
PARTS = ("", "A-00088123", "x" * 24, "x" * 25, "Zz09_.:-", "p" * 32)


class Line:
    """One random sequence on both gates; `seen` counts what it contained."""

    def __init__(self, program: Program, dialect: DialectName, seed: int) -> None:
        self.random = random.Random(f"{dialect} {seed}")
        pick = self.random.choice
        clock_max = DIALECTS[dialect].clock_max
        plan = GatePlan(
            timeout_ms=pick([250, 500, 2000]),
            allow_simulated=pick([False, False, True]),
            big_endian=pick([False, True]),
            clock_ms=pick([0, 0, clock_max - 1500, clock_max // 2]),
        )
        self.twins = Twins(program, dialect, plan, wanted_rcp=RCP)
        self.order: Any = "big" if plan.big_endian else "little"
        self.boot = pick([7, 7, U16_MAX, 1])
        self.seq = pick([0, 41, U32_MAX - 3])
        self.trg = pick([1, 88123, U32_MAX - 6])
        self.open: list[int] = []
        self.held: list[tuple[str, bytes]] = []
        self.sent: list[tuple[str, bytes]] = []
        self.seen: Counter[str] = Counter()

    def run(self) -> Twins:
        """Play it; ends at the first difference."""
        self.twins.tick()
        self.say_state()
        self.beat()
        deeds: list[tuple[Callable[[], None], float]] = [
            (self.inspect, 28), (self.trigger_part, 12), (self.beat, 5), (self.wait, 6), (self.repeat, 3), (self.overtake, 3),
            (self.say_odd_state, 3), (self.restart, 1), (self.say_garbage, 4), (self.say_corrupted, 4), (self.inject, 2),
            (self.odd_trigger, 1), (self.lose, 1), (self.change_product, 1), (self.recover, 9), (self.fill_up, 0.5),
        ]  # fmt: skip
        choices, weights = zip(*deeds, strict=True)
        for _ in range(STEPS):
            deed = self.random.choices(choices, weights)[0]
            self.seen[deed.__name__] += 1
            deed()
            if self.twins.faults:
                return self.twins
        self.twins.now_ms += self.random.choice([0, 5000])
        self.twins.close()
        return self.twins

    def feed(self, kind: str, payload: bytes, *, retained: bool = False) -> None:
        self.twins.feed(kind, payload, retained=retained)
        self.open = list(self.twins.reference.open_triggers)

    def trigger_part(self) -> None:
        self.twins.trigger(self.trg)
        self.trg = next_seq(self.trg)
        self.open = list(self.twins.reference.open_triggers)

    def fill_up(self) -> None:
        """One part more than the gate has room for."""
        for _ in range(OPEN_TRIGGERS + 1):
            self.trigger_part()

    def odd_trigger(self) -> None:
        self.twins.trigger(self.random.choice([0, *self.open]))

    def inspect(self) -> None:
        """A verdict: mostly for a part that waits, and mostly right."""
        if not self.open or self.random.random() < 0.4:
            self.trigger_part()
        self.seq = next_seq(self.seq)
        trg = self.random.choice(self.open) if self.open else self.trg
        message = (self._kind(), self._verdict(trg, **self._deviation()))
        if self.random.random() < 0.12:
            self.held.append(message)
            return
        self.twins.now_ms += self.random.choice([0, 1, 30, 120])
        self.sent.append(message)
        self.feed(*self._encoded(message))

    def overtake(self) -> None:
        """A verdict that was held back comes now, after later ones."""
        if self.held:
            message = self.held.pop(0)
            self.sent.append(message)
            self.feed(*self._encoded(message))

    def repeat(self) -> None:
        if self.sent:
            recent = self.sent[-4:] if self.random.random() < 0.6 else self.sent
            kind, payload = self._encoded(self.random.choice(recent))
            self.feed(kind, payload)

    def inject(self) -> None:
        """A third party: a retained verdict, or one of another boot."""
        trg = self.random.choice(self.open or [self.trg])
        stolen = self.random.choice(
            [{}, {"boot": (self.boot - 1) % (U16_MAX + 1)}, {"seq": self.random.randint(1, U32_MAX)}]
        )
        kind, payload = self._encoded((self._kind(), self._verdict(trg, **stolen)))
        self.feed(kind, payload, retained=self.random.random() < 0.7)

    def wait(self) -> None:
        self.twins.now_ms += self.random.choice(
            [1, 125, 249, 250, 251, 500, 501, 749, 750, 751, 2001, 3000, 3001, 60_000]
        )
        if self.random.random() < 0.7:
            self.twins.tick()

    def beat(self, **changes: Any) -> None:
        boot = changes.get("boot", self.boot)
        beat = Heartbeat(boot=boot, n=self.random.randint(0, U32_MAX), st=7, age=0, q=0, seq=self.seq)
        self.feed("hb", beat.to_json(), retained=self.random.random() < 0.1)

    def say_state(self, **changes: Any) -> None:
        values = {
            "on": 1,
            "st": 7,
            "mode": 0,
            "boot": self.boot,
            "rcp": RCP,
            "rev": 1,
            "err": 0,
            "win": 2000,
            "hbp": 250,
            "ts": 5,
        }
        try:
            payload = State(**{**values, **changes}).to_json()
        except ValueError:  # on and st that exclude each other: said all the same, by hand
            payload = json.dumps({"v": 1, **values, **changes}, separators=(",", ":")).encode()
        self.feed("state", payload, retained=self.random.random() < 0.3)

    def say_odd_state(self) -> None:
        """Another state, mode, product or period; an old will; an older or a much newer boot."""
        pick = self.random.choice
        changes: list[dict[str, Any]] = [
            {"st": pick(range(1, 9))}, {"mode": pick(range(5))}, {"rcp": pick([0, RCP + 1])}, {"on": 0, "st": 0}, {"on": 0},
            {"hbp": pick([0, 125, 250, 500, 1000, 65500])}, {"boot": (self.boot - 1) % (U16_MAX + 1)}, {"st": 0},
            {"boot": (self.boot - 1) % (U16_MAX + 1), "on": 0, "st": 0}, {"boot": pick([0, 1, 300, 40000, U16_MAX])},
        ]  # fmt: skip
        self.say_state(**pick(changes))

    def recover(self) -> None:
        """The station says that all is well, with the boot that the gate knows."""
        known = self.twins.reference.state
        self.boot = known.boot if known is not None else self.boot
        self.say_state()
        self.beat()

    def restart(self) -> None:
        self.boot = self.boot % U16_MAX + 1
        self.seq = 0
        if self.random.random() < 0.5:  # a verdict that outruns its state
            self.inspect()
        self.say_state()
        self.beat()

    def lose(self) -> None:
        self.twins.lose_connection()
        self.open = list(self.twins.reference.open_triggers)

    def change_product(self) -> None:
        self.twins.want(self.random.choice([None, RCP, RCP, RCP + 1]))

    def say_garbage(self) -> None:
        size = self.random.choice([0, 1, 30, 64, 64, 150, 240, 241, 3000])
        payload = self.random.randbytes(size)
        if self.random.random() < 0.3:
            payload = self.random.choice([b"{}", b"null", b"[" * 900, b'{"v":1}', b"9" * 240, "ä".encode() * 60])
        self.feed(self.random.choice(["result", "resultb", "state", "hb"]), payload)

    def say_corrupted(self) -> None:
        """A verdict for a part that waits, with one thing wrong in its bytes."""
        self.seq = next_seq(self.seq)
        trg = self.random.choice(self.open or [self.trg])
        if self.random.random() < 0.4:
            self.feed("resultb", _corrupt_binary(self.random, self._verdict(trg), self.order))
        else:
            self.feed("result", _corrupt_text(self.random, self._verdict(trg)))

    def _kind(self) -> str:
        return self.random.choice(["result", "result", "resultb"])

    def _verdict(self, trg: int, /, **changes: Any) -> bytes:
        values: dict[str, Any] = {
            "boot": self.boot, "seq": max(1, self.seq), "trg": trg, "res": 1, "err": 0, "flg": 0, "rcp": RCP, "rev": 1,
            "scr": self.random.choice([0, 612, 1000, -5, I32_MIN, I32_MAX]), "roi": self.random.choice([0, 5, U16_MAX]),
            "lat": 30, "ts": self.random.choice([5, U32_MAX]), "ms": self.random.choice([0, 999]),
            "part": self.random.choice(PARTS),
        }  # fmt: skip
        return Result(**{**values, **changes}).to_json()

    def _deviation(self) -> dict[str, Any]:
        if self.random.random() < 0.55:
            return {}
        pick = self.random.choice
        return pick([
            {"res": pick([0, 2, 3])}, {"res": 0, "err": pick([101, 501, U16_MAX])}, {"res": 2, "err": 703}, {"rcp": RCP + 1},
            {"flg": 1 << self.random.randrange(16)}, {"flg": 8 | 16}, {"flg": pick([1, 1 | 8, 4, 64])}, {"trg": 0},
            {"trg": self.trg}, {"boot": (self.boot + pick([1, -1])) % (U16_MAX + 1)},
            {"seq": self.random.randint(1, U32_MAX)},
        ])  # fmt: skip

    def _encoded(self, message: tuple[str, bytes]) -> tuple[str, bytes]:
        """The verdict in its form; a part id that has no room in 64 bytes goes as text."""
        kind, text = message
        if kind == "resultb":
            try:
                return kind, pack_result(Result.from_json(text), self.order)
            except ContractError:
                return "result", text
        return kind, text


def _corrupt_text(chance: random.Random, payload: bytes) -> bytes:
    place = chance.randrange(len(payload))
    ways: list[Callable[[], bytes]] = [
        lambda: payload[:place] + bytes([chance.randrange(256)]) + payload[place + 1 :],
        lambda: payload[:place],
        lambda: payload[:place] + b" " + payload[place:],
        lambda: payload + chance.choice([b" ", b"\n", b"}", b"\0"]),
        lambda: payload.replace(
            b'"res":1', chance.choice([b'"res":01', b'"res":1.0', b'"res":4', b'"res":-1', b'"res":"1"'])
        ),
        lambda: payload.replace(b'"trg":', chance.choice([b'"trg":0', b'"trg":-', b'"trg":4294967296', b'"Trg":'])),
        lambda: payload.replace(b'"v":1', chance.choice([b'"v":2', b'"v":true', b'"v":', b'"v":11'])),
        lambda: payload.replace(b'"scr":', chance.choice([b'"scr":-', b'"scr":+', b'"scr":-0', b'"scr":99999999'])),
        lambda: payload.replace(b'"err":0', b'"err":501'),
        lambda: payload.replace(b'"seq":', chance.choice([b'"seq":0,"x":', b'"seq":18446744073709551617'])),
        lambda: payload.replace(
            b'"part":"', b'"part":"' + chance.choice([b"y" * 33, "ä".encode(), b" ", b"\\u0041", b'"'])
        ),
        lambda: payload.replace(b'"res":1,"err":0', b'"err":0,"res":1'),
        lambda: payload.replace(b'"res":1', b'"res":1,"res":1'),
    ]
    return chance.choice(ways)()


def _corrupt_binary(chance: random.Random, text: bytes, order: Any) -> bytes:
    result = Result.from_json(text)
    data = bytearray(pack_result(result.model_copy(update={"part": result.part[:24]}), order))
    other = "little" if order == "big" else "big"
    way = chance.randrange(6)
    if way == 0:
        data[chance.randrange(64)] ^= 1 << chance.randrange(8)
        return bytes(data)
    if way == 1:
        return bytes(data[: chance.randrange(64)]) if chance.random() < 0.5 else bytes(data) + b"\0"
    if way == 2:
        return pack_result(result.model_copy(update={"part": result.part[:24]}), other)
    # a wrong value under a right check sum
    place, byte = chance.choice([(0, 0x5A), (1, 2), (2, 4), (3, 1), (4, 9), (36, 32), (40, 0), (59, 65), (59, 228)])
    data[place] = byte
    if way == 5:
        data[32:34] = struct.pack(">H" if order == "big" else "<H", 1000)
    return bytes(data[:60]) + zlib.crc32(data[:60]).to_bytes(4, order)
