"""Static check of rule expressions: a typed subset of CEL, parsed once, without running anything.

An expression that passes cannot fail at run time for its types. It can still fail for a signal that is
absent or NaN, an index out of range, an overflow or a division by zero. Left out of CEL on purpose: regular
expressions, maps, bytes, unsigned numbers, time, null, and nested comprehensions.
"""

from collections import Counter
from collections.abc import Mapping

from monitor.findings import MAX_EVIDENCE
from monitor.rules.cursor import RESERVED, Cursor
from monitor.rules.inputs import BOOL, DOUBLE, FIELDS, INT, SIGNALS, STATUS, STRING, Read, Reads, Type
from monitor.rules.lexer import HINTS, ExpressionError, Lexeme, number, suggestion
from monitor.rules.operands import (
    CONVERSIONS,
    EQUALITY,
    MACROS,
    NUMBERS,
    ORDER,
    TEXTS,
    Operand,
    check_comparison,
    combine,
    converted,
    element_type,
    field_type,
    list_of,
    methods,
    require,
)

MAX_COMPREHENSIONS = 10
MAX_COPIES = (
    3 * MAX_EVIDENCE**2
)  # `filter` and `map` copy what they have made for every entry: 10 to 50 ms each
MAX_MADE_CHARS = 2**22
"""Characters that an expression may write into texts on the worst trace: some 10 ms, 4 MiB."""

_EXACT = 2**53  # integers up to here are the same number as their double
_FUNCTIONS = frozenset({"has", "size", *CONVERSIONS})


def check(source: str, variables: Mapping[str, Type]) -> Reads:
    """Check that an expression is well-formed, typed and boolean; return what it can tell apart.

    Raises ExpressionError at the first fault, with a suggestion where a name is close to a known one.
    """
    return _Checker(source, variables).run()


