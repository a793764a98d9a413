"""The one reader of run.json: its kinds, checked once at the boundary, and the runs below folders.

A file may be old, hand-edited or damaged; an invalid one is excluded with a sentence, and a `Record` can be trusted
afterwards. Unlisted keys are ignored. Readers of traces need less of a run.json, a `Header`, and get it of files that
tables exclude.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import pydantic
from pydantic import JsonValue

from clbench import labels
from clbench.errors import UserError, shown
from clbench.measures import measure_of
from clbench.metrics import metrics_of
from clbench.results import files
from clbench.results.record_parts import (
    LARGEST,
    LARGEST_MEASURED,
    Compiled,
    Config,
    Costs,
    Count,
    Failure,
    Identity,
    Memory,
    Part,
    Provenance,
    Score,
)
from clbench.summation import ROUNDING


class _File(Part):
    """A run.json."""

    _raw: dict[str, Any] = pydantic.PrivateAttr(default_factory=dict)

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Self:
        """The checked form of a file's contents.

        Raises:
            pydantic.ValidationError: it is not what it should be.
        """
        record = cls.model_validate(raw)
        record._raw = raw
        return record

    @property
    def raw(self) -> dict[str, Any]:
        """The whole file, unchecked."""
        return self._raw


class Header(_File):
    """Keys of a run.json required for a run with a trace; its metrics are unchecked, as they can be recomputed."""

    benchmark: str
    config_hash: str
    primary_view: str
    metrics: dict[str, Any] | None
    config: Identity
    modified: Any

    @property
    def label(self) -> str:
        """Benchmark (with `*` where it is not the shipped one), strategy, start of the configuration's hash, seed."""
        return self.called(self.config.strategy.name)

    def called(self, name: str) -> str:
        """The label with another name for the strategy."""
        star = "*" if self.modified else ""
        return f"{self.benchmark}{star} {name} {self.config_hash[:6]} seed {self.config.seed}"


class Record(_File):
    """A run.json, as far as tables read it; other readers use the rest (`report`, a metric's parts)."""

    run_id: str
    made_by: Literal["clbench", "script"] = "clbench"
    """Who trained: clbench, or a script with the evaluator as a plugin, of which less is known and nothing repeated."""
    status: Literal["completed", "failed", "interrupted", "running"]
    failure: Failure | None
    benchmark: str
    modified: bool
    config: Config
    definition_hash: str
    config_hash: str
    stream: Compiled | None
    metrics: dict[str, dict[str, Score]] | None
    primary_view: str
    memory: Memory | None
    access: Literal["experience", "past", "stream"] | None
    parameters: Count | None
    costs: Costs | None
    provenance: Provenance

    @pydantic.field_validator("metrics")
    @classmethod
    def _possible(cls, metrics: dict[str, dict[str, Score]] | None) -> dict[str, dict[str, Score]] | None:
        for view, scores in (metrics or {}).items():
            known = metrics_of(view)
            most = LARGEST if measure_of(view) is None else LARGEST_MEASURED
            for name, score in scores.items():
                low, high = known[name].range if name in known else (-most, most)
                if score.value is not None and not low - ROUNDING <= score.value <= high + ROUNDING:
                    raise ValueError(f"{view}.{name} is {score.value!r}, outside [{low}, {high}]")
        return metrics

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Record:
        if self.status == "failed" and self.failure is None:
            raise ValueError("failed, but 'failure' is null")
        known = self.made_by == "clbench"
        if self.status == "completed":
            for key in ("stream", "metrics", "memory", "costs", *["access"] * known):
                if getattr(self, key) is None:
                    raise ValueError(f"completed, but '{key}' is null")
            if self.primary_view not in (self.metrics or {}):
                raise ValueError("completed, but 'metrics' lacks the primary view")
        benchmark = self.config.benchmark
        if known and (benchmark.stream.data is None or benchmark.training.batch_size is None):
            key = "stream.data" if benchmark.stream.data is None else "training.batch_size"
            raise ValueError(f"'config.benchmark.{key}' is null, which only a script's run may leave unknown")
        return self

    @property
    def definition(self) -> dict[str, Any]:
        """The benchmark's configuration, without names."""
        known = self.config.benchmark.model.parameters.get("tensors_sha256")
        file = {"weights", "weights_sha256"} if known else {"weights"}
        return self.config.benchmark.model_dump(exclude={"id": True, "title": True, "source": True, "model": file})

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def tuning(self) -> dict[str, JsonValue]:
        """Selection of the strategy's hyper-parameters, and its cost; empty where they were not tuned."""
        return {**(self.provenance.tuning or {}), **(self.config.tuning.model_dump() if self.config.tuning else {})}

    @property
    def settings(self) -> dict[str, Any]:
        """See `clbench.labels.settings`."""
        return labels.settings(self.raw["config"])

    @property
    def tuned_by(self) -> str | None:
        """`first`, `stream` or `test`; None where not tuned."""
        return None if self.config.tuning is None else self.config.tuning.by

    @cached_property
    def views(self) -> dict[str, dict[str, Score]]:
        """Metrics by view; none where the run is not completed.

        A value that the schedule of evaluations does not reach is undefined, whatever an older version wrote.
        """
        if self.status != "completed" or self.metrics is None:
            return {}
        return {
            view: {n: self._reached(view, n, s) for n, s in scores.items()} for view, scores in self.metrics.items()
        }

    def _reached(self, view: str, name: str, score: Score) -> Score:
        evaluation = self.config.benchmark.evaluation
        metric = metrics_of(view).get(name)
        if metric is None or not metric.unreached(evaluation.every, evaluation.dense, score.resolution):
            return score
        return score.model_copy(update={"value": None, "se": None})

    @property
    def scores(self) -> dict[str, Score]:
        """Metrics of the primary view; see `views`."""
        return self.views.get(self.primary_view, {})


