"""Provenance: versions, hashes of code and data, processors; each value with the runs that have it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from clbench.formatting import ranges
from clbench.reports.html.boards import BoardRuns
from clbench.reports.tabular import plain
from clbench.results.record import Record

_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "avalanche-lib", "torchvision")


@dataclass(frozen=True)
class _Fact:
    """Something that a run's record says of how it was made."""

    text: str
    of: Callable[[Record], str | None]


def _git(record: Record) -> str | None:
    git = record.provenance.git
    if git is None or git.commit is None:
        return None
    return git.commit + (" with changes" if git.dirty else "")


def _package(name: str) -> _Fact:
    return _Fact(name, lambda record: record.provenance.packages.get(name))


def _settings(record: Record) -> str:
    numerics = record.config.numerics.model_dump(exclude_none=True)
    return ", ".join(f"{key} {value}" for key, value in sorted(numerics.items()))


FACTS = (
    _Fact("clbench", lambda record: record.provenance.clbench),
    _Fact("commit", _git),
    _Fact("code (SHA-256)", lambda record: record.provenance.code_sha256),
    _Fact("study", lambda record: record.provenance.study),
    _Fact("Python", lambda record: record.provenance.python),
    *map(_package, _PACKAGES),
    _Fact("processor", lambda record: record.provenance.cpu),
    _Fact("GPU", lambda record: record.provenance.gpu),
    _Fact("numerics", _settings),
)


def section(boards: Sequence[BoardRuns]) -> dict[str, Any]:
    """Facts of all runs, the hashes of each board, and modules of the user's."""
    runs = [(f"{board.title} {method.name}", source.record) for board in boards for method in board.methods
            for source in method.sources]  # fmt: skip
    facts = []
    for fact in FACTS:
        values: dict[str, list[tuple[str, Record]]] = {}
        for name, record in runs:
            value = fact.of(record)
            if value is not None:
                values.setdefault(plain(value), []).append((name, record))
        if values:
            facts.append(
                {"text": fact.text, "values": [_value(value, some, len(runs)) for value, some in values.items()]}
            )
    return {"facts": facts, "boards": [_board(board) for board in boards], "modules": _modules(runs)}


def _value(value: str, some: list[tuple[str, Record]], every: int) -> dict[str, Any]:
    names = list(dict.fromkeys(name for name, _ in some))
    who = "" if len(some) == every else f"{len(some)} of {every} runs"
    return {"text": value, "who": who, "names": names if who and len(names) <= 8 else []}


def _board(board: BoardRuns) -> dict[str, Any]:
    instances: dict[str, set[int]] = {}
    for record in board.records:
        if record.stream is not None:
            instances.setdefault(record.stream.instance_hash, set()).add(record.seed)
    row = board.methods[0].row
    return {
        "title": board.title,
        "definition": row["definition_hash"],
        "data": plain(str(row["data_sha256"] or "unknown")),
        "origin": plain(str(row["data_origin"] or "")),
        "instances": [{"hash": plain(hash_), "seeds": ranges(sorted(seeds))} for hash_, seeds in instances.items()],
        "configurations": [
            {
                "name": method.name,
                "row": method.row["row_id"],
                "config": method.row["config_hash"],
                "parameters": plain(method.row["parameters"]),
                "model": plain(f"{method.row['model']} {method.row['model_settings']}".strip()),
                "optimizer": plain(f"{method.row['optimizer']} {method.row['optimizer_settings']}".strip()),
            }
            for method in board.methods
        ],
    }


def _modules(runs: Sequence[tuple[str, Record]]) -> list[dict[str, str]]:
    """Modules of the user's, with the SHA-256 of each."""
    modules = {
        (name, digest or "source not available")
        for _, record in runs
        for name, digest in (record.provenance.user_code or {}).items()
    }
    return [{"name": plain(name), "digest": plain(digest)} for name, digest in sorted(modules)]
