"""What stands beside the verdicts: counters for displays, and what the PLC did with a part.

May import `messages`. A module of its own because none of it is on the way of a verdict.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from inspector.contract.messages import U16, U32, U32_MAX, Message

RATE_MAX = float(U32_MAX)
REASONS = 8
"""How many reasons the acceptance gate has for a decision; `gate.Reason` numbers them from 1."""


class Counters(BaseModel):
    """Parts by verdict; n = ok + ng + und + none."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    n: U32
    ok: U32
    ng: U32
    und: U32
    none: U32


class Stats(Message):
    """Counters of the last full minute and of the shift on `stats`; `since` is when the shift began, in UTC seconds.

    `p50` and `p99` are latencies of that minute in ms from exposure to verdict (null: no part came), `rate` the parts per
    minute since the shift began.
    """

    limit_bytes = 512
    canonical = False

    boot: U16
    ts: U32
    since: U32
    minute: Counters
    p50: U32 | None
    p99: U32 | None
    shift: Counters
    rate: Annotated[float, Field(ge=0, le=RATE_MAX, allow_inf_nan=False)]


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
