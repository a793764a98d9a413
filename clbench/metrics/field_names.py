"""Names that papers use for metrics, and the definition that each stands for here.

Several of them have more than one definition in the field. A name then stands for the first one of its family that is
listed here, and whoever prints a value under the name says which one it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from clbench.errors import UserError, nearest, unknown
from clbench.measures import MEASURES, measure_of
from clbench.metrics import METRICS, Metric, measured, metrics_of


@dataclass(frozen=True)
class FieldName:
    """A name in papers.

    Attributes:
        name: as papers print it.
        metric: the definition that it stands for.
        others: further definitions in use under the same name.
    """

    name: str
    metric: str
    others: tuple[str, ...] = ()


FIELD_NAMES = (
    FieldName("ACC", "average_accuracy"),
    FieldName("AIA", "average_incremental_accuracy", ("sessions.average",)),
    FieldName("AAA", "anytime_accuracy"),
    FieldName("min-ACC", "min_acc"),
    FieldName("WC-ACC", "wc_acc"),
    FieldName("forgetting", "forgetting.after_learning", ("forgetting.chaudhry", "forgetting.max_including_last")),
    FieldName("FORG", "forgetting.after_learning"),
    FieldName("FM", "forgetting.chaudhry", ("forgetting.max_including_last",)),
    FieldName("BWT", "backward_transfer.gem", ("backward_transfer.all_pairs",)),
    FieldName("FWT", "forward_transfer.gem", ("forward_transfer.all_pairs",)),
    FieldName("LCA", "lca_10.a_gem", ("lca_10.de_lange",)),
    FieldName("WF10", "wf_10"),
    FieldName("WF100", "wf_100"),
    FieldName("WP10", "wp_10"),
    FieldName("WP100", "wp_100"),
    FieldName("PD", "sessions.performance_drop"),
)
"""The explicit table; capitals, hyphens, underscores, blanks and ^ do not count when a name is looked up."""


NUMBERS: dict[str, Metric] = {
    name: metric for measure in reversed(MEASURES) for name, metric in measured.metrics_of(measure).items()
}
"""Metrics of measures that are numbers, by name, as those of the first measure."""

COUNTERPARTS = {
    "average_accuracy": "average",
    "average_incremental_accuracy": "average_incremental",
    "anytime_accuracy": "anytime",
    "min_acc": "worst",
    "wc_acc": "worst_case",
}
"""Metrics of counts and of numbers that are one definition under two names."""


@dataclass(frozen=True)
class Asked:
    """A metric that a user asked for.

    Attributes:
        metric: its name, in `METRICS` or `NUMBERS`.
        heading: the name to print: that of the field where the user gave it, else the metric's.
        others: further definitions in use under the heading.
    """

    metric: str
    heading: str
    others: tuple[str, ...] = ()

    @property
    def note(self) -> str | None:
        """`note_in` of counts, or of the measure that has the metric."""
        return self.note_in(view_of(self.metric))

    def note_in(self, view: str) -> str | None:
        """Which definition a name of the field stands for in a view; None where the heading is the metric's name."""
        if self.heading == self.metric:
            return None
        metric = metrics_of(view)[self.metric]
        also = f"; also called so: {', '.join(self.others)}" if self.others else ""
        return f"{self.heading}: {self.metric}, {metric.formula} ({metric.source}){also}"


def asked(text: str, flag: str, more: str = "") -> Asked:
    """The metric that a text names, of counts or of numbers; see `defined`.

    Args:
        text: a metric's name, or a name of the field, in capitals or not.
        flag: where it was given, for the message.
        more: what else is allowed there, for the message.

    Raises:
        UserError: it names none.

    >>> asked("bwt", "--metric").metric, asked("Min-Acc", "--metric").heading, asked("ACC", "--metric").others
    ('backward_transfer.gem', 'min-ACC', ())
    >>> asked("min_acc", "--metric").heading  # the name of a metric itself
    'min_acc'
    """
    if text in METRICS or text in NUMBERS:
        return Asked(text, text)
    for field in FIELD_NAMES:
        if _bare(field.name) == _bare(text):
            return Asked(field.metric, field.name, field.others)
    same = [name for name in (*METRICS, *NUMBERS) if name.casefold() == text.casefold()]
    if same:
        return Asked(same[0], same[0])
    known = {*METRICS, *NUMBERS, *(field.name for field in FIELD_NAMES)}
    raise UserError(f"{flag}: {unknown('metric', text, known, more)}")


def view_of(metric: str) -> str:
    """A view in which a name is defined: `class` of a metric of counts, else that of a measure.

    >>> view_of("min_acc"), view_of("worst")
    ('class', 'domain:squared_error')
    """
    return "class" if metric in METRICS else "domain:squared_error"


def defined(metric: str, view: str, flag: str) -> Metric:
    """The definition of a metric in a view.

    Args:
        metric: a name in `METRICS` or `NUMBERS`.
        view: of runs.
        flag: where the name was given, for the message.

    Raises:
        UserError: the view counts and the metric is of numbers, or the other way about; the sentence names the
            counterpart.

    >>> defined("average", "domain:absolute_error", "--metric").unit
    'units'
    """
    known = metrics_of(view)
    if metric in known:
        return known[metric]
    raise UserError(f"{flag}: {refusal(metric, view)}.")


def having(metric: str, views: Sequence[str], flag: str) -> list[str]:
    """The views that have a metric, of runs of several.

    Raises:
        UserError: none of them; see `defined`.
    """
    out = [view for view in views if metric in metrics_of(view)]
    if views and not out:
        defined(metric, views[0], flag)
    return out


def refusal(metric: str, view: str) -> str:
    """Words on a metric that a view has not.

    >>> refusal("min_acc", "domain:squared_error")
    "'min_acc' is a metric of counts, asked of a regression run (view domain:squared_error), where it is 'worst'"
    >>> refusal("worst", "class")
    "'worst' is a metric of errors and losses, asked of correct predictions (view class), where it is 'min_acc'"
    """
    measure = measure_of(view)
    kind = "counts" if metric in METRICS else "errors and losses"
    names = COUNTERPARTS if metric in METRICS else {number: count for count, number in COUNTERPARTS.items()}
    if measure is None:
        of = "correct predictions"
    else:
        of = "a regression run" if measure.of == "numbers" else f"the {measure.title} of a run"
    other = f", where it is '{names[metric]}'" if metric in names else ""
    guess = None if other else nearest(metric, metrics_of(view))
    near = f"; the nearest there is '{guess}'" if guess else ""
    return f"'{metric}' is a metric of {kind}, asked of {of} (view {view}){other}{near}"


def _bare(name: str) -> str:
    return re.sub(r"[-_ ^]", "", name.casefold())
