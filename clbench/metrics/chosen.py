"""Metrics by name, by import path, as definitions, or as plain functions of a trace."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from clbench import import_paths
from clbench.errors import UserError, shown
from clbench.metrics import Metric, Value
from clbench.metrics.field_names import asked, defined, view_of
from clbench.trace import Trace

Choice = str | Metric | Callable[[Trace, str], float | Value]
"""A name (of the field too), `package.module:NAME`, a `Metric`, or a function of a trace and a view: a number."""

Choices = Iterable[Choice] | Choice
"""Several, or one."""


def chosen(choices: Choices, source: str = "metrics", view: str | None = None) -> list[Metric]:
    """The definitions of some metrics, in their order, each name once.

    A function has no better direction and no unit: its definition says `unstated` and `number`.

    Args:
        choices: the metrics.
        source: of them, for messages.
        view: whose definitions names have; default: those of counts, and of the squared error where counts have none.

    Raises:
        UserError: an unknown name, one that the view has not, a path that does not import, or something else than a
            metric.

    >>> def updates(trace, view):
    ...     "Number of updates."
    ...     return len(trace.loss)
    >>> [(metric.name, metric.title) for metric in chosen(["min_acc", updates])]
    [('min_acc', 'min-ACC, average minimum accuracy of earlier tasks'), ('updates', 'Number of updates.')]
    """
    several = [choices] if isinstance(choices, (str, Metric)) or callable(choices) else choices
    return list({metric.name: metric for metric in (_one(choice, source, view) for choice in several)}.values())


def _one(choice: Choice, source: str, view: str | None) -> Metric:
    if isinstance(choice, str):
        if import_paths.is_import_path(choice):
            return _of(_imported(choice, source), choice, source)
        name = asked(choice, source, "or an import path like package.module:NAME").metric
        return defined(name, view or view_of(name), source)
    return _of(choice, shown(choice), source)


def _imported(path: str, source: str) -> Any:
    try:
        import_paths.check(path)
    except UserError as error:
        raise UserError(*(f"{source}: {problem}" for problem in error.problems)) from None
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # a user's module may do anything when it is imported
        raise UserError(f"{source}: '{path}' does not import: {type(error).__name__}: {error}.") from error


def _of(value: Any, text: str, source: str) -> Metric:
    if isinstance(value, Metric):
        return value
    name = getattr(value, "__name__", "")
    if not callable(value) or isinstance(value, type) or not name:
        allowed = "a metric's name, an import path, a Metric, or a function of a trace and a view"
        raise UserError(f"{source}: got {text}. Allowed: {allowed}.")
    return Metric(
        name=name,
        title=(value.__doc__ or "").strip().partition("\n")[0],
        formula="",
        source="",
        better="unstated",
        range=(-math.inf, math.inf),
        unit="number",
        per="task",
        compute=lambda trace, view: _value(name, value, trace, view),
    )


def _value(name: str, function: Callable[[Trace, str], Any], trace: Trace, view: str) -> Value:
    result = function(trace, view)
    if isinstance(result, Value):
        return result
    try:
        return Value(float(result), np.full(trace.visits.shape[1], math.nan))
    except (TypeError, ValueError):
        raise UserError(
            f"metric '{name}': returned {shown(result)}. Allowed: a number, or a clbench.metrics.Value."
        ) from None
