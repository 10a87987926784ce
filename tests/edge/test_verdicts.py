"""Only a completed finite score in time becomes OK; every form of a verdict says the same."""

import json
from dataclasses import replace
from math import inf, nan

import pytest

from edge.verdicts import Answer, Statement, held, judge, refuse
from inspector.contract.codes import ErrorCode, Flag
from inspector.contract.messages import Detail, Result
from inspector.drift import Looks, Measures
from inspector.types import Fit, Inspection, Placement, Region, Verdict
from tests.edge.detector_stub import StubDetector, active, inspection
from tests.edge.part_maker import failed, part

REGION = Region(1, 2, 3, 4, 5, 0.1, 2.0, 3.0, 0.9, 0.2, 2.5, 3.5)


def _judge(found: Inspection | None, *, now: float = 0.5) -> Answer:
    return judge(part(1, deadline_s=1.0), found, active(), now_monotonic_s=now)


@pytest.mark.parametrize(("score", "verdict"), [(0.2, Verdict.OK), (1.0, Verdict.NG), (7.0, Verdict.NG)])
def test_a_finite_score_in_time_gives_its_verdict(score: float, verdict: Verdict) -> None:
    answer = _judge(inspection(score))
    assert (answer.verdict, answer.err) == (verdict, ErrorCode.NONE)


@pytest.mark.parametrize("score", [nan, inf, -inf])
def test_a_score_that_is_not_finite_is_never_a_verdict(score: float) -> None:
    answer = _judge(inspection(score))
    assert (answer.verdict, answer.err) == (Verdict.NONE, ErrorCode.INTERNAL)


def test_a_picture_that_the_detector_fails_on_is_none() -> None:
    assert _judge(None).err is ErrorCode.INTERNAL


@pytest.mark.parametrize(
    ("fit", "err"), [(Fit.NOT_FOUND, ErrorCode.PART_NOT_FOUND), (Fit.AWAY, ErrorCode.CAMERA_MOVED)]
)
def test_a_part_that_is_not_where_it_may_lie_is_none_with_its_code_and_place(fit: Fit, err: ErrorCode) -> None:
    place = Placement(0.2, -0.01, 3.0, 0.8, fit, "the part lies elsewhere")
    answer = _judge(replace(inspection(nan), placement=place))
    record = Statement(answer, 1, 1).record(0.6)
    assert (answer.verdict, answer.err, answer.reason) == (Verdict.NONE, err, "the part lies elsewhere")
    assert (record.score, record.detail["reason"]) == (None, "the part lies elsewhere")
    assert record.detail["placement"] == {"shift_x": 0.2, "shift_y": -0.01, "turn_deg": 3.0, "likeness": 0.8}


def test_a_part_that_was_found_is_judged_by_its_score() -> None:
    place = Placement(0.1, 0.0, 3.0, 0.9)
    assert _judge(replace(inspection(0.2), placement=place)).verdict is Verdict.OK
    assert _judge(replace(inspection(1.5), placement=place)).verdict is Verdict.NG
    assert _judge(replace(inspection(nan), placement=place)).err is ErrorCode.INTERNAL


def test_a_good_score_that_comes_too_late_is_recorded_but_lets_nothing_pass() -> None:
    answer = _judge(inspection(0.2), now=1.01)
    assert (answer.verdict, answer.err, answer.flags) == (Verdict.NONE, ErrorCode.DEADLINE_MISSED, Flag.LATE)
    assert Statement(answer, 1, 1).record(1.01).score == 0.2


