"""The figure of costs: accuracy of each method against its memory and its time, and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from clbench.errors import UserError
from clbench.formatting import UNITS, decimals, printed_unit, scaled
from clbench.metrics import Metric, metrics_of
from clbench.metrics.field_names import refusal
from clbench.reports import statistics
from clbench.reports.figures.figure_sheet import Entry, Grid, Sheet, balanced
from clbench.reports.figures.figure_style import PLAIN, Look, rendered, text_width
from clbench.reports.figures.study_runs import Board, Method, seeds_of, unfinished_of, warnings_of
from clbench.reports.front import non_dominated
from clbench.reports.leaderboard import ranked_by
from clbench.reports.seed_curves import Band
from clbench.results.record import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Cost = Literal["memory", "time"]
Spot = tuple[float, float]
Box = tuple[float, float, float, float]

_WIDTH = 6.75
_LOGARITHMIC = 10.0  # quotient of the largest and the smallest cost from which the axis is logarithmic
_WORDS: dict[Cost, str] = {"memory": "memory of the method", "time": "time, training and evaluation"}


@dataclass(frozen=True)
class Point:
    """A method in one panel.

    Attributes:
        method: with its label.
        cost: mean over seeds, in bytes or seconds.
        value: mean of the metric over seeds, in its unit.
        cost_ends, value_ends: of the error bars; None without.
        metric: its definition.
    """

    method: Method[None]
    cost: float
    value: float
    cost_ends: tuple[float, float] | None
    value_ends: tuple[float, float] | None
    metric: Metric


def draw(
    boards: Sequence[Board[None]], suffix: str, *, metric: str | None = None, band: Band = "interval",
    look: Look = PLAIN,
) -> bytes:  # fmt: skip
    """Writes the figure of costs to a file: for each board a panel of memory and one of time.

    Args:
        boards: only records are read.
        suffix: .png, .svg or .pdf.
        metric: against the costs, in the primary view; default: that of each board's ranking.
        band: of the error bars; "seeds" and "none" are without.
        look: width, title, light or dark.

    Raises:
        UserError: no method has the metric in all of its finished seeds.
    """
    return rendered(lambda: figure(boards, metric=metric, band=band, look=look), suffix, look)


def figure(
    boards: Sequence[Board[None]], *, metric: str | None = None, band: Band = "interval", look: Look = PLAIN
) -> Figure:
    """The matplotlib figure; see `draw`."""
    kinds: tuple[Cost, ...] = ("memory", "time")
    panels = [(board, kind, points(board, kind, metric, band)) for board in boards for kind in kinds]
    if not any(of for *_, of in panels):
        absent = metric is not None and all(metric not in metrics_of(board.view) for board in boards)
        if metric is not None and absent and boards:
            raise UserError(f"cost: {refusal(metric, boards[0].view)}.")
        raise UserError(f"cost: {metric or 'the metric of the ranking'} is undefined, or no run is finished.")
    panels = [panel for panel in panels if panel[2]]
    width = look.inches(_WIDTH)
    narrow = width < 4.5
    grid = Grid(
        len(panels), balanced(len(panels), 1 if narrow else 2), width, 1.9 if narrow else 2.2, ticks=0.4, foot=0.0
    )
    import matplotlib.style

    with matplotlib.style.context(["default", look.settings()], after_reset=True):
        drawn = [_Axis.of(of, grid) for *_, of in panels]
        size = 6.5 if narrow else 7.0
        labels = [axis.labels(of, front(of), size) for axis, (*_, of) in zip(drawn, panels, strict=True)]
        complete = all(spot is not None for spots in labels for spot in spots)
        methods = {point.method.label: point.method for *_, of in panels for point in of}
        entries = [Entry(m.label, _marker(m, look)) for m in sorted(methods.values(), key=lambda m: m.number)]
        caption = _caption(boards, panels, metric, band)
        sheet = Sheet(look, _WIDTH, grid.body, legend=[] if complete else entries, caption=caption)
        heads: list[tuple[Axes, str]] = []
        for i, ((board, kind, of), axis, spots) in enumerate(zip(panels, drawn, labels, strict=True)):
            axes = sheet.axes(*grid.place(i))
            _panel(axes, of, axis, spots, size, sheet)
            axes.set_xlabel(_WORDS[kind], fontsize=sheet.sizes.text, labelpad=2)
            heads.append((axes, f"{board.name}, view {board.view}, {board.seeds}"))
            if i % grid.columns == 0:
                axes.set_ylabel(_words(of[0].metric), fontsize=sheet.sizes.text)
            _ticks(axes, axis, kind)
        sheet.heads(heads, grid.wide)
        return sheet.figure


# ------------------------------------------------------------------------------------------------ numbers
def points(board: Board[None], kind: Cost, metric: str | None, band: Band) -> list[Point]:
    """Methods with a cost and a value in all of their finished seeds; none where the board has not the metric."""
    name = metric or ranked_by(board.view)
    definition = metrics_of(board.view).get(name)
    if definition is None:
        return []
    out = []
    for method in board.methods:
        costs = [_cost(member.record, kind) for member in method.finished]
        scores = [m.record.scores[name].value if name in m.record.scores else None for m in method.finished]
        of_cost, of_value = statistics.summary(costs), statistics.summary(scores)
        cost, value = of_cost["mean"], of_value["mean"]
        if cost is not None and value is not None:
            unit, places = definition.unit, max(2, decimals(value, definition.unit))
            ends = _ends(of_value, band)
            shown = None if ends is None else (scaled(ends[0], unit, places), scaled(ends[1], unit, places))
            out.append(Point(method, cost, scaled(value, unit, places), _ends(of_cost, band), shown, definition))
    return out


def _cost(record: Record, kind: Cost) -> float | None:
    if kind == "memory":
        return None if record.memory is None else record.memory.bytes
    return None if record.costs is None else record.costs.train_s + record.costs.eval_s


def _ends(summary: dict[str, float | int | None], band: Band) -> tuple[float, float] | None:
    mean, std, low, high = (summary[key] for key in ("mean", "std", "ci95_lo", "ci95_hi"))
    if band == "interval":
        return None if low is None or high is None else (low, high)
    if band == "deviation":
        return None if mean is None or std is None else (mean - std, mean + std)
    return None


def _words(metric: Metric) -> str:
    """A metric on an axis, with its unit."""
    title = metric.title.partition(",")[0] if metric.unit in UNITS else metric.name
    return f"{title} ({printed_unit(metric.unit)})"


def front(of: Sequence[Point]) -> list[Point]:
    """Methods that no other one dominates, by cost: none is at least as good in both means and better in one.

    Methods that are not continual learners are left out: they may keep all data, which is no memory of theirs.
    """
    able = sorted((point for point in of if point.method.continual), key=lambda point: point.method.label)
    worth = [point.metric.worth(point.value) for point in able]
    return [able[i] for i in non_dominated([point.cost for point in able], worth)]


# ------------------------------------------------------------------------------------------------ geometry
@dataclass(frozen=True)
class _Axis:
    """Scales of a panel: places of costs and values, in inches from its lower left corner."""

    logarithmic: bool
    zero: float | None
    low: float
    high: float
    bottom: float
    top: float
    wide: float
    tall: float

    @classmethod
    def of(cls, points: Sequence[Point], grid: Grid) -> _Axis:
        costs = [p.cost for p in points]
        positive = [c for c in costs if c > 0]
        logarithmic = len(positive) > 0 and max(positive) / min(positive) > _LOGARITHMIC
        zero = None
        if logarithmic:
            low, high = math.log10(min(positive)), math.log10(max(positive))
            if min(costs) <= 0:
                zero = low = low - max(0.6, 0.2 * (high - low))
        else:
            ends = [end for p in points for end in (p.cost, *(p.cost_ends or ()))]
            low, high = max(0.0, min(ends)), max(ends)
            low = 0.0 if low < 0.3 * high else low
        room = (high - low) or abs(high) or 1.0
        bottom = min(end for p in points for end in (p.value, *(p.value_ends or ())))
        top = max(end for p in points for end in (p.value, *(p.value_ends or ())))
        least = 1.0 if points[0].metric.unit in UNITS else 0.1 * abs(top) or 1.0
        space = 0.12 * (top - bottom) or least
        return cls(
            logarithmic, zero, low - 0.07 * room, high + 0.15 * room, bottom - space, top + space, grid.wide, grid.tall
        )

    def x(self, cost: float) -> float:
        """Coordinate of a cost on the axis."""
        if not self.logarithmic:
            return cost
        if cost <= 0:
            return self.zero if self.zero is not None else self.low
        return math.log10(cost)

    def inches(self, cost: float, value: float) -> Spot:
        across = (self.x(cost) - self.low) / (self.high - self.low)
        return across * self.wide, (value - self.bottom) / (self.top - self.bottom) * self.tall

    def labels(self, points: Sequence[Point], best: Sequence[Point], size: float) -> list[Spot | None]:
        """Lower left corners of the labels of points, in inches; None where one has no free place."""
        steps: list[Box] = []
        corners = [self.inches(p.cost, p.value) for p in best]
        for (x, y), (next_x, next_y) in zip(corners, [*corners[1:], (self.wide, -1.0)], strict=True):
            steps.append((x, y - 0.01, next_x, y + 0.01))
            steps += [(next_x - 0.01, min(y, next_y), next_x + 0.01, max(y, next_y))] if next_y >= 0 else []
        spots = [self.inches(p.cost, p.value) for p in points]
        taken: list[Box] = [(x - 0.05, y - 0.05, x + 0.05, y + 0.05) for x, y in spots]
        for p, (x, y) in zip(points, spots, strict=True):
            if p.value_ends is not None:
                low, high = (self.inches(p.cost, end)[1] for end in p.value_ends)
                taken.append((x - 0.015, low, x + 0.015, high))
            if p.cost_ends is not None:
                low, high = (self.inches(end, p.value)[0] for end in p.cost_ends)
                taken.append((low, y - 0.015, high, y + 0.015))
        texts = [(text_width(p.method.label, size) + 0.02, size * 1.15 / 72) for p in points]
        return placed_labels(spots, texts, taken, (self.wide, self.tall), steps)


def placed_labels(
    spots: Sequence[Spot],
    sizes: Sequence[tuple[float, float]],
    taken: Iterable[Box],
    room: tuple[float, float],
    unwelcome: Iterable[Box] = (),
) -> list[Spot | None]:
    """Lower left corners of labels near their points, so that none overlaps another or what is taken.

    Args:
        spots: of the points, in inches.
        sizes: width and height of each label.
        taken: left, bottom, right and top of what they may not hide.
        room: width and height of the panel, in which they lie.
        unwelcome: what they hide only where there is no other place.

    Returns:
        For each label its corner; None where no place near its point is free.

    >>> placed_labels([(1.0, 1.0)], [(0.5, 0.1)], [(0.95, 0.95, 1.05, 1.05)], (3.0, 2.0))
    [(1.07, 0.95)]
    """
    boxes, avoided = list(taken), list(unwelcome)
    out: list[Spot | None] = [None] * len(spots)
    for i in sorted(range(len(spots)), key=lambda i: (spots[i][1], spots[i][0]), reverse=True):
        (x, y), (wide, tall) = spots[i], sizes[i]
        for gap, more in ((gap, more) for more in (avoided, []) for gap in (0.07, 0.14, 0.24, 0.36, 0.5)):
            corner = _free(x, y, wide, tall, gap, [*boxes, *more], room)
            if corner is not None:
                out[i] = corner
                boxes.append((corner[0], corner[1], corner[0] + wide, corner[1] + tall))
                break
    return out


def _free(
    x: float, y: float, wide: float, tall: float, gap: float, boxes: Sequence[Box], room: tuple[float, float]
) -> Spot | None:
    """The first free place at a distance from a point: right, left, above, below, then at the corners."""
    right, left, over, under = x + gap, x - gap - wide, y + gap, y - gap - tall
    middle, centre = y - tall / 2, x - wide / 2
    places = (
        (right, middle), (left, middle), (centre, over), (centre, under),
        (right, over), (left, over), (right, under), (left, under),
    )  # fmt: skip
    for a, b in places:
        inside = a >= 0 and b >= 0 and a + wide <= room[0] and b + tall <= room[1]
        if inside and all(a + wide <= box[0] or box[2] <= a or b + tall <= box[1] or box[3] <= b for box in boxes):
            return round(a, 6), round(b, 6)
    return None


# ------------------------------------------------------------------------------------------------ drawing
def _marker(method: Method[None], look: Look) -> dict[str, Any]:
    line = look.line(method.number)
    full = {"markerfacecolor": line["color"] if method.continual else look.paper}
    return {"color": line["color"], "marker": line["marker"], "linestyle": "none", "markeredgewidth": 1.1, **full}


def _panel(
    axes: Axes, of: Sequence[Point], axis: _Axis, spots: Sequence[Spot | None], size: float, sheet: Sheet
) -> None:
    """Draws the points of a panel, their error bars, labels and front."""
    axes.set_xlim(axis.low, axis.high)
    axes.set_ylim(axis.bottom, axis.top)
    best = front(of)
    if best:
        xs = [axis.x(p.cost) for p in best] + [axis.high]
        ys = [p.value for p in best] + [best[-1].value]
        axes.step(xs, ys, where="post", color=sheet.look.faint, linestyle=(0, (4, 2)), linewidth=0.9, zorder=1)
    for point, spot in zip(of, spots, strict=True):
        style = _marker(point.method, sheet.look)
        x, y = axis.x(point.cost), point.value
        bar = {"color": style["color"], "linewidth": 0.8, "zorder": 2.0, "solid_capstyle": "butt"}
        if point.value_ends is not None:
            axes.plot([x, x], point.value_ends, **bar)
        if point.cost_ends is not None:
            ends = [max(axis.low, axis.x(end)) if end > 0 else axis.low for end in point.cost_ends]
            if point.cost_ends[0] < point.cost_ends[1]:
                axes.plot(ends, [y, y], **bar)
        axes.plot([x], [y], markersize=5, zorder=3, **style)
        if spot is not None:
            _label(axes, axis, point, spot, size, sheet)


def _label(axes: Axes, axis: _Axis, point: Point, spot: Spot, size: float, sheet: Sheet) -> None:
    """A label, with a line to its point where that is farther away."""
    colour = sheet.look.line(point.method.number)["color"]
    place = axes.transAxes
    wide, tall = text_width(point.method.label, size) + 0.02, size * 1.15 / 72
    x, y = axis.inches(point.cost, point.value)
    near_x, near_y = min(max(x, spot[0]), spot[0] + wide), min(max(y, spot[1]), spot[1] + tall)
    if math.hypot(near_x - x, near_y - y) > 0.12:
        ends = ([x / axis.wide, near_x / axis.wide], [y / axis.tall, near_y / axis.tall])
        axes.plot(*ends, color=colour, linewidth=0.4, transform=place, zorder=1.5)
    axes.text(
        spot[0] / axis.wide, (spot[1] + tall / 2) / axis.tall, point.method.label, transform=place, fontsize=size,
        ha="left", va="center_baseline", color=sheet.look.ink,
    )  # fmt: skip


def _ticks(axes: Axes, axis: _Axis, kind: Cost) -> None:
    """Ticks of the costs in round numbers with units."""
    say = _bytes if kind == "memory" else _seconds
    if not axis.logarithmic:
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda cost, _: say(cost)))
        return
    first = axis.low if axis.zero is None else axis.zero + 0.15
    decades = [float(d) for d in range(math.ceil(first), math.floor(axis.high) + 1)]
    decades = decades[:: max(1, -(-len(decades) // 5))]
    ticks, names = decades, [say(10.0**d) for d in decades]
    if axis.zero is not None:
        ticks, names = [axis.zero, *ticks], ["0", *names]
    axes.set_xticks(ticks, names)
    minor = [d + math.log10(k) for d in range(math.floor(first), math.ceil(axis.high)) for k in range(2, 10)]
    axes.set_xticks([m for m in minor if first <= m <= axis.high], minor=True)


def _bytes(amount: float) -> str:
    """An amount of memory in decimal units.

    >>> _bytes(0), _bytes(14400), _bytes(1e9)
    ('0', '14.4 kB', '1 GB')
    """
    for power, unit in ((12, "TB"), (9, "GB"), (6, "MB"), (3, "kB"), (0, "B")):
        if abs(amount) >= 10**power:
            return f"{amount / 10**power:.3g} {unit}"
    return "0" if amount == 0 else f"{amount:.3g} B"


def _seconds(time_s: float) -> str:
    """A time in its largest unit.

    >>> _seconds(0), _seconds(0.01), _seconds(90), _seconds(7200)
    ('0', '0.01 s', '90 s', '2 h')
    """
    if time_s == 0:
        return "0"
    return f"{time_s / 3600:.3g} h" if abs(time_s) >= 3600 else f"{time_s:.3g} s"


def _caption(
    boards: Sequence[Board[None]],
    panels: Sequence[tuple[Board[None], Cost, list[Point]]],
    metric: str | None,
    band: Band,
) -> list[str]:
    of = [point for *_, each in panels for point in each]
    bars = {"interval": "their 95 % Student t intervals", "deviation": "± standard deviation over seeds"}
    lines = ["Point: means over seeds."]
    if band in bars and any(point.value_ends for point in of):
        lines.append(f"Bars: {bars[band]}.")
    lines.append("Dashed: Pareto front of the means; no method is better than one on it at no higher cost.")
    if not all(point.method.continual for point in of):
        lines.append("Hollow: not in the front, as the data that it may keep are no memory of it.")
    axes = [_Axis.of(each, Grid(1, 1, 3.0, 2.0)) for *_, each in panels]
    lines += ["The logarithmic axis has 0 at its left end."] if any(axis.zero is not None for axis in axes) else []
    shown = {point.method.row.id for point in of}
    lacking = [m.label for board in boards for m in board.methods if m.finished and m.row.id not in shown]
    lines += (
        [f"Left out, {metric or of[0].metric.name} undefined: {', '.join(dict.fromkeys(lacking))}."] if lacking else []
    )
    unfinished = [line.replace("Unfinished:", "Left out, unfinished:") for line in unfinished_of(boards)]
    return [*lines, *seeds_of(boards), *warnings_of(boards), *unfinished]
