"""What displays and the record get beside the verdicts: active alarms, counters, and what the PLC did with a part.

May import `messages`. A module of its own because none of it is on the way of a verdict.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from inspector.contract.messages import U16, U32, U32_MAX, Message

REASONS = 8
"""How many reasons the acceptance gate has for a decision; `gate.Reason` numbers them from 1."""


class ActiveAlarm(BaseModel):
    """An alarm that stands; `err` is its error code, and names it in the command `confirm`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    err: Annotated[int, Field(ge=1, le=65535)]
    since: U32
    n: U32 = 1
    text: Annotated[str, Field(max_length=80)] = ""


class Alarms(Message):
    """All active alarms on `alarm`, the newest first; an empty list takes the last one back.

    `since` is in UTC seconds, `n` how often it has come since, `more` how many had no room.
    """

    limit_bytes = 2048
    canonical = False

    boot: U16
    active: list[ActiveAlarm] = Field(default_factory=list)
    more: U16 = 0

    def fitted(self) -> "Alarms":
        """Leave out the last alarms until the message fits, and say how many."""
        message = self
        while message.active and len(message._encoded()) > self.limit_bytes:
            message = message.model_copy(update={"active": message.active[:-1], "more": message.more + 1})
        return message


class Counters(BaseModel):
    """Parts by verdict; n = ok + ng + und + none."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    n: U32
    ok: U32
    ng: U32
    und: U32
    none: U32


class Stats(Message):
    """Counters of the last full minute and of the shift on `stats`; `since` is when the shift began, in UTC seconds."""

    limit_bytes = 512
    canonical = False

    boot: U16
    ts: U32
    since: U32
    minute: Counters
    shift: Counters


class Disposition(Message):
    """What the PLC did with the part of one trigger, on `disp`; `boot` and `seq` are 0 where no verdict came in time.

    `rsn` is the number of the gate's reason. Blanks and another order of keys are read.
    """

    canonical = False

    trg: Annotated[int, Field(ge=1, le=U32_MAX)]
    boot: U16
    seq: U32
    acc: Annotated[int, Field(ge=0, le=1)]
    rsn: Annotated[int, Field(ge=1, le=REASONS)]
