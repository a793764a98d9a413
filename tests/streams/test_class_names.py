"""Names of classes: parts of a data set that number their classes differently are refused, messages use names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset

from clbench import resolve
from clbench.errors import UserError
from clbench.streams.compile import compile_stream
from clbench.streams.datasets import load
from support import user_module

REMEDY = (
    " A label must mean one class: use one list of classes in the same order (with folders, the same folders) in all "
    "parts."
)


@pytest.fixture(autouse=True)
def _places(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.chdir(tmp_path_factory.mktemp("place"))


class Named(Dataset[Any]):
    """Six items of each of some classes."""

    def __init__(self, labels: Any = (0, 1, 2), **attributes: Any) -> None:
        self.labels = np.repeat(labels, 6)
        vars(self).update(attributes)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> Any:
        return np.full((6, 5), i, np.uint8), int(self.labels[i])


def loaded(monkeypatch: pytest.MonkeyPatch, *parts: Any) -> Any:
    def pair() -> Any:
        return parts

    return load.load(f"lazy:{user_module(monkeypatch, pair)}:pair")


def refused(monkeypatch: pytest.MonkeyPatch, *parts: Any) -> str:
    with pytest.raises(UserError) as caught:
        loaded(monkeypatch, *parts)
    return str(caught.value).removeprefix("data set 'lazy:a_users_module:pair': ").removesuffix(REMEDY)


ABC = ["ant", "bee", "cat"]


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (["ant", "cat"], "'bee' is missing from the test part; 'cat' is class 2 in the training part and 1 in the test "
         "part."),
        (["ant", "bee"], "'cat' is missing from the test part."),
        (["aardvark", *ABC], "'aardvark' is missing from the training part; 'ant' is class 0 in the training part and "
         "1 in the test part."),
        (["bee", "ant", "cat"], "'ant' is class 0 in the training part and 1 in the test part."),
        (["ant", "bee", "dog"], "'cat' is missing from the test part; 'dog' is missing from the training part."),
        ([*"0123456"], "'ant', 'bee', 'cat' are missing from the test part; '0', '1', '2', '3', '4' and 2 more are "
         "missing from the training part."),
    ],
)  # fmt: skip
@pytest.mark.parametrize("attribute", ["classes", "class_to_idx"])
def test_parts_that_number_classes_differently(
    monkeypatch: pytest.MonkeyPatch, attribute: str, other: list[str], sentence: str
) -> None:
    def named(names: list[str]) -> Named:
        return Named(
            **{attribute: names if attribute == "classes" else {n: c for c, n in reversed([*enumerate(names)])}}
        )

    assert refused(monkeypatch, named(ABC), named(other)) == sentence
    assert refused(monkeypatch, Subset(named(ABC), range(18)), ConcatDataset([named(other)])) == sentence.replace(
        "the test part", "member 0 of the test part"
    )


def test_data_sets_of_one_part_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = ConcatDataset([Named(classes=ABC), Named(classes=ABC[::-1])])
    expected = "'ant' is class 0 in member 0 of the {0} and 2 in member 1 of the {0}."
    assert refused(monkeypatch, mixed, Named()) == expected.format("training part")
    assert refused(monkeypatch, Named(), mixed) == expected.format("test part")
    assert refused(monkeypatch, mixed) == expected.format("data set")


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        ((Named(classes=ABC), Named(classes=tuple(ABC))), ABC), ((Named(classes=ABC), Named()), ABC),
        ((Named(), Named(classes=ABC)), ABC), ((Named(classes=3), Named()), []),
        ((Named(classes=np.array(ABC)), Named(class_to_idx={"cat": 2, "bee": 1, "ant": 0})), ABC),
        # Whoever transforms labels numbers the classes anew.
        ((Named(classes=ABC), Named(classes=ABC[:2], target_transform=lambda y: y)), ABC),
    ],
)  # fmt: skip
def test_parts_that_agree_or_say_nothing(monkeypatch: pytest.MonkeyPatch, parts: Any, names: list[str]) -> None:
    assert loaded(monkeypatch, *parts).class_names == tuple(names)


@pytest.mark.parametrize("absent", ["missing", "extra"])
def test_folders_of_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    """A folder that one part lacks renumbers all after it."""
    from torchvision.datasets import ImageFolder

    every = {"train": ["a", "b", "c"], "test": ["a", "c"] if absent == "missing" else ["a", "b", "b2", "c"]}
    for part, names in every.items():
        for name in names:
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(2):
                Image.fromarray(np.full((6, 5, 3), 9 * i, np.uint8)).save(tmp_path / part / name / f"{i}.png")
    place, number = ("test part; 'c' is class 2", 1) if absent == "missing" else ("training part; 'c' is class 2", 3)
    name = "b" if absent == "missing" else "b2"
    sentence = f"'{name}' is missing from the {place} in the training part and {number} in the test part."
    assert refused(monkeypatch, *(ImageFolder(str(tmp_path / part)) for part in every)) == sentence


# ------------------------------------------------------------------------------------------------ in messages
def test_messages_name_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    where = "lazy:a_users_module:pair: class"
    cases = [
        ((Named((0, 2)), Named((0, 2))), "1 ('bee')"), ((Named(), Named((0, 1))), "2 ('cat') has no test sample."),
        ((Named((0, 1)), Named()), "2 ('cat') is in test_y, but not in train_y."),
        ((Subset(Named(classes=ABC), range(15)),), "2 ('cat') has 3 samples; every fifth"),
    ]  # fmt: skip
    for parts, sentence in cases:
        for part in parts:
            getattr(part, "dataset", part).classes = ABC
        assert f"class {sentence}" in refused(monkeypatch, *parts).replace(f"{where} ", "class ")


def test_messages_of_a_stream_name_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    def pair() -> Any:
        return Named(classes=ABC), Named(classes=ABC)

    name = f"lazy:{user_module(monkeypatch, pair)}:pair"
    Path("b.yaml").write_text(
        f"id: b-v1\nstream: {{data: '{name}', tasks: {{by: classes, count: 1}}, setting: class, supervision: "
        "{shots: 7, base: 0}}\nmodel: {name: mlp, hidden: [3]}\n"
        "training: {iterations: 1, batch_size: 2, optimizer: {name: sgd, lr: 0.1}}\n"
    )
    with pytest.raises(UserError) as caught:
        compile_stream(resolve.resolve("b.yaml", need_strategy=False)[0].stream, 0)
    assert str(caught.value) == (
        "stream.supervision.shots: got 7, but class 0 ('ant') has 6 training samples in task 0."
    )


# ------------------------------------------------------------------------------------------------ lists
def test_domains_have_the_same_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class with another number in another domain is refused; another name may be another word for the class."""

    class First(Named):
        def __init__(self) -> None:
            super().__init__(classes=ABC)

    class Second(First):
        def __init__(self) -> None:
            super().__init__()
            self.classes = ["ant", "cat", "bee"]

    class Other(First):
        def __init__(self) -> None:
            super().__init__()
            self.classes = ["ant", "BEE", "cat"]

    first, second, other = (
        f"{user_module(monkeypatch, First, Second, Other)}:{k}" for k in ("First", "Second", "Other")
    )
    assert load.load([first, other]).class_names == tuple(ABC)
    with pytest.raises(UserError) as caught:
        load.load([first, other, second])
    assert str(caught.value) == (
        f"the data sets of a list need the same classes: 'bee' is class 1 in '{first}' and class 2 in '{second}'."
    )
