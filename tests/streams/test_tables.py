"""Tables: columns to inputs, targets, tasks and parts, and what is never known of test rows and of the future."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clbench import dataset, resolve
from clbench.cli import main
from clbench.errors import UserError
from clbench.runner import user_code
from clbench.streams.compile import compile_stream
from clbench.streams.datasets import frames, load, tables
from clbench.streams.datasets.columns import Columns, Table
from clbench.streams.definition import StreamConfig
from clbench.testing import check_stream


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("CLBENCH_DATA", "data")


def write(text: str, name: str = "t.csv") -> str:
    Path(name).write_text(text)
    return f"csv:{name}"


def rows(header: str, *lines: str) -> str:
    return "\n".join([header, *lines, ""])


def read(name: str, blocks: Any = None, **columns: Any) -> dataset.DataSet:
    table = Table(Columns.model_validate({"target": "y", **columns}), blocks)
    data: dataset.DataSet = load.load(name, table=table)
    return data


def stream(**section: Any) -> StreamConfig:
    return StreamConfig.model_validate({"setting": "domain", **section})


SPLIT = rows("a,kind,on,y,part", "1,x,True,no,train", ",y,False,yes,train", "3,,True,no,train", "8,x,,yes,train",
             "5,z,True,yes,test", "NA,y,False,no,test")  # fmt: skip


# ------------------------------------------------------------------------------------------------ encodings
def test_columns_as_numbers() -> None:
    """Median of 1, 3, 8; categories x, y and missing, of the training rows; z is none of them; true is 1."""
    data = read(write(SPLIT), split="part")
    assert data.train_x.dtype == np.float32
    assert np.asarray(data.train_x).tolist() == [
        [1, 0, 1, 0, 0, 1, 0],
        [3, 1, 0, 1, 0, 0, 0],
        [3, 0, 0, 0, 1, 1, 0],
        [8, 0, 1, 0, 0, 1, 1],
    ]
    assert np.asarray(data.test_x).tolist() == [[5, 0, 0, 0, 0, 1, 0], [3, 1, 0, 1, 0, 0, 0]]
    assert (data.class_names, data.train_y.tolist(), data.test_y.tolist()) == (("no", "yes"), [0, 1, 0, 1], [1, 0])


def test_whole_numbers_are_classes_in_the_order_of_their_size() -> None:
    data = read(write(rows("a,y", *(f"{i},{[10, 9][i % 2]}" for i in range(20)))))
    assert data.class_names == ("9", "10")
    assert (len(data.train_y), len(data.test_y)) == (16, 4)
    assert np.asarray(data.test_x).ravel().tolist() == [8, 9, 18, 19], "every fifth of a class, in the file's order"
    assert read(write(rows("a,y", *(f"{i},{i % 2}" for i in range(20))))).class_names == (), "they name themselves"


def test_times_are_seven_numbers() -> None:
    """Days since the earliest training row, and sine and cosine of day, week and year, to 1/1024."""
    days = ["2024-01-01", "2024-01-02 06:00", "2024-01-08T12:00:00Z", "2024-01-01 02:00+02:00"]
    data = read(write(rows("when,y,part", *(f"{d},{i % 2},train" for i, d in enumerate(days)), "2024-01-03,0,test",
                           "2023-12-31,1,test")), split="part")  # fmt: skip
    x = np.asarray(data.train_x)
    assert x.shape == (4, 7)
    assert x[:, 0].tolist() == [0, 1.25, 7.5, 0]
    assert x[1, 1:3].tolist() == [1, 0], "six o'clock is a quarter of a day"
    assert x[0].tolist() == x[3].tolist(), "one instant in two zones"
    assert np.asarray(data.test_x)[:, 0].tolist() == [2, -1]
    week = x[0, 3:5]
    assert (week**2).sum() == pytest.approx(1, abs=2e-3)
    assert (np.asarray(data.train_x) * 1024 % 1 == 0).all()


def test_columns_have_roles() -> None:
    name = write(rows("id,zip,a,b,y", *(f"{i},{i % 3:05d},{i},{-i},{'uv'[i % 2]}" for i in range(20))))
    assert read(name, ignore=["id"], categorical=["zip"]).shape == (5,)
    assert read(name, features=["b", "a"]).train_x[1].tolist() == [-1, 1]  # type: ignore[index]
    assert read(name, features=["zip"]).train_x[2].tolist() == [2]  # type: ignore[index]
    assert read(name, features=["zip"], categorical=["zip"]).train_x[2].tolist() == [0, 0, 1]  # type: ignore[index]


def test_files_may_be_compressed_and_have_another_separator() -> None:
    text = rows("a;y", *(f"{i};{i % 2}" for i in range(20)))
    with gzip.open("t.csv.gz", "wt", encoding="utf-8-sig") as file:
        file.write(text)
    one, other = read("csv:t.csv.gz", separator=";"), read(write(text.replace(";", "\t")), separator="\t")
    assert one.sha256 == other.sha256 == read(write(text.replace(";", ","))).sha256


def test_no_statistic_comes_from_test_rows() -> None:
    """Whatever the test rows hold, the training rows and their moments stay."""
    lines = SPLIT.splitlines()
    before = read(write(SPLIT), split="part")
    after = read(write(rows(*lines[:5], "-99,q,,yes,test", ",y,True,no,test")), split="part")
    assert np.array_equal(before.train_x, after.train_x)
    assert (before.mean, before.std) == (after.mean, after.std)
    assert before.sha256 != after.sha256


# ------------------------------------------------------------------------------------------------ targets and tasks
def test_numbers_as_targets() -> None:
    text = rows("a,y,z", *(f"{i},{i / 4},{-i}" for i in range(10)))
    data = read(write(text), target=["y", "z"], target_kind="number")
    assert (data.target_names, data.classes) == (("y", "z"), 1)
    assert data.train_target is not None
    assert data.test_target is not None
    assert data.train_target.dtype == np.float32
    assert data.train_target[:2].tolist() == [[0, 0], [0.25, -1]]
    assert data.test_target.tolist() == [[1, -4], [2.25, -9]]
    assert not data.train_y.any()
    assert data.shape == (1,)
    table = Table(Columns(target=["y", "z"], target_kind="number"))
    assert load.facts("csv:t.csv", table=table) == dataset.Facts(1, False, numbers=True)


def test_targets_are_standardised_by_the_training_rows() -> None:
    """In blocks of time by the first block's: a change of the target's level stays one."""
    name = write(table_in_time(y=[*([1, 3] * 10), *([101, 103] * 10)]))
    columns: dict[str, Any] = {"target_kind": "number", "target_scale": "standard"}
    in_time, whole = read(name, 2, time="t", **columns), read(name, ignore=["t"], **columns)
    assert in_time.train_target is not None
    assert in_time.test_target is not None
    assert whole.train_target is not None
    assert sorted({*in_time.train_target.ravel().tolist(), *in_time.test_target.ravel().tolist()}) == [-1, 1, 99, 101]
    assert whole.train_target.mean() == pytest.approx(0, abs=1e-6)
    assert whole.train_target.std() == pytest.approx(1)


def test_tasks_of_a_column() -> None:
    name = write(rows("a,y,place", *(f"{i},{i % 2},{['north', 'east'][i // 20]}" for i in range(40))))
    data = read(name, task="place")
    assert data.train_task is not None
    assert data.train_task.tolist() == [1] * 16 + [0] * 16, "east is task 0"
    config = stream(data=name, columns={"target": "y", "task": "place"}, tasks={"by": "given"})
    compiled = compile_stream(config, 0)
    check_stream(compiled)
    assert [len(v.index) for v in compiled.experiences] == [16, 16]


def table_in_time(n: int = 40, **columns: Any) -> str:
    values = {"t": range(n), "a": [(7 * i) % 11 for i in range(n)], "y": [i % 2 for i in range(n)], **columns}
    return rows(",".join(values), *(",".join(map(str, row)) for row in zip(*values.values(), strict=True)))


TIME = {"columns": {"target": "y", "time": "t"}, "tasks": {"by": "time", "count": 4}}


def test_blocks_of_time() -> None:
    """Four blocks of ten rows, the last two of each for testing."""
    compiled = compile_stream(stream(data=write(table_in_time()), **TIME), 0)
    check_stream(compiled)
    data = compiled.data
    assert data.train_task is not None
    assert data.test_task is not None
    assert np.bincount(data.train_task).tolist() == [8] * 4
    assert np.asarray(data.test_x).ravel().tolist() == [(7 * i) % 11 for i in (8, 9, 18, 19, 28, 29, 38, 39)]
    assert [v.tasks for v in compiled.experiences] == [(0,), (1,), (2,), (3,)]
    assert data.shape == (1,), "the column of time is no feature unless it is listed"
    listed = read("csv:t.csv", 4, time="t", features=["t"])
    assert np.asarray(listed.test_x).ravel().tolist() == [8, 9, 18, 19, 28, 29, 38, 39]


def test_every_test_row_is_later_than_its_block_trains_on() -> None:
    """Also where rows share a time: they stay together, in blocks and in parts."""
    time = np.sort(np.random.default_rng(0).integers(0, 30, 200))
    write(table_in_time(200, t=time))
    for blocks in (1, 3, 4, (9.0, 10.5, 25.0)):
        data = read("csv:t.csv", blocks, time="t", features=["t"])
        train, test = np.asarray(data.train_x).ravel(), np.asarray(data.test_x).ravel()
        assert data.train_task is not None
        assert data.test_task is not None
        assert len(train) + len(test) == 200
        for k in range(int(data.train_task.max()) + 1):
            mine, tested = train[data.train_task == k], test[data.test_task == k]
            assert mine.max() < tested.min(), (blocks, k)
            assert len(tested) >= (len(mine) + len(tested)) // 5
            assert not k or mine.min() > test[data.test_task == k - 1].max()


def test_nothing_is_known_of_the_future() -> None:
    """Whatever later blocks hold, encoding, mean and deviation are those of the first one's training rows."""
    kinds = ["u", "v"] * 20
    gaps = [7 if i % 3 else "" for i in range(40)]
    before = read(write(table_in_time(kind=kinds, gap=gaps)), 4, time="t")
    later = [value if i < 8 else f"w{i}" for i, value in enumerate(kinds)]
    numbers = [value if i < 8 else 1000 + i for i, value in enumerate(gaps)]
    after = read(write(table_in_time(kind=later, gap=numbers, a=[i if i >= 8 else (7 * i) % 11 for i in range(40)])),
                 4, time="t")  # fmt: skip
    assert before.shape == after.shape == (5,)
    assert np.array_equal(before.train_x[:8], after.train_x[:8])  # type: ignore[index]
    assert (before.mean, before.std) == (after.mean, after.std)
    first = np.asarray(before.train_x)[:8].astype(np.float64)
    assert before.mean == pytest.approx(first.mean(0).tolist())
    assert not np.asarray(after.train_x)[8:, 1:3].any(), "categories that the first block lacks"


