"""clbench: continual-learning benchmarks, evaluated at every iteration.

    import clbench

    run = clbench.run("split_digits-v1", "er", seed=0)
    run.metrics["min_acc"]
    clbench.plot(run)
    clbench.leaderboard("results")

The names below are imported at their first use; `import clbench` alone is light.
"""

import importlib
from typing import TYPE_CHECKING, Any

from clbench import moved

if TYPE_CHECKING:
    from clbench.api.benchmarks import Benchmark, available, load_benchmark
    from clbench.api.execution import run, run_study
    from clbench.api.figures import plot
    from clbench.api.reports import report
    from clbench.api.runs import Run, Runs, read_run, read_runs
    from clbench.api.tables import compare, leaderboard, score
    from clbench.errors import UserError

__version__ = "0.2.0"

__all__ = [
    "Benchmark",
    "Run",
    "Runs",
    "UserError",
    "available",
    "compare",
    "leaderboard",
    "load_benchmark",
    "plot",
    "read_run",
    "read_runs",
    "report",
    "run",
    "run_study",
    "score",
]

_MODULES = {
    "api.benchmarks": ("Benchmark", "available", "load_benchmark"),
    "api.execution": ("run", "run_study"),
    "api.figures": ("plot",),
    "api.reports": ("report",),
    "api.runs": ("Run", "Runs", "read_run", "read_runs"),
    "api.tables": ("compare", "leaderboard", "score"),
    "errors": ("UserError",),
}

moved.install()


def __getattr__(name: str) -> Any:
    module = next((module for module, names in _MODULES.items() if name in names), None)
    if module is None:
        raise AttributeError(f"module 'clbench' has no attribute '{name}'")
    value = globals()[name] = getattr(importlib.import_module(f"clbench.{module}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - {"Any", "TYPE_CHECKING", "importlib"})
