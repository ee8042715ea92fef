"""Texts that hold personal data by the thousand, by their number of rows."""

import random
from typing import Final

FIRST: Final = ("Anna", "John", "Maria", "Peter", "Jean", "Carlos", "Wei", "Fatima", "Olga", "Liam")
LAST: Final = ("Smith", "Miller", "Garcia", "Ivanova", "Dubois", "Chen", "Khan", "Weber", "Rossi", "Novak")


def customers(rows: int) -> str:
    """A list of customers, no two rows alike."""
    rng = random.Random(rows)
    return "\n".join(
        f"{row},{rng.choice(FIRST)} {rng.choice(LAST)}{row},{rng.choice(LAST).lower()}.{row}@example.com,"
        f"+44 20 7946 {row % 10_000:04d},{rng.randrange(1, 400)} Oak Street"
        for row in range(rows)
    )


def misters(rows: int) -> str:
    """The same title and name again and again."""
    return "Mr. Smith " * (8 * rows)


def crowded(rows: int) -> str:
    """Numbers that may be anything, in disguise: everything is analysed twice."""
    return "\uff11 " + " ".join(f"card 4111 1111 1111 {row % 10_000:04d}" for row in range(2 * rows))


def copied(rows: int) -> str:
    """Addresses of which the prompt holds the beginnings."""
    return "\n".join(f"user{row}@mail.example.com" for row in range(3 * rows))
