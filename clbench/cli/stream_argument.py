"""Streams named on the command line: an id or a YAML file, its data set, and the stream compiled."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from clbench import registry
from clbench.config import benchmark as config
from clbench.errors import UserError
from clbench.streams import definition


def is_stream(name: str) -> bool:
    """Whether a name is a shipped benchmark or a YAML file."""
    return registry.benchmark_path(name) is not None or name.endswith((".yaml", ".yml"))


def outline(said: definition.StreamConfig) -> Any:
    """The data set without its inputs. What a download or code of the user's own prints goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        return registry.datasets().outline(said.data, said.synthetic, said.size)


def load(said: definition.StreamConfig) -> Any:
    """The whole data set; prints as `outline` does."""
    with contextlib.redirect_stdout(sys.stderr):
        return registry.datasets().load(said.data, said.synthetic, said.size)


def compiled(name: str, benchmark: config.Benchmark, seeds: config.Seeds, seed: int | None, data: Any) -> Any:
    """The stream that a run of this seed has, by an outline of its data set."""
    from clbench.streams.compile import compile_stream

    try:
        return compile_stream(benchmark.stream, seeds.for_stream(seed or 0), data)
    except UserError as error:
        raise UserError(*(f"{name}: {problem}" for problem in error.problems)) from None
