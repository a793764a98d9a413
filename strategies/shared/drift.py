"""Shared by methods that react to drift: detectors of a rise in a sequence of numbers."""

from __future__ import annotations

from typing import Any

from clbench.errors import UserError


class PageHinkley:
    """Page-Hinkley's test of a rise of the mean (Page 1954; Hinkley 1971), with the recursions of Gama et al. 2014.

        mean <- mean of all values so far
        sum  <- sum + value - mean - delta
        alarm if sum - min(sum) > threshold

    Args:
        delta: rise of a value that is tolerated.
        threshold: larger ones give later and fewer alarms.

    >>> test = PageHinkley(delta=0.1, threshold=1.0)
    >>> [test.add(value) for value in (0.0, 0.2, 0.0, 0.2, 1.0, 1.0)]
    [False, False, False, False, False, True]
    """

    def __init__(self, delta: float, threshold: float) -> None:
        self.delta, self.threshold = delta, threshold
        self._count, self._mean, self._sum, self._least = 0, 0.0, 0.0, 0.0

    def add(self, value: float) -> bool:
        """True if the values show a rise."""
        self._count += 1
        self._mean += (value - self._mean) / self._count
        self._sum += value - self._mean - self.delta
        self._least = min(self._least, self._sum)
        return self._sum - self._least > self.threshold


class Adwin:
    """ADWIN (Bifet and Gavaldà 2007) of river, of which a rise alone counts.

    Args:
        delta: significance, between 0 and 1; smaller ones give later and fewer alarms.

    Raises:
        UserError: river is not installed.
    """

    def __init__(self, delta: float) -> None:
        try:
            from river.drift import ADWIN
        except ImportError:
            raise UserError(
                "strategy.detector: 'adwin' needs the package river: pip install 'clbench[river]'"
            ) from None
        self._test: Any = ADWIN(delta=delta, clock=1, grace_period=5, min_window_length=3)

    def add(self, value: float) -> bool:
        """True if the values show a rise."""
        before = self._test.estimation
        self._test.update(value)
        return bool(self._test.drift_detected) and self._test.estimation > before
