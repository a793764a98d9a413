"""Data sets by name, as NumPy arrays: from the data root, embedded, generated, imported, or downloaded.

The data root is `CLBENCH_DATA`, else `~/.cache/clbench`. It is searched first, for `NAME.npz` and then for
torchvision's folder layout; only then torchvision downloads. Set `CLBENCH_OFFLINE=1` to forbid downloads.

An npz file holds `train_x`, `train_y`, `test_x`, `test_y`, and where the data define tasks `train_task` and `test_task`
(integers 0..T-1); a class of a task then has both training and test samples in that task. Of a regression it holds
`train_target` and `test_target`, numbers (N,) or (N, D), in place of the labels. Or it holds `x`, `y` and
optionally `task`: then every fifth sample of each class (of each class in each task), in the order of the file, is a
test sample.

A name with a colon, `package.module:Name`, runs user-defined code (`clbench.streams.datasets.imported`); no other name
does. A list of names is one data set whose tasks are its members: images, converted to one size and one number of
channels, whose classes are the same or their own (`clbench.streams.datasets.lists`).

Data that do not fit in memory stay on the disk (`clbench.on_disk`): `npy:FOLDER` has each of these arrays in a separate
file, `train_x.npy` and so on, and `lazy:package.module:Name` is a data set of PyTorch whose items are read singly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.dataset import DataSet, Facts, Outline
from clbench.errors import UserError, unknown
from clbench.on_disk import OnDisk, Stored, layout, parts
from clbench.streams.datasets import embedded, imported, lists, outline_cache, sources
from clbench.streams.datasets import labels as label_checks
from clbench.streams.datasets import published as published_files
from clbench.streams.datasets.moments import moments_for
from clbench.streams.datasets.published import Published
from clbench.streams.datasets.resize import resize
from clbench.streams.datasets.sources import Arrays, data_root
from clbench.streams.datasets.synthetic import SyntheticData


@dataclass(frozen=True)
class _Known:
    """A built-in data set."""

    facts: Facts
    published: Published | None = None
    samples: tuple[int, int] | None = None
    """Published numbers of training and test samples."""
    sha256: str | None = None
    """Digest of the published arrays, where we could check them against the publisher's checksums."""


DATASETS: dict[str, _Known] = {
    "digits": _Known(
        Facts(10, True, "8x8 grey digits, 1,442 train, 355 test; ships with scikit-learn"),
        sha256="145b48fcae08296daf13c0658f889701ddab5cb9bb3ec66f13264349e063c6e0",
    ),
    "digits_inverted": _Known(Facts(10, True, "the same digits in another domain, dark on light")),
    "digits_parity": _Known(Facts(2, True, "the same images as another task: even or odd")),
    "mnist": _Known(
        Facts(10, True, "28x28 grey digits, 60,000 train, 10,000 test"),
        Published("MNIST", ("MNIST/raw",), "ossci-datasets.s3.amazonaws.com"),
        sha256="11de40ec28a7c150195b86fd3a818037e73f1e8d04ab1621d02836dbdf8a2d54",
    ),
    "fashion_mnist": _Known(
        Facts(10, True, "28x28 grey clothes, 60,000 train, 10,000 test"),
        Published("FashionMNIST", ("FashionMNIST/raw",), "fashion-mnist.s3-website.eu-central-1.amazonaws.com"),
        sha256="b42e0f3189f494f730119201c9e1a41654a875ffd564ea07b7cf8032d5327c02",
    ),
    "kmnist": _Known(
        Facts(10, True, "28x28 grey Kuzushiji, 60,000 train, 10,000 test"),
        Published("KMNIST", ("KMNIST/raw",), "codh.rois.ac.jp"),
        (60_000, 10_000),
    ),
    "usps": _Known(
        Facts(10, True, "16x16 grey digits, 7,291 train, 2,007 test"),
        Published("USPS", ("usps.bz2", "usps.t.bz2"), "www.csie.ntu.edu.tw"),
        (7_291, 2_007),
    ),
    "cifar10": _Known(
        Facts(10, True, "32x32 colour photographs, 50,000 train, 10,000 test"),
        Published("CIFAR10", ("cifar-10-batches-py",), "www.cs.toronto.edu"),
        sha256="e6216b9018fcebdb2fc8d67681111ecdcbcb1599320d6cfc1c4f6ff4b91839a8",
    ),
    "cifar100": _Known(
        Facts(100, True, "32x32 colour photographs, 50,000 train, 10,000 test"),
        Published("CIFAR100", ("cifar-100-python",), "www.cs.toronto.edu"),
        (50_000, 10_000),
    ),
    "omniglot": _Known(
        Facts(659, True, "28x28 grey characters of 20 alphabets by 20 drawers, 9,885 train, 3,295 test"),
        Published("Omniglot", ("omniglot-py/images_evaluation",), "raw.githubusercontent.com"),
        (9_885, 3_295),
    ),
    "synthetic": _Known(Facts(10, False, "Gaussian classes of any size, from a seed; nothing to download")),
}


