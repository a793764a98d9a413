"""Images in class folders: classes, parts, sizes, channels, and mistakes in their exact words."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clbench.cli import main
from clbench.dataset import Facts
from clbench.errors import UserError
from clbench.streams.compile import compile_stream
from clbench.streams.datasets import load
from clbench.streams.datasets.resize import resize
from clbench.streams.definition import StreamConfig
from clbench.testing import check_stream


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("CLBENCH_DATA", "data")


def picture(path: str, size: tuple[int, int] = (6, 5), value: int = 0, mode: str = "L") -> np.ndarray[Any, Any]:
    """Saves an image of one height and width; returns its pixels."""
    file = Path("pictures", path)
    file.parent.mkdir(parents=True, exist_ok=True)
    seed = np.random.default_rng(zlib.crc32(path.encode())) if value == 0 else None
    bands = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    shape = (*size, *bands)
    pixels = np.full(shape, value, np.uint8) if seed is None else seed.integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels, mode=None).save(file)
    return pixels


def one_level(classes: str = "ab", images: int = 5, **keys: Any) -> None:
    for name in classes:
        for i in range(images):
            picture(f"{name}/{i}.png", **keys)


def test_one_level() -> None:
    """Every fifth image of a class, in the order of paths, is for testing."""
    held = {name: [picture(f"{name}/{i:02d}.png") for i in range(10)] for name in ("dog", "cat")}
    data = load.load("folder:pictures")
    assert (data.class_names, data.classes, data.shape, data.top) == (("cat", "dog"), 2, (1, 6, 5), 255)
    assert data.train_y.tolist() == [0] * 8 + [1] * 8
    expected = [held[name][i] for name in ("cat", "dog") for i in (4, 9)]
    assert np.array_equal(data.test_x, np.stack(expected)[:, None])
    assert load.facts("folder:pictures") == Facts(2, True)
    assert load.is_local("folder:pictures")


def test_a_training_and_a_test_part() -> None:
    one = picture("train/b/deep/1.png")
    picture("train/a/1.png")
    picture("test/a/1.png")
    two = picture("test/b/2.png", mode="RGB")
    Path("pictures/train/.DS_Store").write_text("x")
    Path("pictures/train/a/.hidden.png").write_text("x")
    data = load.load("folder:pictures")
    assert (data.train_y.tolist(), data.test_y.tolist(), data.shape) == ([0, 1], [0, 1], (3, 6, 5))
    assert np.array_equal(data.train_x[1], np.stack([one] * 3)), "grey in every channel, as one image is in colour"  # type: ignore[index]
    assert np.array_equal(data.test_x[1], two.transpose(2, 0, 1))  # type: ignore[index]


def test_mixed_sizes_become_the_most_frequent_or_the_asked_one() -> None:
    one_level(size=(6, 5))
    large = picture("a/0.png", (12, 10))
    data = load.load("folder:pictures")
    assert data.shape == (1, 6, 5)
    assert np.array_equal(data.train_x[0], resize(large[None, None], 6, 5)[0])  # type: ignore[index]
    asked = load.load("folder:pictures", size=8)
    assert asked.shape == (1, 8, 8)
    assert np.array_equal(asked.train_x[0], resize(large[None, None], 8, 8)[0])  # type: ignore[index]
    assert asked.sha256 != data.sha256


def test_of_equally_frequent_sizes_the_largest() -> None:
    one_level("a", size=(6, 5))
    one_level("b", size=(4, 9))
    assert load.load("folder:pictures").shape == (1, 4, 9)


def test_opacity_is_left_out() -> None:
    one_level(mode="RGBA")
    pixels = picture("a/0.png", mode="RGBA")
    assert np.array_equal(load.load("folder:pictures").train_x[0], pixels[..., :3].transpose(2, 0, 1))  # type: ignore[index]


def test_an_outline_is_kept_until_a_file_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    one_level()
    whole = load.load("folder:pictures")
    with monkeypatch.context() as unread:
        unread.setattr(load.image_folders, "read", None)
        outline = load.outline("folder:pictures")
    assert (outline.sha256, outline.class_names) == (whole.sha256, ("a", "b"))
    picture("a/0.png", value=9)
    assert load.outline("folder:pictures").sha256 != whole.sha256


def test_folders_as_domains() -> None:
    """Two folders in a list: each one a task, brought to the first one's size."""
    one_level()
    Path("pictures").rename("first")
    one_level(size=(3, 3))
    config = StreamConfig.model_validate(
        {"data": ["folder:first", "folder:pictures"], "tasks": {"by": "given"}, "setting": "domain"}
    )
    compiled = compile_stream(config, 0)
    check_stream(compiled)
    assert compiled.data.shape == (1, 6, 5)
    assert [len(v.index) for v in compiled.experiences] == [8, 8]


def test_a_run() -> None:
    one_level("abcd")
    Path("mine.yaml").write_text(
        "base: split_digits-v1\nid: mine\nstream: {data: 'folder:pictures', tasks: {by: classes, count: 2}, size: 6}\n"
    )
    assert main(["validate", "mine.yaml"]) == 0
    assert main(["run", "mine.yaml", "--strategy", "naive", "-o", "training={iterations: 2}", "--quiet"]) == 0


def _empty() -> None:
    Path("pictures/c").mkdir()


def _text() -> None:
    Path("pictures/a/notes.txt").write_text("x")


def _damaged() -> None:
    Path("pictures/b/3.png").write_bytes(b"\x89PNG")


def _deep() -> None:
    Image.fromarray(np.zeros((6, 5), np.uint16)).save("pictures/b/3.png")


def _beside() -> None:
    picture("1.png")


def _half() -> None:
    picture("train/a/1.png")


def _test_alone() -> None:
    picture("train/a/1.png")
    picture("test/a/1.png")
    picture("test/z/1.png")


def _few() -> None:
    Path("pictures/b/3.png").unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_empty, "pictures/c: has no image; every class has one at least."),
        (_text, "pictures/a/notes.txt: no image by its ending. Allowed: .png, .jpg, .jpeg, .bmp, .gif, .ppm, .pgm, "
         ".pbm, .tif, .tiff, .webp."),
        (_damaged, "pictures/b/3.png: cannot be read as an image (cannot identify image file '"),
        (_deep, "pictures/b/3.png: an image of mode I;16, more than 8 bits a channel. Allowed: 8 bits."),
        (_beside, "pictures/1.png: an image outside of a class folder; images are pictures/CLASS/IMAGE."),
        (_half, "pictures: has a folder train, but none named test."),
        (_test_alone, "pictures: class 'z' is a folder in test, but not in train."),
        (_few, "pictures: class 1 ('b') has 4 samples; every fifth of a class is for testing, so it needs at least 5."),
    ],
)  # fmt: skip
def test_a_mistake(change: Any, message: str) -> None:
    one_level()
    change()
    with pytest.raises(UserError) as caught:
        load.load("folder:pictures")
    assert str(caught.value).startswith(message)


def test_a_folder_that_is_none() -> None:
    Path("pictures").mkdir()
    for name, message in (
        ("folder:nowhere", "'folder:nowhere': no such folder."),
        ("folder:pictures", "pictures: has no class folder; images are pictures/CLASS/IMAGE."),
    ):
        with pytest.raises(UserError) as caught:
            load.facts(name)
        assert caught.value.problems == (message,)
