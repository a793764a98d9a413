"""The card of a stream: samples, repetition, balance, and available information. Pure NumPy, and without torch.

A sample *occurs* in each experience that contains it, with or without a label. Classes are the true ones, whatever the
label noise.
"""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clbench.config.benchmark import Benchmark
from clbench.errors import UserError
from clbench.formatting import compact, ranges
from clbench.reports.tabular import aligned
from clbench.stream import Stream, joined
from clbench.training import schedules
from clbench.training.budget import budgets

if TYPE_CHECKING:
    from clbench.dataset import DataSet, Outline

LISTED = 20
"""Largest number of experiences with a line each."""

_WIDTH = 100
_MOST = 10
"""Numbers and ranges in one list."""
_SETTINGS = {
    "class": "class-incremental (all logits are active at test time)",
    "task": "task-incremental (task labels are available at test time)",
    "domain": "domain-incremental (the same outputs in every task)",
}


# ------------------------------------------------------------------------------------------------ numbers
@dataclass(frozen=True)
class Contents:
    """Counts of the contents of a stream's experiences.

    Attributes:
        classes: samples of each class in each experience, (V, C).
        tasks: the same of each task, a variant counted to the task that it stands for, (V, T).
        about: tasks visited by each experience, a mask (V, T).
        times: number of occurrences of each training sample, (N,).
        labelled: samples with a label in each experience, (V,).
        starts: the first sub-experience of each experience, ascending.
    """

    classes: NDArray[np.int64]
    tasks: NDArray[np.int64]
    about: NDArray[np.bool_]
    times: NDArray[np.int64]
    labelled: NDArray[np.int64]
    starts: NDArray[np.int64]


def count(stream: Stream) -> Contents:
    """Counts the contents of a stream."""
    train_y, tasks = stream.data.train_y, len(stream.tasks)
    counted_to = np.array([t.id if t.stands_for is None else t.stands_for for t in stream.all_tasks], np.int64)
    classes = np.zeros((len(stream.experiences), stream.data.classes), np.int64)
    by_task = np.zeros((len(stream.experiences), tasks), np.int64)
    times = np.zeros(len(train_y), np.int64)
    for v, experience in enumerate(stream.experiences):
        index, task = joined((*experience.parts, *experience.unlabelled))
        classes[v] = np.bincount(train_y[index], minlength=stream.data.classes)
        by_task[v] = np.bincount(counted_to[task], minlength=tasks)
        np.add.at(times, index, 1)
    origins = stream.origins()
    return Contents(
        classes=classes,
        tasks=by_task,
        about=stream.visit_matrix(),
        times=times,
        labelled=np.array([v.samples for v in stream.experiences], np.int64),
        starts=np.flatnonzero(np.diff(origins, prepend=-1)),
    )


