"""From a part and what the detector says of it to the verdict that is stored and sent. No thread, no clock.

Only a finished, finite score of this very part below its threshold, in time, becomes OK.
"""

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from edge.parts import Part
from edge.state import ActiveRecipe
from inspector.contract.codes import ErrorCode, Flag, StationMode
from inspector.contract.messages import (
    U16_MAX,
    Detail,
    DetailRegion,
    Result,
    saturate,
    scale_score,
    split_utc,
)
from inspector.store.journal import VerdictRecord
from inspector.types import Inspection, Verdict


@dataclass(frozen=True, eq=False)
class Answer:
    """The verdict of one part before it has a number: `failure` is NONE only with a usable inspection."""

    part: Part
    active: ActiveRecipe | None
    inspection: Inspection | None
    failure: ErrorCode
    flags: Flag
    timings_ms: dict[str, float]

    @property
    def verdict(self) -> Verdict:
        if self.failure is not ErrorCode.NONE or self.inspection is None:
            return Verdict.NONE
        return self.inspection.verdict


@dataclass(frozen=True)
class Numbering:
    """What numbers a verdict: boot, seq, time since exposure, and where its picture will lie."""

    boot: int
    seq: int
    latency_ms: float
    image_path: str | None


def answer(
    part: Part, active: ActiveRecipe | None, inspection: Inspection | None, now_s: float, mode: StationMode
) -> Answer:
    """Decide a part; `now_s` is when scoring ended (monotonic)."""
    flags = Flag.SIMULATED if mode is StationMode.SIMULATION else Flag(0)
    failure = part.failure
    if not failure and (inspection is None or not isfinite(inspection.score)):
        failure = ErrorCode.INTERNAL
    if not failure and now_s > part.deadline_monotonic_s:
        failure, flags = ErrorCode.DEADLINE_MISSED, flags | Flag.LATE
    return Answer(part, active, inspection, failure, flags, {})


def result_of(given: Answer, numbering: Numbering) -> Result:
    """The message for the PLC."""
    part, scored = given.part, given.inspection
    ts, ms = split_utc(part.captured_at)
    return Result(
        boot=numbering.boot,
        seq=numbering.seq,
        trg=part.trigger,
        res=int(given.verdict),
        err=int(given.failure),
        flg=int(given.flags),
        rcp=given.active.rcp if given.active else 0,
        rev=given.active.rev if given.active else 0,
        scr=scale_score(scored.score, scored.threshold) if scored else 0,
        roi=0,
        lat=saturate(numbering.latency_ms, U16_MAX),
        ts=ts,
        ms=ms,
        part=part.part_id,
    )


def detail_of(given: Answer, numbering: Numbering) -> Detail:
    """Everything about the verdict, for MES and history."""
    part, scored, active = given.part, given.inspection, given.active
    finite = scored is not None and isfinite(scored.score)
    values: dict[str, Any] = {}
    if scored is not None and finite:
        keys = ("x_px", "y_px", "width_px", "height_px", "area_px", "peak")
        values = {
            "parts": asdict(scored.parts),
            "branches": list(scored.parts.branches),
            "regions": [DetailRegion(**{key: getattr(region, key) for key in keys}) for region in scored.regions],
        }
    return Detail(
        boot=numbering.boot,
        seq=numbering.seq,
        trg=part.trigger,
        camera=part.camera,
        frame=part.frame_id,
        part=part.part_id,
        res=int(given.verdict),
        err=int(given.failure),
        flg=int(given.flags),
        rcp=active.rcp if active else 0,
        rev=active.rev if active else 0,
        score=scored.score if scored and finite else None,
        threshold=scored.threshold if scored else None,
        calibration=active.detector.calibration.kind if active else "",
        calibration_n=active.detector.calibration.n if active else 0,
        image=numbering.image_path,
        encoder=active.detector.encoder.name if active else "",
        timings_ms={name: round(value, 3) for name, value in given.timings_ms.items()},
        captured_at=part.captured_at.isoformat(timespec="milliseconds"),
        **values,
    ).fitted()


def record_of(given: Answer, numbering: Numbering, result: Result) -> VerdictRecord:
    """The row, with its two messages for the outbox (`result` first)."""
    part, scored = given.part, given.inspection
    finite = scored is not None and isfinite(scored.score)
    detail = detail_of(given, numbering)
    return VerdictRecord(
        boot=numbering.boot,
        seq=numbering.seq,
        trg=part.trigger,
        camera=part.camera,
        frame_id=part.frame_id,
        part=part.part_id,
        verdict=int(given.verdict),
        err=int(given.failure),
        flg=int(given.flags),
        recipe_id=given.active.recipe_id if given.active else None,
        score=scored.score if scored and finite else None,
        threshold=scored.threshold if scored else None,
        roi=0,
        latency_ms=numbering.latency_ms,
        captured_at=part.captured_at,
        detail=detail.model_dump(mode="json") | _only_stored(part),
        regions=scored.regions if scored and finite else (),
        messages=(("result", result.to_json().decode()), ("detail", detail.to_json().decode())),
    )


def _only_stored(part: Part) -> dict[str, Any]:
    """What the row says beyond the message: why there is no verdict, and the size that regions are measured in."""
    reason = {"reason": part.reason} if part.reason else {}
    size = {} if part.image is None else {"image_size_px": [part.image.shape[1], part.image.shape[0]]}
    return reason | size
