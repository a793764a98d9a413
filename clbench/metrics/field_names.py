"""Names that papers use for metrics, and the definition that each stands for here.

Several of them have more than one definition in the field. A name then stands for the first one of its family that is
listed here, and whoever prints a value under the name says which one it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from clbench.errors import UserError, unknown
from clbench.metrics import METRICS


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


@dataclass(frozen=True)
class Asked:
    """A metric that a user asked for.

    Attributes:
        metric: its name in `METRICS`.
        heading: the name to print: that of the field where the user gave it, else the metric's.
        others: further definitions in use under the heading.
    """

    metric: str
    heading: str
    others: tuple[str, ...] = ()

    @property
    def note(self) -> str | None:
        """Which definition a name of the field stands for; None where the heading is the metric's name."""
        if self.heading == self.metric:
            return None
        metric = METRICS[self.metric]
        also = f"; also called so: {', '.join(self.others)}" if self.others else ""
        return f"{self.heading}: {self.metric}, {metric.formula} ({metric.source}){also}"


def asked(text: str, flag: str, more: str = "") -> Asked:
    """The metric that a text names.

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
    if text in METRICS:
        return Asked(text, text)
    for field in FIELD_NAMES:
        if _bare(field.name) == _bare(text):
            return Asked(field.metric, field.name, field.others)
    same = [name for name in METRICS if name.casefold() == text.casefold()]
    if same:
        return Asked(same[0], same[0])
    raise UserError(f"{flag}: {unknown('metric', text, {*METRICS, *(field.name for field in FIELD_NAMES)}, more)}")


def _bare(name: str) -> str:
    return re.sub(r"[-_ ^]", "", name.casefold())
