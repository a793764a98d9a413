"""Definition of a metric, and the quantities of a trace that metrics share.

Letters: E evaluations, K cells, T tasks, V experiences, I iterations (updates), C classes. A(e, i) is the accuracy on
task i at evaluation e, n(e) the updates done before it, b_v the updates done at the end of experience v (b_{-1} = 0),
R[v, j] the accuracy on task j at the end of experience v, f(j) the first experience that visits task j. In a record of
a measure, L(e, i) is its mean over the test samples of task i, and `worth` is -L in place of A.

*Earlier tasks* are those with f(j) < V - 1. A value that needs something which was not evaluated is NaN: a gap in the
record is never averaged away, and never 0. So is a value that has no definition, such as forgetting with one task, and
one that the evaluations do not reach, such as a change within 10 iterations from evaluations 10 iterations apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property, wraps
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from clbench.summation import ROUNDING, mean
from clbench.trace import Phase, Trace

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Indices = NDArray[np.int64]
_T = TypeVar("_T")
_P = ParamSpec("_P")


@dataclass(frozen=True)
class Value:
    """A metric of one trace.

    Attributes:
        value: NaN where undefined.
        parts: for each task (T,), experience (V,) or class (C,), as `Metric.per` says; NaN where undefined.
        weights: (E, T) where the metric is a sum of accuracies, so that value = sum of weights * A over the non-zero
            weights, or of weights * `worth` in a record of a measure; None where it is not.
        resolution: of a minimum or a maximum: the largest number of iterations between two successive evaluations
            among those that it was taken over. At 1 it is exact; else it is a bound. None where undefined.
    """

    value: float
    parts: Floats
    weights: Floats | None = None
    resolution: int | None = None


@dataclass(frozen=True)
class Metric:
    """A named definition.

    Attributes:
        name: as it appears in files; identifies the definition.
        title: in words.
        formula: in the symbols of this module.
        source: the paper.
        better: which direction is better; "zero" where the best value is 0, on both sides of which it gets worse;
            "unstated" of a plain function, which is printed and never compared.
        range: smallest and largest value.
        unit: of the value: accuracy, iterations, accuracy x iterations, share, number, or that of a measure.
        per: unit of `Value.parts`: one entry for each.
        compute: (trace joined by origin, view) -> `Value`.
        bound: kind of bound that a minimum or maximum is where `Value.resolution` exceeds 1; None for other metrics.
        reach: the evaluations that it needs besides those before and after each experience; None where it needs none.
        record: the record beside that of the test set that it is computed from; None where it needs none.
    """

    name: str
    title: str
    formula: str
    source: str
    better: Literal["higher", "lower", "zero", "unstated"]
    range: tuple[float, float]
    unit: str
    per: Literal["task", "experience", "class"]
    compute: Callable[[Trace, str], Value]
    bound: Literal["upper", "lower"] | None = None
    reach: Reach | None = None
    record: Literal["prequential"] | None = None

    def is_recorded(self, trace: Trace, view: str) -> bool:
        """True if a trace has the record that the metric is computed from."""
        return self.record is None or (trace.prequential is not None and trace.prequential.of(view) is not None)

    def worth(self, value: float) -> float:
        """A value on a scale on which higher is better: itself, its negative, or its negative distance from 0."""
        return value if self.better == "higher" else -value if self.better == "lower" else -abs(value)

    def compared(self, value: float) -> float:
        """A value as comparisons take it: of a metric that is best at 0 its distance from 0, else itself."""
        return abs(value) if self.better == "zero" else value

    @property
    def direction(self) -> str:
        """The better direction in words; empty where it is unstated."""
        if self.better == "unstated":
            return ""
        return "nearer to 0 is better" if self.better == "zero" else f"{self.better} is better"

    def unreached(self, every: int, dense: int, resolution: int | None = None) -> str | None:
        """Reason why a schedule of evaluations leaves the metric undefined; None where it does not.

        Args:
            every, dense: see `clbench.config.evaluation.Evaluation`.
            resolution: `Value.resolution`, where known.

        >>> from clbench.metrics import METRICS
        >>> METRICS["wf_10"].unreached(10, 0)
        'needs evaluations up to 9 iterations apart; they are made every 10 iterations'
        >>> METRICS["wf_10"].unreached(9, 0), METRICS["lca_10.a_gem"].unreached(50, 10)
        (None, None)
        """
        if self.reach is None or self.reach.reached(every, dense, resolution):
            return None
        made = f"every {every} iterations" if every else "before and after each experience only"
        first = f" after the first {dense} of each experience" if dense else ""
        return f"needs {self.reach.needs}; they are made {made}{first}"


@dataclass(frozen=True)
class Reach:
    """Evaluations that a metric needs within experiences.

    Attributes:
        needs: in words.
        reached: (every, dense, resolution) -> whether they are made; see `Metric.unreached`.
    """

    needs: str
    reached: Callable[[int, int, int | None], bool]


WITHIN = Reach(
    "evaluations within experiences", lambda every, dense, resolution: bool(every or dense or resolution == 1)
)
"""At least one after the first update of an experience and before its last; see `seen_within`."""


def at_most_apart(iterations: int) -> Reach:
    """Evaluations at most so many iterations apart, all the time."""
    needs = f"evaluations up to {iterations} iterations apart"
    return Reach(needs, lambda every, dense, resolution: 0 < (resolution or every) <= iterations)


def after_each_of_the_first(updates: int) -> Reach:
    """Evaluations after each of the first updates of an experience."""
    needs = f"evaluations after each of the first {updates} updates"
    return Reach(needs, lambda every, dense, resolution: every == 1 or dense >= updates)


# ---------------------------------------------------------------------------------------- quantities of a trace
class Remembering(Trace):
    """A trace that caches accuracies and the results of `remembered` functions."""

    @classmethod
    def of(cls, trace: Trace) -> Remembering:
        """The same record."""
        return cls(**{field.name: getattr(trace, field.name) for field in fields(Trace)})

    @cached_property
    def memory(self) -> dict[Any, Any]:
        """Results by function and view."""
        return {}

    def task_accuracy(self, view: str) -> Floats:
        """See `Trace.task_accuracy`. The array cannot be written to."""
        return self._once(("accuracy", view), super().task_accuracy)

    def task_total(self, view: str) -> Floats:
        """See `Trace.task_total`. The array cannot be written to."""
        return self._once(("total", view), super().task_total)

    def _once(self, key: tuple[str, str], compute: Callable[[str], Floats]) -> Floats:
        if key not in self.memory:
            self.memory[key] = compute(key[1])
            self.memory[key].flags.writeable = False
        result: Floats = self.memory[key]
        return result


def remembered(function: Callable[Concatenate[Trace, _P], _T]) -> Callable[Concatenate[Trace, _P], _T]:
    """A function of a trace (and of a view) that a `Remembering` trace computes once."""

    @wraps(function)
    def once(trace: Trace, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        if not isinstance(trace, Remembering):
            return function(trace, *args, **kwargs)
        key = (function.__module__, function.__qualname__, args, tuple(kwargs.items()))
        if key not in trace.memory:
            trace.memory[key] = function(trace, *args, **kwargs)
        result: _T = trace.memory[key]
        return result

    return once


def first_visit(visits: Bools) -> Indices:
    """f: the experience in which each task is first visited, (T,); V where it never is.

    >>> first_visit(np.array([[True, False, False], [True, True, False]])).tolist()
    [0, 1, 2]
    """
    return np.where(visits.any(0), visits.argmax(0), len(visits)).astype(np.int64)


def visited_so_far(visits: Bools) -> Bools:
    """Tasks visited up to and including each experience, (V, T).

    >>> visited_so_far(np.array([[True, False], [False, True]])).tolist()
    [[True, False], [True, True]]
    """
    return np.logical_or.accumulate(visits, axis=0)


def is_square(visits: Bools) -> bool:
    """True if task v is visited in experience v and in no other, for at least two tasks.

    >>> is_square(np.eye(3, dtype=bool)), is_square(np.ones((2, 2), bool)), is_square(np.eye(1, dtype=bool))
    (True, False, False)
    """
    return len(visits) >= 2 and np.array_equal(visits, np.eye(len(visits), dtype=bool))


@remembered
def boundaries(trace: Trace) -> Indices:
    """b: updates done at the end of each experience, with b_{-1} = 0 in front, (V + 1,): b_v is `[v + 1]`.

    >>> from clbench.testing import make_trace
    >>> boundaries(make_trace(np.zeros((2, 5, 2)))).tolist()
    [0, 3, 6]
    """
    ends = np.zeros(len(trace.visits) + 1, np.int64)
    np.maximum.at(ends, trace.experience + 1, trace.iteration)
    return np.maximum.accumulate(ends)


def points(trace: Trace, experience: int) -> Indices:
    """The evaluations of an experience, in record order."""
    first, last = np.searchsorted(trace.experience, [experience, experience + 1])
    return np.arange(first, last)


@remembered
def seen_within(trace: Trace) -> Bools:
    """True for an experience that was evaluated between its start and its end, or is no longer than a period, (V,).

    Of others nothing is known of what happened in between.

    >>> from clbench.testing import make_trace
    >>> seen_within(make_trace(np.zeros((2, 4, 2)), every=5)).tolist()  # at 0, 5, 10, 10
    [True, True]
    >>> from dataclasses import replace
    >>> only_ends = replace(make_trace(np.zeros((2, 3, 2)), every=5), every=0)  # at 0, 5, 5
    >>> seen_within(only_ends).tolist()
    [False, False]
    """
    bounds = boundaries(trace)
    out: Bools = np.diff(bounds) <= max(1, trace.every)
    n, v = trace.iteration, trace.experience
    out[v[(n > bounds[v]) & (n < bounds[v + 1])]] = True
    return out


@remembered
def ends(trace: Trace) -> Indices:
    """The last END evaluation of each experience, (V,); -1 where there is none."""
    last = np.full(len(trace.visits), -1, np.int64)
    at = np.flatnonzero(trace.phase == Phase.END)
    np.maximum.at(last, trace.experience[at], at)
    return last


@remembered
def befores(trace: Trace) -> Indices:
    """The first BEFORE evaluation of each experience, (V,); -1 where there is none."""
    none = len(trace.phase)
    first = np.full(len(trace.visits), none, np.int64)
    at = np.flatnonzero(trace.phase == Phase.BEFORE)
    np.minimum.at(first, trace.experience[at], at)
    return np.where(first < none, first, -1)


@remembered
def worth(trace: Trace, view: str) -> Floats:
    """The number of each task at each evaluation by which metrics compare, (E, T): higher is better.

    Accuracy, in [0, 1]; of a measure -L, in its unit. NaN where a cell was not evaluated, or the strategy could not
    predict; and where L is infinite, from which no difference is a number.

    >>> from dataclasses import replace
    >>> from clbench.testing import make_trace
    >>> counted = make_trace(np.full((1, 3, 1), 0.75), size=4)
    >>> sums = {"domain:squared_error": np.array([[2.0], [np.inf], [1.0]])}
    >>> measured = replace(counted, correct={}, bits={}, sums=sums)
    >>> worth(counted, "class")[:, 0].tolist(), worth(measured, "domain:squared_error")[:, 0].tolist()
    ([0.75, 0.75, 0.75], [-0.5, nan, -0.25])
    """
    return _negative(trace.task_mean(view)) if view in trace.sums else trace.task_accuracy(view)


@remembered
def worth_total(trace: Trace, view: str) -> Floats:
    """`worth` times the task's test samples: right answers, or the negative sum of a measure, (E, T)."""
    return _negative(trace.task_total(view)) if view in trace.sums else trace.task_total(view)


