"""Tasks by time: consecutive blocks of a table whose rows are in the order of time.

The test part of a block is its last fifth, so that every test row is later than the rows that the block trains on, and
the statistics of encodings are those of the first block's training rows (`clbench.streams.datasets.time_order`).
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pydantic
from pydantic import Field

from clbench.dataset import Outline
from clbench.errors import UserError
from clbench.rng import Generator
from clbench.schema import mistake, one_of
from clbench.stream import Layout
from clbench.streams.families import TaskFamily
from clbench.streams.tasks.given import by_task


class TimeTasks(TaskFamily):
    """Consecutive blocks of a table in the order of time (`columns.time`)."""

    by: Literal["time"]
    count: Annotated[int, Field(ge=1)] | None = None
    """Number of blocks of as equal numbers of rows as rows of one time, which stay together, allow."""
    changes: Annotated[list[float | str], Field(min_length=1)] | None = None
    """Times at which a new block begins, ascending, instead of `count`: numbers, or ISO 8601 as the time column has."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> TimeTasks:
        one_of(self, "count", "changes")
        if len({isinstance(change, str) for change in self.changes or []}) > 1:
            raise mistake("got numbers and texts. Allowed: one of the two, as the time column has", "changes")
        return self

    @property
    def blocks(self) -> int | tuple[float | str, ...]:
        """The number of blocks, or the times at which one begins."""
        return self.count if self.count is not None else tuple(self.changes or ())

    @property
    def settings(self) -> tuple[str, ...]:
        """Settings compatible with the family."""
        return ("class", "task", "domain")

    def number(self, of_data: int | None) -> int | None:
        """Number of blocks."""
        return self.count if self.changes is None else len(self.changes) + 1

    def lay_out(self, data: Outline, generator: Generator) -> Layout:
        """Tasks of the blocks that the table was divided into.

        Raises:
            UserError: a block with one class.
        """
        assert data.train_task is not None
        layout = by_task(data.train_task, data.train_y)
        alone = [t for t in layout.tasks if len(t.classes) < 2]
        if alone and data.train_target is None and data.classes > 1:
            task = alone[0]
            rows = int(np.count_nonzero(data.train_task == task.id))
            raise UserError(
                f"stream.tasks: block {task.id} has one class, {data.named(task.classes[0])}, in its {rows} training "
                "rows, so that one constant answer is right; give fewer blocks, or other changes."
            )
        return layout
