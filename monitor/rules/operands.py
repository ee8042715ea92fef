"""Operands of rule expressions and the types that operators, functions and fields accept."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from monitor.findings import MAX_EVIDENCE, Status
from monitor.rules.inputs import BOOL, DOUBLE, FIELDS, INT, STATUS, STRING, SUBJECTS, Read, Type
from monitor.rules.lexer import ExpressionError, Lexeme, suggestion

ORDER, EQUALITY = frozenset({"<", "<=", ">", ">="}), frozenset({"==", "!="})
NUMBERS, TEXTS = frozenset({INT, DOUBLE}), frozenset({STRING, STATUS})
TEXT_METHODS = frozenset({"startsWith", "endsWith", "contains"})
MACROS = frozenset({"exists", "all", "exists_one", "filter", "map"})
CONVERSIONS: Mapping[str, tuple[frozenset[Type], Type]] = {
    "int": (NUMBERS, INT),
    "double": (NUMBERS, DOUBLE),
    "string": (NUMBERS | TEXTS | {BOOL}, STRING),
}


MOST_CHARS = 128
"""Of a text that a trace brings: longer identifiers are hashed when they are read."""
_NUMBER_CHARS = 330  # of the largest double, written out


class Operand(NamedTuple):
    """A checked part: its type and where it begins.

    `texts` are its text literals, to compare with known values. `read` is set if it is just a field, `number`
    if it is just a literal. At most `entries` are in a list; at most `chars` characters in a text, or in each
    text of a list.
    """

    type: Type
    offset: int
    texts: tuple[Lexeme, ...] = ()
    read: Read | None = None
    number: float | None = None
    chars: int = MOST_CHARS
    entries: int = MAX_EVIDENCE


def require(operand: Operand, accepted: frozenset[Type], where: str) -> None:
    """Raise ExpressionError unless an operand has one of the accepted types."""
    if operand.type not in accepted:
        names = " or ".join(sorted(str(t) for t in accepted))
        raise ExpressionError(operand.offset, f"{where} needs {names}, not {operand.type}")


def check_comparison(operator: Lexeme, left: Operand, right: Operand) -> None:
    """Raise ExpressionError unless an operator can compare two operands, or seek the left in the right."""
    first, second = left.type, right.type
    if operator.text == "in":
        if second.name != "list":
            raise ExpressionError(right.offset, f"in needs a list on its right, not {second}")
        second = Type(second.element)
    allowed = (
        {first, second} <= NUMBERS
        or {first, second} <= TEXTS
        or (operator.text in EQUALITY and first == second == BOOL)
    )
    if not allowed:
        raise ExpressionError(
            operator.offset, f"{operator.text} cannot compare {first} with {second}; both must be alike"
        )
    if STATUS in {first, second}:
        _check_statuses(left.texts + right.texts)


def _check_statuses(texts: tuple[Lexeme, ...]) -> None:
    known = [status.value for status in Status]
    for token in texts:
        if token.text[1:-1] not in known:
            raise ExpressionError(
                token.offset, f"{token.text} is not a status{suggestion(token.text[1:-1], known)}"
            )


def combine(operator: Lexeme, left: Operand, right: Operand) -> Operand:
    """Return the result of an arithmetic operator. Raises ExpressionError where the types do not fit."""
    if operator.text == "+" and {left.type, right.type} <= TEXTS:
        return Operand(STRING, left.offset, chars=left.chars + right.chars)
    allowed = {INT} if operator.text == "%" else {INT, DOUBLE}
    if left.type != right.type or left.type not in allowed:
        raise ExpressionError(
            operator.offset,
            f"{operator.text} cannot combine {left.type} with {right.type}; "
            "write 1.0 for a double, or convert with double() or int()",
        )
    return Operand(left.type, left.offset)


def list_of(items: Sequence[Operand], offset: int) -> Operand:
    """Return a list of items. Raises ExpressionError when it mixes numbers with texts."""
    types = {item.type for item in items}
    if not (types <= NUMBERS or types <= TEXTS):
        raise ExpressionError(offset, "a list must hold only numbers or only texts")
    element = STRING if types <= TEXTS else DOUBLE if DOUBLE in types else INT
    texts = tuple(text for item in items for text in item.texts)
    chars = max(item.chars for item in items)
    return Operand(Type("list", element.name), offset, texts, chars=chars, entries=len(items))


def converted(operand: Operand, to: Type, offset: int) -> Operand:
    """Return an operand after a conversion."""
    return Operand(to, offset, chars=operand.chars if operand.type in TEXTS else _NUMBER_CHARS)


def field_type(owner: Type, name: Lexeme) -> Type:
    """Return the type of a field. Raises ExpressionError when its owner has none of that name."""
    fields = FIELDS[owner.element]
    if name.text not in fields:
        described = "an evidence entry" if owner.element == "evidence" else f"a {owner.element}"
        described = owner.element if owner.element in SUBJECTS else described
        raise ExpressionError(
            name.offset, f"{described} has no field {name.text}{suggestion(name.text, fields)}"
        )
    return fields[name.text]


def element_type(of: Type) -> Type:
    """Return the type of a list's elements."""
    return Type("object", "evidence") if of.element == "evidence" else Type(of.element)


def methods(of: Type) -> frozenset[str]:
    """Return the functions that values of a type have."""
    if of in TEXTS:
        return TEXT_METHODS | {"size"}
    return MACROS | {"size"} if of.name == "list" else frozenset({"size"})
