"""Suppression of Avalanche's output: no warnings, and a silent evaluator."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import avalanche
from avalanche.logging import BaseLogger
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.templates.base import PositionalArgumentsDeprecatedWarning


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Drops Avalanche's warnings about its own code, and redirects its output to stderr.

    Each of its deprecated functions puts a filter in front of all others, so that no filter reaches its warnings;
    they are recognised where they are shown. The filters are as before afterwards.
    """
    home = os.path.dirname(avalanche.__file__)
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        show = warnings.showwarning

        def selected(message: Warning | str, category: type[Warning], filename: str, *rest: Any, **named: Any) -> None:
            deprecated = issubclass(category, (DeprecationWarning, PositionalArgumentsDeprecatedWarning))
            of_avalanche = filename.startswith(home) or re.match(r"Call to deprecated (function|class) ", str(message))
            if not (deprecated and of_avalanche) and not str(message).startswith("No loggers specified"):
                show(message, category, filename, *rest, **named)

        warnings.showwarning = selected
        yield


class SilentEvaluator(EvaluationPlugin):  # type: ignore[misc]
    """Avalanche's evaluator without output, not even the warning of missing loggers.

    Avalanche's handles every event of an iteration, and swaps the strategy's experience for it. This one does so only
    once it has a metric or a logger.
    """

    def __init__(self) -> None:
        super().__init__(loggers=[_NOBODY])

    def __getattribute__(self, name: str) -> Any:
        if name.startswith(("before_", "after_")):
            attributes = object.__getattribute__(self, "__dict__")
            if not attributes["metrics"] and attributes["loggers"] == [_NOBODY]:
                raise AttributeError(name)
        return super().__getattribute__(name)


_NOBODY = BaseLogger()