def available() -> dict[str, str]:
    """All available names, built-in ones and other NAME.npz of the data root, with a summary."""
    names = {name: known.facts.summary for name, known in DATASETS.items()}
    root = data_root()
    if root.is_dir():
        for path in sorted(root.glob("*.npz")):
            names.setdefault(path.stem, f"your own arrays, {path}")
    return names


def facts(
    name: str | Sequence[str],
    synthetic: SyntheticData | None = None,
    size: int | None = None,
    labels: lists.Labels = None,
) -> Facts:
    """Number of classes and kind of input, without loading images, without torch, and without user-defined code.

    Args:
        name, synthetic, size, labels: as for `load`.

    Raises:
        UserError: unknown name, a damaged npz file, a list of incompatible members, or a size for vectors.
    """
    known = _facts(name, synthetic) if isinstance(name, str) else _facts_of_list(name, synthetic, labels)
    if size is not None and isinstance(name, str) and _stays(name):
        raise UserError(f"data set '{name}' stays on the disk as it is; a size needs images in memory.")
    if size is not None and known.image is False:
        raise UserError(_sizeless(_title(name)))
    return known


def _facts(name: str, synthetic: SyntheticData | None) -> Facts:
    if name == "synthetic":
        return Facts((synthetic or SyntheticData()).classes, False)
    if imported.is_import_path(name):
        imported.check(name)
        return Facts(None, None, "user-defined data")
    folder = sources.npy_folder(name)
    if folder is not None:
        return sources.npy_facts(folder)
    path = sources.npz_path(name)
    if path is not None:
        return sources.npz_facts(path)
    if name in DATASETS:
        return DATASETS[name].facts
    message = unknown("data set", name, available()).rstrip(".")
    raise UserError(
        f"{message}, npz:PATH, npy:FOLDER, package.module:Name, lazy:package.module:Name, or any NAME for which "
        f"CLBENCH_DATA ({data_root()}) holds a NAME.npz."
    )


def _facts_of_list(names: Sequence[str], synthetic: SyntheticData | None, labels: lists.Labels) -> Facts:
    if not names:
        raise UserError("an empty list of data sets; it needs one at least.")
    members = [_facts(n, synthetic) for n in names]
    for member, known in zip(names, members, strict=True):
        if _stays(member):
            raise UserError(f"data set '{member}' stays on the disk as it is; a list needs images in memory.")
        if known.image is False:
            raise UserError(f"data set '{member}' holds vectors; a list of data sets needs images.")
        if known.tasks is not None:
            raise UserError(f"data set '{member}' has tasks; in a list each data set is one task.")
    of, classes = lists.spaces(names, labels), [m.classes for m in members]
    lists.same_classes(names, classes, of)
    total: int | None = None
    held = {space: n for space, n in zip(of.of, classes, strict=True) if n is not None}
    if len(held) == len(set(of.of)):
        total = sum(held.values())
    return Facts(total, True, tasks=len(names))


def _stays(name: str) -> bool:
    """True if a data set stays on the disk."""
    return name.startswith(("npy:", imported.LAZY))


