"""A study: streams x strategies x hyper-parameters x seeds in one YAML file, and the runs that it stands for.

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
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from clbench import composition, registry, strict_yaml
from clbench.config import Benchmark, Numerics, Seeds, Training, Watch
from clbench.config import Tuning as Tuned
from clbench.engines.settings import LocalSettings, Settings
from clbench.errors import UserError, shown, unknown
from clbench.mistakes import Layer, annotation_of, check_section, unknown_key
from clbench.resolve import RunConfig, make_run
from clbench.schema import Count, Model, mistake

_SECTIONS = [key for key in Benchmark.model_fields if key not in ("id", "title", "source")]
"""What may be changed of a benchmark."""
_MOST = 100_000
"""Combinations of one strategy: more are a slip."""


_End = Annotated[int | float, Field(ge=-1e300, le=1e300, title="a finite number up to 1e300 in size")]


class Range(Model):
    """Values between two. Optuna draws whole numbers where both ends are written as such: 1 and 9, not 1.0 and 9."""

    min: _End
    max: _End
    steps: Annotated[int, Field(ge=2, le=1000)] | None = None
    """How many values, both ends among them; without, a search by Optuna draws any."""
    scale: Literal["linear", "log"] = "linear"

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Range:
        if not self.min < self.max:
            raise mistake(f"got {self.max:g}. Allowed: a number above 'min', which is {self.min:g}", "max")
        if self.scale == "log" and self.min <= 0:
            raise mistake(f"got {self.min:g}. Allowed with the scale 'log': a number > 0", "min")
        return self

    @property
    def whole(self) -> bool:
        """Whether both ends are written as whole numbers."""
        return isinstance(self.min, int) and isinstance(self.max, int)

    def values(self) -> list[float | int]:
        """As many as `steps` says. Nothing is rounded to whole numbers: where one lies between two of them, it is told
        by whoever takes none.

        >>> Range.model_validate({"min": 1, "max": 1000, "steps": 4, "scale": "log"}).values()
        [1, 10, 100, 1000]
        >>> Range.model_validate({"min": 0, "max": 1, "steps": 3}).values()
        [0, 0.5, 1]
        """
        assert self.steps is not None
        log = self.scale == "log"
        low, high = (math.log(self.min), math.log(self.max)) if log else (self.min, self.max)
        shares = [k / (self.steps - 1) for k in range(1, self.steps - 1)]
        points = [low * (1 - share) + high * share for share in shares]
        between = [float(f"{math.exp(p) if log else p:.6g}") for p in points]  # 0.1, and not 0.10000000000000002
        made = [self.min, *between, self.max]
        return [int(value) if self.whole and value == int(value) else value for value in made]


class TuningSettings(Model):
    """How one of a strategy's combinations is chosen, for each stream by itself. Only strategies with several of them
    are tuned; what was tried, and what that cost, is told in every row."""

    by: Literal["first", "stream", "test"]
    """`first`: on the first experiences of the stream as the trial's seed draws it, tested on training samples that are
    put aside. `stream`: on another stream. `test`: on the test samples of the stream itself, which every row then
    says."""
    experiences: Count | None = None
    """Of `first`: how many. Default 2."""
    held_out: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Of `first`: share of each class's training samples. Default 0.2."""
    stream: str | None = None
    """Of `stream`: a benchmark's id or a path to YAML."""
    metric: str = "average_accuracy"
    """What is to be best, in the stream's own view, as a mean over seeds."""
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [1000]
    """Of trials. With seeds of their own, no run that is reported was used for a choice."""
    search: Literal["grid", "optuna"] = "grid"
    """Every combination, or Optuna's TPE sampler."""
    trials: Count | None = None
    """Of a search by Optuna."""
    changes: dict[str, Any] = {}
    """Of the benchmark, in trials alone: {evaluation: {every: 0, dense: 0}} where only the end counts."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> TuningSettings:
        for key, by in (("experiences", "first"), ("held_out", "first"), ("stream", "stream")):
            if getattr(self, key) is not None and self.by != by:
                raise mistake(f"is for tuning by '{by}', not by '{self.by}'", key)
        if self.by == "stream" and self.stream is None:
            raise mistake("required for tuning by 'stream', but not given", "stream")
        if (self.search == "optuna") != (self.trials is not None):
            needed = self.search == "optuna"
            raise mistake(
                "required for a search by Optuna, but not given"
                if needed
                else "is for a search by Optuna; a grid has its combinations",
                "trials",
            )
        from clbench.metrics import METRICS

        if self.metric not in METRICS:
            raise mistake(unknown("metric", self.metric, METRICS).rstrip("."), "metric")
        if len(set(self.seeds)) < len(self.seeds):
            raise mistake(f"got {shown(self.seeds)}. Allowed: each seed once", "seeds")
        if "stream" in self.changes and self.by != "stream":
            raise mistake(f"trials by '{self.by}' are on the stream itself, as it is", "changes")
        return self


_Composition = Annotated[list[Any], Field(title="a list of these")]
_Seed = Annotated[int, Field(ge=0, strict=True)]


class StudyConfig(Model):
    """A study's file."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+([_-][a-z0-9]+)*$", max_length=80, title="a name like my_study")]
    title: str = ""
    streams: Annotated[list[str | dict[str, Any]], Field(min_length=1)]
    """Benchmarks: an id, a path to YAML, or a mapping with `name` and sections that are changed."""
    strategies: Annotated[list[str | dict[str, Any] | _Composition], Field(min_length=1)]
    """Names, compositions as lists, or mappings with `name` and hyper-parameters. A list of values is tried one by one,
    at any depth; a value that is itself a list stands within one. {min, max, steps, scale} is a range."""
    seeds: Annotated[int, Field(ge=1, le=10_000, strict=True)] | Annotated[list[_Seed], Field(min_length=1)] = 5
    """How many, from 0 on; or which. Each strategy has the same, so that comparisons are paired."""
    axes: Seeds = Seeds()
    """Seeds of single axes (stream, init, order, augmentation, strategy) that do not follow the run's."""
    budget: dict[str, Any] = {}
    """Of learning, on every stream: keys of `training` such as epochs or iterations."""
    changes: dict[str, Any] = {}
    """Of every benchmark: sections and their keys."""
    numerics: Numerics = Numerics()
    """The same for all runs: one thread on the CPU unless told."""
    watch: Watch = Watch()
    """What is recorded beside the counts."""
    tuning: TuningSettings | None = None
    """How hyper-parameters are chosen; without it, every combination is a row."""
    engine: Settings = LocalSettings(name="local")
    """What does the runs."""
    log: list[Literal["tensorboard", "wandb"]] = []
    """Loggers."""


