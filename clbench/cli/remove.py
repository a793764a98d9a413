"""`clbench remove`: folders of runs."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clbench.cli import status
from clbench.cli.arguments import say_left_out
from clbench.errors import UserError
from clbench.formatting import compact

if TYPE_CHECKING:
    from clbench.cli.arguments import Verbs


def add(verbs: Verbs) -> None:
    """The verb."""
    remove = verbs.add_parser("remove", help="remove runs, after a question")
    remove.add_argument(
        "runs", nargs="+", metavar="RUN|ROW", help="a run's folder, or a prefix of the row_id in a leaderboard"
    )
    remove.add_argument(
        "--in", dest="within", type=Path, default=Path("results"), metavar="DIR", help="folder of the rows"
    )
    remove.add_argument("--superseded", action="store_true", help="also results of these runs that were replaced")
    remove.add_argument("--yes", action="store_true", help="do not ask")
    remove.set_defaults(act=_remove)


@dataclass(frozen=True)
class _Run:
    """A run to remove.

    Attributes:
        directory: its folder.
        raw: its run.json.
        locked: the folder whose lock is the run's: its own, or of a replaced result that of the run around it.
        entries: what goes: files, links and folders of the run.
        kept: names of what stays.
    """

    directory: Path
    raw: dict[str, Any]
    locked: Path
    entries: tuple[Path, ...]
    kept: tuple[str, ...]


def _remove(options: argparse.Namespace) -> int:
    from clbench.runner.lock import holder

    directories, problems = _directories(options.runs, options.within)
    say_left_out(problems)
    mistakes: list[str] = []
    runs: list[_Run] = []
    for directory in directories:
        try:
            runs.append(_planned(directory, options.superseded))
        except UserError as error:
            mistakes += error.problems
    if mistakes:
        raise UserError(*mistakes)
    idle = []
    for run in runs:
        user = holder(run.locked)
        if user is None:
            idle.append(run)
        else:
            print(f"{run.directory}: in use by {user}; not removed", file=sys.stderr)
    size = 0
    for run in idle:
        size += sum(map(_size, run.entries))
        print(_line(run))
    if not idle:
        return status.BUSY
    if not options.yes and not _agreed(f"Remove {_count(len(idle))}, {compact(size / 2**20)} MiB?"):
        print("nothing removed")
        return status.DONE
    done = [_removed(run) for run in idle]
    print(f"removed: {_count(sum(done))}")
    return status.DONE if sum(done) == len(runs) else status.BUSY


def _directories(texts: list[str], within: Path) -> tuple[list[Path], list[str]]:
    """The folders of some runs and rows, each once, and a sentence for each file that cannot be read.

    Raises:
        UserError: a text names neither a run nor a row.
    """
    from clbench.reports import selection

    directories: dict[Path, Path] = {}
    mistakes: list[str] = []
    left_out: list[str] = []
    for text in texts:
        try:
            directory = selection.run_directory(text)
            if directory is None and Path(text).exists():
                raise UserError(f"{text}: no run of clbench; it holds no run.json.")
            chosen = [directory] if directory is not None else []
            if directory is None:
                row, problems = selection.row(text, within)
                left_out += problems
                chosen = [run.directory for run in row.runs]
        except UserError as error:
            mistakes += error.problems
            continue
        for each in chosen:
            directories.setdefault(each.absolute(), each)
    if mistakes:
        raise UserError(*mistakes)
    return list(directories.values()), list(dict.fromkeys(left_out))


def _planned(directory: Path, superseded: bool) -> _Run:
    """Contents of a folder: files of the run, and those that stay.

    Raises:
        UserError: the folder is a link, or holds no run of clbench.
    """
    from clbench.results import files

    if directory.is_symlink() or (directory / "run.json").is_symlink():
        raise UserError(f"{directory}: a link; name the folder that it leads to.")
    raw = files.read_run(directory)
    replaced = directory.parent.name == files.SUPERSEDED
    if replaced and not superseded:
        raise UserError(f"{directory}: a result that was replaced; --superseded removes it.")
    removed = files.OF_A_RUN | ({files.SUPERSEDED} if superseded else set())
    entries, kept = [], []
    for path in sorted(directory.iterdir()):
        temporary = path.name.startswith(".") and path.name.endswith(".tmp")
        if path.name in removed or temporary:
            entries.append(path)
        elif path.name != ".lock":
            kept.append(path.name)
    entries.sort(key=lambda path: path.name == "run.json")  # last: what is stopped on the way can be repeated
    return _Run(directory, raw, directory.parent.parent if replaced else directory, tuple(entries), tuple(kept))


def _line(run: _Run) -> str:
    from clbench.reports.run_summary import printable

    raw = run.raw
    try:
        label = f"{raw['benchmark']} {raw['config']['strategy']['name']} seed {raw['config']['seed']}, {raw['status']}"
    except (KeyError, TypeError):
        label = "damaged"
    stays = f"; stays: {', '.join(run.kept)}" if run.kept else ""
    return printable(f"{run.directory}: {label}{stays}")


def _count(runs: int) -> str:
    return f"{runs} run{'' if runs == 1 else 's'}"


def _size(path: Path) -> int:
    """Bytes of a file, or of the files below a folder; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum((Path(top) / name).lstat().st_size for top, _, names in os.walk(path) for name in names)


def _agreed(question: str) -> bool:
    """The user's answer.

    Raises:
        UserError: nobody can be asked.
    """
    if not sys.stdin.isatty():
        raise UserError("nothing removed: no terminal to ask on; --yes removes without asking.")
    print(f"{question} [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().casefold() in ("y", "yes")


def _removed(run: _Run) -> bool:
    """Removes a run under its lock; False where another process has it."""
    from clbench.runner.lock import Busy, Lock

    try:
        with Lock(run.locked):
            for path in run.entries:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)  # a link goes, what it leads to stays
    except Busy as busy:
        print(f"{run.directory}: in use by {busy}; not removed", file=sys.stderr)
        return False
    except OSError as error:
        raise UserError(f"{run.directory}: cannot be removed: {error.strerror}.") from None
    for folder in _emptied(run):
        with contextlib.suppress(OSError):  # it is not empty
            folder.rmdir()
    return True


def _emptied(run: _Run) -> Iterator[Path]:
    """The folder, and those above it that only runs made, from below; they go where nothing is left in them."""
    directory = run.directory
    yield directory
    if run.locked != directory:
        yield from (directory.parent, run.locked)
        directory = run.locked
    above = directory.absolute().parents
    if directory.name.startswith("seed-") and str(run.raw["config_hash"]).startswith(above[0].name):
        yield from above[:3]
