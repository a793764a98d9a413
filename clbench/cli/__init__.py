"""The command line. Verbs that need no training import neither torch nor pandas."""

from __future__ import annotations

import io
import os
import sys

from clbench import __version__, import_paths
from clbench.cli import compare, grid, leaderboard, plot, report, rescore, run, score, show, status, validate, verify
from clbench.cli import list as list_
from clbench.cli.arguments import Parser
from clbench.errors import UserError
from clbench.studies.engines.environment import waiting


def _parser() -> Parser:
    parser = Parser(prog="clbench", description="Continual-learning benchmarks, evaluated at every iteration.")
    parser.add_argument("--version", action="version", version=f"clbench {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    for each in (run, grid, list_, show, validate, leaderboard, compare, verify, plot, report, score, rescore):
        each.add(verbs)
    return parser


def _write_utf8() -> None:
    """Writes UTF-8, for pipes on Windows, whose default code page lacks some of our characters."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """The command `clbench`. Returns the exit status; see `clbench.cli.status`."""
    if sys.platform == "win32":
        _write_utf8()
    options = _parser().parse_args(arguments)
    import_paths.add_working_directory()
    os.environ.update(waiting())  # before any verb imports torch
    try:
        return int(options.act(options))
    except UserError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return status.MISTAKE
    except KeyboardInterrupt as stop:
        print(str(stop) or "interrupted; the same command restarts.", file=sys.stderr)
        return status.INTERRUPTED
    except BrokenPipeError:  # `clbench list ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return status.DONE
