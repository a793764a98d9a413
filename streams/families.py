"""Contracts of a family of tasks and of a schedule, which `compile_stream` calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field

from clbench.dataset import Outline
from clbench.rng import Generator
from clbench.schema import Mistake, Model
from clbench.stream import Layout, Plan, Timetable

NonNegative = Annotated[float, Field(ge=0)]
Combination = tuple[str, str]
"""A key below `stream` that conflicts with another one, and the sentence without its full stop."""


class TaskFamily(Model):
    """The tasks of a stream; `by` names the family."""

    by: str
    in_parts: ClassVar[bool] = False
    """True if tasks come in parts already, so that the schedule is sequential."""

    @property
    def settings(self) -> tuple[str, ...]:
        """Settings compatible with the family."""
        return ("domain",)

    def number(self, of_data: int | None) -> int | None:
        """Number of tasks; None where it depends on the data set and is unknown.

        Args:
            of_data: number of tasks that the data set defines.
        """
        raise NotImplementedError

    def sizes(self, classes: int) -> list[int] | None:
        """Number of classes of each task; None where it depends on more than the number of classes in the data set."""
        return None

    def data_mistakes(self, name: str, classes: int, image: bool, tasks: int | None) -> Iterator[Mistake]:
        """Requirements of the family that a data set does not meet, as key paths below `stream.tasks`.

        Args:
            name: of the data set, for sentences.
            classes: their number.
            image: whether samples are images.
            tasks: number of tasks that the data set defines; None where it defines none.
        """
        yield from ()

    def lay_out(self, data: Outline, generator: Generator) -> Layout:
        """The tasks of a data set.

        Raises:
            UserError: the data set does not meet the definition.
        """
        raise NotImplementedError


class Schedule(Model):
    """Order and content of the experiences; `by` names the law."""

    by: str

    def combination_mistakes(self, tasks: TaskFamily) -> Iterator[Combination]:
        """Conflicts with a family of tasks, whatever the data."""
        yield from ()

    def data_mistakes(self, tasks: int) -> Iterator[Mistake]:
        """Conflicts with a number of tasks, as key paths below `stream.schedule`."""
        yield from ()

    def arrange(self, family: TaskFamily, plan: Plan, generator: Generator) -> Timetable:
        """The experiences of a stream.

        Raises:
            UserError: more samples or experiences are requested than exist.
        """
        raise NotImplementedError
