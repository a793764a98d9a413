"""Pages of the reference that are derived from the code: whatever `clbench list` names has one.

They are made when the site is built, by the functions behind `clbench list` and `clbench show`, and are not committed.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pydantic
import yaml
from prose import cell, escaped, markdown

from clbench import cli, messages, registry, resolve
from clbench.cli.catalogue import catalogue, summary
from clbench.cli.stream_argument import compiled, outline
from clbench.config import evaluation, networks, training
from clbench.config.benchmark import Numerics, Protocol, Seeds
from clbench.config.study import StudyConfig
from clbench.metrics import METRICS, Metric
from clbench.metrics.field_names import NUMBERS
from clbench.schema import keys_of
from clbench.streams import definition

FOLDER = "docs/reference"
EMBEDDED = ("digits", "synthetic", "glyphs")
"""Data sets that are always at hand; their benchmarks have cards and pictures."""

SECTIONS: dict[str, type[pydantic.BaseModel]] = {
    "stream": definition.StreamConfig,
    "protocol": Protocol,
    "training": training.Training,
    "evaluation": evaluation.Evaluation,
    "watch": evaluation.Watch,
    "numerics": Numerics,
    "seeds": Seeds,
    "study": StudyConfig,
}

Pages = Iterator[tuple[str, str | bytes]]
"""Path in the repository's layout, and contents."""


def pages(root: Path) -> Pages:
    """All generated pages but those of the Python API.

    Args:
        root: of the repository.
    """
    yield from strategies()
    yield from benchmarks()
    yield from metrics()
    yield from grammar()
    yield from verbs()
    yield from run_files(root)


# ------------------------------------------------------------------------------------------------ parts of pages
def toctree(entries: Iterable[str], hidden: bool = True) -> str:
    """A tree of contents, whose entries are documents relative to the page."""
    return "\n".join(["```{toctree}", *([":hidden:"] if hidden else []), "", *entries, "```", ""])


def index(title: str, text: str, folder: str, rows: dict[str, str], head: tuple[str, str], shared: str = "") -> str:
    """A page that lists others with a line each.

    Args:
        title, text: above the table.
        folder: of the others.
        rows: their names and lines.
        head: of the table.
        shared: the beginning of all names, which navigation leaves out.
    """
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    lines += [f"| [{escaped(name)}]({folder}/{file_name(name)}.md) | {cell(line)} |" for name, line in rows.items()]
    places = {name: f"{folder}/{file_name(name)}" for name in rows}
    tree = toctree(f"{n.removeprefix(shared)} <{place}>" if shared else place for n, place in places.items())
    return f"# {title}\n\n{text}\n\n" + "\n".join(lines) + f"\n\n{tree}"


def file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)


def entry(key: str, field: pydantic.fields.FieldInfo) -> str:
    """A key as an entry of a definition list: allowed values, default, description."""
    from clbench.cli.show import _plain

    plain = "" if field.is_required() else _plain(field.default)
    default = "required" if field.is_required() else f"default `{plain}`" if plain else "default: empty"
    allowed = escaped(messages.describe(messages.annotation_of(field)))
    text = " ".join((field.description or "").split())
    return f"`{key}`\n: {allowed}; {default}\n" + (f"\n  {escaped(text)}\n" if text else "")


def keys(model: type[pydantic.BaseModel], prefix: str = "", without: str = "") -> str:
    """All keys of a model as a definition list."""
    return "\n".join(entry(prefix + key, model.model_fields[key]) for key in keys_of(model) if key != without)


def nested(model: type[pydantic.BaseModel], path: str, level: int, known: set[type]) -> str:
    """A section for each kind of keys and values below a model, once."""
    parts = []
    for key in keys_of(model):
        below = f"{path}.{key}"
        kinds = [m for m in messages.member_models(model.model_fields[key].annotation) if m not in known]
        for kind in kinds:
            known.add(kind)
            tag = next((t for t in ("by", "name") if t in kind.model_fields and messages.tags(kind)), None)
            named = "" if tag is None else f", {tag}: {' or '.join(messages.tags(kind))}"
            text = f"{'#' * level} `{below}`{named}\n\n{markdown(kind.__doc__, examples=False)}\n\n"
            body = keys(kind, without=tag or "")
            parts.append(text + (body or "No further keys.\n"))
            parts.append(nested(kind, below, level, known))
    return "\n".join(part for part in parts if part)