@dataclass(frozen=True)
class Planned:
    """A run of a study.

    Attributes:
        run: resolved.
        stream, strategy: their numbers in the study's lists.
        combination: hyper-parameters that differ between combinations of the strategy, `key.path` to value.
        where: " (streams[i])" where the study has several streams of that name.
    """

    run: RunConfig
    stream: int
    strategy: int
    combination: dict[str, Any]
    where: str = ""

    @property
    def row(self) -> str:
        """For lines about it and its seeds."""
        said = "".join(f" {key}={shown(value)}" for key, value in self.combination.items())
        return f"{self.run.benchmark.id}{self.where} {self.run.strategy.name}{said}"

    @property
    def label(self) -> str:
        """For lines about it."""
        return f"{self.row} seed {self.run.seed}"


@dataclass(frozen=True)
class Study:
    """A checked study.

    Attributes:
        source: its file's name, for messages.
        folder: paths in it are relative to that.
        config: what it says.
    """

    source: str
    folder: Path
    config: StudyConfig

    @cached_property
    def seeds(self) -> list[int]:
        """Of every row."""
        return list(range(self.config.seeds)) if isinstance(self.config.seeds, int) else self.config.seeds

    @cached_property
    def strategies(self) -> list[dict[str, Any]]:
        """As mappings with a name."""
        as_mappings = (composition.as_mapping(given) for given in self.config.strategies)
        return [{"name": given} if isinstance(given, str) else given for given in as_mappings]

    def tuned(self, strategy: int) -> bool:
        """Whether one of a strategy's combinations is chosen."""
        choices = spaces(self.strategies[strategy]).values()
        return self.config.tuning is not None and any(isinstance(c, dict) or len(c) > 1 for c in choices)

    def combinations(self, strategy: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """All of a strategy: its whole mapping, and what differs in it."""
        given = self.strategies[strategy]
        space = spaces(given)
        values = [alternatives(choices) for choices in space.values()]
        made = [dict(zip(space, chosen, strict=True)) for chosen in itertools.product(*values)]
        return [(with_values(given, chosen), {dotted(path): v for path, v in chosen.items()}) for chosen in made]

    def runs(self, stream: int, strategy: int, given: dict[str, Any], combination: dict[str, Any]) -> list[Planned]:
        """One combination of a strategy on a stream, seed by seed.

        Raises:
            UserError: every mistake in it.
        """
        entry, name = self._stream(stream)
        return self._resolved(stream, strategy, given, combination, name, [entry], self.seeds)

    def trials(self, stream: int, strategy: int, given: dict[str, Any], combination: dict[str, Any]) -> list[Planned]:
        """The same on what hyper-parameters are chosen on, with the seeds of trials."""
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
        return self._resolved(stream, strategy, given, combination, name, layers, tuning.seeds)

    def _resolved(
        self,
        stream: int,
        strategy: int,
        given: dict[str, Any],
        combination: dict[str, Any],
        name: str,
        layers: list[Layer],
        seeds: list[int],
    ) -> list[Planned]:
        budget = self.config.budget
        if budget:  # one of the two takes the place of the other
            budget = {
                key: None for key in ("epochs", "iterations") if {"epochs", "iterations"} & budget.keys()
            } | budget
        above: list[Layer] = [
            (f"{self.source}: strategies[{strategy}]", {"strategy": given}),
            *layers,
            (f"{self.source}: budget", {"training": budget}),
            (f"{self.source}: changes", self.config.changes),
            (self.source, self._beside),
        ]
        first = make_run(name, seed=seeds[0], above=[layer for layer in above if layer[1]])
        every = [first.model_copy(update={"seed": seed}) for seed in seeds]
        return [Planned(run, stream, strategy, combination, self.where(stream)) for run in every]

    @cached_property
    def _beside(self) -> dict[str, Any]:
        config = self.config
        return {
            "numerics": config.numerics.model_dump(mode="json"),
            "watch": config.watch.model_dump(mode="json", exclude_defaults=True),
            "seeds": config.axes.model_dump(mode="json", exclude_none=True),
        }

    def where(self, stream: int) -> str:
        """See `Planned.where`."""
        names = [given if isinstance(given, str) else given["name"] for given in self.config.streams]
        return f" (streams[{stream}])" if names.count(names[stream]) > 1 else ""

    def _stream(self, stream: int) -> tuple[Layer, str]:
        given = self.config.streams[stream]
        where = f"{self.source}: streams[{stream}]"
        if isinstance(given, str):
            return (where, {}), self._relative(given)
        return (where, {k: v for k, v in given.items() if k != "name"}), self._relative(given["name"])

    def _relative(self, name: str) -> str:
        if registry.benchmark_path(name) is None and name.endswith((".yaml", ".yml")):
            return str(self.folder / name)
        return name


# ------------------------------------------------------------------------------------------------ reading
def read(path: Path) -> Study:
    """A study's file, checked as far as it can be without data; what its runs are is checked with them.

    Raises:
        UserError: every mistake in it.
    """
    source = str(path)
    raw = strict_yaml.parse_file(path, source)
    known = StudyConfig.model_fields
    problems = [f"{source}: {key}: {unknown_key(key, list(known))}" for key in raw if key not in known]
    problems += [
        f"{source}: {key}: required, but not given."
        for key, field in known.items()
        if field.is_required() and key not in raw
    ]
    parts = {}
    for key in raw.keys() & known.keys():
        parts[key], found = check_section(source, key, annotation_of(known[key]), raw[key], [])
        problems += found
    for key in ("changes", "budget"):
        problems += _check_changes(f"{source}: {key}", parts.get(key) or {}, budget=key == "budget")
    tuning = parts.get("tuning")
    # Of a section with a mistake the search is unknown, and no second mistake is derived from it.
    needs_steps = raw.get("tuning") is None if tuning is None else tuning.search == "grid"
    if tuning is not None:
        problems += _check_changes(f"{source}: tuning.changes", tuning.changes)
        problems += _check_benchmark(f"{source}: tuning.stream", tuning.stream)
    for i, given in enumerate(parts.get("streams") or []):
        problems += _check_benchmark(f"{source}: streams[{i}]", given.get("name") if isinstance(given, dict) else given)
        if isinstance(given, dict):
            problems += _check_named(f"{source}: streams[{i}]", given)
            rest = {k: v for k, v in given.items() if k != "name"}
            problems += _check_changes(f"{source}: streams[{i}]", rest, more=["name"])
    for i, given in enumerate(parts.get("strategies") or []):
        where, mapping = f"{source}: strategies[{i}]", composition.as_mapping(given)
        if isinstance(mapping, list):
            problems.append(f"{where}: got {shown(given)}. Allowed: a list of names, or of mappings with a name.")
        elif isinstance(mapping, dict):
            named = _check_named(where, mapping)
            problems += named or _check_space(source, f"strategies[{i}]", mapping, needs_steps)
    seeds = parts.get("seeds")
    if isinstance(seeds, list) and len(set(seeds)) < len(seeds):
        problems.append(f"{source}: seeds: got {shown(seeds)}. Allowed: each seed once.")
    if problems:
        raise UserError(*problems)
    return Study(source, path.parent, StudyConfig.model_validate(raw))


def _check_named(where: str, given: dict[str, Any]) -> list[str]:
    if isinstance(given.get("name"), str):
        return []
    if "name" not in given:
        return [f"{where}.name: required, but not given."]
    return [f"{where}.name: got {shown(given['name'])}. Allowed: text."]


def _check_benchmark(where: str, name: Any) -> list[str]:
    if not isinstance(name, str) or registry.benchmark_path(name) or name.endswith((".yaml", ".yml")):
        return []
    return [f"{where}: {unknown('benchmark', name, registry.benchmarks(), 'or a path to a YAML file')}"]


def _check_changes(where: str, given: dict[str, Any], more: list[str] | None = None, budget: bool = False) -> list[str]:
    allowed = list(Training.model_fields) if budget else _SECTIONS
    problems = [f"{where}.{key}: {unknown_key(key, [*(more or []), *allowed])}" for key in given if key not in allowed]
    return problems + [
        f"{where}.{key}: got {shown(given[key])}. Allowed: keys and values."
        for key in allowed
        if key in given and not budget and not isinstance(given[key], dict)
    ]


def _check_space(source: str, place: str, given: dict[str, Any], needs_steps: bool) -> list[str]:
    problems, count = [], 1
    for path, choices in spaces(given).items():
        key = f"{source}: {place}.{dotted(path)}"
        if isinstance(choices, list):
            if not choices:
                problems.append(f"{key}: got []. Allowed: one or more values.")
            count *= max(1, len(choices))
            continue
        checked, found = check_section(source, f"{place}.{dotted(path)}", Range, choices, [])
        problems += found
        if checked is None:
            continue
        if checked.steps is not None:
            count *= checked.steps
        elif needs_steps:
            problems.append(f"{key}.steps: required where every value is tried, but not given.")
    if count > _MOST:
        problems.append(f"{source}: {place}: {count:,} combinations. Allowed: up to {_MOST:,}.")
    return problems


# ------------------------------------------------------------------------------------------------ combinations
Path_ = tuple[str, ...]


def _is_range(value: Any) -> bool:
    return isinstance(value, dict) and {"min", "max"} <= value.keys()


def spaces(given: dict[str, Any], above: Path_ = ()) -> dict[Path_, list[Any] | dict[str, Any]]:
    """Where a strategy's mapping leaves a choice: key paths, and the list of values or the range there.

    >>> spaces({"name": "er", "memory": [1, 2], "optimizer": {"name": "sgd", "lr": {"min": 0, "max": 1}}})
    {('memory',): [1, 2], ('optimizer', 'lr'): {'min': 0, 'max': 1}}
    """
    found: dict[Path_, list[Any] | dict[str, Any]] = {}
    for key, value in given.items():
        if isinstance(value, list) or _is_range(value):
            found[*above, key] = value
        elif isinstance(value, dict):
            found |= spaces(value, (*above, key))
    return found


def alternatives(choices: list[Any] | dict[str, Any]) -> list[Any]:
    """The values of a list or of a range."""
    return choices if isinstance(choices, list) else Range.model_validate(choices).values()


def with_values(given: dict[str, Any], chosen: dict[Path_, Any]) -> dict[str, Any]:
    """A strategy's mapping with one value in each place.

    >>> with_values({"name": "er", "a": {"b": [1, 2]}}, {("a", "b"): 2})
    {'name': 'er', 'a': {'b': 2}}
    """

    def filled(mapping: dict[str, Any], above: Path_) -> Iterator[tuple[str, Any]]:
        for key, value in mapping.items():
            path = (*above, key)
            if path in chosen:
                yield key, chosen[path]
            else:
                yield key, dict(filled(value, path)) if isinstance(value, dict) else value

    return dict(filled(given, ()))


def dotted(path: Path_) -> str:
    """A key path as text."""
    return ".".join(path)


def tuned(settings: TuningSettings, trial: RunConfig, trials: int, failed: int, updates: int) -> Tuned:
    """What a row says of how it was tuned.

    Args:
        settings: how.
        trial: one of the runs.
        trials: combinations tried.
        failed: runs of them that failed.
        updates: of all of them.
    """
    first = settings.by == "first"
    selection = trial.benchmark.stream.selection
    return Tuned(
        by=settings.by,
        experiences=selection.experiences if first and selection else None,
        held_out=selection.held_out if first and selection else None,
        definition_hash=trial.definition_hash,
        metric=settings.metric,
        search=settings.search,
        trials=trials,
        seeds=settings.seeds,
        failed=failed,
        updates=updates,
    )
