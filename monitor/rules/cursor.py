"""A cursor over the tokens of an expression: look, take, expect, and complain where the syntax is wrong."""

from typing import NoReturn

from monitor.rules.lexer import HINTS, ExpressionError, Lexeme, tokens

MAX_DEPTH = 20  # nested brackets and signs

RESERVED = frozenset(
    {"as", "break", "const", "continue", "else", "for", "function", "if", "import", "in", "let", "loop"}
    | {"namespace", "null", "package", "return", "var", "void", "while"}
)


class Cursor:
    """The next token of an expression, and how deep its brackets and signs are nested."""

    def __init__(self, source: str) -> None:
        self.tokens = tokens(source)
        self.position = 0
        self._depth = 0

    @property
    def peek(self) -> Lexeme:
        """Return the next token without taking it."""
        return self.tokens[self.position]

    def take(self) -> Lexeme:
        """Return the next token and move behind it; the end stays the end."""
        token = self.peek
        if token.kind != "end":
            self.position += 1
        return token

    def is_at(self, *operators: str) -> bool:
        """Return whether the next token is one of these operators."""
        return self.peek.kind == "operator" and self.peek.text in operators

    def is_at_in(self) -> bool:
        """Return whether the next token is `in`, an operator that is spelled as a name."""
        return (self.peek.kind, self.peek.text) == ("name", "in")

    def upcoming(self, count: int) -> list[Lexeme]:
        """Return the next tokens, which stay; the end repeats."""
        ahead = self.tokens[self.position : self.position + count]
        return [*ahead, *[self.tokens[-1]] * (count - len(ahead))]

    def expect(self, operator: str) -> Lexeme:
        """Take an operator. Raises ExpressionError when the next token is another."""
        if not self.is_at(operator):
            self.reject(self.peek, f"expected {operator!r}")
        return self.take()

    def name(self) -> Lexeme:
        """Take a name. Raises ExpressionError when the next token cannot be one."""
        if self.peek.kind != "name" or self.peek.text in RESERVED:
            self.reject(self.peek, "expected a name")
        return self.take()

    def reject(self, token: Lexeme, wanted: str = "") -> NoReturn:
        """Raise ExpressionError at a token that does not belong there."""
        problem = "the expression ends too early" if token.kind == "end" else f"unexpected {token.text!r}"
        hint = f"; did you mean {HINTS[token.text]}?" if token.text in HINTS else ""
        raise ExpressionError(token.offset, problem + (f", {wanted}" if wanted else "") + hint)

    def enter(self, offset: int) -> None:
        """Go one level deeper. Raises ExpressionError beyond MAX_DEPTH, so that no stack overflows."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(
                offset, f"nested deeper than {MAX_DEPTH} levels; split it into several rules"
            )

    def leave(self) -> None:
        """Come back from a level that was entered."""
        self._depth -= 1
