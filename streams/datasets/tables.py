"""Tables to the arrays of a data set: targets, tasks, the division into training and test rows, encoded features.

Statistics of encodings come from the training rows; in tables whose tasks are blocks of time from those of the first
block, and so do mean and deviation of `normalise: standard`: nothing is known of the future.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clbench.errors import UserError, hint, shown
from clbench.streams.datasets import encoding, frames, images, outline_cache, time_order
from clbench.streams.datasets.columns import Columns, Table
from clbench.streams.datasets.frames import Frame
from clbench.streams.datasets.sources import Arrays, fifths

if TYPE_CHECKING:
    import pandas as pd

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]

_WHOLE = re.compile(r"[+-]?\d+$")
_last: tuple[str, Arrays] | None = None
"""The table that was read last: validation, facts and loading read it once."""


def load(name: str, table: Table, size: int | None = None) -> Arrays:
    """The arrays of a table.

    Args:
        name: `csv:PATH`, `parquet:PATH`, `hf:FOLDER` or `gapminder`.
        table: its settings.
        size: of images, see `clbench.streams.datasets.images.together`.

    Raises:
        UserError: the file is missing or damaged, or does not meet the settings.
    """
    global _last
    key = json.dumps([name, table.content(), size, outline_cache.stamps(frames.path_of(name))])
    if _last is None or _last[0] != key:
        _last = key, _arranged(frames.read(name, table.columns), table, size)
    return _last[1]


def _arranged(frame: Frame, table: Table, size: int | None) -> Arrays:
    columns, where, n = table.columns, frame.where, len(frame.data)
    y, target = np.zeros(n, np.int64), None
    names: tuple[str, ...] = ()
    if columns.target_kind == "class":
        y, names = _classes(frame, columns.targets[0])
    else:
        target = np.column_stack([_numbers(frame, column) for column in columns.targets])
    task, test = _divided(frame, table, y, names)
    basis = ~test if table.blocks is None or task is None else ~test & (task == 0)
    _check_parts(frame, columns, y, names, target, task, test)
    if target is not None and columns.target_scale == "standard":
        target = (target - target[basis].mean(0)) / target[basis].std(0)
    x = _inputs(frame, columns, basis, size)
    arrays = Arrays(
        train_x=x[~test], train_y=y[~test], test_x=x[test], test_y=y[test], origin=where, class_names=names,
        train_task=None if task is None else task[~test], test_task=None if task is None else task[test],
        basis=None if table.blocks is None else int(basis.sum()),
    )  # fmt: skip
    if target is None:
        return arrays
    return Arrays(
        **{**vars(arrays), "train_target": target[~test], "test_target": target[test],
           "target_names": tuple(columns.targets)}
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ targets
def _classes(frame: Frame, column: str) -> tuple[Rows, tuple[str, ...]]:
    """Class numbers (N,) in ascending order of the values, and the values; no names where they are the numbers."""
    values = frame.data[column]
    _check_none_missing(frame, column, values, "a target")
    names = frame.class_names.get(column)
    if names:
        y = values.to_numpy(np.int64)
        if len(bad := np.flatnonzero((y < 0) | (y >= len(names)))):
            row = int(bad[0])
            raise UserError(f"{frame.where}: column '{column}' has no label in row {row + 1}; a target has one.")
        return y, names
    if values.dtype.kind == "f" or not _is_flat(values):
        _refuse_fraction(frame, column, values)
    y, kept = _ranked([_plain(value) for value in values.tolist()])
    if all(_is_fraction(text) or _WHOLE.match(text) for text in kept) and any(map(_is_fraction, kept)):
        _refuse_fraction(frame, column, values)
    return y, () if kept == tuple(map(str, range(len(kept)))) else kept


def _refuse_fraction(frame: Frame, column: str, values: pd.Series[Any]) -> None:
    row = next((i for i, v in enumerate(values.tolist()) if not _WHOLE.match(str(v))), 0)
    raise UserError(
        f"{frame.where}: column '{column}' holds {shown(_plain(values.iloc[row]))} in row {row + 1}. Allowed: text or "
        "whole numbers, which are classes; numbers are predicted with stream.columns.target_kind: number."
    )


def _is_flat(values: pd.Series[Any]) -> bool:
    return values.dtype.kind in "iub" or isinstance(values.iloc[0], (str, bool, np.bool_))


def _is_fraction(text: str) -> bool:
    try:
        return not _WHOLE.match(text) and float(text) is not None
    except ValueError:
        return False


def _plain(value: Any) -> str:
    return str(value.item() if hasattr(value, "item") else value)


def _ranked(texts: list[str]) -> tuple[Rows, tuple[str, ...]]:
    """Numbers of values in ascending order, of whole numbers by their size, and the values.

    >>> _ranked(["10", "9", "10"]), _ranked(["b", "a10", "a9"])
    ((array([1, 0, 1]), ('9', '10')), (array([2, 0, 1]), ('a10', 'a9', 'b')))
    """
    kept = sorted(set(texts))
    if all(_WHOLE.match(text) for text in kept):
        kept.sort(key=int)
    number = {text: i for i, text in enumerate(kept)}
    return np.array([number[text] for text in texts], np.int64), tuple(kept)


def _numbers(frame: Frame, column: str) -> NDArray[np.float64]:
    """A target of numbers (N,)."""
    values = frame.data[column]
    _check_none_missing(frame, column, values, "a target")
    try:
        kind, numbers = encoding.typed(frame.where, column, values)
    except UserError:
        kind, numbers = "category", None
    if kind != "number":
        row, text = next((i, str(v)) for i, v in enumerate(values.tolist()) if not _is_number(str(v)))
        raise UserError(
            f"{frame.where}: column '{column}' holds {shown(text)} in row {row + 1}. Allowed with target_kind number: "
            "numbers."
        )
    encoding.check_finite(frame.where, column, numbers, np.zeros(len(numbers), np.bool_))
    return np.asarray(numbers, np.float64)


def _is_number(text: str) -> bool:
    try:
        return float(text) is not None
    except ValueError:
        return False


def _check_none_missing(frame: Frame, column: str, values: pd.Series[Any], what: str) -> None:
    missing = np.flatnonzero(values.isna().to_numpy())
    if len(missing):
        row = int(missing[0])
        raise UserError(
            f"{frame.where}: column '{column}' has no value in row {row + 1} ({len(missing):,} in all); {what} has one "
            "in every row."
        )


# ------------------------------------------------------------------------------------------------ tasks and parts
def _divided(frame: Frame, table: Table, y: Rows, names: tuple[str, ...]) -> tuple[Rows | None, Mask]:
    """The task of each row, or None, and a mask of the test rows."""
    columns = table.columns
    if table.blocks is not None:
        return _in_time(frame, table)
    task = None
    if columns.task is not None:
        values = frame.data[columns.task]
        _check_none_missing(frame, columns.task, values, "a task")
        task = _ranked([_plain(value) for value in values.tolist()])[0]
    if columns.split is not None:
        return task, _by_column(frame, columns.split)
    if frame.part is not None:
        return task, np.array([part == "test" for part in frame.part])
    try:
        return task, fifths(y, task, frame.where, names)
    except UserError as error:
        kind = columns.target_kind
        more = " (stream.columns.target_kind: number predicts numbers.)" if kind == "class" and len(names) > 20 else ""
        raise UserError(f"{error}{more}") from None


def _by_column(frame: Frame, column: str) -> Mask:
    values = frame.data[column]
    for row, value in enumerate(values.tolist()):
        if value not in ("train", "test"):
            text = "nothing" if values.isna().iloc[row] else shown(str(value))
            guess = hint(str(value), ["train", "test"])
            raise UserError(
                f"{frame.where}: column '{column}' holds {text} in row {row + 1}.{guess} Allowed: train, test."
            )
    test = (values == "test").to_numpy(np.bool_)
    if test.all() or not test.any():
        raise UserError(f"{frame.where}: column '{column}' holds {'test' if test.all() else 'train'} in every row.")
    return test


def _in_time(frame: Frame, table: Table) -> tuple[Rows, Mask]:
    column = table.columns.time
    assert column is not None
    assert table.blocks is not None
    values = frame.data[column]
    _check_none_missing(frame, column, values, "a time")
    kind, time = encoding.typed(frame.where, column, values)
    if kind == "category":
        raise UserError(
            f"{frame.where}: column '{column}' holds {shown(str(values.iloc[0]))} in row 1. Allowed in a column of "
            "time: numbers, or times such as 2024-01-31 and 2024-01-31 12:30."
        )
    texts = [_plain(value) for value in values.tolist()]
    time_order.check_order(frame.where, column, time, texts)
    if isinstance(table.blocks, int):
        first = time_order.starts(frame.where, column, time, table.blocks)
    else:
        changes = [str(change) if isinstance(change, str) else f"{change:g}" for change in table.blocks]
        first = time_order.starts_at(frame.where, column, time, _changes(kind, table.blocks), changes)
    return time_order.divide(frame.where, column, time, first, texts)


def _changes(kind: str, changes: tuple[float | str, ...]) -> NDArray[Any]:
    """Change points as the time column has them."""
    import pandas as pd

    if kind == "number":
        if text := next((change for change in changes if isinstance(change, str)), None):
            raise UserError(f"stream.tasks.changes: got '{text}', and the column of time holds numbers.")
        return np.array(changes, np.float64)
    if any(not isinstance(change, str) for change in changes):
        raise UserError(f"stream.tasks.changes: got {changes[0]:g}, and the column of time holds times: '2024-01-31'.")
    encoded = encoding.typed("stream.tasks.changes", "changes", pd.Series(changes, dtype="str"))
    if encoded[0] != "time":
        raise UserError(f"stream.tasks.changes: got '{changes[0]}'. Allowed: times such as '2024-01-31 12:30'.")
    return np.asarray(encoded[1])


def _check_parts(
    frame: Frame, columns: Columns, y: Rows, names: tuple[str, ...], target: NDArray[Any] | None, task: Rows | None,
    test: Mask,
) -> None:  # fmt: skip
    """Checks that each task has each of its classes in both parts, and of numbers more than one value."""
    where = frame.where
    cells = np.zeros(len(y), np.int64) if task is None else task
    tasks = int(cells.max()) + 1
    # The whole table first: a class without training rows is no matter of one task.
    for scope in [None, *range(tasks)] if task is not None else [None]:
        inside = np.ones(len(y), np.bool_) if scope is None else cells == scope
        place = "" if scope is None else f" of task {scope}"
        for part, other, rows, others in (
            ("training", "test", inside & ~test, inside & test),
            ("test", "training", inside & test, inside & ~test),
        ):
            if not rows.any():
                raise UserError(f"{where}: no row{place} is a {part} row.")
            alone = np.setdiff1d(y[rows], y[others])
            if len(alone):
                c = int(alone[0])
                row = int(np.flatnonzero(rows & (y == c))[0]) + 1
                label = names[c] if names else str(c)
                remedy = "; give fewer blocks, or other changes" if columns.time is not None else ""
                raise UserError(
                    f"{where}: column '{columns.targets[0]}': class '{label}' has {part} rows{place}, the first of "
                    f"which is row {row}, but no {other} row{' there' if place else ''}{remedy}."
                )
        if target is not None:
            for d, column in enumerate(columns.targets):
                held = target[inside & ~test, d]
                if (held == held[0]).all():
                    raise UserError(
                        f"{where}: column '{column}' is {held[0]:g} in every training row{place}, so that one constant "
                        "answer is right."
                    )


# ------------------------------------------------------------------------------------------------ inputs
def _inputs(frame: Frame, columns: Columns, basis: Mask, size: int | None) -> NDArray[Any]:
    pictures = [column for column in frame.features if column in frame.images]
    if not pictures:
        return np.asarray(encoding.encode(frame.where, frame.data, frame.features, columns.categorical, basis))
    if len(frame.features) > 1:
        raise UserError(
            f"{frame.where}: column '{pictures[0]}' holds images, and there are other features. Allowed: images alone, "
            f"stream.columns.features: ['{pictures[0]}']."
        )
    return images.together(images.of_column(frame.where, pictures[0], frame.data[pictures[0]].tolist()), size)
