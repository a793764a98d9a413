"""Exact numbers, records and random traces: what the oracles of metrics share.

Nothing here is shared with the package: not the joining by origin, not a helper, not a formula. A number remembers
which means of tasks it was added up from, and how often; the sampling error follows from that.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clbench.trace import NOT_EVALUATED, UNAVAILABLE, Phase, Trace

# ------------------------------------------------------------------------------------------------ numbers


class Undefined(Exception):
    """The definition touches a value that is not there."""


class Number:
    """A number and, where it is a sum of means of tasks, how often each (evaluation, task) is in it."""

    __slots__ = ("value", "weights")

    def __init__(self, value: Any, weights: dict[tuple[int, int], Any] | None = None) -> None:
        self.value = value
        self.weights = weights or {}

    def __mul__(self, factor: Any) -> Number:
        return Number(self.value * factor, {key: weight * factor for key, weight in self.weights.items()})

    def __truediv__(self, divisor: Any) -> Number:
        if divisor == 0:
            raise Undefined
        inverse: Fraction = Fraction(1) / divisor
        return self * inverse

    def __neg__(self) -> Number:
        return self * -1

    def __add__(self, other: Number) -> Number:
        return total([self, other])

    def __sub__(self, other: Number) -> Number:
        return total([self, -other])

    def __lt__(self, other: Number) -> bool:
        return bool(self.value < other.value)

    def __gt__(self, other: Number) -> bool:
        return bool(self.value > other.value)


def total(numbers: Sequence[Number]) -> Number:
    value: Any = Fraction(0)
    weights: dict[tuple[int, int], Any] = {}
    for number in numbers:
        value = value + number.value
        for key, weight in number.weights.items():
            weights[key] = weights.get(key, 0) + weight
    return Number(value, weights)


def mean(numbers: Sequence[Number]) -> Number:
    if not numbers:
        raise Undefined
    return total(numbers) / len(numbers)


def smallest(numbers: Sequence[Number]) -> Number:
    """The first of the smallest."""
    if not numbers:
        raise Undefined
    best = numbers[0]
    for number in numbers[1:]:
        if number < best:
            best = number
    return best


def largest(numbers: Sequence[Number]) -> Number:
    return -smallest([-number for number in numbers])


# ------------------------------------------------------------------------------------------------ the record


@dataclass(frozen=True)
class Point:
    """One evaluation, after `n` updates; `level` per task, its accuracy or mean loss, None where not evaluated."""

    n: int
    phase: Phase
    level: list[Number | None]

    def of(self, task: int) -> Number:
        found = self.level[task]
        if found is None:
            raise Undefined
        return found


def amount(trace: Trace, view: str, e: int, k: int) -> Fraction | None:
    """What the record of a view holds of a cell: right answers, or the sum of a measure; None where nothing."""
    if view in trace.correct:
        return Fraction(int(trace.correct[view][e, k])) if trace.correct[view][e, k] >= 0 else None
    held = float(trace.sums[view][e, k])
    return Fraction(held) if math.isfinite(held) else None


def overlooked(trace: Trace, view: str, e: int, k: int) -> bool:
    """True if a cell was out of an evaluation's scope; sums alone do not tell that from a missing prediction."""
    counted = view.split(":")[0]
    if counted in trace.correct:
        return bool(trace.correct[counted][e, k] == NOT_EVALUATED)
    return math.isnan(trace.sums[view][e, k])


