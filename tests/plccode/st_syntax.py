"""Reads structured text (IEC 61131-3, the subset that the generator writes) and Siemens SCL into a tree.

Written for the tests: it knows only what is allowed in the generated programs, and refuses everything else: no WHILE,
no REPEAT (so that every loop is bounded), no pointers, no names that a PLC tool reserves.
"""

import re
from dataclasses import dataclass, field


class StError(Exception):
    """The text is not of the subset, or its types do not fit."""


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    line: int


_PATTERN = re.compile(
    r"""(?P<space>\s+)
    | (?P<comment>\(\*.*?\*\))
    | (?P<pragma>\{[^}]*\})
    | (?P<number>(?:[A-Z]+\#)?(?:16\#[0-9A-Fa-f]+|[0-9]+))
    | (?P<quoted>"[A-Za-z_][A-Za-z0-9_]*")
    | (?P<local>\#[A-Za-z_][A-Za-z0-9_]*)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<sign>:=|<=|>=|<>|\.\.|[-+*/=<>()\[\],;:.])""",
    re.VERBOSE | re.DOTALL,
)
_KEYWORDS = """
FUNCTION_BLOCK END_FUNCTION_BLOCK TYPE END_TYPE STRUCT END_STRUCT VAR VAR_INPUT VAR_OUTPUT VAR_IN_OUT END_VAR ARRAY OF
IF THEN ELSIF ELSE END_IF CASE END_CASE FOR TO BY DO END_FOR EXIT RETURN AND OR XOR NOT MOD TRUE FALSE BEGIN VERSION
"""
_RESERVED = """
ACTION END_ACTION STEP END_STEP TRANSITION PROGRAM FUNCTION METHOD PROPERTY CONFIGURATION RESOURCE TASK WITH ON INTERVAL
PRIORITY SINGLE RETAIN CONSTANT AT BIT WHILE REPEAT UNTIL CONTINUE GOTO JMP CAL RET LD LIMIT MAX MIN SEL MUX ABS SQRT LEN
LEFT RIGHT MID CONCAT INSERT DELETE REPLACE FIND SHL SHR ROL ROR TON TOF TP CTU CTD SR RS R_TRIG F_TRIG POINTER REFERENCE
REF THIS SUPER EXTENDS IMPLEMENTS INTERFACE ABSTRACT FINAL OVERRIDE PUBLIC PRIVATE PROTECTED NAMESPACE USING BOOL BYTE WORD
DWORD LWORD SINT INT DINT LINT USINT UINT UDINT ULINT REAL LREAL TIME DATE STRING CHAR WSTRING EN ENO SIZEOF ADR
TIME_OF_DAY DATE_AND_TIME TOD DT EVENT READ_ONLY READ_WRITE OVERLAP
"""
KEYWORDS = frozenset(_KEYWORDS.split())
RESERVED = KEYWORDS | frozenset(_RESERVED.split())
"""Names that the standard or one of the tools keeps for itself."""


def tokenize(text: str) -> list[Token]:
    """Split a program; comments and pragmas fall away."""
    tokens: list[Token] = []
    place, line = 0, 1
    while place < len(text):
        found = _PATTERN.match(text, place)
        if found is None:
            raise StError(f"line {line}: {text[place : place + 20]!r} is not structured text")
        kind, word = str(found.lastgroup), found.group()
        if kind in ("quoted", "local"):  # SCL
            tokens.append(Token("name", word.strip('#"'), line))
        elif kind == "name" and word.upper() in KEYWORDS:
            tokens.append(Token("keyword", word.upper(), line))
        elif kind not in ("space", "comment", "pragma"):
            tokens.append(Token(kind, word, line))
        line += word.count("\n")
        place = found.end()
    return [*tokens, Token("end", "", line)]


@dataclass(frozen=True)
class TypeRef:
    """A named type, or an array `low … high` of one."""

    name: str
    low: int = 0
    high: int = -1
    is_array: bool = False


@dataclass(frozen=True)
class Declaration:
    section: str
    name: str
    type: TypeRef
    initial: tuple[int | bool, ...]


@dataclass
class Struct:
    name: str
    members: list[Declaration]


@dataclass
class Block:
    """A function block."""

    name: str
    variables: list[Declaration]
    body: list["Statement"] = field(default_factory=list)


@dataclass(frozen=True)
class Literal:
    value: int | bool
    type: str | None
    line: int


@dataclass(frozen=True)
class Path:
    """A variable, its members and elements: `a`, `.b`, `[c]`."""

    name: str
    steps: tuple["str | Expression", ...]
    line: int


@dataclass(frozen=True)
class Unary:
    sign: str
    inner: "Expression"
    line: int


@dataclass(frozen=True)
class Operation:
    sign: str
    left: "Expression"
    right: "Expression"
    line: int


@dataclass(frozen=True)
class FunctionCall:
    name: str
    arguments: tuple[tuple[str, "Expression"], ...]
    line: int


Expression = Literal | Path | Unary | Operation | FunctionCall


@dataclass(frozen=True)
class Assign:
    target: Path
    value: Expression
    line: int


@dataclass(frozen=True)
class If:
    branches: tuple[tuple[Expression, tuple["Statement", ...]], ...]
    otherwise: tuple["Statement", ...]
    line: int


@dataclass(frozen=True)
class Case:
    selector: Expression
    branches: tuple[tuple[tuple[int, ...], tuple["Statement", ...]], ...]
    otherwise: tuple["Statement", ...]
    line: int


@dataclass(frozen=True)
class For:
    counter: str
    first: Expression
    last: Expression
    body: tuple["Statement", ...]
    line: int


@dataclass(frozen=True)
class BlockCall:
    instance: str
    arguments: tuple[tuple[str, Expression], ...]
    line: int


@dataclass(frozen=True)
class Leave:
    """EXIT or RETURN."""

    what: str
    line: int


Statement = Assign | If | Case | For | BlockCall | Leave
