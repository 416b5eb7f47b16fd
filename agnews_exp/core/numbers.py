"""Numbers written for people: metrics to four places, shares, counts, times, p-values, intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

DASH: Final = "–"
"""The sign for a number that is missing."""


def format_seconds(value: float) -> str:
    """Return seconds as ``12.3 ms``, ``8.5 s``, ``12 min`` or ``3 h 05 min``."""
    if value < 1:
        return f"{1000 * value:.3g} ms"
    if value < 120:
        return f"{value:.3g} s"
    minutes = round(value / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


FORMS: Final[dict[str, Callable[[float], str]]] = {
    "metric": lambda value: f"{value:.4f}",
    "change": lambda value: f"{value:+.4f}",
    "share": lambda value: f"{value:.1%}",
    "points": lambda value: f"{100 * value:+.2f}",
    "count": lambda value: f"{value:,.0f}",
    "id": lambda value: f"{value:.0f}",
    "p": lambda value: "< 1e-16" if value < 1e-16 else f"{value:.2g}",
    "time": format_seconds,
    "number": lambda value: f"{value:.4g}",
}
"""Ways of writing a number by name. ``points`` is a difference of shares in percentage points, ``time`` takes seconds,
``number`` gives four significant digits."""


def format_number(value: float | None, form: str = "number", unit: str = "") -> str:
    """Return a number as text; a dash for None and what is not finite.

    ``form`` is a name of :data:`FORMS`, or a format specification of Python, such as ``.2f``.
    """
    if value is None or not math.isfinite(value):
        return DASH
    write = FORMS.get(form)
    text = write(value) if write else format(value, form)
    return f"{text} {unit}" if unit else text


def format_interval(value: float | None, low: float | None, high: float | None, form: str = "number") -> str:
    """Return ``0.9123 [0.9051, 0.9190]``; the value alone where an end is missing."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return format_number(value, form)
    if value is None or not math.isfinite(value):
        return DASH
    return f"{format_number(value, form)} [{format_number(low, form)}, {format_number(high, form)}]"


def format_p(value: float, name: str = "p") -> str:
    """Return ``p = 0.023``, or ``p < 1e-16``."""
    said = format_number(value, "p")
    return f"{name} {said}" if said.startswith("<") else f"{name} = {said}"


def plural(n: int, word: str) -> str:
    """Return ``1 run``, ``2 runs``."""
    return f"{n:,} {word}{'' if n == 1 else 's'}"
