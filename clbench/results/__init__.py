"""Files of runs: their paths, their contents, and their readers."""

from clbench.results.files import find_runs, read_run
from clbench.results.trace_files import read_trace

__all__ = ["find_runs", "read_run", "read_trace"]
