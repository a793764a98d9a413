"""Answers to mistakes in a stream's definition: the exact words, for every key of the grammar.

Each case is the `stream` section of a file, or what is changed in it. `clbench validate` tells what needs no data; what
only the samples show is told when the stream is compiled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clbench import messages, registry, resolve
from clbench.cli import main
from clbench.errors import UserError
from clbench.streams import definition
from clbench.streams.compile import compile_stream

SYNTHETIC = "data: synthetic\n  synthetic: {classes: 6, features: 4, train_per_class: 20, test_per_class: 2}"
CLASSES, SEQUENTIAL = "{by: classes, count: 3}", "{by: sequential}"
FAMILIES, SCHEDULES = (
    ", ".join(name for model in messages.member_models(union) for name in messages.tags(model))
    for union in (definition.Tasks, definition.AnySchedule)
)
RECURRENCE = "by, variant, exponent, tau, new, rehearsed, share, probability"
SHARE = "a number > 0 and <= 1"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLBENCH_OFFLINE", "1")
    monkeypatch.setenv("CLBENCH_DATA", "data")
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")


def text(
    tasks: str = CLASSES, schedule: str = SEQUENTIAL, setting: str = "class", data: str = SYNTHETIC, more: str = "",
    training: str = "iterations: 3", rest: str = "",
) -> str:  # fmt: skip
    return f"""\
id: mine-v1
stream:
  {data}
  tasks: {tasks}
  schedule: {schedule}
  setting: {setting}
  {more}
model: {{name: mlp, hidden: [8]}}
training: {{{training}, batch_size: 8, optimizer: {{name: sgd, lr: 0.1}}}}
{rest}
"""


def told(capsys: pytest.CaptureFixture[str], file: str, *flags: str) -> list[str]:
    """Messages of `clbench validate mine.yaml`, without the file's name."""
    Path("mine.yaml").write_text(file)
    status = main(["validate", "mine.yaml", *flags])
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert all(line.startswith("mine.yaml: ") for line in err.splitlines())
    return [line.removeprefix("mine.yaml: ") for line in err.splitlines()]


@pytest.mark.parametrize(
    "said",
    [
        {}, {"tasks": "{by: classes_and_instances, count: 3, parts: 2}"},
        {"tasks": "{by: instances, count: 4}", "setting": "domain"},
        {"tasks": "{by: transforms, transforms: [{}, {brightness: 0.5}, {noise: 0.1, permutation: true}]}",
         "setting": "domain"},
        {"schedule": "{by: exponential, rehearsed: 3, tau: 2}"},
        {"schedule": "{by: power_law, variant: amount, share: 0.5}"},
        {"schedule": "{by: uniform, variant: recurrence, probability: 1, share: 1}"},
        {"schedule": "{by: none}"}, {"schedule": "{by: random_subsets, experiences: 9, entropy_decrease: 2}"},
        {"schedule": "{by: repetition, experiences: 9, law: list, probabilities: [1, 0.5, 0]}"},
        {"schedule": "{by: blurry, experiences: 9, boundary: fuzzy, always: 0.2}"},
        {"schedule": "{by: explicit, experiences: [{tasks: [0, 2]}, {tasks: [1], samples: 3, repeat: 2}]}"},
        {"more": "online: 5"}, {"more": "supervision: {long_tail: {ratio: 2}, shots: 3, base: 2}"},
        {"more": "supervision: {labelled: 0.5, noise: {rate: 0.2, kind: asymmetric, pairs: [[0, 1]]}}"},
    ],
)  # fmt: skip
def test_the_files_that_are_changed_below_are_good(capsys: pytest.CaptureFixture[str], said: dict[str, str]) -> None:
    Path("mine.yaml").write_text(text(**said))
    assert main(["validate", "mine.yaml"]) == 0
    assert capsys.readouterr() == ("mine.yaml: ok\n", "")


def case(message: str, **said: str) -> Any:
    return pytest.param(said, message, id=message[:70])


def domain(message: str, **said: str) -> Any:
    return case(message, setting="domain", **said)


