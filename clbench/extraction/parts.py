"""Parts of an unfinished file of features, in a folder beside it; each is named by its rows and its SHA-256."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.errors import UserError
from clbench.results import files

_NAME = re.compile(r"(train|test)-([0-9]{12})-([0-9]{12})-([0-9a-f]{64})\.npy")
_PLAN = "plan.json"


@dataclass(frozen=True)
class Part:
    """Features of the rows first..last-1 of a part of the data."""

    path: Path
    first: int
    last: int

    def read(self) -> NDArray[Any]:
        """The features, (last - first, F), mapped from the disk."""
        return np.load(self.path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


class Parts:
    """The folder of parts.

    Args:
        output: the file that they belong to.
    """

    def __init__(self, output: Path) -> None:
        self.folder = output.with_name(f"{output.name}.parts")

    def begin(self, plan: dict[str, Any]) -> None:
        """Notes the extraction, or checks that the parts are of the same one.

        Raises:
            UserError: they are of another one, or the folder cannot be written to.
        """
        path = self.folder / _PLAN
        files.sweep(self.folder)
        if not any(self.folder.glob("*.npy")):
            files.write_json(path, plan)
            return
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            earlier = {}
        if difference := differing(earlier, json.loads(json.dumps(plan))):
            raise UserError(
                f"{self.folder}: holds parts of an unfinished extraction that differs in {difference}; remove the "
                "folder, or write to another file."
            )

    def add(self, part: str, first: int, features: NDArray[Any]) -> None:
        """Writes the features (n, F) of the rows from `first` on of `train` or `test`."""
        content = io.BytesIO()
        np.lib.format.write_array(content, np.ascontiguousarray(features), allow_pickle=False)
        sha256 = hashlib.sha256(content.getbuffer()).hexdigest()
        name = f"{part}-{first:012d}-{first + len(features):012d}-{sha256}.npy"
        files.write_bytes(self.folder / name, content.getbuffer())

    def whole(self, part: str) -> list[Part]:
        """Undamaged parts from the first row on without a gap; others are removed, as they are computed again."""
        held: dict[int, Part] = {}
        for path in sorted(self.folder.glob(f"{part}-*.npy")):
            match = _NAME.fullmatch(path.name)
            if match and _sha256(path) == match[4]:
                held[int(match[2])] = Part(path, int(match[2]), int(match[3]))
            else:
                path.unlink()
        chain = list(_chain(held))
        for other in held.values():
            if other not in chain:
                other.path.unlink()
        return chain

    def make(self) -> None:
        """Makes the folder.

        Raises:
            UserError: it cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be made a folder: {error.strerror}.") from None

    def remove(self) -> None:
        """Removes the parts."""
        for path in self.folder.glob("*.npy"):
            path.unlink()

    def tidy(self) -> None:
        """Removes the plan if there is no part. Call it with the lock of the folder."""
        if not any(self.folder.glob("*.npy")):
            (self.folder / _PLAN).unlink(missing_ok=True)

    def close(self) -> None:
        """Removes the folder if it is empty. Call it without the lock."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def _chain(held: dict[int, Part]) -> Iterator[Part]:
    at = 0
    while at in held:
        yield held[at]
        at = held[at].last


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def differing(one: Any, other: Any, path: str = "") -> str:
    """The path of the first value in which two JSON values differ; empty where they are equal.

    >>> differing({"a": 1, "b": [1, {"c": 2}]}, {"a": 1, "b": [1, {"c": 3}]})
    'b[1].c'
    """
    if isinstance(one, dict) and isinstance(other, dict):
        steps = [(f"{path}.{key}" if path else key, one.get(key), other.get(key)) for key in sorted({*one, *other})]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        steps = [(f"{path}[{i}]", a, b) for i, (a, b) in enumerate(zip(one, other, strict=True))]
    else:
        return "" if one == other else path or "everything"
    return next((text for step, a, b in steps if (text := differing(a, b, step))), "")
