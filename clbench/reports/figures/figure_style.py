"""Style and file formats of figures.

The seven colours are those of Okabe and Ito 2008, which stay apart for colour-blind readers; on paper without the
yellow, on a dark ground without the blue, each faint there. A line also has a pattern and a marker of its own, so that
it reads in grey.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clbench.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS: dict[str, dict[str, None]] = {  # what would hold a date or a version is left out
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}

STYLE = {
    "font.family": ["DejaVu Sans", "sans-serif"],  # the first comes with matplotlib; readers of an SVG may lack it
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "text.parse_math": False,
    "svg.hashsalt": "clbench",
    "svg.fonttype": "none",  # text stays text
    "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3
}

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

DARK_PALETTE = ("#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#F0E442", "#FFFFFF")

PATTERNS: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)), (0, (8, 2, 2, 2)))

MARKERS = ("o", "s", "^", "D", "v", "P", "X")

DPI = 150

COLUMNS = {1: 3.25, 2: 6.75}
"""Width in inches of one and of both columns of a two-column paper: those of ICML; of CVPR and IEEE 0.1 to 0.4 more."""

DARK_PAPER = "#16181c"


@dataclass(frozen=True)
class Look:
    """Looks that the user chooses.

    Attributes:
        width: of the figure in inches; None for the kind's own.
        title: above the figure.
        dark: whether the ground is dark.
    """

    width: float | None = None
    title: str | None = None
    dark: bool = False

    @property
    def palette(self) -> tuple[str, ...]:
        return DARK_PALETTE if self.dark else PALETTE

    @property
    def ink(self) -> str:
        """Colour of text and axes."""
        return "#e8e8e8" if self.dark else "#000000"

    @property
    def faint(self) -> str:
        """Colour of what stands behind the data, task boundaries for one."""
        return "#70757d" if self.dark else "#999999"

    @property
    def quiet(self) -> str:
        """Colour of text that explains."""
        return "#b8bcc4" if self.dark else "#4d4d4d"

    @property
    def paper(self) -> str:
        return DARK_PAPER if self.dark else "#ffffff"

    def inches(self, usual: float) -> float:
        """The width, or the usual one of a kind of figure."""
        return usual if self.width is None else self.width

    def settings(self) -> dict[str, Any]:
        """Settings of matplotlib."""
        if not self.dark:
            return dict(STYLE)
        words = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "axes.titlecolor")
        grounds = ("figure.facecolor", "axes.facecolor")
        return {**STYLE, **dict.fromkeys(words, self.ink), **dict.fromkeys(grounds, self.paper)}

    def line(self, index: int) -> dict[str, Any]:
        """Colour, pattern and marker of the method with a number; 35 differ in colour and pattern."""
        colours = self.palette
        return {
            "color": colours[index % len(colours)],
            "linestyle": PATTERNS[index % len(PATTERNS)],
            "marker": MARKERS[index % len(MARKERS)],
            "fillstyle": "full" if index < len(MARKERS) else "none",
        }


PLAIN = Look()


def rendered(figure: Callable[[], Figure], suffix: str, look: Look = PLAIN) -> bytes:
    """The bytes of a figure's file; independent of `pyplot` and of the user's settings.

    Args:
        figure: makes it.
        suffix: .png, .svg or .pdf.
        look: the one that it is made with.
    """
    import matplotlib.style

    target = io.BytesIO()
    with matplotlib.style.context(["default", look.settings()], after_reset=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a letter that the font lacks is a box in the picture
        kind = suffix.lower()
        figure().savefig(target, format=kind.lstrip("."), metadata=FORMATS[kind])
    return target.getvalue()


def check_suffix(path: Path) -> None:
    """Checks that the file format is supported.

    Raises:
        UserError: the suffix is not one of .png, .svg and .pdf.
    """
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"--out {path}: got the suffix '{path.suffix}'. Allowed: {', '.join(FORMATS)}.")


# ------------------------------------------------------------------------------------------------ text
@lru_cache(maxsize=4096)
def text_width(text: str, size: float, bold: bool = False) -> float:
    """Width of a line of text in inches, at a size in points."""
    from matplotlib import font_manager

    weight = "bold" if bold else "normal"
    path = font_manager.findfont(font_manager.FontProperties(family="DejaVu Sans", weight=weight))
    font = font_manager.get_font(path)
    font.set_size(size, 720)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        font.set_text(text)
    return float(font.get_width_height()[0]) / 64 / 720


def wrapped(text: str, size: float, width: float, bold: bool = False) -> list[str]:
    """Lines of a text that are no wider than a width in inches; a longer word is cut.

    >>> wrapped("a bb ccc", 10, 100.0)
    ['a bb ccc']
    >>> wrapped("aaaa bb", 10, text_width("aaa", 10))
    ['aaa', 'a', 'bb']
    """
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line else word
        if text_width(longer, size, bold) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        while text_width(word, size, bold) > width and len(word) > 1:
            fits = next((n for n in range(len(word) - 1, 1, -1) if text_width(word[:n], size, bold) <= width), 1)
            lines.append(word[:fits])
            word = word[fits:]
        line = word
    return [*lines, line] if line or not lines else lines


def fitting(text: str, size: float, width: float, bold: bool = False, least: float = 4.5) -> tuple[str, float]:
    """A text in one line of a width in inches: smaller where it must be, then cut with dots. Text and size."""
    wide = text_width(text, size, bold)
    if wide <= width:
        return text, size
    smaller = max(least, size * width / wide * 0.99)
    while len(text) > 2 and text_width(text, smaller, bold) > width:
        text = f"{text[:-2]}…" if text.endswith("…") else f"{text[:-1]}…"
    return text, smaller