def by_task_block(matrix: NDArray[np.bool_], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Rows of each task block (the sub-experiences of an experience) joined by "or", (task blocks, T)."""
    return np.logical_or.reduceat(matrix, starts, axis=0)


def return_times(present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Distances between a column's successive True rows, of all columns.

    >>> return_times(np.array([[True, False], [False, True], [True, True], [True, False]])).tolist()
    [2, 1, 1]
    """
    return np.concatenate([np.diff(np.flatnonzero(column)) for column in present.T])


def overlap(classes: NDArray[np.int64]) -> float:
    """Mean Jaccard index |A and B| / |A or B| of the class sets of successive experiences; NaN for a single one.

    Args:
        classes: samples of each class in each experience, (V, C); no experience is empty.

    >>> round(overlap(np.array([[5, 5, 0], [1, 0, 1], [0, 0, 2]])), 6)  # the mean of 1/3 and 1/2
    0.416667
    """
    present = classes > 0
    both, any_ = (present[1:] & present[:-1]).sum(1), (present[1:] | present[:-1]).sum(1)
    return float((both / any_).mean()) if len(both) else float("nan")


def gini(counts: NDArray[np.int64]) -> float:
    """Gini coefficient: 0 where all are equal, (n - 1) / n where one of n has everything.

    >>> gini(np.array([3, 3, 3])), gini(np.array([0, 0, 0, 8])), gini(np.array([1, 3]))
    (0.0, 0.75, 0.25)
    """
    n, ranks = len(counts), np.arange(1, len(counts) + 1)
    return float(((2 * ranks - n - 1) * np.sort(counts)).sum() / (n * counts.sum()))


@dataclass(frozen=True)
class Leakage:
    """Samples whose stored bytes are equal.

    Attributes:
        leaked: test samples that are also in the training set.
        contradicted: those of them with a training copy of another label.
        repeated: training samples that repeat an earlier one.
        disputed: those of them whose label differs from that of an earlier copy.
    """

    leaked: int
    contradicted: int
    repeated: int
    disputed: int


def leakage(data: DataSet) -> Leakage:
    """Exact duplicates within training, and between training and test, by SHA-256 of each sample's bytes."""
    labels: dict[bytes, set[int]] = {}
    repeated = disputed = leaked = contradicted = 0
    for row, label in zip(data.train_x, data.train_y.tolist(), strict=True):
        known = labels.setdefault(_digest(row), set())
        repeated += bool(known)
        disputed += bool(known - {label})
        known.add(label)
    for row, label in zip(data.test_x, data.test_y.tolist(), strict=True):
        known = labels.get(_digest(row), set())
        leaked += bool(known)
        contradicted += bool(known - {label})
    return Leakage(leaked, contradicted, repeated, disputed)


def _digest(sample: NDArray[Any]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(sample).data).digest()


# ------------------------------------------------------------------------------------------------ words
@dataclass(frozen=True)
class Card:
    """A card, ready to write.

    Attributes:
        title: of the benchmark.
        rows: label and text.
        table: a head and a line for each experience; empty for long streams.
    """

    title: str
    rows: tuple[tuple[str, str], ...]
    table: tuple[tuple[str, ...], ...] = ()


def make(benchmark: Benchmark, stream: Stream, data: DataSet | None = None) -> Card:
    """The card of a benchmark's stream.

    Args:
        benchmark: gives the protocol and the budget.
        stream: compiled from it; an outline of the data set is enough.
        data: the data set with its images, to check for leakage.

    Raises:
        UserError: the budget is smaller than the number of experiences, or a schedule longer than one.
    """
    of_experiences = budgets(benchmark.training, stream)
    if problems := schedules.check(benchmark.training, schedules.Positions(benchmark.training, stream, of_experiences)):
        raise UserError(*problems)
    contents, updates = count(stream), np.array(of_experiences, np.int64)
    rows = [
        *_of_data(benchmark, stream),
        *_of_experiences(benchmark, stream, contents),
        *_of_samples(benchmark, stream, contents),
        *_of_classes_and_tasks(stream, contents),
        *_of_competition(benchmark, stream, contents),
        ("protocol", _protocol(benchmark)),
        ("updates per experience", _each(updates, total=True) + _passes(benchmark)),
        ("definition hash", stream.definition_hash),
        (f"instance hash, seed {stream.seed}", stream.instance_hash),
    ]
    if data is not None:
        rows += _of_leakage(leakage(data), data)
    listed = len(stream.experiences) <= LISTED
    return Card(_title(benchmark), tuple(rows), _table(stream, contents, updates) if listed else ())


def without_data(benchmark: Benchmark, definition_hash: str, reason: str) -> Card:
    """The card of a benchmark whose data set is unavailable."""
    rows = (
        ("source", benchmark.source or "-"),
        ("data set", benchmark.stream.data_name),
        ("setting", _SETTINGS[benchmark.stream.setting]),
        ("protocol", _protocol(benchmark)),
        ("definition hash", definition_hash),
        ("no card", reason),
    )
    return Card(_title(benchmark), rows)


def _title(benchmark: Benchmark) -> str:
    title = " ".join(benchmark.title.split())
    return f"{benchmark.id}: {title}" if title else benchmark.id


def _of_data(benchmark: Benchmark, stream: Stream) -> list[tuple[str, str]]:
    data = stream.data
    return [
        ("source", benchmark.source or "-"),
        ("data set", f"{data.name}, from {data.origin}, sha256 {data.sha256[:16]}"),
        (
            "data",
            f"{len(data.train_y):,} training samples, {len(data.test_y):,} test samples, {_asked(data)}",
        ),
        (
            "shape",
            f"{'x'.join(map(str, data.shape))} ({'channels x height x width' if data.shape[1:] else 'features'})",
        ),
        ("setting", _SETTINGS[stream.setting]),
    ]


def _asked(data: Outline) -> str:
    """What is asked of a sample: its class, or numbers."""
    if data.train_target is None:
        return f"{data.classes:,} classes"
    number = data.train_target.shape[1]
    names = f" ({', '.join(data.target_names)})" if data.target_names and number <= _MOST else ""
    return f"{number:,} {'number' if number == 1 else 'numbers'} to predict{names}"


def _of_experiences(benchmark: Benchmark, stream: Stream, contents: Contents) -> list[tuple[str, str]]:
    tasks = f"{len(stream.tasks):,}"
    if stream.data.train_target is None:
        tasks += f", with {_classes([len(t.classes) for t in stream.tasks])}"
    if stream.variants:
        tasks += f"; samples have {len(stream.variants):,} transforms between theirs"
    experiences, blocks = len(stream.experiences), len(contents.starts)
    number = f"{experiences:,}"
    if online := benchmark.stream.online:
        pieces = "1 sample" if online == 1 else f"up to {online:,} samples"
        number += f" sub-experiences of {pieces}, cut from {blocks:,} experiences"
    elif blocks < experiences:
        number += f", sub-experiences of {blocks:,} experiences"
    return [("tasks", tasks), ("experiences", number)]


def _of_samples(benchmark: Benchmark, stream: Stream, contents: Contents) -> list[tuple[str, str]]:
    occurs, labelled = contents.times > 0, stream.labels >= 0
    number, total, lost = int(occurs.sum()), len(occurs), int((~occurs).sum())
    rows = [("samples per experience", _each(contents.labelled, total=True))]
    if not labelled[occurs].all():
        without = contents.classes.sum(1) - contents.labelled
        rows[0] = ("labelled per experience", rows[0][1])
        rows.append(("unlabelled per experience", _each(without, total=True)))
        rows.append(("labelled", f"{_part(int((occurs & labelled).sum()), number)} occurring training samples"))
    rows.append(
        ("coverage", f"{_part(number, total)} training samples occur" + (f"; {lost:,} never do" if lost else ""))
    )
    often = contents.times[occurs]
    again = int((often > 1).sum())
    rows.append(
        ("occurrences per sample", _each(often) + (f"; {_part(again, number)} more than once" if again else ""))
    )
    if benchmark.stream.supervision.noise is not None:
        with_label = occurs & labelled
        wrong = int((with_label & (stream.labels != stream.data.train_y)).sum())
        rows.append(("wrong labels", f"{_part(wrong, int(with_label.sum()))} occurring labelled training samples"))
    return rows


def _of_classes_and_tasks(stream: Stream, contents: Contents) -> list[tuple[str, str]]:
    about = by_task_block(contents.about, contents.starts)
    present = by_task_block(contents.about | (contents.tasks > 0), contents.starts)
    numbers = stream.data.train_target is not None
    rows = [
        *([] if numbers else [("classes per experience", _each((contents.classes > 0).sum(1)))]),
        ("visits per task", _each(about.sum(0))),
        ("return times", _returns(about, "visits to one task")),
    ]
    if (present != about).any():
        rows.append(("encounters per task", f"{_each(present.sum(0))}; visits, and others with samples of it"))
        rows.append(("times between them", _returns(present, "encounters with one task")))
    if numbers:
        return rows
    shared = overlap(contents.classes)
    if len(stream.experiences) > 1:
        rows.append(
            ("overlap", f"{shared:.3f}, mean Jaccard index (common / all) of the classes of successive experiences")
        )
    wanted = sorted({c for t in stream.tasks for c in t.classes})
    come = contents.classes.sum(0)[wanted]
    most, least = int(come.max()), int(come.min())
    text = f"Gini coefficient {gini(come):.3f} over {len(wanted):,} classes of the occurrences of their samples; "
    text += f"largest to smallest {most:,} : {least:,}" + (f" = {most / least:.2f}" if least else "")
    rows.append(("imbalance", text))
    absent = [c for c, n in zip(wanted, come.tolist(), strict=True) if not n]
    if absent:
        by_name = stream.data.class_names and len(absent) <= _MOST
        rows.append(("never occur", f"class {stream.data.named(*absent) if by_name else ranges(absent, _MOST)}"))
    return rows


def _of_competition(benchmark: Benchmark, stream: Stream, contents: Contents) -> list[tuple[str, str]]:
    """Evaluations that cannot be wrong, and losses that are 0, because a single class competes."""
    training, rows = benchmark.training, []
    active = training.active_outputs or ("task" if stream.setting == "task" else "all")
    seen = np.cumsum(contents.classes > 0, axis=0) > 0
    first = np.flatnonzero(seen.sum(1) == 1).tolist()
    alone = [t.id for t in stream.tasks if len(t.classes) == 1]
    certain = []
    if stream.setting == "class" and first:
        certain.append(f"after experience {ranges(first, _MOST)} in the class view, until a second class comes")
    if stream.setting == "class" and alone and "task" in (benchmark.evaluation.views or ("class", "task")):
        certain.append(f"in the task view of task {ranges(alone, _MOST)}, of one class")
    if certain:
        rows.append(("always right", "; ".join(certain)))
    single = {
        "seen": first,
        "batch": np.flatnonzero((contents.classes > 0).sum(1) == 1).tolist(),
        "task": [v for v, e in enumerate(stream.experiences) if {t for t, _ in e.parts} <= {*alone}],
    }.get(active, [])
    if single and training.loss == "cross_entropy":
        text = f"experience {ranges(single, _MOST)}: one active logit, so that the loss of its samples is 0"
        rows.append(("learns nothing from", text))
    return rows


def _returns(present: NDArray[np.bool_], between: str) -> str:
    """Distribution of the return times."""
    times = return_times(present)
    if not len(times):
        return f"none; there are no two {between}"
    low, middle, high = np.quantile(times, [0.25, 0.5, 0.75])
    return (
        f"{len(times):,}, min {times.min():,}, quartiles {compact(low)}, {compact(middle)}, {compact(high)}, "
        f"max {times.max():,}; distances between two {between}, 1 where they are successive"
    )


def _protocol(benchmark: Benchmark) -> str:
    protocol = benchmark.protocol
    available = {
        "task labels in training": protocol.task_in_training,
        "boundaries of experiences": protocol.boundaries,
        "task labels at test time": benchmark.task_at_test,
    }
    yes, no = ([words for words, granted in available.items() if granted is side] for side in (True, False))
    return f"available: {', '.join(yes) or 'nothing'}; denied: {', '.join(no) or 'nothing'}"


def _of_leakage(duplicates: Leakage, data: DataSet) -> list[tuple[str, str]]:
    test, train = len(data.test_y), len(data.train_y)
    leaked = f"{_part(duplicates.leaked, test)} test samples are also in the training set, byte for byte"
    repeated = f"{_part(duplicates.repeated, train)} training samples repeat an earlier one"
    if data.train_target is None:
        leaked += f"; {duplicates.contradicted:,} of them with another label"
        repeated += f"; {duplicates.disputed:,} of them with another label"
    return [("leakage", leaked), ("duplicates", repeated)]


def _passes(benchmark: Benchmark) -> str:
    if benchmark.training.epochs is None:
        return ""
    return " (passes over its own samples; as many for a strategy that trains on more)"


def _table(stream: Stream, contents: Contents, updates: NDArray[np.int64]) -> tuple[tuple[str, ...], ...]:
    """A line for each experience; empty columns are left out."""
    cut, unlabelled = len(contents.starts) < len(stream.experiences), contents.classes.sum(1) - contents.labelled
    numbers = stream.data.train_target is not None
    along = [[t for t in stream.present(v) if t not in v.tasks] for v in stream.experiences]
    head = ["experience", *(["visit"] if cut else []), "tasks", *(["also"] if any(along) else []), "samples"]
    head += [*(["unlabelled"] if unlabelled.any() else []), *([] if numbers else ["classes"]), "updates"]
    blocks = np.searchsorted(contents.starts, np.arange(len(stream.experiences)), side="right") - 1
    lines = [tuple(head)]
    for v, experience in enumerate(stream.experiences):
        values = {
            "experience": str(v),
            "visit": str(blocks[v]),
            "tasks": ranges(experience.tasks, _MOST),
            "also": ranges(along[v], _MOST) or "-",
            "samples": f"{contents.labelled[v]:,}",
            "unlabelled": f"{unlabelled[v]:,}",
            "classes": ranges(np.flatnonzero(contents.classes[v]).tolist(), _MOST),
            "updates": f"{updates[v]:,}",
        }
        lines.append(tuple(values[name] for name in head))
    return tuple(lines)


# ------------------------------------------------------------------------------------------------ few words
def _part(part: int, whole: int) -> str:
    """
    >>> _part(1, 3), _part(1442, 1442), _part(9999, 10000), _part(1, 10000), _part(0, 0)
    ('1 of 3 (33.3 %)', '1,442 of 1,442 (100 %)', '9,999 of 10,000 (99.99 %)', '1 of 10,000 (0.01 %)', '0 of 0')
    """
    text, share = f"{part:,} of {whole:,}", 100 * part / (whole or 1)
    for digits in range(1, 12):  # as many as keep some apart from all and from none
        words = f"{share:.{digits}f}"
        if float(words) not in (0, 100) or part in (0, whole):
            break
    return f"{text} ({float(words):g} %)" if whole else text


def _classes(numbers: Sequence[int]) -> str:
    """
    >>> _classes([1, 1]), _classes([4, 3, 3])
    ('1 class each', '3 to 4 classes')
    """
    low, high = min(numbers), max(numbers)
    return f"{low:,} to {high:,} classes" if low < high else f"{low:,} {'class' if low == 1 else 'classes'} each"


def _each(values: NDArray[np.int64], total: bool = False) -> str:
    """Minimum, median, mean and maximum, or the common value.

    >>> _each(np.array([2, 2, 2]), total=True), _each(np.array([1, 4]))
    ('2 each, total 6', 'min 1, median 2.5, mean 2.5, max 4')
    """
    if (values == values[0]).all():
        text = f"{values[0]:,} each"
    else:
        text = f"min {values.min():,}, median {compact(float(np.median(values)))}, "
        text += f"mean {compact(float(values.mean()))}, max {values.max():,}"
    return f"{text}, total {values.sum():,}" if total else text


# ------------------------------------------------------------------------------------------------ writing
def to_text(card: Card) -> str:
    """The card as YAML comments below the resolved YAML: the whole is again a valid file."""
    width = max(len(label) for label, _ in card.rows)
    lines = [card.title, ""]
    for label, text in card.rows:
        first, *others = textwrap.wrap(text, _WIDTH - width - 2, break_long_words=False, break_on_hyphens=False) or [""]
        lines += [f"{label.ljust(width)}  {first}", *(" " * (width + 2) + line for line in others)]
    if card.table:
        lines += ["", *aligned(card.table, words=0)]
    return "\n".join(f"# {line}".rstrip() for line in lines)


def to_markdown(card: Card) -> str:
    """The card as Markdown."""
    lines = [f"# {_escaped(card.title)}", "", "| | |", "|---|---|"]
    lines += [f"| {_escaped(label)} | {_escaped(text)} |" for label, text in card.rows]
    if card.table:
        head, *body = card.table
        lines += ["", f"| {' | '.join(head)} |", "|" + "---:|" * len(head)]
        lines += [f"| {' | '.join(cells)} |" for cells in body]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    r"""
    >>> _escaped("a|b_c\n<d>")
    'a\\|b\\_c &lt;d&gt;'
    """
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{c}" if c in "\\`*_|[]" else c for c in text)
