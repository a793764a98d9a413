"""A study: streams x strategies x hyper-parameters x seeds in one YAML file, and its runs.

id: digits
streams: [split_digits-v1, {name: permuted_digits-v1, training: {iterations: 50}}]
strategies:
  - naive
  - {name: er, memory: [100, 200]}              # both
  - {name: ewc, strength: {min: 1, max: 1000, steps: 4, scale: log}}
  - [er, ewc]                                   # a composition
seeds: 5
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from clbench import registry
from clbench.config import strategy_names, strict_yaml
from clbench.config.benchmark import Benchmark, StrategyConfig, Tuning
from clbench.config.study import MOST_VALUES, Range, StudyConfig, TuningConfig
from clbench.config.training import Training
from clbench.errors import UserError, shown, unknown
from clbench.labels import Labels, distinguished
from clbench.messages import Layer, annotation_of, check_section, unknown_key
from clbench.resolve import canonical_strategy, complete_strategy, make_run
from clbench.run_config import RunConfig

_SECTIONS = [key for key in Benchmark.model_fields if key not in ("id", "title", "source")]
"""Sections of a benchmark that a study may change."""


@dataclass(frozen=True)
class Planned:
    """A run of a study.

    Attributes:
        run: resolved.
        stream, strategy: their numbers in the study's lists.
        combination: hyper-parameters that differ between combinations of the strategy, `key.path` to value.
        name: of the strategy, with what tells it from others of the study.
        where: " (streams[i])" where the study has several streams of that name.
    """

    run: RunConfig
    stream: int
    strategy: int
    combination: dict[str, Any]
    name: str
    where: str = ""

    @property
    def row(self) -> str:
        """Label of the run and its other seeds."""
        return f"{self.run.benchmark.id}{self.where} {self.name}"

    @property
    def label(self) -> str:
        """Label of the run."""
        return f"{self.row} seed {self.run.seed}"


@dataclass(frozen=True)
class Study:
    """A checked study.

    Attributes:
        source: its file's name, for messages.
        folder: base of relative paths.
        config: its contents.
    """

    source: str
    folder: Path
    config: StudyConfig

    @cached_property
    def seeds(self) -> list[int]:
        """Seeds of every row."""
        return list(range(self.config.seeds)) if isinstance(self.config.seeds, int) else self.config.seeds

    @cached_property
    def strategies(self) -> list[dict[str, Any]]:
        """Strategies as mappings with a name."""
        return [canonical_strategy(strategy_names.as_mapping(entry)) for entry in self.config.strategies]

    def is_tuned(self, strategy: int) -> bool:
        """True if one of a strategy's combinations is selected by tuning."""
        choices = spaces(self.strategies[strategy]).values()
        return self.config.tuning is not None and any(isinstance(c, dict) or len(c) > 1 for c in choices)

    def combinations(self, strategy: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """All combinations of a strategy: the whole mapping, and the values that differ."""
        mapping = self.strategies[strategy]
        space = spaces(mapping)
        values = [alternatives(choices) for choices in space.values()]
        product = [dict(zip(space, chosen, strict=True)) for chosen in itertools.product(*values)]
        return [(with_values(mapping, chosen), {dotted(path): v for path, v in chosen.items()}) for chosen in product]

    def runs(self, stream: int, strategy: int, mapping: dict[str, Any], combination: dict[str, Any]) -> list[Planned]:
        """One combination of a strategy on a stream, seed by seed.

        Raises:
            UserError: every mistake in it.
        """
        entry, name = self._stream(stream)
        return self._resolved(stream, strategy, mapping, combination, name, [entry], self.seeds)

    def mistakes(self) -> list[str]:
        """Mistakes that only the runs show, as far as files and tables tell: in values of hyper-parameters, too.

        Of several hyper-parameters with several values each is varied alone; a mistake of one is one of all its
        combinations.
        """
        problems: list[str] = []
        for strategy, mapping in enumerate(self.strategies):
            for stream in range(len(self.config.streams)):
                for chosen in _singly(spaces(mapping)):
                    combination = {dotted(path): value for path, value in chosen.items()}
                    for runs in [self.runs] if self.config.tuning is None else [self.runs, self.trials]:
                        try:
                            runs(stream, strategy, with_values(mapping, chosen), combination)
                        except UserError as error:
                            problems += error.problems
        return list(dict.fromkeys(problems))

    def trials(self, stream: int, strategy: int, mapping: dict[str, Any], combination: dict[str, Any]) -> list[Planned]:
        """The same on the tuning stream, with the seeds of trials."""
        tuning = self.config.tuning
        assert tuning is not None
        entry, name = self._stream(stream)
        layers: list[Layer] = [(f"{self.source}: tuning.changes", tuning.changes)]
        if tuning.by == "stream":
            assert tuning.stream is not None
            name = self._relative(tuning.stream)
        else:
            layers.append(entry)
        if tuning.by == "first":
            share = 0.2 if tuning.held_out is None else tuning.held_out
            selection = {"experiences": tuning.experiences or 2, "held_out": share}
            layers.insert(0, (f"{self.source}: tuning", {"stream": {"selection": selection}}))
        return self._resolved(stream, strategy, mapping, combination, name, layers, tuning.seeds)

    def _resolved(
        self,
        stream: int,
        strategy: int,
        mapping: dict[str, Any],
        combination: dict[str, Any],
        name: str,
        layers: list[Layer],
        seeds: list[int],
    ) -> list[Planned]:
        budget = self.config.budget
        if budget:  # one of the two replaces the other
            budget = {
                key: None for key in ("epochs", "iterations") if {"epochs", "iterations"} & budget.keys()
            } | budget
        above: list[Layer] = [
            (f"{self.source}: strategies[{strategy}]", {"strategy": mapping}),
            *layers,
            (f"{self.source}: budget", {"training": budget}),
            (f"{self.source}: changes", self.config.changes),
            (self.source, self._run_settings),
        ]
        first = make_run(name, seed=seeds[0], above=[layer for layer in above if layer[1]])
        every = [first.model_copy(update={"seed": seed}) for seed in seeds]
        label = self._labels(first.strategy.name, first.strategy.parameters)
        return [Planned(run, stream, strategy, combination, label, self.where(stream)) for run in every]

    @cached_property
    def names(self) -> list[str]:
        """Each strategy's name, with what tells it from others of its name, as the study says it."""
        return distinguished((mapping["name"], _without_name(mapping)) for mapping in self.strategies)

    @cached_property
    def _labels(self) -> Labels:
        """Names by the settings that are not the same in all combinations of all entries of a strategy's name."""
        ends = [with_values(mapping, chosen) for mapping in self.strategies for chosen in _ends(spaces(mapping))]
        return Labels((mapping["name"], _completed(mapping)) for mapping in ends)

    @cached_property
    def _run_settings(self) -> dict[str, Any]:
        config = self.config
        return {
            "numerics": config.numerics.model_dump(mode="json"),
            "watch": config.watch.model_dump(mode="json", exclude_defaults=True),
            "seeds": config.axes.model_dump(mode="json", exclude_none=True),
        }

    def where(self, stream: int) -> str:
        """See `Planned.where`."""
        names = [entry if isinstance(entry, str) else entry["name"] for entry in self.config.streams]
        return f" (streams[{stream}])" if names.count(names[stream]) > 1 else ""

    def _stream(self, stream: int) -> tuple[Layer, str]:
        entry = self.config.streams[stream]
        where = f"{self.source}: streams[{stream}]"
        if isinstance(entry, str):
            return (where, {}), self._relative(entry)
        return (where, {k: v for k, v in entry.items() if k != "name"}), self._relative(entry["name"])

    def _relative(self, name: str) -> str:
        if registry.benchmark_path(name) is None and name.endswith((".yaml", ".yml")):
            return str(self.folder / name)
        return name


def read(path: Path) -> Study:
    """A study's file, checked without data; its runs are checked later.

    Raises:
        UserError: every mistake in it.
    """
    return check(strict_yaml.parse_file(path, str(path)), str(path), path.parent)


def check(raw: dict[str, Any], source: str, folder: Path) -> Study:
    """A study's contents, checked as `read` does.

    Args:
        raw: as in a file.
        source: its name, for messages.
        folder: base of relative paths.

    Raises:
        UserError: every mistake in it.
    """
    known = StudyConfig.model_fields
    problems = [f"{source}: {key}: {unknown_key(key, list(known))}" for key in raw if key not in known]
    problems += [
        f"{source}: {key}: required, but not given."
        for key, field in known.items()
        if field.is_required() and key not in raw
    ]
    parts = {}
    for key in raw.keys() & known.keys():
        parts[key], mistakes = check_section(source, key, annotation_of(known[key]), raw[key], [])
        problems += mistakes
    for key in ("changes", "budget"):
        problems += _check_changes(f"{source}: {key}", parts.get(key) or {}, budget=key == "budget")
    tuning = parts.get("tuning")
    # Of a section with a mistake the search is unknown, and no second mistake is derived from it.
    needs_steps = raw.get("tuning") is None if tuning is None else tuning.search == "grid"
    if tuning is not None:
        problems += _check_changes(f"{source}: tuning.changes", tuning.changes)
        problems += _check_benchmark(f"{source}: tuning.stream", tuning.stream)
    for i, entry in enumerate(parts.get("streams") or []):
        problems += _check_benchmark(f"{source}: streams[{i}]", entry.get("name") if isinstance(entry, dict) else entry)
        if isinstance(entry, dict):
            problems += _check_named(f"{source}: streams[{i}]", entry)
            rest = {k: v for k, v in entry.items() if k != "name"}
            problems += _check_changes(f"{source}: streams[{i}]", rest, more=["name"])
    for i, entry in enumerate(parts.get("strategies") or []):
        where, mapping = f"{source}: strategies[{i}]", strategy_names.as_mapping(entry)
        if isinstance(mapping, list):
            problems.append(f"{where}: got {shown(entry)}. Allowed: a list of names, or of mappings with a name.")
        elif isinstance(mapping, dict):
            named = _check_named(where, mapping)
            problems += named or _check_space(source, f"strategies[{i}]", mapping, needs_steps)
    seeds = parts.get("seeds")
    if isinstance(seeds, list) and len(set(seeds)) < len(seeds):
        problems.append(f"{source}: seeds: got {shown(seeds)}. Allowed: each seed once.")
    if problems:
        raise UserError(*problems)
    return Study(source, folder, StudyConfig.model_validate(raw))


def _check_named(where: str, mapping: dict[str, Any]) -> list[str]:
    if isinstance(mapping.get("name"), str):
        return []
    if "name" not in mapping:
        return [f"{where}.name: required, but not given."]
    return [f"{where}.name: got {shown(mapping['name'])}. Allowed: text."]


def _check_benchmark(where: str, name: Any) -> list[str]:
    if not isinstance(name, str) or registry.benchmark_path(name) or name.endswith((".yaml", ".yml")):
        return []
    return [f"{where}: {unknown('benchmark', name, registry.benchmarks(), 'or a path to a YAML file')}"]


def _check_changes(
    where: str, changes: dict[str, Any], more: list[str] | None = None, budget: bool = False
) -> list[str]:
    allowed = list(Training.model_fields) if budget else _SECTIONS
    problems = [
        f"{where}.{key}: {unknown_key(key, [*(more or []), *allowed])}" for key in changes if key not in allowed
    ]
    return problems + [
        f"{where}.{key}: got {shown(changes[key])}. Allowed: keys and values."
        for key in allowed
        if key in changes and not budget and not isinstance(changes[key], dict)
    ]


def _check_space(source: str, place: str, mapping: dict[str, Any], needs_steps: bool) -> list[str]:
    problems, count = [], 1
    for path, choices in spaces(mapping).items():
        key = f"{source}: {place}.{dotted(path)}"
        if isinstance(choices, list):
            if not choices:
                problems.append(f"{key}: got []. Allowed: one or more values.")
            count *= max(1, len(choices))
            continue
        checked, mistakes = check_section(source, f"{place}.{dotted(path)}", Range, choices, [])
        problems += mistakes
        if checked is None:
            continue
        if checked.steps is not None:
            count *= checked.steps
        elif needs_steps:
            problems.append(f"{key}.steps: required where every value is tried, but not given.")
    if count > MOST_VALUES:
        problems.append(f"{source}: {place}: {count:,} combinations. Allowed: up to {MOST_VALUES:,}.")
    return problems


def _without_name(mapping: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key != "name"}


def _completed(mapping: dict[str, Any]) -> dict[str, Any]:
    """Hyper-parameters with defaults; those of the mapping alone where it has a mistake, which its run reports."""
    try:
        return complete_strategy(StrategyConfig.model_validate(mapping)).parameters
    except (UserError, ValueError):
        return _without_name(mapping)


KeyPath = tuple[str, ...]


def _is_range(value: Any) -> bool:
    return isinstance(value, dict) and {"min", "max"} <= value.keys()


def spaces(mapping: dict[str, Any], above: KeyPath = ()) -> dict[KeyPath, list[Any] | dict[str, Any]]:
    """Search space of a strategy's mapping: key paths, with a list of values or a range.

    >>> spaces({"name": "er", "memory": [1, 2], "optimizer": {"name": "sgd", "lr": {"min": 0, "max": 1}}})
    {('memory',): [1, 2], ('optimizer', 'lr'): {'min': 0, 'max': 1}}
    """
    choices: dict[KeyPath, list[Any] | dict[str, Any]] = {}
    for key, value in mapping.items():
        if isinstance(value, list) or _is_range(value):
            choices[*above, key] = value
        elif isinstance(value, dict):
            choices |= spaces(value, (*above, key))
    return choices


def _ends(space: dict[KeyPath, list[Any] | dict[str, Any]]) -> list[dict[KeyPath, Any]]:
    """The first value of every choice, and the last."""
    both = {path: (c[0], c[-1]) if isinstance(c, list) else (c["min"], c["max"]) for path, c in space.items()}
    return [{path: ends[end] for path, ends in both.items()} for end in (0, 1)]


def _singly(space: dict[KeyPath, list[Any] | dict[str, Any]]) -> Iterator[dict[KeyPath, Any]]:
    """The first value of every choice, then each further value beside the first ones of the others; of a range the
    ends.

    >>> list(_singly({("a",): [1, 2], ("b",): {"min": 0, "max": 9}}))
    [{('a',): 1, ('b',): 0}, {('a',): 2, ('b',): 0}, {('a',): 1, ('b',): 9}]
    """
    every = {path: c if isinstance(c, list) else [c["min"], c["max"]] for path, c in space.items()}
    first = {path: values[0] for path, values in every.items()}
    yield first
    for path, values in every.items():
        for value in values[1:]:
            yield {**first, path: value}


def alternatives(choices: list[Any] | dict[str, Any]) -> list[Any]:
    """The values of a list or of a range."""
    return choices if isinstance(choices, list) else Range.model_validate(choices).values()


def with_values(strategy: dict[str, Any], values: dict[KeyPath, Any]) -> dict[str, Any]:
    """A strategy's mapping with one value for each choice.

    >>> with_values({"name": "er", "a": {"b": [1, 2]}}, {("a", "b"): 2})
    {'name': 'er', 'a': {'b': 2}}
    """

    def filled(mapping: dict[str, Any], above: KeyPath) -> Iterator[tuple[str, Any]]:
        for key, value in mapping.items():
            path = (*above, key)
            if path in values:
                yield key, values[path]
            else:
                yield key, dict(filled(value, path)) if isinstance(value, dict) else value

    return dict(filled(strategy, ()))


def dotted(path: KeyPath) -> str:
    """A key path as text."""
    return ".".join(path)


def tuning_record(
    settings: TuningConfig, metric: str, trial: RunConfig, trials: int, failed: int, updates: int
) -> Tuning:
    """Record of a row's tuning.

    Args:
        settings: of the tuning.
        metric: by which was selected.
        trial: one of the runs.
        trials: number of combinations tried.
        failed: number of failed runs.
        updates: of all runs.
    """
    first = settings.by == "first"
    selection = trial.benchmark.stream.selection
    return Tuning(
        by=settings.by,
        experiences=selection.experiences if first and selection else None,
        held_out=selection.held_out if first and selection else None,
        definition_hash=trial.definition_hash,
        metric=metric,
        search=settings.search,
        trials=trials,
        seeds=settings.seeds,
        failed=failed,
        updates=updates,
    )
