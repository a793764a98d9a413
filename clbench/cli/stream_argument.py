"""Streams on the command line: an id or a YAML file, its data set, and the compiled stream."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from clbench import registry
from clbench.config.benchmark import Benchmark, Seeds
from clbench.errors import UserError
from clbench.streams.definition import StreamConfig


def named(name: str) -> str:
    """The id of the shipped benchmark that a name stands for, else the name; another spelling is told on stderr.

    A file of that name comes first.
    """
    known = registry.benchmark_id(name)
    if known is None or known == name or Path(name).is_file():
        return name
    print(f"{name}: the benchmark {known}", file=sys.stderr)
    return known


def is_stream(name: str) -> bool:
    """True for a shipped benchmark or a YAML file."""
    return registry.benchmark_path(name) is not None or name.endswith((".yaml", ".yml"))


def outline(config: StreamConfig) -> Any:
    """The data set without its inputs. Output of downloads and of user-defined code goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        return registry.datasets().outline(config.data, size=config.size, **config.reading)


def load(config: StreamConfig) -> Any:
    """The whole data set; prints as `outline` does."""
    with contextlib.redirect_stdout(sys.stderr):
        return registry.datasets().load(config.data, size=config.size, **config.reading)


def compiled(name: str, benchmark: Benchmark, seeds: Seeds, seed: int | None, data: Any) -> Any:
    """The stream of a run with this seed, from an outline of its data set."""
    from clbench.streams.compile import compile_stream

    try:
        return compile_stream(benchmark.stream, seeds.for_stream(seed or 0), data)
    except UserError as error:
        raise UserError(*(f"{name}: {problem}" for problem in error.problems)) from None
