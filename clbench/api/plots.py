"""A figure that a notebook shows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from clbench.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Plot:
    """A figure; a notebook shows it, `save` writes it.

    Attributes:
        figure: of matplotlib, to be changed before it is saved; independent of `pyplot`.
    """

    def __init__(self, figure: Figure) -> None:
        self.figure = figure

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the figure; the same runs give the same bytes. Returns the path.

        Args:
            path: .png, .svg or .pdf.

        Raises:
            UserError: another suffix, or the file cannot be written.
        """
        from clbench.reports.figures import figure_style
        from clbench.results import files

        target = Path(path)
        if target.suffix.lower() not in figure_style.FORMATS:
            allowed = ", ".join(figure_style.FORMATS)
            raise UserError(f"{target}: got the suffix '{target.suffix}'. Allowed: {allowed}.")
        files.write_bytes(target, figure_style.rendered(lambda: self.figure, target.suffix))
        return target

    def __repr__(self) -> str:
        width, height = self.figure.get_size_inches()
        return f"Plot of {width:g} x {height:g} inches; save(path) writes it"

    def _repr_png_(self) -> bytes:
        from clbench.reports.figures import figure_style

        return figure_style.rendered(lambda: self.figure, ".png")