# ------------------------------------------------------------------------------------------------ tasks
TASKS = [
    case(f"stream.tasks.by: got 'instanses'. Did you mean 'instances'? Allowed: {FAMILIES}.", tasks="{by: instanses}"),
    case("stream.tasks.parts: required, but not given.", tasks="{by: classes_and_instances, count: 3}"),
    case("stream.tasks.parts: got 1. Allowed: an integer >= 2.",
         tasks="{by: classes_and_instances, count: 3, parts: 1}"),
    case("stream.tasks.part: unknown key. Did you mean 'parts'? "
         "Allowed: by, parts, count, first, order, blocks, labels.",
         tasks="{by: classes_and_instances, count: 3, parts: 2, part: 1}"),
    case("stream.tasks.first: got 0. Allowed: an integer >= 1.", tasks="{by: classes, count: 3, first: 0}"),
    case("stream.tasks.first: is for two tasks and more, and 'count' is 1.", tasks="{by: classes, count: 1, first: 3}"),
    case("stream.tasks.first: leave it out; 'blocks' defines the classes of the first task already.",
         tasks="{by: classes, blocks: [[0, 1], [2]], first: 2}"),
    case("stream.tasks.first: 5 of 6 classes leave 1 for 2 other tasks.", tasks="{by: classes, count: 3, first: 5}"),
    case("stream.tasks.first: 9 of 6 classes leave 0 for 2 other tasks.", tasks="{by: classes, count: 3, first: 9}"),
    case("stream.tasks.count: required, but not given.", tasks="{by: instances}", setting="domain"),
    case("stream.setting: got 'class'. Allowed with tasks by instances: domain.", tasks="{by: instances, count: 2}"),
    case("stream.setting: got 'task'. Allowed with tasks by transforms: domain.",
         tasks="{by: transforms, transforms: [{}]}", setting="task"),
    case("stream.setting: got 'domain'. Allowed with tasks by classes_and_instances: class, task.",
         tasks="{by: classes_and_instances, count: 3, parts: 2}", setting="domain"),
    *(case("stream.tasks.labels: got 'within_task', which needs tasks by classes, not by classes_and_instances.",
           tasks="{by: classes_and_instances, count: 3, parts: 2, labels: within_task}", setting=setting)
      for setting in ("class", "domain")),
    domain("stream.tasks.count: labels within the task need blocks of one size, and 6 classes do not divide by 4.",
           tasks="{by: classes, count: 4, labels: within_task}"),
    domain("stream.tasks.blocks: labels within the task need blocks of one size.",
           tasks="{by: classes, blocks: [[0, 1], [2]], labels: within_task}"),
    domain("stream.tasks.first: labels within the task need blocks of one size.",
           tasks="{by: classes, count: 2, first: 3, labels: within_task}"),
    domain("stream.tasks.first: got 'moved'. Allowed: identity, permuted.",
           tasks="{by: permutations, count: 2, first: moved}"),
    domain("stream.tasks.degrees[1]: got 400. Allowed: a number from -360 to 360.",
           tasks="{by: rotations, degrees: [0, 400]}"),
    domain("stream.tasks.degrees: got []. Allowed: a list of one or more numbers from -360 to 360.",
           tasks="{by: rotations, degrees: []}"),
    domain("stream.tasks.transforms: got []. Allowed: a list of one or more mappings.",
           tasks="{by: transforms, transforms: []}"),
    domain("stream.tasks.transforms[1].brightnes: unknown key. Did you mean 'brightness'? "
           "Allowed: rotation, permutation, invert, brightness, noise.",
           tasks="{by: transforms, transforms: [{}, {brightnes: 1}]}"),
    domain("stream.tasks.transforms[0].brightness: got -1. Allowed: a number >= 0.",
           tasks="{by: transforms, transforms: [{brightness: -1}]}"),
    domain("stream.tasks.transforms[0].noise: got -0.1. Allowed: a number >= 0.",
           tasks="{by: transforms, transforms: [{noise: -0.1}]}"),
    domain("stream.tasks.transforms[0].permutation: got 3. Allowed: true or false.",
           tasks="{by: transforms, transforms: [{permutation: 3}]}"),
    domain("stream.tasks.transforms[1].rotation: needs images, and 'synthetic' holds vectors.",
           tasks="{by: transforms, transforms: [{}, {rotation: 30}]}"),
    domain("stream.tasks.transforms[1].invert: needs images, and 'synthetic' holds vectors.",
           tasks="{by: transforms, transforms: [{}, {invert: true}]}"),
    case("stream.tasks.by: got 'given', but 'synthetic' has no tasks; a file gives them by train_task and test_task, "
         "a table by columns.task.",
         tasks="{by: given}"),
    case("stream.data: a list of data sets needs tasks by given, not by classes.", data="data: [digits, usps]"),
    case("stream.synthetic: is for the data set 'synthetic', not for ['digits', 'usps']; null unsets it.",
         data=SYNTHETIC.replace("data: synthetic", "data: [digits, usps]"), tasks="{by: given}"),
    case("stream.size: is for images, and 'synthetic' holds vectors.", more="size: 8"),
    case("stream.size: got 1. Allowed: an integer from 2 to 1024.", more="size: 1"),
    case("stream.normalise: got 'standart'. Did you mean 'standard'? Allowed: unit, standard.",
         more="normalise: standart"),
    case("stream.online: got 0. Allowed: an integer >= 1.", more="online: 0"),
    case("stream.online: got true. Allowed: an integer >= 1.", more="online: true"),
]  # fmt: skip

