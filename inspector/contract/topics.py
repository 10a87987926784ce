"""The topics of the contract below one base `{prefix}/vis1`; standard library and errors only.

Why a module of its own: nothing else puts a topic together from strings, so that renaming one is one change.
"""

from dataclasses import dataclass

from inspector.errors import ContractError

MAX_LEVELS = 10
MAX_LENGTH = 64

KINDS = (
    "result",
    "resultb",
    "state",
    "hb",
    "recipe",
    "last",
    "detail",
    "late",
    "stats",
    "alarm",
    "suspect",
    "ack",
    "disp",
)
"""Topics directly below the base; commands are `cmd/{name}`."""


@dataclass(frozen=True)
class Topics:
    """Every topic of one station.

    Raises:
        ContractError: the base would have more than 10 levels or 64 characters, an empty level or a wildcard.
    """

    prefix: str

    def __post_init__(self) -> None:
        levels = self.base.split("/")
        too_long = len(levels) > MAX_LEVELS or len(self.base) > MAX_LENGTH
        if too_long or any(not level or set(level) & set("+#$\0") for level in levels):
            raise ContractError(
                f"the base topic must have at most {MAX_LEVELS} non-empty levels and {MAX_LENGTH} characters "
                f"without + # $, but is {self.base!r}; shorten mqtt.prefix"
            )

    @property
    def base(self) -> str:
        return f"{self.prefix}/vis1"

    @property
    def result(self) -> str:
        return self.of("result")

    @property
    def state(self) -> str:
        return self.of("state")

    @property
    def hb(self) -> str:
        return self.of("hb")

    @property
    def recipe(self) -> str:
        return self.of("recipe")

    @property
    def last(self) -> str:
        return self.of("last")

    @property
    def detail(self) -> str:
        return self.of("detail")

    @property
    def late(self) -> str:
        return self.of("late")

    @property
    def alarm(self) -> str:
        return self.of("alarm")

    @property
    def suspect(self) -> str:
        return self.of("suspect")

    @property
    def ack(self) -> str:
        return self.of("ack")

    @property
    def cmd_filter(self) -> str:
        """Subscription that gets every command."""
        return f"{self.base}/cmd/+"

    def of(self, kind: str) -> str:
        """Topic of one of `KINDS`."""
        if kind not in KINDS:
            raise ContractError(f"the contract has no topic {kind!r}; it has {', '.join(KINDS)}")
        return f"{self.base}/{kind}"

    def cmd(self, name: str) -> str:
        """Topic of the command `name`."""
        return f"{self.base}/cmd/{name}"

    def kind(self, topic: str) -> str | None:
        """What stands below the base (`result`, `cmd/trigger`); None for one that is not of this station."""
        rest = topic.removeprefix(self.base + "/")
        return None if rest == topic else rest

    def command_name(self, topic: str) -> str | None:
        """`trigger` for `…/cmd/trigger`; None where the topic is no command of this station."""
        kind = self.kind(topic)
        return kind.removeprefix("cmd/") if kind is not None and kind.startswith("cmd/") else None