class _Checker:
    """A recursive-descent parser that computes types as it goes; one method per level of precedence."""

    def __init__(self, source: str, variables: Mapping[str, Type]) -> None:
        self._cursor = Cursor(source)
        self._variables = variables
        self._bound: dict[str, Operand] = {}
        self._uses: Counter[Read] = Counter()
        # Uses that only compare with a threshold, or ask for presence.
        self._inexact: Counter[Read] = Counter()
        self._thresholds: dict[Read, set[float]] = {}
        self._entry: set[str] = set()
        self._comprehensions = self._copies = self._chars = 0
        self._times = 1  # how often what is being parsed is evaluated
        self._sought: tuple[int, Lexeme] | None = None  # where `"key" in …` begins, and the key

    def run(self) -> Reads:
        result = self._ternary()
        if self._cursor.peek.kind != "end":
            self._cursor.reject(self._cursor.peek)
        if result.type != BOOL:
            raise ExpressionError(result.offset, f"must be true or false, but is {result.type}; compare it")
        exact = {read for read, uses in self._uses.items() if self._inexact[read] < uses}
        compared = {r: frozenset(self._thresholds.get(r, ())) for r in self._uses if r not in exact}
        return Reads(frozenset(exact), compared, frozenset(self._entry))

    def _ternary(self) -> Operand:
        self._cursor.enter(self._cursor.peek.offset)
        left = self._logic("||")
        if self._cursor.is_at("?"):
            self._cursor.take()
            require(left, frozenset({BOOL}), "the condition before ?")
            first = self._logic("||")
            self._cursor.expect(":")
            second = self._ternary()
            if first.type != second.type:
                raise ExpressionError(
                    second.offset, f"both branches must have one type, not {first.type} and {second.type}"
                )
            chars, entries = max(first.chars, second.chars), max(first.entries, second.entries)
            left = Operand(first.type, left.offset, chars=chars, entries=entries)
        self._cursor.leave()
        return left

    def _logic(self, operator: str) -> Operand:
        def operand() -> Operand:
            return self._logic("&&") if operator == "||" else self._relation()

        left = operand()
        while self._cursor.is_at(operator):
            self._cursor.take()
            require(left, frozenset({BOOL}), operator)
            right = operand()
            require(right, frozenset({BOOL}), operator)
            left = Operand(BOOL, left.offset)
        return left

    def _relation(self) -> Operand:
        left = self._arithmetic(("+", "-"))
        while self._cursor.is_at(*ORDER, *EQUALITY) or self._cursor.is_at_in():
            operator = self._cursor.take()
            if operator.text == "in" and left.type == STRING and len(left.texts) == 1:
                self._sought = (self._cursor.position, left.texts[0])
            right = self._arithmetic(("+", "-"))
            self._compare(operator, left, right)
            left = Operand(BOOL, left.offset)
        return left

    def _compare(self, operator: Lexeme, left: Operand, right: Operand) -> None:
        if operator.text == "in" and left.type == STRING and right.type == SIGNALS:
            if right.read and len(right.read) > len(("variable", "values")):
                self._inexact[right.read] += 1
        else:
            check_comparison(operator, left, right)
        self._note_thresholds(left, right)

    def _note_thresholds(self, left: Operand, right: Operand) -> None:
        """Note a field that is only compared with a number: its exact value does not matter there."""
        for field, other in ((left, right), (right, left)):
            if field.read and field.type in NUMBERS and other.number is not None:
                self._inexact[field.read] += 1
                self._thresholds.setdefault(field.read, set()).add(other.number)

    def _arithmetic(self, operators: tuple[str, ...]) -> Operand:
        def operand() -> Operand:
            return self._unary() if "*" in operators else self._arithmetic(("*", "/", "%"))

        left = operand()
        while self._cursor.is_at(*operators):
            operator = self._cursor.take()
            left = combine(operator, left, operand())
            if left.type == STRING:
                self._write(left)
        return left

    def _write(self, text: Operand) -> None:
        """Count the characters of a text that is made; a chain of `+` copies its beginning every time."""
        self._chars += text.chars * self._times
        if self._chars > MAX_MADE_CHARS:
            raise ExpressionError(
                text.offset,
                f"could write more than {MAX_MADE_CHARS} characters on one trace; join fewer texts, or "
                "outside of list functions",
            )

    def _unary(self) -> Operand:
        if not self._cursor.is_at("!", "-"):
            return self._member()
        operator = self._cursor.take()
        self._cursor.enter(operator.offset)
        operand = self._unary()
        self._cursor.leave()
        require(operand, frozenset({BOOL}) if operator.text == "!" else NUMBERS, operator.text)
        return Operand(operand.type, operator.offset)

    def _member(self) -> Operand:
        """Parse a primary followed by fields, methods and indexes."""
        value = self._primary()
        while self._cursor.is_at(".", "["):
            if self._cursor.take().text == "[":
                value = self._index(value)
            else:
                name = self._cursor.name()
                value = self._method(value, name) if self._cursor.is_at("(") else self._field(value, name)
        return value

    def _primary(self) -> Operand:
        token = self._cursor.take()
        if token.kind in {"int", "double"}:
            value = number(token)
            exact = abs(value) <= _EXACT
            return Operand(Type(token.kind), token.offset, number=value if exact else None)
        if token.kind == "string":
            return Operand(STRING, token.offset, (token,), chars=len(token.text))
        if token.kind == "operator" and token.text == "(":
            inner = self._ternary()
            self._cursor.expect(")")
            return inner
        if token.kind == "operator" and token.text == "[":
            return self._list(token)
        if token.kind == "name" and token.text in {"true", "false"}:
            return Operand(BOOL, token.offset)
        if token.kind != "name" or token.text in RESERVED:
            self._cursor.reject(token)
        return self._call(token) if self._cursor.is_at("(") else self._variable(token)

    def _list(self, token: Lexeme) -> Operand:
        items = [self._ternary()]
        while self._cursor.is_at(","):
            self._cursor.take()
            items.append(self._ternary())
        self._cursor.expect("]")
        return list_of(items, token.offset)

    def _variable(self, token: Lexeme) -> Operand:
        if token.text in self._bound:
            return self._bound[token.text]._replace(offset=token.offset)
        if token.text not in self._variables:
            if token.text in HINTS:
                self._cursor.reject(token)
            known = {*self._variables, *self._bound}
            raise ExpressionError(
                token.offset, f"unknown variable {token.text}{suggestion(token.text, known)}"
            )
        if not self._cursor.is_at("."):
            fields = ", ".join(FIELDS[self._variables[token.text].element])
            raise ExpressionError(token.offset, f"{token.text} needs a field: {token.text}.… one of {fields}")
        self._cursor.take()
        name = self._cursor.name()
        if self._cursor.is_at("("):
            raise ExpressionError(name.offset, f"{token.text} has no functions; read a field first")
        field = field_type(self._variables[token.text], name)
        if self._bound and field.name == "list":
            raise ExpressionError(
                token.offset,
                f"{token.text}.{name.text} is inside another list's body; "
                "lists are not nested: write two conditions or two rules",
            )
        read = self._read(token.text, name.text, field)
        self._uses[read] += 1
        return Operand(field, token.offset, read=read)

    def _read(self, variable: str, field: str, type_: Type) -> Read:
        """Return the narrowest read: one signal where its key is written out, else the whole field."""
        if type_ == SIGNALS:
            first, second, third = self._cursor.upcoming(3)
            if first.text == "." and second.kind == "name" and third.text != "(":
                return variable, field, second.text
            if first.text == "[" and third.text == "]" and _is_plain(second):
                return variable, field, second.text[1:-1]
            direct = self._sought and self._sought[0] == self._cursor.position - len((variable, ".", field))
            if self._sought and direct and first.text not in {".", "["} and _is_plain(self._sought[1]):
                return variable, field, self._sought[1].text[1:-1]
        return variable, field

    def _field(self, value: Operand, name: Lexeme) -> Operand:
        if value.type == SIGNALS:
            return Operand(DOUBLE, value.offset, read=value.read)
        if value.type.name != "object":
            raise ExpressionError(name.offset, f"{value.type} has no field {name.text}")
        field = field_type(value.type, name)
        self._entry.add(name.text)
        return Operand(field, value.offset)

    def _index(self, value: Operand) -> Operand:
        index = self._ternary()
        self._cursor.expect("]")
        if value.type == SIGNALS:
            require(index, frozenset({STRING}), "the key of a signal")
            return Operand(DOUBLE, value.offset, read=value.read)
        if value.type.name != "list":
            raise ExpressionError(index.offset, f"{value.type} cannot be indexed")
        require(index, frozenset({INT}), "an index")
        return Operand(element_type(value.type), value.offset, chars=value.chars)

    def _call(self, name: Lexeme) -> Operand:
        if name.text not in _FUNCTIONS:
            raise ExpressionError(
                name.offset, f"unknown function {name.text}{suggestion(name.text, _FUNCTIONS)}"
            )
        self._cursor.take()
        if name.text == "has":
            return self._has(name)
        argument = self._ternary()
        self._cursor.expect(")")
        if name.text == "size":
            return self._size(argument)
        accepted, result = CONVERSIONS[name.text]
        require(argument, accepted, f"{name.text}()")
        return converted(argument, result, name.offset)

    def _has(self, name: Lexeme) -> Operand:
        start = self._cursor.position
        self._cursor.enter(name.offset)
        value = self._member()
        self._cursor.leave()
        dot, field = self._cursor.tokens[self._cursor.position - 2 : self._cursor.position]
        enough = self._cursor.position - start >= len(("variable", ".", "field"))
        if not enough or dot.text != "." or field.kind != "name":
            raise ExpressionError(name.offset, "has() takes a field, such as has(toxicity.values.response)")
        self._cursor.expect(")")
        if value.read and value.type in NUMBERS:
            self._inexact[value.read] += 1
        return Operand(BOOL, name.offset)

    def _size(self, value: Operand) -> Operand:
        if value.type not in TEXTS and value.type.name not in {"list", "map"}:
            raise ExpressionError(value.offset, f"size() needs a list or text, not {value.type}")
        return Operand(INT, value.offset)

    def _method(self, value: Operand, name: Lexeme) -> Operand:
        if name.text == "matches":
            raise ExpressionError(
                name.offset, "regular expressions are left out; use startsWith, endsWith, contains or in"
            )
        known = methods(value.type)
        if name.text not in known:
            raise ExpressionError(
                name.offset, f"{value.type} has no function {name.text}{suggestion(name.text, known)}"
            )
        self._cursor.take()
        if name.text in MACROS:
            return self._comprehension(value, name)
        if name.text != "size":
            require(self._ternary(), TEXTS, f"{name.text}()")
        self._cursor.expect(")")
        return self._size(value) if name.text == "size" else Operand(BOOL, value.offset)

    def _comprehension(self, value: Operand, macro: Lexeme) -> Operand:
        if self._bound:
            raise ExpressionError(
                macro.offset, f"{macro.text} is inside another list's body; lists are not nested"
            )
        self._comprehensions += 1
        if self._comprehensions > MAX_COMPREHENSIONS:
            raise ExpressionError(
                macro.offset, f"more than {MAX_COMPREHENSIONS} list functions; split it into several rules"
            )
        variable = self._cursor.name()
        if variable.text in self._variables or variable.text in {"true", "false"}:
            raise ExpressionError(
                variable.offset, f"{variable.text} already means something; use another name"
            )
        self._cursor.expect(",")
        self._bound[variable.text] = Operand(element_type(value.type), value.offset, chars=value.chars)
        self._times = value.entries
        body = self._ternary()
        self._times = 1
        self._bound.clear()
        self._cursor.expect(")")
        if macro.text in {"map", "filter"}:
            self._copy(value, macro)
        if macro.text == "map":
            if body.type not in NUMBERS | TEXTS:
                raise ExpressionError(body.offset, f"map must make numbers or texts, not {body.type}")
            element = STRING if body.type == STATUS else body.type
            made = Type("list", element.name)
            return Operand(made, value.offset, chars=body.chars, entries=value.entries)
        require(body, frozenset({BOOL}), f"the body of {macro.text}")
        return value._replace(read=None) if macro.text == "filter" else Operand(BOOL, value.offset)

    def _copy(self, value: Operand, macro: Lexeme) -> None:
        self._copies += value.entries**2
        if self._copies > MAX_COPIES:
            raise ExpressionError(
                macro.offset,
                "makes too many or too long lists; use exists or all, or split it into several rules",
            )


def _is_plain(token: Lexeme) -> bool:
    """Return whether a literal holds no escape, so that its text is its value."""
    return token.kind == "string" and token.text[0] in "\"'" and "\\" not in token.text