def _negative(loss: Floats) -> Floats:
    """The negative of finite numbers, without a negative zero; NaN of others."""
    return np.where(np.isfinite(loss), 0.0 - loss, np.nan)


def rounding(trace: Trace, view: str, *worths: float | Floats) -> float:
    """Difference up to which two worths are equal: of accuracies `ROUNDING`, of a measure that share of the largest."""
    if view not in trace.sums:
        return ROUNDING
    return ROUNDING * max((float(np.abs(of).max()) for of in worths if np.size(of)), default=0.0)


@remembered
def accuracy_matrix(trace: Trace, view: str) -> Floats:
    """R, (V, T): accuracy on each task at the last END evaluation of each experience, in [0, 1]; of a measure `worth`.

    NaN where a task was not evaluated then. Of a trace that is not joined by origin, V counts the parts.

    Source: Lopez-Paz and Ranzato 2017.

    >>> from clbench.testing import make_trace
    >>> curve = np.array([[[0.1, 0], [0.9, 0], [0.9, 0]], [[0.9, 0], [0.4, 0.5], [0.5, 0.8]]])
    >>> accuracy_matrix(make_trace(curve), "class")
    array([[0.9, 0. ],
           [0.5, 0.8]])
    """
    return at(worth(trace, view), ends(trace))