# ------------------------------------------------------------------------------------------------ one file
def check(path: Path, raw: dict[str, Any]) -> Record:
    """A validated run.json.

    Args:
        path: the file, for the message.
        raw: its contents.

    Raises:
        UserError: one sentence with the file, the first invalid key, and its value.
    """
    try:
        return Record.of(raw)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
    where = _path(first)
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "missing":
        problem = f"'{where}' is missing"
    elif first["type"] == "value_error":
        problem = f"'{where}': {message}" if where else message
    else:
        problem = f"'{where}' is {shown(first['input'])}: {message[:1].lower()}{message[1:]}"
    raise UserError(f"{path}: damaged; {_printable(problem)}.")


def check_header(path: Path, raw: dict[str, Any]) -> Header:
    """A run.json with valid keys of `Header`.

    Raises:
        UserError: one sentence with the file and the first invalid key.
    """
    try:
        return Header.of(raw)
    except pydantic.ValidationError as error:
        where = _path(error.errors(include_url=False)[0])
    first_keys = {"config": "config.seed", "config.strategy": "config.strategy.name"}  # of a part that is no mapping
    where = first_keys.get(where, where)
    raise UserError(f"{path}: damaged; '{where}' is missing or of the wrong kind.")


def _path(error: Any) -> str:
    return ".".join(str(part) for part in error["loc"])


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def read(directory: Path) -> Record:
    """The record of a run's folder.

    Raises:
        UserError: run.json is missing, damaged or of another version; see `results.read_run` and `check`.
    """
    return check(directory / "run.json", files.read_run(directory))


# ------------------------------------------------------------------------------------------------ many files
_T = TypeVar("_T")


def scan(directories: Iterable[Path], reader: Callable[[Path], _T], problems: list[str]) -> Iterator[tuple[Path, _T]]:
    """Run directories and the reader's result for each; a sentence for each refused one is added to `problems`."""
    for directory in directories:
        try:
            result = reader(directory)
        except UserError as error:
            problems += error.problems
        else:
            yield directory, result


@dataclass(frozen=True)
class _Copy:
    """One of perhaps several files of a run."""

    directory: Path
    record: Record
    order: tuple[int, bool, str, str]
    """The smallest counts: steps below a folder named, not completed, start, contents."""

    @property
    def home(self) -> Path:
        """The results folder that it lies in, if it lies where a run writes."""
        return self.directory.parents[3] if len(self.directory.parents) > 3 else self.directory


