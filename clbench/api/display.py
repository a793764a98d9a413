"""Tables of objects in a notebook, and their texts elsewhere."""

from __future__ import annotations

import html
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clbench.reports.tabular import plain


def text(value: object) -> str:
    """A cell: one line of printable text, escaped for HTML.

    >>> text("<b>\\n"), text(None)
    ('&lt;b&gt;\\\\n', '')
    """
    return "" if value is None else html.escape(plain(str(value)))


def table(
    headings: Sequence[object], rows: Iterable[Sequence[object]], title: str = "", words: int | Sequence[bool] = 1
) -> str:
    """A table as HTML, every text escaped.

    Args:
        headings: of the columns; none for a table without a head.
        rows: cells, as many in each.
        title: above it.
        words: how many columns stand to the left, or whether each does; the others hold numbers, to the right.

    >>> table([], [["a", "<"]])
    '<table><tbody><tr><td style="text-align: left">a</td><td style="text-align: right">&lt;</td></tr></tbody></table>'
    """

    def line(cells: Sequence[object], tag: str) -> str:
        lefts = [i < words for i in range(len(cells))] if isinstance(words, int) else words
        sides = ("left" if left else "right" for left in lefts)
        inner = "".join(f'<{tag} style="text-align: {s}">{text(c)}</{tag}>' for c, s in zip(cells, sides, strict=True))
        return f"<tr>{inner}</tr>"

    caption = f'<caption style="text-align: left">{text(title)}</caption>' if title else ""
    head = f"<thead>{line(headings, 'th')}</thead>" if headings else ""
    return f"<table>{caption}{head}<tbody>{''.join(line(row, 'td') for row in rows)}</tbody></table>"


def folded(summary: str, content: str) -> str:
    """A text that a click unfolds, as HTML."""
    return f"<details><summary>{text(summary)}</summary><pre>{html.escape(content)}</pre></details>"


def is_interactive() -> bool:
    """True on a terminal and in a notebook, where progress is shown."""
    ipython = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return sys.stderr.isatty() or "IPKernelApp" in getattr(ipython, "config", ())


# ------------------------------------------------------------------------------------------------ arguments
def as_yaml(value: Any) -> Any:
    """A value of Python as YAML has it: tuples are lists, paths texts, numbers of NumPy plain.

    >>> import numpy as np, pathlib
    >>> as_yaml({"hidden": (100, np.int64(50)), "data": pathlib.PurePosixPath("a/b")})
    {'hidden': [100, 50], 'data': 'a/b'}
    """
    if isinstance(value, Mapping):
        return {key: as_yaml(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [as_yaml(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    return value
