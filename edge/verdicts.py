"""From a part and what the detector says of it to the one verdict: the row, the message for the PLC, and the detail.

May import the contract, the store's record and `parts`. Pure functions: the only place where an OK can come from, and
it comes only from a completed finite score in time.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import isfinite

from edge.parts import Part
from edge.state import ActiveRecipe
from inspector.contract.codes import ErrorCode, Flag
from inspector.contract.messages import Detail, DetailRegion, Result, scale_score, split_utc
from inspector.refusals import refusal
from inspector.store.journal import VerdictRecord
from inspector.types import Inspection, Placement, Region, Verdict

REASON_LENGTH = 200
NO_FLAG = Flag(0)


@dataclass(frozen=True, eq=False)
class Answer:
    """The verdict of one part. `active` and `inspection` are None where nothing was scored."""

    part: Part
    verdict: Verdict
    err: ErrorCode
    reason: str = ""
    flags: Flag = NO_FLAG
    active: ActiveRecipe | None = None
    inspection: Inspection | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Statement:
    """An answer with its number, in all the forms that leave the station."""

    answer: Answer
    seq: int
    boot: int
    image_path: str | None = None

    @property
    def result(self) -> Result:
        """The message for the PLC; `lat` is set when it is sent."""
        answer, part = self.answer, self.answer.part
        ts, ms = split_utc(part.captured_at)
        score, threshold = self._numbers
        return Result(
            boot=self.boot,
            seq=self.seq,
            trg=part.trigger,
            res=int(answer.verdict),
            err=int(answer.err),
            flg=int(answer.flags),
            rcp=0 if answer.active is None else answer.active.rcp,
            rev=0 if answer.active is None else answer.active.rev,
            scr=scale_score(score, threshold),
            roi=self._roi,
            lat=0,
            ts=ts,
            ms=ms,
            part=part.part_id,
        )

    @property
    def detail(self) -> Detail:
        """Everything about the verdict, cut to what one message may hold."""
        answer, part, inspection = self.answer, self.answer.part, self.answer.inspection
        score, threshold = self._numbers
        calibration = None if answer.active is None else answer.active.detector.calibration
        return Detail(
            boot=self.boot,
            seq=self.seq,
            trg=part.trigger,
            camera=part.camera,
            frame=part.frame_id,
            part=part.part_id,
            res=int(answer.verdict),
            err=int(answer.err),
            flg=int(answer.flags),
            rcp=0 if answer.active is None else answer.active.rcp,
            rev=0 if answer.active is None else answer.active.rev,
            score=score,
            threshold=threshold,
            calibration="" if calibration is None else calibration.kind,
            calibration_n=0 if calibration is None else calibration.n,
            false_reject_rate=None if calibration is None else calibration.rate,
            false_reject_bound=None if calibration is None else calibration.bound,
            reason=answer.reason.encode("ascii", "replace").decode()[:REASON_LENGTH],
            parts={} if inspection is None else _finite(asdict(inspection.parts)),
            branches=[] if inspection is None else list(inspection.parts.branches),
            contributions={} if inspection is None else _finite(inspection.contributions),
            placement={} if inspection is None else _placement(inspection.placement),
            regions=[] if inspection is None else [_region(region) for region in inspection.regions],
            image=self.image_path,
            encoder="" if answer.active is None else answer.active.detector.encoder.name,
            timings_ms={name: round(value, 2) for name, value in answer.timings_ms.items()},
            captured_at=part.captured_at.isoformat(timespec="milliseconds"),
        ).fitted()

    def record(self, now_monotonic_s: float) -> VerdictRecord:
        """The row, with its two messages for the outbox."""
        answer, part = self.answer, self.answer.part
        score, threshold = self._numbers
        detail = self.detail
        return VerdictRecord(
            boot=self.boot,
            seq=self.seq,
            trg=part.trigger,
            camera=part.camera,
            frame_id=part.frame_id,
            part=part.part_id,
            verdict=int(answer.verdict),
            err=int(answer.err),
            flg=int(answer.flags),
            recipe_id=None if answer.active is None else answer.active.recipe_id,
            score=score,
            threshold=threshold,
            roi=self._roi,
            latency_ms=max(0.0, (now_monotonic_s - part.captured_monotonic_s) * 1000),
            captured_at=part.captured_at,
            unseen=part.unseen,
            detail=detail.model_dump(mode="json") | _image_size(part),
            regions=() if answer.inspection is None else answer.inspection.regions,
            messages=(("result", self.result.to_json().decode()), ("detail", detail.to_json().decode())),
        )

    def not_stored(self) -> "Statement":
        """The same part when its verdict cannot be stored: NONE (8xx), whatever its score."""
        reason = "the verdict could not be stored"
        failed = replace(self.answer, verdict=Verdict.NONE, err=ErrorCode.STORAGE, reason=reason)
        return replace(self, answer=failed)

    @property
    def _roi(self) -> int:
        """Regions of interest that are over the threshold; none where the part has no score that counts."""
        inspection = self.answer.inspection
        return (
            0
            if inspection is None or self.answer.verdict not in (Verdict.NG, Verdict.UNDECIDED)
            else inspection.roi_mask
        )

    @property
    def _numbers(self) -> tuple[float | None, float | None]:
        inspection = self.answer.inspection
        if inspection is None:
            return None, None
        return (inspection.score if isfinite(inspection.score) else None), inspection.threshold


def refuse(part: Part, err: ErrorCode, reason: str = "") -> Answer:
    """NONE: the part was not scored."""
    return Answer(part, Verdict.NONE, err, reason or part.reason)


def judge(part: Part, inspection: Inspection | None, active: ActiveRecipe, *, now_monotonic_s: float) -> Answer:
    """The answer to a part that went through the detector; None is a part that the detector could not take."""
    if inspection is None:
        return Answer(part, Verdict.NONE, ErrorCode.INTERNAL, "the detector failed on this picture", active=active)
    scored = Answer(part, inspection.verdict, ErrorCode.NONE, active=active, inspection=inspection)
    looks = active.detector.looks
    err, reason = refusal(part.measures, inspection.placement, looks)
    if err is not ErrorCode.NONE:
        return replace(scored, verdict=Verdict.NONE, err=err, reason=reason)
    finite = isfinite(inspection.score) and isfinite(inspection.threshold)
    if inspection.verdict is Verdict.NONE or not finite:
        return replace(scored, verdict=Verdict.NONE, err=ErrorCode.INTERNAL, reason="the score is not a finite number")
    if now_monotonic_s > part.deadline_monotonic_s:
        late = "the score came after the part's budget was over"
        return replace(scored, verdict=Verdict.NONE, err=ErrorCode.DEADLINE_MISSED, reason=late, flags=Flag.LATE)
    if inspection.verdict is Verdict.NG and inspection.novelty > looks.wrong_novelty:
        return replace(scored, err=ErrorCode.WRONG_PRODUCT, reason="the part looks like none of the references")
    return scored


def held(answer: Answer, hold: ErrorCode) -> Answer:
    """The answer as it may leave a station that is held: NONE with the reason's code, for all but known parts."""
    if hold is ErrorCode.NONE or answer.part.challenge or answer.err is not ErrorCode.NONE:
        return answer
    reason = "the station is held: no challenge has passed since one failed, or was due"
    return replace(answer, verdict=Verdict.NONE, err=hold, reason=reason)


def _image_size(part: Part) -> dict[str, list[int]]:
    """The size that regions are measured in; the row says it, the message need not."""
    return {} if part.image is None else {"image_size_px": [part.image.shape[1], part.image.shape[0]]}


def _finite(parts: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in parts.items() if value is not None and isfinite(value)}


def _placement(place: Placement | None) -> dict[str, float]:
    """Where the part was found, for the MES."""
    names = ("shift_x", "shift_y", "turn_deg", "likeness")
    return {} if place is None else {name: round(getattr(place, name), 4) for name in names}


def _region(region: Region) -> DetailRegion:
    return DetailRegion(**{name: getattr(region, name) for name in DetailRegion.model_fields})
