"""Options that several subcommands share, written once."""

from pathlib import Path
from typing import Annotated

import typer

from inspector.errors import UsageError
from inspector.types import Align, Box, Tiles

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Configuration file (YAML) with the keys that differ from the defaults."),
]
AlignOption = Annotated[
    bool | None,
    typer.Option(
        "--align/--no-align",
        help="Find each part and bring it to where the first reference lies before it is inspected.",
    ),
]
MaxShiftOption = Annotated[
    float | None, typer.Option(help="With --align: how far a part may lie off, as a fraction of the picture (0.15).")
]
MaxTurnOption = Annotated[float | None, typer.Option(help="With --align: how far it may be turned, in degrees (15).")]
FoundByOption = Annotated[
    str | None,
    typer.Option(
        help="With --align: where the part lies in the first reference, left,top,width,height as fractions; default: the "
        "picture without a margin of --max-shift."
    ),
]
TilesOption = Annotated[
    str | None,
    typer.Option(
        help="See pictures that are larger than the model's input in ROWSxCOLUMNS tiles, 2 to 16; auto: as the size of the "
        "first reference asks for; none: at once."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")]


def numbers(text: str, option: str) -> list[int]:
    """Whole numbers from 1 on, separated by commas, ascending and each once.

    Raises:
        UsageError: none, or something else.
    """
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or found[0] < 1:
        raise UsageError(f"{option} is {text!r}; expected whole numbers from 1 on with commas, for example 1,4,16")
    return found


def align_wish(
    align: bool | None,
    max_shift: float | None,
    max_turn: float | None,
    found_by: str | None,
    before: Align | None = None,
) -> Align | None:
    """What the options wish of alignment; without them as it was `before`.

    Raises:
        UsageError: out of range, or limits of an alignment that there is none of.
    """
    base = before or Align() if align or (align is None and before is not None) else None
    if base is None:
        if (max_shift, max_turn, found_by) != (None, None, None):
            raise UsageError("--max-shift, --max-turn and --found-by belong to an alignment; give --align, too")
        return None
    try:
        return Align(
            base.max_shift if max_shift is None else max_shift,
            base.max_turn_deg if max_turn is None else max_turn,
            base.box if found_by is None else _box(found_by),
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def tiles_wish(text: str | None, before: Tiles | None = None) -> Tiles | None:
    """What `--tiles` wishes; without it as it was `before`.

    Raises:
        UsageError: not ROWSxCOLUMNS, or too many.
    """
    if text is None:
        return before
    if text in ("auto", "none"):
        return Tiles() if text == "auto" else None
    try:
        rows, columns = (int(side) for side in text.lower().split("x"))
        return Tiles(rows, columns)
    except ValueError as error:
        raise UsageError(
            f"--tiles is {text!r}; expected ROWSxCOLUMNS, for example 2x2, auto or none ({error})"
        ) from error


def _box(text: str) -> Box:
    try:
        left, top, width, height = (float(side) for side in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"--found-by is {text!r}; expected left,top,width,height, for example 0.2,0.1,0.6,0.8"
        ) from error
    return (left, top, width, height)