# ------------------------------------------------------------------------------------------------ schedules
SCHEDULE = [
    case(f"stream.schedule.by: got 'powerlaw'. Did you mean 'power_law'? Allowed: {SCHEDULES}.",
         schedule="{by: powerlaw}"),
    case(f"stream.schedule.by: required, but not given. Allowed: {SCHEDULES}.", schedule="{exponent: 1}"),
    case("stream.schedule: got 'uniform'. Did you mean {by: uniform}? Allowed: keys and values.", schedule="uniform"),
    case("stream.schedule.exponent: unknown key. Allowed: by.", schedule="{by: sequential, exponent: 1}"),
    case("stream.schedule.rehearsed: required for the variant 'matched', but not given.", schedule="{by: power_law}"),
    case("stream.schedule.rehearsed: is for the variant matched, not for 'amount'.",
         schedule="{by: power_law, variant: amount, rehearsed: 3}"),
    case("stream.schedule.share: is for the variants amount and recurrence, not for 'matched'.",
         schedule="{by: uniform, rehearsed: 3, share: 0.5}"),
    case("stream.schedule.probability: is for the variant recurrence, not for 'amount'.",
         schedule="{by: uniform, variant: amount, probability: 0.5}"),
    case("stream.schedule.tau: is for the exponential law, not for 'power_law'.",
         schedule="{by: power_law, rehearsed: 3, tau: 2}"),
    case("stream.schedule.tau: got 0. Allowed: a number > 0.", schedule="{by: exponential, rehearsed: 3, tau: 0}"),
    case("stream.schedule.exponent: got -1. Allowed: a number >= 0.",
         schedule="{by: power_law, rehearsed: 3, exponent: -1}"),
    case("stream.schedule.variant: got 'amounts'. Did you mean 'amount'? Allowed: matched, amount, recurrence.",
         schedule="{by: power_law, variant: amounts}"),
    case("stream.schedule.rehearsed: got 0. Allowed: an integer >= 1.", schedule="{by: power_law, rehearsed: 0}"),
    case("stream.schedule.new: got 0. Allowed: an integer >= 1.", schedule="{by: none, new: 0}"),
    case(f"stream.schedule.share: got 0. Allowed: {SHARE}.", schedule="{by: uniform, variant: amount, share: 0}"),
    case(f"stream.schedule.probability: got 1.5. Allowed: {SHARE}.",
         schedule="{by: uniform, variant: recurrence, probability: 1.5}"),
    case(f"stream.schedule.exponnt: unknown key. Did you mean 'exponent'? Allowed: {RECURRENCE}.",
         schedule="{by: none, exponnt: 1}"),
    case("stream.schedule.by: got 'power_law', which needs two tasks or more.", tasks="{by: classes, count: 1}",
         schedule="{by: power_law, rehearsed: 3}"),
    case("stream.schedule.by: got 'blurry', which needs two tasks or more.", tasks="{by: classes, count: 1}",
         schedule="{by: blurry, experiences: 3}"),
    case("stream.schedule.experiences: required, but not given.", schedule="{by: random_subsets}"),
    case("stream.schedule.size: got 4, but there are 3 tasks.",
         schedule="{by: random_subsets, experiences: 9, size: 4}"),
    case("stream.schedule.factor: got 0.6. Allowed with 3 tasks: below 0.5.",
         schedule="{by: random_subsets, experiences: 9, entropy_decrease: 1, factor: 0.6}"),
    case("stream.schedule.factor: got 1. Allowed: a number from 0 to below 1.",
         schedule="{by: random_subsets, experiences: 9, factor: 1}"),
    case("stream.schedule.entropy_decrease: got -1. Allowed: a number >= 0.",
         schedule="{by: random_subsets, experiences: 9, entropy_decrease: -1}"),
    case("stream.schedule.samples: got 0. Allowed: an integer >= 1.",
         schedule="{by: random_subsets, experiences: 9, samples: 0}"),
    case("stream.schedule.experiences: got 2, fewer than the 3 tasks.", schedule="{by: repetition, experiences: 2}"),
    case("stream.schedule.probabilities: got 2, but there are 3 tasks.",
         schedule="{by: repetition, experiences: 9, law: list, probabilities: [1, 1]}"),
    case("stream.schedule.probabilities[1]: got 2. Allowed: a number from 0 to 1.",
         schedule="{by: repetition, experiences: 9, law: list, probabilities: [1, 2, 1]}"),
    case("stream.schedule.probabilities: required for the law 'list', but not given.",
         schedule="{by: repetition, experiences: 9, law: list}"),
    case("stream.schedule.probabilities: is for the law 'list', not for 'geometric'.",
         schedule="{by: repetition, experiences: 9, probabilities: [1, 1, 1]}"),
    case("stream.schedule.rate: got 1. Allowed with the law 'geometric': a number from 0 to below 1.",
         schedule="{by: repetition, experiences: 9, rate: 1}"),
    case("stream.schedule.first_rate: got 0. Allowed: a number > 0 and < 1.",
         schedule="{by: repetition, experiences: 9, first_rate: 0}"),
    case("stream.schedule.law: got 'zif'. Did you mean 'zipf'? Allowed: geometric, zipf, list.",
         schedule="{by: repetition, experiences: 9, law: zif}"),
    case("stream.schedule.first: got 'evenly'. Did you mean 'even'? Allowed: even, geometric.",
         schedule="{by: repetition, experiences: 9, first: evenly}"),
    case("stream.schedule.samples: got 2, too few for an experience in which all 3 tasks meet.",
         schedule="{by: repetition, experiences: 9, samples: 2}"),
    case("stream.schedule.experiences: got 2, fewer than the 3 tasks.", schedule="{by: blurry, experiences: 2}"),
    case("stream.schedule.width: got -1. Allowed: a number >= 0.", schedule="{by: blurry, experiences: 9, width: -1}"),
    case("stream.schedule.boundary: got 'normal'. Allowed: linear, gaussian, fuzzy.",
         schedule="{by: blurry, experiences: 9, boundary: normal}"),
    case("stream.schedule.always: got 1.5. Allowed: a number from 0 to 1.",
         schedule="{by: blurry, experiences: 9, always: 1.5}"),
    domain("stream.schedule.always: blurry classes need tasks by classes, not by permutations.",
           tasks="{by: permutations, count: 3}", schedule="{by: blurry, experiences: 9, always: 0.5}"),
    case("stream.schedule.by: got 'drift', which needs tasks by rotations or transforms, not by classes.",
         schedule="{by: drift, experiences: 9}"),
    domain("stream.schedule.by: got 'drift', which changes rotation, brightness and noise; between permuted or "
           "inverted inputs and others there is nothing.",
           tasks="{by: transforms, transforms: [{}, {permutation: true}]}", schedule="{by: drift, experiences: 9}"),
    domain("stream.schedule.by: got 'drift', which changes rotation, brightness and noise; between permuted or "
           "inverted inputs and others there is nothing.",
           tasks="{by: transforms, transforms: [{}, {invert: true}]}", schedule="{by: drift, experiences: 9}"),
    domain("stream.schedule.by: got 'drift', which needs two tasks or more.",
           tasks="{by: transforms, transforms: [{noise: 0.1}]}", schedule="{by: drift, experiences: 9}"),
    domain("stream.schedule.experiences: got 1. Allowed: an integer >= 2.",
           tasks="{by: rotations, degrees: [0, 9]}", schedule="{by: drift, experiences: 1}"),
    domain("stream.schedule.experiences: got 2, fewer than the 3 tasks.",
           tasks="{by: transforms, transforms: [{}, {noise: 0.1}, {}]}", schedule="{by: drift, experiences: 2}"),
    domain("stream.schedule.by: got 'uniform'. Allowed with tasks by instances, which come in parts: sequential.",
           tasks="{by: instances, count: 3}", schedule="{by: uniform, rehearsed: 2}"),
    case("stream.schedule.by: got 'explicit'. Allowed with tasks by classes_and_instances, which come in parts: "
         "sequential.", tasks="{by: classes_and_instances, count: 3, parts: 2}",
         schedule="{by: explicit, experiences: [{tasks: [0]}]}"),
    case("stream.schedule.experiences: got []. Allowed: a list of one or more mappings.",
         schedule="{by: explicit, experiences: []}"),
    case("stream.schedule.experiences[1].tasks: task 5 is not in the stream, which has tasks 0 to 2.",
         schedule="{by: explicit, experiences: [{tasks: [0, 1, 2]}, {tasks: [5]}]}"),
    case("stream.schedule.experiences[0].tasks: a task is listed twice.",
         schedule="{by: explicit, experiences: [{tasks: [0, 1, 2, 1]}]}"),
    case("stream.schedule.experiences: tasks 0, 2 are in no experience.",
         schedule="{by: explicit, experiences: [{tasks: [1]}]}"),
    case("stream.schedule.experiences[0].tasks: got []. Allowed: a list of one or more integers >= 0.",
         schedule="{by: explicit, experiences: [{tasks: []}]}"),
    case("stream.schedule.experiences[0].task: unknown key. Did you mean 'tasks'? Allowed: tasks, samples, repeat.",
         schedule="{by: explicit, experiences: [{tasks: [0, 1, 2], task: 1}]}"),
    case("stream.schedule.experiences[0].repeat: got 0. Allowed: an integer >= 1.",
         schedule="{by: explicit, experiences: [{tasks: [0, 1, 2], repeat: 0}]}"),
]  # fmt: skip

