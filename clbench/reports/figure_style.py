"""Style and file formats of figures."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from clbench.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS: dict[str, dict[str, None]] = {  # what would hold a date or a version is left out
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}

STYLE = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "text.parse_math": False,
    "svg.hashsalt": "clbench",
}

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

DPI = 150


def check_suffix(path: Path) -> None:
    """Checks that the file format is supported.

    Raises:
        UserError: the suffix is not one of .png, .svg and .pdf.
    """
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"--out {path}: got the suffix '{path.suffix}'. Allowed: {', '.join(FORMATS)}.")


def rendered(figure: Figure, suffix: str) -> bytes:
    """A figure as the bytes of a file, whatever the user's settings.

    Args:
        figure: as drawn in `STYLE`.
        suffix: .png, .svg or .pdf.
    """
    import matplotlib.style

    target, kind = io.BytesIO(), suffix.lower()
    with matplotlib.style.context(["default", STYLE], after_reset=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a letter that the font lacks is a box in the picture
        figure.savefig(target, format=kind.lstrip("."), dpi=DPI, metadata=FORMATS[kind])
    return target.getvalue()