def test_change_points() -> None:
    days = [f"2024-{1 + i // 20:02d}-{1 + i % 20:02d}" for i in range(40)]
    name = write(table_in_time(t=days))
    columns = {"target": "y", "time": "t"}
    for changes in (["2024-02-01"], ["2024-01-31 12:00"]):
        compiled = compile_stream(stream(data=name, columns=columns, tasks={"by": "time", "changes": changes}), 0)
        assert [len(v.index) for v in compiled.experiences] == [16, 16]


def test_numbers_in_blocks_of_time() -> None:
    columns = {"target": "y", "target_kind": "number", "time": "t"}
    name = write(table_in_time(y=[i / 8 for i in range(40)]))
    compiled = compile_stream(stream(data=name, columns=columns, tasks={"by": "time", "count": 2}), 0)
    assert (compiled.outputs, [len(v.index) for v in compiled.experiences]) == (1, [16, 16])
    assert compiled.data.test_target is not None
    assert compiled.data.test_target.ravel().tolist() == [i / 8 for i in (16, 17, 18, 19, 36, 37, 38, 39)]


def test_online_streams_keep_the_order_of_time() -> None:
    config = stream(data=write(table_in_time()), **TIME, online=3)
    one, other = (compile_stream(config, seed) for seed in (0, 1))
    assert np.concatenate([v.index for v in one.experiences]).tolist() == list(range(32))
    assert [len(v.index) for v in one.experiences] == [3, 3, 2] * 4
    assert one.instance_hash == other.instance_hash, "nothing is drawn"


