"""A run, or the runs of a row, in words: what was run, how it ended, and what it cost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from clbench import registry, resolve
from clbench.config.benchmark import Benchmark, Numerics
from clbench.config.evaluation import Watch
from clbench.errors import UserError, shown
from clbench.formatting import compact, duration, quantity, ranges
from clbench.measures import measure_of
from clbench.metrics import metrics_of
from clbench.reports.selection import Row
from clbench.reports.tabular import aligned
from clbench.results import files, load
from clbench.results.record import Record
from clbench.results.record_parts import Score

_UNSAID = {"id", "title", "source"}
"""Keys of a benchmark that decide nothing."""


# ------------------------------------------------------------------------------------------------ one run
def of_run(directory: Path, record: Record, in_use: str | None = None, deep: bool = False) -> list[str]:
    """A run in full.

    Args:
        directory: its folder.
        record: its run.json.
        in_use: the process that is running it; None for none.
        deep: whether all metrics, the whole configuration, the traceback of a failure and all modules are told.
    """
    raw = record.raw
    lines = [
        f"{title(record)}: {state(directory, record, in_use)}",
        *_section("folder", [str(directory)]),
        *_section("seeds", [_seeds(record)]),
        *_section("differs from the shipped configuration", _differing(raw["config"])),
    ]
    if deep:
        lines += _section("configuration", [f"{key}: {shown(value)}" for key, value in _flat(raw["config"])])
    from clbench.reports.columns import FURTHER, usual_metrics

    for view, of_view in record.views.items():
        usual = usual_metrics(view, FURTHER)
        beside = deep and measure_of(view) is not None
        if view == record.primary_view or beside:
            scores = {name: score for name, score in of_view.items() if deep or name in usual}
            lines += _section(f"metrics, view {view}", _metrics(scores, view))
    lines += _section("costs", _costs(record))
    lines += _section("hashes", _hashes(record))
    lines += _section("provenance", _provenance(raw["provenance"], deep))
    if deep and isinstance(raw["failure"], dict):
        lines += _section("traceback", str(raw["failure"].get("traceback", "none is recorded")).splitlines())
    return [printable(line) for line in lines]


def of_row(row: Row, in_use: Callable[[Path], str | None]) -> list[str]:
    """The runs of a row: their common configuration, and a line for each.

    Args:
        row: the row.
        in_use: the process that uses a folder; None for none.
    """
    first = row.runs[0].record
    cells = [("seed", "status", result_heading(run.record for run in row.runs), "folder")]
    for run in row.runs:
        status = brief_state(run.record, in_use(run.directory))
        cells.append((str(run.record.seed), status, result(run.record), str(run.directory)))
    reasons = [
        f"seed {run.record.seed}: {run.record.failure.message}"
        for run in row.runs
        if run.record.status != "completed" and run.record.failure is not None
    ]
    done = sorted({run.record.seed for run in row.runs if run.record.status == "completed"})
    lines = [
        f"row {row.id}: {first.benchmark}{'*' if first.modified else ''} {first.config.strategy.name}",
        *_section("completed seeds", [ranges(done) or "none"]),
        *_section("differs from the shipped configuration", _differing(first.raw["config"])),
        *_section("runs", aligned(cells)),
        *_section("unfinished or failed", reasons),
        *_section("hashes", _hashes(first, of_one_run=False)),
    ]
    return [printable(line) for line in lines]


def title(record: Record) -> str:
    """Benchmark, with a mark where it is not the shipped one, strategy and seed."""
    star = "*" if record.modified else ""
    return f"{record.benchmark}{star} {record.config.strategy.name} seed {record.seed}"


def brief_state(record: Record, in_use: str | None) -> str:
    """`completed`, `failed`, `running`, or `unfinished`."""
    if record.status in ("completed", "failed"):
        return record.status
    return "running" if in_use else "unfinished"


def state(directory: Path, record: Record, in_use: str | None) -> str:
    """State of a run: its end, or its progress."""
    status = brief_state(record, in_use)
    if status == "completed":
        return status
    failure = record.raw["failure"] if isinstance(record.raw["failure"], dict) else {}
    if status == "failed":
        return f"failed at update {_count(failure.get('iteration'))}: {failure.get('message', 'no reason is recorded')}"
    words = [status if not in_use else f"running ({in_use})"]
    reached = failure.get("iteration")
    if reached is not None and not in_use:
        words.append(f"stopped at update {_count(reached)}")
    words += _written(directory)
    saved = files.checkpoint_updates(directory)
    words.append("without a checkpoint" if saved is None else f"last checkpoint at update {_count(saved)}")
    planned = _planned(record)
    if planned is not None:
        words.append(f"{_count(planned)} updates planned")
    return ", ".join(words)


def _written(directory: Path) -> list[str]:
    """Progress of the trace of an unfinished run, as far as it can be read."""
    try:
        run = load.read(directory, partial=True)
    except UserError:
        return []
    if run.unfinished is None:  # it has ended in the meantime
        return []
    try:
        ended = len(run.scored().visits)
    except UserError:
        ended = 0
    return [f"evaluated up to update {_count(run.at)}, {ended} of {run.planned} experiences ended"]


def _planned(record: Record) -> int | None:
    """Updates of the whole run, where the configuration alone says."""
    training, stream = record.config.benchmark.training, record.stream
    varies = any(single.get("epochs") or single.get("iterations") for single in training.experiences.values())
    if training.iterations is None or varies or stream is None or stream.experiences is None:
        return None
    return training.iterations * (1 if training.budget == "stream" else stream.experiences)


def _count(number: Any) -> str:
    return f"{number:,}" if isinstance(number, int) else "?"


def result(record: Record) -> str:
    """ACC of a completed run, or the average of its measure, with the unit; `-` of another."""
    from clbench.reports.leaderboard import ranked_by

    name = ranked_by(record.primary_view)
    score, metric = record.scores.get(name), metrics_of(record.primary_view)[name]
    return "-" if score is None else quantity(score.value, metric.unit, undefined="-")


def result_heading(records: Iterable[Record]) -> str:
    """The heading above results: ACC, average, or both."""
    names = {"ACC" if measure_of(record.primary_view) is None else "average" for record in records}
    return ", ".join(sorted(names)) or "ACC"


# ------------------------------------------------------------------------------------------------ sections
def _section(heading: str, lines: Iterable[str]) -> list[str]:
    """A heading with lines below it, a single line beside it; nothing where there is none."""
    lines = list(lines)
    if len(lines) == 1:
        return [f"  {heading}: {lines[0]}"]
    return [f"  {heading}", *(f"    {line}" for line in lines)] if lines else []


def _seeds(record: Record) -> str:
    single = {key: n for key, n in record.config.seeds.model_dump().items() if n is not None}
    return ", ".join([f"seed {record.seed}", *(f"{key} {n}" for key, n in single.items())])


def _differing(config: Mapping[str, Any]) -> list[str]:
    """Each key that differs from the shipped benchmark or from a default, with both values."""
    pairs = []
    for section, recorded, usual, what in _sections(config):
        if usual is None:
            pairs.append(f"{section}: {what}")
            continue
        before, now = dict(_flat(usual)), dict(_flat(recorded))
        for key in now.keys() | before.keys():
            if now.get(key) != before.get(key):
                path = f"{section}.{key}" if section else key
                pairs.append(f"{path}: {shown(now.get(key))} ({what} {shown(before.get(key))})")
    return sorted(pairs) or ["nothing"]


def _sections(config: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any, str]]:
    """Parts of a configuration: key, content, what it is by default (None for unknown), and a word for that."""
    benchmark, strategy = config["benchmark"], config["strategy"]
    name = benchmark.get("id", "")
    if registry.benchmark_path(name) is None:
        yield "benchmark", benchmark, None, f"{shown(name)} is not shipped; --deep prints all of it"
    else:
        usual = resolve.resolve(name, need_strategy=False)[0].model_dump(mode="json")
        with contextlib.suppress(ValueError):  # keys that came later than the run have their defaults
            benchmark = Benchmark.model_validate(benchmark).model_dump(mode="json")
        yield "", _without(benchmark, _UNSAID), _without(usual, _UNSAID), "shipped:"
    parameters = _without(strategy, {"name"})
    try:
        model = registry.strategy_config(strategy["name"])
        usual = {} if model is None else model().model_dump(mode="json")
    except (UserError, ValueError):  # of another version, or with required hyper-parameters
        usual = {}
    yield "strategy", parameters, usual, "default:"
    # Device and threads follow the machine; of runs by older versions later keys are absent.
    numerics = {**Numerics().model_dump(mode="json"), **config["numerics"]}
    yield "numerics", numerics, Numerics().model_dump(mode="json"), "default:"
    watch = {**Watch().model_dump(mode="json"), **(config.get("watch") or {})}
    yield "watch", watch, Watch().model_dump(mode="json"), "default:"
    tuning = config.get("tuning")
    if tuning:
        trials = f"{tuning.get('trials')} trials, {tuning.get('search')} search, by {tuning.get('metric')}"
        yield "tuning", tuning, None, f"by {tuning.get('by')}, {trials}"


def _without(mapping: Mapping[str, Any], keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key not in keys}


def _flat(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from _flat(item, f"{above}{key}.")
        else:
            yield f"{above}{key}", item


def _metrics(scores: Mapping[str, Score], view: str) -> list[str]:
    cells, known = [], metrics_of(view)
    for name, score in scores.items():
        metric = known.get(name)
        value = quantity(score.value, metric.unit) if metric else shown(score.value)
        error = quantity(score.se, metric.unit) if metric and score.se is not None else ""
        cells.append((name, value, f"± {error}" if error else ""))
    return aligned(cells, words=1) if cells else []


def _costs(record: Record) -> list[str]:
    costs = record.costs
    if costs is None:
        return []
    times = [("training", costs.train_s), ("evaluation", costs.eval_s), ("in all", costs.wall_s)]
    lines = [", ".join(f"{what} {duration(seconds)}" for what, seconds in times)]
    numbers = [(costs.iterations, "updates"), (costs.evaluations, "evaluations")]
    counted = [f"{_count(number)} {what}" for number, what in numbers if number is not None]
    sizes = [(costs.peak_rss_bytes, "memory at most"), (costs.peak_gpu_bytes, "of the GPU")]
    counted += [f"{what} {compact(size / 2**20)} MiB" for size, what in sizes if size is not None]
    if record.memory is not None and record.memory.samples is not None:
        counted.append(f"{record.memory.samples:,} samples kept")
    if record.parameters is not None:
        counted.append(f"{record.parameters:,} parameters")
    return [*lines, ", ".join(counted)] if counted else lines


def _hashes(record: Record, of_one_run: bool = True) -> list[str]:
    named = {
        "configuration": record.config_hash,
        "definition": record.definition_hash,
        "data": record.stream.data_sha256 if record.stream else None,
    }
    if of_one_run:
        named |= {
            "run id": record.run_id,
            "stream instance": record.stream.instance_hash if record.stream else None,
            "weights": record.raw.get("weights_sha256"),
            "trace": record.raw.get("trace_sha256"),
        }
    return aligned([(what, str(digest)) for what, digest in named.items() if digest])


def _provenance(raw: Mapping[str, Any], deep: bool) -> list[str]:
    git = raw.get("git") or {}
    packages = raw.get("packages") or {}
    modules = raw.get("user_code") or {}
    commit = (
        f" (commit {git['commit'][:12]}{', changed since' if git.get('dirty') else ''})" if git.get("commit") else ""
    )
    named: dict[str, Any] = {
        "started": raw.get("started_utc"),
        "command": " ".join(map(str, raw.get("command") or [])),
        "study": raw.get("study"),
        "clbench": f"{raw.get('clbench')}{commit}",
        "python": raw.get("python"),
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items() if version),
        "machine": ", ".join(str(raw[key]) for key in ("platform", "cpu", "gpu") if raw.get(key)),
        "data": raw.get("data"),
        "modules of yours": ", ".join(sorted(modules)),
    }
    if deep:
        named |= {f"SHA-256 of {module}": digest for module, digest in sorted(modules.items())}
        named["SHA-256 of the code"] = raw.get("code_sha256")
    return aligned([(what, str(value)) for what, value in named.items() if value])


def printable(text: str) -> str:
    """A text without the characters that control a terminal.

    >>> printable("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
