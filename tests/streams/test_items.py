"""Items of data sets of PyTorch: what `__getitem__` gives is what is learnt, however the data set is named."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset, random_split

from clbench.dataset import DataSet
from clbench.errors import UserError
from clbench.streams.datasets import items, load
from support import user_module

N, C = 90, 3
"""Items of a part, and classes."""


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of one's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(params=["", "lazy:"], ids=["memory", "lazy"])
def loaded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], DataSet]:
    """Loads a class of a user's own by import path, into memory or lazily."""
    return lambda kind: load.load(f"{request.param}{user_module(monkeypatch, kind)}:{kind.__name__}")


class Honest(Dataset[Any]):
    """Attributes that are what items give: of every class the same number, no two images alike."""

    def __init__(self, train: bool = True) -> None:
        self.train = train
        self.targets = [i % C for i in range(N)]
        self.data = np.random.default_rng(train).integers(0, 256, (N, 6, 5), np.uint8)

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> Any:
        return self.data[i], self.targets[i]


class NoisyLabels(Honest):
    """Wrong labels in the middle of the training part alone."""

    def __getitem__(self, i: int) -> Any:
        return self.data[i], (self.targets[i] + (self.train and 0 < i < N - 1)) % C


class OneWrongLabel(Honest):
    """A single wrong label, between probes."""

    def __getitem__(self, i: int) -> Any:
        return self.data[i], 2 if i == 36 else self.targets[i]


class BlackImages(Honest):
    """Black images in the middle of the training part alone."""

    def __getitem__(self, i: int) -> Any:
        return self.data[i] * (not (self.train and 0 < i < N - 1)), self.targets[i]


class Merged(Honest):
    """A transform of targets that the last item of one part does not show."""

    def __init__(self, train: bool = True) -> None:
        super().__init__(train)
        self.targets[0] = self.targets[-1] = 0 if train else 2
        self.target_transform = lambda y: min(y, 1)

    def __getitem__(self, i: int) -> Any:
        return self.data[i], self.target_transform(self.targets[i])


class ListedLabels(Honest):
    """`labels` beside `targets`, neither of which is what items give."""

    def __init__(self, train: bool = True) -> None:
        super().__init__(train)
        self.labels = self.targets

    def __getitem__(self, i: int) -> Any:
        return torch.from_numpy(255 - self.data[i]), torch.tensor((self.targets[i] + (i % 7 == 3)) % C)


def items_of(kind: Any) -> list[tuple[Any, Any]]:
    return [
        (np.stack([np.asarray(part[i][0]) for i in range(N)]), np.array([int(part[i][1]) for i in range(N)]))
        for part in (kind(train=True), kind(train=False))
    ]


def held(x: Any) -> Any:
    return np.stack(list(x))[:, 0]


@pytest.mark.parametrize("kind", [Honest, NoisyLabels, OneWrongLabel, BlackImages, Merged, ListedLabels])
def test_what_items_give_is_learnt(loaded: Callable[[Any], DataSet], kind: Any) -> None:
    (train_x, train_y), (test_x, test_y) = items_of(kind)
    for _ in range(2):  # the second start knows what the first has read
        data = loaded(kind)
        assert np.array_equal(held(data.train_x), train_x)
        assert np.array_equal(held(data.test_x), test_x)
        assert data.train_y.tolist() == train_y.tolist()
        assert data.test_y.tolist() == test_y.tolist()


class Relabelled(Dataset[Any]):
    """A wrapper that has its data set's targets and other labels."""

    def __init__(self, dataset: Any) -> None:
        self.dataset, self.targets = dataset, getattr(dataset, "targets", None)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> Any:
        x, y = self.dataset[i]
        return x, (int(y) + 1) % C


def subset() -> Any:
    return Subset(NoisyLabels(), range(0, 60)), Subset(Honest(train=False), range(5, 50))