@remembered
def right_matrix(trace: Trace, view: str) -> Floats:
    """Right test samples of each task at the end of each experience, (V, T): `accuracy_matrix` times the task's size.

    Whole numbers, so that sums over tasks are exact in any order; of a measure `worth_total`. NaN where a task was not
    evaluated then.

    >>> from clbench.testing import make_trace
    >>> right_matrix(make_trace(np.full((1, 3, 1), 0.29), size=100), "class")
    array([[29.]])
    """
    return at(worth_total(trace, view), ends(trace))


def at(accuracy: Floats, evaluations: Indices) -> Floats:
    """Rows of an array (E, ...); NaN for evaluation -1, which is one that was not made."""
    rows = accuracy[np.maximum(evaluations, 0)]
    return np.where((evaluations >= 0).reshape(-1, *[1] * (accuracy.ndim - 1)), rows, np.nan)


def undefined(trace: Trace) -> Floats:
    """Parts for each task that are all undefined, (T,)."""
    return np.full(trace.visits.shape[1], np.nan)


class Weights:
    """Collects the weights (E, T) of a metric that is a sum of accuracies."""

    def __init__(self, trace: Trace) -> None:
        self.array = np.zeros((len(trace.iteration), trace.visits.shape[1]))

    def add(self, evaluation: int | np.integer[Any], tasks: Any, weight: Any) -> None:
        """Adds weights of tasks at one evaluation; an evaluation that was not made (-1) has none."""
        if evaluation >= 0:
            self.array[evaluation, tasks] += weight