def test_tuning_holds_out_the_last_rows() -> None:
    """A fifth of the eight training rows of each of the first two blocks: of each class the last one."""
    config = stream(data=write(table_in_time()), **TIME, selection={"experiences": 2})
    compiled = compile_stream(config, 0)
    assert compiled.held_out is not None
    assert compiled.held_out.tolist() == [6, 7, 14, 15]
    assert np.concatenate([v.index for v in compiled.experiences]).tolist() == [*range(6), *range(8, 14)]


# ------------------------------------------------------------------------------------------------ hashes, caches, runs
def test_settings_and_files_are_part_of_the_hashes() -> None:
    name = write(table_in_time())
    four = compile_stream(stream(data=name, **TIME), 0)
    two = compile_stream(stream(data=name, **{**TIME, "tasks": {"by": "time", "count": 2}}), 0)
    assert four.definition_hash != two.definition_hash
    assert four.data.sha256 != two.data.sha256
    write(table_in_time(a=range(40)))
    changed = compile_stream(stream(data=name, **TIME), 0)
    assert changed.definition_hash == four.definition_hash
    assert changed.instance_hash != four.instance_hash


def test_moments_of_other_rows_are_other_data() -> None:
    """The same rows in the same tasks, standardised otherwise: results must not share a digest."""
    lines = [*table_in_time().splitlines()]
    test = {8, 9, 18, 19, 28, 29, 38, 39}
    more = [f"{line},{i // 10},{'test' if i in test else 'train'}" for i, line in enumerate(lines[1:])]
    in_time = read(write("\n".join(lines)), 4, time="t")
    given = read(write(rows(lines[0] + ",block,part", *more)), task="block", split="part", ignore=["t"])
    assert np.array_equal(in_time.train_x, given.train_x)
    assert np.array_equal(in_time.train_task, given.train_task)  # type: ignore[arg-type]
    assert in_time.sha256 != given.sha256
    assert in_time.mean != given.mean


