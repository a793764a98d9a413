"""Images in class folders: `folder:PATH`.

    PATH/train/CLASS/IMAGE, PATH/test/CLASS/IMAGE      with a test part
    PATH/CLASS/IMAGE                                   without: every fifth image of a class is for testing

Classes are numbered in ascending order of their folders' names, images come in ascending order of their paths, and may
lie in folders below that of their class. Hidden files are left out, and so are links to nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clbench.errors import UserError, shown
from clbench.streams.datasets import images
from clbench.streams.datasets.sources import Arrays, split

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".tif", ".tiff", ".webp")
_PARTS = ("train", "test")


def folder_of(name: str) -> Path | None:
    """The folder behind a name, or None where it is not one."""
    if not name.startswith("folder:"):
        return None
    folder = Path(name.removeprefix("folder:")).expanduser()
    if not folder.is_dir():
        raise UserError(f"'{name}': no such folder.")
    return folder


def classes_of(folder: Path) -> tuple[str, ...]:
    """The names of the classes.

    Raises:
        UserError: there is none, the parts differ, or images lie beside class folders.
    """
    parts = _parts(folder)
    names = [_below(part) for part in parts]
    if len(names) == 2 and names[0] != names[1]:
        for held, other, here, there in ((*names, *_PARTS), (*names[::-1], *_PARTS[::-1])):
            if alone := sorted(set(held) - set(other)):
                raise UserError(f"{folder}: class {shown(alone[0])} is a folder in {here}, but not in {there}.")
    return tuple(names[0])


def read(folder: Path, size: int | None) -> Arrays:
    """All images of a folder.

    Args:
        folder: of class folders, or of `train` and `test`.
        size: height and width; None: the most frequent ones.

    Raises:
        UserError: as `classes_of`, an empty class, another file among the images, or one that cannot be read.
    """
    names = classes_of(folder)
    files: list[Path] = []
    labels: list[int] = []
    sizes = []
    for part in _parts(folder):
        before = len(files)
        for c, name in enumerate(names):
            held = _images(part / name)
            files += held
            labels += [c] * len(held)
        sizes.append(len(files) - before)
    x = images.together((images.decoded(str(path), path) for path in files), size)
    y = np.array(labels, np.int64)
    if len(sizes) == 1:
        return split(x, y, None, str(folder), class_names=names)
    train = sizes[0]
    return Arrays(
        train_x=x[:train], train_y=y[:train], test_x=x[train:], test_y=y[train:], origin=str(folder), class_names=names,
    )  # fmt: skip


def _parts(folder: Path) -> list[Path]:
    held = [name for name in _PARTS if (folder / name).is_dir()]
    if len(held) == 1:
        other = _PARTS[1 - _PARTS.index(held[0])]
        raise UserError(f"{folder}: has a folder {held[0]}, but none named {other}.")
    return [folder / name for name in held] or [folder]


def _below(folder: Path) -> list[str]:
    held = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    stray = next((path for path in held if path.suffix.lower() in ENDINGS and path.is_file()), None)
    if stray is not None:
        raise UserError(f"{stray}: an image outside of a class folder; images are {folder}/CLASS/IMAGE.")
    names = [path.name for path in held if path.is_dir()]
    if not names:
        raise UserError(f"{folder}: has no class folder; images are {folder}/CLASS/IMAGE.")
    return names


def _images(folder: Path) -> list[Path]:
    held = sorted(path for path in folder.rglob("*") if path.is_file())
    held = [path for path in held if not any(name.startswith(".") for name in path.relative_to(folder).parts)]
    if not held:
        raise UserError(f"{folder}: has no image; every class has one at least.")
    stray = next((path for path in held if path.suffix.lower() not in ENDINGS), None)
    if stray is not None:
        raise UserError(f"{stray}: no image by its ending. Allowed: {', '.join(ENDINGS)}.")
    return held
