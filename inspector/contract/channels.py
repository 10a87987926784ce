"""Every topic with its message, direction, QoS and retention: the table behind the AsyncAPI document.

May import the messages. A topic of `topics.KINDS` or a command that is missing here is found by a test.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from inspector.contract.binary import pack_result
from inspector.contract.messages import (
    COMMANDS,
    Ack,
    Alarm,
    Alarms,
    ChallengeBegin,
    CommandMessage,
    Confirm,
    Detail,
    DetailRegion,
    Heartbeat,
    Message,
    RecipeMessage,
    Result,
    SelectRecipe,
    State,
    SuspectPart,
    Suspects,
    Trigger,
)
from inspector.contract.reports import Counters, Disposition, Stats


@dataclass(frozen=True)
class Channel:
    """One topic below the base, as the station sees it: what it sends, and what it receives."""

    kind: str
    model: type[Message]
    action: Literal["send", "receive"]
    qos: int
    retain: bool
    summary: str

    @property
    def is_binary(self) -> bool:
        return self.kind == "resultb"


CHANNELS = (
    Channel("result", Result, "send", 1, False, "One verdict for the PLC; its MQTT 5 expiry is what is left of `win`."),
    Channel("resultb", Result, "send", 1, False, "The same verdict in 64 bytes, where it is switched on."),
    Channel("state", State, "send", 1, True, "State of the station, repeated every 10 s; also its last will."),
    Channel("hb", Heartbeat, "send", 0, False, "Heartbeat, sent by the progress of the inspection loop."),
    Channel("recipe", RecipeMessage, "send", 1, True, "The active product."),
    Channel("last", Result, "send", 0, True, "Copy of the last verdict for displays; never for the acceptance gate."),
    Channel("detail", Detail, "send", 1, False, "The full result for the MES."),
    Channel("late", Result, "send", 1, False, "A verdict that missed its window, with the flag late; for the record."),
    Channel("stats", Stats, "send", 0, True, "Counters of the last minute and of the shift."),
    Channel("alarm", Alarms, "send", 1, True, "All active alarms."),
    Channel("suspect", Suspects, "send", 1, False, "Parts that passed and whose verdict is in doubt."),
    Channel("ack", Ack, "send", 1, False, "Answers to commands: accepted, then the final code."),
    Channel("disp", Disposition, "receive", 1, False, "What the PLC did with a part."),
)


def command_channels() -> Iterator[Channel]:
    """A channel per command; retained commands are refused."""
    for name, model in COMMANDS.items():
        said = (model.__doc__ or "").strip().splitlines()[0]
        yield Channel(f"cmd/{name}", model, "receive", 1, False, said)


_RESULT = Result(
    boot=7, seq=1042, trg=88123, res=1, err=0, flg=0, rcp=3, rev=2, scr=612, roi=0, lat=38, ts=1795219200, ms=125,
    part="A-00088123",
)  # fmt: skip
_EXAMPLES: dict[type[Message], Message] = {
    Result: _RESULT,
    State: State(on=1, st=7, mode=0, boot=7, rcp=3, rev=2, err=0, win=2000, hbp=1000, ts=1795219200),
    Heartbeat: Heartbeat(boot=7, n=4711, st=7, age=180, q=0, seq=1042),
    RecipeMessage: RecipeMessage(
        rcp=3, rev=2, name="bracket", hash="9f2c", thr=0.2431, cal="confirmed", n=19, since=1795215600
    ),
    Detail: Detail(
        boot=7, seq=1043, trg=88124, camera="top", frame=90211, part="A-00088124", res=2, err=0, flg=0, rcp=3, rev=2,
        score=0.3702, threshold=0.2431, calibration="confirmed", calibration_n=19, branches=["visual"],
        placement={"shift_x": 0.021, "shift_y": -0.004, "turn_deg": 1.8, "likeness": 0.97},
        regions=[DetailRegion(x_px=412, y_px=96, width_px=31, height_px=18, area_px=377, peak=0.3702)],
        timings_ms={"encode": 10.8}, captured_at="2026-11-21T08:00:00.125+00:00",
    ),
    Stats: Stats(
        boot=7, ts=1795219200, since=1795202400,
        minute=Counters(n=60, ok=58, ng=2, und=0, none=0), p50=36, p99=81,
        shift=Counters(n=16800, ok=16540, ng=241, und=12, none=7), rate=60.0,
    ),
    Alarms: Alarms(boot=7, alarms=[Alarm(err=204, src="top", txt="the light has drifted", since=1795218000)]),
    Suspects: Suspects(
        boot=7, err=702, ch=12, page=1, pages=1, parts=[SuspectPart(boot=7, seq=1042, trg=88123, part="A-00088123")]
    ),
    Ack: Ack(cid=17, cmd="select_recipe", code=0, st=7, err=0, lat=212),
    Disposition: Disposition(trg=88123, boot=7, seq=1042, acc=1, rsn=1),
    SelectRecipe: SelectRecipe(cid=17, rcp=3, rev=2),
    Confirm: Confirm(cid=21, alarm=204),
    ChallengeBegin: ChallengeBegin(cid=20, set=1),
    Trigger: Trigger(cid=18, trg=88125, part="A-00088125"),
}  # fmt: skip


def example_of(model: type[Message]) -> Message:
    """A message as it looks on the line."""
    if model in _EXAMPLES:
        return _EXAMPLES[model]
    if issubclass(model, CommandMessage):
        return model(cid=19)
    raise LookupError(f"there is no example of {model.__name__}; write one into channels.py")


def example_bytes(channel: Channel) -> bytes:
    """The bytes of a channel's example."""
    message = example_of(channel.model)
    if channel.kind == "late" and isinstance(message, Result):
        return message.as_late(message.ts + 12.5).to_json()
    if channel.is_binary and isinstance(message, Result):
        return pack_result(message, "little")
    return message.to_json()
