"""Contract checks for authors of strategies and streams; traces for tests of metrics, and folders of runs around them.

Names are imported lazily: most need torch, and `make_trace` and `make_measured_trace` do not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from clbench import moved

if TYPE_CHECKING:
    from clbench.testing.resume import check_resume
    from clbench.testing.runs import write_run
    from clbench.testing.states import assert_same
    from clbench.testing.strategies import check_strategy, needed_overrides
    from clbench.testing.streams import check_stream
    from clbench.testing.traces import make_measured_trace, make_trace

__all__ = [
    "assert_same",
    "check_resume",
    "check_strategy",
    "check_stream",
    "make_measured_trace",
    "make_trace",
    "needed_overrides",
    "write_run",
]

_HOME = {
    "assert_same": "states",
    "check_resume": "resume",
    "check_strategy": "strategies",
    "check_stream": "streams",
    "make_measured_trace": "traces",
    "make_trace": "traces",
    "needed_overrides": "strategies",
    "write_run": "runs",
}


def __getattr__(name: str) -> Any:
    if f"{__name__}:{name}" in moved.MOVED:
        value = globals()[name] = moved.resolve(f"{__name__}:{name}")
        return value
    if name not in _HOME:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
