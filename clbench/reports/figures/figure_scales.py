"""What the curves of a view are, and how they stand on an axis: accuracies in percent, or means of a measure."""

from __future__ import annotations

from dataclasses import dataclass

from clbench.formatting import decimals
from clbench.measures import measure_of


@dataclass(frozen=True)
class Scale:
    """The axis of a view's curves.

    Attributes:
        quantity: in words.
        unit: of the axis.
        difference: unit of differences.
        factor: of a recorded value on the axis.
        sign: 1 where higher is better, -1 where lower is.
    """

    quantity: str
    unit: str
    difference: str
    factor: float
    sign: int

    @property
    def label(self) -> str:
        """Of the axis."""
        return f"{self.quantity} ({self.unit})"

    @property
    def is_accuracy(self) -> bool:
        """True if it is in percent, from 0 to 100."""
        return self.sign > 0

    @property
    def measured(self) -> str:
        """The quantity of test samples, for captions."""
        return "test accuracy" if self.is_accuracy else f"mean {self.quantity}"

    def limits(self, low: float, high: float) -> tuple[float, float]:
        """Ends of the axis for curves between two values of the axis: of a measure from 0 on.

        >>> scale_of("class").limits(31.0, 90.0), scale_of("domain:squared_error").limits(1.0, 2.0)
        ((28.0, 102.0), (-0.04, 2.12))
        """
        if self.is_accuracy:
            return 10 * (low // 10) - 2, 102.0
        top = high if high > 0 else 1.0
        return -0.02 * top, 1.06 * top

    def text(self, value: float) -> str:
        """A difference on the axis as a number.

        >>> scale_of("class").text(41.26), scale_of("domain:squared_error").text(0.0412345)
        ('41.3', '0.0412')
        """
        return f"{value:.1f}" if self.is_accuracy else f"{value:.{max(0, decimals(value, self.unit) - 1)}f}"


def scale_of(view: str) -> Scale:
    """The scale of a view.

    >>> scale_of("class").label, scale_of("class:log_loss").label
    ('accuracy (%)', 'log loss (nats)')
    """
    measure = measure_of(view)
    if measure is None:
        return Scale("accuracy", "%", "points", 100.0, 1)
    return Scale(measure.title, measure.unit, measure.unit, 1.0, -1)