# ------------------------------------------------------------------------------------------------ supervision
SUPERVISION = [
    case("stream.supervision.label: unknown key. Did you mean 'labelled'? Allowed: long_tail, shots, base, labelled, "
         "noise.", more="supervision: {label: 0.5}"),
    case("stream.supervision.long_tail.ratio: required, but not given.", more="supervision: {long_tail: {}}"),
    case("stream.supervision.long_tail.ratio: got 0.5. Allowed: a number >= 1.",
         more="supervision: {long_tail: {ratio: 0.5}}"),
    case("stream.supervision.long_tail.shape: got 'exp'. Did you mean 'exponential'? "
         "Allowed: exponential, pareto, step.", more="supervision: {long_tail: {ratio: 2, shape: exp}}"),
    case("stream.supervision.long_tail.order: got 'random'. Allowed: seed, natural, entry.",
         more="supervision: {long_tail: {ratio: 2, order: random}}"),
    case("stream.supervision.long_tail: got 3. Allowed: keys and values.", more="supervision: {long_tail: 3}"),
    case("stream.supervision.shots: got 0. Allowed: an integer >= 1.", more="supervision: {shots: 0}"),
    case("stream.supervision.base: is for few shots; give 'shots', or leave it out.", more="supervision: {base: 2}"),
    case("stream.supervision.base: got -1. Allowed: an integer >= 0.", more="supervision: {shots: 2, base: -1}"),
    case("stream.supervision.base: got 3, which leaves none of 3 tasks for shots.",
         more="supervision: {shots: 2, base: 3}"),
    case("stream.supervision.labelled: leave it out; shots are labelled samples already.",
         more="supervision: {shots: 2, labelled: 0.5}"),
    case(f"stream.supervision.labelled: got 0. Allowed: {SHARE}.", more="supervision: {labelled: 0}"),
    domain("stream.supervision.shots: shots are counted in whole tasks, and tasks by instances come in parts.",
           tasks="{by: instances, count: 3}", more="supervision: {shots: 2}"),
    domain("stream.supervision.shots: a drift distributes one training set, and has no shots per task.",
           tasks="{by: transforms, transforms: [{}, {noise: 0.2}]}", schedule="{by: drift, experiences: 4}",
           more="supervision: {shots: 2}"),
    case("stream.supervision.noise.rate: got 1. "
         "Allowed: a number > 0 and < 1.", more="supervision: {noise: {rate: 1}}"),
    case("stream.supervision.noise.kind: got 'asym'. Did you mean 'asymmetric'? Allowed: symmetric, asymmetric.",
         more="supervision: {noise: {rate: 0.1, kind: asym}}"),
    case("stream.supervision.noise.pairs: is for the kind 'asymmetric', not for 'symmetric'.",
         more="supervision: {noise: {rate: 0.1, pairs: [[0, 1]]}}"),
    case("stream.supervision.noise.pairs: class 0 is paired with itself.",
         more="supervision: {noise: {rate: 0.1, kind: asymmetric, pairs: [[0, 0]]}}"),
    case("stream.supervision.noise.pairs: class 0 is listed twice.",
         more="supervision: {noise: {rate: 0.1, kind: asymmetric, pairs: [[0, 1], [0, 2]]}}"),
    case("stream.supervision.noise.pairs[0]: got [0]. Allowed: a list of 2 integers >= 0.",
         more="supervision: {noise: {rate: 0.1, kind: asymmetric, pairs: [[0]]}}"),
    case("stream.supervision.noise.pairs: classes 6, 9 are not in 'synthetic', which has classes 0 to 5.",
         more="supervision: {noise: {rate: 0.1, kind: asymmetric, pairs: [[0, 9], [6, 1]]}}"),
]  # fmt: skip

