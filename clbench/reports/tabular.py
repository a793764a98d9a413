"""Rows of cells as text: CSV for programs, aligned columns for the terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any


# ------------------------------------------------------------------------------------------------ CSV
def harmless(cell: Any) -> Any:
    """Prefixes a text that a spreadsheet would execute with an apostrophe; numbers are unchanged.

    >>> harmless("=1+1"), harmless("-x"), harmless(-1.5), harmless("a=1")
    ("'=1+1", "'-x", -1.5, 'a=1')
    """
    return "'" + cell if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def csv_bytes(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Rows as CSV: numbers unrounded, missing empty, headings and texts made `harmless`.

    This module quotes by itself: whether Python's writer quotes a carriage return depends on its
    version.
    """
    return "".join(f"{','.join(map(_cell, row))}\n" for row in [columns, *rows]).encode()


def is_missing(value: Any) -> bool:
    """True for a cell without a value: None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _cell(value: Any) -> str:
    """A value between two commas.

    >>> _cell(None), _cell(True), _cell(0.5), _cell("a, b"), _cell("=1")
    ('', 'true', '0.5', '"a, b"', "'=1")
    """
    if is_missing(value):
        return ""
    text = str(value).lower() if isinstance(value, bool) else str(harmless(value))
    return '"' + text.replace('"', '""') + '"' if re.search('[",\\r\\n]', text) else text


# ------------------------------------------------------------------------------------------------ the terminal
def plain(text: str) -> str:
    """Text in one line without control characters.

    >>> plain("a\\nb \\x1b[31m é")
    'a\\\\nb \\\\x1b[31m é'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def column_widths(lines: Iterable[Sequence[str]]) -> list[int]:
    """The longest cell of each column."""
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def aligned(lines: Sequence[Sequence[str]], words: int | Sequence[bool] | None = None) -> list[str]:
    """Lines with aligned columns.

    Args:
        lines: cells, as many in each line.
        words: how many columns hold words, which stand to the left, or whether each does; the others hold numbers,
            which stand to the right. All of them where it is None.

    >>> aligned([("a", "b"), ("long", "10")]), aligned([("a", "b"), ("long", "10")], words=1)
    (['a     b', 'long  10'], ['a      b', 'long  10'])
    """
    widths = column_widths(lines)
    if words is None or isinstance(words, int):
        words = [words is None or i < words for i in range(len(widths))]
    return [
        "  ".join(c.ljust(w) if left else c.rjust(w) for c, w, left in zip(line, widths, words, strict=True))
        .rstrip()
        for line in lines
    ]  # fmt: skip
