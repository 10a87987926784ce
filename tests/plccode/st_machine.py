"""Runs structured text: checks every type, then executes; whatever a PLC would do silently is a fault here.

Types never mix without a conversion, arithmetic that leaves its type is a fault (a PLC wraps), an index outside its
array is a fault, and both sides of AND and OR are always evaluated, because the standard promises no more. So a program
that runs here relies on nothing that tools do differently.
"""

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.plccode.st_parser import parse
from tests.plccode.st_syntax import (
    Assign,
    Block,
    BlockCall,
    Case,
    Declaration,
    Expression,
    For,
    FunctionCall,
    If,
    Literal,
    Operation,
    Path,
    Statement,
    StError,
    Struct,
    TypeRef,
    Unary,
)

INTEGERS = {
    "USINT": (0, 2**8 - 1), "UINT": (0, 2**16 - 1), "UDINT": (0, 2**32 - 1),
    "INT": (-(2**15), 2**15 - 1), "DINT": (-(2**31), 2**31 - 1),
}  # fmt: skip
BITS = {"BYTE": 8, "WORD": 16, "DWORD": 32}
UNTYPED = TypeRef("literal")
BOOL, INT = TypeRef("BOOL"), TypeRef("INT")

Memory = dict[str, Any]
Compute = Callable[[Memory], Any]
Run = Callable[[Memory], str | None]
"""A statement; gives EXIT or RETURN where it leaves."""


class StFaultError(Exception):
    """A program did what a PLC would do silently: overflow, an index out of its array, an endless loop."""


@dataclass(frozen=True)
class Typed:
    """An expression ready to run; `constant` is set for an untyped literal, which takes the type of its place."""

    type: TypeRef
    compute: Compute
    constant: int | None = None


class Program:
    """Types and function blocks of some files; `instance` makes a block that can be called."""

    def __init__(self, *texts: str) -> None:
        self.structs: dict[str, dict[str, TypeRef]] = {}
        self.blocks: dict[str, Block] = {}
        self._bodies: dict[str, Run] = {}
        self.iterations = 0
        for text in texts:
            for unit in parse(text):
                self._add(unit)

    def _add(self, unit: Struct | Block) -> None:
        declared = unit.members if isinstance(unit, Struct) else unit.variables
        if len({one.name.lower() for one in declared}) != len(declared):
            raise StError(f"{unit.name} has a name twice")
        for one in declared:
            if one.type.name not in {*INTEGERS, *BITS, "BOOL", *self.structs, *self.blocks}:
                raise StError(f"{unit.name}.{one.name}: unknown type {one.type.name}")
        if isinstance(unit, Struct):
            self.structs[unit.name] = {one.name: one.type for one in declared}
        else:
            self.blocks[unit.name] = unit
            self._bodies[unit.name] = _Compiler(self, unit).body()

    def instance(self, name: str) -> Memory:
        """Fresh memory of a function block."""
        return {one.name: self._fresh(one) for one in self.blocks[name].variables}

    def call(self, name: str, memory: Memory) -> None:
        """One call of a function block on its memory; inputs stand in it already."""
        self._bodies[name](memory)

    def value(self, type_name: str) -> Any:
        """A variable of this type before anything was written to it."""
        if type_name == "BOOL":
            return False
        if type_name in self.structs:
            return {key: self._elements(type_ref) for key, type_ref in self.structs[type_name].items()}
        return self.instance(type_name) if type_name in self.blocks else 0

    def _elements(self, type_ref: TypeRef) -> Any:
        if not type_ref.is_array:
            return self.value(type_ref.name)
        return [self.value(type_ref.name) for _ in range(type_ref.low, type_ref.high + 1)]

    def _fresh(self, declared: Declaration) -> Any:
        if declared.section == "VAR_IN_OUT":
            return None
        fresh = self._elements(declared.type)
        if not declared.initial:
            return fresh
        for value in declared.initial:
            _fit(value, TypeRef(declared.type.name), 0)
        if declared.type.is_array and len(declared.initial) != len(fresh):
            raise StError(f"{declared.name} has {len(declared.initial)} initial values for {len(fresh)} elements")
        return list(declared.initial) if declared.type.is_array else declared.initial[0]


