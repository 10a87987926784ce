"""Messages of every value that their models allow, for Hypothesis."""

from typing import Any

from hypothesis import strategies as st

from inspector.contract.messages import (
    I32_MAX,
    I32_MIN,
    PART_LENGTH,
    U16_MAX,
    U32_MAX,
    Alarm,
    Alarms,
    Detail,
    DetailRegion,
    Heartbeat,
    Result,
    State,
)

U16 = st.integers(0, U16_MAX)
U32 = st.integers(0, U32_MAX)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
PART_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-"


def parts(length: int = PART_LENGTH) -> st.SearchStrategy[str]:
    return st.text(PART_LETTERS, max_size=length)


@st.composite
def results(draw: st.DrawFn, part_length: int = PART_LENGTH) -> Result:
    err = draw(st.one_of(st.just(0), U16))
    values: dict[str, Any] = {key: draw(U16) for key in ("boot", "flg", "rcp", "rev", "roi", "lat")}
    return Result(
        **values,
        seq=draw(st.integers(1, U32_MAX)),
        trg=draw(U32),
        res=draw(st.integers(0, 3) if err == 0 else st.sampled_from([0, 2])),
        err=err,
        scr=draw(st.integers(I32_MIN, I32_MAX)),
        ts=draw(U32),
        ms=draw(st.integers(0, 999)),
        part=draw(parts(part_length)),
    )


@st.composite
def states(draw: st.DrawFn) -> State:
    station_state = draw(st.integers(0, 8))
    values: dict[str, Any] = {key: draw(U16) for key in ("boot", "rcp", "rev", "err", "win", "hbp")}
    return State(on=int(station_state > 0), st=station_state, mode=draw(st.integers(0, 4)), ts=draw(U32), **values)


def heartbeats() -> st.SearchStrategy[Heartbeat]:
    return st.builds(Heartbeat, boot=U16, n=U32, st=st.integers(0, 8), age=U32, q=U16, seq=U32)


PIXELS = st.integers(0, 20_000)
REGIONS = st.builds(
    DetailRegion,
    x_px=PIXELS,
    y_px=PIXELS,
    width_px=PIXELS,
    height_px=PIXELS,
    area_px=st.integers(0, 10**9),
    peak=FINITE,
)
SCORES = st.dictionaries(st.text(PART_LETTERS, max_size=16), FINITE, max_size=8)


def details() -> st.SearchStrategy[Detail]:
    """Details with more regions than have room; other texts as long as the station makes them."""
    return st.builds(
        Detail,
        boot=U16, seq=st.integers(1, U32_MAX), trg=U32, camera=st.text(max_size=32), frame=st.integers(0, 2**63 - 1),
        part=parts(), res=st.integers(0, 3), err=U16, flg=U16, rcp=U16, rev=U16, score=FINITE, threshold=FINITE,
        calibration=st.text(PART_LETTERS, max_size=16), calibration_n=st.integers(0, 10**6),
        reason=st.text(PART_LETTERS, max_size=200), parts=SCORES, contributions=SCORES, timings_ms=SCORES,
        placement=SCORES,
        branches=st.lists(st.text(PART_LETTERS, max_size=16), max_size=3),
        regions=st.lists(REGIONS, max_size=60), image=st.text(PART_LETTERS, max_size=120),
        encoder=st.text(PART_LETTERS, max_size=120), captured_at=st.text(PART_LETTERS, max_size=40),
    )  # fmt: skip


def alarms() -> st.SearchStrategy[Alarms]:
    """Lists of alarms longer than have room."""
    alarm = st.builds(
        Alarm, err=st.integers(1, U16_MAX), src=st.text(max_size=32), since=U32, txt=st.text(max_size=120)
    )
    return st.builds(Alarms, boot=U16, alarms=st.lists(alarm, max_size=40))
