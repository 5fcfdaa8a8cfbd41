"""Draw the distributions of latency.py as one SVG. Pure: figures in, text out.

At the top the three ways on one logarithmic axis, from microseconds to seconds. Below, one panel per durability and
transport: which share of the round trips (y) was over within a time (x), ours and the floor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final
from xml.sax.saxutils import escape

OURS: Final = "#1f5fbf"
FLOOR: Final = "#7a8590"
POLLING: Final = "#c8641e"
_INK: Final = "#1f2328"
_FAINT: Final = "#59636e"
_GRID: Final = "#e4e8ec"

_WIDTH: Final = 960
_MARGIN: Final = 56
_STRIP_TOP: Final = 96
_ROW: Final = 30
_PANEL_WIDTH: Final = 400
_PANEL_HEIGHT: Final = 190
_PANEL_STEP_X: Final = _WIDTH - 2 * _MARGIN - _PANEL_WIDTH
_PANEL_STEP_Y: Final = _PANEL_HEIGHT + 90
_TAIL_PERCENT: Final = 99  # a panel's axis ends here; the slowest rounds are in the table
_POINTS: Final = 200  # of a curve


class _Axis:
    """A logarithmic axis: microseconds to pixels."""

    def __init__(self, low_us: float, high_us: float, *, left: float, width: float) -> None:
        self.low_us, self.high_us, self.left, self.width = low_us, high_us, left, width

    def x(self, us: float) -> float:
        share = math.log(us / self.low_us) / math.log(self.high_us / self.low_us)
        return self.left + self.width * min(1.0, max(0.0, share))

    def ticks(self) -> Iterator[tuple[float, bool]]:
        """Give the ticks, each with whether it is a power of ten."""
        steps: tuple[float, ...] = (1, 2, 5) if self.high_us / self.low_us < 200 else (1,)
        if self.high_us / self.low_us < 8:
            steps = (1, 1.5, 2, 3, 4, 5, 6, 8)
        for power in range(math.floor(math.log10(self.low_us)), math.ceil(math.log10(self.high_us)) + 1):
            for step in steps:
                us = step * 10.0**power
                if self.low_us <= us <= self.high_us:
                    yield us, step == 1


def draw(figures: dict[str, Any]) -> str:
    """Return the SVG of what `latency.figures_of` returned."""
    cells = figures["cells"]
    panels_top = _STRIP_TOP + 3 * _ROW + 110
    height = panels_top + _PANEL_STEP_Y * ((len(cells) + 1) // 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(_MARGIN, 36, "Task round trip: stored twice, encrypted, through the hub and back", size=18, weight=600),
    ]
    facts = figures["machine"]
    parts.append(
        _text(
            _MARGIN,
            58,
            f"{figures['body_bytes']}-byte bodies, one task at a time; {facts['cores']} cores, {facts['system']}, "
            f"Python {facts['python']}, SQLite {facts['sqlite']}, libzmq {facts['libzmq']}",
            colour=_FAINT,
        )
    )
    parts += _strip(cells[0], figures["polling"])
    parts.append(
        _text(_MARGIN, panels_top - 38, "Ours and the floor, share of round trips done within …", size=15, weight=600)
    )
    parts += _legend(panels_top - 38)
    low_us, high_us = _range(cells)
    for number, cell in enumerate(cells):
        left = _MARGIN + _PANEL_STEP_X * (number % 2)
        top = panels_top + _PANEL_STEP_Y * (number // 2)
        parts += _panel(cell, _Axis(low_us, high_us, left=left, width=_PANEL_WIDTH), top)
    return "\n".join([*parts, "</svg>\n"])


def _strip(cell: dict[str, Any], polling: dict[str, Any] | None) -> list[str]:
    """Draw p50, and the range from p1 to p99, of each way on one axis."""
    rows = [("floor", FLOOR, cell["floor"]), ("ours", OURS, cell["ours"])]
    if polling is not None:
        rows.append(("JSON files", POLLING, polling))
    high_us = 10e6 if polling else 100e3
    axis = _Axis(100.0, high_us, left=_MARGIN + 90, width=_WIDTH - 2 * _MARGIN - 90)
    bottom = _STRIP_TOP + len(rows) * _ROW
    parts = [
        _text(
            _MARGIN,
            _STRIP_TOP - 12,
            f"Durability {cell['durability']} over {cell['transport']}: p50, and the range from p1 to p99",
            weight=600,
        )
    ]
    parts += _x_axis(axis, _STRIP_TOP, bottom)
    for number, (name, colour, found) in enumerate(rows):
        y = _STRIP_TOP + _ROW * (number + 0.5)
        ordered = sorted(found["samples_us"])
        low, high = axis.x(_at(ordered, 1)), axis.x(_at(ordered, 99))
        middle = axis.x(found["p50_us"])
        parts += [
            _text(_MARGIN, y + 4, name, colour=colour, weight=600),
            f'<rect x="{low:.1f}" y="{y - 5:.1f}" width="{max(1.0, high - low):.1f}" height="10" rx="3" '
            f'fill="{colour}" fill-opacity="0.3"/>',
            f'<circle cx="{middle:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>',
        ]
        label_left = middle > axis.left + 0.8 * axis.width
        parts.append(
            _text(
                low - 8 if label_left else high + 8,
                y + 4,
                _time(found["p50_us"]),
                colour=colour,
                anchor="end" if label_left else "start",
            )
        )
    return parts


def _legend(y: float) -> list[str]:
    parts = []
    for x, name, colour in ((_WIDTH - 230, "ours", OURS), (_WIDTH - 150, "floor", FLOOR)):
        parts.append(f'<line x1="{x}" y1="{y - 4}" x2="{x + 24}" y2="{y - 4}" stroke="{colour}" stroke-width="3"/>')
        parts.append(_text(x + 30, y, name, colour=colour))
    return parts


def _panel(cell: dict[str, Any], axis: _Axis, top: float) -> list[str]:
    bottom = top + _PANEL_HEIGHT
    title = f"{cell['durability']} over {cell['transport']}"
    parts = [
        _text(axis.left, top - 8, title, weight=600),
        _text(
            axis.left + axis.width, top - 8, f"p50: {cell['ratio_p50']:.2f} × the floor", anchor="end", colour=_FAINT
        ),
    ]
    parts += _x_axis(axis, top, bottom)
    for percent in (0, 50, 90, 100):
        y = bottom - _PANEL_HEIGHT * percent / 100
        parts.append(_line(axis.left, y, axis.left + axis.width, y, _GRID))
        if axis.left < _WIDTH / 3:
            parts.append(_text(axis.left - 8, y + 4, f"{percent} %", anchor="end", colour=_FAINT, size=11))
    for number, (name, colour) in enumerate((("floor", FLOOR), ("ours", OURS))):
        found = cell[name]
        x = axis.x(found["p50_us"])
        parts.append(_curve(sorted(found["samples_us"]), axis, bottom, colour))
        parts.append(f'<circle cx="{x:.1f}" cy="{bottom - _PANEL_HEIGHT / 2:.1f}" r="4" fill="{colour}"/>')
        label = f"{name}: p50 {_time(found['p50_us'])}, p99 {_time(found['p99_us'])}"
        anchor = ("start", "end")[number]
        parts.append(_text(axis.left + number * axis.width, bottom + 38, label, anchor=anchor, colour=colour, size=12))
    return parts


def _curve(ordered: Sequence[float], axis: _Axis, bottom: float, colour: str) -> str:
    points = []
    for step in range(_POINTS + 1):
        percent = 100 * step / _POINTS
        points.append(f"{axis.x(_at(ordered, percent)):.1f},{bottom - _PANEL_HEIGHT * percent / 100:.1f}")
    return f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2.5"/>'


def _x_axis(axis: _Axis, top: float, bottom: float) -> list[str]:
    parts = []
    free_from = -math.inf
    for us, is_power in axis.ticks():
        x = axis.x(us)
        parts.append(_line(x, top, x, bottom, "#c9d1d9" if is_power else _GRID))
        if x >= free_from:
            parts.append(_text(x, bottom + 18, _time(us), anchor="middle", colour=_FAINT, size=11))
            free_from = x + 46
    parts.append(_line(axis.left, bottom, axis.left + axis.width, bottom, _FAINT))
    return parts


def _range(cells: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Return one axis for all panels, so that they can be compared."""
    samples = [sorted(cell[name]["samples_us"]) for cell in cells for name in ("ours", "floor")]
    return min(each[0] for each in samples) / 1.1, max(_at(each, _TAIL_PERCENT) for each in samples) * 1.1


def _at(ordered: Sequence[float], percent: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def _time(us: float) -> str:
    """Write a time with its unit, in three digits."""
    for unit, name in ((1e6, "s"), (1e3, "ms")):
        if us >= unit:
            return f"{us / unit:.3g} {name}"
    return f"{us:.3g} µs"


def _text(
    x: float, y: float, text: str, *, colour: str = _INK, size: int = 13, weight: int = 400, anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'
