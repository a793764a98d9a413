"""Parquet files, and folders that Hugging Face's `datasets` saved; where pyarrow is installed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clbench import dataset
from clbench.errors import UserError
from clbench.streams.datasets import load
from clbench.streams.datasets.columns import Columns, Table

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

DAYS = pd.to_datetime([f"2024-01-{i + 1:02d}" for i in range(20)])
COLUMNS = {
    "a": [i / 4 for i in range(20)], "b": ["u", None] * 10, "c": [True, False] * 10, "when": DAYS,
    "y": ["no", "yes"] * 10,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("CLBENCH_DATA", "data")


def read(name: str, blocks: Any = None, size: int | None = None, **columns: Any) -> dataset.DataSet:
    table = Table(Columns.model_validate({"target": "y", **columns}), blocks)
    data: dataset.DataSet = load.load(name, size=size, table=table)
    return data


def parquet(**columns: Any) -> str:
    pq.write_table(pa.table({**COLUMNS, **columns}), "t.parquet")
    return "parquet:t.parquet"


def save(folder: str, table: Any, **features: Any) -> None:
    """As `Dataset.save_to_disk` writes a folder, in two files."""
    path = Path(folder)
    path.mkdir(parents=True)
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    middle = len(table) // 2
    for name, part in zip(names, (table.slice(0, middle), table.slice(middle)), strict=True):
        with pa.OSFile(str(path / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(part)
    Path(path, "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    known = {name: {"_type": "Value", "dtype": "string"} for name in table.column_names}
    Path(path, "dataset_info.json").write_text(json.dumps({"features": {**known, **features}}))


LABELS = {"_type": "ClassLabel", "names": ["zebra", "ant"]}


def test_parquet_holds_what_a_csv_file_does() -> None:
    frame = pd.DataFrame(COLUMNS)
    frame.to_csv("t.csv", index=False)
    for columns in ({}, {"categorical": ["c"]}, {"features": ["a"]}, {"ignore": ["when"]}):
        one, other = read(parquet(), **columns), read("csv:t.csv", **columns)
        assert (one.sha256, one.class_names) == (other.sha256, other.class_names), columns
    assert read(parquet(), 2, time="when").sha256 == read("csv:t.csv", 2, time="when").sha256


def test_types_of_parquet() -> None:
    """Dictionaries are their values, dates are times, decimals numbers."""
    plain = read(parquet(), features=["b", "when", "a"])
    typed = parquet(
        b=pa.array(COLUMNS["b"]).dictionary_encode(), when=pa.array(DAYS.date),
        a=pa.array([f"{a:.2f}" for a in COLUMNS["a"]]).cast(pa.decimal128(6, 2)),
    )  # fmt: skip
    assert read(typed, features=["b", "when", "a"]).sha256 == plain.sha256


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        ({"a": [[1.0]] * 20}, {}, "t.parquet: column 'a' holds list<element: double>. Allowed: numbers, text, times."),
        ({}, {"target": "Y"}, "t.parquet: no column 'Y' (stream.columns.target). Did you mean 'y'? Its columns: a, b, "
         "c, when, y."),
        ({}, {"target": "a"}, "t.parquet: column 'a' holds '0.0' in row 1. Allowed: text or whole numbers, which are "
         "classes; numbers are predicted with stream.columns.target_kind: number."),
        ({"y": [None] + ["no"] * 19}, {}, "t.parquet: column 'y' has no value in row 1 (1 in all); a target has one in "
         "every row."),
    ],
)  # fmt: skip
def test_a_mistake_in_parquet(columns: dict[str, Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        read(parquet(**columns), **settings)
    assert caught.value.problems == (message,)


def test_damaged_parquet() -> None:
    Path("t.parquet").write_bytes(b"PAR1 is not enough")
    with pytest.raises(UserError, match=r"^t\.parquet: not readable as Parquet \("):
        read("parquet:t.parquet")


def test_a_saved_data_set() -> None:
    """Class labels keep the numbers and names that the folder says."""
    save("saved", pa.table({**COLUMNS, "y": [0, 1] * 10}), y=LABELS)
    data = read("hf:saved", features=["a"])
    assert data.class_names == ("zebra", "ant")
    assert data.train_y.tolist() == [0, 1] * 8
    assert np.asarray(data.test_x).ravel().tolist() == [2, 2.25, 4.5, 4.75]


def test_a_saved_training_and_test_part() -> None:
    table = pa.table(COLUMNS)
    for part, rows in (("train", table.slice(0, 12)), ("test", table.slice(12)), ("validation", table.slice(0, 2))):
        save(f"saved/{part}", rows)
    Path("saved/dataset_dict.json").write_text(json.dumps({"splits": ["test", "train", "validation"]}))
    data = read("hf:saved", features=["a"])
    assert np.asarray(data.test_x).ravel().tolist() == [i / 4 for i in range(12, 20)]
    assert (len(data.train_y), data.class_names) == (12, ("no", "yes"))


def encoded(value: int, size: tuple[int, int] = (4, 4)) -> dict[str, Any]:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.full(size, value, np.uint8)).save(stream, "png")
    return {"bytes": stream.getvalue(), "path": None}


def test_saved_images() -> None:
    pictures = [encoded(i, (8, 8) if i == 3 else (4, 4)) for i in range(20)]
    save("saved", pa.table({"image": pictures, "y": [0, 1] * 10}), y=LABELS, image={"_type": "Image"})
    data = read("hf:saved")
    assert (data.shape, data.top) == ((1, 4, 4), 255)
    assert np.asarray(data.test_x)[:, 0, 0, 0].tolist() == [8, 9, 18, 19]
    assert read("hf:saved", size=6).shape == (1, 6, 6)
    facts = load.facts("hf:saved", table=Table(Columns(target="y")))
    assert facts == dataset.Facts(2, True)


@pytest.mark.parametrize(
    ("images", "more", "message"),
    [
        ([None] * 20, {}, "saved: column 'image', row 1: no image."),
        ([{"bytes": b"x", "path": None}] * 20, {}, "saved: column 'image', row 1: cannot be read as an image (cannot "
         "identify image file <"),
        ([encoded(1)] * 20, {"a": range(20)}, "saved: column 'image' holds images, and there are other features. "
         "Allowed: images alone, stream.columns.features: ['image']."),
    ],
)  # fmt: skip
def test_a_mistake_in_saved_images(images: Any, more: dict[str, Any], message: str) -> None:
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table({"image": pa.array(images, kind), "y": [0, 1] * 10, **more})
    save("saved", table, y=LABELS, image={"_type": "Image"})
    with pytest.raises(UserError) as caught:
        read("hf:saved")
    assert str(caught.value).startswith(message)


def test_folders_that_are_no_saved_data_set() -> None:
    Path("saved").mkdir()
    with pytest.raises(UserError) as caught:
        read("hf:saved")
    assert caught.value.problems == ("saved: no state.json; save_to_disk of Hugging Face's datasets writes one.",)
    Path("saved/dataset_dict.json").write_text(json.dumps({"splits": ["a", "b"]}))
    with pytest.raises(UserError) as caught:
        read("hf:saved")
    assert caught.value.problems == ("saved: has the parts a, b. Allowed: train, and test where there is one.",)
    save("labels", pa.table({**COLUMNS, "y": [0, -1] * 10}), y=LABELS)
    with pytest.raises(UserError) as caught:
        read("hf:labels")
    assert caught.value.problems == ("labels: column 'y' has no label in row 2; a target has one.",)
    with pytest.raises(UserError) as caught:
        read("hf:nowhere")
    assert caught.value.problems == ("'hf:nowhere': no such folder.",)
