"""The files of runs: where they lie, what is in them, and how they are read again."""

from clbench.results.files import find_runs, read_run
from clbench.results.trace_files import read_trace

__all__ = ["find_runs", "read_run", "read_trace"]
