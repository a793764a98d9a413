"""R: accuracy on each task at the end of each experience, mean over seeds, as a heat map of each method."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.reports.figures.stream_figure import means
from clbench.reports.html.boards import BoardRuns
from clbench.reports.html.embedding import words_of

MOST_CELLS = 60
"""Rows and columns of a heat map; of more, a cell is the mean of a block of them."""


def section(board: BoardRuns) -> dict[str, Any] | None:
    """A heat map for each method with completed runs and traces; None where there is none."""
    maps = []
    for i, method in enumerate(board.methods):
        matrices = [digest.matrix for digest in method.digests]
        if not matrices or method.is_unfinished or any(matrix.shape != matrices[0].shape for matrix in matrices):
            continue
        matrix = np.sort(np.stack(matrices), axis=0).mean(0)
        down, across = (-(-size // MOST_CELLS) for size in matrix.shape)
        blocks = means(means(matrix, down).T, across).T
        maps.append(
            {
                "method": i,
                "name": method.name,
                "seeds": len(matrices),
                "cells": _percent(blocks) if board.measure is None else _numbers(blocks),
                "experiences": down,
                "tasks": across,
                **words_of(board.measure),
            }
        )
    if board.measure is not None:  # one scale for all
        known = [cell for map_ in maps for row in map_["cells"] for cell in row if cell is not None]
        maps = [map_ | {"most": max(known, default=1.0)} for map_ in maps]
    return {"maps": maps} if maps else None


def _numbers(values: NDArray[np.float64]) -> list[list[float | None]]:
    """Numbers of a measure with four digits; None for NaN."""
    return [[None if np.isnan(v) else float(f"{v:.4g}") for v in row] for row in values]


def _percent(values: NDArray[np.float64]) -> list[list[float | None]]:
    """Percent with two decimals; None for NaN."""
    return [[None if np.isnan(v) else round(100 * float(v), 2) for v in row] for row in values]
