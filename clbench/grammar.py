"""What a stream may be told: data set x tasks x schedule x supervision, one frozen model for every key.

`streams/` holds one file for each family of tasks, each schedule and supervision; it compiles what is said here.
Combinations that make no sense are refused here, or in `clbench.resolve` where the data set must be known.
"""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from clbench.errors import shown
from clbench.schema import ClassNumber, Count, Model, Share, mistake, name_classes, one_of, unique_classes

NonNegative = Annotated[float, Field(ge=0)]
Degrees = Annotated[float, Field(ge=-360, le=360)]


# ------------------------------------------------------------------------------------------------ tasks
class ClassTasks(Model):
    """Each task is a block of classes."""

    by: Literal["classes"]
    count: Count | None = None
    """Number of tasks; classes are shared out as equally as possible, earlier tasks take one more."""
    first: Count | None = None
    """Classes of the first task, where it is larger than the others; the others share the rest."""
    order: Literal["seed", "natural"] | list[ClassNumber] = "seed"
    """Order in which classes enter: drawn by the stream seed, 0..C-1, or a list."""
    blocks: Annotated[list[Annotated[list[ClassNumber], Field(min_length=1)]], Field(min_length=1)] | None = None
    """The classes of each task, instead of `count` and `order`."""
    labels: Literal["class", "within_task"] = "class"
    """What is predicted: the class, or its place within its task (Split-MNIST's domain-incremental form)."""

    @pydantic.field_validator("order")
    @classmethod
    def _order_unique(cls, order: str | list[int]) -> str | list[int]:
        if isinstance(order, list):
            unique_classes(order)
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
            raise mistake("leave it out; 'blocks' says the order of classes already", "order")
        if self.first is not None and self.blocks is not None:
            raise mistake("leave it out; 'blocks' says the classes of the first task already", "first")
        if self.first is not None and self.count == 1:
            raise mistake("is for two tasks and more, and 'count' is 1", "first")
        return self

    def listed(self) -> tuple[str, list[int]] | None:
        """The key that lists classes, and all of them; None where none does."""
        if self.blocks is not None:
            return "blocks", [c for block in self.blocks for c in block]
        return ("order", self.order) if isinstance(self.order, list) else None


class MixedTasks(ClassTasks):
    """Blocks of classes that come in parts: some experiences bring new classes, others new instances of known ones."""

    by: Literal["classes_and_instances"]  # type: ignore[assignment]
    parts: Annotated[int, Field(ge=2)]
    """Parts of each task's samples, an experience each. The first of all is of task 0, the others in drawn order."""


class InstanceTasks(Model):
    """One task with all classes, its samples dealt out at random: the iid control."""

    by: Literal["instances"]
    count: Count
    """Number of parts, an experience each; the first ones take one sample more where samples do not divide."""


class PermutationTasks(Model):
    """Each task is all classes under a fixed permutation of the pixels (Permuted-MNIST)."""

    by: Literal["permutations"]
    count: Count
    first: Literal["identity", "permuted"] = "identity"
    """Whether the first task sees the pixels as they are."""


class RotationTasks(Model):
    """Each task is all classes, rotated by a fixed angle about the centre (Rotated-MNIST)."""

    by: Literal["rotations"]
    degrees: Annotated[list[Degrees], Field(min_length=1)]
    """Counter-clockwise angles, one a task; bilinear interpolation, zero outside."""


class Transform(Model):
    """A change of the input; its parts apply in the order of these keys."""

    rotation: Degrees = 0.0
    """Counter-clockwise angle; images only."""
    permutation: bool = False
    """Whether pixels (or features) are in an order of this task's own, drawn by the stream seed."""
    invert: bool = False
    """Whether light and dark change places; images of whole numbers only."""
    brightness: NonNegative = 1.0
    """Factor of the input; images of whole numbers are cut off at their largest value."""
    noise: NonNegative = 0.0
    """Deviation of Gaussian noise, in units of the largest stored value; a sample's noise is the same each time."""


class TransformTasks(Model):
    """Each task is all classes under a transform of a list."""

    by: Literal["transforms"]
    transforms: Annotated[list[Transform], Field(min_length=1)]
    """One a task; {} leaves inputs as they are."""


class GivenTasks(Model):
    """The data's own tasks: the array `task` of a file, or the data sets of a list as domains."""

    by: Literal["given"]


Tasks = Annotated[
    ClassTasks | MixedTasks | InstanceTasks | PermutationTasks | RotationTasks | TransformTasks | GivenTasks,
    Field(discriminator="by"),
]
_SETTINGS = {
    "classes": ("class", "task", "domain"),
    "classes_and_instances": ("class", "task"),
    "given": ("class", "task", "domain"),
}
"""Settings of a family of tasks; "domain" alone where it is not listed."""
_IN_PARTS = ("instances", "classes_and_instances")
"""Families whose tasks come in parts already."""


