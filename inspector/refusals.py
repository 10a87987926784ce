"""Why a picture says nothing of its part, as a code of the contract. The line and `inspector evaluate` ask the same.

May import the codes, `drift` and the records of the core.
"""

from inspector.contract.codes import ErrorCode
from inspector.drift import Looks, Measures
from inspector.types import Fit, Placement

BLIND = {"dark": ErrorCode.TOO_DARK, "saturated": ErrorCode.SATURATED, "blurred": ErrorCode.BLURRED}
"""Code of each reason for which `Looks.refusal` refuses a picture."""

MISPLACED = {Fit.NOT_FOUND: ErrorCode.PART_NOT_FOUND, Fit.AWAY: ErrorCode.CAMERA_MOVED}
"""Code of a part that is not where it may lie."""


def refusal(measures: Measures | None, placement: Placement | None, looks: Looks) -> tuple[ErrorCode, str]:
    """Code and reason: too little to see in the picture, or no part where it may lie; (NONE, "") if it can be judged."""
    blind = "" if measures is None else looks.refusal(measures)
    if blind:
        return BLIND[blind], f"nothing can be seen: the picture is {blind}, unlike all references"
    if placement is not None and placement.fit is not Fit.FOUND:
        return MISPLACED[placement.fit], placement.reason
    return ErrorCode.NONE, ""
