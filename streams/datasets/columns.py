"""Settings of tables: the columns of a file and their roles, and the blocks of a table in the order of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from clbench.schema import Model, mistake

KINDS = ("csv:", "parquet:", "hf:")
"""Beginnings of names of tables; what follows is the path."""

EMBEDDED = ("gapminder",)
"""Tables inside installed packages."""

MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL")
"""Texts of a CSV file that stand for a missing value, by default."""

Name = Annotated[str, Field(min_length=1)]


class Columns(Model):
    """The columns of a table (`csv:`, `parquet:`, `hf:`, `gapminder`) and their roles."""

    target: Name | Annotated[list[Name], Field(min_length=1)]
    """The column to predict; of numbers also a list."""
    target_kind: Literal["class", "number"] = "class"
    """`class`: text or whole numbers, each different value a class, numbered in ascending order. `number`: a
    regression, one output a column."""
    target_scale: Literal["unit", "standard"] = "unit"
    """Of numbers. `unit`: as they are. `standard`: minus mean, by deviation of the training rows (with tasks by time of
    the first block's), so that errors are in deviations."""
    features: Literal["all"] | Annotated[list[Name], Field(min_length=1)] = "all"
    """Input columns; `all`: every column without another role."""
    ignore: list[Name] = Field(default_factory=list)
    """Columns that `all` leaves out."""
    categorical: list[Name] = Field(default_factory=list)
    """Features of numbers or dates that are categories, such as postcodes."""
    time: Name | None = None
    """Numbers or ISO 8601 times, in ascending order; for tasks by time."""
    task: Name | None = None
    """The task of each row; different values, in ascending order, are tasks 0, 1, ...; for tasks by given."""
    split: Name | None = None
    """`train` or `test` in each row. Default: every fifth row of each class (and task) is for testing; with tasks by
    time the last fifth of each block."""
    missing: list[str] = Field(default_factory=lambda: list(MISSING))
    """Texts of a CSV file that stand for a missing value. Default: nothing, NA, N/A, n/a, NaN, nan, null and NULL."""
    separator: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """Character between the values of a CSV file."""

    @property
    def targets(self) -> list[str]:
        """The target columns."""
        return [self.target] if isinstance(self.target, str) else self.target

    @property
    def roles(self) -> dict[str, str]:
        """Columns that are no features, with the key that names each."""
        named = [(column, "target") for column in self.targets]
        named += [(column, key) for key in ("time", "task", "split") if (column := getattr(self, key)) is not None]
        return {column: key for column, key in reversed(named)}

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Columns:
        named = [*self.targets, *(c for c in (self.task, self.split) if c is not None)]
        twice = next((c for c in named if named.count(c) > 1), None)
        if twice is not None:
            raise mistake(f"column '{twice}' has two roles. Allowed: one")
        if len(self.targets) > 1 and self.target_kind == "class":
            raise mistake("got a list. Allowed: one column, or several with target_kind: number", "target")
        if self.target_scale != "unit" and self.target_kind == "class":
            raise mistake("is for target_kind: number", "target_scale")
        listed = [] if self.features == "all" else self.features
        if both := [c for c in listed if c in {*self.targets, self.task, self.split}]:
            raise mistake(f"'{both[0]}' is the {self.roles[both[0]]} already", "features")
        if repeated := [c for c in listed if listed.count(c) > 1]:
            raise mistake(f"'{repeated[0]}' is listed twice", "features")
        if self.ignore and self.features != "all":
            raise mistake("leave it out; 'features' lists the columns already", "ignore")
        if stray := [c for c in self.categorical if (listed and c not in listed) or c in self.ignore]:
            raise mistake(f"'{stray[0]}' is no feature", "categorical")
        return self


@dataclass(frozen=True)
class Table:
    """All settings of a table that the arrays depend on.

    Attributes:
        columns: the `columns` of a stream.
        blocks: with tasks by time: their number, or the times at which a new block begins; else None.
    """

    columns: Columns
    blocks: int | tuple[float | str, ...] | None = None

    def content(self) -> list[Any]:
        """JSON values that tell settings apart."""
        blocks = list(self.blocks) if isinstance(self.blocks, tuple) else self.blocks
        return [self.columns.model_dump(mode="json"), blocks]


def is_table(name: str) -> bool:
    """True of the name of a table.

    >>> is_table("csv:a.csv"), is_table("gapminder"), is_table("npz:a.npz")
    (True, True, False)
    """
    return name.startswith(KINDS) or name in EMBEDDED