# ------------------------------------------------------------------------------------------------ schedules
class SequentialSchedule(Model):
    """Every task once, in order."""

    by: Literal["sequential"] = "sequential"


class RecurrenceSchedule(Model):
    """A new task in each phase, and earlier ones again by a law of the time since they were last met."""

    by: Literal["power_law", "exponential", "uniform", "none"]
    """Weight of a task last met D phases ago: D^-exponent, exp(-D / tau), 1, or 0."""
    variant: Literal["matched", "amount", "recurrence"] = "matched"
    """A fixed number of earlier samples in each phase; as many of a task as its weight says; or whole visits, which
    set the task's clock back."""
    exponent: NonNegative = 1.0
    """Of the power law; 0 is uniform. The other laws take from it how many earlier samples (`amount`) or visits
    (`recurrence`) each phase has, so that they differ in nothing but which tasks return."""
    tau: Annotated[float, Field(gt=0)] | None = None
    """Phases; of the exponential law. Default: its weights from 1 at D = 1 add up to the power law's."""
    new: Count | None = None
    """Samples of the new task in a phase, drawn by the stream seed; null: all."""
    rehearsed: Count | None = None
    """Variant `matched`: samples of earlier tasks in each phase after the first."""
    share: Share | None = None
    """Samples of a task met in the phase before (`amount`), or of one that returns (`recurrence`), as a share of a
    new task's; default 1."""
    probability: Share | None = None
    """Variant `recurrence`: that of a task met in the phase before; min(1, probability D^-exponent); default 0.5."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> RecurrenceSchedule:
        needed = {"rehearsed": ("matched",), "share": ("amount", "recurrence"), "probability": ("recurrence",)}
        for key, variants in needed.items():
            if getattr(self, key) is not None and self.variant not in variants:
                those = f"variant{'s' * (len(variants) > 1)} {' and '.join(variants)}"
                raise mistake(f"is for the {those}, not for '{self.variant}'", key)
        if self.variant == "matched" and self.rehearsed is None and self.by != "none":
            raise mistake("required for the variant 'matched', but not given", "rehearsed")
        if self.tau is not None and self.by != "exponential":
            raise mistake(f"is for the exponential law, not for '{self.by}'", "tau")
        return self


class RandomSubsetsSchedule(Model):
    """Each experience draws a few tasks (SCoLe: with one class a task, a few classes), with all of their samples."""

    by: Literal["random_subsets"]
    experiences: Count
    size: Count = 2
    """Tasks in an experience, different ones."""
    entropy_decrease: NonNegative = 0.0
    """e of task i's weight (1 - i factor)^e, tasks ranked by the stream seed; 0: uniform."""
    factor: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """See `entropy_decrease`."""
    samples: Count | None = None
    """Samples of each drawn task, drawn anew in each experience; null: all."""


class RepetitionSchedule(Model):
    """Tasks enter one by one, and each returns in later experiences with a probability of its own."""

    by: Literal["repetition"]
    experiences: Count
    law: Literal["geometric", "zipf", "list"] = "geometric"
    """Probability of the task of rank i = 0, 1, ... : probability (1 - rate)^i, probability / (i + 1)^rate, or
    `probabilities[task]`."""
    probability: Share = 0.5
    rate: Annotated[float, Field(ge=0)] = 0.1
    probabilities: list[Annotated[float, Field(ge=0, le=1)]] | None = None
    """One a task, for the law `list`."""
    first: Literal["even", "geometric"] = "even"
    """When tasks enter: at even distances, or in experience v with a probability that falls as (1 - first_rate)^v."""
    first_rate: Annotated[float, Field(gt=0, lt=1)] = 0.1
    samples: Count | None = None
    """Samples of an experience, shared out equally over its tasks; null: all of theirs."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> RepetitionSchedule:
        if (self.law == "list") != (self.probabilities is not None):
            needed = "required for the law 'list', but not given"
            raise mistake(
                needed if self.law == "list" else f"is for the law 'list', not for '{self.law}'", "probabilities"
            )
        if self.law == "geometric" and self.rate >= 1:
            raise mistake(f"got {self.rate:g}. Allowed with the law 'geometric': a number from 0 to below 1", "rate")
        return self


class BlurrySchedule(Model):
    """Every sample once; tasks follow each other, and mix around their boundaries."""

    by: Literal["blurry"]
    experiences: Count
    """Number of equal pieces that the stream is cut into."""
    boundary: Literal["linear", "gaussian", "fuzzy"] = "linear"
    """Samples are displaced by uniform or by normal noise, so that a task's share falls as a line or as the normal
    distribution; or whole pieces, pure in themselves, change places around a boundary."""
    width: NonNegative = 0.25
    """Largest displacement (`gaussian`: its deviation), in mean lengths of a task."""
    always: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of classes, drawn by the stream seed, whose samples come evenly over the whole stream."""