# ------------------------------------------------------------------------------------------------ beside the stream
DENIED = "which needs the boundaries that the protocol denies"
BESIDE = [
    case("training.budget: got 'streem'. Did you mean 'stream'? Allowed: experience, stream.",
         training="iterations: 3, budget: streem"),
    case("training.active_outputs: got 'batches'. Did you mean 'batch'? Allowed: all, seen, task, batch.",
         training="iterations: 3, active_outputs: batches"),
    case("protocol.boundary: unknown key. Did you mean 'boundaries'? "
         "Allowed: task_in_training, task_at_test, boundaries.", rest="protocol: {boundary: false}"),
    case("protocol.boundaries: got 'no'. Allowed: true or false.", rest="protocol: {boundaries: no}"),
    case("protocol.task_at_test: got true. Allowed in the setting 'class': false.",
         rest="protocol: {task_at_test: true}"),
    case("protocol.task_at_test: got false. Allowed in the setting 'task': true.", setting="task",
         rest="protocol: {task_at_test: false}"),
    case("training.active_outputs: got 'task', which needs the tasks that the protocol denies.",
         training="iterations: 3, active_outputs: task", rest="protocol: {task_in_training: false}"),
    case("training.active_outputs: got 'task', which needs the tasks that the protocol denies.", setting="task",
         rest="protocol: {task_in_training: false}"),
    case(f"training.active_outputs: got 'seen', {DENIED}.", training="iterations: 3, active_outputs: seen",
         rest="protocol: {boundaries: false}"),
    case(f"training.optimizer_state: got 'reset', {DENIED}.", training="iterations: 3, optimizer_state: reset",
         rest="protocol: {boundaries: false}"),
    case("strategy 'er' needs the boundaries of experiences as it is configured, which "
         "protocol.boundaries of mine-v1 denies.",
         rest="protocol: {boundaries: false}\nstrategy: {name: er, fill: after}"),
    case("strategy 'er' needs the boundaries of experiences as it is configured, which "
         "protocol.boundaries of mine-v1 denies.",
         rest="protocol: {boundaries: false}\nstrategy: {name: er, loss: weighted}"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "message"), [*TASKS, *SCHEDULE, *SUPERVISION, *BESIDE])
