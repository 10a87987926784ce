"""What each key of the messages means, once, for the AsyncAPI document and the comments of the generated PLC code.

May import nothing of the project but the messages' classes. A key that means something else in one message has an
entry for that message; a test asks that no key is without a meaning.
"""

from pydantic import BaseModel

_MEANINGS = {
    "v": "version of the contract",
    "boot": "one more at each start of the worker",
    "seq": "one more per verdict of this boot; after 4294967295 comes 1",
    "trg": "the PLC's trigger counter, echoed; 0 = free running",
    "res": "0 NONE, 1 OK, 2 NG, 3 UNDECIDED; only 1 may pass",
    "err": "0, or the error code; then res is 0 or 2",
    "flg": "bit 0 simulated, 1 challenge part, 2 late, 3 image-quality warning, 4 re-inspected, 5 partial, 6 shadow",
    "rcp": "index of the product that was really used",
    "rev": "revision of the product that was really used",
    "scr": "anomaly score; 1000 is the threshold, higher is worse",
    "roi": "bit mask of the regions of interest that are NG",
    "lat": "ms from exposure to publishing; 65535 = more",
    "ts": "UTC seconds of the exposure",
    "ms": "milliseconds of the exposure",
    "part": "part id",
    "on": "1, or 0 in the last will and after a clean stop",
    "st": "0 offline, 1 preoperational, 2 halted, 3 error, 4 initialized (no product), 5 ready, 6 single execution, "
    "7 continuous execution, 8 preparing",
    "mode": "0 production, 1 simulation, 2 challenge, 3 teach, 4 shadow",
    "win": "ms after which a verdict is never sent on result",
    "hbp": "ms between two heartbeats",
    "cid": "number of the command, chosen by the sender; the same number runs once",
    "cmd": "name of the command",
    "code": "0 done, 1 accepted, 2 duplicate; 10 bad payload, 11 unknown, 12 schema, 13 expired, 14 retained refused, "
    "15 not authorised; 20 wrong state, 21 busy; 30 unknown recipe, 31 not approved, 32 prepare failed, "
    "33 verification pending; 99 internal",
    "name": "name of the product",
    "hash": "SHA-256 of the bank",
    "thr": "raw threshold",
    "cal": "what the threshold rests on",
    "rate": "false rejects that the threshold promises; null = nothing",
    "bound": "what they do not exceed with 95 % confidence; null = nothing is promised",
    "false_reject_rate": "false rejects that the threshold promises; null = nothing",
    "false_reject_bound": "what they do not exceed with 95 % confidence; null = nothing is promised",
    "since": "UTC seconds",
    "camera": "name of the camera",
    "frame": "number of the frame",
    "score": "anomaly score; null where nothing was scored",
    "threshold": "threshold; null where nothing was scored",
    "calibration": "what the threshold rests on",
    "calibration_n": "how many parts the threshold rests on",
    "reason": "why there is no verdict, in words",
    "parts": "score of each branch",
    "branches": "branches that were run",
    "contributions": "what each branch adds to the score",
    "placement": "where an aligned part was found: shift_x, shift_y (fractions of the picture), turn_deg clockwise, likeness",
    "regions": "defect regions, the worst first",
    "regions_left_out": "regions for which the message had no room",
    "image": "where the picture lies, below the data folder",
    "encoder": "image tower",
    "timings_ms": "milliseconds per step",
    "captured_at": "UTC of the exposure, ISO 8601",
    "x_px": "left edge",
    "y_px": "upper edge",
    "width_px": "width",
    "height_px": "height",
    "area_px": "pixels above the threshold",
    "peak": "largest value of the anomaly map",
    "alarms": "alarms that stand",
    "more": "alarms for which the message had no room",
    "src": "name of the camera, or empty",
    "txt": "the alarm in words",
    "conf": "1 once somebody has confirmed it",
    "alarm": "error code of the alarm",
    "ch": "number of the challenge that failed; 0 if one is overdue",
    "page": "number of this page, from 1",
    "pages": "how many pages there are",
    "set": "number of the challenge set",
    "pic": "1: its kept pictures are inspected instead of parts",
    "minute": "parts of the last full minute",
    "shift": "parts since the shift began",
    "p50": "median of the latencies of that minute in ms, from exposure to verdict; null = no part came",
    "p99": "their 99th percentile",
    "ok": "parts with res 1",
    "ng": "parts with res 2",
    "und": "parts with res 3",
    "none": "parts with res 0",
    "acc": "1 the part passed, 0 it was rejected",
    "rsn": "1 ok, 2 missing, 3 wrong recipe, 4 station not ready, 5 no heartbeat, 6 error, 7 blocking flag, 8 not ok",
    "Ack.lat": "ms since the command came",
    "State.ts": "UTC seconds",
    "State.rcp": "index of the active product; 0 = none",
    "State.rev": "revision of the active product; 0 = none",
    "State.err": "error code of the station; 0 = none",
    "Ack.err": "error code of the station; 0 = none",
    "Stats.ts": "UTC seconds",
    "Stats.since": "UTC seconds at which the shift began",
    "Stats.rate": "parts per minute since the shift began",
    "Heartbeat.n": "counts the heartbeats",
    "Heartbeat.age": "ms since the last new frame",
    "Heartbeat.q": "parts that wait",
    "Heartbeat.seq": "seq of the last verdict",
    "RecipeMessage.rcp": "index of the active product",
    "RecipeMessage.rev": "its revision",
    "RecipeMessage.n": "how many parts the threshold rests on",
    "SelectRecipe.rcp": "index of the wanted product",
    "SelectRecipe.rev": "its revision; without it the newest",
    "Alarm.err": "error code of the alarm; its name in the command confirm",
    "Suspects.err": "why they are in doubt: 701, 702",
    "Suspects.parts": "the parts of this page",
    "SuspectPart.trg": "trigger of the part",
    "Counters.n": "parts",
    "Disposition.trg": "the trigger whose part this is",
    "Disposition.boot": "boot of the verdict; 0 = none came in time",
    "Disposition.seq": "seq of the verdict; 0 = none came in time",
}


def meaning(model: type[BaseModel], key: str) -> str:
    """What `key` says in messages of `model`.

    Raises:
        LookupError: nobody has written it down.
    """
    text = _MEANINGS.get(f"{model.__name__}.{key}") or _MEANINGS.get(key)
    if text is None:
        raise LookupError(f"{model.__name__}.{key} has no meaning yet; write one into meanings.py")
    return text
