"""Metrics of errors and losses once more, each from its printed definition, in exact fractions: lower is better.

Nothing is shared with the package, nor with the definitions of accuracies in metrics/test_oracle.py: L is a mean loss,
and what it rises by is lost.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from hypothesis import reject

from clbench.trace import Phase
from exact import (
    Number,
    Point,
    Record,
    Undefined,
    coarsest,
    for_task,
    largest,
    mean,
    minimum_points,
    smallest,
    total,
)

# ------------------------------------------------------------------------------------------------ the definitions
# `VALUE[name](record)` is the metric, `PART[name](record, k)` its part for task, visit or class k.

VALUE: dict[str, Callable[[Record], Number]] = {}
PART: dict[str, Callable[[Record, int], Number]] = {}
WEIGHTED = {
    *("average", "average_incremental", "forgetting.after_learning", "forgetting.chaudhry", "backward_transfer.gem"),
    *("forgetting.max_including_last", "backward_transfer.all_pairs", "forward_transfer.gem", "recency_bias"),
    *("forward_transfer.all_pairs", "worst", "worst_case", "lca_10.a_gem", "lca_10.de_lange", "anytime"),
    *("sessions.average", "sessions.final", "sessions.performance_drop", "sessions.base", "sessions.new"),
}
"""Metrics that are sums of losses, where the choice of a maximum is taken as given."""


def nothing(r: Record, k: int) -> Number:
    raise Undefined


def over(name: str, tasks: Callable[[Record], Sequence[int]], of: Callable[[Record, int], Number]) -> None:
    """A mean over tasks, with its parts."""
    PART[name] = lambda r, j: of(r, for_task(j, tasks(r)))
    VALUE[name] = lambda r: mean([of(r, j) for j in tasks(r)])


def later(r: Record) -> list[int]:
    return [i for i in r.visited() if r.f(i) >= 1]


def best(r: Record, j: int, last: int) -> Number:
    return smallest([r.R(v, j) for v in range(r.f(j), last + 1)])


def worst(r: Record, i: int) -> Number:
    return largest([p.of(i) for _, p in minimum_points(r, i)])


def forward(r: Record, i: int) -> Number:
    if r.view.startswith("class"):
        raise Undefined
    return r.before(0, i) - r.before(r.f(i), i)


def share_of_learnt(r: Record, j: int) -> Number:
    before, after = r.before(r.f(j), j), r.R(r.f(j), j)
    if not after < before:
        raise Undefined
    return Number((r.final(j) - after).value / (before - after).value)


def after_updates(r: Record, i: int, b: int) -> Number:
    start = r.end(r.f(i) - 1)
    if b == 0:
        return r.before(r.f(i), i)
    at = [p for p in r.points[r.f(i)] if p.phase is not Phase.BEFORE and p.n == start + b]
    if not at:
        raise Undefined
    return at[0].of(i)


over("average", Record.visited, Record.final)
over("forgetting.after_learning", Record.earlier, lambda r, j: r.final(j) - r.R(r.f(j), j))
over("forgetting.chaudhry", Record.earlier, lambda r, j: r.final(j) - best(r, j, r.last - 1))
over("forgetting.max_including_last", Record.earlier, lambda r, j: r.final(j) - best(r, j, r.last))
over("forgetting.share_of_learnt", Record.earlier, share_of_learnt)
over("backward_transfer.gem", Record.earlier, lambda r, j: r.R(r.f(j), j) - r.final(j))
over("forward_transfer.gem", later, forward)
over("worst", Record.earlier, worst)
over("worst_case", Record.visited, lambda r, i: r.final(i) if i in r.visits[r.last] else worst(r, i))
over("lca_10.a_gem", Record.visited, lambda r, i: mean([after_updates(r, i, b) for b in range(11)]))
over("lca_10.de_lange", Record.visited, lambda r, i: mean([after_updates(r, i, b) for b in range(1, 11)]))

PART["average_incremental"] = nothing
VALUE["average_incremental"] = lambda r: mean([mean([r.R(v, j) for j in r.visited(v)]) for v in range(len(r.visits))])


def pairs(name: str, of: Callable[[Record, int, int], Number], taught: Callable[[int, int], bool]) -> None:
    """A mean over the pairs (i, j) of a square stream for which `taught(i, j)` holds; the part of j is that over i."""

    def among(r: Record, chosen: Sequence[int]) -> Number:
        if not r.square():
            raise Undefined
        return mean([of(r, i, j) for j in chosen for i in range(r.tasks) if taught(i, j)])

    PART[name] = lambda r, j: among(r, [j])
    VALUE[name] = lambda r: among(r, range(r.tasks))


pairs("backward_transfer.all_pairs", lambda r, i, j: r.R(j, j) - r.R(i, j), lambda i, j: i > j)
pairs("forward_transfer.all_pairs", lambda r, i, j: r.before(i + 1, j), lambda i, j: i < j)


# ---------------------------------------------------------------- windows and integrals


def window_points(r: Record, i: int) -> list[tuple[int, Point]]:
    return [(v, p) for v in range(r.f(i), r.last + 1) for p in r.points[v] if p.n > r.end(r.f(i) - 1)]


def windowed(r: Record, i: int, window: int, change: Callable[[Number, Number], Number]) -> Number:
    """Largest change from an evaluation to one less than a window of iterations later, at least 0."""
    used = window_points(r, i)
    levels = [(p.n, p.of(i)) for _, p in used]
    widest = coarsest(r, used)
    if widest is None or widest >= window:
        raise Undefined
    found = [change(a, b).value for (m, a), (n, b) in itertools.combinations(levels, 2) if n < m + window]
    return Number(max([Fraction(0), *found]))


for _window in (10, 100):
    over(f"wf_{_window}", Record.visited, lambda r, i, w=_window: windowed(r, i, w, lambda a, b: b - a))  # type: ignore[misc]
    over(f"wp_{_window}", Record.visited, lambda r, i, w=_window: windowed(r, i, w, lambda a, b: a - b))  # type: ignore[misc]


def integral(r: Record, v: int, tasks: Sequence[int]) -> Number:
    """Of the mean loss of some tasks over the iterations of a visit."""
    if not r.points[v] or r.points[v][0].n != r.end(v - 1) or not r.looked_into(v):
        raise Undefined
    steps = [(p, q) for p, q in itertools.pairwise(r.points[v]) if q.n > p.n]
    return total([mean([p.of(i) + q.of(i) for i in tasks]) * Fraction(q.n - p.n, 2) for p, q in steps])


def anytime_part(r: Record, i: int) -> Number:
    return total([integral(r, v, [i]) for v in range(r.f(i), r.last + 1)]) / (r.end(r.last) - r.end(r.f(i) - 1))


PART["anytime"] = anytime_part
VALUE["anytime"] = lambda r: total([integral(r, v, r.visited(v)) for v in range(len(r.visits))]) / r.end(r.last)


# ---------------------------------------------------------------- until learnt


def falls_to(points: Sequence[tuple[int, Number]], level: Fraction) -> Fraction | None:
    """When the broken line through some points first comes down to a level; None if it does not."""
    above: tuple[int, Fraction] | None = None
    for n, number in points:
        if number.value <= level:
            if above is None:
                return Fraction(n)
            m, high = above
            return m + (high - level) / (high - number.value) * (n - m)
        above = n, number.value
    return None


def until_learnt(r: Record, i: int, v: int) -> Fraction | None:
    """Updates of visit v until the loss has come down by 0.9 of what it fell by in the first visit."""
    before, after = r.before(r.f(i), i).value, r.R(r.f(i), i).value
    if after >= before:
        raise Undefined
    level, known = before - Fraction(9, 10) * (before - after), []
    for p in r.points[v]:
        known.append((p.n, p.of(i)))
        if known[-1][1].value <= level:  # what is missing afterwards is not needed
            break
    found = falls_to(known, level)
    if not r.looked_into(v) and found != r.end(v - 1):
        raise Undefined
    return None if found is None else found - r.end(v - 1)


def needed(r: Record, i: int) -> Fraction:
    found = until_learnt(r, i, r.f(i))
    if found is None:
        raise Undefined
    return found


def facilitation(r: Record) -> Number:
    first = needed(r, min(r.visits[0]))
    if first == 0:
        raise Undefined
    return mean([Number(1 - needed(r, i) / first) for i in later(r)])


def again(r: Record, i: int) -> list[Fraction | None]:
    return [until_learnt(r, i, v) for v in range(r.f(i) + 1, r.last + 1) if i in r.visits[v]]


def savings(r: Record, tasks: Sequence[int]) -> Number:
    found = [(i, m) for i in tasks for m in again(r, i) if m is not None]
    if any(needed(r, i) == 0 for i, _ in found):
        raise Undefined
    return mean([Number(1 - m / needed(r, i)) for i, m in found])


def reached(r: Record, tasks: Sequence[int]) -> Number:
    return mean([Number(Fraction(m is not None)) for i in tasks for m in again(r, i)])


PART["forward_facilitation.90_of_gain"] = lambda r, i: Number(needed(r, i))
VALUE["forward_facilitation.90_of_gain"] = facilitation
PART["savings.90_of_gain"] = lambda r, i: savings(r, [for_task(i, r.visited())])
VALUE["savings.90_of_gain"] = lambda r: savings(r, r.visited())
PART["savings.90_of_gain_reached"] = lambda r, i: reached(r, [for_task(i, r.visited())])
VALUE["savings.90_of_gain_reached"] = lambda r: reached(r, r.visited())


# ---------------------------------------------------------------- samples weigh the same


def recency(r: Record) -> Number:
    found = []
    for v in range(1, len(r.visits)):
        old = [j for j in r.visited(v - 1) if j not in r.visits[v]]
        if old:
            found.append(r.pooled(v, old) - r.pooled(v, sorted(r.visits[v])))
    return mean(found)


def class_recency(r: Record, c: int) -> Number:
    """Mean loss of all samples of visited tasks minus that of one class, at the end."""
    ends = [e for p, e in zip(r.points[r.last], r.rows[r.last], strict=True) if p.phase is Phase.END]
    taught = sorted({k for i in r.visited() for k in r.cells[i]})
    mine = [k for k in taught if r.cell_class[k] == r.classes[c]]
    if not mine:
        raise Undefined

    def average(cells: Sequence[int]) -> Fraction:
        amounts = [x for k in cells if (x := r.amounts[ends[-1]][k]) is not None]
        if len(amounts) < len(cells):
            raise Undefined
        return sum(amounts, Fraction(0)) / sum(r.cell_size[k] for k in cells)

    return Number(average(taught) - average(mine))


def session(r: Record, v: int) -> Number:
    return r.pooled(v, r.visited(v))


VALUE["recency_bias"], PART["recency_bias"] = recency, class_recency
PART["sessions.average"] = PART["sessions.final"] = session
VALUE["sessions.average"] = lambda r: mean([session(r, v) for v in range(len(r.visits))])
VALUE["sessions.final"] = lambda r: session(r, r.last)
PART["sessions.performance_drop"] = lambda r, v: session(r, v) - session(r, 0)
PART["sessions.base"] = lambda r, v: r.pooled(v, sorted(r.visits[0]))
PART["sessions.new"] = lambda r, v: r.pooled(v, [j for j in r.visited(v) if j not in r.visits[0]])
for _name in ("performance_drop", "base", "new"):
    VALUE[f"sessions.{_name}"] = lambda r, part=PART[f"sessions.{_name}"]: part(r, r.last)  # type: ignore[misc]


# ---------------------------------------------------------------- the gap


@dataclass(frozen=True)
class Rise:
    """The course of a task's loss through one experience; None where that is not known."""

    experience: int
    task: int
    again: bool
    height: Any = None
    top: Any = None
    back: Any = None
    area: Any = None
    permanent: Any = None


