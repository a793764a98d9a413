"""The command line. Verbs that need no training import neither torch nor pandas.

A verb's module is imported where that verb is named: `clbench doctor` works where what others import is missing.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys

from clbench import __version__, import_paths
from clbench.cli import status
from clbench.cli.arguments import Parser
from clbench.errors import UserError
from clbench.studies.engines.environment import waiting

VERBS = (
    "run", "grid", "list", "show", "validate", "init", "leaderboard", "compare", "verify", "plot", "report", "score",
    "rescore", "features", "weights", "remove", "doctor", "completion",
)  # fmt: skip
"""Each in a module of that name."""


BEGIN = """\
to begin:
  clbench run split_digits --strategy er     a run of seconds, on data that are installed already
  clbench list strategies                    what else there is; also streams, datasets, models, metrics, runs
  clbench show er                            one of them in full
  clbench doctor                             whether this environment fits
  clbench VERB --help                        the flags of a verb
"""


def parser(verb: str | None = None) -> Parser:
    """The parser of one verb, or of all."""
    whole = Parser(
        prog="clbench", description="Continual-learning benchmarks, evaluated at every iteration.", epilog=BEGIN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    whole.add_argument("--version", action="version", version=f"clbench {__version__}")
    verbs = whole.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    for name in VERBS if verb is None else [verb]:
        importlib.import_module(f"clbench.cli.{name}").add(verbs)
    return whole


def _write_utf8() -> None:
    """Writes UTF-8, for pipes on Windows, whose default code page lacks some of our characters."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """The command `clbench`. Returns the exit status; see `clbench.cli.status`."""
    if sys.platform == "win32":
        _write_utf8()
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] == "help":
        arguments = [*arguments[1:2], "--help"]
    try:
        named = arguments[0] if arguments and arguments[0] in VERBS else None
        options = parser(named).parse_args(arguments)
        import_paths.add_working_directory()
        os.environ.update(waiting())  # before any verb imports torch
        return int(options.act(options))
    except UserError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return status.MISTAKE
    except ImportError as error:
        if (error.name or "clbench").partition(".")[0] == "clbench":
            raise
        print(f"{error}; `clbench doctor` says what this environment lacks.", file=sys.stderr)
        return status.MISTAKE
    except KeyboardInterrupt as stop:
        print(str(stop) or "interrupted; the same command restarts.", file=sys.stderr)
        return status.INTERRUPTED
    except BrokenPipeError:  # `clbench list ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return status.DONE