class Record:
    """A trace as lists: parts of one origin are one visit.

    Args:
        table: accuracies (E, T) in place of those of the trace, as plain floats.
    """

    def __init__(self, trace: Trace, view: str, table: NDArray[np.float64] | None = None) -> None:
        self.view = view
        self.every = trace.every
        self.tasks = len(trace.task_cells)
        self.cells = [[k for k in range(len(trace.cell_size)) if trace.task_cells[i, k]] for i in range(self.tasks)]
        self.cell_size = [int(size) for size in trace.cell_size]
        self.cell_class = [int(c) for c in trace.cell_class]
        self.sizes = [sum(self.cell_size[k] for k in self.cells[i]) for i in range(self.tasks)]
        looks, cells = range(len(trace.iteration)), range(len(self.cell_size))
        self.amounts = [[amount(trace, view, e, k) for k in cells] for e in looks]
        self.overlooked = [[overlooked(trace, view, e, k) for k in cells] for e in looks]
        self.targets = [int(target) for target in trace.cell_target]
        self.predicted: dict[int, list[int]] = {}
        """Predicted output of each sample, by evaluation with the phase END; -1 without one."""
        if view in trace.predicted:
            none = 255 if trace.predicted[view].dtype == np.uint8 else 65_535
            at_end = [e for e in range(len(trace.phase)) if trace.phase[e] == Phase.END]
            for e, row in zip(at_end, trace.predicted[view].tolist(), strict=True):
                self.predicted[e] = [-1 if output == none else output for output in row]
        self.visits: list[set[int]] = []
        joined: list[int] = []
        for u, row in enumerate(trace.visits):
            if u == 0 or trace.origin[u] != trace.origin[u - 1]:
                self.visits.append(set())
            joined.append(len(self.visits) - 1)
            self.visits[-1] |= {i for i in range(self.tasks) if row[i]}
        self.points: list[list[Point]] = [[] for _ in self.visits]
        self.rows: list[list[int]] = [[] for _ in self.visits]
        for e in range(len(trace.iteration)):
            u = int(trace.experience[e])
            phase = Phase(int(trace.phase[e]))
            if phase is Phase.BEFORE and u > 0 and joined[u - 1] == joined[u]:
                phase = Phase.CHANGE
            if phase is Phase.END and u + 1 < len(joined) and joined[u + 1] == joined[u]:
                phase = Phase.CHANGE
            level: list[Number | None] = []
            for i in range(self.tasks):
                found = [x for k in self.cells[i] if (x := self.amounts[e][k]) is not None]
                if len(found) < len(self.cells[i]):
                    level.append(None)
                elif table is not None:
                    level.append(Number(float(table[e, i])))
                else:
                    level.append(Number(sum(found, Fraction(0)) / self.sizes[i], {(e, i): Fraction(1)}))
            self.points[joined[u]].append(Point(int(trace.iteration[e]), phase, level))
            self.rows[joined[u]].append(e)
        self.last = len(self.visits) - 1
        self.classes = sorted(set(self.cell_class))

    def first(self, task: int) -> int | None:
        """f(j): the first visit to a task."""
        for v, tasks in enumerate(self.visits):
            if task in tasks:
                return v
        return None

    def f(self, task: int) -> int:
        found = self.first(task)
        if found is None:
            raise Undefined
        return found

    def visited(self, until: int | None = None) -> list[int]:
        """Tasks with f(j) <= until."""
        bound = self.last if until is None else until
        return [i for i in range(self.tasks) if any(i in self.visits[v] for v in range(bound + 1))]

    def earlier(self) -> list[int]:
        return self.visited(self.last - 1) if self.last > 0 else []

    def end(self, v: int) -> int:
        """b_v, updates done at the end of a visit; 0 before the first."""
        return 0 if v < 0 else max(p.n for p in self.points[v])

    def looked_into(self, v: int) -> bool:
        """True if there is a look between the first and the last of a visit, or no longer without one than a period."""
        start, stop = self.end(v - 1), self.end(v)
        return stop - start <= max(1, self.every) or any(start < p.n < stop for p in self.points[v])

    def R(self, v: int, task: int) -> Number:
        ends = [p for p in self.points[v] if p.phase is Phase.END]
        if not ends:
            raise Undefined
        return ends[-1].of(task)

    def final(self, task: int) -> Number:
        return self.R(self.last, task)

    def before(self, v: int, task: int) -> Number:
        for p in self.points[v]:
            if p.phase is Phase.BEFORE:
                return p.of(task)
        raise Undefined

    def square(self) -> bool:
        return self.tasks >= 2 and self.visits == [{i} for i in range(self.tasks)]

    def pooled(self, v: int, tasks: Sequence[int]) -> Number:
        """Mean over the samples of some tasks together at the end of a visit."""
        if not tasks:
            raise Undefined
        whole = total([self.R(v, i) * self.sizes[i] for i in tasks])
        return whole / sum(self.sizes[i] for i in tasks)


