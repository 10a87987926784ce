"""The numbers of the contract: errors, answers, station states, modes and flags. Imports nothing.

The values are those of `docs/plc-contract.md` and never change their meaning; the names follow its words.
"""

from enum import IntEnum, IntFlag


class ErrorCode(IntEnum):
    """Why a part has no verdict; 0 is none. The hundreds are the class of the fault."""

    NONE = 0
    CAMERA_LOST = 101
    FRAME_TIMEOUT = 102
    FROZEN_FRAME = 103
    MISSED_TRIGGER = 104
    TRIGGER_OVERRUN = 105
    TOO_DARK = 201
    SATURATED = 202
    BLURRED = 203
    LIGHT_DRIFT = 204
    SCORE_DRIFT = 205
    PART_NOT_FOUND = 301
    CAMERA_MOVED = 303
    NO_RECIPE = 401
    FINGERPRINT_MISMATCH = 402
    WRONG_PRODUCT = 403
    DEADLINE_MISSED = 501
    QUEUE_OVERFLOW = 502
    ABORTED = 503
    COMMUNICATION = 600
    PART_ID_TOO_LONG = 601
    CHALLENGE_OVERDUE = 701
    CHALLENGE_FAILED = 702
    REJECT_NOT_CONFIRMED = 703
    STORAGE = 800
    DATABASE_RESTORED = 801
    DISK_LOW = 802
    HOUSEKEEPING = 803
    CENTRAL_BEHIND = 804
    INTERNAL = 900
    CONFIGURATION = 901


class AckCode(IntEnum):
    """Answer to a command. 1 is the first of two answers, every other one is final."""

    DONE = 0
    ACCEPTED = 1
    DUPLICATE = 2
    BAD_PAYLOAD = 10
    UNKNOWN_COMMAND = 11
    SCHEMA = 12
    EXPIRED = 13
    RETAINED_REFUSED = 14
    NOT_AUTHORISED = 15
    WRONG_STATE = 20
    BUSY = 21
    UNKNOWN_RECIPE = 30
    NOT_APPROVED = 31
    PREPARE_FAILED = 32
    VERIFICATION_PENDING = 33
    INTERNAL = 99

    @property
    def is_final(self) -> bool:
        return self is not AckCode.ACCEPTED


class StationState(IntEnum):
    """State of the station after OPC 40100-1; OFFLINE only ever comes from the last will or a clean stop."""

    OFFLINE = 0
    PREOPERATIONAL = 1
    HALTED = 2
    ERROR = 3
    INITIALIZED = 4
    READY = 5
    SINGLE_EXECUTION = 6
    CONTINUOUS_EXECUTION = 7
    PREPARING = 8

    @property
    def can_inspect(self) -> bool:
        """Whether a verdict given in this state may let a part pass."""
        return self in (StationState.READY, StationState.SINGLE_EXECUTION, StationState.CONTINUOUS_EXECUTION)


class StationMode(IntEnum):
    """What the station's verdicts are for."""

    PRODUCTION = 0
    SIMULATION = 1
    CHALLENGE = 2
    TEACH = 3
    SHADOW = 4


class Flag(IntFlag):
    """Bits of `flg`; those without a meaning yet block a part like the blocking ones."""

    SIMULATED = 1
    CHALLENGE = 2
    LATE = 4
    QUALITY_WARNING = 8
    REINSPECTED = 16
    PARTIAL = 32
    SHADOW = 64


PASSING_FLAGS = Flag.QUALITY_WARNING | Flag.REINSPECTED
"""The only flags a part may carry and still pass; every other bit blocks it."""