# ------------------------------------------------------------------------------------------------ strategies
def strategies() -> Pages:
    """A page for each strategy: its paper, equations, differences and hyper-parameters."""
    lines = catalogue("strategies")
    text = (
        "Each page has the paper, the equations, the differences from the paper and the hyper-parameters, as `clbench "
        "show NAME` prints them. [Strategies and published numbers](../../strategies/README.md) sorts them by kind and "
        "holds our numbers beside the published ones."
    )
    yield f"{FOLDER}/strategies.md", index("Strategies", text, "strategies", lines, ("name", "method"))
    for name in lines:
        module = importlib.import_module(registry.strategies()[name].partition(":")[0])
        config = registry.strategy_config(name)
        source = Path(inspect.getfile(module)).name
        shown = keys(config, "strategy.")
        kind = re.match(r"[^:.]{3,60}(?=:)", module.__doc__ or "")
        page = [
            f"# {name}: {escaped(kind[0])}" if kind else f"# {name}",
            markdown(module.__doc__, examples=False),
            f"Source: [strategies/{source}](../../../strategies/{source}).",
            "## Hyper-parameters",
            shown or "None.",
            nested(config, "strategy", 3, set()),
        ]
        yield f"{FOLDER}/strategies/{name}.md", "\n\n".join(filter(None, page)) + "\n"


# ------------------------------------------------------------------------------------------------ benchmarks
def benchmarks() -> Pages:
    """A page for each shipped benchmark: its file, its card, and its picture where the data are embedded."""
    lines = catalogue("streams")
    text = (
        "Each page has the benchmark's file and its card, as `clbench show ID` prints it; [Streams]"
        "(../../streams/README.md) is the grammar of the files. Cards that need a data set which is not embedded are "
        "printed where it is."
    )
    yield f"{FOLDER}/benchmarks.md", index("Benchmarks", text, "benchmarks", lines, ("id", "stream"))
    for name in lines:
        yield from benchmark(name)


def benchmark(name: str) -> Pages:
    """The page of a benchmark, and its picture."""
    from clbench.reports import stream_card
    from clbench.reports.figures import stream_figure
    from clbench.streams.compile import definition_hash

    path = registry.benchmark_path(name)
    assert path is not None
    resolved, _, seeds, *_ = resolve.resolve(name, need_strategy=False)
    embedded = resolved.stream.data in EMBEDDED
    if embedded:
        stream = compiled(name, resolved, seeds, None, outline(resolved.stream))
        card = stream_card.make(resolved, stream)
        yield f"{FOLDER}/benchmarks/{name}.png", stream_figure.draw(name, stream, ".png")
    else:
        reason = f"needs the data; `clbench show {name}` prints it where they are"
        card = stream_card.without_data(resolved, definition_hash(resolved.stream), reason)
    _, rest = stream_card.to_markdown(card).split("\n", 1)
    rest = re.sub(r"(?<=\| )(source|data set|setting) (?=\|)", r"\1 ", rest)
    full = yaml.safe_dump(resolved.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)
    picture = f"![Samples of each class in each experience of {name}]({name}.png)" if embedded else ""
    parts = [
        f"# {name}",
        escaped(" ".join(resolved.title.split())),
        picture,
        "## Card",
        rest.strip(),
        "## File",
        f"```yaml\n{path.read_text(encoding='utf-8').rstrip()}\n```",
        "## With every default",
        f"```yaml\n{full.rstrip()}\n```",
    ]
    yield f"{FOLDER}/benchmarks/{name}.md", "\n\n".join(filter(None, parts)) + "\n"