def require(
    name: str | Sequence[str],
    synthetic: SyntheticData | None = None,
    size: int | None = None,
    labels: lists.Labels = None,
) -> None:
    """Fails early, and without importing torch, if a data set is unavailable.

    Args:
        name, synthetic, size, labels: as for `load`.

    Raises:
        UserError: as `facts`, or missing and not downloadable; of an import path only that it does not exist.
    """
    facts(name, synthetic, size, labels)
    for member in [name] if isinstance(name, str) else name:
        published = DATASETS[member].published if member in DATASETS else None
        if published is None or sources.npz_path(member) is not None:
            continue
        if not published.local() and not published.downloadable():
            raise UserError(published_files.missing(member, published))


def is_local(name: str | Sequence[str]) -> bool:
    """True if a data set can be read without a download and without code of the user's."""
    for member in [name] if isinstance(name, str) else name:
        known = DATASETS.get(member)
        if sources.npz_path(member) is not None or member.startswith("npy:"):
            continue
        if known is None or (known.published is not None and not known.published.local()):
            return False
    return True


def outline(
    name: str | Sequence[str],
    synthetic: SyntheticData | None = None,
    size: int | None = None,
    labels: lists.Labels = None,
) -> Outline:
    """A data set without its inputs: from a cache file of `load`, else by loading it.

    User-defined code (an import path) is run each time.

    Args:
        name, synthetic, size, labels: as for `load`.

    Raises:
        UserError: as `load`.
    """
    key = _key(name, synthetic, size, labels)
    kept = None if key is None else outline_cache.read(key)
    if kept is not None:
        return Outline(name=_title(name), **kept)
    data = load(name, synthetic, size, labels)
    return Outline(**{field.name: getattr(data, field.name) for field in fields(Outline)})


def load(
    name: str | Sequence[str],
    synthetic: SyntheticData | None = None,
    size: int | None = None,
    labels: lists.Labels = None,
) -> DataSet:
    """A data set, checked.

    Args:
        name: a built-in name, `npz:PATH`, NAME where the data root holds NAME.npz, an import path, or, for data on the
            disk, `npy:FOLDER` and `lazy:` before an import path; or a list of these but the last: images (uint8)
            without tasks, converted to one size and, where any is in colour, to three channels, of top 255. Its tasks
            are the members in their order.
        synthetic: parameters of the data set `synthetic`.
        size: height and width that images (uint8) are resized to, >= 1; by default they keep theirs, and those of a
            list get the first member's. Images that change size have the top 255.
        labels: of a list, see `lists.Labels`: members that share a label space have the same number of classes.

    Raises:
        UserError: unavailable, or a file is damaged; the message names the file and the mistake.
    """
    require(name, synthetic, size, labels)
    before = _key(name, synthetic, size, labels)
    if isinstance(name, str):
        data = _one(name, synthetic)
        if size is not None:
            data = _resized(data, (size, size))
    else:
        data = _joined(name, synthetic, size, labels)
    after = _key(name, synthetic, size, labels)
    if after is not None and before in (None, after):  # files that change meanwhile are not what was read
        outline_cache.write(after, data)
    return data


def _one(name: str, synthetic: SyntheticData | None) -> DataSet:
    """A single data set in its stored form."""
    path, folder = sources.npz_path(name), sources.npy_folder(name)
    published = DATASETS[name].published if name in DATASETS else None
    if name == "synthetic":
        arrays = embedded.synthetic(synthetic or SyntheticData())
    elif imported.is_import_path(name):
        arrays = imported.load(name)
    elif folder is not None:
        files = sorted(folder.glob("*.npy"))
        arrays = replace(sources.read_npy(folder), stamp=lambda: outline_cache.stamps(*files))
    elif path is not None:
        arrays = sources.read_npz(path)
    elif published is None:
        arrays = embedded.EMBEDDED[name]()
    elif name == "omniglot":
        arrays = published_files.read_omniglot(published)
    else:
        arrays = published_files.read_torchvision(name, published)
    data = _finish(name, arrays)
    if name in DATASETS:
        _check_published(data, DATASETS[name])
    return data