class DriftSchedule(Model):
    """The input changes gradually from each task's transform to the next one's; the tasks are its reference points."""

    by: Literal["drift"]
    experiences: Annotated[int, Field(ge=2)]
    """Steps of the change: the first is at the first task's transform, the last at the last one's."""
    samples: Count | None = None
    """Samples of a step, drawn anew in each; null: the training set is dealt out, every sample once."""


class Lesson(Model):
    """One experience, or several alike."""

    tasks: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    """Tasks that it is about."""
    samples: Count | None = None
    """Of each task, drawn by the stream seed; null: all."""
    repeat: Count = 1


class ExplicitSchedule(Model):
    """A list of experiences."""

    by: Literal["explicit"]
    experiences: Annotated[list[Lesson], Field(min_length=1)]


Schedule = Annotated[
    SequentialSchedule
    | RecurrenceSchedule
    | RandomSubsetsSchedule
    | RepetitionSchedule
    | BlurrySchedule
    | DriftSchedule
    | ExplicitSchedule,
    Field(discriminator="by"),
]


# ------------------------------------------------------------------------------------------------ supervision
class LongTail(Model):
    """Classes of unequal size: that of rank i = 0..C-1 keeps a share of its samples, from 1 down to 1 / ratio."""

    shape: Literal["exponential", "pareto", "step"] = "exponential"
    """ratio^(-i / (C - 1)); (i + 1)^(-a) that ends at 1 / ratio; or 1 for the first half of classes and 1 / ratio."""
    ratio: Annotated[float, Field(ge=1)]
    """Largest class to smallest."""
    order: Literal["seed", "natural", "entry"] = "seed"
    """Ranks: drawn by the stream seed, 0..C-1, or in the order in which classes enter the stream."""


class LabelNoise(Model):
    """Some training labels are wrong; a wrong label is one of the same task."""

    kind: Literal["symmetric", "asymmetric"] = "symmetric"
    """Any other class with equal probability; or each class's successor in its task, or its partner in `pairs`."""
    rate: Annotated[float, Field(gt=0, lt=1)]
    """Share of each class's samples, rounded."""
    pairs: (
        Annotated[list[Annotated[list[ClassNumber], Field(min_length=2, max_length=2)]], Field(min_length=1)] | None
    ) = None
    """Asymmetric: [class, what it is taken for]; other classes keep their labels."""

    @pydantic.field_validator("pairs")
    @classmethod
    def _one_partner(cls, pairs: list[list[int]] | None) -> list[list[int]] | None:
        unique_classes([a for a, _ in pairs or []])
        itself = [a for a, b in pairs or [] if a == b]
        if itself:
            raise mistake(f"{name_classes(itself)} paired with itself")
        return pairs

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> LabelNoise:
        if self.pairs is not None and self.kind == "symmetric":
            raise mistake("is for the kind 'asymmetric', not for 'symmetric'", "pairs")
        return self


class Supervision(Model):
    """How much of the data comes, and how much of it is labelled rightly. Applied in the order of these keys."""

    long_tail: LongTail | None = None
    """Classes of unequal size."""
    shots: Count | None = None
    """Training samples of each class in each task after the first `base` ones, drawn by the stream seed."""
    base: Annotated[int, Field(ge=0)] = 1
    """Tasks at the start that keep all of their samples where `shots` is given."""
    labelled: Share = 1.0
    """Share of each class's samples in each task that have a label, at least one; the others come without."""
    noise: LabelNoise | None = None
    """Wrong labels."""


# ------------------------------------------------------------------------------------------------ streams
class SyntheticData(Model):
    """Gaussian classes with unit covariance and random means; nothing to download."""

    classes: Annotated[int, Field(ge=2, le=100_000)] = 10
    features: Count = 32
    train_per_class: Count = 100
    test_per_class: Count = 20
    separation: Annotated[float, Field(gt=0)] = 4.0
    """Root mean square distance between two class means, in standard deviations of a class."""
    seed: Annotated[int, Field(ge=0)] = 0


class Selection(Model):
    """The stream that hyper-parameters are chosen on: its first experiences alone, tested on a share of their training
    samples, which are left out of training. No test sample is seen."""

    experiences: Count
    """How many of the first."""
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of each class's training samples, rounded; at least one, and one stays."""


def data_name(data: str | list[str]) -> str:
    """See `StreamConfig.data_name`.

    >>> data_name("mnist"), data_name(["mnist", "usps"])
    ('mnist', 'mnist + usps')
    """
    return data if isinstance(data, str) else " + ".join(data)


