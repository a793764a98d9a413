"""Metrics as other libraries define them under the same names, computed from our record.

Each rule was read in the library's code, that of the release or commit named where there is one. Between them
"forgetting" of one run differs by points: compare a number with a published one only where the rules agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from clbench.metrics import matrix, prequential, sessions
from clbench.metrics.definition import Floats, Value, accuracy_matrix, at, boundaries, is_square
from clbench.summation import mean, total
from clbench.trace import Phase, Trace

ONLY_ONCE = "defined for streams that visit each task once, in order"


@dataclass(frozen=True)
class Dialect:
    """One number as another library would have printed it.

    Attributes:
        library: its name, with the version or commit where the rule depends on it.
        quantity: what it is about.
        name: what the library calls it.
        value: None where it is not defined.
        rule: what is computed.
        ours: name of the metric with the same rule, if there is one.
    """

    library: str
    quantity: Literal["accuracy", "forgetting", "backward transfer"]
    name: str
    value: float | None
    rule: str
    ours: str | None


def forgetting_libcontinual(R: Floats) -> float:
    """sum_{j < T-2} (R[j, j] - R[T-1, j]) / (T - 1): the last task but one is left out and yet divided for.

    >>> import numpy as np
    >>> R = np.array([[0.8, 0, 0], [0.7, 0.9, 0], [0.6, 0.3, 0.9]])
    >>> round(forgetting_libcontinual(R), 6)  # (0.8 - 0.6) / 2
    0.1
    """
    tasks = len(R)
    return total(float(R[j, j] - R[-1, j]) for j in range(tasks - 2)) / (tasks - 1)


def forgetting_continuum(R: Floats) -> float:
    """sum_{j < T-2} (max_{j <= l < T-2} R[l, j] - R[T-1, j]) / (T - 1), Continuum 1.2.7.

    The last two experiences are not among those that the maximum is over, and the last task but one is left out and yet
    divided for: of two tasks it is 0, whatever was forgotten.

    >>> import numpy as np
    >>> R = np.array([[0.8, 0, 0, 0], [0.7, 0.9, 0, 0], [0.9, 0.3, 0.9, 0], [0.5, 0.4, 0.6, 0.9]])
    >>> round(forgetting_continuum(R), 6)  # (0.8 - 0.5 + 0.9 - 0.4) / 3
    0.266667
    >>> forgetting_continuum(np.array([[1.0, 0.0], [0.0, 1.0]]))
    0.0
    """
    tasks = len(R)
    return total(float(R[j : tasks - 2, j].max() - R[-1, j]) for j in range(tasks - 2)) / (tasks - 1)


def backward_transfer_without_neighbours(R: Floats) -> float:
    """sum_{i > j + 1} (R[i, j] - R[j, j]) / (T (T - 1) / 2): neighbouring pairs are left out and yet divided for.

    Of two tasks it is 0, whatever was forgotten. So Continuum 1.2.7 and LibContinual.

    >>> import numpy as np
    >>> R = np.array([[0.8, 0, 0], [0.7, 0.9, 0], [0.6, 0.3, 0.9]])
    >>> round(backward_transfer_without_neighbours(R), 6)  # (0.6 - 0.8) / 3
    -0.066667
    >>> backward_transfer_without_neighbours(np.array([[1.0, 0.0], [0.0, 1.0]]))
    0.0
    """
    tasks = len(R)
    pairs = tasks * (tasks - 1) / 2
    return total(float(R[i, j] - R[j, j]) for i in range(tasks) for j in range(i - 1)) / pairs


def capymoa_matrix(trace: Trace, view: str, looks: int) -> Floats:
    """R of CapyMOA 0.15.1, (V, T): the last of `continual_evaluations` looks at each task.

    Of a task learnt in N batches the looks are after each floor(N / H) of them, and the last one is after
    H floor(N / H): before the end of the task where H does not divide N. Fewer batches than looks are refused there.

    >>> from clbench.testing import make_trace
    >>> curve = np.array([[0.0, 0.2, 0.4, 0.6, 0.6]])[:, :, None]  # after 0, 1, 2 and 3 batches
    >>> [capymoa_matrix(make_trace(curve), "class", looks).tolist() for looks in (1, 2, 3, 4)]
    [[[0.6]], [[0.4]], [[0.6]], [[nan]]]
    """
    bounds, found = boundaries(trace), np.full(len(trace.visits), -1, np.int64)
    for v, (begin, n) in enumerate(zip(bounds[:-1].tolist(), np.diff(bounds).tolist(), strict=True)):
        moment = begin + looks * (n // looks)
        after = (trace.experience == v) & (trace.iteration == moment) & (trace.phase == Phase.ITERATION)
        if n >= looks and after.any():
            found[v] = np.flatnonzero(after)[-1]
    return at(trace.task_accuracy(view), found)


def _after_looks(trace: Trace, view: str) -> Value:
    """`accuracy_final` of CapyMOA 0.15.1 with `continual_evaluations=10`; no parts."""
    return Value(mean(capymoa_matrix(trace, view, LOOKS)[-1]), np.zeros(0))


def _gained_after_looks(trace: Trace, view: str) -> Value:
    """`backward_transfer` of CapyMOA 0.15.1 with `continual_evaluations=10`; no parts."""
    R = capymoa_matrix(trace, view, LOOKS)
    pairs = [(i, j) for i in range(len(R)) for j in range(i)]
    return Value(mean([float(R[i, j] - R[j, j]) for i, j in pairs]), np.zeros(0))


def _single_pass(trace: Trace, view: str) -> Value:
    """`prequential.accuracy`, where no sample came in again; no parts."""
    record = trace.prequential
    if record is None or record.repeated.any():
        return Value(math.nan, np.zeros(0))
    return prequential.accuracy(trace, view)


LOOKS = 10
"""`continual_evaluations` of the rows of CapyMOA that depend on it."""

_Rule = Callable[[Trace, str], Value]
_SHARED: tuple[tuple[str, Literal["accuracy", "forgetting", "backward transfer"], str, str, str | None, _Rule], ...] = (
    ("Avalanche 0.6", "accuracy", "Top1_Acc_Stream", "samples of all tasks pooled", "sessions.final", sessions.final),
    ("Avalanche 0.6", "forgetting", "StreamForgetting", "after learning - now, signed",
     "forgetting.after_learning", matrix.forgetting_after_learning),
    ("Avalanche 0.6", "backward transfer", "StreamBWT", "now - after learning",
     "backward_transfer.gem", matrix.backward_transfer_gem),
    ("Mammoth", "accuracy", "mean accuracy", "mean over tasks", "average_accuracy", matrix.average_accuracy),
    ("Mammoth", "forgetting", "forgetting", "best, the last evaluation included - now: never negative",
     "forgetting.max_including_last", matrix.forgetting_max_including_last),
    ("Mammoth", "backward transfer", "backward_transfer", "now - after learning",
     "backward_transfer.gem", matrix.backward_transfer_gem),
    ("PyCIL, PILOT", "accuracy", "CNN top1", "samples of all tasks pooled", "sessions.final", sessions.final),
    ("PyCIL, PILOT", "accuracy", "Average Accuracy (CNN)", "samples pooled at the end of each task, mean over tasks",
     "sessions.average", sessions.average),
    ("PyCIL, PILOT", "forgetting", "Forgetting (CNN)", "best, the last evaluation included - now: never negative",
     "forgetting.max_including_last", matrix.forgetting_max_including_last),
    ("CL-Gym", "accuracy", "accuracy", "mean over tasks", "average_accuracy", matrix.average_accuracy),
    ("CL-Gym", "forgetting", "forgetting", "best, the last evaluation included - now: never negative",
     "forgetting.max_including_last", matrix.forgetting_max_including_last),
    ("FACIL", "accuracy", "TAg acc, TAw acc", "mean over tasks", "average_accuracy", matrix.average_accuracy),
    ("FACIL", "forgetting", "TAg forg, TAw forg", "best before the last task - now",
     "forgetting.chaudhry", matrix.forgetting_chaudhry),
    ("Continuum 1.2.7", "accuracy", "accuracy", "samples of all tasks pooled", "sessions.final", sessions.final),
    ("Renate", "accuracy", "average_accuracy", "mean over tasks", "average_accuracy", matrix.average_accuracy),
    ("Renate", "forgetting", "forgetting", "best before the last task - now",
     "forgetting.chaudhry", matrix.forgetting_chaudhry),
    ("Renate", "backward transfer", "backward_transfer", "now - after learning",
     "backward_transfer.gem", matrix.backward_transfer_gem),
    ("LibContinual a399ed4", "accuracy", "Last Average Acc", "mean over tasks",
     "average_accuracy", matrix.average_accuracy),
    ("LibContinual a399ed4", "accuracy", "Overall Avg Acc", "mean over tasks so far, mean over the ends of tasks",
     "average_incremental_accuracy", matrix.average_incremental_accuracy),
    ("CapyMOA 0.15.1", "accuracy", "ttt.cumulative",
     "each batch before its update, every epoch anew; where samples come in again it is another number, not here",
     "prequential.accuracy", _single_pass),
    ("CapyMOA 0.15.1", "accuracy", "accuracy_final", "mean over tasks, one look at each task, at its end",
     "average_accuracy", matrix.average_accuracy),
    ("CapyMOA 0.15.1", "accuracy", "accuracy_final, 10 looks",
     "mean over tasks after batch 10 floor(N / 10) of the N of the last task", None, _after_looks),
    ("CapyMOA 0.15.1", "backward transfer", "backward_transfer", "now - after learning, mean over all pairs",
     "backward_transfer.all_pairs", matrix.backward_transfer_all_pairs),
    ("CapyMOA 0.15.1", "backward transfer", "backward_transfer, 10 looks",
     "the same with each task after batch 10 floor(N / 10) of its N", None, _gained_after_looks),
)  # fmt: skip
_OWN: tuple[tuple[str, Literal["forgetting", "backward transfer"], str, str, Callable[[Floats], float]], ...] = (
    ("Continuum 1.2.7", "forgetting", "forgetting",
     "best before the last task but one - now, without the last task but one, yet divided by T - 1",
     forgetting_continuum),
    ("Continuum 1.2.7", "backward transfer", "backward_transfer",
     "later - after learning over pairs that are not neighbours, yet divided by T (T - 1) / 2",
     backward_transfer_without_neighbours),
    ("LibContinual a399ed4", "forgetting", "Frgt",
     "after learning - now without the last task but one, yet divided by T - 1", forgetting_libcontinual),
    ("LibContinual a399ed4", "backward transfer", "BWT",
     "later - after learning over pairs that are not neighbours, yet divided by T (T - 1) / 2",
     backward_transfer_without_neighbours),
)  # fmt: skip


_LIBRARIES = list(dict.fromkeys(row[0] for row in _SHARED))


def dialects(trace: Trace, view: str) -> list[Dialect]:
    """Metrics of other libraries at the end of a run, accuracies in [0, 1].

    Defined where every task is visited once, in order, and there are two or more; elsewhere the values are None and
    the rule says so. Every library evaluates once, at the end of each task; CapyMOA more often where it is told so. Of
    a measure there are none: the rules were read in code that counts right answers.

    >>> import numpy as np
    >>> from clbench.testing import make_trace
    >>> R = np.array([[0.80, 0, 0, 0], [0.85, 0.90, 0, 0], [0.70, 0.60, 0.88, 0], [0.72, 0.75, 0.91, 0.95]])
    >>> numbers = dialects(make_trace(R[:, None].repeat(3, 1)), "class")
    >>> sorted({round(d.value, 4) for d in numbers if d.quantity == "forgetting"})
    [0.0667, 0.0767, 0.0833, 0.0933]
    """
    if view in trace.sums:
        return []
    trace = trace.by_origin()
    square = is_square(trace.visits)
    R = accuracy_matrix(trace, view)

    def plain(value: float) -> float | None:
        return value if square and not math.isnan(value) else None

    shared = [
        Dialect(library, quantity, name, plain(rule(trace, view).value), text if square else ONLY_ONCE, ours)
        for library, quantity, name, text, ours, rule in _SHARED
    ]
    rules = [
        Dialect(library, quantity, name, plain(rule(R)) if square else None, text if square else ONLY_ONCE, None)
        for library, quantity, name, text, rule in _OWN
    ]
    return sorted(shared + rules, key=lambda d: _LIBRARIES.index(d.library))