def crossing(n: Indices, curve: Floats, index: int, level: float) -> float:
    """Iterations at which a piecewise linear curve reaches a level that it first has at point `index`.

    >>> crossing(np.array([0, 10, 20]), np.array([0.0, 0.5, 1.0]), 2, 0.75)
    15.0
    """
    if index == 0:
        return float(n[0])
    below, above = curve[index - 1], curve[index]
    share = min(1.0, (level - below) / (above - below))  # above may be a rounding below the level
    return float(n[index - 1] + share * (n[index] - n[index - 1]))


def spacing(trace: Trace, evaluations: Indices) -> int:
    """Largest number of iterations between successive evaluations within one experience, its start included.

    Args:
        evaluations: in record order.

    >>> from clbench.testing import make_trace
    >>> trace = make_trace(np.zeros((2, 4, 2)), every=5)  # at 0, 5, 10 and 10, then at 10, 15, 20 and 20
    >>> spacing(trace, np.arange(8)), spacing(trace, np.array([7]))
    (5, 10)
    """
    experience, n = trace.experience[evaluations], trace.iteration[evaluations]
    before = np.concatenate([n[:1], n[:-1]])
    first = np.concatenate([[True], experience[1:] != experience[:-1]])
    return int((n - np.where(first, boundaries(trace)[experience], before)).max())


def mean_over(trace: Trace, entries: list[tuple[int, float]]) -> Value:
    """Mean over (task, value), and over those of each task, (T,)."""
    task = np.array([i for i, _ in entries], np.int64)
    values = np.array([value for _, value in entries])
    parts = np.array([mean(values[task == i]) for i in range(trace.visits.shape[1])])
    return Value(mean(values), parts)
