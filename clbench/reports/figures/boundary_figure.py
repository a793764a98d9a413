"""The figure of task boundaries: accuracy on earlier tasks against the updates since a boundary.

For each run the mean over all boundaries and all tasks that were visited before and are not trained on again; then mean
and band over seeds. The lowest point of a mean and its recovery are marked; of a measure for which lower is better
the highest. Values are relative to that at the boundary, or absolute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clbench.errors import UserError
from clbench.reports.after_boundaries import Aftermath
from clbench.reports.figures.figure_scales import Scale, scale_of
from clbench.reports.figures.figure_sheet import Grid, Sheet, balanced
from clbench.reports.figures.figure_style import PLAIN, Look, rendered, text_width
from clbench.reports.figures.study_curves import band_line, legend
from clbench.reports.figures.study_runs import Board, Member, Method, seeds_of, unfinished_of, warnings_of
from clbench.reports.seed_curves import BANDS, Band, Floats, aligned
from clbench.summation import ROUNDING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RECOVERED = 0.9
"""Share of the accuracy at the boundary whose recovery is marked."""

_WIDTH = 6.75


def draw(
    boards: Sequence[Board[Aftermath | None]],
    suffix: str,
    *,
    band: Band = "interval",
    absolute: bool = False,
    look: Look = PLAIN,
) -> bytes:
    """Writes the figure of task boundaries to a file.

    Args:
        boards: runs without data are left out, and the caption says so.
        suffix: .png, .svg or .pdf.
        band: over seeds.
        absolute: accuracy itself instead of its change since the boundary.
        look: width, title, light or dark.

    Raises:
        UserError: no run was evaluated after a boundary on a task visited before it.
    """
    return rendered(lambda: figure(boards, band=band, absolute=absolute, look=look), suffix, look)


def figure(
    boards: Sequence[Board[Aftermath | None]], *, band: Band = "interval", absolute: bool = False, look: Look = PLAIN
) -> Figure:
    """The matplotlib figure; see `draw`."""
    shown = [board for board in boards if any(_known(method) for method in board.methods)]
    if not shown:
        raise UserError(
            "boundaries: no finished run was evaluated between its task boundaries on a task that was visited before "
            "and is not trained on again."
        )
    width = look.inches(_WIDTH)
    narrow = width < 4.5
    grid = Grid(len(shown), balanced(len(shown), 1 if narrow else 2), width, 1.75 if narrow else 2.1)
    import matplotlib.style

    with matplotlib.style.context(["default", look.settings()], after_reset=True):
        sheet = Sheet(
            look, _WIDTH, grid.body, legend=legend(shown, look), caption=_caption(boards, shown, band, absolute)
        )
        heads: list[tuple[Axes, str]] = []
        for i, board in enumerate(shown):
            axes = sheet.axes(*grid.place(i))
            scale = scale_of(_view(board))
            _panel(axes, board, band, absolute, sheet, grid.wide, scale)
            counts = sorted({m.data.boundaries for x in board.methods for m in _known(x) if m.data is not None})
            number = "-".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
            boundary = "boundary" if number == "1" else "boundaries"
            heads.append((axes, f"{board.name}, view {_view(board)}, {board.seeds}, {number} {boundary}"))
            if i % grid.columns == 0 or scale.label != scale_of(_view(shown[i - 1])).label:
                words = f"{scale.quantity} on earlier tasks ({scale.unit})"
                words = words if absolute else f"change on earlier tasks ({scale.difference})"
                axes.set_ylabel(words, fontsize=sheet.sizes.text)
            if grid.lowest(i):
                axes.set_xlabel("updates since a task boundary", fontsize=sheet.sizes.text, labelpad=2)
        sheet.heads(heads, grid.wide + grid.right)
        return sheet.figure


def _view(board: Board[Aftermath | None]) -> str:
    """The view that is drawn."""
    return next((m.data.view for method in board.methods for m in _known(method) if m.data is not None), board.view)


def _known(method: Method[Aftermath | None]) -> list[Member[Aftermath | None]]:
    return [member for member in method.finished if member.data is not None]


def _caption(
    boards: Sequence[Board[Aftermath | None]], shown: Sequence[Board[Aftermath | None]], band: Band, absolute: bool
) -> list[str]:
    scales = list(dict.fromkeys(scale_of(_view(board)) for board in shown))
    lines = [
        f"Line: {' or '.join(scale.measured for scale in scales)} on the tasks visited before a task boundary and not "
        "trained on after it"
        + ("," if absolute else ", minus that before the boundary,")
        + " mean over these tasks, boundaries and seeds."
    ]
    if any(len(_known(method)) > 1 for board in boards for method in board.methods):
        lines += [BANDS[band]] if BANDS[band] else []
    lines.append("Dotted: before the boundary.")
    for scale in scales:
        extreme, size = ("lowest", "depth") if scale.is_accuracy else ("highest", "height")
        share = f"with {100 * RECOVERED:.0f} % of the accuracy before the boundary"
        share = share if scale.is_accuracy else f"at which {100 * RECOVERED:.0f} % of the rise are undone"
        lines.append(
            f"Triangle and number: {extreme} point of the line, and its {size} in {scale.difference}, less than that "
            f"of single gaps. Ring: the first evaluation after it {share}."
        )
    lacking = [m.label for board in boards for m in board.methods if len(_known(m)) < len(m.finished)]
    if lacking:
        lines.append(f"Left out, not evaluated in between: {', '.join(dict.fromkeys(lacking))}.")
    unfinished = [line.replace("Unfinished:", "Left out, unfinished:") for line in unfinished_of(boards)]
    return [*lines, *seeds_of(boards), *warnings_of(boards), *unfinished]


def recovery(y: Floats, before: float) -> tuple[int, int | None]:
    """Indices of the lowest point of a curve, and of the first one after it with `RECOVERED` of a level; None without.

    Args:
        y: (E,), in [0, 1], without NaN.
        before: the level, in [0, 1].

    >>> recovery(np.array([0.8, 0.2, 0.5, 0.75]), 0.8), recovery(np.array([0.8, 0.2]), 0.8)
    ((1, 3), (1, None))
    """
    trough = int(np.argmin(y))
    back = trough + np.flatnonzero(y[trough:] >= RECOVERED * before - ROUNDING)
    return trough, int(back[0]) if len(back) else None


def rise(y: Floats, before: float) -> tuple[int, int | None]:
    """Indices of the highest point of a curve of a measure, and of the first one after it at which `RECOVERED` of the
    rise are undone; None without.

    >>> rise(np.array([1.0, 3.0, 2.0, 1.1]), 1.0), rise(np.array([1.0, 2.0]), 1.0)
    ((1, 3), (1, None))
    """
    peak = int(np.argmax(y))
    height = max(0.0, float(y[peak]) - before)
    back = peak + np.flatnonzero(y[peak:] <= before + (1 - RECOVERED) * height + ROUNDING)
    return peak, int(back[0]) if len(back) else None


def _panel(
    axes: Axes, board: Board[Aftermath | None], band: Band, absolute: bool, sheet: Sheet, wide: float, scale: Scale
) -> None:
    """Draws one panel."""
    from matplotlib.ticker import MaxNLocator

    of = {m.label: [x.data for x in _known(m) if x.data is not None] for m in board.methods}
    end = min(float(a.curve.x[-1]) for several in of.values() for a in several) or 1.0
    axes.set_xlim(0, end)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], integer=True))
    lowest: list[float] = []
    highest: list[float] = []
    marks: list[tuple[float, float, str, Any]] = []
    rings: list[tuple[float, float]] = []
    for method in board.methods:
        several = of[method.label]
        if not several:
            continue
        line = sheet.look.line(method.number)
        before = float(np.mean([a.before for a in several]))
        x, y = aligned([a.curve for a in several])
        kept = x <= end
        x, y = x[kept], y[:, kept, 0]
        shift = np.zeros(len(several)) if absolute else np.array([a.before for a in several])
        drawn = scale.factor * (y - shift[:, None])
        floor = 0.0 if absolute else -100.0 if scale.is_accuracy else -np.inf
        low, high = band_line(axes, x, drawn, band, line, round(wide * sheet.dpi), method.number, floor)
        mean = y.mean(0)
        level, away = (scale.factor * before, 0.0) if absolute else (0.0, scale.factor * before)
        ends = scale.factor * np.array([np.nanmin(mean), np.nanmax(mean)]) - away
        lowest.append(low if scale.is_accuracy else min(level, float(ends[0])))
        highest.append(max(level, float(ends[1])) if scale.is_accuracy else high)
        if absolute:
            axes.axhline(level, color=line["color"], linestyle=(0, (1, 1.5)), linewidth=0.8, zorder=1.2)
        if np.isnan(mean).any():
            continue
        worst, back = (recovery if scale.is_accuracy else rise)(mean, before)
        depth = scale.sign * scale.factor * (before - float(mean[worst]))
        if depth > 0:
            place = scale.factor * float(mean[worst]) - away
            marks.append((float(x[worst]), place, scale.text(depth), line["color"]))
        lost = mean[worst] < RECOVERED * before - ROUNDING if scale.is_accuracy else back is not None and back > worst
        if depth > 0 and back is not None and lost:
            place = scale.factor * float(mean[back]) - away
            ring = {"markerfacecolor": sheet.look.paper, "markeredgecolor": line["color"], "markeredgewidth": 1.2}
            axes.plot([x[back]], [place], "o", markersize=6, zorder=5, clip_on=False, **ring)
            rings.append((float(x[back]), place))
    if not absolute:
        axes.axhline(0, color=sheet.look.faint, linestyle=(0, (1, 1.5)), linewidth=0.8, zorder=1.2)
    low, high = min(lowest), max(highest)
    if scale.is_accuracy:
        room = max(high - low, 1.0)
        axes.set_ylim(low - 0.14 * room, high + 0.06 * room)
    else:
        room = (high - low) or abs(high) or 1.0
        axes.set_ylim(low - 0.06 * room, high + 0.14 * room)
    _write_depths(axes, marks, rings, sheet, wide, scale.sign)


def _write_depths(
    axes: Axes,
    marks: Sequence[tuple[float, float, str, Any]],
    rings: Sequence[tuple[float, float]],
    sheet: Sheet,
    wide: float,
    sign: int,
) -> None:
    """A triangle at each lowest point, and its depth beside it where it hides no other mark; highest where `sign` is
    -1."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    tall = axes.get_position().height * sheet.height
    size = sheet.sizes.small
    line = sheet.sizes.high(size)
    spots = [((x - left) / (right - left) * wide, (y - low) / (high - low) * tall) for x, y in rings]
    spots += [((x - left) / (right - left) * wide, (y - low) / (high - low) * tall) for x, y, *_ in marks]
    taken = [(x - 0.04, y - 0.04, x + 0.04, y + 0.04) for x, y in spots]
    for x, y, text, colour in sorted(marks, key=lambda mark: (sign * mark[1], mark[0])):
        axes.plot(
            [x],
            [y],
            "v" if sign > 0 else "^",
            color=colour,
            markersize=6,
            markeredgecolor=sheet.look.paper,
            markeredgewidth=0.6,
            zorder=6,
            clip_on=False,
        )
        at_x, at_y = (x - left) / (right - left) * wide, (y - low) / (high - low) * tall
        long = text_width(text, size)
        beside = (0.07, 0.0), (-0.07 - long, 0.0), (0.07, -line), (-0.07 - long, -line), (0.07, line)
        for dx, dy in ((-long / 2, -0.13 * sign), *beside):
            box = (at_x + dx, at_y + dy - line / 2, at_x + dx + long, at_y + dy + line / 2)
            free = all(box[2] < b[0] or b[2] < box[0] or box[3] < b[1] or b[3] < box[1] for b in taken)
            if free and box[0] >= 0 and box[2] <= wide and box[1] >= 0 and box[3] <= tall:
                taken.append(box)
                axes.annotate(
                    text, (x, y), xytext=(72 * dx, 72 * dy), textcoords="offset points", fontsize=size, color=colour,
                    va="center_baseline", ha="left", fontweight="bold", zorder=7,
                    bbox={"facecolor": sheet.look.paper, "edgecolor": "none", "alpha": 0.7, "pad": 0.3},
                )  # fmt: skip
                break
