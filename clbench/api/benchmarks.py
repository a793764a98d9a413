"""Benchmarks in Python, and the names of all that is shipped."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clbench import resolve
from clbench.api import display
from clbench.config.benchmark import Benchmark as Definition
from clbench.config.benchmark import Seeds, StrategyConfig
from clbench.errors import UserError, shown, unknown
from clbench.reports.tabular import aligned, plain

if TYPE_CHECKING:
    from clbench.api.plots import Plot
    from clbench.stream import Stream


class Names(dict[str, str]):
    """Names, each with a line about it; it prints as a table."""

    def __repr__(self) -> str:
        return "\n".join(aligned([(plain(name), plain(line)) for name, line in self.items()]))

    def _repr_html_(self) -> str:
        return display.table(["name", ""], list(self.items()), words=2)


def available(kind: str) -> Names:
    """The names of a kind, as `clbench list` prints them.

    Args:
        kind: "benchmarks" (also "streams"), "strategies", "datasets", "models" or "metrics".

    Returns:
        a dictionary: each name with a line about it.

    Raises:
        UserError: another kind.

    >>> import clbench
    >>> clbench.available("strategies")["naive"]
    'Naive fine-tuning: trains on the experiences sequentially, with no measure against forgetting.'
    >>> "split_mnist-v1" in clbench.available("benchmarks")
    True
    """
    from clbench.cli.catalogue import KINDS, catalogue

    kinds = ("benchmarks", *KINDS)
    if kind not in kinds:
        raise UserError(f"available(): {unknown('kind', str(kind), kinds)}")
    return Names(catalogue("streams" if kind == "benchmarks" else kind))


class Benchmark:
    """A checked benchmark: stream, network, training budget and protocol. `load_benchmark` makes it.

    Attributes:
        definition: its checked configuration, every default written out (`clbench.config.benchmark.Benchmark`).
        strategy: the strategy that its file names, as a mapping; None where it names none.
        contents: the merged mappings of its file, the bases of that, and the changes.
    """

    def __init__(self, contents: dict[str, Any], definition: Definition, strategy: StrategyConfig | None, seeds: Seeds):
        self.contents = contents
        self.definition = definition
        self.strategy = None if strategy is None else strategy.model_dump(mode="json")
        self._seeds = seeds

    @property
    def id(self) -> str:
        """Its versioned name, such as split_mnist-v1."""
        return self.definition.id

    @property
    def title(self) -> str:
        """One line about it; empty where it has none."""
        return self.definition.title

    def to_yaml(self) -> str:
        """The whole configuration as YAML, every default written out; a file of it is the same benchmark."""
        import yaml

        resolved = self.definition.model_dump(mode="json")
        if self.strategy is not None:
            resolved["strategy"] = self.strategy
        if self._seeds != Seeds():
            resolved["seeds"] = self._seeds.model_dump(exclude_none=True)
        return yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True, width=100)

    def compile(self, seed: int = 0) -> Stream:
        """The stream of a run with this seed: tasks, experiences, and the rows of their samples.

        Raises:
            UserError: the data are not available.
        """
        from clbench.streams.compile import compile_stream

        return compile_stream(self.definition.stream, self._seeds.for_stream(seed))

    def plot(self, seed: int = 0) -> Plot:
        """The figure of the stream: samples of each class or task in each experience."""
        from clbench.api.plots import Plot
        from clbench.reports.figures import stream_figure

        return Plot(stream_figure.figure(self.id, self.compile(seed)))

    def _rows(self) -> list[tuple[str, str]]:
        stream, training = self.definition.stream, self.definition.training
        every = self.definition.evaluation.every
        budget = f"{training.epochs} epochs" if training.iterations is None else f"{training.iterations} iterations"
        rows = [
            (
                "stream",
                f"{stream.data_name}, tasks by {stream.tasks.by}, {stream.schedule.by}, setting {stream.setting}",
            ),
            ("model", self.definition.model.name),
            ("training", f"{budget}, batches of {training.batch_size}, {training.optimizer.name}"),
            (
                "evaluation",
                {0: "at the ends of experiences", 1: "every iteration"}.get(every, f"every {every} iterations"),
            ),
        ]
        return rows if self.strategy is None else [*rows, ("strategy", str(self.strategy["name"]))]

    def __repr__(self) -> str:
        title = f": {plain(self.title)}" if self.title else ""
        return "\n".join([f"Benchmark {self.id}{title}", *(f"  {key}: {plain(value)}" for key, value in self._rows())])

    def _repr_html_(self) -> str:
        head = f"{self.id}: {self.title}" if self.title else self.id
        return display.table([], self._rows(), title=head, words=2) + display.folded("YAML", self.to_yaml())


Reference = str | os.PathLike[str] | Mapping[str, Any] | Benchmark
"""A benchmark: a shipped id, a path to YAML, the contents of such a file, or a loaded one."""


def load_benchmark(benchmark: Reference, overrides: Sequence[str] = (), **sections: Any) -> Benchmark:
    """A benchmark, checked as `clbench validate` does, with changes.

    Args:
        benchmark: a shipped id (`available("benchmarks")`), a path to a YAML file, a mapping like the contents of such
            a file, or a loaded benchmark.
        overrides: "key.path=value" texts, as after `-o` on the command line.
        sections: sections of the file with the keys to change, such as `training={"iterations": 50}`.

    Raises:
        UserError: every mistake that shows without data, each with its place and the nearest match.

    >>> import clbench
    >>> benchmark = clbench.load_benchmark("split_digits-v1", training={"iterations": 50})
    >>> benchmark
    Benchmark split_digits-v1: class-incremental digits, 5 tasks of 2 classes, embedded data
      stream: digits, tasks by classes, sequential, setting class
      model: mlp
      training: 50 iterations, batches of 32, sgd
      evaluation: every iteration
    >>> benchmark.compile(seed=0)
    Stream of digits: 5 tasks, 5 experiences, 1442 samples, setting class, seed 0
    """
    reference = reference_of(benchmark)
    above = [("load_benchmark()", display.as_yaml(sections))] if sections else []
    definition, strategy, seeds, *_ = resolve.resolve(reference, list(overrides), need_strategy=False, above=above)
    changes = resolve.flatten([*resolve.parse_overrides(overrides), *above])
    contents = resolve.merge(resolve.flatten(resolve.load_benchmark(reference)), changes)
    return Benchmark(contents, definition, strategy, seeds)


def reference_of(benchmark: Reference) -> resolve.Reference:
    """A benchmark as `clbench.resolve` takes it.

    Raises:
        UserError: something else.
    """
    if isinstance(benchmark, Benchmark):
        return benchmark.contents
    if isinstance(benchmark, Mapping):
        contents: dict[str, Any] = display.as_yaml(benchmark)
        return contents
    if isinstance(benchmark, (str, os.PathLike)):
        return os.fspath(benchmark)
    raise UserError(f"benchmark: got {shown(benchmark)}. Allowed: an id, a path, a mapping, or a loaded benchmark.")
