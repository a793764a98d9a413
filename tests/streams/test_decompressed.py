"""Copies of decompressed arrays: read in place of the npz file only while they are what it holds."""

from __future__ import annotations

import os
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clbench.dataset import DataSet
from clbench.errors import UserError
from clbench.streams.datasets import decompressed, load

N = 50


@pytest.fixture(autouse=True)
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of copies, in which arrays of any size are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(decompressed, "LEAST_BYTES", 1000)
    return tmp_path / "cache" / "clbench" / "arrays"


def write(path: Path, seed: int = 0, kind: int = zipfile.ZIP_DEFLATED, order: str = "C") -> None:
    """A data set of which the inputs are large enough for copies, and the labels are not."""
    x = np.random.default_rng(seed).integers(0, 4, (N, 8, 7), np.uint8)
    y = np.arange(N) % 2
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, array in {"train_x": x, "train_y": y, "test_x": x[:40], "test_y": y[:40]}.items():
            content = BytesIO()
            np.save(content, np.asarray(array, order=order))  # type: ignore[call-overload]
            archive.writestr(f"{name}.npy", content.getvalue())


def read(path: Path) -> DataSet:
    return load.load(f"npz:{path}")


def fields(data: DataSet) -> dict[str, Any]:
    return {**vars(data), **{name: getattr(data, name).tolist() for name in ("train_x", "test_x", "train_y", "test_y")}}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_copy_is_the_array(kind: int, order: str, tmp_path: Path, copies: Path) -> None:
    write(tmp_path / "plain.npz", kind=zipfile.ZIP_STORED)
    expected = fields(read(tmp_path / "plain.npz"))
    assert not copies.exists(), "nothing to decompress"
    write(tmp_path / "mine.npz", kind=kind, order=order)
    renamed = {"name": f"npz:{tmp_path / 'mine.npz'}", "origin": str(tmp_path / "mine.npz")}
    for _ in range(2):
        assert fields(read(tmp_path / "mine.npz")) == {**expected, **renamed}
    assert sorted(p.name.partition("-")[2] for p in copies.iterdir()) == ["test_x.npy", "train_x.npy"]


def test_the_second_time_nothing_large_is_decompressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mine.npz")
    first = fields(read(tmp_path / "mine.npz"))
    monkeypatch.setattr(decompressed.Decompressed, "_copy", lambda *_: pytest.fail("copied again"))
    assert fields(read(tmp_path / "mine.npz")) == first


def test_another_file_of_the_same_path_size_and_time_is_read(tmp_path: Path) -> None:
    path, other = tmp_path / "mine.npz", tmp_path / "other.npz"
    write(path, 0)
    write(other, 1)
    size = max(path.stat().st_size, other.stat().st_size)
    for file in (path, other):  # a comment at the end of an archive changes nothing else
        with zipfile.ZipFile(file, "a") as archive:
            archive.comment = b" " * (size - file.stat().st_size + 1)
    before, expected = read(path), read(other)
    status = path.stat()
    path.write_bytes(other.read_bytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert read(path).sha256 == expected.sha256 != before.sha256


@pytest.mark.parametrize("damage", ["flipped", "cut", "longer", "empty"])
def test_a_damaged_copy_is_made_again(damage: str, tmp_path: Path, copies: Path) -> None:
    write(tmp_path / "mine.npz")
    expected = fields(read(tmp_path / "mine.npz"))
    whole = {path: path.read_bytes() for path in copies.iterdir()}
    for path, content in whole.items():
        flipped = content[:-1] + bytes([content[-1] ^ 1])
        path.write_bytes({"flipped": flipped, "cut": content[:-1], "longer": content + b" ", "empty": b""}[damage])
    assert fields(read(tmp_path / "mine.npz")) == expected
    assert {path: path.read_bytes() for path in copies.iterdir()} == whole


def test_without_a_folder_arrays_are_read_as_they_are(tmp_path: Path, copies: Path) -> None:
    write(tmp_path / "mine.npz")
    expected = fields(read(tmp_path / "mine.npz"))
    for path in copies.iterdir():
        path.unlink()
    copies.rmdir()
    copies.write_text("a file in its place")
    assert fields(read(tmp_path / "mine.npz")) == expected


def test_the_copies_that_were_not_used_for_longest_go(
    tmp_path: Path, copies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []
    for seed in range(3):
        write(tmp_path / f"{seed}.npz", seed)
        read(tmp_path / f"{seed}.npz")
        held.append(set(copies.iterdir()) - set().union(*held))
        for path in held[-1]:
            os.utime(path, ns=(seed, seed))
    read(tmp_path / "0.npz")  # used just now
    size = sum(path.stat().st_size for path in held[0])
    monkeypatch.setattr(decompressed, "MOST_BYTES", 2 * size)
    write(tmp_path / "3.npz", 3)
    read(tmp_path / "3.npz")
    kept = set(copies.iterdir())
    assert held[0] < kept
    assert not kept & (held[1] | held[2])


@pytest.mark.parametrize("place", ["contents", "checksum"])
@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_damaged_archive_is_named_and_not_kept(place: str, kind: int, tmp_path: Path, copies: Path) -> None:
    path = tmp_path / "mine.npz"
    write(path, kind=kind)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("train_x.npy")
    content = bytearray(path.read_bytes())
    if place == "contents":
        start = info.header_offset + 400
        content[start : start + 20] = bytes(b ^ 0xFF for b in content[start : start + 20])
    else:  # met at the end of the array
        content = content.replace(info.CRC.to_bytes(4, "little"), (info.CRC ^ 1).to_bytes(4, "little"))
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"mine.npz: array 'train_x' is damaged"):
        read(path)
    assert [*copies.parent.rglob("*train_x*"), *copies.parent.rglob(".*")] == []