# ------------------------------------------------------------------------------------------------ metrics
def metrics() -> Pages:
    """A page for each metric."""
    rows = catalogue("metrics")
    text = (
        "All are functions of a saved trace. [What is measured](../explanations/what_is_measured.md) says which to "
        "use; the letters in formulas are those of `clbench.metrics.definition`:"
    )
    module = importlib.import_module("clbench.metrics.definition")
    letters = markdown((module.__doc__ or "").partition("\n\n")[2])
    numbers = importlib.import_module("clbench.metrics.measured")
    letters += "\n\n" + markdown(numbers.__doc__)
    yield f"{FOLDER}/metrics.md", index("Metrics", f"{text}\n\n{letters}", "metrics", rows, ("name", "meaning"))
    for name in dict.fromkeys([*METRICS, *NUMBERS]):
        parts = []
        if name in METRICS:
            parts = [*_metric(METRICS[name], METRICS[name].title), _words(METRICS[name])]
        if name in NUMBERS:
            parts += ["## Of errors and losses"] if parts else []
            parts += _metric(NUMBERS[name], NUMBERS[name].title.removeprefix("squared error, "))
            parts += [] if name in METRICS else [_words(NUMBERS[name])]
        yield f"{FOLDER}/metrics/{file_name(name)}.md", "\n\n".join([f"# {escaped(name)}", *filter(None, parts)]) + "\n"


def _metric(metric: Metric, title: str) -> list[str]:
    """A definition; of errors and losses that of the squared error, whose unit stands for that of any measure."""
    facts = {
        "formula": f"`{metric.formula}`",
        "source": escaped(metric.source),
        "range": f"{metric.range[0]:g} to {metric.range[1]:g}; {metric.direction}",
        "unit": metric.unit.replace("squared units", "that of the measure"),
        "parts": f"one for each {metric.per}",
    }
    table = "\n".join(
        [
            "| | |",
            "|---|---|",
            *(f"| {key} | {value.replace('|', chr(92) + '|')} |" for key, value in facts.items()),
        ]
    )
    return [escaped(title), table]


def _words(metric: Metric) -> str:
    return markdown(getattr(metric.compute, "func", metric.compute).__doc__)


# ------------------------------------------------------------------------------------------------ keys of files
def grammar() -> Pages:
    """A page for each section of a benchmark's file, for models, data sets, and for a study's file."""
    rows = {name: summary(model.__doc__) for name, model in SECTIONS.items()}
    rows["model"] = "A network by its name."
    rows["data"] = "Names of data sets."
    text = (
        "Every key of a benchmark's file, of `-o KEY.PATH=VALUE` and of a study's file, with its allowed values and "
        "its default; `clbench show SECTION` prints the same."
    )
    yield f"{FOLDER}/keys.md", index("Keys of files", text, "keys", rows, ("section", "contents"))
    for name, model in SECTIONS.items():
        prefix = "" if name == "study" else f"{name}."
        body = [
            f"# {name}",
            markdown(model.__doc__, examples=False),
            keys(model, prefix),
            nested(model, name, 2, {model}),
        ]
        yield f"{FOLDER}/keys/{name}.md", "\n\n".join(filter(None, body)) + "\n"
    kinds = []
    for model in messages.member_models(networks.Network):
        name = messages.tags(model)[0]
        kinds += [
            f"## {name}",
            markdown(model.__doc__, examples=False),
            keys(model, "model.", without="name"),
            nested(model, "model", 3, set()),
        ]
    head = "# model\n\nA network by its name, with its keys beside that: `model: {name: mlp, hidden: [100]}`."
    yield f"{FOLDER}/keys/model.md", "\n\n".join([head, *filter(None, kinds)]) + "\n"
    table = [f"| `{name}` | {cell(line)} |" for name, line in catalogue("datasets").items()]
    head = "# data\n\nNames for `stream.data`; [Data](../../howto/data.md) says where they are looked up."
    yield f"{FOLDER}/keys/data.md", "\n".join([head, "", "| name | contents |", "|---|---|", *table, ""])