def test_mistake(capsys: pytest.CaptureFixture[str], said: dict[str, str], message: str) -> None:
    assert told(capsys, text(**said)) == [message]


def test_all_mistakes_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    file = text(
        tasks="{by: classes, cuont: 3}", schedule="{by: repetition, experiences: 0, lwa: zipf}", setting="clas",
        more="supervision: {labelled: 2, noise: {rate: 0}}\n  online: -1", training="iterations: 3, budget: all",
        rest="protocol: {boundaries: 1}",
    )  # fmt: skip
    keys = "by, experiences, law, probability, rate, probabilities, first, first_rate, samples"
    assert told(capsys, file) == [
        "stream.tasks.cuont: unknown key. Did you mean 'count'? Allowed: by, count, first, order, blocks, labels.",
        "stream.schedule.experiences: got 0. Allowed: an integer >= 1.",
        f"stream.schedule.lwa: unknown key. Did you mean 'law'? Allowed: {keys}.",
        f"stream.supervision.labelled: got 2. Allowed: {SHARE}.",
        "stream.supervision.noise.rate: got 0. Allowed: a number > 0 and < 1.",
        "stream.online: got -1. Allowed: an integer >= 1.",
        "stream.setting: got 'clas'. Did you mean 'class'? Allowed: class, task, domain.",
        "training.budget: got 'all'. Allowed: experience, stream.",
        "protocol.boundaries: got 1. Allowed: true or false.",
    ]
    both = text(
        tasks="{by: classes, blocks: [[0, 7], [1]]}", more="size: 4\n  supervision: {noise: {rate: 0.1, "
        "kind: asymmetric, pairs: [[8, 1]]}}", training="iterations: 3, active_outputs: seen, optimizer_state: reset",
        rest="protocol: {boundaries: false, task_at_test: true}",
    )  # fmt: skip
    assert told(capsys, both) == [
        "stream.tasks.blocks: class 7 is not in 'synthetic', which has classes 0 to 5.",
        "stream.size: is for images, and 'synthetic' holds vectors.",
        "stream.supervision.noise.pairs: class 8 is not in 'synthetic', which has classes 0 to 5.",
        "protocol.task_at_test: got true. Allowed in the setting 'class': false.",
        f"training.active_outputs: got 'seen', {DENIED}.",
        f"training.optimizer_state: got 'reset', {DENIED}.",
    ]