def _check_published(data: DataSet, known: _Known) -> None:
    """Checks that a built-in data set is the published one."""
    wrong = "it is damaged, or your data, which needs another name"
    held = (data.classes, len(data.train_y), len(data.test_y))
    if known.samples is not None and held != (known.facts.classes, *known.samples):
        raise UserError(
            f"{data.origin}: not the published '{data.name}' ({_counted(*held)}; published: "
            f"{_counted(known.facts.classes or 0, *known.samples)}); {wrong}."
        )
    if known.sha256 is not None and data.sha256 != known.sha256:
        raise UserError(
            f"{data.origin}: not the published '{data.name}' (SHA-256 {data.sha256[:16]}..., expected "
            f"{known.sha256[:16]}...); {wrong}."
        )


def _counted(classes: int, train: int, test: int) -> str:
    return f"{classes} classes, {train:,} training and {test:,} test samples"


def _title(name: str | Sequence[str]) -> str:
    return name if isinstance(name, str) else "+".join(name)


def _sizeless(name: str) -> str:
    return f"data set '{name}' holds vectors; only images have a size."


def _levels(data: DataSet) -> DataSet:
    """Images of whole levels 0..255, uint8, where the top is another, rounded to the nearest."""
    if len(data.shape) != 3:
        raise UserError(_sizeless(data.name))
    if data.train_x.dtype != np.uint8:
        raise UserError(f"data set '{data.name}' holds images of floats; a size, and a list, need uint8.")
    if data.top == 255:
        return data
    table = np.rint(np.arange(256) * (255 / data.top)).clip(0, 255).astype(np.uint8)
    return replace(data, train_x=table[_held(data.train_x)], test_x=table[_held(data.test_x)], top=255.0)


def _held(x: Stored) -> NDArray[Any]:
    """Inputs in memory; those on the disk were refused before they were opened."""
    assert not isinstance(x, OnDisk)
    return x


def _resized(data: DataSet, size: tuple[int, int]) -> DataSet:
    """Images resized to a height and width, with their new digest; unchanged where that is their size."""
    if len(data.shape) == 3 and data.shape[1:] == size:
        return data
    data = _levels(data)
    train_x, test_x = (resize(_held(x), *size) for x in (data.train_x, data.test_x))
    return _read_through(replace(data, train_x=train_x, test_x=test_x, shape=train_x.shape[1:]))


def _joined(names: Sequence[str], synthetic: SyntheticData | None, size: int | None, labels: lists.Labels) -> DataSet:
    """Data sets as the tasks of one."""
    members: list[DataSet] = []
    digests: list[str] = []
    for name in names:
        data = _one(name, synthetic)
        if data.train_task is not None:
            raise UserError(f"data set '{name}' has tasks; in a list each data set is one task.")
        digests.append(data.sha256)
        data = _levels(data)
        height, width = (size, size) if size is not None else (members or [data])[0].shape[1:]
        members.append(_resized(data, (height, width)))
    of = lists.spaces(names, labels)
    lists.same_classes(names, [m.classes for m in members], of)
    return lists.joined(_title(names), members, digests, of)


def _key(
    name: str | Sequence[str], synthetic: SyntheticData | None, size: int | None, labels: lists.Labels = None
) -> str | None:
    """The key of an outline; None if nothing lies on this machine yet, or for user-defined code."""
    members: list[Any] = []
    for member in [name] if isinstance(name, str) else name:
        known = DATASETS.get(member)
        files: tuple[Path, ...] = ()
        detail: Any = None
        path, folder = sources.npz_path(member), sources.npy_folder(member)
        if member == "synthetic":
            detail = (synthetic or SyntheticData()).model_dump(mode="json")
        elif member in embedded.EMBEDDED:
            try:
                detail = version("scikit-learn")
            except PackageNotFoundError:
                return None
        elif path is not None:
            files = (path,)
        elif folder is not None:
            files = tuple(sorted(folder.glob("*.npy")))
        elif known is not None and known.published is not None and known.published.local():
            files = tuple(data_root() / file for file in known.published.files)
        else:
            return None
        members.append([member, detail, known.sha256 if known else None, outline_cache.stamps(*files)])
    of = [] if labels is None else [labels if isinstance(labels, str) else list(labels)]
    return outline_cache.key("one" if isinstance(name, str) else "list", members, size, *of)


