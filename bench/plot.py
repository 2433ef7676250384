"""Curves: in a terminal, and as an SVG that needs no library to be drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, MARGIN = 900, 230, 60
BAR = 46  # columns of the terminal


@dataclass(frozen=True, kw_only=True)
class Curve:
    """`y` over `x`, in the words that its axis carries."""

    title: str
    x: Sequence[float]
    y: Sequence[float]


def text(curve: Curve) -> str:
    """One bar a point."""
    top = max(*curve.y, 1e-9)
    bars = [f"{x:7.0f}  {'█' * round(BAR * y / top):{BAR}}  {y:.1f}" for x, y in zip(curve.x, curve.y, strict=True)]
    return "\n".join([curve.title, *bars])


def svg(caption: str, x_title: str, curves: Sequence[Curve]) -> str:
    """All curves, one above the other, over the same x."""
    height = HEIGHT * len(curves) + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"',
        '  font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{WIDTH / 2}" y="22" text-anchor="middle" font-size="15">{escape(caption)}</text>',
        *(line for n, curve in enumerate(curves) for line in _panel(curve, 30 + n * HEIGHT)),
        f'<text x="{WIDTH / 2}" y="{height - 8}" text-anchor="middle">{escape(x_title)}</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _panel(curve: Curve, top: float) -> list[str]:
    """Axes from zero, five lines across, the points and what joins them."""
    low, high = top + HEIGHT - 35, top + 30
    x_most, y_most = _round_up(max(curve.x)), _round_up(max(curve.y))

    def at(x: float, y: float) -> tuple[float, float]:
        across = MARGIN + x / x_most * (WIDTH - 2 * MARGIN)
        return round(across, 1), round(low - y / y_most * (low - high), 1)

    lines = [f'<text x="{MARGIN}" y="{top + 18}" font-weight="bold">{escape(curve.title)}</text>']
    for n in range(5):
        x, y = at(x_most, y_most * n / 4)
        lines.append(f'<line x1="{MARGIN}" y1="{y}" x2="{x}" y2="{y}" stroke="#ddd"/>')
        lines.append(f'<text x="{MARGIN - 8}" y="{y + 4}" text-anchor="end" fill="#555">{y_most * n / 4:g}</text>')
        x, y = at(x_most * n / 4, 0)
        lines.append(f'<text x="{x}" y="{y + 18}" text-anchor="middle" fill="#555">{x_most * n / 4:g}</text>')
    points = [at(x, y) for x, y in zip(curve.x, curve.y, strict=True)]
    joined = " ".join(f"{x},{y}" for x, y in points)
    lines.append(f'<polyline points="{joined}" fill="none" stroke="#1665c0" stroke-width="2"/>')
    return lines + [f'<circle cx="{x}" cy="{y}" r="3" fill="#1665c0"/>' for x, y in points]


def _round_up(value: float) -> float:
    """The end of an axis: 1, 2, 4, 5 or 8 times a power of ten."""
    power = 1e-3
    while power * 10 < value:
        power *= 10
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if step * power >= value)