def test_every_word_that_a_protocol_denies() -> None:
    """The sentence for each kind of knowledge that a user-defined strategy needs."""
    Path("mine.yaml").write_text(text(rest="protocol: {boundaries: false, task_in_training: false}"))
    benchmark = resolve.resolve("mine.yaml", need_strategy=False)[0]
    assert resolve.denied(benchmark, "mine", {"task_at_test", "boundaries", "task_in_training"}) == [
        "strategy 'mine' needs the boundaries of experiences as it is configured, which "
        "protocol.boundaries of mine-v1 denies.",
        "strategy 'mine' needs the task labels of test samples as it is configured, which "
        "protocol.task_at_test of mine-v1 denies.",
        "strategy 'mine' needs the task labels of training samples as it is configured, which "
        "protocol.task_in_training of mine-v1 denies.",
    ]


# ------------------------------------------------------------------------------------------------ one class
ALONE = "one class, so that no answer can be wrong; give each task two classes or more, or take the setting 'class'."


@pytest.mark.parametrize(
    ("tasks", "setting", "which"),
    [
        ("{by: classes, count: 6}", "task", "tasks 0-5 have"),
        ("{by: classes, count: 4}", "task", "tasks 2, 3 have"),
        ("{by: classes, count: 5, order: natural}", "task", "tasks 1-4 have"),
        ("{by: classes, count: 2, first: 5}", "task", "task 1 has"),
        ("{by: classes, count: 3, first: 1}", "task", "task 0 has"),
        ("{by: classes, blocks: [[0, 1], [2], [3, 4, 5]]}", "task", "task 1 has"),
        ("{by: classes_and_instances, count: 4, parts: 2}", "task", "tasks 2, 3 have"),
        ("{by: classes, count: 6, labels: within_task}", "domain", "tasks 0-5 have"),
    ],
)
def test_tasks_of_one_class(capsys: pytest.CaptureFixture[str], tasks: str, setting: str, which: str) -> None:
    """Told without data; in the setting 'class' they are tasks like others."""
    assert told(capsys, text(tasks=tasks, setting=setting)) == [f"stream.setting: got '{setting}', but {which} {ALONE}"]
    if setting == "task":
        Path("mine.yaml").write_text(text(tasks=tasks))
        assert main(["validate", "mine.yaml"]) == 0


def compiled(stream: dict[str, Any]) -> Any:
    section, problems = messages.check_section("t", "stream", definition.StreamConfig, stream, {})
    assert not problems
    return compile_stream(section, 0)


@pytest.mark.parametrize(
    ("y", "setting", "sentence"),
    [
        ([0, 1, 2, 2], "task", f"stream.setting: got 'task', but task 1 has {ALONE}"),
        ([0, 0, 1, 1], "task", f"stream.setting: got 'task', but tasks 0, 1 have {ALONE}"),
        ([0, 1, 2, 2], "class", None), ([0, 1, 1, 1], "domain", None),
        *(([0, 0, 0, 0], setting, "stream.data: 'npz:d.npz' has one class; no answer can be wrong.")
          for setting in ("class", "task", "domain")),
    ],
)  # fmt: skip
def test_tasks_of_one_class_that_only_the_data_show(y: list[int], setting: str, sentence: str | None) -> None:
    np.savez("d.npz", x=np.zeros((40, 3), np.float32), y=np.tile(y, 10), task=np.tile([0, 0, 1, 1], 10))
    stream = {"data": "npz:d.npz", "tasks": {"by": "given"}, "setting": setting}
    if sentence is None:
        compiled(stream)
        return
    with pytest.raises(UserError) as caught:
        compiled(stream)
    assert caught.value.problems == (sentence,)


def test_a_selection_of_one_class() -> None:
    """Each choice of hyper-parameters would be right in all its answers."""
    stream: dict[str, Any] = {
        "data": "digits", "tasks": {"by": "classes", "count": 10, "order": "natural"}, "setting": "class",
        "selection": {"experiences": 2},
    }  # fmt: skip
    compiled(stream)
    with pytest.raises(UserError) as caught:
        compiled({**stream, "selection": {"experiences": 1}})
    assert caught.value.problems == (
        "stream.selection.experiences: got 1; all tasks have one class, 0, so that no answer can be wrong.",
    )


