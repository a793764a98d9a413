"""Data sets by name, as NumPy arrays: from the data root, embedded, generated, imported, or downloaded.

The data root is `CLBENCH_DATA`, else `~/.cache/clbench`. It is searched first, for `NAME.npz` and then for
torchvision's folder layout; only then torchvision downloads. Set `CLBENCH_OFFLINE=1` to forbid downloads.

An npz file holds `train_x`, `train_y`, `test_x`, `test_y`, and where the data define tasks `train_task` and `test_task`
(integers 0..T-1); a class of a task then has both training and test samples in that task. Of a regression it holds
`train_target` and `test_target`, numbers (N,) or (N, D), in place of the labels. Or it holds `x`, `y` and
optionally `task`: then every fifth sample of each class (of each class in each task), in the order of the file, is a
test sample. The texts of `class_names`, and of a regression `target_names`, name classes and numbers.

A name with a colon, `package.module:Name`, runs user-defined code (`clbench.streams.datasets.imported`); no other name
does. A list of names is one data set whose tasks are its members: images, converted to one size and one number of
channels, whose classes are the same or their own (`clbench.streams.datasets.lists`).

`csv:PATH`, `parquet:PATH`, `hf:FOLDER` and `gapminder` are tables, whose columns a stream names
(`clbench.streams.datasets.tables`); `folder:PATH` holds images in class folders.

Data that do not fit in memory stay on the disk (`clbench.on_disk`): `npy:FOLDER` has each of these arrays in a separate
file, `train_x.npy` and so on, and `lazy:package.module:Name` is a data set of PyTorch whose items are read singly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from clbench.dataset import FILE_KINDS, DataSet, Facts, Outline
from clbench.errors import UserError, unknown
from clbench.on_disk import OnDisk, Stored
from clbench.streams.datasets import (
    feature_files,
    frames,
    generated,
    image_folders,
    imported,
    lists,
    outline_cache,
    sources,
    tables,
)
from clbench.streams.datasets import published as published_files
from clbench.streams.datasets.columns import Table, is_table
from clbench.streams.datasets.embedded import EMBEDDED
from clbench.streams.datasets.finish import finish, read_through
from clbench.streams.datasets.generated import Generated
from clbench.streams.datasets.published import Published
from clbench.streams.datasets.resize import resize
from clbench.streams.datasets.resized import level_table, sizeless
from clbench.streams.datasets.sources import Arrays, data_root


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
    **{name: _Known(facts) for name, facts in generated.FACTS.items()},
    "gapminder": _Known(
        Facts(None, False, "table of 142 countries in 12 years, 1952 to 2007; ships with plotly; needs `columns`")
    ),
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
    parameters: Generated | None = None,
    size: int | None = None,
    table: Table | None = None,
    labels: lists.Labels = None,
) -> Facts:
    """Number of classes and kind of input, without loading images, without torch, and without user-defined code.

    Args:
        name, parameters, size, table, labels: as for `load`.

    Raises:
        UserError: unknown name, a damaged file, a list of incompatible members, or a size for vectors.
    """
    known = _facts(name, parameters, table) if isinstance(name, str) else _facts_of_list(name, parameters, labels)
    if size is not None and isinstance(name, str) and _stays(name):
        raise UserError(f"data set '{name}' stays on the disk as it is; a size needs images in memory.")
    if size is not None and known.image is False:
        raise UserError(sizeless(_title(name)))
    return known


def _facts(name: str, parameters: Generated | None, table: Table | None = None) -> Facts:
    if name in generated.NAMES:
        return generated.facts(name, parameters)
    if is_table(name):
        return _facts_of_table(tables.load(name, _columned(name, table)))
    pictures = image_folders.folder_of(name)
    if pictures is not None:
        return Facts(len(image_folders.classes_of(pictures)), True)
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
        f"{message}, npz:PATH, npy:FOLDER, csv:PATH, parquet:PATH, hf:FOLDER, folder:PATH, package.module:Name, "
        f"lazy:package.module:Name, or any NAME for which CLBENCH_DATA ({data_root()}) holds a NAME.npz."
    )


def _columned(name: str, table: Table | None) -> Table:
    if table is None:
        raise UserError(f"data set '{name}' is a table, whose columns stream.columns names: {{target: COLUMN}}.")
    return table


def _facts_of_table(arrays: Arrays) -> Facts:
    task = arrays.train_task
    return Facts(
        int(arrays.train_y.max()) + 1, arrays.train_x.ndim > 2,
        tasks=None if task is None else int(task.max()) + 1, numbers=arrays.train_target is not None,
    )  # fmt: skip


def _facts_of_list(names: Sequence[str], parameters: Generated | None, labels: lists.Labels) -> Facts:
    if not names:
        raise UserError("an empty list of data sets; it needs one at least.")
    members = [_facts(n, parameters) for n in names]
    vectors = all(known.image is False for known in members)
    for member, known in zip(names, members, strict=True):
        if _stays(member):
            raise UserError(f"data set '{member}' stays on the disk as it is; a list needs images in memory.")
        if known.numbers:
            raise UserError(f"data set '{member}' has numbers to predict; a list of data sets needs classes.")
        if known.image is False and not vectors:
            raise UserError(f"data set '{member}' holds vectors; a list of data sets needs images, or vectors alone.")
        if known.tasks is not None:
            raise UserError(f"data set '{member}' has tasks; in a list each data set is one task.")
    feature_files.same_networks(names)
    of, classes = lists.spaces(names, labels), [m.classes for m in members]
    lists.same_classes(names, classes, of)
    total: int | None = None
    held = {space: n for space, n in zip(of.of, classes, strict=True) if n is not None}
    if len(held) == len(set(of.of)):
        total = sum(held.values())
    return Facts(total, not vectors, tasks=len(names))


def _stays(name: str) -> bool:
    """True if a data set stays on the disk."""
    return name.startswith(("npy:", imported.LAZY))


def require(
    name: str | Sequence[str],
    parameters: Generated | None = None,
    size: int | None = None,
    table: Table | None = None,
    labels: lists.Labels = None,
) -> None:
    """Fails early, and without importing torch, if a data set is unavailable.

    Args:
        name, parameters, size, table, labels: as for `load`.

    Raises:
        UserError: as `facts`, or missing and not downloadable; of an import path only that it does not exist.
    """
    facts(name, parameters, size, table, labels)
    for member in [name] if isinstance(name, str) else name:
        if member in generated.NAMES:
            generated.check(member)
        published = DATASETS[member].published if member in DATASETS else None
        if published is None or sources.npz_path(member) is not None:
            continue
        if not published.local() and not published.downloadable():
            raise UserError(published_files.missing(member, published))


def is_local(name: str | Sequence[str]) -> bool:
    """True if a data set can be read without a download and without code of the user's."""
    for member in [name] if isinstance(name, str) else name:
        known = DATASETS.get(member)
        if sources.npz_path(member) is not None or member.startswith(FILE_KINDS):
            continue
        if known is None or (known.published is not None and not known.published.local()):
            return False
    return True


