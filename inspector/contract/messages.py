"""The messages of the contract: one pydantic model each is the only source of names, order, ranges and sizes.

May import `codes`, errors and pydantic. A model's fields stand in the order of the keys on the wire, so the
binary form and the AsyncAPI document need no second table.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from math import floor, isfinite
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from inspector.contract.codes import AckCode, Flag, StationMode, StationState
from inspector.errors import ContractError

U8_MAX, U16_MAX, U32_MAX = 2**8 - 1, 2**16 - 1, 2**32 - 1
I32_MIN, I32_MAX = -(2**31), 2**31 - 1
PART_LENGTH = 32
SCORE_AT_THRESHOLD = 1000

U8 = Annotated[int, Field(ge=0, le=U8_MAX)]
U16 = Annotated[int, Field(ge=0, le=U16_MAX)]
U32 = Annotated[int, Field(ge=0, le=U32_MAX)]
I32 = Annotated[int, Field(ge=I32_MIN, le=I32_MAX)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Part = Annotated[str, Field(max_length=PART_LENGTH, pattern=r"^[A-Za-z0-9_.:-]*$")]


def sanitise_part(text: str) -> str:
    """Make any text a part id of the contract: other characters become `_`, a long one ends in a hash.

    A long id is never merely cut: two parts must not become one.
    """
    clean = re.sub(r"[^A-Za-z0-9_.:-]", "_", text)
    if len(clean) <= PART_LENGTH:
        return clean
    return f"{clean[: PART_LENGTH - 9]}:{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def scale_score(score: float | None, threshold: float | None) -> int:
    """Give `scr`: 1000 is the threshold, less is better, cut to i32; 0 where there is no finite score.

    Rounded down, so that a score below its threshold is never shown as 1000. A threshold of zero or below has
    no ratio; there `scr` is 1000 plus the distance in thousandths.
    """
    if score is None or threshold is None or not (isfinite(score) and isfinite(threshold)):
        return 0
    ratio = score / threshold if threshold > 0 else 1.0 + (score - threshold)
    scr = floor(max(float(I32_MIN), min(float(I32_MAX), SCORE_AT_THRESHOLD * ratio)))
    return min(scr, SCORE_AT_THRESHOLD - 1) if score < threshold else max(scr, SCORE_AT_THRESHOLD)


def saturate(value: float, most: int) -> int:
    """Cut a counter or a duration to `0 … most` (U16_MAX, U32_MAX); 65535 means "or more"."""
    return 0 if value <= 0 else most if value >= most else int(value)


def split_utc(at: datetime) -> tuple[int, int]:
    """Give `ts` and `ms` of an aware time, cut to what u32 seconds can say."""
    milliseconds = max(at.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC), timedelta(0)) // timedelta(milliseconds=1)
    seconds, rest = divmod(milliseconds, 1000)
    return min(seconds, U32_MAX), rest


def next_seq(seq: int) -> int:
    """Count on from `seq`; after 2³²−1 comes 1, so that 0 stays free for "none yet"."""
    return seq + 1 if seq < U32_MAX else 1


def seq_is_newer(seq: int, than: int) -> bool:
    """Compare across the wrap: newer means ahead by less than half of the circle 1 … 2³²−1."""
    return 0 < (seq - than) % U32_MAX < 2**31


class Message(BaseModel):
    """A message of the contract: checked when made, read-only; ASCII JSON without blanks, fields in order."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    limit_bytes: ClassVar[int] = 240
    canonical: ClassVar[bool] = True
    """Whether exactly the bytes of `to_json` are accepted: no blanks, no other order, no key twice."""

    v: Annotated[int, Field(ge=1, le=1)] = 1

    def to_json(self) -> bytes:
        """Give the bytes for the broker.

        Raises:
            ContractError: the message is longer than the contract allows.
        """
        data = self._encoded()
        if len(data) > self.limit_bytes:
            raise ContractError(f"{type(self).__name__} has {len(data)} bytes; at most {self.limit_bytes} may be sent")
        return data

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read and check a message.

        Raises:
            ContractError: not ASCII JSON, too long, an unknown or missing key, or a value out of range.
        """
        if len(data) > cls.limit_bytes:
            raise ContractError(f"{cls.__name__} has {len(data)} bytes; at most {cls.limit_bytes} are allowed")
        if not data.isascii():
            raise ContractError(f"{cls.__name__} must be ASCII, but has other bytes")
        try:
            message = cls.model_validate_json(data)
        except ValidationError as error:
            raise ContractError(f"{cls.__name__}: {_explain(error)}") from error
        if cls.canonical and message.to_json() != data:
            raise ContractError(f"{cls.__name__} must have its keys in order, once each and without blanks")
        return message

    def _encoded(self) -> bytes:
        return json.dumps(self._values(), separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")

    def _values(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


def _explain(error: ValidationError) -> str:
    faults = [(".".join(map(str, fault["loc"])) or "message", fault["msg"]) for fault in error.errors()]
    return "; ".join(f"{where}: {what}" for where, what in faults)


class Result(Message):
    """One verdict for the PLC on `result`, and for the record on `late`."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"err": {"const": 0}}},
            "else": {"properties": {"res": {"enum": [0, 2]}}},
        }
    )

    boot: U16
    seq: Annotated[int, Field(ge=1, le=U32_MAX)]
    trg: U32
    res: Annotated[int, Field(ge=0, le=3)]
    err: U16
    flg: U16
    rcp: U16
    rev: U16
    scr: I32
    roi: U16
    lat: U16
    ts: U32
    ms: Annotated[int, Field(ge=0, le=999)]
    part: Part = ""

    @model_validator(mode="after")
    def _an_error_never_passes(self) -> Self:
        if self.err != 0 and self.res not in (0, 2):
            raise ValueError(f"with err {self.err} res must be 0 or 2, but is {self.res}")
        return self

    def as_late(self, now_s: float) -> "Result":
        """The same verdict, marked as late, for the topic `late`; `now_s` (UTC) tells how late it is."""
        age_ms = saturate((now_s - self.ts) * 1000 - self.ms, U16_MAX)
        return self.model_copy(update={"flg": self.flg | int(Flag.LATE), "lat": age_ms})