def _fit(value: int, type_ref: TypeRef, line: int) -> int:
    """A literal in a place of this type."""
    name = type_ref.name
    low, high = INTEGERS.get(name, (0, 2 ** BITS.get(name, 0) - 1))
    if type_ref.is_array or (name not in INTEGERS and name not in BITS and name != "BOOL"):
        raise StError(f"line {line}: a literal cannot be of type {name}")
    if name == "BOOL":
        if not isinstance(value, bool):
            raise StError(f"line {line}: {value} is no BOOL")
        return value
    if isinstance(value, bool) or not low <= value <= high:
        raise StError(f"line {line}: {value} is no {name}")
    return value


class _Compiler:
    """Turns one function block into functions, checking its types on the way."""

    def __init__(self, program: Program, block: Block) -> None:
        self._program = program
        self._block = block
        self._variables = {one.name.lower(): one for one in block.variables}

    def body(self) -> Run:
        return self._sequence(tuple(self._block.body), in_loop=False)

    def _sequence(self, statements: tuple[Statement, ...], *, in_loop: bool) -> Run:
        runs = [self._statement(statement, in_loop=in_loop) for statement in statements]

        def run(memory: Memory) -> str | None:
            for one in runs:
                leaving = one(memory)
                if leaving is not None:
                    return leaving
            return None

        return run

    def _statement(self, statement: Statement, *, in_loop: bool) -> Run:
        if isinstance(statement, Assign):
            return self._assign(statement)
        if isinstance(statement, If):
            return self._if(statement, in_loop=in_loop)
        if isinstance(statement, Case):
            return self._case(statement, in_loop=in_loop)
        if isinstance(statement, For):
            return self._for(statement)
        if isinstance(statement, BlockCall):
            return self._call(statement)
        if statement.what == "EXIT" and not in_loop:
            raise StError(f"line {statement.line}: EXIT outside a loop")
        return lambda _memory: statement.what

    def _assign(self, statement: Assign) -> Run:
        declared = self._variables.get(statement.target.name.lower())
        if declared is None or declared.section == "VAR_INPUT":
            raise StError(f"line {statement.line}: {statement.target.name} cannot be written")
        target = self._path(statement.target)
        value = self._as(self._expression(statement.value), target.type, statement.line).compute
        *outer, last = [statement.target.name, *statement.target.steps]
        if not outer:
            name = declared.name
            whole = target.type.is_array or target.type.name in self._program.structs

            def store(memory: Memory) -> None:
                memory[name] = copy.deepcopy(value(memory)) if whole else value(memory)

            return store
        holder = self._path(Path(statement.target.name, statement.target.steps[:-1], statement.line))
        if isinstance(last, str):
            return lambda memory: holder.compute(memory).__setitem__(last, value(memory))
        index = self._index(last, holder.type, statement.line)
        return lambda memory: holder.compute(memory).__setitem__(index(memory), value(memory))

    def _if(self, statement: If, *, in_loop: bool) -> Run:
        branches = [
            (self._as(self._expression(condition), BOOL, statement.line).compute, self._sequence(body, in_loop=in_loop))
            for condition, body in statement.branches
        ]
        otherwise = self._sequence(statement.otherwise, in_loop=in_loop)

        def run(memory: Memory) -> str | None:
            for condition, body in branches:
                if condition(memory):
                    return body(memory)
            return otherwise(memory)

        return run

    def _case(self, statement: Case, *, in_loop: bool) -> Run:
        selector = self._expression(statement.selector)
        if selector.type.name not in INTEGERS:
            raise StError(f"line {statement.line}: CASE needs a whole number")
        bodies: dict[int, Run] = {}
        for labels, body in statement.branches:
            run = self._sequence(body, in_loop=in_loop)
            bodies |= {_fit(label, selector.type, statement.line): run for label in labels}
        otherwise = self._sequence(statement.otherwise, in_loop=in_loop)
        return lambda memory: bodies.get(selector.compute(memory), otherwise)(memory)

    def _for(self, statement: For) -> Run:
        declared = self._variables.get(statement.counter.lower())
        if declared is None or declared.type != INT:
            raise StError(f"line {statement.line}: a loop counts in an INT")
        first, last = (
            self._as(self._expression(one), INT, statement.line).compute for one in (statement.first, statement.last)
        )
        body = self._sequence(statement.body, in_loop=True)
        program, counter = self._program, declared.name

        def run(memory: Memory) -> str | None:
            for number in range(first(memory), last(memory) + 1):
                program.iterations += 1
                memory[counter] = number
                leaving = body(memory)
                if memory[counter] != number:
                    raise StFaultError(f"line {statement.line}: the loop's body changes its counter")
                if leaving == "EXIT":
                    break
                if leaving is not None:
                    return leaving
            return None

        return run

    def _call(self, statement: BlockCall) -> Run:
        declared = self._variables.get(statement.instance.lower())
        block = None if declared is None else self._program.blocks.get(declared.type.name)
        if declared is None or block is None:
            raise StError(f"line {statement.line}: {statement.instance} is no function block")
        inputs = {one.name: one for one in block.variables if one.section in ("VAR_INPUT", "VAR_IN_OUT")}
        passed: list[tuple[str, Compute]] = []
        for name, argument in statement.arguments:
            if name not in inputs:
                raise StError(f"line {statement.line}: {block.name} has no input {name!r}")
            passed.append((name, self._as(self._expression(argument), inputs[name].type, statement.line).compute))
        missing = {name for name, one in inputs.items() if one.section == "VAR_IN_OUT"} - {name for name, _ in passed}
        if missing:
            raise StError(f"line {statement.line}: {block.name} needs {missing}")
        instance, body = declared.name, self._program._bodies[block.name]

        def run(memory: Memory) -> None:
            inner = memory[instance]
            for name, compute in passed:
                inner[name] = compute(memory)
            body(inner)

        return run

    def _expression(self, expression: Expression) -> Typed:
        if isinstance(expression, Literal):
            return self._literal(expression)
        if isinstance(expression, Path):
            return self._path(expression)
        if isinstance(expression, Unary):
            return self._unary(expression)
        if isinstance(expression, FunctionCall):
            return self._function(expression)
        return self._operation(expression)

    def _literal(self, literal: Literal) -> Typed:
        value = literal.value
        if literal.type is None:
            return Typed(UNTYPED, lambda _memory: value, value)
        _fit(value, TypeRef(literal.type), literal.line)
        return Typed(TypeRef(literal.type), lambda _memory: value)

    def _path(self, path: Path) -> Typed:
        declared = self._variables.get(path.name.lower())
        if declared is None:
            raise StError(f"line {path.line}: {path.name} is not declared in {self._block.name}")
        name = declared.name
        found = Typed(declared.type, lambda memory: memory[name])
        for step in path.steps:
            found = (
                self._member(found, step, path.line) if isinstance(step, str) else self._element(found, step, path.line)
            )
        return found

    def _member(self, holder: Typed, member: str, line: int) -> Typed:
        if holder.type.name in self._program.structs and not holder.type.is_array:
            members = self._program.structs[holder.type.name]
        elif holder.type.name in self._program.blocks:
            outputs = self._program.blocks[holder.type.name].variables
            members = {one.name: one.type for one in outputs if one.section == "VAR_OUTPUT"}
        else:
            members = {}
        if member not in members:
            raise StError(f"line {line}: {holder.type.name} has no {member}")
        compute = holder.compute
        return Typed(members[member], lambda memory: compute(memory)[member])

    def _element(self, holder: Typed, index: Expression, line: int) -> Typed:
        place, compute = self._index(index, holder.type, line), holder.compute
        return Typed(TypeRef(holder.type.name), lambda memory: compute(memory)[place(memory)])

    def _index(self, index: Expression, array: TypeRef, line: int) -> Compute:
        if not array.is_array:
            raise StError(f"line {line}: no array")
        typed = self._expression(index)
        if typed.type is not UNTYPED and typed.type.name not in INTEGERS:
            raise StError(f"line {line}: an index must be a whole number")
        low, high, compute = array.low, array.high, typed.compute

        def place(memory: Memory) -> int:
            number: int = compute(memory)
            if not low <= number <= high:
                raise StFaultError(f"line {line}: index {number} is not in {low}..{high}")
            return number - low

        return place

    def _unary(self, unary: Unary) -> Typed:
        inner = self._expression(unary.inner)
        compute = inner.compute
        if unary.sign == "-":
            if inner.constant is None:
                raise StError(f"line {unary.line}: only literals have a minus here")
            value = -inner.constant
            return Typed(UNTYPED, lambda _memory: value, value)
        if inner.type == BOOL:
            return Typed(BOOL, lambda memory: not compute(memory))
        if inner.type.name not in BITS:
            raise StError(f"line {unary.line}: NOT of {inner.type.name}")
        mask = 2 ** BITS[inner.type.name] - 1
        return Typed(inner.type, lambda memory: compute(memory) ^ mask)

    def _operation(self, operation: Operation) -> Typed:
        left, right = self._expression(operation.left), self._expression(operation.right)
        if left.type is UNTYPED:
            left = self._as(left, right.type, operation.line)
        right = self._as(right, left.type, operation.line)
        kind, sign, line = left.type, operation.sign, operation.line
        if kind.is_array or kind is UNTYPED:
            raise StError(f"line {line}: {sign} of {kind}")
        if sign in _COMPARISONS:
            if kind.name not in INTEGERS and sign not in ("=", "<>"):
                raise StError(f"line {line}: {sign} of {kind.name} differs between tools")
            return Typed(BOOL, _both(_COMPARISONS[sign], left.compute, right.compute))
        if sign in _LOGIC:
            if kind != BOOL and kind.name not in BITS:
                raise StError(f"line {line}: {sign} of {kind.name}")
            return Typed(kind, _both(_LOGIC[sign], left.compute, right.compute))
        if kind.name not in INTEGERS:
            raise StError(f"line {line}: {sign} of {kind.name}")
        return Typed(kind, _arithmetic(sign, left.compute, right.compute, kind.name, line))

    def _function(self, call: FunctionCall) -> Typed:
        if call.name == "SHR":
            value, count = (self._expression(argument) for _, argument in call.arguments)
            if value.type.name not in BITS or count.constant is None:
                raise StError(f"line {call.line}: SHR shifts a bit string by a literal")
            return Typed(value.type, lambda memory: value.compute(memory) >> int(count.constant or 0))
        source, _, target = call.name.partition("_TO_")
        if not target or len(call.arguments) != 1:
            raise StError(f"line {call.line}: unknown function {call.name}")
        argument = self._as(self._expression(call.arguments[0][1]), TypeRef(source), call.line)
        return Typed(TypeRef(target), _conversion(source, target, argument.compute, call.line))

    def _as(self, typed: Typed, wanted: TypeRef, line: int) -> Typed:
        """The expression where this type is wanted; only untyped literals adapt."""
        if typed.constant is not None and wanted is not UNTYPED:
            value = _fit(typed.constant, wanted, line)
            return Typed(wanted, lambda _memory: value)
        if typed.type != wanted:
            raise StError(f"line {line}: {typed.type} where {wanted} is wanted")
        return typed


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "<>": operator.ne, "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge,
}  # fmt: skip
_LOGIC: dict[str, Callable[[Any, Any], Any]] = {"AND": operator.and_, "OR": operator.or_, "XOR": operator.xor}


