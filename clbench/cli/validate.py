"""`clbench validate`: every mistake in a file alone."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from clbench import resolve
from clbench.errors import UserError

if TYPE_CHECKING:
    from clbench.cli.arguments import Verbs


def add(verbs: Verbs) -> None:
    """The verb."""
    validate = verbs.add_parser("validate", help="check YAML files without running them")
    validate.add_argument("files", nargs="+", metavar="FILE")
    validate.set_defaults(act=_validate)


def _validate(options: argparse.Namespace) -> int:
    problems: list[str] = []
    for name in options.files:
        try:
            resolve.resolve(name, need_strategy=False)
            print(f"{name}: ok")
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(*problems)
    return 0
