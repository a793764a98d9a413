"""Answers to a user's mistakes: the exact words, exit status 2, and no import of anything heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from clbench import registry
from clbench.cli import VERBS, main
from clbench.schema import keys_of

GOOD = """\
id: mine-v1
stream:
  data: synthetic
  synthetic: {classes: 4, features: 8}
  tasks: {by: classes, count: 2}
  setting: class
model: {name: mlp, hidden: [8]}
training: {iterations: 3, batch_size: 8, optimizer: {name: sgd, lr: 0.1}}
"""
KEYS = "id, title, source, stream, model, training, evaluation, protocol, strategy, seeds, numerics, watch, base"
TRAINING = "epochs, iterations, budget, batch_size, drop_last, order, optimizer, optimizer_state, loss, "
TRAINING += "active_outputs, augmentation, schedule, clip, label_smoothing, rates, experiences"
FAMILIES = "classes, classes_and_instances, instances, permutations, rotations, transforms, given, time"
MODELS = "mlp, linear, cnn, slim_resnet18, resnet18, resnet32, torchvision, transformer, cfc, ltc, imported"
REPLAY = ", ".join(keys_of(registry.strategy_config("er")))
STRATEGIES = f"{', '.join(sorted(registry.strategies()))}, or an import path like package.module:Name"
BENCHMARKS = f"{', '.join(sorted(registry.benchmarks()))}, or a path to a YAML file"
DATASETS = ", ".join(sorted(registry.datasets().DATASETS))
NAME = "a name like my_digits or split_digits-v1 (letters, digits, _, - and . within; up to 80 characters)"
BLOCK = "a list of one or more integers >= 0"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])  # naming a module may append to it
    monkeypatch.setenv("CLBENCH_OFFLINE", "1")
    monkeypatch.setenv("CLBENCH_DATA", "data")
    Path("data").mkdir()


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """The lines of a command that must be refused."""
    try:
        status = main(list(arguments))
    except SystemExit as leaving:
        status = int(leaving.code or 0)
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    return err.splitlines()


def check(capsys: pytest.CaptureFixture[str], text: str | bytes) -> list[str]:
    """Messages of `clbench validate mine.yaml` for a file's text, each without the file's name."""
    Path("mine.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    lines = told(capsys, "validate", "mine.yaml")
    assert all(line.startswith("mine.yaml: ") for line in lines)
    return [line.removeprefix("mine.yaml: ") for line in lines]


def test_the_file_that_is_changed_below_is_good(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(GOOD)
    assert main(["validate", "mine.yaml"]) == 0
    assert capsys.readouterr() == ("mine.yaml: ok\n", "")


# ------------------------------------------------------------------------------------------------ one key of a file
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # unknown keys
        ("model:", "modle: 3\nmodel:", f"modle: unknown key. Did you mean 'model'? Allowed: {KEYS}."),
        ("model:", "foo: 3\nmodel:", f"foo: unknown key. Allowed: {KEYS}."),
        (
            "lr: 0.1", "lr: 0.1, momentm: 0.9",
            "training.optimizer.momentm: unknown key. Did you mean 'momentum'? "
            "Allowed: name, lr, momentum, nesterov, weight_decay.",
        ),
        (
            "count: 2", "count: 2, ordr: seed",
            "stream.tasks.ordr: unknown key. Did you mean 'order'? Allowed: by, count, first, order, blocks, labels.",
        ),
        # values
        ("lr: 0.1", "lr: -1", "training.optimizer.lr: got -1. Allowed: a number > 0."),
        ("lr: 0.1", "lr: .inf", "training.optimizer.lr: got .inf. Allowed: a finite number > 0."),
        ("lr: 0.1", "lr: .nan", "training.optimizer.lr: got .nan. Allowed: a finite number > 0."),
        ("lr: 0.1", "lr: 1_0", "training.optimizer.lr: got '1_0'. Allowed: a number > 0."),
        (
            "lr: 0.1", "lr: 0.1, momentum: 1",
            "training.optimizer.momentum: got 1. Allowed: a number from 0 to below 1.",
        ),
        ("lr: 0.1", "lr: 0.1, nesterov: no", "training.optimizer.nesterov: got 'no'. Allowed: true or false."),
        ("batch_size: 8", "batch_size: 0", "training.batch_size: got 0. Allowed: an integer >= 1."),
        ("batch_size: 8", "batch_size: many", "training.batch_size: got 'many'. Allowed: an integer >= 1."),
        ("batch_size: 8", "batch_size: 8.5", "training.batch_size: got 8.5. Allowed: an integer >= 1."),
        ("batch_size: 8", "batch_size: true", "training.batch_size: got true. Allowed: an integer >= 1."),
        ("batch_size: 8", "batch_size:", "training.batch_size: got null. Allowed: an integer >= 1."),
        ("mine-v1", "a/b", f"id: got 'a/b'. Allowed: {NAME}."),
        ("mine-v1", "../mine", f"id: got '../mine'. Allowed: {NAME}."),
        ("mine-v1", "mine.", f"id: got 'mine.'. Allowed: {NAME}."),
        ("mine-v1", "'my digits'", f"id: got 'my digits'. Allowed: {NAME}."),
        ("mine-v1", f"'{'m' * 81}'", f"id: got '{'m' * 81}'. Allowed: {NAME}."),
        ("mine-v1", "3", f"id: got 3. Allowed: {NAME}."),
        ("mine-v1", "'mine-v1\n\n  '", rf"id: got 'mine-v1\n'. Allowed: {NAME}."),
        (
            "setting: class", "setting: clas",
            "stream.setting: got 'clas'. Did you mean 'class'? Allowed: class, task, domain.",
        ),
        # lists
        ("[8]", "8", "model.hidden: got 8. Allowed: a list of integers >= 1."),
        (
            "name: sgd, lr: 0.1", "name: adam, betas: [0.9]",
            "training.optimizer.betas: got [0.9]. Allowed: a list of 2 numbers from 0 to below 1.",
        ),
        (
            "count: 2", "count: 2, order: 5",
            "stream.tasks.order: got 5. "
            "Allowed: seed, natural, or seed-N such as seed-1993, or a list of integers >= 0.",
        ),
        (
            "count: 2", "count: 2, order: sead",
            "stream.tasks.order: got 'sead'. Did you mean 'seed'? "
            "Allowed: seed, natural, or seed-N such as seed-1993, or a list of integers >= 0.",
        ),
        ("count: 2", "count: 2, order: [0, 0, 1, 2, 3]", "stream.tasks.order: class 0 is listed twice."),
        ("count: 2", "count: 2, order: [0, 1, 3]", "stream.tasks.order: class 2 is missing."),
        ("count: 2", "blocks: [[0, 1], [2, 1, 0]]", "stream.tasks.blocks: classes 0, 1 are listed twice."),
        (
            "count: 2", "blocks: [[0, 1], [4, 2]]",
            "stream.tasks.blocks: class 4 is not in 'synthetic', which has classes 0 to 3.",
        ),
        ("count: 2", "blocks: []", "stream.tasks.blocks: got []. Allowed: a list of one or more lists of one or more "
         "integers >= 0."),
        ("count: 2", "blocks: [[0], []]", f"stream.tasks.blocks[1]: got []. Allowed: {BLOCK}."),
        ("count: 2", "blocks: [[0, -1]]", "stream.tasks.blocks[0][1]: got -1. Allowed: an integer >= 0."),
        ("count: 2", "count: 9", "stream.tasks.count: 9 tasks, but 'synthetic' has 4 classes."),
        # one key against another
        (
            "iterations: 3", "iterations: 3, epochs: 1",
            "training: got both 'epochs' and 'iterations'. Allowed: one of them; null unsets a key.",
        ),
        ("iterations: 3, ", "", "training: needs 'epochs' or 'iterations'."),
        (
            "count: 2", "count: 2, blocks: [[0], [1]]",
            "stream.tasks: got both 'count' and 'blocks'. Allowed: one of them; null unsets a key.",
        ),
        ("count: 2", "order: seed", "stream.tasks: needs 'count' or 'blocks'."),
        (
            "count: 2", "blocks: [[0], [1]], order: natural",
            "stream.tasks.order: leave it out; 'blocks' defines the order of classes already.",
        ),
        (
            "by: classes, count: 2", "by: permutations, count: 2",
            "stream.setting: got 'class'. Allowed with tasks by permutations: domain.",
        ),
        ("setting: class", "setting: domain", "stream.setting: got 'domain', which needs tasks.labels to be "
         "within_task."),
        (
            "count: 2", "count: 2, labels: within_task",
            "stream.setting: got 'class'. Allowed with labels within the task: domain.",
        ),
        (
            "  synthetic: {classes: 4, features: 8}\n", "",
            "stream.synthetic: required for the data set 'synthetic', but not given.",
        ),
        (
            "data: synthetic", "data: digits",
            "stream.synthetic: is for the data set 'synthetic', not for 'digits'; null unsets it.",
        ),
        # unions
        (
            "by: classes, ", "",
            f"stream.tasks.by: required, but not given. Allowed: {FAMILIES}.",
        ),
        (
            "by: classes", "by: clases",
            f"stream.tasks.by: got 'clases'. Did you mean 'classes'? Allowed: {FAMILIES}.",
        ),
        ("by: classes", "by: 3", f"stream.tasks.by: got 3. Allowed: {FAMILIES}."),
        (
            "name: mlp, ", "",
            f"model.name: required, but not given. Allowed: {MODELS}.",
        ),
        (
            "name: mlp", "name: mpl",
            f"model.name: got 'mpl'. Did you mean 'mlp'? Allowed: {MODELS}.",
        ),
        # a scalar, a list or nothing where keys and values belong
        ("{name: mlp, hidden: [8]}", "mlp", "model: got 'mlp'. Did you mean {name: mlp}? Allowed: keys and values."),
        ("{name: mlp, hidden: [8]}", "[1]", "model: got [1]. Allowed: keys and values."),
        ("{name: mlp, hidden: [8]}", "", "model: got null. Allowed: keys and values."),
        (
            "{by: classes, count: 2}", "classes",
            "stream.tasks: got 'classes'. Did you mean {by: classes}? Allowed: keys and values.",
        ),
        ("model:", "evaluation: 3\nmodel:", "evaluation: got 3. Allowed: keys and values."),
        # strategies
        ("model:", "strategy: 3\nmodel:", "strategy: got 3. Allowed: keys and values."),
        ("model:", "strategy: nave\nmodel:", "strategy.name: unknown strategy 'nave'. Did you mean 'naive'? "
         f"Allowed: {STRATEGIES}."),
        ("model:", "strategy: {memory: 3}\nmodel:", "strategy.name: required, but not given."),
        ("model:", "strategy: {name: 3}\nmodel:", "strategy.name: got 3. Allowed: text."),
        (
            "model:", "strategy: {name: nave}\nmodel:",
            "strategy.name: unknown strategy 'nave'. Did you mean 'naive'? "
            f"Allowed: {STRATEGIES}.",
        ),
        (
            "model:", "strategy: {name: er, memroy: 3}\nmodel:",
            f"strategy.memroy: unknown key. Did you mean 'memory'? Allowed: {REPLAY}.",
        ),
        ("model:", "strategy: {name: er, lambda: 1}\nmodel:", f"strategy.lambda: unknown key. Allowed: {REPLAY}."),
        ("model:", "strategy: {name: naive, lr: 1}\nmodel:", "strategy.lr: unknown key. "
         "Did you mean 'training.optimizer.lr'? Allowed: optimizer."),
        ("model:", "training.epochs: 3\nmodel:", "training.epochs: unknown key. Did you mean 'training'? "
         f"Allowed: {KEYS}."),
        ("model:", "strategy: {name: er, memory: 0}\nmodel:", "strategy.memory: got 0. Allowed: an integer >= 1."),
        (
            "model:", "strategy: {name: er, new_weight: 2}\nmodel:",
            "strategy.new_weight: got 2. Allowed: a number from 0 to 1, or share.",
        ),
        (
            "model:", "strategy: {name: 'json:dumps', x: [1, .inf]}\nmodel:",
            "strategy.x: got [1, .inf]. Allowed: finite numbers.",
        ),
        # import paths
        (
            "model:", "strategy: {name: 'avalanch.training:Naive'}\nmodel:",
            "strategy.name: 'avalanch.training:Naive' does not import: no module named 'avalanch'. "
            "Did you mean 'avalanche'?",
        ),
        (
            "model:", "strategy: {name: 'avalanche.trainin:Naive'}\nmodel:",
            "strategy.name: 'avalanche.trainin:Naive' does not import: no module named 'avalanche.trainin'. "
            "Did you mean 'training'?",
        ),
        (
            "model:", "strategy: {name: 'avalanche.training.supervised:MIRR'}\nmodel:",
            "strategy.name: 'avalanche.training.supervised:MIRR' does not import: module "
            "'avalanche.training.supervised' has no 'MIRR'. Did you mean 'MIR'?",
        ),
        (
            "model:", "strategy: {name: 'er:'}\nmodel:",
            "strategy.name: unknown strategy 'er:'. Did you mean 'er'? "
            f"Allowed: {STRATEGIES}.",
        ),
        # data sets
        (
            "data: synthetic\n  synthetic: {classes: 4, features: 8}", "data: mnst",
            "stream.data: unknown data set 'mnst'. Did you mean 'mnist'? "
            f"Allowed: {DATASETS}, npz:PATH, npy:FOLDER, csv:PATH, parquet:PATH, hf:FOLDER, folder:PATH, "
            "package.module:Name, lazy:package.module:Name, or any NAME for which CLBENCH_DATA (data) holds a "
            "NAME.npz.",
        ),
        (
            "data: synthetic\n  synthetic: {classes: 4, features: 8}", "data: npz:mine.npz",
            "stream.data: 'npz:mine.npz': no such file.",
        ),
        (
            "data: synthetic\n  synthetic: {classes: 4, features: 8}\n  tasks: {by: classes, count: 2}\n"
            "  setting: class",
            "data: synthetic\n  synthetic: {}\n  tasks: {by: rotations, degrees: [0]}\n  setting: domain",
            "stream.tasks.by: rotations need images, and 'synthetic' holds vectors.",
        ),
        # seeds
        ("model:", "seeds: {strem: 1}\nmodel:", "seeds.strem: unknown key. Did you mean 'stream'? "
         "Allowed: stream, init, order, augmentation, strategy."),
    ],
)  # fmt: skip
def test_mistake_in_a_file(capsys: pytest.CaptureFixture[str], old: str, new: str, message: str) -> None:
    assert GOOD.count(old) == 1
    assert check(capsys, GOOD.replace(old, new)) == [message]


@pytest.mark.parametrize(
    ("old", "new", "messages"),
    [
        ("[8]", "[8, a, -1, 2.5]", [
            "model.hidden[1]: got 'a'. Allowed: an integer >= 1.",
            "model.hidden[2]: got -1. Allowed: an integer >= 1.",
            "model.hidden[3]: got 2.5. Allowed: an integer >= 1.",
        ]),
        ("count: 2", "count: 2, order: [0, 0.5, x]", [
            "stream.tasks.order[1]: got 0.5. Allowed: an integer >= 0.",
            "stream.tasks.order[2]: got 'x'. Allowed: an integer >= 0.",
        ]),
        ("count: 2", "count: 2, order: [0, 7, 1, 2]", [
            "stream.tasks.order: class 7 is not in 'synthetic', which has classes 0 to 3.",
            "stream.tasks.order: class 3 is missing.",
        ]),
        ("count: 2", "blocks: [0, 1]", [
            f"stream.tasks.blocks[0]: got 0. Allowed: {BLOCK}.",
            f"stream.tasks.blocks[1]: got 1. Allowed: {BLOCK}.",
        ]),
    ],
)  # fmt: skip
def test_every_mistake_in_a_list(capsys: pytest.CaptureFixture[str], old: str, new: str, messages: list[str]) -> None:
    assert check(capsys, GOOD.replace(old, new)) == messages


def test_required_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(capsys, "title: a\n") == [
        f"{key}: required, but not given." for key in ("id", "stream", "model", "training")
    ]
    assert check(capsys, "id: a-v1\nstream: 3\nmodel: {name: linear}\ntraining: {}\n") == [
        "stream: got 3. Allowed: keys and values.",
        "training.batch_size: required, but not given.",
        "training.optimizer: required, but not given.",
    ]


def test_all_mistakes_of_a_file_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    text = GOOD.replace("lr: 0.1", "lr: -1").replace("hidden", "hiden").replace("count: 2", "count: 9")
    assert check(capsys, text + "strategy: {name: er, memroy: 3, loss: x}\nfoo: 1\nseeds: {stream: -1}\n") == [
        f"foo: unknown key. Allowed: {KEYS}.",
        "model.hiden: unknown key. Did you mean 'hidden'? Allowed: name, hidden, dropout, weights, weights_sha256, "
        "tensors_sha256, head.",
        "training.optimizer.lr: got -1. Allowed: a number > 0.",
        "seeds.stream: got -1. Allowed: an integer >= 0.",
        "stream.tasks.count: 9 tasks, but 'synthetic' has 4 classes.",
        "strategy.loss: got 'x'. Allowed: concatenated, weighted.",
        f"strategy.memroy: unknown key. Did you mean 'memory'? Allowed: {REPLAY}.",
    ]


def test_validate_goes_on_to_the_next_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("good.yaml").write_text(GOOD)
    assert main(["validate", "a.yaml", "good.yaml", "b.yaml"]) == 2
    assert capsys.readouterr() == ("good.yaml: ok\n", "a.yaml: no such file.\nb.yaml: no such file.\n")


# ------------------------------------------------------------------------------------------------ whole files
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", "expected keys and values (a mapping), but the file is a list."),
        ("", "expected keys and values (a mapping), but the file is empty."),
        ("# only a comment\n", "expected keys and values (a mapping), but the file is empty."),
        ("hello", "expected keys and values (a mapping), but the file is a single value."),
        (b"\x80\xff\xfe", "not a text file in UTF-8."),
        (b"\x00\x01\x02", "not a text file; it holds the character #x0000."),
        (GOOD + "model: {name: linear}\n", "line 9, column 1: key 'model' is given twice, on lines 7 and 9."),
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", "line 4, column 3: key 'b' is given twice, on lines 2 and 4."),
        (
            "a: !!python/object/apply:os.system [ls]\n",
            "line 1, column 4: the tag '!!python/object/apply:os.system' is not allowed; give a plain value.",
        ),
        ("a: !mine 3\n", "line 1, column 4: the tag '!mine' is not allowed; give a plain value."),
        ("a: [1, 2\n", "line 2, column 1: expected ',' or ']', but got '<stream end>'."),
        ("1: a\n", "line 1, column 1: the key 1 is not a word."),
        ("a: 1\n---\nb: 2\n", "line 2, column 1: expected a single document in the stream, "
         "but found another document."),
    ],
)  # fmt: skip
def test_file_that_is_no_configuration(capsys: pytest.CaptureFixture[str], text: str | bytes, message: str) -> None:
    assert check(capsys, text) == [message]


@pytest.mark.parametrize("verb", ["validate", "run"])
def test_benchmark_that_does_not_exist(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    tail = f"Allowed: {BENCHMARKS}."
    Path("folder").mkdir()
    assert told(capsys, verb, "split_digit-v1") == [
        f"unknown benchmark 'split_digit-v1'. Did you mean 'split_digits-v1'? {tail}"
    ]
    assert told(capsys, verb, "qqq") == [f"unknown benchmark 'qqq'. {tail}"]
    assert told(capsys, verb, "no.yaml") == ["no.yaml: no such file."]
    assert told(capsys, verb, "no/such") == ["no/such: no such file."]
    empty = {"validate": "no YAML file there or below."}.get(verb, "a folder, not a file.")
    assert told(capsys, verb, "folder") == [f"folder: {empty}"]


def test_a_study_is_not_a_benchmark_nor_the_other_way_round(capsys: pytest.CaptureFixture[str]) -> None:
    Path("study.yaml").write_text("id: s\nstreams: [split_digits-v1]\nstrategies: [er]\nbudget: {iterations: 3}\n")
    for verb in ("run", "show"):
        assert told(capsys, verb, "study.yaml") == [
            "study.yaml: a study, not a benchmark; `clbench grid study.yaml` runs it."
        ]
    Path("mine.yaml").write_text(GOOD)
    Path("based.yaml").write_text("base: mine.yaml\nid: mine-v2\n")
    for name in ("mine.yaml", "based.yaml", "split_digits-v1"):
        assert told(capsys, "grid", name) == [f"{name}: a benchmark, not a study; `clbench run {name}` runs it."]
    Path("slip.yaml").write_text("id: s\nstreams: [split_digits-v1]\nstrategy: [er]\n")
    assert told(capsys, "grid", "slip.yaml")[0].startswith(
        "slip.yaml: strategy: unknown key. Did you mean 'strategies'?"
    )
    assert told(capsys, "grid", "no.yaml") == ["no.yaml: no such file."]


# ------------------------------------------------------------------------------------------------ base
def test_base(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(capsys, GOOD + "base: split_digit-v1\n") == [
        f"base: unknown benchmark 'split_digit-v1'. Did you mean 'split_digits-v1'? Allowed: {BENCHMARKS}."
    ]
    assert check(capsys, GOOD + "base: 3\n") == ["base: got 3. Allowed: a benchmark's id or a path to a YAML file."]
    assert check(capsys, GOOD + "base: other.yaml\n") == ["base: other.yaml: no such file."]
    assert check(capsys, GOOD + "base: mine.yaml\n") == ["base: mine.yaml leads back to itself."]
    Path("other.yaml").write_text("base: mine.yaml\n")
    assert check(capsys, GOOD + "base: other.yaml\n") == ["base: other.yaml: base: mine.yaml leads back to itself."]
    Path("other.yaml").write_text("a: [")
    assert check(capsys, GOOD + "base: other.yaml\n") == [
        "base: other.yaml: line 1, column 5: expected the node content, but found '<stream end>'."
    ]


def test_mistake_in_a_base_names_the_base(capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.yaml").write_text(GOOD.replace("lr: 0.1", "lr: -1"))
    assert check(capsys, "base: other.yaml\nid: mine-v2\ntraining: {batch_size: x}\n") == [
        "training.batch_size: got 'x'. Allowed: an integer >= 1.",
        "base: other.yaml: training.optimizer.lr: got -1. Allowed: a number > 0.",
    ]


# ------------------------------------------------------------------------------------------------ flags
@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("training.batch_sise=3", f"training.batch_sise: unknown key. Did you mean 'batch_size'? Allowed: {TRAINING}."),
        ("training.batch_size=x", "training.batch_size: got 'x'. Allowed: an integer >= 1."),
        ("training.batch_size=", "training.batch_size: got null. Allowed: an integer >= 1."),
        ("foo=1", f"foo: unknown key. Allowed: {KEYS}."),
        ("foo.bar=1", f"foo: unknown key. Allowed: {KEYS}."),
        ("lr=0.1", f"lr: unknown key. Did you mean 'training.optimizer.lr'? Allowed: {KEYS}."),
        ("optimizer.lr=0.1", f"optimizer: unknown key. Did you mean 'training.optimizer.lr'? Allowed: {KEYS}."),
        ("training.lr=0.1", f"training.lr: unknown key. Did you mean 'training.optimizer.lr'? Allowed: {TRAINING}."),
        ("memory=5", f"memory: unknown key. Did you mean 'strategy.memory'? Allowed: {KEYS}."),
        (
            "batch_size=5",
            f"batch_size: unknown key. Did you mean 'training.batch_size' or 'evaluation.batch_size'? Allowed: {KEYS}.",
        ),
        ("alpha=0.5", f"alpha: unknown key. Allowed: {KEYS}."),  # the optimiser is sgd
        ("strategy.memroy=3", f"strategy.memroy: unknown key. Did you mean 'memory'? Allowed: {REPLAY}."),
        ("strategy.memory=0", "strategy.memory: got 0. Allowed: an integer >= 1."),
        ("strategy=err", f"strategy.name: unknown strategy 'err'. Did you mean 'er'? Allowed: {STRATEGIES}."),
        ("seeds.stream=-1", "seeds.stream: got -1. Allowed: an integer >= 0."),
        ("stream.tasks.count=77", "stream.tasks.count: 77 tasks, but 'synthetic' has 4 classes."),
        (
            "training.optimizer.name=sdg",
            "training.optimizer.name: got 'sdg'. Did you mean 'sgd'? "
            "Allowed: sgd, adam, adamw, adagrad, rmsprop, imported.",
        ),
        (
            "training.optimizer={name: adam, lrr: 1}",
            "training.optimizer.lrr: unknown key. Did you mean 'lr'? Allowed: name, lr, betas, eps, weight_decay.",
        ),
        ("training", "expected key.path=value, for example -o training.batch_size=64."),
        ("=3", "expected key.path=value, for example -o training.batch_size=64."),
        ("a..b=3", "expected key.path=value, for example -o training.batch_size=64."),
        ("model.hidden[0]=5", "items of a list cannot be set alone; give the list, for example [100, 100]."),
        ("model.hidden.0=5", "items of a list cannot be set alone; give the list, for example [100, 100]."),
        ("base=split_digits-v1", "only a file can name its base."),
        ("training={a: [", "line 1, column 6: expected the node content, but found '<stream end>'."),
        (
            "strategy.name=nave",
            f"strategy.name: unknown strategy 'nave'. Did you mean 'naive'? Allowed: {STRATEGIES}.",
        ),
    ],
)
def test_flag(capsys: pytest.CaptureFixture[str], flag: str, message: str) -> None:
    Path("mine.yaml").write_text(GOOD)
    assert told(capsys, "run", "mine.yaml", "--strategy", "er", "-o", flag) == [f"-o {flag}: {message}"]


def test_all_mistaken_flags_at_once_and_what_file_and_flag_do_together(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(GOOD + "strategy: {name: er}\n")
    assert told(capsys, "run", "mine.yaml", "-o", "a", "-o", "b", "-o", "base=c") == [
        "-o a: expected key.path=value, for example -o training.batch_size=64.",
        "-o b: expected key.path=value, for example -o training.batch_size=64.",
        "-o base=c: only a file can name its base.",
    ]
    assert told(capsys, "run", "mine.yaml", "-o", "training.epochs=1") == [
        "mine.yaml with -o training.epochs=1: training: got both 'epochs' and 'iterations'. "
        "Allowed: one of them; null unsets a key."
    ]
    assert told(capsys, "run", "mine.yaml", "-o", "strategy.memory=5", "-o", "strategy.memory_per_class=5") == [
        "mine.yaml with -o strategy.memory=5 and -o strategy.memory_per_class=5: "
        "strategy: give either 'memory' or 'memory_per_class'."
    ]
    assert told(capsys, "run", "mine.yaml", "-o", "model={name: slim_resnet18, filters: 0}", "-o", "seeds=1") == [
        "-o model={name: slim_resnet18, filters: 0}: model.filters: got 0. Allowed: an integer >= 1.",
        "-o seeds=1: seeds: got 1. Allowed: keys and values.",
    ]


def test_strategy_flag(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(GOOD)
    assert told(capsys, "run", "mine.yaml") == [
        "mine.yaml: strategy: required, but not given; name one with --strategy (`clbench list strategies` lists them)."
    ]
    assert told(capsys, "run", "mine.yaml", "--strategy", "nave") == [
        f"--strategy: strategy.name: unknown strategy 'nave'. Did you mean 'naive'? Allowed: {STRATEGIES}."
    ]


def test_a_key_of_a_part_that_is_given_to_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(GOOD)
    for strategy, key, paths in (
        ("er+ewc", "memory", "'strategy.er.memory'"),
        ("er+ewc", "optimizer", "'training.optimizer' or 'strategy.er.optimizer' or 'strategy.ewc.optimizer'"),
        ("ewc+er", "strength", "'strategy.ewc.strength'"),
    ):
        assert told(capsys, "run", "mine.yaml", "--strategy", strategy, "-o", f"strategy.{key}=500") == [
            f"-o strategy.{key}=500: strategy.{key}: unknown key. Did you mean {paths}? "
            f"Allowed: {strategy.replace('+', ', ')}."
        ]


def test_strategy_flag_that_is_no_name(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(GOOD)
    run = ("run", "mine.yaml", "--strategy")
    for name, guess in (
        ("EERR", "Did you mean 'er'?"),
        ("icarl", "Avalanche's is avalanche.training.supervised:ICaRL."),
        ("GSS", "Avalanche's is avalanche.training.supervised:GSS_greedy."),
        ("SynapticInteligence", "Did you mean avalanche.training.supervised:SynapticIntelligence?"),
    ):
        assert told(capsys, *run, name) == [
            f"--strategy: strategy.name: unknown strategy '{name}'. {guess} Allowed: {STRATEGIES}."
        ]
    for name in ("er+", "+er", "er++ewc", "er+ +ewc"):
        assert told(capsys, *run, name) == [
            f"--strategy: strategy.name: strategy '{name}': a name is missing beside '+'. "
            "Allowed: names on both sides, like er+ewc."
        ]
    for text, name in (("[{name: er}, {name: ewc}]", "er+ewc"), ("{name: agem}", "agem"), ("[3]", "er+ewc")):
        assert told(capsys, *run, text) == [
            f"--strategy: got '{text}'. Allowed: names with '+' between them, like {name}; "
            f'a list or a mapping is given by -o "strategy={text}".'
        ]
    assert told(capsys, *run, "[er") == ["--strategy: line 1, column 4: expected ',' or ']', but got '<stream end>'."]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rum"], f"clbench: VERB: got 'rum'. Did you mean 'run'? Allowed: {', '.join(VERBS)}. See 'clbench --help'."),
        (["list", "stream"],
         "clbench list: streams|strategies|datasets|models|metrics|runs: got 'stream'. Did you mean 'streams'? "
         "Allowed: streams, strategies, datasets, models, metrics, runs. See 'clbench list --help'."),
        (["run", "a", "--seed", "-3"],
         "clbench run: --seed: got '-3'. Allowed: seeds >= 0, like 3, 0,1,2 or 0-4. See 'clbench run --help'."),
        (["run", "a", "--seed", "4-2"],
         "clbench run: --seed: got '4-2'. Allowed: seeds >= 0, like 3, 0,1,2 or 0-4. See 'clbench run --help'."),
        (["run", "a", "--seed", "0-10000"],
         "clbench run: --seed: got '0-10000'. Allowed: seeds >= 0, like 3, 0,1,2 or 0-4. See 'clbench run --help'."),
        (["run", "a", "--seed", "0", "--seeds", "3"],
         "--seed and --seeds: give one of them; --seeds 3 is --seed 0-2."),
        (["run", "a", "--threads", "0"],
         "clbench run: --threads: got '0'. Allowed: an integer from 1 to 1024. See 'clbench run --help'."),
        (["run", "a", "--device", "gpu"],
         "clbench run: --device: got 'gpu'. Did you mean 'cpu'? Allowed: auto, cpu, cuda. See 'clbench run --help'."),
        (["run", "a", "--sed=3"], "clbench run: unknown flag '--sed'. Did you mean '--seed'? Allowed: --checkpoint, "
         "--device, --force, --help, --json, --keep, --log, --other-code, --out, "
         "--profile, --quiet, --seed, --seeds, --strategy, --threads, -h, -o. See 'clbench run --help'."),
        (["run", "a", "b"], "clbench run: got b, one argument too many. See 'clbench run --help'."),
        (["run", "split_digits-v1", "ER"],
         "clbench run: got ER, one argument too many. Did you mean '--strategy er'? See 'clbench run --help'."),
        (["leaderboard", "no"], "no: no such folder; runs are written there by `clbench run`."),
        (["run", "split_digits-v1", "--strategy", "er", "--strategy", "naive", "--json"],
         "--json describes one run; give one --strategy and one --seed."),
    ],
)  # fmt: skip
def test_arguments(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert told(capsys, *arguments) == [message]


def test_show_an_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = told(capsys, "show", "err")
    assert line.startswith("unknown name 'err'. Did you mean 'er'? Allowed: acil, agem, anytime, anytime_accuracy, ")


# ------------------------------------------------------------------------------------------------ data and results
def test_data_that_is_missing_or_damaged(capsys: pytest.CaptureFixture[str]) -> None:
    run = ("run", "split_mnist-v1", "--strategy", "naive")
    assert told(capsys, *run) == [
        "split_mnist-v1: stream.data: data set 'mnist' is not in data and cannot be downloaded from here. Put "
        "mnist.npz (train_x, train_y, test_x, test_y) or torchvision's folder MNIST/raw into a folder and set "
        "CLBENCH_DATA to it."
    ]
    Path("data/mnist.npz").write_bytes(b"PK\x03\x04")
    assert told(capsys, *run) == [
        "split_mnist-v1: stream.data: data/mnist.npz: damaged or truncated, not readable as npz "
        "(File is not a zip file)."
    ]


def test_results_folder_that_is_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").write_text("")
    assert told(capsys, "run", "split_digits-v1", "--strategy", "er", "--out", "taken") == [
        "--out taken: cannot be made a folder: File exists."
    ]


# ------------------------------------------------------------------------------------------------ speed
HEAVY = ("torch", "torchvision", "pandas", "avalanche", "sklearn", "scipy", "matplotlib")
QUICK = [
    ["list", "streams"], ["list", "strategies"], ["list", "datasets"], ["list", "models"],
    ["list", "metrics", "--json"],
    ["show", "split_digits-v1"], ["show", "er"], ["show", "naive"], ["show", "mlp"], ["show", "digits"],
    ["show", "average_accuracy"], ["show", "nothing"],
    ["validate", "split_mnist-v1"], ["validate", "no.yaml"],
    ["run", "split_digits-v1"],
    ["run", "split_digits-v1", "--strategy", "nave"],
    ["run", "split_mnist-v1", "--strategy", "er"],
    ["run", "split_digits-v1", "--strategy", "er", "-o", "strategy.memroy=1"],
    ["run", "split_digits-v1", "--strategy", "er", "-o", "training.batch_size=0"],
    ["run", "split_digits-v1", "--strategy", "avalanche.training.supervised:MIRR"],
    ["run", "split_digits-v1", "--strategy", "no.such:Thing"],
    ["run", "split_digits-v1", "--strategy", "icarl"],
    ["leaderboard", "no"], ["list", "runs", "no"], ["show", "no/run.json"], ["remove", "no"],
    ["init", "study", "s.yaml"], ["validate", "s.yaml"], ["completion", "bash"],
]  # fmt: skip


def test_light_verbs_and_messages_import_nothing_heavy() -> None:
    registry.datasets().outline("digits")  # what `show` says of a stream needs it; it is kept
    code = (
        "import contextlib, io, json, sys\n"
        "from clbench.cli import main\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):\n"
        "        main(arguments)\n"
        "    heavy = set(json.loads(sys.argv[2])) & set(sys.modules)\n"
        "    assert not heavy, (arguments, heavy)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(QUICK), json.dumps(HEAVY)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_reading_a_run_imports_nothing_heavy() -> None:
    code = "import json, sys; import clbench.results.record; print(*set(json.loads(sys.argv[1])) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, json.dumps(HEAVY)], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_a_key_within_one_of_several_kinds_that_may_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    flag = "strategy.optimizer={name: adam, lr: 0.1, momentum: 0.9}"
    assert told(capsys, "run", "split_digits-v1", "--strategy", "er", "-o", flag) == [
        f"-o {flag}: strategy.optimizer.momentum: unknown key. Allowed: name, lr, betas, eps, weight_decay."
    ]