class State(Message):
    """State of the station on `state`; the offline form is the last will."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"st": {"const": 0}}},
            "then": {"properties": {"on": {"const": 0}}},
            "else": {"properties": {"on": {"const": 1}}},
        }
    )

    on: Annotated[int, Field(ge=0, le=1)]
    st: Annotated[int, Field(ge=0, le=int(StationState.PREPARING))]
    mode: Annotated[int, Field(ge=0, le=int(StationMode.SHADOW))]
    boot: U16
    rcp: U16
    rev: U16
    err: U16
    win: U16
    hbp: U16
    ts: U32

    @model_validator(mode="after")
    def _offline_means_off(self) -> Self:
        if (self.st == StationState.OFFLINE) == bool(self.on):
            raise ValueError(f"on must be 0 with st 0, and 1 with any other; but on is {self.on} with st {self.st}")
        return self

    def as_offline(self) -> "State":
        """What the last will, or a clean stop, says of this station: same boot, nothing active."""
        offline = {"on": 0, "st": int(StationState.OFFLINE), "rcp": 0, "rev": 0, "err": 0}
        return self.model_copy(update=offline)


class Heartbeat(Message):
    """A sign of life from the inspection loop itself on `hb`; `age` is ms since the last new frame."""

    boot: U16
    n: U32
    st: Annotated[int, Field(ge=0, le=int(StationState.PREPARING))]
    age: U32
    q: U16
    seq: U32


class RecipeMessage(Message):
    """The active product on `recipe`; `hash` is of its bank, `thr` the raw threshold.

    `cal` and `n` say where the threshold comes from (provisional, from n references), `rate` what it promises of false
    rejects and `bound` what they do not exceed with 95 % confidence (null: nothing is promised); `since` is in UTC seconds.
    """

    limit_bytes: ClassVar[int] = 1024
    canonical: ClassVar[bool] = False

    rcp: U16
    rev: U16
    name: Annotated[str, Field(max_length=64)]
    hash: Annotated[str, Field(max_length=64, pattern=r"^[0-9a-f]*$")]
    thr: Finite
    cal: Annotated[str, Field(max_length=16)] = ""
    n: U32 = 0
    rate: Finite | None = None
    bound: Finite | None = None
    since: U32


class DetailRegion(BaseModel):
    """A defect region in pixels of the camera's image."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    x_px: int
    y_px: int
    width_px: int
    height_px: int
    area_px: int
    peak: Finite


