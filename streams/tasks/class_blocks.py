"""Tasks by classes: each task is a block of classes (Split-MNIST and its relatives).

Order of entry and blocks come from the definition, or from the stream seed. Where classes do not divide by the
number of tasks, the first tasks take one more; no class is left out.

By classes and instances, a block's samples come in parts (the NIC scenario of Lomonaco and Maltoni 2017): an
experience has new classes, or new instances of known classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import numpy as np
import pydantic
from pydantic import Field

from clbench.dataset import Outline
from clbench.errors import UserError
from clbench.rng import Generator
from clbench.schema import ClassNumber, Count, Mistake, mistake, name_classes, one_of, unique_classes
from clbench.stream import Domain, Layout, Rows, Task
from clbench.streams.families import TaskFamily
from clbench.streams.tasks.instances import deal

SeededOrder = Annotated[str, Field(pattern=r"^seed-(0|[1-9][0-9]*)$", title="seed-N such as seed-1993")]


def legacy_order(seed: int, classes: int) -> list[int]:
    """The order of classes that NumPy's legacy generator draws.

    Its numbers are frozen (NumPy's NEP 19). It is the order of `np.random.seed(seed); np.random.permutation(classes)`,
    the convention of Rebuffi et al. 2017 (CVPR, iCaRL) with the seed 1993, and of PyCIL, PILOT and their descendants.

    Args:
        seed: 0 to 2^32 - 1.
        classes: C.

    >>> legacy_order(1993, 10)
    [4, 2, 7, 6, 0, 3, 5, 8, 9, 1]
    """
    order: list[int] = np.random.RandomState(seed).permutation(classes).tolist()
    return order


class ClassTasks(TaskFamily):
    """Each task is a block of classes."""

    by: Literal["classes"]
    count: Count | None = None
    """Number of tasks; classes are distributed as equally as possible, earlier tasks take one more."""
    first: Count | None = None
    """Classes of the first task, where it is larger than the others; the others share the rest."""
    order: Literal["seed", "natural"] | SeededOrder | list[ClassNumber] = "seed"
    """Order in which classes enter: drawn by the stream seed, 0..C-1, or a list. `seed-N`, such as `seed-1993` of many
    papers: `numpy.random.RandomState(N).permutation(C)`, as PyCIL and PILOT draw it, the same for every stream seed."""
    blocks: Annotated[list[Annotated[list[ClassNumber], Field(min_length=1)]], Field(min_length=1)] | None = None
    """The classes of each task, instead of `count` and `order`."""
    labels: Literal["class", "within_task"] = "class"
    """Target: the class, or its index within its task (Split-MNIST's domain-incremental form)."""

    @pydantic.field_validator("order")
    @classmethod
    def _order_possible(cls, order: str | list[int]) -> str | list[int]:
        if isinstance(order, list):
            unique_classes(order)
        elif order.startswith("seed-") and int(order[5:]) >= 2**32:
            raise mistake(f"got '{order}'. Allowed: seed-0 to seed-{2**32 - 1}")
        return order

    @pydantic.field_validator("blocks")
    @classmethod
    def _blocks_unique(cls, blocks: list[list[int]] | None) -> list[list[int]] | None:
        unique_classes([c for block in blocks or [] for c in block])
        return blocks

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> ClassTasks:
        one_of(self, "count", "blocks")
        if self.blocks is not None and self.order != "seed":
            raise mistake("leave it out; 'blocks' defines the order of classes already", "order")
        if self.first is not None and self.blocks is not None:
            raise mistake("leave it out; 'blocks' defines the classes of the first task already", "first")
        if self.first is not None and self.count == 1:
            raise mistake("is for two tasks and more, and 'count' is 1", "first")
        return self

    def listed(self) -> tuple[str, list[int]] | None:
        """The key that lists classes, and all of them; None if there is none."""
        if self.blocks is not None:
            return "blocks", [c for block in self.blocks for c in block]
        return ("order", self.order) if isinstance(self.order, list) else None

    @property
    def settings(self) -> tuple[str, ...]:
        """Settings compatible with the family."""
        return ("class", "task", "domain")

    def number(self, of_data: int | None) -> int | None:
        """Number of tasks."""
        return len(self.blocks) if self.blocks is not None else self.count

    def sizes(self, classes: int) -> list[int]:
        """Number of classes of each task."""
        if self.blocks is not None:
            return [len(block) for block in self.blocks]
        assert self.count is not None
        large = [] if self.first is None else [self.first]
        small, larger = divmod(classes - sum(large), self.count - len(large))
        return [*large, *(small + (t < larger) for t in range(self.count - len(large)))]

    def data_mistakes(self, name: str, classes: int, image: bool, tasks: int | None) -> Iterator[Mistake]:
        """See `TaskFamily.data_mistakes`."""
        if self.count is not None and self.count > classes:
            yield ["count"], f"{self.count} tasks, but '{name}' has {classes} classes."
        elif self.first is not None and self.count is not None and classes - self.first < self.count - 1:
            left = max(0, classes - self.first)
            yield ["first"], f"{self.first} of {classes} classes leave {left} for {self.count - 1} other tasks."
        key, listed = self.listed() or ("", [])
        beyond = sorted({c for c in listed if c >= classes})
        if beyond:
            yield [key], f"{name_classes(beyond)} not in '{name}', which has classes 0 to {classes - 1}."
        absent = sorted(set(range(classes)) - set(listed))
        if key == "order" and absent:
            yield [key], f"{name_classes(absent)} missing."
        if self.labels == "within_task":
            if len({len(b) for b in self.blocks or []}) > 1:
                yield ["blocks"], "labels within the task need blocks of one size."
            if self.first is not None:
                yield ["first"], "labels within the task need blocks of one size."
            elif self.count is not None and classes % self.count:
                sentence = f"labels within the task need blocks of one size, and {classes} classes"
                yield ["count"], f"{sentence} do not divide by {self.count}."

    def lay_out(self, data: Outline, generator: Generator) -> Layout:
        """Tasks by classes; targets are the classes or their indices within the task."""
        within = self.labels == "within_task"
        tasks = []
        for t, members in enumerate(blocks(self, data.classes, generator)):
            targets = tuple(range(len(members))) if within else tuple(members)
            tasks.append(Task(id=t, domain=0, classes=tuple(members), targets=targets))
        return Layout(tasks=tuple(tasks), domains=(Domain(),), lessons=self._lessons(tasks, data, generator))

    def _lessons(self, tasks: list[Task], data: Outline, generator: Generator) -> tuple[tuple[int, Rows], ...] | None:
        """Parts of a task's samples; none here."""
        return None


class MixedTasks(ClassTasks):
    """Blocks of classes that come in parts: some experiences bring new classes, others new instances of known ones."""

    in_parts: ClassVar[bool] = True

    by: Literal["classes_and_instances"]  # type: ignore[assignment]
    parts: Annotated[int, Field(ge=2)]
    """Parts of each task's samples, an experience each. The first of all is of task 0, the others in drawn order."""

    @property
    def settings(self) -> tuple[str, ...]:
        """Settings compatible with the family."""
        return ("class", "task")

    def _lessons(self, tasks: list[Task], data: Outline, generator: Generator) -> tuple[tuple[int, Rows], ...]:
        """Each task's samples in parts, a part of task 0 first and all others in random order."""
        lessons: list[tuple[int, Rows]] = []
        for task in tasks:
            rows = np.flatnonzero(np.isin(data.train_y, task.classes))
            if len(rows) < self.parts:
                raise UserError(f"stream.tasks.parts: got {self.parts}, but task {task.id} has {len(rows)} samples.")
            lessons += [(task.id, part) for part in deal(rows, self.parts, generator)]
        order = 1 + generator.permutation(len(lessons) - 1)
        return (lessons[0], *(lessons[i] for i in order.tolist()))


def blocks(config: ClassTasks, classes: int, generator: Generator) -> list[list[int]]:
    """The classes of each task, in order of entry."""
    if config.blocks is not None:
        return [list(b) for b in config.blocks]
    if isinstance(config.order, list):
        order = list(config.order)
    elif config.order == "natural":
        order = list(range(classes))
    elif config.order != "seed":
        order = legacy_order(int(config.order.removeprefix("seed-")), classes)
    else:
        order = generator.permutation(classes).tolist()
    ends = itertools.accumulate(config.sizes(len(order)))
    return [order[start:end] for start, end in itertools.pairwise([0, *ends])]