# ------------------------------------------------------------------------------------------------ command line
def verbs() -> Pages:
    """A page for each verb of the command line."""
    parser = cli.parser()
    (choices,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    lines = {action.dest: action.help or "" for action in choices._choices_actions}
    text = "`clbench VERB --help` prints the same. [Exit statuses](../running.md#exit-status)."
    yield f"{FOLDER}/command_line.md", index("Command line", text, "command_line", lines, ("verb", "purpose"))
    for name, verb in choices.choices.items():
        usage = _wide(verb.format_usage)
        parts = [f"# clbench {name}", escaped(lines[name]), f"```text\n{usage.removeprefix('usage: ').rstrip()}\n```"]
        parts += [_argument(verb, action) for action in verb._actions if action.dest != "help"]
        yield f"{FOLDER}/command_line/{name}.md", "\n\n".join(parts) + "\n"


def _wide(written: Callable[[], str]) -> str:
    """Text of argparse at 100 columns, whatever the terminal."""
    import os

    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"
    try:
        return written()
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _argument(verb: argparse.ArgumentParser, action: argparse.Action) -> str:
    """An argument as an entry of a definition list."""
    value = (
        ""
        if action.nargs == 0
        else str(action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper()))
    )
    flags = ", ".join(f"{flag} {value}".strip() for flag in action.option_strings) or value
    help_ = (action.help or "").replace("%%", "%")
    notes = [help_] if help_ else []
    if action.nargs in ("+", "*"):
        notes.append("one or more" if action.nargs == "+" else "any number")
    if isinstance(action, argparse._AppendAction) and "repeat" not in help_:
        notes.append("repeatable")
    return f"`{flags}`\n: {escaped('; '.join(notes) or 'one of these')}"


# ------------------------------------------------------------------------------------------------ files of a run
def run_files(root: Path) -> Pages:
    """Keys of run.json, arrays of trace.npz and columns of leaderboard.csv, each with an example."""
    folder = root / "results" / "reference"
    path = sorted(folder.glob("split_digits-v1/er/*/seed-0/run.json"))[0]
    record = json.loads(path.read_text(encoding="utf-8"))
    rows = [f"| `{key}` | {kind} | {cell(example)} |" for key, kind, example in _flat(record)]
    text = (
        "# Keys of run.json\n\nEvery key of the file of one run of the reference study, "
        f"`{path.relative_to(root).as_posix()}`; [Files of a run](../../results/README.md#runjson) says what they "
        "mean. Of metrics and packages two of each are listed.\n\n| key | kind | example |\n|---|---|---|\n"
    )
    yield f"{FOLDER}/run_json.md", text + "\n".join(rows) + "\n"
    yield f"{FOLDER}/trace_npz.md", _trace()
    with (folder / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        names, values, *_ = csv.reader(file)
    rows = [f"| `{name}` | {cell(_short(value))} |" for name, value in zip(names, values, strict=True)]
    text = (
        "# Columns of leaderboard.csv\n\nEvery column of `results/reference/leaderboard.csv`, with its value in the "
        "first row; [Files of a run](../../results/README.md#leaderboardcsv-and-runscsv) says what they mean. A metric "
        "has seven columns.\n\n| column | example |\n|---|---|\n"
    )
    yield f"{FOLDER}/leaderboard_csv.md", text + "\n".join(rows) + "\n"


def _trace() -> str:
    """The page of the arrays, with the shapes of a small trace."""
    import numpy as np

    from clbench.testing import make_trace
    from clbench.trace import Trace

    arrays = make_trace(np.full((2, 12, 3), 0.5), size=100, prequential=np.ones((2, 250), bool)).arrays()
    rows = [f"| `{name}` | {array.dtype} | {array.shape or 'one number'} |" for name, array in arrays.items()]
    return (
        "# Arrays of trace.npz\n\n[Files of a run](../../results/README.md#tracenpz) says how the file is written, "
        "[Read a trace](../howto/read_a_trace.md) how it is used.\n\n"
        f"{markdown(Trace.__doc__)}\n\n## An example\n\n"
        "The arrays of two experiences of ten updates each, on three tasks of one class with 100 test samples each, "
        "evaluated after every update, and with 500 incoming samples:\n\n| array | kind | shape |\n|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def _short(value: str) -> str:
    return value if len(value) <= 60 else f"{value[:57]}..."


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Leaves of nested keys: path, kind, and value in short."""
    if isinstance(value, dict) and value:
        many = path == "provenance.packages" or (path.count(".") == 1 and path.startswith("metrics."))
        for key in [*value][: 2 if many else None]:
            yield from _flat(value[key], f"{path}.{key}" if path else key)
        return
    kind = {dict: "keys and values", list: "list", str: "text", bool: "true or false", int: "integer", float: "number"}
    text = json.dumps(value, ensure_ascii=False)
    yield path, kind.get(type(value), "null"), f"`{_short(text)}`"
