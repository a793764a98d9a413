"""`clbench report`: one HTML file of runs, which opens without a server or a network."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clbench.cli.arguments import metrics_asked, metrics_in, say_left_out
from clbench.errors import UserError

if TYPE_CHECKING:
    from clbench.cli.arguments import Verbs
    from clbench.metrics.field_names import Asked
    from clbench.reports.html.page import Contents
    from clbench.reports.html.sources import Reader
    from clbench.studies.study import Study

_POLL_S = 3.0
_RELOAD_S = 5
_SHARE = 0.2
"""Largest share of the time in which the report is made again while it is followed."""


def add(verbs: Verbs) -> None:
    """The verb."""
    report = verbs.add_parser("report", help="one HTML file of runs: tables, curves, comparisons, provenance")
    report.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="STUDY.yaml|DIR",
        help="folders with runs at or below them, default ./results; with a study only its runs, and its progress",
    )
    report.add_argument("-o", "--out", type=Path, default=Path("report.html"), metavar="FILE")
    report.add_argument("--metric", action="append", metavar="NAME", help="a metric of the tables; may be repeated")
    report.add_argument(
        "--follow",
        action="store_true",
        help="write the file again whenever runs change, until the study has ended or Ctrl-C; the page reloads itself",
    )
    report.set_defaults(act=_report)


def _report(options: argparse.Namespace) -> int:
    metrics = metrics_asked(options.metric, "--metric")
    studies = [path for path in options.paths if path.suffix in (".yaml", ".yml") and not path.is_dir()]
    folders = [path for path in options.paths if path not in studies] or [Path("results")]
    if len(studies) > 1:
        raise UserError(f"{studies[1]}: a second study; a report is about one study, or about folders.")
    if studies and len(folders) > 1:
        raise UserError(f"{folders[1]}: a second folder; the runs of a study are in one folder.")
    from clbench.reports.html.sources import Reader

    study = None
    if studies:
        from clbench.studies.study import read

        study = read(studies[0])
    missing = [folder for folder in folders if not folder.exists()]
    if missing and not (options.follow and study is not None):
        raise UserError(*(f"{folder}: no such folder; runs are written there by `clbench run`." for folder in missing))
    report = _Report(Reader(), folders, study, options.out, metrics)
    if options.follow:
        report.follow()
    else:
        report.write(None)
        say_left_out(report.excluded)
    print(options.out)
    return 0


class _Report:
    """A report that can be written again."""

    def __init__(
        self, reader: Reader, folders: Sequence[Path], study: Study | None, out: Path, metrics: list[Asked] | None
    ) -> None:
        self._reader, self._folders, self._study, self._out, self._metrics = reader, folders, study, out, metrics
        self.excluded: list[str] = []

    def write(self, reload_s: int | None) -> bool:
        """Writes the file; returns whether the study has ended."""
        from clbench.reports.html import page
        from clbench.results import files

        contents = self._contents(reload_s)
        files.write_bytes(self._out, page.build(contents))
        return contents.progress is not None and contents.progress.has_ended

    def _contents(self, reload_s: int | None) -> Contents:
        from clbench.reports.html.page import Contents

        progress, ids, text = None, None, None
        title = ", ".join(folder.resolve().name for folder in self._folders)
        if self._study is not None:
            from clbench.studies.progress import survey

            progress, ids = survey(self._study, self._folders[0])
            title = self._study.config.title or self._study.config.id
            text = (Path(self._study.source).name, Path(self._study.source).read_text(encoding="utf-8"))
        sources, self.excluded = self._reader.read([folder for folder in self._folders if folder.exists()])
        if ids is not None:
            sources = [source for source in sources if source.record.run_id in ids]
        if not sources and self._study is None and reload_s is None:
            raise UserError(*(self.excluded or [f"{folder}: no run.json there or below." for folder in self._folders]))
        metrics = metrics_in(self._metrics, (source.record.primary_view for source in sources))
        return Contents(title, sources, self.excluded, metrics, text, progress, reload_s)

    def follow(self) -> None:
        """Writes the file whenever runs change, until the study has ended or Ctrl-C; then for the last time."""
        from clbench.reports.html.sources import state

        before = None
        try:
            while True:
                now = state(self._folders)
                wait_s = _POLL_S
                if now != before:
                    begun = time.monotonic()
                    if self.write(_RELOAD_S):
                        break
                    if before is None:
                        print(f"{self._out}: written again while runs change; Ctrl-C ends it.", flush=True)
                    before = now
                    wait_s = max(wait_s, (time.monotonic() - begun) * (1 - _SHARE) / _SHARE)
                time.sleep(wait_s)
        except KeyboardInterrupt:
            pass
        self.write(None)
