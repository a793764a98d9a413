"""`clbench validate`: every mistake in files alone, of benchmarks and of studies."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from clbench import registry, resolve
from clbench.cli.stream_argument import named
from clbench.errors import UserError

if TYPE_CHECKING:
    from clbench.cli.arguments import Verbs

_OF_STUDIES = {"streams", "strategies"}
"""Keys by which a study is told from a benchmark."""


def add(verbs: Verbs) -> None:
    """The verb."""
    validate = verbs.add_parser("validate", help="check YAML files of benchmarks and studies without running them")
    validate.add_argument(
        "files", nargs="+", metavar="FILE", help="a benchmark or a study, a folder of them, or a benchmark's id"
    )
    validate.set_defaults(act=_validate)


def _validate(options: argparse.Namespace) -> int:
    problems: list[str] = []
    for name in options.files:
        try:
            for path in _files(name):
                mistakes = _mistakes(path)
                problems += mistakes
                if not mistakes:
                    print(f"{path}: ok")
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(*problems)
    return 0


def _files(name: str) -> Iterator[str]:
    """A file or an id; of a folder the YAML files below it, hidden ones left out.

    Raises:
        UserError: a folder without such a file.
    """
    folder = Path(name)
    if not folder.is_dir():
        yield named(name)
        return
    paths = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".yaml", ".yml") and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    ]
    if not paths:
        raise UserError(f"{name}: no YAML file there or below.")
    yield from map(str, paths)


def _mistakes(name: str) -> list[str]:
    try:
        if _is_study(name):
            from clbench.studies.study import read

            return read(Path(name)).mistakes()
        resolve.resolve(name, need_strategy=False)
    except UserError as error:
        return list(error.problems)
    return []


def _is_study(name: str) -> bool:
    """True for a file with a key that only studies have."""
    from clbench.config import strict_yaml

    if registry.benchmark_path(name) is not None or not Path(name).is_file():
        return False
    return bool(_OF_STUDIES & strict_yaml.parse_file(Path(name)).keys())
