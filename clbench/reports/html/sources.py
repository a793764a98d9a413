"""Runs below some folders, with what the report draws of their traces. Files that did not change are not read again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clbench.errors import UserError
from clbench.reports.html.digest import Digest
from clbench.results import load
from clbench.results.record import Record, located

NO_TRACE = "no trace.npz"

Stamp = tuple[tuple[str, int, int], ...]
"""Name, size and time of the last change of each file of a run."""


@dataclass(frozen=True)
class Source:
    """A run.

    Attributes:
        directory: the run's folder.
        record: its run.json.
        digest: of its trace, of an unfinished or failed run up to its last evaluation; None where there is none.
        without: reason why there is no digest; None where there is one.
    """

    directory: Path
    record: Record
    digest: Digest | None
    without: str | None


@dataclass
class Reader:
    """Reads runs, and remembers the digests of traces whose files did not change."""

    _known: dict[Path, tuple[Stamp, Digest | None, str | None]] = field(default_factory=dict)

    def read(self, paths: Sequence[Path]) -> tuple[list[Source], list[str]]:
        """The runs at or below some folders, each once, and a sentence for each excluded file.

        Raises:
            UserError: a path that is no folder.
        """
        problems = [f"{path}: {'not a folder' if path.exists() else 'no such folder'}." for path in paths
                    if not path.is_dir()]  # fmt: skip
        if problems:
            raise UserError(*problems)
        runs, excluded = located(*paths)
        sources = []
        for directory, record in sorted(runs, key=lambda run: (run[1].run_id, str(run[0]))):
            stamp = stamped(directory)
            known = self._known.get(directory)
            if known is None or known[0] != stamp:
                known = self._known[directory] = (stamp, *_digest(directory, record))
            sources.append(Source(directory, record, known[1], known[2]))
        return sources, excluded


def stamped(directory: Path) -> Stamp:
    """The state of a run's files that the report reads."""
    stamps = []
    for path in [directory / "run.json", directory / "trace.npz", *sorted((directory / "trace").glob("*.npz"))]:
        try:
            stat = path.stat()
        except OSError:  # moved meanwhile
            continue
        stamps.append((path.name, stat.st_size, stat.st_mtime_ns))
    return tuple(stamps)


def state(folders: Sequence[Path]) -> tuple[tuple[str, Stamp], ...]:
    """The state of the files of all runs below some folders, trials included, without reading them."""
    directories = {path.parent for folder in folders for path in folder.rglob("run.json")}
    return tuple((str(directory), stamped(directory)) for directory in sorted(directories))


def _digest(directory: Path, record: Record) -> tuple[Digest | None, str | None]:
    """The digest of a run's trace, of an unfinished run up to its last evaluation, or the reason why there is none."""
    if record.status == "completed" and not (directory / "trace.npz").exists():
        return None, NO_TRACE
    try:
        run = load.read(directory, record.raw, partial=True)
        return Digest.of(run.trace, run.view()), None
    except UserError as error:
        return None, str(error)
