"""Static check of rule expressions: a typed subset of CEL, parsed once, without running anything.

What passes here cannot fail at run time for its types; what can still fail is a signal that is absent or
NaN, an index out of range, an overflow and a division by zero. Left out of CEL on purpose: regular
expressions, maps, bytes, unsigned numbers, time, null, and nested comprehensions.
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple, NoReturn

from monitor.findings import Status
from monitor.rules.inputs import (
    BOOL,
    DOUBLE,
    FIELDS,
    INT,
    SIGNALS,
    STATUS,
    STRING,
    SUBJECTS,
    Read,
    Reads,
    Type,
)
from monitor.rules.lexer import HINTS, ExpressionError, Token, number, suggestion, tokens

MAX_DEPTH = 20  # nested brackets and signs
MAX_COMPREHENSIONS = 10  # a filter copies what it keeps each time: 10 to 50 ms over 256 entries

_RESERVED = frozenset(
    {"as", "break", "const", "continue", "else", "for", "function", "if", "import", "in", "let", "loop"}
    | {"namespace", "null", "package", "return", "var", "void", "while"}
)
_EXACT = 2**53  # integers up to here are the same number as their double
_ORDER, _EQUALITY = frozenset({"<", "<=", ">", ">="}), frozenset({"==", "!="})
_NUMBERS, _TEXTS = frozenset({INT, DOUBLE}), frozenset({STRING, STATUS})
_TEXT_METHODS = frozenset({"startsWith", "endsWith", "contains"})
_MACROS = frozenset({"exists", "all", "exists_one", "filter", "map"})
_CONVERSIONS: Mapping[str, tuple[frozenset[Type], Type]] = {
    "int": (_NUMBERS, INT),
    "double": (_NUMBERS, DOUBLE),
    "string": (_NUMBERS | _TEXTS | {BOOL}, STRING),
}
_FUNCTIONS = frozenset({"has", "size", *_CONVERSIONS})


def check(source: str, variables: Mapping[str, Type]) -> Reads:
    """Check that an expression is well-formed, typed and boolean; return what it can tell apart.

    Raises ExpressionError at the first fault, with a suggestion where a name is close to a known one.
    """
    return _Checker(source, variables).run()


class _Operand(NamedTuple):
    """A checked part: its type and where it begins.

    `texts` are its text literals, to compare with known values; `read` is the field that it is and no more;
    `number` is the literal that it is.
    """

    type: Type
    offset: int
    texts: tuple[Token, ...] = ()
    read: Read | None = None
    number: float | None = None


class _Checker:
    """A recursive-descent parser that computes types as it goes; one method per level of precedence."""

    def __init__(self, source: str, variables: Mapping[str, Type]) -> None:
        self._tokens = tokens(source)
        self._variables = variables
        self._bound: dict[str, Type] = {}
        self._uses: Counter[Read] = Counter()
        self._mild: Counter[Read] = Counter()  # uses that only compare with a threshold, or ask for presence
        self._thresholds: dict[Read, set[float]] = {}
        self._entry: set[str] = set()
        self._next = 0
        self._depth = 0
        self._comprehensions = 0
        self._sought: tuple[int, Token] | None = None  # where `"key" in …` begins, and the key

    def run(self) -> Reads:
        result = self._ternary()
        if self._peek.kind != "end":
            self._syntax(self._peek)
        if result.type != BOOL:
            raise ExpressionError(result.offset, f"must be true or false, but is {result.type}; compare it")
        exact = {read for read, uses in self._uses.items() if self._mild[read] < uses}
        compared = {r: frozenset(self._thresholds.get(r, ())) for r in self._uses if r not in exact}
        return Reads(frozenset(exact), compared, frozenset(self._entry))

    @property
    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._peek
        if token.kind != "end":
            self._next += 1
        return token

    def _is(self, *operators: str) -> bool:
        return self._peek.kind == "operator" and self._peek.text in operators

    def _expect(self, operator: str) -> Token:
        if not self._is(operator):
            self._syntax(self._peek, f"expected {operator!r}")
        return self._take()

    def _syntax(self, token: Token, wanted: str = "") -> NoReturn:
        what = "the expression ends too early" if token.kind == "end" else f"unexpected {token.text!r}"
        hint = f"; did you mean {HINTS[token.text]}?" if token.text in HINTS else ""
        raise ExpressionError(token.offset, what + (f", {wanted}" if wanted else "") + hint)

    def _deeper(self, offset: int) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(
                offset, f"nested deeper than {MAX_DEPTH} levels; split it into several rules"
            )

    def _ternary(self) -> _Operand:
        self._deeper(self._peek.offset)
        left = self._logic("||")
        if self._is("?"):
            self._take()
            self._want(left, frozenset({BOOL}), "the condition before ?")
            first = self._logic("||")
            self._expect(":")
            second = self._ternary()
            if first.type != second.type:
                raise ExpressionError(
                    second.offset, f"both branches must have one type, not {first.type} and {second.type}"
                )
            left = _Operand(first.type, left.offset)
        self._depth -= 1
        return left

    def _logic(self, operator: str) -> _Operand:
        def operand() -> _Operand:
            return self._logic("&&") if operator == "||" else self._relation()

        left = operand()
        while self._is(operator):
            self._take()
            self._want(left, frozenset({BOOL}), operator)
            right = operand()
            self._want(right, frozenset({BOOL}), operator)
            left = _Operand(BOOL, left.offset)
        return left

    def _relation(self) -> _Operand:
        left = self._arithmetic(("+", "-"))
        while self._is(*_ORDER, *_EQUALITY) or (self._peek.kind, self._peek.text) == ("name", "in"):
            operator = self._take()
            if operator.text == "in" and left.type == STRING and len(left.texts) == 1:
                self._sought = (self._next, left.texts[0])
            right = self._arithmetic(("+", "-"))
            self._comparable(operator, left, right)
            self._compared(left, right)
            left = _Operand(BOOL, left.offset)
        return left

    def _comparable(self, operator: Token, left: _Operand, right: _Operand) -> None:
        first, second = left.type, right.type
        if operator.text == "in":
            if first == STRING and second == SIGNALS:
                if right.read and len(right.read) > len(("variable", "values")):
                    self._mild[right.read] += 1
                return
            if second.name != "list":
                raise ExpressionError(right.offset, f"in needs a list on its right, not {second}")
            second = Type(second.element)
        allowed = (
            {first, second} <= _NUMBERS
            or {first, second} <= _TEXTS
            or (operator.text in _EQUALITY and first == second == BOOL)
        )
        if not allowed:
            raise ExpressionError(
                operator.offset, f"{operator.text} cannot compare {first} with {second}; both must be alike"
            )
        if STATUS in {first, second}:
            self._statuses(left.texts + right.texts)

    def _compared(self, left: _Operand, right: _Operand) -> None:
        """Note a field that is only compared with a number: its exact value does not matter there."""
        for field, other in ((left, right), (right, left)):
            if field.read and field.type in _NUMBERS and other.number is not None:
                self._mild[field.read] += 1
                self._thresholds.setdefault(field.read, set()).add(other.number)

    def _statuses(self, texts: tuple[Token, ...]) -> None:
        known = [status.value for status in Status]
        for token in texts:
            if token.text[1:-1] not in known:
                raise ExpressionError(
                    token.offset, f"{token.text} is not a status{suggestion(token.text[1:-1], known)}"
                )

    def _arithmetic(self, operators: tuple[str, ...]) -> _Operand:
        def operand() -> _Operand:
            return self._unary() if "*" in operators else self._arithmetic(("*", "/", "%"))

        left = operand()
        while self._is(*operators):
            operator = self._take()
            right = operand()
            allowed = {INT} if operator.text == "%" else {INT, DOUBLE}
            if operator.text == "+" and {left.type, right.type} <= _TEXTS:
                left = _Operand(STRING, left.offset)
                continue
            if left.type != right.type or left.type not in allowed:
                raise ExpressionError(
                    operator.offset,
                    f"{operator.text} cannot combine {left.type} with {right.type}; "
                    "write 1.0 for a double, or convert with double() or int()",
                )
            left = _Operand(left.type, left.offset)
        return left

    def _unary(self) -> _Operand:
        if not self._is("!", "-"):
            return self._member()
        operator = self._take()
        self._deeper(operator.offset)
        operand = self._unary()
        self._depth -= 1
        self._want(operand, frozenset({BOOL}) if operator.text == "!" else _NUMBERS, operator.text)
        return _Operand(operand.type, operator.offset)

    def _member(self) -> _Operand:
        """A primary followed by fields, methods and indexes."""
        value = self._primary()
        while self._is(".", "["):
            if self._take().text == "[":
                value = self._index(value)
            else:
                name = self._name()
                value = self._method(value, name) if self._is("(") else self._field(value, name)
        return value

    def _name(self) -> Token:
        if self._peek.kind != "name" or self._peek.text in _RESERVED:
            self._syntax(self._peek, "expected a name")
        return self._take()

    def _primary(self) -> _Operand:
        token = self._take()
        if token.kind in {"int", "double"}:
            value = number(token)
            exact = abs(value) <= _EXACT
            return _Operand(Type(token.kind), token.offset, number=value if exact else None)
        if token.kind == "string":
            return _Operand(STRING, token.offset, (token,))
        if token.kind == "operator" and token.text == "(":
            inner = self._ternary()
            self._expect(")")
            return inner
        if token.kind == "operator" and token.text == "[":
            return self._list(token)
        if token.kind == "name" and token.text in {"true", "false"}:
            return _Operand(BOOL, token.offset)
        if token.kind != "name" or token.text in _RESERVED:
            self._syntax(token)
        return self._call(token) if self._is("(") else self._variable(token)

    def _list(self, token: Token) -> _Operand:
        items = [self._ternary()]
        while self._is(","):
            self._take()
            items.append(self._ternary())
        self._expect("]")
        types = {item.type for item in items}
        if not (types <= _NUMBERS or types <= _TEXTS):
            raise ExpressionError(token.offset, "a list must hold only numbers or only texts")
        element = STRING if types <= _TEXTS else DOUBLE if DOUBLE in types else INT
        return _Operand(
            Type("list", element.name), token.offset, tuple(text for item in items for text in item.texts)
        )

    def _variable(self, token: Token) -> _Operand:
        if token.text in self._bound:
            return _Operand(self._bound[token.text], token.offset)
        if token.text not in self._variables:
            if token.text in HINTS:
                self._syntax(token)
            known = {*self._variables, *self._bound}
            raise ExpressionError(
                token.offset, f"unknown variable {token.text}{suggestion(token.text, known)}"
            )
        if not self._is("."):
            fields = ", ".join(FIELDS[self._variables[token.text].element])
            raise ExpressionError(token.offset, f"{token.text} needs a field: {token.text}.… one of {fields}")
        self._take()
        name = self._name()
        if self._is("("):
            raise ExpressionError(name.offset, f"{token.text} has no functions; read a field first")
        field = self._known_field(self._variables[token.text], name)
        if self._bound and field.name == "list":
            raise ExpressionError(
                token.offset,
                f"{token.text}.{name.text} stands inside another list's body; "
                "lists are not nested: write two conditions or two rules",
            )
        read = self._read(token.text, name.text, field)
        self._uses[read] += 1
        return _Operand(field, token.offset, read=read)

    def _read(self, variable: str, field: str, type_: Type) -> Read:
        """The narrowest read: one signal where its key is written out, else the whole field."""
        if type_ == SIGNALS:
            first, second, third = (*self._tokens[self._next : self._next + 3], *[self._tokens[-1]] * 3)[:3]
            if first.text == "." and second.kind == "name" and third.text != "(":
                return variable, field, second.text
            if first.text == "[" and third.text == "]" and _is_plain(second):
                return variable, field, second.text[1:-1]
            direct = self._sought and self._sought[0] == self._next - len((variable, ".", field))
            if self._sought and direct and first.text not in {".", "["} and _is_plain(self._sought[1]):
                return variable, field, self._sought[1].text[1:-1]
        return variable, field

    def _known_field(self, owner: Type, name: Token) -> Type:
        fields = FIELDS[owner.element]
        if name.text not in fields:
            what = "an evidence entry" if owner.element == "evidence" else f"a {owner.element}"
            what = owner.element if owner.element in SUBJECTS else what
            raise ExpressionError(
                name.offset, f"{what} has no field {name.text}{suggestion(name.text, fields)}"
            )
        return fields[name.text]

    def _field(self, value: _Operand, name: Token) -> _Operand:
        if value.type == SIGNALS:
            return _Operand(DOUBLE, value.offset, read=value.read)
        if value.type.name != "object":
            raise ExpressionError(name.offset, f"{value.type} has no field {name.text}")
        field = self._known_field(value.type, name)
        self._entry.add(name.text)
        return _Operand(field, value.offset)

    def _index(self, value: _Operand) -> _Operand:
        index = self._ternary()
        self._expect("]")
        if value.type == SIGNALS:
            self._want(index, frozenset({STRING}), "the key of a signal")
            return _Operand(DOUBLE, value.offset, read=value.read)
        if value.type.name != "list":
            raise ExpressionError(index.offset, f"{value.type} cannot be indexed")
        self._want(index, frozenset({INT}), "an index")
        return _Operand(_element(value.type), value.offset)

    def _call(self, name: Token) -> _Operand:
        if name.text not in _FUNCTIONS:
            raise ExpressionError(
                name.offset, f"unknown function {name.text}{suggestion(name.text, _FUNCTIONS)}"
            )
        self._take()
        if name.text == "has":
            return self._has(name)
        argument = self._ternary()
        self._expect(")")
        if name.text == "size":
            return self._size(argument)
        accepted, result = _CONVERSIONS[name.text]
        self._want(argument, accepted, f"{name.text}()")
        return _Operand(result, name.offset)

    def _has(self, name: Token) -> _Operand:
        start = self._next
        self._deeper(name.offset)
        value = self._member()
        self._depth -= 1
        dot, field = self._tokens[self._next - 2 : self._next]
        enough = self._next - start >= len(("variable", ".", "field"))
        if not enough or dot.text != "." or field.kind != "name":
            raise ExpressionError(name.offset, "has() takes a field, such as has(toxicity.values.response)")
        self._expect(")")
        if value.read and value.type in _NUMBERS:
            self._mild[value.read] += 1
        return _Operand(BOOL, name.offset)

    def _size(self, value: _Operand) -> _Operand:
        if value.type not in _TEXTS and value.type.name not in {"list", "map"}:
            raise ExpressionError(value.offset, f"size() needs a list or text, not {value.type}")
        return _Operand(INT, value.offset)

    def _method(self, value: _Operand, name: Token) -> _Operand:
        known: frozenset[str] = frozenset({"size"})
        if value.type in _TEXTS:
            known |= _TEXT_METHODS
        elif value.type.name == "list":
            known |= _MACROS
        if name.text == "matches":
            raise ExpressionError(
                name.offset, "regular expressions are left out; use startsWith, endsWith, contains or in"
            )
        if name.text not in known:
            raise ExpressionError(
                name.offset, f"{value.type} has no function {name.text}{suggestion(name.text, known)}"
            )
        self._take()
        if name.text in _MACROS:
            return self._comprehension(value, name)
        if name.text != "size":
            self._want(self._ternary(), _TEXTS, f"{name.text}()")
        self._expect(")")
        return self._size(value) if name.text == "size" else _Operand(BOOL, value.offset)

    def _comprehension(self, value: _Operand, macro: Token) -> _Operand:
        if self._bound:
            raise ExpressionError(
                macro.offset, f"{macro.text} stands inside another list's body; lists are not nested"
            )
        self._comprehensions += 1
        if self._comprehensions > MAX_COMPREHENSIONS:
            raise ExpressionError(
                macro.offset, f"more than {MAX_COMPREHENSIONS} list functions; split it into several rules"
            )
        variable = self._name()
        if variable.text in self._variables or variable.text in {"true", "false"}:
            raise ExpressionError(
                variable.offset, f"{variable.text} already means something; use another name"
            )
        self._expect(",")
        self._bound[variable.text] = _element(value.type)
        body = self._ternary()
        self._bound.clear()
        self._expect(")")
        if macro.text == "map":
            if body.type not in _NUMBERS | _TEXTS:
                raise ExpressionError(body.offset, f"map must make numbers or texts, not {body.type}")
            element = STRING if body.type == STATUS else body.type
            return _Operand(Type("list", element.name), value.offset)
        self._want(body, frozenset({BOOL}), f"the body of {macro.text}")
        return _Operand(value.type if macro.text == "filter" else BOOL, value.offset)

    def _want(self, value: _Operand, accepted: frozenset[Type], where: str) -> None:
        if value.type not in accepted:
            names = " or ".join(sorted(str(t) for t in accepted))
            raise ExpressionError(value.offset, f"{where} needs {names}, not {value.type}")


def _is_plain(token: Token) -> bool:
    """Whether the text of a literal is what stands between its quotes."""
    return token.kind == "string" and token.text[0] in "\"'" and "\\" not in token.text


def _element(type_: Type) -> Type:
    return Type("object", "evidence") if type_.element == "evidence" else Type(type_.element)