def test_row_result_and_detail_say_the_same() -> None:
    found = replace(inspection(1.5), regions=(REGION,))
    statement = Statement(_judge(found), 5, 7, image_path="images/x.jpg")
    record, result = statement.record(0.6), statement.result
    (result_topic, result_json), (detail_topic, detail_json) = record.messages
    assert (result_topic, detail_topic) == ("result", "detail")
    assert Result.from_json(result_json.encode()) == result
    detail = Detail.from_json(detail_json.encode())
    assert (result.boot, result.seq, result.res, result.rcp, result.rev, result.scr) == (7, 5, 2, 3, 2, 1500)
    assert (record.boot, record.seq, record.verdict, record.recipe_id, record.score) == (7, 5, 2, 11, 1.5)
    assert (detail.seq, detail.res, detail.score, detail.branches, detail.image) == (
        5,
        2,
        1.5,
        ["visual"],
        "images/x.jpg",
    )
    assert (detail.calibration, detail.calibration_n, detail.encoder) == ("provisional", 4, "stub")
    assert [region.area_px for region in detail.regions] == [5]
    assert record.regions == (REGION,)
    assert record.detail["image_size_px"] == [2, 2]
    assert record.latency_ms == pytest.approx(600)


def test_a_part_that_was_not_scored_names_no_recipe_and_no_score() -> None:
    statement = Statement(refuse(failed(1), ErrorCode.CAMERA_LOST), 1, 1)
    assert (statement.result.res, statement.result.err, statement.result.rcp) == (0, ErrorCode.CAMERA_LOST, 0)
    assert statement.record(0.0).score is None
    assert json.loads(statement.record(0.0).messages[1][1])["reason"] == "broken"


def test_a_verdict_that_cannot_be_stored_becomes_none_whatever_its_score() -> None:
    statement = Statement(_judge(inspection(0.2)), 1, 1).not_stored()
    assert (statement.result.res, statement.result.err) == (0, ErrorCode.STORAGE)


def test_a_detail_with_very_many_regions_still_fits_its_message() -> None:
    found = replace(inspection(1.5), regions=(REGION,) * 500)
    record = Statement(_judge(found), 1, 1).record(0.0)
    assert len(record.messages[1][1]) <= 4096
    assert len(record.regions) == 500


def test_a_reason_in_any_script_fits_the_ascii_message() -> None:
    statement = Statement(refuse(failed(1), ErrorCode.FRAME_TIMEOUT, "Bild fehlt: übel " * 50), 1, 1)
    assert len(statement.detail.reason) == 200


def _looking_like(level: float, novelty: float, score: float) -> Answer:
    looks = Looks((Measures(100.0, 40.0, 300.0, 0.0, 0.0),), (0.004, 0.004))
    detector = StubDetector(lambda _: score, looks=looks)
    shown = replace(part(1, deadline_s=1.0), measures=Measures(level, 40.0, 300.0, 0.0, 0.0))
    found = replace(inspection(score), novelty=novelty)
    return judge(shown, found, active(detector=detector), now_monotonic_s=0.5)


def test_a_picture_in_which_nothing_can_be_seen_is_none_whatever_its_score() -> None:
    answer = _looking_like(level=5.0, novelty=0.0, score=0.2)
    assert (answer.verdict, answer.err) == (Verdict.NONE, ErrorCode.TOO_DARK)


def test_a_rejected_part_that_looks_like_no_reference_says_wrong_product() -> None:
    answer = _looking_like(level=100.0, novelty=0.3, score=4.0)
    assert (answer.verdict, answer.err) == (Verdict.NG, ErrorCode.WRONG_PRODUCT)
    assert _looking_like(level=100.0, novelty=0.01, score=4.0).err is ErrorCode.NONE


def test_a_held_station_accepts_nothing_but_still_judges_known_parts() -> None:
    answer = held(_judge(inspection(0.2)), ErrorCode.CHALLENGE_FAILED)
    assert (answer.verdict, answer.err) == (Verdict.NONE, ErrorCode.CHALLENGE_FAILED)
    known = replace(_judge(inspection(0.2)), part=replace(part(1), challenge=True))
    assert held(known, ErrorCode.CHALLENGE_FAILED).verdict is Verdict.OK


def test_regions_of_interest_over_the_threshold_are_bits_of_the_result() -> None:
    found = replace(inspection(1.5), rois=(0.2, 1.5, 1.0))
    statement = Statement(_judge(found), 1, 1)
    assert statement.result.roi == statement.record(0.6).roi == 0b110
    assert Statement(_judge(replace(found, verdict=Verdict.OK, score=0.5)), 1, 1).result.roi == 0