def outline(
    name: str | Sequence[str],
    parameters: Generated | None = None,
    size: int | None = None,
    table: Table | None = None,
    labels: lists.Labels = None,
) -> Outline:
    """A data set without its inputs: from a cache file of `load`, else by loading it.

    User-defined code (an import path) is run each time.

    Args:
        name, parameters, size, table, labels: as for `load`.

    Raises:
        UserError: as `load`.
    """
    key = _key(name, parameters, size, table, labels)
    kept = None if key is None else outline_cache.read(key)
    if kept is not None:
        return Outline(name=_title(name), **kept)
    data = load(name, parameters, size, table, labels)
    return Outline(**{field.name: getattr(data, field.name) for field in fields(Outline)})


def load(
    name: str | Sequence[str],
    parameters: Generated | None = None,
    size: int | None = None,
    table: Table | None = None,
    labels: lists.Labels = None,
) -> DataSet:
    """A data set, checked.

    Args:
        name: a built-in name, `npz:PATH`, NAME where the data root holds NAME.npz, an import path, or, for data on the
            disk, `npy:FOLDER` and `lazy:` before an import path; `folder:PATH` of images; a table, `csv:PATH`,
            `parquet:PATH`, `hf:FOLDER` or `gapminder`; or a list of those in memory but tables: images (uint8)
            without tasks, converted to one size and, where any is in colour, to three channels, of top 255. Its tasks
            are the members in their order.
        parameters: of a generated data set; default: its default ones.
        size: height and width that images (uint8) are resized to, >= 1; by default they keep theirs, and those of a
            list get the first member's. Images that change size have the top 255.
        table: columns and blocks of a table; for that kind alone.
        labels: of a list, see `lists.Labels`: members that share a label space have the same number of classes.

    Raises:
        UserError: unavailable, or a file is damaged; the message names the file and the mistake.
    """
    require(name, parameters, size, table, labels)
    before = _key(name, parameters, size, table, labels)
    if isinstance(name, str):
        data = _one(name, parameters, size, table)
        if size is not None:
            data = _resized(data, (size, size))
    else:
        data = _joined(name, parameters, size, labels)
    after = _key(name, parameters, size, table, labels)
    if after is not None and before in (None, after):  # files that change meanwhile are not what was read
        outline_cache.write(after, data)
    return data


