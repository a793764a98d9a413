"""Numbers as text: units, durations and ranges, the same wherever they are printed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

UNITS = {
    "accuracy": "%",
    "share": "%",
    "iterations": "iterations",
    "accuracy x iterations": "% x iterations",
    "number": "",
}
"""Unit of a metric -> unit in which it is printed; that of a measure is printed as it is."""

UNDEFINED = "undefined"


def printed_unit(unit: str) -> str:
    """The unit in which values of a unit are printed.

    >>> printed_unit("accuracy"), printed_unit("squared units x iterations")
    ('%', 'squared units x iterations')
    """
    return UNITS.get(unit, unit)


def scaled(value: float, unit: str, places: int = 2) -> float:
    """A value in the unit in which it is printed: accuracies and shares in percent. Never -0.00.

    >>> scaled(0.8125, "accuracy"), scaled(12.0, "iterations"), scaled(-1e-5, "share")
    (81.25, 12.0, 0.0)
    """
    printed = value * (100 if printed_unit(unit).startswith("%") else 1)
    return 0.0 if abs(printed) < 0.5 * 10**-places else printed


def quantity(value: float | None, unit: str, places: int = 2, undefined: str = UNDEFINED) -> str:
    """A value with its unit.

    >>> quantity(0.8125, "accuracy"), quantity(1.0, "iterations", 0), quantity(None, "share"), quantity(2.5, "number")
    ('81.25 %', '1 iteration', 'undefined', '2.50')
    >>> quantity(0.00123456, "squared units")
    '0.001235 squared units'
    """
    if value is None or math.isnan(value):
        return undefined
    if unit not in UNITS:  # of a measure: as many digits, wherever the point is
        return f"{value:.{places + 2}g} {unit}"
    text = f"{scaled(value, unit, places):.{places}f}"
    return f"{text} {'iteration' if unit == 'iterations' and text == '1' else UNITS[unit]}".rstrip()


def headed(title: str, unit: str) -> str:
    """A heading with the unit in which values below it are printed.

    >>> headed("min_acc", "accuracy"), headed("worst", "squared units")
    ('min_acc %', 'worst (squared units)')
    """
    return f"{title} {UNITS[unit]}" if unit in UNITS else f"{title} ({unit})"


def decimals(value: float, unit: str, places: int = 2) -> int:
    """Decimals of a value without its unit: of measures as many as give `places` + 2 digits, at most 10.

    >>> decimals(0.8125, "accuracy"), decimals(4.70812, "squared units"), decimals(0.00123456, "nats")
    (2, 3, 6)
    """
    if unit in UNITS:
        return places
    size = math.floor(math.log10(abs(value))) if value and math.isfinite(value) else 0
    return min(max(places + 1 - size, 0), 10)


def number(value: float, unit: str, places: int | None = None) -> str:
    """A value in the unit in which it is printed, without it.

    Args:
        value: finite.
        unit: of it.
        places: decimals; default: those of `decimals`.

    >>> number(0.8125, "accuracy"), number(4.7, "squared units"), number(1.5e12, "squared units")
    ('81.25', '4.700', '1.5e+12')
    """
    if unit not in UNITS and abs(value) >= 1e7:
        return f"{value:.4g}"
    places = decimals(value, unit) if places is None else places
    return f"{scaled(value, unit, places):.{places}f}"


def telling_places(values: Iterable[float | None], unit: str, least: int = 2) -> int:
    """Decimals with which values that differ are printed differently, so that a verdict on them can be followed.

    Args:
        values: that are compared; None is nothing to print. Those equal to 10 printed decimals count as equal.
        unit: of all of them.
        least: decimals at least.

    >>> telling_places([0.5, 0.75], "accuracy"), telling_places([0.79401, 0.79404], "accuracy")
    (2, 3)
    >>> telling_places([0.0, 1e-15], "accuracy"), telling_places([0.0, None, 0.0004], "iterations")
    (2, 4)
    """
    most = 10
    known = sorted({round(scaled(v, unit, most), most) for v in values if v is not None and not math.isnan(v)})
    for places in range(least, most):
        if len({float(f"{v:.{places}f}") for v in known}) == len(known):
            return places
    return most


def compact(value: float) -> str:
    """At most two decimals, and no zeros at the end.

    >>> compact(1234.5), compact(3.0)
    ('1,234.5', '3')
    """
    return f"{value:,.2f}".rstrip("0").rstrip(".")


def duration(seconds: float) -> str:
    """A time in its two largest units.

    >>> duration(0), duration(3.2), duration(59.96), duration(75), duration(7300), duration(360_000)
    ('0 s', '3.2 s', '1 min 0 s', '1 min 15 s', '2 h 1 min', '100 h 0 min')
    """
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s" if seconds else "0 s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def consecutive(numbers: Iterable[int]) -> Iterator[list[int]]:
    """Ascending numbers in groups of neighbours.

    >>> list(consecutive([0, 1, 2, 5]))
    [[0, 1, 2], [5]]
    """
    group: list[int] = []
    for n in numbers:
        if group and n != group[-1] + 1:
            yield group
            group = []
        group.append(n)
    if group:
        yield group


def ranges(numbers: Iterable[int], most: int | None = None) -> str:
    """Ascending numbers, three neighbours and more as a range.

    Args:
        numbers: ascending.
        most: how many numbers and ranges there may be; of more the last ones are left out, and how many numbers there
            are in all is added.

    >>> ranges([0, 1, 2, 5, 7, 8]), ranges([])
    ('0-2, 5, 7, 8', '')
    >>> ranges(range(0, 100, 2), most=10)
    '0, 2, 4, 6, 8, 10, 12, 14, 16, ... (50 in all)'
    """
    groups = list(consecutive(numbers))
    parts = [f"{group[0]}-{group[-1]}" if len(group) > 2 else ", ".join(map(str, group)) for group in groups]
    if most is not None and len(parts) > most:
        parts = [*parts[: most - 1], f"... ({sum(map(len, groups))} in all)"]
    return ", ".join(parts)