class Detail(Message):
    """Everything about one verdict, for the MES, on `detail`."""

    limit_bytes: ClassVar[int] = 4096
    canonical: ClassVar[bool] = False

    boot: U16
    seq: Annotated[int, Field(ge=1, le=U32_MAX)]
    trg: U32
    camera: Annotated[str, Field(max_length=32)]
    frame: Annotated[int, Field(ge=0)]
    part: Part = ""
    res: Annotated[int, Field(ge=0, le=3)]
    err: U16
    flg: U16
    rcp: U16
    rev: U16
    score: Finite | None
    threshold: Finite | None
    calibration: str = ""
    calibration_n: Annotated[int, Field(ge=0)] = 0
    false_reject_rate: Finite | None = None
    false_reject_bound: Finite | None = None
    reason: Annotated[str, Field(max_length=200)] = ""
    parts: dict[str, Finite] = {}
    branches: list[str] = []
    contributions: dict[str, Finite] = {}
    placement: dict[str, Finite] = {}
    regions: list[DetailRegion] = []
    regions_left_out: Annotated[int, Field(ge=0)] = 0
    image: str | None = None
    encoder: str = ""
    timings_ms: dict[str, Finite] = {}
    captured_at: Annotated[str, Field(max_length=40)] = ""

    def fitted(self) -> "Detail":
        """Leave out the last regions until the message fits, and say how many."""
        message = self
        while message.regions and len(message._encoded()) > self.limit_bytes:
            update = {"regions": message.regions[:-1], "regions_left_out": message.regions_left_out + 1}
            message = message.model_copy(update=update)
        return message


class Alarm(BaseModel):
    """One active alarm: its error code, where it is (a camera's name, or nothing), what it says, since when (UTC seconds).

    `conf` is 1 once somebody has confirmed it; it stays as long as its cause does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    err: U16
    src: Annotated[str, Field(max_length=32)] = ""
    txt: Annotated[str, Field(max_length=120)]
    since: U32
    conf: Annotated[int, Field(ge=0, le=1)] = 0


class Alarms(Message):
    """All active alarms of the station on `alarm`; `more` are those that found no room."""

    limit_bytes: ClassVar[int] = 2048
    canonical: ClassVar[bool] = False

    boot: U16
    alarms: list[Alarm] = []
    more: U16 = 0

    def fitted(self) -> "Alarms":
        """Leave out the last alarms until the message fits, and say how many."""
        message = self
        while message.alarms and len(message._encoded()) > self.limit_bytes:
            message = message.model_copy(update={"alarms": message.alarms[:-1], "more": message.more + 1})
        return message


class SuspectPart(BaseModel):
    """A part that was accepted and whose verdict is in doubt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    boot: U16
    seq: Annotated[int, Field(ge=1, le=U32_MAX)]
    trg: U32
    part: Part = ""


class Suspects(Message):
    """Parts that passed since the last passed challenge, for the MES, on `suspect`; `page` of `pages`, both from 1.

    `err` says why they are in doubt (701, 702), `ch` is the number of the challenge that failed, 0 if one is overdue.
    """

    limit_bytes: ClassVar[int] = 4096
    canonical: ClassVar[bool] = False
    parts_of_a_page: ClassVar[int] = 40

    boot: U16
    err: U16
    ch: U32
    page: Annotated[int, Field(ge=1, le=U16_MAX)]
    pages: Annotated[int, Field(ge=1, le=U16_MAX)]
    parts: Annotated[list[SuspectPart], Field(max_length=40)]


class Ack(Message):
    """Answer to a command on `ack`; `lat` is ms since the command came."""

    cid: U32
    cmd: Annotated[str, Field(max_length=32, pattern=r"^[A-Za-z0-9_]*$")]
    code: Annotated[int, Field(ge=0, le=U8_MAX)]
    st: Annotated[int, Field(ge=0, le=int(StationState.PREPARING))]
    err: U16
    lat: U32