def _one(name: str, parameters: Generated | None, size: int | None = None, table: Table | None = None) -> DataSet:
    """A single data set in its stored form; images of mixed sizes are brought to `size`."""
    path, folder = sources.npz_path(name), sources.npy_folder(name)
    published = DATASETS[name].published if name in DATASETS else None
    if name in generated.NAMES:
        arrays = generated.make(name, parameters)
    elif is_table(name):
        arrays = tables.load(name, _columned(name, table), size)
    elif (pictures := image_folders.folder_of(name)) is not None:
        arrays = image_folders.read(pictures, size)
    elif imported.is_import_path(name):
        arrays = imported.load(name)
    elif folder is not None:
        files = sorted(folder.glob("*.npy"))
        arrays = replace(sources.read_npy(folder), stamp=lambda: outline_cache.stamps(*files))
    elif path is not None:
        arrays = sources.read_npz(path)
    elif published is None:
        arrays = EMBEDDED[name]()
    elif name == "omniglot":
        arrays = published_files.read_omniglot(published)
    else:
        arrays = published_files.read_torchvision(name, published)
    data = finish(name, arrays)
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


def _levels(data: DataSet) -> DataSet:
    """Images of whole levels 0..255, uint8, where the top is another, rounded to the nearest."""
    table = level_table(data)
    if table is None:
        return data
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
    return read_through(replace(data, train_x=train_x, test_x=test_x, shape=train_x.shape[1:]))


def _joined(names: Sequence[str], parameters: Generated | None, size: int | None, labels: lists.Labels) -> DataSet:
    """Data sets as the tasks of one."""
    members: list[DataSet] = []
    digests: list[str] = []
    for name in names:
        data = _one(name, parameters, size)
        if data.train_task is not None:
            raise UserError(f"data set '{name}' has tasks; in a list each data set is one task.")
        digests.append(data.sha256)
        if len(data.shape) == 1:
            members.append(data)
            continue
        data = _levels(data)
        height, width = (size, size) if size is not None else (members or [data])[0].shape[1:]
        members.append(_resized(data, (height, width)))
    of = lists.spaces(names, labels)
    lists.same_classes(names, [m.classes for m in members], of)
    return lists.joined(_title(names), members, digests, of)


def _key(
    name: str | Sequence[str],
    parameters: Generated | None,
    size: int | None,
    table: Table | None = None,
    labels: lists.Labels = None,
) -> str | None:
    """The key of an outline; None if nothing lies on this machine yet, or for user-defined code."""
    members: list[Any] = []
    for member in [name] if isinstance(name, str) else name:
        known = DATASETS.get(member)
        files: tuple[Path, ...] = ()
        detail: Any = None
        path, folder = sources.npz_path(member), sources.npy_folder(member)
        if member in generated.NAMES:
            detail = generated.settled(member, parameters).model_dump(mode="json")
        elif member in EMBEDDED:
            try:
                detail = version("scikit-learn")
            except PackageNotFoundError:
                return None
        elif is_table(member):
            files, detail = (frames.path_of(member),), [version("pandas"), _columned(member, table).content()]
        elif (pictures := image_folders.folder_of(member)) is not None:
            files, detail = (pictures,), version("pillow")
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
