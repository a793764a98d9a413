"""Measures: what is summed over the test samples of a cell, with a direction and a unit.

Correct predictions are the measure of classes and the one that needs no name: the record of a view, such as `class`,
counts them. Others are numbers of each sample, and their record is named by view and measure, `domain:squared_error`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Name = Literal["squared_error", "absolute_error", "log_loss"]


@dataclass(frozen=True)
class Measure:
    """A number of each test sample.

    Attributes:
        name: in configurations and records.
        title: in words.
        formula: of a sample: t its D targets, s its outputs, p the predicted probability of its class.
        unit: of the number.
        of: the targets that it needs.
        better: direction.
    """

    name: Name
    title: str
    formula: str
    unit: str
    of: Literal["numbers", "classes"]
    better: Literal["lower"] = "lower"


MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure("squared_error", "squared error", "1/D sum_d (s_d - t_d)^2", "squared units", "numbers"),
        Measure("absolute_error", "absolute error", "1/D sum_d |s_d - t_d|", "units", "numbers"),
        Measure("log_loss", "log loss", "-log p, p the softmax over the active logits", "nats", "classes"),
    )
}

DEFAULT: tuple[Name, ...] = ("squared_error", "absolute_error")
"""Measures of a regression that are recorded where none is named; the first is the primary one."""


def recorded(chosen: Sequence[Name] | None, numbers: bool) -> tuple[Name, ...]:
    """The measures that a run records beside counts, or in their place.

    Args:
        chosen: by its configuration; None for the default.
        numbers: whether numbers are to be predicted.

    >>> recorded(None, True), recorded(["log_loss"], False), recorded(None, False)
    (('squared_error', 'absolute_error'), ('log_loss',), ())
    """
    return tuple(chosen or (DEFAULT if numbers else ()))


def primary_view(setting: str, chosen: Sequence[Name] | None, numbers: bool) -> str:
    """The name of a run's primary record: the setting's view, of numbers with the first measure; see `recorded`.

    >>> primary_view("class", ["log_loss"], False), primary_view("domain", None, True)
    ('class', 'domain:squared_error')
    """
    return named(setting, recorded(chosen, True)[0]) if numbers else setting


def named(view: str, measure: str) -> str:
    """The record's name of a measure in a view, with the name of averaged weights where it is of those.

    >>> named("class.ema_0.99", "log_loss")
    'class.ema_0.99:log_loss'
    """
    return f"{view}:{measure}"


def measure_of(view: str) -> Measure | None:
    """The measure of a record's name; None where it counts correct predictions.

    >>> measure_of("domain:squared_error").unit, measure_of("class.ema_0.99")
    ('squared units', None)
    """
    name = view.partition(":")[2]
    return MEASURES[name] if name else None