@pytest.mark.parametrize("name", sorted(registry.benchmarks()))
def test_answers_of_every_shipped_benchmark_can_be_wrong(name: str) -> None:
    stream = resolve.resolve(name, need_strategy=False)[0].stream
    classes = registry.datasets().facts(stream.data, **stream.reading).classes
    assert stream.setting != "task" or min(stream.tasks.sizes(classes) or [2]) > 1


# ------------------------------------------------------------------------------------------------ what samples show
COMPILED: list[Any] = [
    case("stream.schedule.new: got 41, but task 0 has 40 training samples.", schedule="{by: none, new: 41}"),
    case("stream.schedule.rehearsed: got 50, but the tasks before phase 1 have 40 training samples.",
         schedule="{by: uniform, rehearsed: 50}"),
    case("stream.schedule.samples: got 41, but task 0 has 40 training samples.",
         schedule="{by: random_subsets, experiences: 9, samples: 41}"),
    case("stream.schedule.experiences: got 121, but there are 120 samples.", schedule="{by: blurry, experiences: 121}"),
    case("stream.schedule.always: got 0.7, which is 4 of 6 classes; each task keeps one that is not always there, so "
         "that 3 can be.", schedule="{by: blurry, experiences: 9, always: 0.7}"),
    case("stream.schedule.experiences: got 3, too few for task 1 to occur.",
         tasks="{by: classes, blocks: [[0, 3, 4, 5], [1], [2]]}", schedule="{by: blurry, experiences: 3}"),
    case("stream.schedule.experiences[1].samples: got 50, but task 2 has 40 training samples.",
         schedule="{by: explicit, experiences: [{tasks: [0, 1]}, {tasks: [2], samples: 50}]}"),
    domain("stream.schedule.samples: got 121, but there are 120 training samples.",
           tasks="{by: transforms, transforms: [{}, {noise: 0.2}]}",
           schedule="{by: drift, experiences: 4, samples: 121}"),
    domain("stream.schedule.experiences: got 121, but there are 120 training samples.",
           tasks="{by: transforms, transforms: [{}, {noise: 0.2}]}", schedule="{by: drift, experiences: 121}"),
    domain("stream.tasks.count: got 121, but 'synthetic' has 120 training samples.",
           tasks="{by: instances, count: 121}"),
    case("stream.tasks.parts: got 41, but task 0 has 40 samples.",
         tasks="{by: classes_and_instances, count: 3, parts: 41}"),
    case("stream.supervision.shots: got 21, but class 0 has 20 training samples in task 0.",
         tasks="{by: classes, blocks: [[0, 3], [1, 2]]}", more="supervision: {shots: 21, base: 0}"),
    case("stream.supervision.noise: task 0 has one class, so that no label of it can be wrong.",
         tasks="{by: classes, count: 6}", more="supervision: {noise: {rate: 0.5}}"),
    case("stream.supervision.noise.pairs: class 0 is in task 0, and class 1 is not.",
         tasks="{by: classes, blocks: [[0, 3], [1, 2]]}",
         more="supervision: {noise: {rate: 0.5, kind: asymmetric, pairs: [[0, 1]]}}"),
    domain("stream: experience 2 of 120 has no labelled training sample.", tasks="{by: instances, count: 120}",
           more="supervision: {labelled: 0.5}"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "message"), COMPILED)
def test_what_only_the_samples_show(said: dict[str, str], message: str) -> None:
    Path("mine.yaml").write_text(text(**said))
    benchmark = resolve.resolve("mine.yaml", need_strategy=False)[0]
    with pytest.raises(UserError) as caught:
        compile_stream(benchmark.stream, 0)
    assert caught.value.problems == (message,)


def test_what_fits_no_data_is_told_by_compiling_too() -> None:
    """Code of the user's own gives data of which nothing is known beforehand."""
    np.savez("d.npz", x=np.zeros((20, 3), np.float32), y=np.arange(20) % 2)
    found, problems = messages.check_section(
        "t", "stream", definition.StreamConfig,
        {"data": "npz:d.npz", "tasks": {"by": "classes", "count": 3}, "setting": "class"}, {},
    )  # fmt: skip
    assert not problems
    with pytest.raises(UserError) as caught:
        compile_stream(found, 0)
    assert caught.value.problems == ("stream.tasks.count: 3 tasks, but 'npz:d.npz' has 2 classes.",)
