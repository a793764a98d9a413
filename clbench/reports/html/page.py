"""The whole page: sections, style, scripts, and the plotting library, in one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from clbench.metrics import Metric, metrics_of
from clbench.reports import tables
from clbench.reports.figures.figure_style import PALETTE
from clbench.reports.html import boards as grouping
from clbench.reports.html import embedding
from clbench.reports.html.boards import BoardRuns
from clbench.reports.html.sections import (
    accuracy,
    costs,
    differences,
    gaps,
    libraries,
    matrices,
    progress,
    provenance,
    ranking,
    streams,
    unfinished,
)
from clbench.reports.html.sections.progress import Progress
from clbench.reports.html.sources import Source
from clbench.reports.tabular import plain

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDER = Path(__file__).resolve().parent
_SCRIPTS = (
    "encoding.js",
    "state.js",
    "tables.js",
    "legend.js",
    "figures.js",
    "drawing.js",
    "differences.js",
    "main.js",
)
_SHOWN_AT_FIRST = 7
"""Methods of a board whose curves are drawn at first: as many as there are colours."""


@dataclass(frozen=True)
class Contents:
    """Contents of a report.

    Attributes:
        title: above everything.
        sources: the runs.
        excluded: a sentence for each file that was left out.
        metrics: names of those in the leaderboards; None for the usual ones.
        study: name and text of the study's file.
        progress: of the study.
        reload_s: seconds after which the page loads itself again; None for a final report.
    """

    title: str
    sources: Sequence[Source]
    excluded: Sequence[str] = ()
    metrics: Sequence[str] | None = None
    study: tuple[str, str] | None = None
    progress: Progress | None = None
    reload_s: int | None = None


def build(contents: Contents) -> bytes:
    """The page in UTF-8: the same runs, the same bytes.

    Raises:
        UserError: the plotting library is not installed.
    """
    grouped = grouping.boards(contents.sources, contents.metrics)
    columns = accuracy.columns(grouped)
    boards = [_board(board, columns) for board in grouped]
    script, plotly = _script(), embedding.plotting_library()
    statuses = [source.record.status for source in contents.sources]
    counts = {"completed": statuses.count("completed"), "failed": statuses.count("failed")}
    text = _environment().get_template("page.html").render(
        title=plain(contents.title),
        policy=embedding.content_security_policy([script, plotly]),
        style=Markup(_static("report.css")),
        script=Markup(script),
        plotly=Markup(plotly),
        boards=boards,
        runs=len(statuses),
        completed=counts["completed"],
        failed=counts["failed"],
        unfinished=len(statuses) - sum(counts.values()),
        progress=None if contents.progress is None else progress.section(contents.progress),
        without_result=unfinished.section(grouped, contents.excluded),
        provenance=provenance.section(grouped),
        study=None if contents.study is None else (plain(contents.study[0]), contents.study[1]),
        explanation=_explanation(contents, grouped),
        definitions=_definitions(boards),
        settings={"reload_s": contents.reload_s, "palette": PALETTE},
    )  # fmt: skip
    return text.encode()


def _explanation(contents: Contents, grouped: Sequence[BoardRuns]) -> list[str]:
    """Lines below the leaderboards."""
    records = [source.record for source in contents.sources]
    views = dict.fromkeys(board.view for board in grouped) or ["class"]
    lines = [tables.SPREADS["interval"], *tables.ranks(views)]
    lines += [tables.SCRIPT] * any(record.made_by == "script" for record in records)
    return [*lines, *[tables.MODIFIED] * any(record.modified for record in records)]


def _board(board: BoardRuns, columns: int) -> dict[str, Any]:
    """Values of the sections of a board."""
    ranked = sorted(
        range(len(board.methods)), key=lambda i: (not board.methods[i].digests, i)
    )  # the first ones that have curves
    return {
        "id": f"board-{board.number}",
        "title": board.title,
        "view": board.view,
        "measure": board.measure,
        "tip": "" if board.measure is None else f"{board.measure.name}-",
        "quantity": "accuracy" if board.measure is None else board.measure.title,
        "table_title": board.table.title,
        "methods": [
            {"name": method.name, "runs": len(method.digests), "unfinished": method.is_unfinished}
            for method in board.methods
        ],
        "shown": sorted(ranked[:_SHOWN_AT_FIRST]),
        "with_curves": [i for i, method in enumerate(board.methods) if method.digests],
        "without_trace": [method.name for method in board.without_trace],
        "partly": [
            f"{method.name} ({len(method.digests)} of {len(method.completed)})"
            for method in board.methods
            if not method.is_unfinished and 0 < len(method.digests) < len(method.completed)
        ],
        "ranking": ranking.section(board),
        "accuracy": accuracy.section(board, columns),
        "gaps": gaps.section(board, columns),
        "matrices": matrices.section(board),
        "stream": streams.section(board),
        "differences": differences.section(board),
        "costs": costs.section(board),
        "libraries": libraries.section(board),
    }


def _definitions(boards: Sequence[dict[str, Any]]) -> dict[str, Metric]:
    """Definitions of the metrics that the page speaks of, in their order, by their anchors."""
    names: dict[tuple[str, str], set[str]] = {}
    for board in boards:
        names.setdefault((board["tip"], board["view"]), set()).update(_metrics(board))
    return {
        f"{tip}{name}": metric
        for (tip, view), spoken in sorted(names.items())
        for name, metric in metrics_of(view).items()
        if name in spoken
    }


def _metrics(board: dict[str, Any]) -> set[str]:
    """Names of the metrics that a board speaks of."""
    names = {heading["metric"] for heading in board["ranking"]["headings"]}
    names |= {heading["metric"] for heading in (board["gaps"] or {"headings": []})["headings"]}
    tables_ = (board["libraries"] or {"tables": []})["tables"]
    return names | {column["metric"] for table in tables_ for column in table["columns"]}


@cache
def _static(name: str) -> str:
    return (_FOLDER / "static" / name).read_text(encoding="utf-8")


@cache
def _script() -> str:
    """All scripts of ours as one, in a scope of its own."""
    text = "\n".join(_static(name) for name in _SCRIPTS)
    return embedding.inline_script(f'"use strict";\n(() => {{\n{text}}})();')


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["json_block"] = embedding.json_block
    return environment
