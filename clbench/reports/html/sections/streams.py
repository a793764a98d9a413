"""The picture of a board's stream: samples of every class or task in every experience.

It is compiled again from a run's configuration where the data can be read without a download and without code of the
user's, and shown where it is the stream that the run recorded. Elsewhere the picture is that of the tasks visited.
"""

from __future__ import annotations

from typing import Any

import pydantic

from clbench import registry
from clbench.errors import UserError
from clbench.reports.figures import stream_figure
from clbench.reports.html.boards import BoardRuns
from clbench.results.record import Record
from clbench.stream import Stream

_MOST = (200, 60)
"""Columns and rows."""


def section(board: BoardRuns) -> dict[str, Any] | None:
    """The picture; None where neither the stream nor a trace is there."""
    with_stream = [record for record in board.records if record.stream is not None]
    first = min(with_stream, key=lambda record: (record.seed, record.run_id), default=None)
    if first is not None:
        stream = _compiled(first)
        if stream is not None:
            return _samples(stream, first.seed)
    return _visits(board)


def _compiled(record: Record) -> Stream | None:
    """The stream of a run, if its data are there; None also where it is another one than the run's."""
    from clbench.streams.compile import compile_stream
    from clbench.streams.definition import StreamConfig

    assert record.stream is not None
    datasets = registry.datasets()
    try:
        config = StreamConfig.model_validate(record.raw["config"]["benchmark"]["stream"])
        if not datasets.is_local(config.data):
            return None
        outline = datasets.outline(config.data, size=config.size, **config.reading)
        seed = record.config.seeds.stream
        stream = compile_stream(config, record.seed if seed is None else seed, outline)
    except (UserError, pydantic.ValidationError):
        return None
    return stream if stream.instance_hash == record.stream.instance_hash else None


def _samples(stream: Stream, seed: int) -> dict[str, Any]:
    grid = stream_figure.grid(stream, *_MOST)
    number = len(grid.ids)
    rows = [str(grid.ids[i]) for i in range(0, number, grid.members)]
    return {
        "of": "samples",
        "seed": seed,
        "row": grid.rows,
        "data": {
            "cells": [[round(float(v), 2) if v else None for v in row] for row in grid.samples],
            "rows": rows,
            "row": grid.rows,
            "experiences": grid.experiences,
            "members": grid.members,
            "unit": "samples",
        },
    }


def _visits(board: BoardRuns) -> dict[str, Any] | None:
    """Tasks visited in each experience, from a trace."""
    digest = next((digest for method in board.methods for digest in method.digests), None)
    if digest is None:
        return None
    across, down = (-(-size // most) for size, most in zip(digest.visits.shape, _MOST, strict=True))
    cells = stream_figure.means(stream_figure.means(digest.visits.astype(float), across).T, down)
    return {
        "of": "visits",
        "seed": None,
        "row": "task",
        "data": {
            "cells": [[round(float(v), 4) if v else None for v in row] for row in cells],
            "rows": [str(i) for i in range(0, digest.visits.shape[1], down)],
            "row": "task",
            "experiences": across,
            "members": down,
            "unit": "visited",
        },
    }