_REASONS = ("nearer to the folder named", "completed", "started first", "first by its contents")
"""Why a file counts and another of the same run does not, by the place in `_Copy.order`."""


def collect(*roots: Path) -> tuple[list[Record], list[str]]:
    """All run records at or under some folders, as `located` selects them, and a sentence for excluded files."""
    runs, problems = located(*roots)
    return [record for _, record in runs], problems


def located(*roots: Path) -> tuple[list[tuple[Path, Record]], list[str]]:
    """Directories and records of all runs at or under some folders, each run once, and a sentence for excluded files.

    Of files of one run (equal id and instance) the one nearest to a folder named counts: a folder within a folder does
    not hide the runs of the outer one. Of equally near ones a completed one counts, then the one started first. Results
    that were replaced are left out, with one sentence for all.
    """
    kept: dict[tuple[str, str | None], _Copy] = {}
    others: list[tuple[tuple[str, str | None], _Copy]] = []
    problems: list[str] = []
    superseded: list[Path] = []
    nearest: dict[Path, tuple[int, Path]] = {}
    for root in roots:
        for path in files.find_runs(root, superseded):
            steps = len(path.relative_to(root).parts)
            if steps < nearest.get(path.resolve(), (steps + 1, path))[0]:
                nearest[path.resolve()] = steps, path
    problems += replaced(superseded)
    depth = {path: steps for steps, path in nearest.values()}
    for directory, (record, text) in scan(depth, _with_text, problems):
        run = (record.run_id, record.stream.instance_hash if record.stream else None)
        order = (depth[directory], record.status != "completed", record.provenance.started_utc or "", text)
        new = _Copy(directory, record, order)
        if run in kept:
            new, other = (new, kept[run]) if order < kept[run].order else (kept[run], new)
            others.append((run, other))
        kept[run] = new
    runs = [(copy.directory, copy.record) for copy in kept.values()]
    return runs, [*problems, *_copies([(kept[run], other) for run, other in others])]


def _copies(pairs: list[tuple[_Copy, _Copy]]) -> Iterator[str]:
    """A sentence for the files that do not count: one for all that lie in one folder and count in one other."""
    grouped: dict[tuple[Path, Path, str], list[tuple[_Copy, _Copy]]] = {}
    for counts, other in pairs:
        place = next((i for i, (a, b) in enumerate(zip(counts.order, other.order, strict=True)) if a != b), -1)
        grouped.setdefault((other.home, counts.home, _REASONS[place]), []).append((counts, other))
    for (where, elsewhere, why), several in grouped.items():
        differing = sum(_disagree(counts.record, other.record) for counts, other in several)
        [(counts, other), *more] = several
        if more:
            metrics = f", {differing} with other metrics" if differing else ""
            yield f"{where}: {len(several)} runs that {elsewhere} holds too, where the files are {why}{metrics}."
        else:
            metrics = ", with other metrics" if differing else ""
            one, two = (copy.directory / "run.json" for copy in (other, counts))
            yield f"{one}: the same run as {two}, which is {why}{metrics}."


def replaced(superseded: Sequence[Path]) -> list[str]:
    """One sentence for all results that were replaced; none where there are none."""
    results = {path.resolve() for path in superseded}
    if not results:
        return []
    others = f" and {len(results) - 1} more like it" if len(results) > 1 else ""
    return [f"{superseded[0]}{others}: superseded, done again since by other code, on other data, or with --force."]


def _with_text(directory: Path) -> tuple[Record, str]:
    """The record of a run's folder, and the whole file as one text, for a copy."""
    path = directory / "run.json"
    try:
        record = read(directory)
        text = json.dumps(record.raw, sort_keys=True, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{path}: damaged; it holds half a character.") from None
    except RecursionError:
        raise UserError(f"{path}: damaged; nested too deeply.") from None
    return record, text


def _disagree(one: Record, other: Record) -> bool:
    return one.status == other.status == "completed" and one.raw["metrics"] != other.raw["metrics"]