def _finish(name: str, arrays: Arrays) -> DataSet:
    """Checks the arrays and converts them to the stored layout."""
    train_x, train_y, test_x, test_y = arrays.train_x, arrays.train_y, arrays.test_x, arrays.test_y
    origin = arrays.origin
    for part, x, y in (("train", train_x, train_y), ("test", test_x, test_y)):
        problem = _problem(part, x, y)
        if problem:
            raise UserError(f"{origin}: {problem}.")
    if train_x.shape[1:] != test_x.shape[1:]:
        raise UserError(f"{origin}: train_x has samples of {train_x.shape[1:]}, test_x of {test_x.shape[1:]}.")
    problem = label_checks.parts_problem(train_y, test_y, arrays.class_names)
    if problem:
        raise UserError(f"{origin}: {problem}.")
    classes = len(np.unique(train_y))
    tasks: dict[str, Any] = {}
    if arrays.train_task is not None and arrays.test_task is not None:
        problem = label_checks.tasks_problem(train_y, arrays.train_task, test_y, arrays.test_task, arrays.class_names)
        if problem:
            raise UserError(f"{origin}: {problem}.")
        tasks = {
            "train_task": arrays.train_task.astype(np.int64), "test_task": arrays.test_task.astype(np.int64)
        }  # fmt: skip
    targets: dict[str, Any] = {}
    if arrays.train_target is not None and arrays.test_target is not None:
        targets = {"target_names": arrays.target_names}
        for part, t, x in (("train", arrays.train_target, train_x), ("test", arrays.test_target, test_x)):
            if problem := label_checks.target_problem(f"{part}_target", t, len(x)):
                raise UserError(f"{origin}: {problem}.")
            targets[f"{part}_target"] = t.astype(np.float32).reshape(len(t), -1)
        if (widths := {targets[name].shape[1] for name in ("train_target", "test_target")}) and len(widths) > 1:
            raise UserError(f"{origin}: train_target and test_target have {sorted(widths)} numbers a sample.")
    train, test = (_laid_out(x, arrays.fresh) for x in (train_x, test_x))
    scale = arrays.top or (255.0 if train.dtype == np.uint8 else 1.0)
    data = DataSet(
        name=name, train_x=train, train_y=train_y.astype(np.int64), test_x=test, test_y=test_y.astype(np.int64),
        **tasks, **targets, classes=classes, top=scale, mean=(), std=(), shape=train.shape[1:], sha256="",
        origin=origin, class_names=arrays.class_names,
    )  # fmt: skip
    if arrays.stamp is None:
        return _read_through(data)
    before = arrays.stamp()
    contents = outline_cache.recall(outline_cache.key("contents", before))
    if contents is not None:
        return replace(data, **contents)
    data = _read_through(data)
    if arrays.stamp() == before:
        outline_cache.keep(outline_cache.key("contents", before), data.sha256, data.mean, data.std)
    return data


def _problem(part: str, x: Stored, y: NDArray[Any]) -> str | None:
    problem = label_checks.label_problem(f"{part}_x", f"{part}_y", y, len(x) if x.ndim else 0)
    return problem or sources.input_problem(f"{part}_x", x)


def _laid_out(x: Stored, reuse: bool) -> Stored:
    return replace(x, laid_out=True) if isinstance(x, OnDisk) else layout(x, reuse)


def _read_through(data: DataSet) -> DataSet:
    """Adds moments and digest, in one pass over all samples.

    Raises:
        UserError: a float is not finite. (Arrays in memory were checked before.)
    """
    moments, digest = moments_for(data.train_x), hashlib.sha256()
    names = ("train_x", "train_y", "test_x", "test_y", "train_task", "test_task", "train_target", "test_target")
    for name in names:
        array: Stored | None = getattr(data, name)
        if array is None:
            continue
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        for start, part in parts(array):
            if isinstance(array, OnDisk) and part.dtype.kind == "f":
                problem = sources.finite_problem(*array.origin(name, start), part)
                if problem:
                    raise UserError(f"{data.origin}: {problem}.")
            digest.update(np.ascontiguousarray(part).view(np.uint8).data)
            if name == "train_x":
                moments.add(part)
    mean, std = moments.result(data.top)
    return replace(data, sha256=digest.hexdigest(), mean=mean, std=std)
