"""The bundled weights as they lie on disk: which there are, and whether each is the pinned one."""

from typing import Final, Literal, TypeAlias

import msgspec

from monitor import models
from monitor.errors import ConfigError

CARDS: Final = models.WEIGHTS.parent / "cards"
State: TypeAlias = Literal["ok", "altered", "missing", "unpinned"]


class Weights(msgspec.Struct, frozen=True):
    """One file of the bundled weights: size on disk, whether it is the pinned one, and what made it."""

    file: str
    bytes: int
    state: State
    sha256: str
    trained_by: str
    card: str


def bundled() -> list[Weights]:
    """Return every file that is pinned or lies in the folder of the weights, by name.

    Raises ConfigError when the manifest cannot be read.
    """
    pins = models.manifest()
    there = {path.name for path in models.WEIGHTS.iterdir() if path.is_file()} - {models.MANIFEST.name}
    weights = []
    for name in sorted(there | set(pins)):
        pin = pins.get(name)
        path = models.WEIGHTS / name
        weights.append(
            Weights(
                file=name,
                bytes=path.stat().st_size if path.is_file() else 0,
                state=_state(name, pinned=pin is not None),
                sha256=pin["sha256"] if pin else "",
                trained_by=pin["trained_by"] if pin else "",
                card=_card(name),
            )
        )
    return weights


def _state(name: str, *, pinned: bool) -> State:
    if not (models.WEIGHTS / name).is_file():
        return "missing"
    if not pinned:
        return "unpinned"
    try:
        models.verified(name)
    except ConfigError:
        return "altered"
    return "ok"


def _card(name: str) -> str:
    """Return the model card that names the file in its list of files."""
    cards = sorted(CARDS.glob("*.md"))
    return next((card.stem for card in cards if f"`{name}`" in card.read_text(encoding="utf-8")), "")
