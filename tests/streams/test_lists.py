"""Lists of data sets with label spaces: classes that are shared, own, or named; files of MedMNIST; runs on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clbench import dataset, resolve
from clbench.errors import UserError
from clbench.results import read_trace
from clbench.streams.compile import compile_stream
from clbench.streams.datasets import lists, load
from clbench.streams.definition import StreamConfig
from support import budget, execute

EMBEDDED = ["digits", "digits_parity", "digits_inverted"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data root, with a file of a user's; and a cache of its own."""
    monkeypatch.setenv("CLBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    medmnist(tmp_path / "cells.npz", 3, (3,))
    return tmp_path


def medmnist(path: Path, classes: int, colour: tuple[int, ...] = (), **changes: Any) -> dict[str, Any]:
    """Writes a file of MedMNIST's layout, of noise; what is None is left out."""
    rng = np.random.default_rng(classes)
    arrays: dict[str, Any] = {}
    for part, each in (("train", 6), ("val", 1), ("test", 2)):
        arrays[f"{part}_images"] = rng.integers(0, 256, (each * classes, 28, 28, *colour), np.uint8)
        arrays[f"{part}_labels"] = np.arange(each * classes, dtype=np.uint8)[:, None] % classes
    arrays = {name: array for name, array in {**arrays, **changes}.items() if array is not None}
    np.savez_compressed(path, **arrays)
    return arrays


def stream(**keys: Any) -> StreamConfig:
    return StreamConfig.model_validate({"tasks": {"by": "given"}, "setting": "task", **keys})


# ------------------------------------------------------------------------------------------------ label spaces
def test_each_member_may_have_classes_of_its_own(root: Path) -> None:
    data = load.load(["digits", "digits_parity", "npz:" + str(root / "cells.npz"), "digits"], labels="own")
    digits = load.load("digits")
    assert data.classes == 10 + 2 + 3 + 10
    assert data.class_names[:2] == ("digits/0", "digits/1")
    assert data.class_names[10:13] == ("digits_parity/even", "digits_parity/odd", "cells/0")
    assert data.class_names[-1] == "digits 2/9"
    assert data.train_task is not None
    labels = [data.train_y[data.train_task == t] for t in range(4)]
    assert [sorted(set(y.tolist())) for y in labels] == [[*range(10)], [10, 11], [12, 13, 14], [*range(15, 25)]]
    assert np.array_equal(labels[0], digits.train_y)
    assert np.array_equal(labels[1] - 10, digits.train_y % 2), "the same source as another task"
    assert np.array_equal(labels[3] - 15, digits.train_y)
    assert data.shape == (3, 8, 8), "one size and number of channels, as without label spaces"
    assert load.facts(["digits", "digits_parity", "digits"], labels="own") == dataset.Facts(22, True, tasks=3)


def test_members_of_one_name_share_their_classes() -> None:
    data = load.load(EMBEDDED, labels=["digit", "parity", "digit"])
    assert data.classes == 12
    assert data.class_names == (*(f"digit/{c}" for c in range(10)), "parity/even", "parity/odd")
    assert data.train_task is not None
    first, parity, inverted = (data.train_y[data.train_task == t] for t in range(3))
    assert np.array_equal(first, inverted)
    assert np.array_equal(parity - 10, first % 2)
    images = [np.asarray(data.train_x)[data.train_task == t].astype(int) for t in range(3)]
    assert np.array_equal(images[0], images[1])
    assert np.abs(images[0] + images[2] - 255).max() <= 1, "inverted, but for the rounding to 256 levels"


def test_label_spaces_are_part_of_the_data_and_of_the_definition(root: Path) -> None:
    pair = ["digits", "digits_inverted"]
    kinds: list[lists.Labels] = [None, "own", ["a", "b"], ["a", "a"]]
    assert len({load.load(pair, labels=kind).sha256 for kind in kinds}) == 3, "own is a and b by other names"
    assert len({load.outline(pair, labels=kind).classes for kind in kinds}) == 2
    assert load.outline(pair, labels="own").classes == 20, "from the cache"
    hashes = {compile_stream(stream(data=pair, labels=kind), 0).definition_hash for kind in kinds}
    assert len(hashes) == 4
    without = compile_stream(stream(data=pair), 0)
    assert without.definition_hash == compile_stream(stream(data=pair, labels=None), 0).definition_hash
    assert without.data.class_names == ()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"data": "digits", "labels": "own"}, "labels: got 'own', which is for a list of data sets"),
        ({"data": EMBEDDED, "labels": ["a", "b"]}, "labels: got 2 names of label spaces for 3 data sets"),
    ],
)
def test_label_spaces_that_do_not_fit_are_refused(keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    text = f"base: domains_and_tasks_digits-v1\nid: a\nstream: {keys}\n"
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        resolve.resolve(str(tmp_path / "a.yaml"), need_strategy=False)
    assert message in str(caught.value)


def test_members_that_share_need_as_many_classes(root: Path) -> None:
    names, labels = ["digits", "digits_parity", "cells"], ["a", "b", "a"]
    for act in (load.load, load.require, load.facts, load.outline):
        with pytest.raises(UserError) as caught:
            act(names, labels=labels)
        assert str(caught.value) == (
            "the data sets of the label space 'a' need the same number of classes: 'digits' has 10, 'cells' has 3."
        )


# ------------------------------------------------------------------------------------------------ MedMNIST
def test_files_of_medmnist_are_read_as_they_are(root: Path) -> None:
    for name, classes, colour in (("grey", 2, ()), ("colour", 4, (3,))):
        held = medmnist(root / f"{name}.npz", classes, colour)
        data = load.load(f"npz:{root / name}.npz")
        assert (data.classes, data.shape) == (classes, ((3 if colour else 1), 28, 28))
        images = held["train_images"]
        assert np.array_equal(data.train_x, images.transpose(0, 3, 1, 2) if colour else images[:, None])
        assert np.array_equal(data.train_y, held["train_labels"][:, 0])
        assert np.array_equal(data.test_y, held["test_labels"][:, 0])
        assert load.facts(name) == dataset.Facts(classes, True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_labels": np.zeros((18, 14), np.uint8)},
            "train_labels has the shape (18, 14), several labels a sample, as of ChestMNIST; a sample needs",
        ),
        ({"test_labels": np.full((6, 1), 7, np.uint8)}, "class 7 is in test_y, but not in train_y."),
        ({"test_labels": None}, "array 'train_x' is missing; the file holds"),
    ],
)
def test_what_is_wrong_with_such_a_file_is_said(changes: dict[str, Any], message: str, root: Path) -> None:
    medmnist(root / "bad.npz", 3, **changes)
    for act in (load.load, load.facts):
        with pytest.raises(UserError) as caught:
            act("bad")
        assert str(caught.value).startswith(f"{root / 'bad.npz'}: {message}")


