"""From tokens to the tree of `st_syntax`: declarations, statements, expressions with the precedence of the standard."""

from tests.plccode.st_syntax import (
    RESERVED,
    Assign,
    Block,
    BlockCall,
    Case,
    Declaration,
    Expression,
    For,
    FunctionCall,
    If,
    Leave,
    Literal,
    Operation,
    Path,
    Statement,
    StError,
    Struct,
    Token,
    TypeRef,
    Unary,
    tokenize,
)

SECTIONS = ("VAR_INPUT", "VAR_OUTPUT", "VAR_IN_OUT", "VAR")
LEVELS = (("OR",), ("XOR",), ("AND",), ("=", "<>"), ("<", ">", "<=", ">="), ("+", "-"), ("*", "/", "MOD"))
"""Operators from the weakest to the strongest, as table 71 of the standard has them."""


def parse(text: str) -> list[Struct | Block]:
    """Read a file of types and function blocks."""
    parser = _Parser(tokenize(text))
    units: list[Struct | Block] = []
    while parser.token.kind != "end":
        units += parser.types() if parser.token.text == "TYPE" else [parser.block()]
    return units


def _number(token: Token) -> Literal:
    kind, mark, digits = token.text.rpartition("#")
    if mark and (kind == "16" or kind.endswith("#16")):
        value, prefix = int(digits, 16), kind.removesuffix("16").removesuffix("#")
    else:
        value, prefix = int(digits), kind
    return Literal(value, prefix or None, token.line)


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._place = 0

    @property
    def token(self) -> Token:
        return self._tokens[self._place]

    def _next(self) -> Token:
        self._place += 1
        return self._tokens[self._place - 1]

    def _at(self, *texts: str) -> bool:
        return self.token.kind in ("keyword", "sign") and self.token.text in texts

    def _take(self, text: str) -> Token:
        if not self._at(text):
            raise StError(f"line {self.token.line}: expected {text}, but found {self.token.text!r}")
        return self._next()

    def _skip(self, text: str) -> bool:
        if self._at(text):
            self._next()
            return True
        return False

    def _name(self) -> str:
        token = self._next()
        if token.kind != "name":
            raise StError(f"line {token.line}: expected a name, but found {token.text!r}")
        return token.text

    def _new_name(self) -> str:
        token = self.token
        name = self._name()
        if name.upper() in RESERVED:
            raise StError(f"line {token.line}: {name} is reserved in some PLC tool")
        return name

    def types(self) -> list[Struct]:
        self._take("TYPE")
        name = self._new_name()
        if not self._skip(":"):
            self._version()
        self._take("STRUCT")
        members = self._declarations("STRUCT", "END_STRUCT")
        self._skip(";")
        self._take("END_TYPE")
        return [Struct(name, members)]

    def block(self) -> Block:
        self._take("FUNCTION_BLOCK")
        block = Block(self._new_name(), [])
        if self._at("VERSION"):
            self._version()
        while self._at(*SECTIONS):
            section = self._next().text
            block.variables += self._declarations(section, "END_VAR")
        self._skip("BEGIN")
        block.body = list(self._statements("END_FUNCTION_BLOCK"))
        self._take("END_FUNCTION_BLOCK")
        return block

    def _version(self) -> None:
        self._take("VERSION")
        self._take(":")
        self._next()
        self._take(".")
        self._next()

    def _declarations(self, section: str, end: str) -> list[Declaration]:
        declared = []
        while not self._skip(end):
            name = self._new_name()
            self._take(":")
            type_ref = self._type()
            initial = self._initial() if self._skip(":=") else ()
            self._take(";")
            declared.append(Declaration(section, name, type_ref, initial))
        return declared

    def _type(self) -> TypeRef:
        if not self._skip("ARRAY"):
            return TypeRef(self._name())
        self._take("[")
        low = int(self._next().text)
        self._take("..")
        high = int(self._next().text)
        self._take("]")
        self._take("OF")
        return TypeRef(self._name(), low, high, is_array=True)

    def _initial(self) -> tuple[int | bool, ...]:
        if not self._skip("["):
            return (self._constant(),)
        values = [self._constant()]
        while self._skip(","):
            values.append(self._constant())
        self._take("]")
        return tuple(values)

    def _constant(self) -> int | bool:
        literal = self._unary()
        if isinstance(literal, Unary) and isinstance(literal.inner, Literal):
            return -literal.inner.value
        if not isinstance(literal, Literal):
            raise StError(f"line {self.token.line}: expected a constant")
        return literal.value

    def _statements(self, *ends: str) -> tuple[Statement, ...]:
        found: list[Statement] = []
        while not self._at(*ends):
            if self.token.kind == "end":
                raise StError(f"expected {' or '.join(ends)}, but the text ends")
            if not self._skip(";"):
                found.append(self._statement())
                self._take(";")
        return tuple(found)

    def _statement(self) -> Statement:
        line = self.token.line
        if self._skip("IF"):
            return self._if(line)
        if self._skip("CASE"):
            return self._case(line)
        if self._skip("FOR"):
            return self._for(line)
        if self._at("EXIT", "RETURN"):
            return Leave(self._next().text, line)
        name = self._name()
        if self._skip("("):
            return BlockCall(name, self._arguments(), line)
        target = self._path(name, line)
        self._take(":=")
        return Assign(target, self._expression(), line)

    def _if(self, line: int) -> If:
        branches = []
        condition = self._expression()
        self._take("THEN")
        branches.append((condition, self._statements("ELSIF", "ELSE", "END_IF")))
        while self._skip("ELSIF"):
            condition = self._expression()
            self._take("THEN")
            branches.append((condition, self._statements("ELSIF", "ELSE", "END_IF")))
        otherwise = self._statements("END_IF") if self._skip("ELSE") else ()
        self._take("END_IF")
        return If(tuple(branches), otherwise, line)

    def _case(self, line: int) -> Case:
        selector = self._expression()
        self._take("OF")
        branches = []
        while not self._at("ELSE", "END_CASE"):
            labels = [_number(self._next()).value]
            while self._skip(","):
                labels.append(_number(self._next()).value)
            self._take(":")
            body: list[Statement] = []
            while self.token.kind != "number" and not self._at("ELSE", "END_CASE"):
                body.append(self._statement())
                self._take(";")
            branches.append((tuple(labels), tuple(body)))
        otherwise = self._statements("END_CASE") if self._skip("ELSE") else ()
        self._take("END_CASE")
        return Case(selector, tuple(branches), otherwise, line)

    def _for(self, line: int) -> For:
        counter = self._name()
        self._take(":=")
        first = self._expression()
        self._take("TO")
        last = self._expression()
        self._take("DO")
        body = self._statements("END_FOR")
        self._take("END_FOR")
        return For(counter, first, last, body, line)

    def _arguments(self) -> tuple[tuple[str, Expression], ...]:
        found: list[tuple[str, Expression]] = []
        while not self._skip(")"):
            name = ""
            following = self._tokens[self._place + 1]
            if self.token.kind == "name" and following.text == ":=":
                name = self._name()
                self._take(":=")
            found.append((name, self._expression()))
            if not self._at(")"):
                self._take(",")
        return tuple(found)

    def _path(self, name: str, line: int) -> Path:
        steps: list[str | Expression] = []
        while self._at(".", "["):
            if self._skip("."):
                steps.append(self._name())
            else:
                self._take("[")
                steps.append(self._expression())
                self._take("]")
        return Path(name, tuple(steps), line)

    def _expression(self, level: int = 0) -> Expression:
        if level == len(LEVELS):
            return self._unary()
        left = self._expression(level + 1)
        while self._at(*LEVELS[level]):
            sign = self._next()
            left = Operation(sign.text, left, self._expression(level + 1), sign.line)
        return left

    def _unary(self) -> Expression:
        line = self.token.line
        if self._at("NOT", "-"):
            return Unary(self._next().text, self._unary(), line)
        if self._skip("("):
            inner = self._expression()
            self._take(")")
            return inner
        if self._at("TRUE", "FALSE"):
            return Literal(self._next().text == "TRUE", "BOOL", line)
        if self.token.kind == "number":
            return _number(self._next())
        name = self._name()
        if self._skip("("):
            return FunctionCall(name.upper(), self._arguments(), line)
        return self._path(name, line)