def above_level(m: int, a: Fraction, n: int, b: Fraction) -> Fraction:
    """Area between 0 and a straight line from (m, a) to (n, b), where the line is above."""
    if a >= 0 and b >= 0:
        return (a + b) / 2 * (n - m)
    high, low = max(a, b), min(a, b)
    return Fraction(0) if high <= 0 else high * high / (high - low) / 2 * (n - m)


@lru_cache(maxsize=4)
def rises(r: Record) -> list[Rise]:
    found = []
    for v, i in [(u, j) for u in range(1, len(r.visits)) for j in r.visited(u - 1)]:
        outside = [[r.overlooked[e][k] for k in r.cells[i]] for e in r.rows[v]]
        if all(all(cells) for cells in outside):
            continue
        if all(any(cells) for cells in outside):
            reject()  # whether a task is out of scope with a part of it, nothing says
        place = v, i, i in r.visits[v]
        try:
            l0, curve = r.R(v - 1, i).value, [(p.n, p.of(i)) for p in r.points[v]]
        except Undefined:
            found.append(Rise(*place))
            continue
        change = [(n, number.value - l0) for n, number in curve]
        permanent = max(Fraction(0), change[-1][1])
        if not r.looked_into(v):
            found.append(Rise(*place, permanent=permanent))
            continue
        height = max(Fraction(0), *(x for _, x in change))
        at = next(k for k, (_, x) in enumerate(change) if x == max(y for _, y in change))
        back = falls_to(curve[at:], l0 + height / 10)
        area = sum((above_level(*p, *q) for p, q in itertools.pairwise(change)), Fraction(0))
        start = r.end(v - 1)
        found.append(
            Rise(*place, height, curve[at][0] - start, None if back is None else back - start, area, permanent)
        )
    return found