def for_task(i: int, among: Sequence[int]) -> int:
    if i not in among:
        raise Undefined
    return i


def minimum_points(r: Record, i: int) -> list[tuple[int, Point]]:
    """Evaluations after the first visit to a task, in visits to others, each with its visit."""
    return [
        (v, p)
        for v in range(r.f(i) + 1, r.last + 1)
        for p in r.points[v]
        if i not in r.visits[v] and p.n > r.end(r.f(i))
    ]


def coarsest(r: Record, used: Sequence[tuple[int, Point]]) -> int | None:
    """Largest number of updates without a look, among the looks of each visit that a minimum was taken over."""
    steps = []
    for v in {v for v, _ in used}:
        at = sorted(p.n for u, p in used if u == v)
        steps += [n - m for m, n in itertools.pairwise([r.end(v - 1), *at])]
    return max(steps) if steps else None


# ---------------------------------------------------------------- sampling error


def standard_error(trace: Trace, view: str, number: Number) -> float | None:
    """Of a sum of means of tasks, over test sets drawn anew with the same number of samples of each cell."""
    sizes = [sum(int(n) for n, member in zip(trace.cell_size, row, strict=True) if member) for row in trace.task_cells]
    held: Any = trace.sample_correct(view) if view in trace.bits else trace.values.get(view)
    offset, variance = 0, 0.0
    for k, n in enumerate(int(size) for size in trace.cell_size):
        shares: dict[int, Fraction] = {}
        for (e, i), weight in number.weights.items():
            if weight != 0 and trace.task_cells[i, k]:
                shares[e] = shares.get(e, Fraction(0)) + Fraction(weight) / sizes[i]
        if held is not None:
            columns = [(float(share), held[e, offset : offset + n].tolist()) for e, share in shares.items()]
            y = [math.fsum(share * column[s] for share, column in columns) for s in range(n)]
        elif len(shares) <= 1 and view in trace.correct:
            y = [float(s) for e, s in shares.items() for _ in range(int(trace.correct[view][e, k]))]
            y += [0.0] * (n - len(y))
        else:
            return None
        offset += n
        if not shares:
            continue
        if n < 2:
            return None
        centre = math.fsum(y) / n
        variance += n * math.fsum((x - centre) ** 2 for x in y) / (n - 1)
    return math.sqrt(variance)


# ------------------------------------------------------------------------------------------------ comparing


def attempt(function: Callable[..., Number], *arguments: Any) -> Number | None:
    try:
        return function(*arguments)
    except Undefined:
        return None


def same(a: Any, b: Any, where: str, tolerance: float = 1e-9) -> None:
    """Equal to a tolerance, relative where numbers are large; None only to None."""
    assert (a is None) == (b is None), (where, a, b)
    if a is not None:
        assert math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance), (where, a, float(b))


def parts(entry: dict[str, Any]) -> list[Any]:
    (key,) = [k for k in entry if k.startswith("per_")]
    found: list[Any] = entry[key]
    return found


# ------------------------------------------------------------------------------------------------ random traces


@dataclass(frozen=True)
class Plan:
    """The parameters of a random trace."""

    visits: list[list[int]]
    updates: list[int]
    cells: list[list[int]]
    every: int = 1
    dense: int = 0
    style: str = "uniform"
    missing: float = 0.0
    changes: float = 0.0
    views: tuple[str, ...] = ("class",)
    recorded: bool = True
    seed: int = 0


