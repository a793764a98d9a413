"""The `stream:` section of a benchmark: data set x tasks x schedule x supervision.

Each family of tasks and each schedule is one file: its keys, their requirements on the data, and their compilation. A
new one joins the unions below.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from clbench.errors import shown
from clbench.formatting import ranges
from clbench.schema import Count, Mistake, Model, mistake
from clbench.streams.datasets.columns import EMBEDDED, KINDS, Columns, Table, is_table
from clbench.streams.datasets.concepts import ConceptsData
from clbench.streams.datasets.generated import NAMES, Generated
from clbench.streams.datasets.glyphs import GlyphsData
from clbench.streams.datasets.grid_load import GridLoadData
from clbench.streams.datasets.link_load import LinkLoadData
from clbench.streams.datasets.synthetic import SyntheticData
from clbench.streams.families import Combination
from clbench.streams.schedules.blurry import BlurrySchedule
from clbench.streams.schedules.drift import DriftSchedule
from clbench.streams.schedules.explicit import ExplicitSchedule
from clbench.streams.schedules.random_subsets import RandomSubsetsSchedule
from clbench.streams.schedules.recurrence import RecurrenceSchedule
from clbench.streams.schedules.repetition import RepetitionSchedule
from clbench.streams.schedules.sequential import SequentialSchedule
from clbench.streams.selection import Selection
from clbench.streams.supervision import Supervision
from clbench.streams.tasks.class_blocks import ClassTasks, MixedTasks
from clbench.streams.tasks.given import GivenTasks
from clbench.streams.tasks.instances import InstanceTasks
from clbench.streams.tasks.permutations import PermutationTasks
from clbench.streams.tasks.time_blocks import TimeTasks
from clbench.streams.tasks.transforms import RotationTasks, TransformTasks

Tasks = Annotated[
    ClassTasks
    | MixedTasks
    | InstanceTasks
    | PermutationTasks
    | RotationTasks
    | TransformTasks
    | GivenTasks
    | TimeTasks,
    Field(discriminator="by"),
]
AnySchedule = Annotated[
    SequentialSchedule
    | RecurrenceSchedule
    | RandomSubsetsSchedule
    | RepetitionSchedule
    | BlurrySchedule
    | DriftSchedule
    | ExplicitSchedule,
    Field(discriminator="by"),
]
LabelSpaces = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]


def data_name(data: str | list[str]) -> str:
    """See `StreamConfig.data_name`.

    >>> data_name("mnist"), data_name(["mnist", "usps"])
    ('mnist', 'mnist + usps')
    """
    return data if isinstance(data, str) else " + ".join(data)


class StreamConfig(Model):
    """Definition of a stream: data set x tasks x schedule x supervision."""

    data: str | Annotated[list[str], Field(min_length=1)]
    """A name (`clbench list datasets`), npz:PATH, an import path, npy:FOLDER or lazy:IMPORT_PATH for inputs that
    stay on the disk, csv:PATH, parquet:PATH or hf:FOLDER for tables, folder:PATH for images in class folders, or a
    list of names, with tasks by given."""
    labels: Literal["own"] | LabelSpaces | None = None
    """Classes of the data sets of a list, by default the same in all. `own`: each has its own, named member/class; or a
    name for each data set: those of one name share their classes."""
    columns: Columns | None = None
    """Columns of a table and their roles; for tables alone."""
    size: Annotated[int, Field(ge=2, le=1024)] | None = None
    """Height and width that images are resized to; default for a list of data sets: those of the first, for files of
    mixed sizes: the most frequent ones."""
    tasks: Tasks
    schedule: AnySchedule = SequentialSchedule()
    supervision: Supervision = Supervision()
    online: Count | None = None
    """Number of samples of the sub-experiences that each experience is cut into: one pass, in an order drawn by the
    stream seed, with tasks by time in the order of time; the last sub-experience may be smaller."""
    setting: Literal["class", "task", "domain"]
    """Class-incremental, task-incremental (task labels are available at test time) or domain-incremental."""
    normalise: Literal["unit", "standard"] = "unit"
    """`unit`: pixels in [0, 1], float arrays unchanged. `standard`: then minus mean, by deviation of the training
    part, per channel of images and per feature of vectors."""
    synthetic: SyntheticData | None = None
    """Parameters of the data set `synthetic`; for that data set alone."""
    glyphs: GlyphsData | None = None
    """Parameters of the data set `glyphs`, instead of its default ones."""
    concepts: ConceptsData | None = None
    """Parameters of the data set `concepts`, instead of its default ones."""
    link_load: LinkLoadData | None = None
    """Parameters of the data set `link_load`, instead of its default ones."""
    grid_load: GridLoadData | None = None
    """Parameters of the data set `grid_load`, instead of its default ones."""
    selection: Selection | None = None
    """Restriction to the data for hyper-parameter tuning; studies set it for their trials."""

    @property
    def reading(self) -> dict[str, Any]:
        """Arguments of `clbench.streams.datasets.load` beside name and size: what else says which data set it is."""
        return {"parameters": self.parameters, "table": self.table, "labels": self.labels}

    @property
    def data_name(self) -> str:
        """Name of the data set in tables and messages; of several, their names joined."""
        return data_name(self.data)

    @property
    def parameters(self) -> Generated | None:
        """Those of a generated data set; None: its default ones, or another data set."""
        parameters: Generated | None = getattr(self, str(self.data)) if self.data in NAMES else None
        return parameters

    @property
    def table(self) -> Table | None:
        """All settings of a table that its arrays depend on; None for other data."""
        if self.columns is None:
            return None
        return Table(self.columns, self.tasks.blocks if isinstance(self.tasks, TimeTasks) else None)

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> StreamConfig:
        for key, sentence in self._combination_mistakes():
            raise mistake(sentence, key)
        return self

    def _combination_mistakes(self) -> Iterator[Combination]:
        """Conflicts between keys; the first one is reported."""
        by, within = self.tasks.by, getattr(self.tasks, "labels", "class") == "within_task"
        if within and by != "classes":
            yield "tasks.labels", f"got 'within_task', which needs tasks by classes, not by {by}"
        if self.setting not in self.tasks.settings:
            yield "setting", f"got '{self.setting}'. Allowed with tasks by {by}: {', '.join(self.tasks.settings)}"
        if by == "classes" and self.setting == "domain" and not within:
            yield "setting", "got 'domain', which needs tasks.labels to be within_task"
        if self.setting != "domain" and within:
            yield "setting", f"got '{self.setting}'. Allowed with labels within the task: domain"
        if self.data == "synthetic" and self.synthetic is None:
            yield "synthetic", "required for the data set 'synthetic', but not given"
        for name in NAMES:
            if self.data != name and getattr(self, name) is not None:
                yield name, f"is for the data set '{name}', not for {shown(self.data)}; null unsets it"
        yield from self._table_mistakes()
        if isinstance(self.data, list) and by != "given":
            yield "data", f"a list of data sets needs tasks by given, not by {by}"
        if self.labels is not None and not isinstance(self.data, list):
            yield "labels", f"got {shown(self.labels)}, which is for a list of data sets"
        elif isinstance(self.labels, list) and len(self.labels) != len(self.data):
            yield "labels", f"got {len(self.labels)} names of label spaces for {len(self.data)} data sets"
        if self.tasks.in_parts and self.schedule.by != "sequential":
            sentence = f"got '{self.schedule.by}'. Allowed with tasks by {by}, which come in parts: sequential"
            yield "schedule.by", sentence
        yield from self.schedule.combination_mistakes(self.tasks)
        yield from self.supervision.combination_mistakes(self.tasks, isinstance(self.schedule, DriftSchedule))

    def _table_mistakes(self) -> Iterator[Combination]:
        """Conflicts between keys of a table, or a table where there is none."""
        members = [self.data] if isinstance(self.data, str) else self.data
        named = next((name for name in members if is_table(name)), None)
        by, columns = self.tasks.by, self.columns
        if named is not None and isinstance(self.data, list):
            yield "data", f"'{named}' is a table; a list of data sets needs images"
        elif named is not None and columns is None:
            yield "columns", f"required for the table '{named}', but not given: {{target: COLUMN}}"
        if columns is None or named is None:
            kinds = ", ".join((*KINDS, *EMBEDDED))
            if by == "time":
                yield "tasks.by", f"got 'time', which needs a table ({kinds}), not {shown(self.data)}"
            if columns is not None:
                yield "columns", f"is for tables ({kinds}), not for {shown(self.data)}; null unsets it"
            return
        if by == "time" and columns.time is None:
            yield "columns.time", "required with tasks by time, but not given"
        if by != "time" and columns.time is not None:
            yield "columns.time", f"is for tasks by time, not by {by}; null unsets it"
        for key in ("split", "task"):
            if by == "time" and getattr(columns, key) is not None:
                yield f"columns.{key}", "leave it out; tasks by time are blocks, the last fifth of each for testing"
        if columns.target_kind == "number" and self.setting != "domain":
            yield "setting", f"got '{self.setting}'. Allowed where numbers are predicted: domain"

    def data_mistakes(
        self, name: str, classes: int, image: bool, tasks: int | None, numbers: bool = False
    ) -> list[Mistake]:
        """Requirements of a definition that a data set does not meet.

        Args:
            name: of the data set, for sentences.
            classes: their number.
            image: whether samples are images.
            tasks: number of tasks that the data set defines; None where it defines none.
            numbers: whether it has numbers to predict, which compete with nothing.

        Returns:
            Key paths below `stream`, each with a sentence.
        """
        problems = [*_below("tasks", self.tasks.data_mistakes(name, classes, image, tasks))]
        if self.size is not None and not image:
            problems.append((["size"], f"is for images, and '{name}' holds vectors."))
        number = self.tasks.number(tasks)
        if number is not None and not problems:
            problems += _below("schedule", self.schedule.data_mistakes(number))
            if self.supervision.shots is not None and self.supervision.base >= number:
                sentence = f"got {self.supervision.base}, which leaves none of {number} tasks for shots."
                problems.append((["supervision", "base"], sentence))
        if numbers:
            if self.setting != "domain":
                problems.append(
                    (["setting"], f"got '{self.setting}', but '{name}' has numbers to predict; set domain.")
                )
            return problems
        sizes = [] if problems else self.tasks.sizes(classes) or []
        if reason := unanswerable(self.setting, [t for t, size in enumerate(sizes) if size < 2]):
            problems.append((["setting"], reason))
        elif not problems and classes < 2:
            problems.append((["data"], f"'{name}' has one class; no answer can be wrong."))
        if self.supervision.noise is not None:
            noise = self.supervision.noise.data_mistakes(name, classes)
            problems += ((["supervision", "noise", *path], sentence) for path, sentence in noise)
        return problems


def unanswerable(setting: str, alone: list[int]) -> str | None:
    """Mistake in a setting whose answers cannot be wrong: one class competes in a task.

    Args:
        setting: of the stream.
        alone: the tasks of one class.
    """
    if not alone or setting == "class":
        return None
    has = f"task {alone[0]} has" if len(alone) == 1 else f"tasks {ranges(alone, 10)} have"
    remedy = "give each task two classes or more, or take the setting 'class'"
    return f"got '{setting}', but {has} one class, so that no answer can be wrong; {remedy}."


def _below(section: str, problems: Iterable[Mistake]) -> Iterator[Mistake]:
    yield from (([section, *path], sentence) for path, sentence in problems)
