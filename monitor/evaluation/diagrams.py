"""ROC and reliability diagrams of `riskmon eval --plot`, side by side in one SVG, without a library."""

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Final, TypeAlias

from monitor.evaluation import measures as measure

SIDE: Final = 300  # of a panel, in pixels
Curves: TypeAlias = Mapping[str, tuple[measure.Labels, measure.Scores]]
"""Labels and scores by system, our own first."""

_COLOURS: Final = (
    "#0b5fa5",
    "#d1495b",
    "#5b8c5a",
    "#e0a030",
    "#7a5195",
    "#4d4d4d",
    "#3aa6a6",
    "#9c6644",
    "#e377c2",
    "#8fb339",
)
_LEFT, _TOP, _GAP = 56, 48, 76


def svg(title: str, curves: Curves) -> str:
    """Return the ROC curves of all systems and the reliability of the first one.

    With one class only there is no ROC curve, and the legend says so.
    """
    right = _LEFT + SIDE + _GAP
    width, height = right + SIDE + 24, _TOP + SIDE + 52 + 18 * len(curves)
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    font = 'font-family="sans-serif" font-size="12" fill="#222"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="24" font-size="15" font-weight="bold">{escape(title)}</text>',
        *_axes(_LEFT, "false-positive rate", "true-positive rate"),
        *_axes(right, "score", "share of positives"),
    ]
    for number, (labels, scores) in enumerate(curves.values()):
        if number == 0:
            parts += _reliability(right, labels, scores)
        if measure.auroc(labels, scores) is not None:
            path = _path(_LEFT, *measure.roc(labels, scores))
            thick = 1.2 if number else 2.4
            parts.append(f'<path d="{path}" fill="none" stroke="{_colour(number)}" stroke-width="{thick}"/>')
    return "\n".join([*parts, *_legend(curves), "</svg>", ""])


def _reliability(left: int, labels: measure.Labels, scores: measure.Scores) -> list[str]:
    bins, colour = measure.reliability(labels, scores), _colour(0)
    path = _path(left, [group.score for group in bins], [group.positives for group in bins])
    dots = [
        f'<circle cx="{_x(left, group.score)}" cy="{_y(group.positives)}" fill="{colour}" fill-opacity="0.6"'
        f' r="{2 + 8 * (group.rows / labels.size) ** 0.5:.1f}"/>'
        for group in bins
    ]
    return [f'<path d="{path}" fill="none" stroke="{colour}" stroke-opacity="0.5"/>', *dots]


def _legend(curves: Curves) -> Iterator[str]:
    for number, (system, (labels, scores)) in enumerate(curves.items()):
        y = _TOP + SIDE + 56 + 18 * number
        area, error = measure.auroc(labels, scores), measure.calibration_error(labels, scores)
        figures = "no ROC: one class only" if area is None else f"AUROC {area:.3f}"
        figures += f", calibration error {error:.3f}, {labels.size} rows"
        yield f'<rect x="{_LEFT}" y="{y - 9}" width="14" height="4" fill="{_colour(number)}"/>'
        yield f'<text x="{_LEFT + 22}" y="{y - 3}">{escape(system)}: {figures}</text>'


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _path(left: int, across: Iterable[float], up: Iterable[float]) -> str:
    return "M" + "L".join(f"{_x(left, x)},{_y(y)}" for x, y in zip(across, up, strict=True))


def _x(left: int, share: float) -> str:
    return f"{left + SIDE * share:.1f}"


def _y(share: float) -> str:
    return f"{_TOP + SIDE * (1.0 - share):.1f}"


def _axes(left: int, across: str, up: str) -> list[str]:
    bottom, middle = _TOP + SIDE, left + SIDE // 2
    parts = [f'<rect x="{left}" y="{_TOP}" width="{SIDE}" height="{SIDE}" fill="#f7f7f7" stroke="#999"/>']
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = _x(left, tick), _y(tick)
        parts += [
            f'<path d="M{x},{_TOP}V{bottom}M{left},{y}H{left + SIDE}" stroke="#ddd"/>',
            f'<text x="{x}" y="{bottom + 16}" text-anchor="middle" fill="#555">{tick:g}</text>',
            f'<text x="{left - 6}" y="{y}" dy="4" text-anchor="end" fill="#555">{tick:g}</text>',
        ]
    turned = f'transform="rotate(-90 {left - 38} {_TOP + SIDE // 2})"'
    return [
        *parts,
        f'<path d="M{left},{bottom}L{left + SIDE},{_TOP}" stroke="#999" stroke-dasharray="4 4"/>',
        f'<text x="{middle}" y="{bottom + 33}" text-anchor="middle">{across}</text>',
        f'<text x="{left - 38}" y="{_TOP + SIDE // 2}" text-anchor="middle" {turned}>{up}</text>',
    ]
