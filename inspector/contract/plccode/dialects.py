"""How a PLC language writes what the templates say; the templates are structured text of IEC 61131-3.

May import the tables. Siemens SCL differs only lexically: local names carry `#`, block names stand in quotes, blocks
have a version and `BEGIN`, and standard functions name their parameters. So there is one source of each rule.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from inspector.contract.messages import U32_MAX
from inspector.contract.plccode.tables import PART_CHARACTERS, Number

DialectName = Literal["st", "scl"]

_TOKEN = re.compile(
    r"""(?P<comment>\(\*.*?\*\))
    | (?P<literal>\b(?:[A-Z]+\#)?(?:16\#[0-9A-Fa-f]+|\d+)\b)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<space>\s+)
    | (?P<sign>:=|<=|>=|<>|.)""",
    re.VERBOSE | re.DOTALL,
)
_DECLARED = re.compile(r"^ +(\w+) :", re.MULTILINE)
_HEADS = re.compile(r"^(FUNCTION_BLOCK|TYPE) (Vis1_\w+)( :)?$", re.MULTILINE)
_BLOCK_TYPE = re.compile(r"\bVis1_\w+\b")


@dataclass(frozen=True)
class Dialect:
    """One PLC language: the ending of its files, its clock, and how it is made from the templates' text."""

    name: DialectName
    suffix: str
    clock: str
    clock_max: int
    render: Callable[[str], str]
    shift_right: Callable[[str, int], str]


def _to_scl(text: str) -> str:
    """Turn one rendered template, which holds types or one function block, into SCL."""
    if "FUNCTION_BLOCK" not in text:
        return _quote_blocks(_with_versions(text))
    head, body = _split_at_the_body(text)
    names = {name.lower() for name in _DECLARED.findall(_without_comments(head))}
    return _quote_blocks(_with_versions(head)) + "BEGIN\n" + _mark_locals(body, names)


def _split_at_the_body(text: str) -> tuple[str, str]:
    end = text.rindex("END_VAR") + len("END_VAR\n")
    return text[:end], text[end:]


def _without_comments(text: str) -> str:
    return re.sub(r"\(\*.*?\*\)", lambda found: " " * len(found.group()), text, flags=re.DOTALL)


def _with_versions(text: str) -> str:
    def head(found: re.Match[str]) -> str:
        attribute = "\n{ S7_Optimized_Access := 'TRUE' }" if found.group(1) == "FUNCTION_BLOCK" else ""
        return f"{found.group(1)} {found.group(2)}{attribute}\nVERSION : 0.1"

    return _HEADS.sub(head, text).replace("END_STRUCT\n", "END_STRUCT;\n")


def _quote_blocks(text: str) -> str:
    pieces = re.split(r"(\(\*.*?\*\))", text, flags=re.DOTALL)
    return "".join(piece if piece.startswith("(*") else _BLOCK_TYPE.sub(r'"\g<0>"', piece) for piece in pieces)


def _mark_locals(body: str, names: set[str]) -> str:
    """Put `#` before each local name, but not before members (after a dot) nor the parameters that a call names."""
    words = [(found.lastgroup or "", found.group()) for found in _TOKEN.finditer(body)]
    marked: list[str] = []
    depth, before = 0, ""
    for place, (group, word) in enumerate(words):
        depth += (word == "(") - (word == ")")
        following = next((text for kind, text in words[place + 1 :] if kind not in ("space", "comment")), "")
        is_parameter = depth > 0 and following == ":="
        is_local = group == "name" and word.lower() in names and before != "." and not is_parameter
        marked.append(f"#{word}" if is_local else word)
        before = word if group not in ("space", "comment") else before
    return "".join(marked)


def _as_written(text: str) -> str:
    return text


DIALECTS: dict[str, Dialect] = {
    "st": Dialect(
        "st", ".st", "TIME_TO_UDINT(TIME())", U32_MAX, _as_written, lambda value, count: f"SHR({value}, {count})"
    ),
    "scl": Dialect(
        "scl",
        ".scl",
        "DINT_TO_UDINT(TIME_TO_DINT(TIME_TCK()))",
        2**31 - 1,
        _to_scl,
        lambda value, count: f"SHR(IN := {value}, N := {count})",
    ),
}


def bytes_of(text: str) -> str:
    """The characters of a text as byte literals."""
    return ", ".join(f"16#{code:02X}" for code in text.encode("ascii"))


def in_part_characters(name: str) -> str:
    """The condition that a character's code is one of those of a part id."""
    alternatives = (
        f"({name} = {first})" if first == last else f"(({name} >= {first}) AND ({name} <= {last}))"
        for first, last in PART_CHARACTERS
    )
    return " OR ".join(alternatives)


def from_bits(number: Number, source: str) -> str:
    """The conversion of a UDINT that the readers give to the type of the struct's member."""
    if number.iec_type == "UDINT":
        return source
    if number.iec_type == "DINT":
        return f"DWORD_TO_DINT(UDINT_TO_DWORD({source}))"
    if number.iec_type == "WORD":
        return f"UINT_TO_WORD(UDINT_TO_UINT({source}))"
    return f"UDINT_TO_{number.iec_type}({source})"