class CommandMessage(Message):
    """What every command has.

    People write commands by hand and PLCs have their own code pages: blanks, another order of keys and other
    text than ASCII are read; what is not UTF-8 becomes the replacement character, which no part id keeps.
    """

    limit_bytes: ClassVar[int] = 1024
    canonical: ClassVar[bool] = False

    cid: U32

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        if len(data) > cls.limit_bytes:
            raise ContractError(f"{cls.__name__} has {len(data)} bytes; at most {cls.limit_bytes} are allowed")
        try:
            return cls.model_validate_json(data.decode("utf-8", "replace"))
        except ValidationError as error:
            raise ContractError(f"{cls.__name__}: {_explain(error)}") from error

    def _values(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_none=True)


class SelectRecipe(CommandMessage):
    """Make product `rcp` the active one; without `rev` its newest revision."""

    rcp: Annotated[int, Field(ge=1, le=U16_MAX)]
    rev: Annotated[int, Field(ge=1, le=U16_MAX)] | None = None


class Start(CommandMessage):
    """Inspect."""


class Stop(CommandMessage):
    """Stop inspecting; parts in flight, and those that come, get NONE (503) until the command start."""


class Abort(CommandMessage):
    """Stop, and give up at once what is in flight, triggers that wait for their picture included: NONE (503)."""


class Halt(CommandMessage):
    """Stop, and stay stopped: start is refused until the command reset."""


class Reset(CommandMessage):
    """End a halt (inspecting begins with start), and try again to load a product that could not be used."""


class Sync(CommandMessage):
    """Repeat the retained topics."""


class Ping(CommandMessage):
    """Answer, and do nothing."""


class Confirm(CommandMessage):
    """Somebody has seen an alarm; `alarm` is its error code."""

    alarm: Annotated[int, Field(ge=1, le=U16_MAX)]


class ChallengeBegin(CommandMessage):
    """The next parts are those of challenge set `set`; with `pic` 1 its kept pictures are inspected instead."""

    set: Annotated[int, Field(ge=1, le=U16_MAX)] = 1
    pic: Annotated[int, Field(ge=0, le=1)] = 0


class ChallengeEnd(CommandMessage):
    """The challenge is over; what was not seen has failed."""


class Trigger(CommandMessage):
    """A part stands in front of the camera; `trg` is the PLC's counter."""

    trg: Annotated[int, Field(ge=1, le=U32_MAX)]
    part: Annotated[str, AfterValidator(sanitise_part)] = ""


COMMANDS: Mapping[str, type[CommandMessage]] = {
    "select_recipe": SelectRecipe,
    "start": Start,
    "stop": Stop,
    "abort": Abort,
    "halt": Halt,
    "reset": Reset,
    "confirm": Confirm,
    "challenge_begin": ChallengeBegin,
    "challenge_end": ChallengeEnd,
    "sync": Sync,
    "ping": Ping,
    "trigger": Trigger,
}
"""Name in the topic → model."""


@dataclass(frozen=True)
class RefusedCommand:
    """A command that cannot run: what its final answer says, and why; `cid` is 0 if unreadable."""

    cid: int
    code: AckCode
    reason: str


def read_command(name: str, payload: bytes, *, retained: bool) -> CommandMessage | RefusedCommand:
    """Read the payload of `cmd/{name}`; anything that must not run comes back as a refusal with its code."""
    values = _loose_json(payload)
    cid = values.get("cid")
    cid = cid if isinstance(cid, int) and not isinstance(cid, bool) and 0 <= cid <= U32_MAX else 0
    if retained:
        return RefusedCommand(cid, AckCode.RETAINED_REFUSED, f"command {name!r} was retained by the broker")
    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        return RefusedCommand(cid, AckCode.UNKNOWN_COMMAND, f"there is no command {name!r}; there are {known}")
    if values and values.get("v") != 1:
        return RefusedCommand(cid, AckCode.SCHEMA, f"command {name!r} needs v 1, but has {values.get('v')!r}")
    try:
        return COMMANDS[name].from_json(payload)
    except ContractError as error:
        return RefusedCommand(cid, AckCode.BAD_PAYLOAD, str(error))


def _loose_json(payload: bytes) -> dict[str, Any]:
    """The object in `payload`, or nothing: finds `cid` and `v` of a message that may be wrong otherwise."""
    try:
        values = json.loads(payload.decode("utf-8", "replace")) if len(payload) <= CommandMessage.limit_bytes else None
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
