"""Every error that this project raises on purpose.

    InspectorError                  exit code 1
    ├── UsageError                  2   what the user asked for cannot be done as asked
    │   ├── ConfigError             2   configuration file or environment
    │   ├── ImageError              2   a picture that cannot be used
    │   └── AccessError             2   not allowed to who asks
    │       └── LoggedOutError      2   nobody is logged in
    ├── EncoderError                3   model, weights or device
    │   └── EncoderMismatchError    3   made for another encoder
    ├── BankError                   3   a residual bank that cannot be used
    │   ├── BankCorruptError        3   truncated, foreign, or not finite
    │   └── BankMismatchError       3   built by another encoder
    ├── CalibrationError            3   no honest threshold from these scores
    ├── StoreError                  4   database
    │   ├── SchemaError             4   not upgraded, or newer than this program
    │   └── NotFoundError           4   product, recipe or row that is not there
    ├── CameraError                 5   acquisition
    │   ├── CameraLostError         5   gone, unplugged or never there
    │   └── CameraTimeoutError      5   no frame in time
    ├── BrokerError                 6   MQTT
    │   └── ContractError           6   a message that does not fit the contract
    └── StationError                7   another worker holds the station, or it cannot start

The message is one sentence (or two) for the user: what, expected, actual, what to do. Errors of other libraries are
turned into these where they enter; `exit_code` is what the command line returns.
"""


class InspectorError(Exception):
    """Base of all errors raised on purpose; its text is meant for the user."""

    exit_code = 1


class UsageError(InspectorError):
    """What was asked for cannot be done as asked."""

    exit_code = 2


class ConfigError(UsageError):
    """The configuration file or environment is wrong; the text names file, line and key."""


class ImageError(UsageError):
    """A picture cannot be read, or has a size or type that cannot be inspected."""


class AccessError(UsageError):
    """Who asks may not do this; the text says which role may."""


class LoggedOutError(AccessError):
    """Nobody is logged in: never, not any more, or the user was removed."""


class EncoderError(InspectorError):
    """The image tower cannot be built, loaded or run."""

    exit_code = 3


class EncoderMismatchError(EncoderError):
    """Something was made for another encoder than the one that is loaded."""


class BankError(InspectorError):
    """A residual bank cannot be used."""

    exit_code = 3


class BankCorruptError(BankError):
    """The file is truncated, not a bank, or holds non-finite values."""


class BankMismatchError(BankError):
    """The bank was built by another encoder, with other taps, or at another image size."""


class CalibrationError(InspectorError):
    """No honest threshold can be given from these scores."""

    exit_code = 3


class StoreError(InspectorError):
    """The database cannot be reached, read or written."""

    exit_code = 4


class SchemaError(StoreError):
    """The database has not been upgraded, or belongs to a newer program."""


class NotFoundError(StoreError):
    """A product, recipe, station or verdict that is asked for does not exist."""


class CameraError(InspectorError):
    """A camera fails."""

    exit_code = 5


class CameraLostError(CameraError):
    """The camera is gone, unplugged or was never there."""


class CameraTimeoutError(CameraError):
    """No frame came in time; the camera may still be alive."""


class NotApprovedError(StoreError):
    """A revision would let a confirmed defect pass, and nobody has overridden it with a reason."""


class BrokerError(InspectorError):
    """The MQTT broker cannot be reached or refuses us."""

    exit_code = 6


class ContractError(BrokerError):
    """A message does not fit the contract with the PLC."""


class StationError(InspectorError):
    """The station cannot start: another worker holds it, or its state is not usable."""

    exit_code = 7
