"""Metrics of finished runs recomputed from their traces, and the differences from run.json.

An old run gets metrics that did not exist when it ran, and shows where a definition changed since.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from clbench.errors import UserError
from clbench.metrics import compute
from clbench.results import files, load
from clbench.summation import ROUNDING

Metrics = dict[str, dict[str, dict[str, Any]]]


def rescore(directory: Path, *, write: bool = False) -> list[str]:
    """Compares a run's recomputed metrics with its run.json.

    Args:
        directory: the run's folder.
        write: whether to write the new metrics to run.json; everything else in it stays.

    Returns:
        Lines to print: one on the run, then one for each metric that differs.

    Raises:
        UserError: run.json or trace.npz is missing, damaged, of another version, or cannot be written.
    """
    raw = files.read_run(directory)
    reason = load.unfinished(raw)
    if reason is not None:
        return [f"{directory}: {reason}, skipped"]
    run = load.read(directory, raw)
    new: Metrics = json.loads(json.dumps(compute(run.trace)))
    path = directory / "run.json"
    old = _checked(path, run.record.metrics or {})
    lines, rounded = differences(old, new), _rounded(old, new)
    if not lines and not rounded:
        return [f"{directory}: nothing changed"]
    if write:
        whole = json.loads(path.read_text(encoding="utf-8"))
        try:
            files.write_json(path, whole | {"metrics": new})
        except ValueError as error:
            raise UserError(f"{path}: cannot be written again ({error}).") from None
    summary = [f"{len(lines)} difference{'s' * (len(lines) != 1)}"] if lines else []
    summary += [f"last digits of {rounded} metric{'s' * (rounded != 1)}"] if rounded else []
    summary += ["written"] if write else []
    return [f"{directory}: {', '.join(summary)}", *(f"  {line}" for line in lines)]


def _rounded(old: Metrics, new: Metrics) -> int:
    """Number of metrics that differ by rounding alone.

    >>> _rounded({"class": {"a": {"value": 0.1 + 0.2}, "b": {"value": 0.5}}}, {"class": {"a": {"value": 0.3}}})
    1
    """
    pairs = [
        (values[name], new[view][name]) for view, values in old.items() for name in values if name in new.get(view, {})
    ]
    return sum(one != other and not _difference(one, other) for one, other in pairs)


def differences(old: Metrics, new: Metrics) -> list[str]:
    """One line for each metric that is new, gone, or has another value, parts or sampling error.

    Args:
        old, new: view, then metric, then `value` and its companions.

    >>> one = {"class": {"a": {"value": 0.5, "per_task": [0.5]}, "b": {"value": None}}}
    >>> two = {"class": {"a": {"value": 0.25, "per_task": [0.25]}, "c": {"value": 1.0}}}
    >>> differences(one, two)
    ['class a: changed from 0.5 to 0.25', 'class b: gone, was undefined', 'class c: new, 1.0']
    >>> differences(one, one)
    []
    """
    lines = []
    for view in dict.fromkeys([*old, *new]):
        before, after = old.get(view, {}), new.get(view, {})
        for name in dict.fromkeys([*before, *after]):
            if name not in after:
                lines.append(f"{view} {name}: gone, was {_formatted(before[name].get('value'))}")
            elif name not in before:
                lines.append(f"{view} {name}: new, {_formatted(after[name]['value'])}")
            else:
                line = _difference(before[name], after[name])
                lines += [f"{view} {name}: {line}"] if line else []
    return lines


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Difference between two values of one metric, or an empty text."""
    if not same(old.get("value"), new["value"]):
        return f"changed from {_formatted(old.get('value'))} to {_formatted(new['value'])}"
    parts = []
    for key in dict.fromkeys([*old, *new]):
        if key not in new:
            parts.append(f"{key} gone")
        elif key not in old:
            parts.append(f"{key} new")
        elif not same(old[key], new[key]):
            parts.append(f"{key} changed")
    return f"same value, {', '.join(parts)}" if parts else ""


def same(one: Any, other: Any) -> bool:
    """True if two JSON values are equal, numbers up to `ROUNDING`.

    >>> same(0.1 + 0.2, 0.3), same([0.5, None], [0.5, None]), same(0.5, 0.5001), same(None, 0)
    (True, True, False, False)
    """
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=ROUNDING, abs_tol=ROUNDING)
    return bool(one == other)


def _formatted(value: Any) -> str:
    return "undefined" if value is None else repr(value)


def _checked(path: Path, metrics: dict[str, Any]) -> Metrics:
    """The metrics of a run.json, if they are valid."""
    for values in metrics.values():
        if not isinstance(values, dict) or not all(isinstance(entry, dict) for entry in values.values()):
            raise UserError(f"{path}: damaged; 'metrics' does not hold views of metrics.")
    checked: Metrics = metrics
    return checked
