"""A station that Sparkplug can be told about, with everything in the test's hand."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from edge.parts import part_of_frame
from edge.sparkplug.readings import NODE_TYPES, STATE_TYPES, VERDICT_TYPES
from edge.verdicts import Answer, Statement
from inspector.contract.codes import ErrorCode
from inspector.contract.messages import Result
from inspector.contract.sparkplug.payload import Value
from inspector.types import Frame, Verdict
from tests.edge.part_maker import IMAGE

DEVICE_TYPES = STATE_TYPES | VERDICT_TYPES
EPOCH_S = 1_700_000_000


@dataclass
class FakeReadings:
    """What the reporter reads; the test changes it."""

    device_is_alive: bool = True
    device_types: dict[str, object] = field(default_factory=lambda: dict(DEVICE_TYPES))
    code: int = 7

    def node(self, dropped: int, refused: int) -> dict[str, Value]:
        assert set(NODE_TYPES) == {
            "Properties/Version",
            "Properties/Boot",
            "Sparkplug/Dropped Verdicts",
            "Sparkplug/Refused Writes",
        }
        return {
            "Properties/Version": "1",
            "Properties/Boot": 3,
            "Sparkplug/Dropped Verdicts": dropped,
            "Sparkplug/Refused Writes": refused,
        }

    def device(self) -> dict[str, Value]:
        return {"State/Code": self.code, "Alarm/Active": False}


def verdict(seq: int, res: int = 1, *, scr: int = 500, err: int = 0, part: str = "p") -> Result:
    """The verdict number `seq` of a run; its exposure is `seq` milliseconds after the epoch of the test."""
    second, ms = divmod(seq, 1000)
    return Result(
        boot=3,
        seq=seq,
        trg=seq,
        res=res,
        err=err,
        flg=0,
        rcp=1,
        rev=2,
        scr=scr,
        roi=0,
        lat=0,
        ts=EPOCH_S + second,
        ms=ms,
        part=part,
    )


def statement(seq: int) -> Statement:
    """An OK as the inspection loop states it."""
    at = datetime.fromtimestamp(EPOCH_S, UTC) + timedelta(milliseconds=seq)
    frame = Frame(seq, "a", f"p{seq}", seq, at, time.monotonic(), IMAGE)
    part = part_of_frame(frame, number=seq, epoch=0, deadline_s=1.0)
    return Statement(Answer(part, Verdict.OK, ErrorCode.NONE), seq, boot=3)
