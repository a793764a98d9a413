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
"""A key below `stream` that does not go with another one, and the sentence without its full stop."""


class TaskFamily(Model):
    """What a stream's tasks are; `by` names the family."""

    by: str
    in_parts: ClassVar[bool] = False
    """Whether tasks come in parts already, so that the schedule is sequential."""

    @property
    def settings(self) -> tuple[str, ...]:
        """Settings that go with the family."""
        return ("domain",)

    def number(self, of_data: int | None) -> int | None:
        """Number of tasks; None where only the data set could say it and does not.

        Args:
            of_data: number of tasks that the data set itself says.
        """
        raise NotImplementedError

    def data_mistakes(self, name: str, classes: int, image: bool, tasks: int | None) -> Iterator[Mistake]:
        """What the family asks of a data set that does not hold it, as key paths below `stream.tasks`.

        Args:
            name: of the data set, for sentences.
            classes: their number.
            image: whether samples are images.
            tasks: number of tasks that the data set itself says; None where it says none.
        """
        yield from ()

    def lay_out(self, data: Outline, generator: Generator) -> Layout:
        """The tasks of a data set.

        Raises:
            UserError: the data set does not hold what is asked for.
        """
        raise NotImplementedError


class Schedule(Model):
    """Which experience comes when; `by` names the law."""

    by: str

    def combination_mistakes(self, tasks: TaskFamily) -> Iterator[Combination]:
        """What does not go with a family of tasks, whatever the data."""
        yield from ()

    def data_mistakes(self, tasks: int) -> Iterator[Mistake]:
        """What does not go with a number of tasks, as key paths below `stream.schedule`."""
        yield from ()

    def arrange(self, family: TaskFamily, plan: Plan, generator: Generator) -> Timetable:
        """The experiences of a stream.

        Raises:
            UserError: more samples or experiences are asked for than there can be.
        """
        raise NotImplementedError