def _both(apply: Callable[[Any, Any], Any], left: Compute, right: Compute) -> Compute:
    return lambda memory: apply(left(memory), right(memory))


def _arithmetic(sign: str, left: Compute, right: Compute, kind: str, line: int) -> Compute:
    low, high = INTEGERS[kind]
    apply = {
        "+": operator.add,
        "-": operator.sub,
        "*": operator.mul,
        "/": lambda a, b: abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1),
        "MOD": lambda a, b: abs(a) % abs(b) * (-1 if a < 0 else 1),
    }[sign]

    def compute(memory: Memory) -> int:
        first, second = left(memory), right(memory)
        if second == 0 and sign in ("/", "MOD"):
            raise StFaultError(f"line {line}: division by zero")
        value: int = apply(first, second)
        if not low <= value <= high:
            raise StFaultError(f"line {line}: {first} {sign} {second} leaves {kind}")
        return value

    return compute


def _conversion(source: str, target: str, argument: Compute, line: int) -> Compute:
    """Bits keep their pattern; numbers keep their value, or the program is at fault."""
    if source in BITS or target in BITS:
        width = BITS.get(target) or {"USINT": 8, "UINT": 16, "UDINT": 32, "INT": 16, "DINT": 32}[target]
        from_width = BITS.get(source) or {"USINT": 8, "UINT": 16, "UDINT": 32, "INT": 16, "DINT": 32}[source]
        if from_width > width or (source not in BITS and from_width != width):
            raise StError(f"line {line}: {source}_TO_{target} loses bits")
        sign = 2 ** (width - 1) if target in ("INT", "DINT") else 0
        return lambda memory: ((argument(memory) & (2**width - 1)) ^ sign) - sign
    if source not in INTEGERS or target not in INTEGERS:
        raise StError(f"line {line}: unknown function {source}_TO_{target}")
    low, high = INTEGERS[target]

    def compute(memory: Memory) -> int:
        value: int = argument(memory)
        if not low <= value <= high:
            raise StFaultError(f"line {line}: {value} is no {target}")
        return value

    return compute