def joined() -> Any:
    return ConcatDataset([Honest(), NoisyLabels()]), Honest(train=False)


def tensors() -> Any:
    return [TensorDataset(torch.from_numpy(h.data), torch.tensor(h.targets)) for h in (Honest(), Honest(train=False))]


def drawn() -> Any:
    return random_split(NoisyLabels(), [60, 30], torch.Generator().manual_seed(3))


def wrapped() -> Any:
    return Relabelled(Honest()), Relabelled(Subset(Honest(train=False), range(30)))


@pytest.mark.parametrize("function", [subset, joined, tensors, drawn, wrapped])
def test_what_items_of_wrappers_give_is_learnt(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load.load(f"lazy:{user_module(monkeypatch, function)}:{function.__name__}")
    for dataset, x, y in zip(function(), (data.train_x, data.test_x), (data.train_y, data.test_y), strict=True):
        assert y.tolist() == [int(dataset[i][1]) for i in range(len(dataset))]
        assert np.array_equal(held(x), np.stack([np.asarray(dataset[i][0]) for i in range(len(dataset))]))


# ------------------------------------------------------------------------------------------------ torchvision's own
@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Images in folders of their classes, for training and for testing."""
    for part in ("train", "test"):
        for c, name in enumerate("abc"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(6):
                pixels = np.full((6, 5, 3), 10 * c + i, np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{i}.png")
    return tmp_path


def test_labels_of_folders_are_known_without_images(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where nothing transforms them: a changed `targets` changes no item, a transform every one."""
    from torchvision.datasets import ImageFolder

    plain = ImageFolder(str(folders / "train"))
    plain.targets = [0] * 18
    subset = Subset(plain, [0, 17, 6])
    whole = ConcatDataset([plain, subset])
    with monkeypatch.context() as patched:
        patched.setattr(ImageFolder, "__getitem__", lambda *_: pytest.fail("an image was read"))
        for dataset in (plain, subset, whole):
            assert items.known_labels(dataset) is not None
    for dataset in (plain, subset, whole):
        labels = items.known_labels(dataset)
        assert labels is not None
        assert labels.tolist() == [dataset[i][1] for i in range(len(dataset))]
    changed = ImageFolder(str(folders / "train"), target_transform=lambda y: (y + 1) % 3)
    for other in (changed, Subset(changed, [0, 1]), ConcatDataset([plain, changed]), Relabelled(plain)):
        assert items.known_labels(other) is None

    def turned() -> Any:
        return changed, ImageFolder(str(folders / "test"), target_transform=lambda y: (y + 1) % 3)

    assert load.load(f"lazy:{user_module(monkeypatch, turned)}:turned").train_y.tolist() == [1] * 6 + [2] * 6 + [0] * 6


@pytest.mark.parametrize("name", ["MNIST", "CIFAR10", "SVHN"])
def test_arrays_of_torchvisions_own_classes_are_taken_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first and the last item are read, no other; with any transform, and in a class derived from it, all are."""
    from torchvision import datasets

    kind = getattr(datasets, name)
    rng, read = np.random.default_rng(0), []

    def made(of: Any = kind, **changes: Any) -> Any:
        dataset = of.__new__(of)
        shape = {"MNIST": (9, 6, 5), "CIFAR10": (9, 6, 5, 3), "SVHN": (9, 3, 6, 5)}[name]
        data = rng.integers(0, 256, shape, np.uint8)
        dataset.data = torch.from_numpy(data) if name == "MNIST" else data
        labels = "labels" if name == "SVHN" else "targets"
        dataset.transform = dataset.target_transform = dataset.transforms = None
        vars(dataset).update({labels: [i % C for i in range(9)], **changes})
        return dataset

    original = kind.__getitem__
    monkeypatch.setattr(kind, "__getitem__", lambda self, i: (read.append(i), original(self, i))[1])

    class Derived(kind):  # type: ignore[misc, valid-type]
        def __getitem__(self, i: int) -> Any:
            x, y = super().__getitem__(i)
            return x, y * (i in (0, 8))

    for dataset, few in (
        (made(), True), (made(transform=lambda x: np.asarray(x) // 2), False),
        (made(target_transform=lambda y: -y % C), False), (made(Derived), False),
    ):  # fmt: skip
        read.clear()
        x, y = items.read("d", dataset)
        assert (sorted(set(read)) == [0, 8]) is few
        assert y.tolist() == [dataset[i][1] for i in range(9)]
        assert np.array_equal(x, np.stack([np.asarray(dataset[i][0]) for i in range(9)]))


# ------------------------------------------------------------------------------------------------ read once
class Counted(NoisyLabels):
    """A data set that counts its reads."""

    read: Iterator[int] = count()
    shift = 0

    def __getitem__(self, i: int) -> Any:
        next(Counted.read)
        x, y = super().__getitem__(i)
        return x, (y + Counted.shift) % C


def test_labels_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later start reads probes alone; other labels of items are other labels, declared or not."""
    monkeypatch.setattr(items, "PROBES", 4)
    name = f"lazy:{user_module(monkeypatch, Counted)}:Counted"

    def reads() -> int:
        monkeypatch.setattr(Counted, "read", count())
        labels.append(load.load(name).train_y.tolist())
        return next(Counted.read)

    labels: list[list[int]] = []
    assert reads() > 2 * N > reads()
    assert labels[0] == labels[1]
    monkeypatch.setattr(Counted, "shift", 1)
    assert reads() > 2 * N
    assert labels[2] == [(y + 1) % C for y in labels[0]]


# ------------------------------------------------------------------------------------------------ chance
class Flipped(Honest):
    """A random flip, as an augmentation of torchvision's would be."""

    def __getitem__(self, i: int) -> Any:
        x = self.data[i]
        return (x[:, ::-1] if torch.rand(()) < 0.5 else x).copy(), self.targets[i]


class OwnGenerator(Honest):
    """Noise of a generator that no seed reaches."""

    rng = np.random.default_rng()

    def __getitem__(self, i: int) -> Any:
        return np.float32(self.data[i]) + self.rng.normal(size=(6, 5)).astype(np.float32), self.targets[i]


class RandomLabels(Honest):
    """Labels drawn anew each time."""

    def __getitem__(self, i: int) -> Any:
        return self.data[i], random.randrange(C)


class RarelyErased(Honest):
    """A change of few items, never of the first and the last."""

    def __getitem__(self, i: int) -> Any:
        return self.data[i] * (not (i == 37 and random.random() < 0.999)) ^ (i == 37) * random.getrandbits(8), 0


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Flipped, r"item \d+ differs each time it is read; random changes belong to training.augmentation."),
        (OwnGenerator, r"item 0 differs each time it is read; random changes belong to training.augmentation."),
        (RandomLabels, r"the label of item \d+ differs each time it is read, \d and \d; wrong labels belong to "
         r"stream.supervision.noise."),
    ],
)  # fmt: skip
def test_items_that_chance_changes_are_refused(loaded: Callable[[Any], DataSet], kind: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=rf"data set '\S+{kind.__name__}': {sentence}$"):
        loaded(kind)


def test_in_memory_each_of_few_items_is_read_twice() -> None:
    with pytest.raises(UserError, match="item 37 differs each time it is read"):
        items.read("d", RarelyErased())


class Fails(Honest):
    """A mistake of the user's own code at an item in the middle."""

    def __getitem__(self, i: int) -> Any:
        return self.data[i], self.targets[i] if i != 7 else {}["key"]


def test_mistakes_of_items_are_sentences(loaded: Callable[[Any], DataSet]) -> None:
    with pytest.raises(UserError, match=r"Fails' fails at item 7: .*test_items.py, line \d+: KeyError: 'key'.$"):
        loaded(Fails)
