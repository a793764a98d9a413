"""Names of streams, strategies, data sets, models and metrics, with a line each."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

from clbench import messages, registry, resolve
from clbench.config import networks

KINDS = ("streams", "strategies", "datasets", "models", "metrics")

_SENTENCE_END = re.compile(r"[.!?](?=$| [A-Z`])")


def summary(text: str | None) -> str:
    """The sentences that end in the first line of a text, or the first one, however long it is.

    >>> summary("One. Two. Three that goes\\non.")
    'One. Two.'
    >>> summary("One that goes\\n    on, i.e. further. Two.")
    'One that goes on, i.e. further.'
    """
    first, *_ = inspect.cleandoc(text or "").split("\n\n")
    line = first.partition("\n")[0].rstrip()
    words = " ".join(first.split())
    ends = [match.end() for match in _SENTENCE_END.finditer(words)] or [len(words)]
    return words[: max((end for end in ends if end <= len(line)), default=ends[0])]


def words(function: Any) -> str:
    """Docstring of a function, without its examples."""
    return inspect.cleandoc(function.__doc__ or "").partition(">>>")[0].strip()


def catalogue(kind: str) -> dict[str, str]:
    """Names of a kind with a line each."""
    if kind == "streams":
        return {
            name: resolve.flatten(resolve.load_benchmark(name)).get("title", "")
            for name in sorted(registry.benchmarks())
        }
    if kind == "strategies":
        table = registry.strategies()
        return {n: summary(importlib.import_module(p.partition(":")[0]).__doc__) for n, p in sorted(table.items())}
    if kind == "datasets":
        names: dict[str, str] = registry.datasets().available()
        return {
            **names,
            "npz:PATH": "your arrays: train_x, train_y, test_x, test_y, or x, y; with task labels if they exist",
            "npy:FOLDER": "the same as files train_x.npy, ..., left on the disk: for data larger than memory",
            "csv:PATH": "a table, whose columns stream.columns names; also compressed, .csv.gz",
            "parquet:PATH": "the same as Parquet; needs pyarrow",
            "hf:FOLDER": "a table or images that Hugging Face's save_to_disk wrote; needs pyarrow",
            "folder:PATH": "images in class folders, below train and test or in one level",
            "lazy:package.module:Name": "a torch data set whose items are read on demand",
            "package.module:Name": "your function that returns such arrays, or a data set class",
        }
    if kind == "models":
        return {messages.tags(m)[0]: summary(m.__doc__) for m in messages.member_models(networks.Network)}
    from clbench.metrics import METRICS

    return {name: metric.title for name, metric in METRICS.items()}