def test_an_outline_is_kept_with_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    name, table = write(SPLIT), Table(Columns(target="y", split="part"))
    whole = load.load(name, table=table)
    monkeypatch.setattr(tables, "load", None)
    outline = load.outline(name, table=table)
    assert (outline.class_names, outline.sha256) == (whole.class_names, whole.sha256) == (("no", "yes"), whole.sha256)


def test_a_column_is_no_import_path() -> None:
    """Nor is a file: neither is searched for the user's code."""
    write(rows("json:loads,csv:reader", *(f"{i},{i % 2}" for i in range(20))), "mine")
    text = (
        "id: mine\nstream:\n  data: csv:mine\n  columns: {target: 'csv:reader', features: ['json:loads']}\n"
        "  tasks: {by: classes, count: 2}\n  setting: class\nmodel: {name: mlp, hidden: [4]}\n"
        "training: {iterations: 2, batch_size: 4, optimizer: {name: sgd, lr: 0.1}}\nstrategy: {name: naive}\n"
    )
    Path("mine.yaml").write_text(text)
    assert not user_code.paths_in(resolve.make_run("mine.yaml"))
    assert main(["run", "mine.yaml", "--quiet"]) == 0


def test_the_shipped_table_runs() -> None:
    """1,704 rows of 12 years; each block trains on two years and is tested on its third."""
    assert main(["run", "drifting_table-v1", "--strategy", "er", "-o", "training={iterations: 3}", "--quiet"]) == 0
    config = resolve.resolve("drifting_table-v1", need_strategy=False)[0].stream
    compiled = compile_stream(config, 0)
    check_stream(compiled)
    assert [len(v.index) for v in compiled.experiences] == [284] * 4
    assert len(compiled.data.test_y) == 4 * 142
    assert compiled.data.class_names == ("Africa", "Americas", "Asia", "Europe", "Oceania")
    assert dataset.identity(compiled.data, "standard").startswith("f514b1c0"), "equal on every machine"


def test_another_table_is_not_the_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later version of plotly may hold other numbers: results must not differ in silence."""
    with gzip.open(tmp_path / "g.csv.gz", "wt") as file:
        file.write("country,continent,year,lifeExp,pop,gdpPercap\nChad,Africa,1952,1,2,3\n")
    monkeypatch.setattr(frames, "_gapminder", lambda: tmp_path / "g.csv.gz")
    with pytest.raises(UserError, match=r"not the table that 'gapminder' stands for \(SHA-256 [0-9a-f]{16}"):
        read("gapminder", target="continent")
