"""The messages: exact bytes, sizes, ranges, and what is refused."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspector.contract.codes import AckCode, ErrorCode, Flag, StationState
from inspector.contract.messages import (
    COMMANDS,
    I32_MAX,
    I32_MIN,
    U16_MAX,
    U32_MAX,
    Ack,
    Detail,
    DetailRegion,
    Heartbeat,
    RecipeMessage,
    RefusedCommand,
    Result,
    SelectRecipe,
    State,
    Trigger,
    next_seq,
    read_command,
    sanitise_part,
    scale_score,
    seq_is_newer,
    split_utc,
)
from inspector.errors import ContractError

RESULT: dict[str, Any] = {
    "boot": 7, "seq": 1042, "trg": 88123, "res": 1, "err": 0, "flg": 0, "rcp": 3, "rev": 2, "scr": 612, "roi": 0,
    "lat": 38, "ts": 1795219200, "ms": 125, "part": "A-00088123",
}  # fmt: skip
STATE: dict[str, Any] = {
    "on": 1, "st": 7, "mode": 0, "boot": 7, "rcp": 3, "rev": 2, "err": 0, "win": 2000, "hbp": 1000, "ts": 1795219200,
}  # fmt: skip
GOOD = Result(**RESULT).to_json()


def test_result_is_flat_ascii_json_in_the_order_of_the_contract() -> None:
    assert GOOD == (
        b'{"v":1,"boot":7,"seq":1042,"trg":88123,"res":1,"err":0,"flg":0,"rcp":3,"rev":2,"scr":612,"roi":0,'
        b'"lat":38,"ts":1795219200,"ms":125,"part":"A-00088123"}'
    )


def test_state_and_heartbeat_have_the_keys_of_the_contract_in_order() -> None:
    assert State(**STATE).to_json() == (
        b'{"v":1,"on":1,"st":7,"mode":0,"boot":7,"rcp":3,"rev":2,"err":0,"win":2000,"hbp":1000,"ts":1795219200}'
    )
    assert Heartbeat(boot=7, n=9, st=7, age=12, q=0, seq=1042).to_json() == (
        b'{"v":1,"boot":7,"n":9,"st":7,"age":12,"q":0,"seq":1042}'
    )


def test_the_largest_result_fits_into_240_bytes() -> None:
    largest = Result(
        boot=U16_MAX, seq=U32_MAX, trg=U32_MAX, res=2, err=U16_MAX, flg=U16_MAX, rcp=U16_MAX, rev=U16_MAX,
        scr=I32_MIN, roi=U16_MAX, lat=U16_MAX, ts=U32_MAX, ms=999, part="x" * 32,
    )  # fmt: skip

    assert len(largest.to_json()) == 219
    assert Result.from_json(largest.to_json()) == largest


def test_the_largest_state_heartbeat_and_ack_fit_into_240_bytes() -> None:
    most = {"boot": U16_MAX, "rcp": U16_MAX, "rev": U16_MAX, "err": U16_MAX, "win": U16_MAX, "hbp": U16_MAX}
    state = State(on=1, st=8, mode=4, ts=U32_MAX, **most)
    heartbeat = Heartbeat(boot=U16_MAX, n=U32_MAX, st=8, age=U32_MAX, q=U16_MAX, seq=U32_MAX)
    ack = Ack(cid=U32_MAX, cmd="x" * 32, code=255, st=8, err=U16_MAX, lat=U32_MAX)

    assert max(len(message.to_json()) for message in (state, heartbeat, ack)) <= 240


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("boot", 65536), ("boot", -1), ("seq", 0), ("seq", 2**32), ("trg", 2**32), ("res", 4), ("err", 65536),
        ("flg", 65536), ("scr", I32_MAX + 1), ("scr", I32_MIN - 1), ("ms", 1000), ("part", "x" * 33), ("part", "a b"),
        ("part", "ä"), ("res", True), ("seq", 1.0), ("seq", "1"), ("part", None),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused(key: str, value: object) -> None:
    with pytest.raises(ContractError, match=key):
        Result.from_json(json.dumps({"v": 1, **RESULT, key: value}, separators=(",", ":")).encode())


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"null", b"[]", b"{}", b"\xff\xfe", b'{"v":1}', GOOD + b" ", GOOD + b" " * 200,
        GOOD.replace(b'"v":1', b'"v":2'), GOOD.replace(b'"v":1', b'"v":true'),
        GOOD.replace(b'"res":1', b'"res":2,"res":1'), GOOD.replace(b'"res":1,"err":0', b'"err":0,"res":1'),
        GOOD.replace(b'"part"', b'"extra":1,"part"'),
    ],
)  # fmt: skip
def test_what_is_not_exactly_a_result_is_refused(payload: bytes) -> None:
    with pytest.raises(ContractError):
        Result.from_json(payload)


@pytest.mark.parametrize("res", [1, 3])
def test_a_verdict_with_an_error_cannot_be_ok_or_undecided(res: int) -> None:
    with pytest.raises(ValueError, match="res must be 0 or 2"):
        Result(**{**RESULT, "res": res, "err": int(ErrorCode.DEADLINE_MISSED)})


@pytest.mark.parametrize(("after_s", "lat"), [(2.5, 2500), (65.535, 65_535), (9e9, 65_535), (-4.0, 0)])
def test_a_late_result_is_the_same_with_the_flag_late_and_its_age(after_s: float, lat: int) -> None:
    result = Result(**RESULT)
    late = result.as_late(result.ts + result.ms / 1000 + after_s)

    assert late.flg == Flag.LATE
    assert late.lat == pytest.approx(lat, abs=1)
    assert late == Result(**{**RESULT, "flg": 4, "lat": late.lat})


def test_the_last_will_is_offline_with_its_own_boot() -> None:
    will = State(**STATE).as_offline()

    assert (will.on, will.st, will.boot) == (0, StationState.OFFLINE, 7)
    assert State.from_json(will.to_json()) == will


@pytest.mark.parametrize(("on", "st"), [(1, 0), (0, 5)])
def test_a_state_cannot_be_on_and_offline_at_once(on: int, st: int) -> None:
    with pytest.raises(ValueError, match="on must be 0 with st 0"):
        State(**{**STATE, "on": on, "st": st})


def test_a_detail_that_is_too_long_is_refused_and_fitted_by_leaving_out_regions() -> None:
    region = DetailRegion(x_px=1, y_px=2, width_px=3, height_px=4, area_px=5, peak=0.5)
    detail = Detail(
        boot=1, seq=1, trg=1, camera="camera1", frame=1, res=2, err=0, flg=0, rcp=1, rev=1, score=1.5, threshold=1.0,
        regions=[region] * 200,
    )  # fmt: skip

    with pytest.raises(ContractError, match="4096"):
        detail.to_json()
    fitted = detail.fitted()

    assert len(fitted.to_json()) <= 4096
    assert fitted.regions_left_out + len(fitted.regions) == 200
    assert Detail.from_json(fitted.to_json()) == fitted


def test_a_product_name_with_other_letters_is_escaped_to_ascii() -> None:
    message = RecipeMessage(rcp=1, rev=1, name="Gehäuse 😀", hash="ab12", thr=0.25, since=5)

    assert message.to_json().isascii()
    assert RecipeMessage.from_json(message.to_json()) == message


@given(st.text(max_size=200))
def test_every_text_becomes_a_part_id_that_a_result_takes(text: str) -> None:
    part = sanitise_part(text)

    assert Result(**{**RESULT, "part": part}).part == part
    assert sanitise_part(part) == part


def test_two_long_part_ids_that_begin_alike_stay_different() -> None:
    assert sanitise_part("x" * 40 + "1") != sanitise_part("x" * 40 + "2")
    assert len(sanitise_part("x" * 41)) == 32


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(score=FINITE, threshold=FINITE)
def test_scr_is_on_the_same_side_of_1000_as_the_score_of_the_threshold(score: float, threshold: float) -> None:
    scr = scale_score(score, threshold)

    assert I32_MIN <= scr <= I32_MAX
    assert (scr < 1000) == (score < threshold)


@pytest.mark.parametrize(("score", "threshold"), [(None, 1.0), (float("nan"), 1.0), (1.0, None), (1.0, float("inf"))])
def test_scr_without_a_finite_score_is_zero(score: float | None, threshold: float | None) -> None:
    assert scale_score(score, threshold) == 0


def test_scr_is_in_thousandths_of_the_threshold() -> None:
    assert [scale_score(score, 2.0) for score in (0.0, 1.0, 2.0, 5.0)] == [0, 500, 1000, 2500]


def test_seq_wraps_to_1_and_stays_newer_across_the_wrap() -> None:
    assert next_seq(U32_MAX) == 1
    assert seq_is_newer(1, U32_MAX)
    assert not seq_is_newer(U32_MAX, 1)
    assert not seq_is_newer(5, 5)


@given(st.integers(1, U32_MAX))
def test_the_next_seq_is_always_newer_and_never_the_other_way(seq: int) -> None:
    assert seq_is_newer(next_seq(seq), seq)
    assert not seq_is_newer(seq, next_seq(seq))


def test_the_time_of_exposure_is_cut_not_rounded() -> None:
    assert split_utc(datetime(2026, 1, 1, 0, 0, 1, 999_999, tzinfo=UTC)) == (1767225601, 999)
    assert split_utc(datetime(1960, 1, 1, tzinfo=UTC)) == (0, 0)
    assert split_utc(datetime(2200, 1, 1, tzinfo=UTC))[0] == U32_MAX


def test_each_command_reads_back_what_it_writes() -> None:
    fields: dict[str, dict[str, Any]] = {
        "select_recipe": {"rcp": 3, "rev": 2},
        "trigger": {"trg": 5, "part": "A1"},
        "confirm": {"alarm": 204},
    }
    for name, model in COMMANDS.items():
        message = model(cid=U32_MAX, **fields.get(name, {}))
        assert read_command(name, message.to_json(), retained=False) == message


def test_a_command_may_have_blanks_and_its_keys_in_any_order() -> None:
    command = read_command("select_recipe", b'{ "rcp": 3, "cid": 9, "v": 1 }', retained=False)

    assert command == SelectRecipe(cid=9, rcp=3)


@pytest.mark.parametrize(
    ("name", "payload", "retained", "code", "cid"),
    [
        ("trigger", b'{"v":1,"cid":4,"trg":1}', True, AckCode.RETAINED_REFUSED, 4),
        ("explode", b'{"v":1,"cid":4}', False, AckCode.UNKNOWN_COMMAND, 4),
        ("ping", b'{"v":2,"cid":4}', False, AckCode.SCHEMA, 4),
        ("ping", b'{"cid":4}', False, AckCode.SCHEMA, 4),
        ("trigger", b'{"v":1,"cid":4,"trg":0}', False, AckCode.BAD_PAYLOAD, 4),
        ("select_recipe", b'{"v":1,"cid":4}', False, AckCode.BAD_PAYLOAD, 4),
        ("ping", b'{"v":1,"cid":4,"x":1}', False, AckCode.BAD_PAYLOAD, 4),
        ("ping", b'{"v":1,"cid":true}', False, AckCode.BAD_PAYLOAD, 0),
        ("ping", b'{"v":1,"cid":4294967296}', False, AckCode.BAD_PAYLOAD, 0),
        ("ping", b"\xff", False, AckCode.BAD_PAYLOAD, 0),
        ("ping", b"[" * 900, False, AckCode.BAD_PAYLOAD, 0),
        ("ping", b'{"v":1,"cid":4}' + b" " * 2000, False, AckCode.BAD_PAYLOAD, 0),
    ],
)  # fmt: skip
def test_a_command_that_must_not_run_is_refused_with_its_code(
    name: str, payload: bytes, retained: bool, code: AckCode, cid: int
) -> None:
    refused = read_command(name, payload, retained=retained)

    assert isinstance(refused, RefusedCommand)
    assert (refused.code, refused.cid) == (code, cid)
    assert refused.reason


@pytest.mark.parametrize(("raw", "part"), [('"ä"'.encode(), "_"), (b'"\xe4"', "_"), (b'"a b/c"', "a_b_c"), (b'""', "")])
def test_a_trigger_with_an_odd_part_id_is_taken_and_the_id_made_safe(raw: bytes, part: str) -> None:
    message = read_command("trigger", b'{"v":1,"cid":4,"trg":9,"part":' + raw + b"}", retained=False)

    assert isinstance(message, Trigger)
    assert message.part == part


@given(st.sampled_from(sorted(COMMANDS)), st.binary(max_size=300), st.booleans())
def test_no_payload_whatsoever_raises(name: str, payload: bytes, retained: bool) -> None:
    assert read_command(name, payload, retained=retained) is not None