def gaps(r: Record, again: bool, task: int | None, known: str = "height") -> list[Rise]:
    found = [g for g in rises(r) if g.again == again and task in (None, g.task)]
    if any(getattr(g, known) is None for g in found):
        raise Undefined
    return found


GAP: dict[str, Callable[[list[Rise]], list[Any]]] = {
    "gap.depth": lambda found: [g.height for g in found],
    "gap.iterations_to_trough": lambda found: [Fraction(g.top) for g in found if g.height > 0],
    "gap.area": lambda found: [g.area for g in found],
    "gap.transient": lambda found: [g.height - g.permanent for g in found],
    "gap.permanent": lambda found: [g.permanent for g in found],
    "gap.recovery_90_of_drop": lambda found: [g.back for g in found if g.height > 0 and g.back is not None],
    "gap.recovered_90_of_drop": lambda found: [Fraction(g.back is not None) for g in found if g.height > 0],
}


def over_gaps(r: Record, task: int | None, name: str, again: bool) -> Number:
    known = "permanent" if name == "gap.permanent" else "height"
    return mean([Number(x) for x in GAP[name](gaps(r, again, task, known))])


def regained(r: Record, task: int | None) -> Number:
    found = gaps(r, False, task)
    return Number(total([Number(g.height - g.permanent) for g in found]).value) / sum(g.height for g in found)


for _name, _again in [*((name, False) for name in GAP), ("gap.depth", True), ("gap.area", True)]:
    _key = f"{_name}.trained_again" if _again else _name
    PART[_key] = lambda r, i, n=_name, a=_again: over_gaps(r, i, n, a)  # type: ignore[misc]
    VALUE[_key] = lambda r, n=_name, a=_again: over_gaps(r, None, n, a)  # type: ignore[misc]
PART["gap.regained"], VALUE["gap.regained"] = regained, lambda r: regained(r, None)


def resolution(r: Record, name: str) -> int | None:
    """Of a maximum: the largest step between the looks that it is over."""
    if name.startswith("gap."):
        visits = {g.experience for g in gaps(r, name.endswith("trained_again"), None)}
        steps = [coarsest(r, [(v, p) for p in r.points[v]]) for v in visits]
    elif name.startswith("w") and name[2] == "_":
        steps = [coarsest(r, window_points(r, i)) for i in r.visited()]
    else:
        left = r.earlier() if name == "worst" else [i for i in r.visited() if i not in r.visits[r.last]]
        steps = [coarsest(r, minimum_points(r, i)) for i in left]
    return max((s for s in steps if s is not None), default=None)