# ------------------------------------------------------------------------------------------------ runs
@pytest.mark.parametrize("strategy", ["separate", "joint", "naive", "er"])
@pytest.mark.parametrize("setting", ["task", "class"])
def test_heads_of_their_own_are_learnt_and_tested(strategy: str, setting: str, tmp_path: Path) -> None:
    """Over domains and over tasks: a task's outputs alone compete in the task view, all seen in the class view."""
    if strategy == "separate" and setting == "class":
        pytest.skip("needs the task at test time")
    small = [budget(30), "evaluation.every=0", f"stream.setting={setting}"]
    run = resolve.make_run("domains_and_tasks_digits-v1", strategy=strategy, overrides=small)
    trace = read_trace(execute(run, tmp_path).directory)
    classes = [sorted(set(trace.cell_class[members].tolist())) for members in trace.task_cells]
    assert classes == [[*range(10)], [10, 11], [*range(10)]]
    assert trace.cell_domain.max() == 2
    final = trace.task_accuracy("task")[-1]
    assert final[1] > 0.6
    if setting == "class":
        assert (trace.task_accuracy("class")[-1] <= final).all(), "more classes compete"
    else:
        parity = trace.predictions("task")[:, trace.task_cells[1][trace.sample_cell]]
        assert set(parity[-1].tolist()) <= {10, 11}


# ------------------------------------------------------------------------------------------------ vectors
def test_vectors_of_the_same_features_are_tasks_with_label_spaces(root: Path) -> None:
    draw = np.random.default_rng(0)
    for name, classes, features in (("women", 2, 5), ("men", 2, 5), ("decade", 4, 5), ("wide", 2, 6)):
        x = draw.normal(size=(10 * classes, features)).astype(np.float32)
        np.savez(root / f"{name}.npz", x=x, y=np.arange(10 * classes) % classes)
    names = [f"npz:{root / name}.npz" for name in ("women", "decade", "men")]
    data = load.load(names, labels=["death", "decade", "death"])
    assert (data.classes, data.shape, data.top) == (6, (5,), 1.0)
    assert load.facts(names, labels=["death", "decade", "death"]) == dataset.Facts(6, False, tasks=3)
    assert data.train_task is not None
    assert np.array_equal(data.train_x[data.train_task == 2], load.load(names[2]).train_x)
    np.testing.assert_allclose(data.mean, np.asarray(data.train_x).mean(0), rtol=1e-5)
    compiled = compile_stream(stream(data=names, labels=["death", "decade", "death"]), 0)
    assert [t.classes for t in compiled.tasks] == [(0, 1), (2, 3, 4, 5), (0, 1)]
    with pytest.raises(UserError, match=r"the same number of features: .*women.npz' has 5, .*wide.npz' has 6"):
        load.load([names[0], f"npz:{root / 'wide.npz'}"])
    with pytest.raises(UserError, match="holds vectors; a list of data sets needs images, or vectors alone"):
        load.load(["digits", names[0]])
