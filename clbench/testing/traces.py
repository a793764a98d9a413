"""Traces from given accuracies, errors or losses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from clbench.prequential import Prequential
from clbench.trace import Phase, Trace


def make_trace(
    accuracy: NDArray[np.float64],
    visits: NDArray[np.bool_] | None = None,
    *,
    size: int = 1000,
    every: int = 1,
    origin: NDArray[np.int32] | None = None,
    view: str = "class",
    predicted: NDArray[np.int64] | None = None,
    prequential: NDArray[np.bool_] | None = None,
) -> Trace:
    """A trace with given accuracies, to try a metric on: tasks of one cell, experiences of equal length.

    Args:
        accuracy: (V, P, T) in [0, 1]: in each experience one evaluation before the first update, P - 2 after an
            update each, `every` iterations apart, and one at the end. NaN is not evaluated.
        visits: (V, T); default: task v in experience v.
        size: test samples of a task; accuracies are rounded to it.
        every: iterations between evaluations.
        origin: (V,); default: every experience its own.
        view: name of the view.
        predicted: output predicted for each sample at the end of each experience, (V, T * size), -1 without one, where
            task t has the output t; default: not recorded.
        prequential: (V, n): whether each incoming sample of an experience was predicted correctly before it was learnt;
            the updates of an experience share them as equally as they can. Default: not recorded.

    The bits have the first `count` samples of a task right.
    """
    experiences, per, tasks = accuracy.shape
    flat = accuracy.reshape(-1, tasks)
    counts = np.where(np.isnan(flat), -1, np.rint(np.nan_to_num(flat) * size)).astype(np.int32)
    last = (per - 2) * every
    within = np.array([*range(0, last + 1, every), last])
    right = np.arange(size) < np.maximum(counts, 0)[:, :, None]
    return Trace(
        correct={view: counts},
        cell_domain=np.zeros(tasks, np.int32),
        cell_class=np.arange(tasks, dtype=np.int32),
        cell_size=np.full(tasks, size, np.int32),
        cell_population=np.full(tasks, size, np.int32),
        task_cells=np.eye(tasks, dtype=bool),
        visits=np.eye(experiences, tasks, dtype=bool) if visits is None else visits,
        origin=np.arange(experiences, dtype=np.int32) if origin is None else origin,
        iteration=np.concatenate([within + v * last for v in range(experiences)]).astype(np.int64),
        experience=np.repeat(np.arange(experiences), per).astype(np.int32),
        phase=np.tile([Phase.BEFORE, *[Phase.ITERATION] * (per - 2), Phase.END], experiences).astype(np.int8),
        loss=np.zeros(experiences * last, np.float32),
        every=every,
        dense=0,
        rows=np.arange(tasks * size, dtype=np.int64),
        bits={view: np.packbits(right.reshape(len(flat), -1), axis=1)},
        predicted={} if predicted is None else {view: np.where(predicted < 0, 255, predicted).astype(np.uint8)},
        cell_target=np.arange(0 if predicted is None else tasks, dtype=np.int64),
        prequential=None if prequential is None else _incoming(view, prequential, last),
    )


def make_measured_trace(
    level: NDArray[np.float64],
    visits: NDArray[np.bool_] | None = None,
    *,
    size: int = 4,
    every: int = 1,
    origin: NDArray[np.int32] | None = None,
    view: str = "domain:squared_error",
) -> Trace:
    """A trace with given means of a measure, to try a metric of errors or losses on, as `make_trace` of accuracies.

    Args:
        level: (V, P, T): the mean of the measure over the test samples of a task, each of which has this number. NaN
            is not evaluated.
        visits, size, every, origin: see `make_trace`.
        view: name of the record, by view and measure.

    >>> trace = make_measured_trace(np.array([[[2.0], [0.5], [0.5]]]))
    >>> trace.views, trace.task_mean("domain:squared_error")[:, 0].tolist()
    (['domain:squared_error'], [2.0, 0.5, 0.5])
    """
    shape = make_trace(np.zeros_like(level), visits, size=size, every=every, origin=origin)
    flat = level.reshape(-1, level.shape[2]).astype(np.float64)
    values = flat.repeat(size, axis=1).astype(np.float32)
    return replace(shape, correct={}, bits={}, sums={view: flat * size}, values={view: values})


def _incoming(view: str, right: NDArray[np.bool_], updates: int) -> Prequential:
    """A prequential record of experiences of so many updates."""
    n = right.shape[1]
    incoming = np.tile(np.diff(np.arange(updates + 1) * n // updates), len(right)).astype(np.int32)
    return Prequential({view: right.reshape(-1)}, incoming, np.zeros_like(incoming), np.zeros_like(incoming))
