"""Charts: curves and bars as inline SVG, without a script or a style of their own; the page's classes colour them.

Positions are drawn in floats, which a picture is exact enough with; every number that is written comes from Decimals.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Final
from xml.etree.ElementTree import Element, SubElement

WIDTH: Final = 960
HEIGHT: Final = 260
LEFT: Final = 84
"""Room for the amounts."""
RIGHT: Final = 16
TOP: Final = 14
BOTTOM: Final = 28
"""Room for the times."""
TICKS: Final = 6
"""Distances between the times written: whole hours where the picture is of one day, or two."""

Point = tuple[datetime, Decimal]
Span = tuple[datetime, datetime]
"""From when to when a picture goes."""


def amount_of(value: Decimal) -> str:
    """An amount as people read it: thousands apart, two digits behind the point, more only where it is small."""
    return _with_digits(value, 2 if not value or abs(value) >= 1 else min(8, 3 - value.adjusted()))


def _with_digits(value: Decimal, digits: int) -> str:
    return f"{value:,.{digits}f}".replace("-", "−")


@dataclass(frozen=True, slots=True)
class _Scale:
    """Where times and amounts stand in the picture."""

    start: datetime
    end: datetime
    low: float
    high: float

    @classmethod
    def around(cls, start: datetime, end: datetime, values: Iterable[Decimal]) -> "_Scale":
        """The amounts with a little room above and below, however small the difference between them is."""
        known = [float(value) for value in values]
        low, high = min(known), max(known)
        room = (high - low) * 0.06 or abs(high) * 0.01 or 1.0
        return cls(start, end, low - room, high + room)

    def x(self, moment: datetime) -> float:
        """How far to the right."""
        return LEFT + (WIDTH - LEFT - RIGHT) * ((moment - self.start) / (self.end - self.start))

    def y(self, value: float | Decimal) -> float:
        """How far down."""
        return TOP + (HEIGHT - TOP - BOTTOM) * (self.high - float(value)) / (self.high - self.low)

    def amounts(self) -> list[tuple[float, str]]:
        """Round amounts, a handful of them, with how they are written."""
        rough = (self.high - self.low) / 7
        magnitude = 10.0 ** math.floor(math.log10(rough))
        step = next(each * magnitude for each in (1, 2, 5, 10) if each * magnitude >= rough)
        digits = max(0, -math.floor(math.log10(step)))
        numbers = range(math.ceil(self.low / step), math.floor(self.high / step) + 1)
        return [(number * step, _with_digits(Decimal(number * step), digits)) for number in numbers]

    def times(self) -> list[tuple[datetime, str]]:
        """Moments at equal distances with how they are written."""
        lasts = self.end - self.start
        form = (
            "%d %b %H:%M"
            if lasts < timedelta(days=3)
            else "%d %b"
            if lasts < timedelta(days=300)
            else "%b %Y"
        )
        moments = [self.start + lasts * number / TICKS for number in range(TICKS + 1)]
        return [(moment, moment.strftime(form)) for moment in moments]


def curve(
    name: str, points: Sequence[Point], span: Span, *, kind: str, base: Decimal | None = None
) -> Element:
    """A line that stays as it is until the next point, and the area down to `base`, or to the bottom without one."""
    values = [value for _, value in points]
    scale = _Scale.around(*span, values if base is None else [*values, base])
    picture = _picture(name, kind, scale)
    drawn = list(_thinned(points, scale))
    path, height = [], scale.y(drawn[0][1])
    for moment, value in drawn:
        across, before, height = scale.x(moment), height, scale.y(value)
        path += [f"{across:.1f},{before:.1f}", f"{across:.1f},{height:.1f}"]
    floor = scale.y(scale.low if base is None else base)
    first, last = scale.x(drawn[0][0]), scale.x(drawn[-1][0])
    SubElement(
        picture,
        "polygon",
        {"class": "area", "points": " ".join([f"{first:.1f},{floor:.1f}", *path, f"{last:.1f},{floor:.1f}"])},
    )
    SubElement(picture, "polyline", {"class": "line", "points": " ".join(path)})
    end = {"class": "end", "r": "3.5", "cx": f"{last:.1f}", "cy": f"{height:.1f}"}
    SubElement(picture, "circle", end)
    return picture


def bars(name: str, points: Sequence[Point], width: timedelta, span: Span, *, kind: str) -> Element:
    """A bar from zero for each point, beginning at its time."""
    scale = _Scale.around(*span, [Decimal(0), *(value for _, value in points)])
    picture = _picture(name, kind, scale)
    zero = scale.y(0)
    for moment, value in points:
        left, right = scale.x(moment), scale.x(moment + width)
        top, bottom = sorted((zero, scale.y(value)))
        gap = min(2.0, (right - left) * 0.15)
        SubElement(
            picture,
            "rect",
            {
                "class": "loss" if value < 0 else "gain",
                "x": f"{left + gap:.1f}",
                "y": f"{top:.1f}",
                "width": f"{max(right - left - 2 * gap, 0.5):.1f}",
                "height": f"{max(bottom - top, 0.5):.1f}",
            },
        )
    SubElement(
        picture,
        "line",
        {
            "class": "zero",
            "x1": str(LEFT),
            "x2": str(WIDTH - RIGHT),
            "y1": f"{zero:.1f}",
            "y2": f"{zero:.1f}",
        },
    )
    return picture


def _picture(name: str, kind: str, scale: _Scale) -> Element:
    """An empty picture with its axes."""
    picture = Element(
        "svg",
        {"class": f"chart {kind}", "viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img", "aria-label": name},
    )
    for value, words in scale.amounts():
        y = f"{scale.y(value):.1f}"
        SubElement(
            picture, "line", {"class": "grid", "x1": str(LEFT), "x2": str(WIDTH - RIGHT), "y1": y, "y2": y}
        )
        _write(picture, words, LEFT - 8, float(y) + 4, "end")
    for number, (moment, words) in enumerate(scale.times()):
        anchor = "start" if number == 0 else "end" if number == TICKS else "middle"
        _write(picture, words, scale.x(moment), HEIGHT - 8, anchor)
    return picture


def _write(picture: Element, words: str, x: float, y: float, anchor: str) -> None:
    at = {"class": "axis", "x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
    SubElement(picture, "text", at).text = words


def _thinned(points: Sequence[Point], scale: _Scale) -> Iterable[Point]:
    """Of the points that share a column of the picture only the first, the lowest, the highest and the last."""
    for _, together in groupby(points, lambda point: int(scale.x(point[0]))):
        group = list(together)
        kept = {0, len(group) - 1}
        kept.add(min(range(len(group)), key=lambda place: group[place][1]))
        kept.add(max(range(len(group)), key=lambda place: group[place][1]))
        yield from (group[place] for place in sorted(kept))