def build(plan: Plan) -> Trace:
    """The trace of a plan: BEFORE, updates, changes and END of every experience, counts and bits of every view."""
    rng = random.Random(plan.seed)
    sizes = [n for task in plan.cells for n in task]
    owner = [i for i, task in enumerate(plan.cells) for _ in task]
    tasks, experiences = len(plan.cells), len(plan.visits)
    rows: list[tuple[int, int, Phase]] = []
    done = 0
    for v, updates in enumerate(plan.updates):
        rows.append((done, v, Phase.BEFORE))
        for n in range(1, updates + 1):
            if n <= plan.dense or (plan.every and n % plan.every == 0):
                rows.append((done + n, v, Phase.ITERATION))
                if rng.random() < plan.changes:
                    rows.append((done + n, v, Phase.CHANGE))
        done += updates
        rows.append((done, v, Phase.END))
    known = [min((v for v, visited in enumerate(plan.visits) if i in visited), default=experiences) for i in owner]
    correct, bits, predicted = {}, {}, {}
    classes = [k // 2 * 3 if plan.seed % 2 else k for k in range(len(sizes))]
    targets = [sorted(set(classes)).index(c) % (3 if plan.seed % 5 == 0 else 99) for c in classes]
    at_end = [e for e, (_, _, phase) in enumerate(rows) if phase is Phase.END]
    for view in plan.views:
        counts = np.zeros((len(rows), len(sizes)), np.int32)
        right = np.zeros((len(rows), sum(sizes)), np.bool_)
        known_outputs = np.ones((len(rows), sum(sizes)), np.bool_)
        offsets = [sum(sizes[:k]) for k in range(len(sizes))]
        for k, n in enumerate(sizes):
            count = 0 if plan.style == "learn" else rng.randint(0, n)
            for e, (_, v, _) in enumerate(rows):
                if plan.style == "uniform":
                    count = rng.randint(0, n)
                elif plan.style == "walk":
                    count = min(n, max(0, count + rng.choice((-1, 0, 0, 1))))
                elif plan.style == "learn":
                    taught = owner[k] in plan.visits[v]
                    count = min(n, max(0, count + (rng.choice((0, 1, 2)) if taught else rng.choice((-1, -1, 0, 1)))))
                elif rng.random() < 0.3:
                    count = rng.choice((0, n // 2, n))
                absent = view.startswith("class") and v < known[k]
                if absent or rng.random() < plan.missing:
                    counts[e, k] = rng.choice((NOT_EVALUATED, UNAVAILABLE))
                    known_outputs[e, offsets[k] : offsets[k] + n] = False
                    continue
                counts[e, k] = count
                right[e, [offsets[k] + s for s in rng.sample(range(n), count)]] = True
        correct[view] = counts
        if plan.recorded:
            bits[view] = np.packbits(right, axis=1)
            true = np.repeat(targets, sizes)
            wrong = (true + np.array([rng.randint(1, 3) for _ in true])) % (max(targets) + 2)
            outputs = np.where(known_outputs, np.where(right, true, wrong), 65_535)[at_end]
            predicted[view] = outputs.astype(np.uint16) if plan.seed % 3 else np.minimum(outputs, 255).astype(np.uint8)
    return Trace(
        correct=correct,
        cell_domain=np.zeros(len(sizes), np.int32),
        cell_class=np.array(classes, np.int32),
        cell_size=np.array(sizes, np.int32),
        cell_population=np.array(sizes, np.int32),
        task_cells=np.array([[i == j for j in owner] for i in range(tasks)]),
        visits=np.array([[i in visited for i in range(tasks)] for visited in plan.visits]),
        origin=np.arange(experiences, dtype=np.int32),
        iteration=np.array([n for n, _, _ in rows], np.int64),
        experience=np.array([v for _, v, _ in rows], np.int32),
        phase=np.array([phase for _, _, phase in rows], np.int8),
        loss=np.zeros(done, np.float32),
        every=plan.every,
        dense=plan.dense,
        rows=np.arange(sum(sizes), dtype=np.int64),
        bits=bits,
        predicted=predicted,
        cell_target=np.array(targets if plan.recorded else [], np.int64),
    )


def cut(trace: Trace, rng: random.Random, share: float = 0.3) -> Trace:
    """The same run as if passes had come in chunks: at some looks a chunk ends and the next begins, seen twice more."""
    take: list[int] = []
    part_of: list[int] = []
    phases: list[int] = []
    end_rows: list[int] = []
    visits: list[NDArray[np.bool_]] = []
    origin: list[int] = []
    for v in range(len(trace.visits)):
        visits.append(trace.visits[v].copy())
        origin.append(7 * v + 3)
        opened = len(visits) - 1
        rows = [e for e in range(len(trace.iteration)) if trace.experience[e] == v]
        for e in rows:
            take, part_of, phases = [*take, e], [*part_of, len(visits) - 1], [*phases, int(trace.phase[e])]
            if trace.phase[e] == Phase.END:
                end_rows.append(int((trace.phase[:e] == Phase.END).sum()))
            if trace.phase[e] == Phase.ITERATION and rng.random() < share:
                take, part_of, phases = [*take, e], [*part_of, len(visits) - 1], [*phases, int(Phase.END)]
                end_rows.append(rng.randrange(int((trace.phase == Phase.END).sum())))  # of no experience's end
                visits.append(trace.visits[v].copy())
                origin.append(origin[-1])
                take, part_of, phases = [*take, e], [*part_of, len(visits) - 1], [*phases, int(Phase.BEFORE)]
        # A chunk may hold samples of some of the tasks only; together they hold all.
        for i in np.flatnonzero(trace.visits[v]).tolist():
            keep = rng.randint(opened, len(visits) - 1)
            for u in range(opened, len(visits)):
                others = visits[u].sum() > 1
                if u != keep and others and rng.random() < 0.5:
                    visits[u][i] = False
    return dataclasses.replace(
        trace,
        correct={view: counts[take] for view, counts in trace.correct.items()},
        bits={view: packed[take] for view, packed in trace.bits.items()},
        predicted={view: outputs[end_rows] for view, outputs in trace.predicted.items()},
        visits=np.array(visits),
        origin=np.array(origin, np.int32),
        iteration=trace.iteration[take],
        experience=np.array(part_of, np.int32),
        phase=np.array(phases, np.int8),
    )


@st.composite
def plans(draw: st.DrawFn, kind: str | None = None, missing: bool = False) -> Plan:
    kind = kind or draw(st.sampled_from(["square", "recurring", "mixture"]))
    tasks = draw(st.integers(1, 4))
    if kind == "square":
        visits = [[i] for i in range(tasks)]
    else:
        width = 1 if kind == "recurring" else min(3, tasks)
        visit = st.lists(st.integers(0, tasks - 1), min_size=1, max_size=width, unique=True)
        visits = draw(st.lists(visit, min_size=1, max_size=6))
    every = draw(st.sampled_from([1, 1, 2, 3, 0]))
    shortest = draw(st.sampled_from([0, 1, 10, 10]))
    return Plan(
        visits=visits,
        updates=draw(st.lists(st.integers(shortest, 14), min_size=len(visits), max_size=len(visits))),
        cells=draw(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=3), min_size=tasks, max_size=tasks)),
        every=every,
        dense=draw(st.sampled_from([0, 0, 2, 11])),
        style=draw(st.sampled_from(["uniform", "walk", "sticky", "learn", "learn"])),
        missing=draw(st.sampled_from([0.002, 0.02, 0.3])) if missing else 0.0,
        changes=draw(st.sampled_from([0.0, 0.2])),
        views=draw(st.sampled_from([("task",), ("class",), ("domain", "class.ema_0.99"), ("class", "task")])),
        recorded=draw(st.booleans()),
        seed=draw(st.integers(0, 2**20)),
    )


def bounded(examples: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