class StreamConfig(Model):
    """What is learnt, when, and from how much: data set x tasks x schedule x supervision."""

    data: str | Annotated[list[str], Field(min_length=1)]
    """A name (`clbench list datasets`), npz:PATH, an import path, npy:FOLDER or lazy:IMPORT_PATH for inputs that
    stay on the disk, or a list of names, with tasks by given."""
    size: Annotated[int, Field(ge=2, le=1024)] | None = None
    """Height and width that images are brought to; of a list of data sets the first one's by default."""
    tasks: Tasks
    schedule: Schedule = SequentialSchedule()
    supervision: Supervision = Supervision()
    online: Count | None = None
    """Samples of the sub-experiences that each experience is cut into: it comes once, piece by piece, in an order
    drawn by the stream seed; the last piece may be smaller."""
    setting: Literal["class", "task", "domain"]
    """Class-incremental, task-incremental (the task is known at test time) or domain-incremental."""
    normalise: Literal["unit", "standard"] = "unit"
    """`unit`: pixels in [0, 1], float arrays as they are. `standard`: then minus mean, by deviation, per channel."""
    synthetic: SyntheticData | None = None
    """What the data set `synthetic` is made like; for that data set alone."""
    selection: Selection | None = None
    """Only what hyper-parameters may be chosen on; studies set it for their trials."""

    @property
    def data_name(self) -> str:
        """Name of the data set in tables and messages; of several, their names joined."""
        return data_name(self.data)

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> StreamConfig:
        by, within = self.tasks.by, getattr(self.tasks, "labels", "class") == "within_task"
        allowed = _SETTINGS.get(by, ("domain",))
        if within and by != "classes":
            raise mistake(f"got 'within_task', which needs tasks by classes, not by {by}", "tasks.labels")
        if self.setting not in allowed:
            raise mistake(f"got '{self.setting}'. Allowed with tasks by {by}: {', '.join(allowed)}", "setting")
        if by == "classes" and self.setting == "domain" and not within:
            raise mistake("got 'domain', which needs tasks.labels to be within_task", "setting")
        if self.setting != "domain" and within:
            raise mistake(f"got '{self.setting}'. Allowed with labels within the task: domain", "setting")
        if self.data == "synthetic" and self.synthetic is None:
            raise mistake("required for the data set 'synthetic', but not given", "synthetic")
        if self.data != "synthetic" and self.synthetic is not None:
            raise mistake(f"is for the data set 'synthetic', not for {shown(self.data)}; null unsets it", "synthetic")
        if isinstance(self.data, list) and by != "given":
            raise mistake(f"a list of data sets needs tasks by given, not by {by}", "data")
        self._schedule_fits()
        return self

    def _schedule_fits(self) -> None:
        """Whether tasks, schedule and supervision make sense together."""
        by, schedule, supervision = self.tasks.by, self.schedule, self.supervision
        if by in _IN_PARTS and not isinstance(schedule, SequentialSchedule):
            raise mistake(
                f"got '{schedule.by}'. Allowed with tasks by {by}, which come in parts: sequential", "schedule.by"
            )
        if isinstance(schedule, DriftSchedule):
            if not isinstance(self.tasks, RotationTasks | TransformTasks):
                raise mistake(f"got 'drift', which needs tasks by rotations or transforms, not by {by}", "schedule.by")
            if isinstance(self.tasks, TransformTasks):
                inverted = {t.invert for t in self.tasks.transforms}
                if len(inverted) > 1 or any(t.permutation for t in self.tasks.transforms):
                    between = "between permuted or inverted inputs and others there is nothing"
                    raise mistake(
                        f"got 'drift', which changes rotation, brightness and noise; {between}", "schedule.by"
                    )
            if len(self.domains_listed()) < 2:
                raise mistake("got 'drift', which needs two tasks or more", "schedule.by")
        if isinstance(schedule, BlurrySchedule) and schedule.always and by != "classes":
            raise mistake(f"classes that are always there need tasks by classes, not by {by}", "schedule.always")
        if supervision.base != 1 and supervision.shots is None:
            raise mistake("is for few shots; give 'shots', or leave it out", "supervision.base")
        if supervision.shots is not None and supervision.labelled < 1:
            raise mistake("leave it out; shots are labelled samples already", "supervision.labelled")
        if supervision.shots is not None and isinstance(schedule, DriftSchedule):
            raise mistake(
                "a drift deals out one training set, and has no tasks with shots of their own", "supervision.shots"
            )
        if supervision.shots is not None and by in _IN_PARTS:
            raise mistake(f"shots are counted in whole tasks, and tasks by {by} come in parts", "supervision.shots")

    def domains_listed(self) -> list[Transform]:
        """The transforms of tasks by rotations or transforms, T of them; none otherwise."""
        if isinstance(self.tasks, RotationTasks):
            return [Transform(rotation=d) for d in self.tasks.degrees]
        return list(self.tasks.transforms) if isinstance(self.tasks, TransformTasks) else []
