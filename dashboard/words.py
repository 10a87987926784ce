"""The words, symbols and colours of the pages: one table for each thing, never colour alone.

May import the records of the core and the contract's codes only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any

from inspector.contract.codes import AckCode, ErrorCode, Flag, StationState
from inspector.contract.gate import Reason
from inspector.promises import interval
from inspector.types import Tiles, Verdict


@dataclass(frozen=True)
class Look:
    """How something is shown: a word, a symbol beside it, and a colour behind white letters (contrast ≥ 4.5)."""

    word: str
    symbol: str
    colour: str


GREEN, RED, AMBER, GREY, BLUE, INK = "#18794e", "#c4302b", "#9a5b00", "#626b76", "#1f5fae", "#1f2937"

VERDICTS: dict[Verdict, Look] = {
    Verdict.OK: Look("OK", "✓", GREEN),
    Verdict.NG: Look("NG", "✕", RED),
    Verdict.UNDECIDED: Look("UNDECIDED", "?", AMBER),
    Verdict.NONE: Look("NONE", "–", GREY),
}
VERDICT_ORDER = (Verdict.OK, Verdict.NG, Verdict.UNDECIDED, Verdict.NONE)

STATES: dict[StationState, Look] = {
    StationState.OFFLINE: Look("Offline", "■", RED),
    StationState.PREOPERATIONAL: Look("Starting", "◔", BLUE),
    StationState.HALTED: Look("Stopped", "■", AMBER),
    StationState.ERROR: Look("Fault", "✕", RED),
    StationState.INITIALIZED: Look("No product", "?", AMBER),
    StationState.READY: Look("Ready", "●", GREEN),
    StationState.SINGLE_EXECUTION: Look("Running", "●", GREEN),
    StationState.CONTINUOUS_EXECUTION: Look("Running", "●", GREEN),
    StationState.PREPARING: Look("Preparing", "◔", BLUE),
}
HELD = Look("Held", "✕", RED)
WORKER_AWAY = Look("Worker not running", "■", RED)

RECIPE_WORDS = {"queued": "waits for the worker", "building": "being built", "ready": "ready", "failed": "failed"}

ERRORS: dict[ErrorCode, str] = {
    ErrorCode.NONE: "",
    ErrorCode.CAMERA_LOST: "camera lost: check cable and power",
    ErrorCode.FRAME_TIMEOUT: "no picture came in time, or none that can be used",
    ErrorCode.FROZEN_FRAME: "the camera repeats an old picture",
    ErrorCode.MISSED_TRIGGER: "a trigger was missed",
    ErrorCode.TRIGGER_OVERRUN: "triggers came faster than the camera",
    ErrorCode.TOO_DARK: "the picture is too dark",
    ErrorCode.SATURATED: "the picture is too bright",
    ErrorCode.BLURRED: "the picture is blurred",
    ErrorCode.LIGHT_DRIFT: "the light has drifted",
    ErrorCode.SCORE_DRIFT: "the scores of accepted parts have drifted",
    ErrorCode.PART_NOT_FOUND: "no part was found in the picture",
    ErrorCode.CAMERA_MOVED: "the camera or the part has moved",
    ErrorCode.NO_RECIPE: "no product was active",
    ErrorCode.FINGERPRINT_MISMATCH: "the recipe was made for another encoder",
    ErrorCode.WRONG_PRODUCT: "the part looks like none of the references: another product?",
    ErrorCode.DEADLINE_MISSED: "the verdict would have come too late",
    ErrorCode.QUEUE_OVERFLOW: "too many parts were waiting",
    ErrorCode.PART_ID_TOO_LONG: "the part's id has no room in the PLC's binary form",
    ErrorCode.ABORTED: "the station stopped or changed its product meanwhile",
    ErrorCode.COMMUNICATION: "the connection failed",
    ErrorCode.CHALLENGE_OVERDUE: "the check with challenge parts is overdue",
    ErrorCode.CHALLENGE_FAILED: "the check with challenge parts failed",
    ErrorCode.REJECT_NOT_CONFIRMED: "the reject was not confirmed",
    ErrorCode.STORAGE: "the database or the disk failed",
    ErrorCode.DATABASE_RESTORED: "the database was damaged and has been replaced: check product and history",
    ErrorCode.DISK_LOW: "the disk is nearly full: pictures are removed",
    ErrorCode.HOUSEKEEPING: "backups or clean-up do not work",
    ErrorCode.CENTRAL_BEHIND: "the plant's database does not get the verdicts; the station keeps them",
    ErrorCode.INTERNAL: "a fault of the program",
    ErrorCode.CONFIGURATION: "the configuration is wrong: no part is inspected",
}

PLC_REASONS: dict[Reason, str] = {
    Reason.OK: "",
    Reason.MISSING: "no verdict came in time",
    Reason.WRONG_RECIPE: "the verdict was of another product",
    Reason.NOT_READY: "the station was not ready",
    Reason.NO_HEARTBEAT: "the heartbeat was missing",
    Reason.ERROR: "the verdict had an error code",
    Reason.BLOCKING_FLAG: "the verdict had a flag that blocks",
    Reason.NOT_OK: "the verdict was not OK",
}

ANSWERS: dict[AckCode, str] = {
    AckCode.DONE: "done",
    AckCode.ACCEPTED: "accepted",
    AckCode.DUPLICATE: "done already",
    AckCode.BAD_PAYLOAD: "refused: the worker could not read it",
    AckCode.UNKNOWN_COMMAND: "refused: the worker does not know it",
    AckCode.SCHEMA: "refused: it is of another version",
    AckCode.EXPIRED: "refused: it came too late",
    AckCode.RETAINED_REFUSED: "refused: it was an old message",
    AckCode.NOT_AUTHORISED: "refused: not authorised",
    AckCode.WRONG_STATE: "refused: not possible in this state of the station",
    AckCode.BUSY: "refused: the station is busy; try again",
    AckCode.UNKNOWN_RECIPE: "refused: the worker does not find this recipe",
    AckCode.NOT_APPROVED: "refused: the recipe is not approved",
    AckCode.PREPARE_FAILED: "failed: the recipe could not be loaded",
    AckCode.VERIFICATION_PENDING: "refused: a check with challenge parts is due first",
    AckCode.INTERNAL: "failed: a fault of the program, see its log",
}

CAUSES: dict[int, str] = {
    ErrorCode.LIGHT_DRIFT: "light",
    ErrorCode.BLURRED: "focus",
    ErrorCode.CAMERA_MOVED: "camera",
    ErrorCode.WRONG_PRODUCT: "product",
    ErrorCode.SCORE_DRIFT: "scores",
}
"""Short names of what drift can be caused by, for charts."""

COMMANDS: dict[str, str] = {
    "start": "start",
    "stop": "stop",
    "abort": "stop and give up what is in flight",
    "halt": "halt",
    "reset": "end the halt",
    "confirm": "confirm an alarm",
    "challenge_begin": "begin a challenge",
    "challenge_end": "end the challenge",
}

CHALLENGES: dict[str, Look] = {
    "passed": Look("passed", "✓", GREEN),
    "failed": Look("failed", "✕", RED),
    "running": Look("running", "◔", BLUE),
    "aborted": Look("given up", "–", GREY),
}

FLAGS: dict[Flag, str] = {
    Flag.SIMULATED: "simulated",
    Flag.CHALLENGE: "challenge part",
    Flag.LATE: "late",
    Flag.QUALITY_WARNING: "image-quality warning",
    Flag.REINSPECTED: "inspected again",
    Flag.PARTIAL: "partial",
    Flag.SHADOW: "shadow",
}


def error_words(code: int) -> str:
    """An error code in words, with its number; empty for 0."""
    if code == 0:
        return ""
    known = {int(error): text for error, text in ERRORS.items()}
    return f"{known.get(code, 'unknown fault')} ({code})"


def answer_words(code: int | None) -> str:
    """The final answer to a command in words."""
    known = {int(answer): text for answer, text in ANSWERS.items()}
    return "no answer yet" if code is None else known.get(code, f"answered with code {code}")


def flag_words(flags: int) -> str:
    """The flags of a verdict in words."""
    return ", ".join(text for flag, text in FLAGS.items() if flags & flag)


def age_words(age_s: float) -> str:
    """An age as people say it."""
    if age_s < 10:
        return f"{max(age_s, 0.0):.1f} s"
    for limit_s, unit_s, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if age_s < limit_s:
            return f"{age_s / unit_s:.0f} {unit}"
    return f"{age_s / 86_400:.0f} days"


def number(value: float | None, digits: int = 4) -> str:
    """A score or threshold with `digits` significant digits; a dash where there is none."""
    return "–" if value is None else f"{value:#.{digits}g}".rstrip(".")


def threshold_words(threshold: float | None, kind: str | None, n: int | None) -> str:
    """A threshold with what it rests on; "provisional" is never left out."""
    if threshold is None:
        return "no threshold yet"
    return f"threshold {threshold_value(threshold, kind, n)}"


def threshold_value(threshold: float | None, kind: str | None, n: int | None) -> str:
    """The number of a threshold with what it rests on; empty where there is none."""
    if threshold is None:
        return ""
    return f"{number(threshold)} ({kind or 'unknown origin'}, n = {'?' if n is None else n})"


def share(count: int, n: int) -> str:
    """A share with its 95 % confidence interval; empty where nothing was seen."""
    if n == 0:
        return ""
    low, high = interval(count, n)
    return f"{count} of {n}: {100 * count / n:.1f} % ({100 * low:.1f} to {100 * high:.1f} %)"


def counted(count: int, thing: str) -> str:
    """A number with its noun; `thing` is one of them."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def shift_start(now: datetime, shifts: Sequence[str]) -> datetime:
    """Begin of the running shift, in the time zone of `now`; `shifts` are times of the day (`06:00`) at which they begin."""
    times = [time.fromisoformat(at) for at in shifts]
    days = (now - timedelta(days=1), now)
    starts = [day.replace(hour=at.hour, minute=at.minute, second=0, microsecond=0) for day in days for at in times]
    return max(start for start in starts if start <= now)


def disposition_words(acc: int | None, rsn: int | None) -> str:
    """What the PLC did with a part; empty if it has not said."""
    if acc is None:
        return ""
    why = next((PLC_REASONS[reason] for reason in Reason if reason.number == rsn), "")
    return ("it passed" if acc else "rejected") + (f": {why}" if why else "")


def align_words(align: Mapping[str, Any] | None) -> str:
    """How far an aligned part may lie off; empty where parts are not aligned."""
    if align is None:
        return ""
    return f"up to {100 * align['max_shift']:.0f} % off, turned by up to {align['max_turn_deg']:.0f}°"


def tiles_words(tiles: Mapping[str, int] | None) -> str:
    """In how many tiles pictures are seen; empty where they are seen at once."""
    return "" if tiles is None else str(Tiles(**tiles))


def placement_words(placement: Mapping[str, float] | None) -> str:
    """Where an aligned part was found; empty where parts are not aligned."""
    if not placement:
        return ""
    x, y = (100 * placement[name] for name in ("shift_x", "shift_y"))
    return (
        f"{x:+.1f} % and {y:+.1f} % off, turned by {placement['turn_deg']:+.1f}°, likeness {placement['likeness']:.2f}"
    )
