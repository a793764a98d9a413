"""Answers to mistakes in tables and their columns: the exact words, told before training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clbench.cli import main
from clbench.errors import UserError
from clbench.streams.datasets import load
from clbench.streams.datasets.columns import Columns, Table

N = 40


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("CLBENCH_DATA", "data")


def table(replaced: dict[int, str] | None = None, n: int = N, **columns: Any) -> str:
    """A table of a time, a number, a text and a class; lines by number, from 0 for the header, may be replaced."""
    values = {"t": range(n), "a": range(n), "b": ["u", "v"] * (n // 2), "y": [i % 2 for i in range(n)], **columns}
    lines = [",".join(values), *(",".join(map(str, row)) for row in zip(*values.values(), strict=True))]
    for at, line in (replaced or {}).items():
        lines[at] = line
    return "\n".join([*lines, ""])


def changed(column: str, row: int, value: object, **more: Any) -> str:
    """The table with one value changed; rows from 1."""
    plain: dict[str, list[object]] = {
        "t": [*range(N)], "a": [*range(N)], "b": ["u", "v"] * (N // 2), "y": [i % 2 for i in range(N)], **more,
    }  # fmt: skip
    plain[column][row - 1] = value
    return table(**plain)


def case(message: str, text: str, blocks: Any = None, **columns: Any) -> Any:
    return pytest.param(text, blocks, {"target": "y", **columns}, message, id=message[:60])


FILES = [
    case("t.csv: empty; the first line of a table names its columns.", ""),
    case("t.csv: has no row below its header.", "a,y\n"),
    case("t.csv: row 3 (line 4) has 3 values, and the header names 4 columns.", table({3: "1,2,3"})),
    case("t.csv: row 3 (line 4) has 5 values, and the header names 4 columns.", table({3: "1,2,3,4,5"})),
    case("t.csv: two columns have the name 'a'; roles need names that differ.", table({0: "t,a,a,y"})),
    case("t.csv: one column, 't;a;b;y'; its values look separated by ';': stream.columns.separator: \";\".",
         table().replace(",", ";")),
    case("t.csv: no column 'yy' (stream.columns.target). Did you mean 'y'? Its columns: t, a, b, y.", table(),
         target="yy"),
    case("t.csv: no column 'colour' (stream.columns.features). Its columns: t, a, b, y.", table(),
         features=["a", "colour"]),
    case("t.csv: column 1 has no name; name it in the header, or list the features. (An index that pandas wrote is "
         "left out by to_csv(index=False).)", table({0: ",a,b,y"})),
    case("t.csv: no column is left for a feature; its columns: t, a, b, y.", table(), ignore=["t", "a", "b"]),
]  # fmt: skip

FEATURES = [
    case("t.csv: column 'a' holds numbers in 39 rows, but '12,5' in row 7. A text for missing values belongs to "
         "stream.columns.missing, a column of categories to stream.columns.categorical.", changed("a", 7, '"12,5"')),
    case("t.csv: column 'a' holds times in 39 rows, but 'soon' in row 2. A text for missing values belongs to "
         "stream.columns.missing, a column of categories to stream.columns.categorical.",
         changed("a", 2, "soon", a=["2024-01-01"] * N)),
    case("t.csv: column 'a' holds '2024-13-01' in row 2, no time.",
         changed("a", 2, "2024-13-01", a=["2024-01-01"] * N)),
    case("t.csv: column 'a' holds inf in row 4. Allowed: finite float32.", changed("a", 4, "inf")),
    case("t.csv: column 'a' holds 1e+39 in row 4. Allowed: finite float32.", changed("a", 4, "1e39")),
    case("t.csv: column 'a' has no value in the training rows whose statistics are used; leave it out "
         "(stream.columns.ignore).", table(a=["NA"] * N)),
    case("t.csv: column 'b' has 2,000 different texts in 2,000 rows. Allowed: 1,000 categories; leave it out "
         "(stream.columns.ignore).", table(n=2500, b=[f"n{i}" for i in range(2500)])),
]  # fmt: skip

TARGETS = [
    case("t.csv: column 'y' has no value in row 5 (1 in all); a target has one in every row.", changed("y", 5, "")),
    case("t.csv: column 'y' holds '0.5' in row 2. Allowed: text or whole numbers, which are classes; numbers are "
         "predicted with stream.columns.target_kind: number.", table(y=[i / 2 for i in range(N)], t=range(N))
         .replace("0.0\n", "0\n")),
    case("t.csv: column 'y' holds 'much' in row 3. Allowed with target_kind number: numbers.", changed("y", 3, "much"),
         target_kind="number"),
    case("t.csv: column 'y' holds inf in row 3. Allowed: finite float32.", changed("y", 3, "inf"),
         target_kind="number"),
    case("t.csv: column 'y' is 7 in every training row, so that one constant answer is right.", table(y=[7] * N),
         target_kind="number"),
    case("t.csv: column 'y' is 7 in every training row of task 1, so that one constant answer is right.",
         table(y=[*range(20), *[7] * 20]), 2, target_kind="number", time="t"),
    case("t.csv: class 1 ('rare') has 1 sample; every fifth of a class is for testing, so it needs at least 5.",
         changed("y", 3, "rare", y=["often"] * N)),
]  # fmt: skip

PARTS = [
    case("t.csv: column 'b' holds 'tset' in row 2. Did you mean 'test'? Allowed: train, test.",
         changed("b", 2, "tset", b=["train"] * N), split="b"),
    case("t.csv: column 'b' holds nothing in row 2. Allowed: train, test.", changed("b", 2, "", b=["train"] * N),
         split="b"),
    case("t.csv: column 'b' holds train in every row.", table(b=["train"] * N), split="b"),
    case("t.csv: column 'y': class 'c' has test rows, the first of which is row 4, but no training row.",
         changed("y", 4, "c", y=["a", "b"] * 20, b=["train", "train", "test", "test"] * 10), split="b"),
    case("t.csv: column 'y': class 'c' has training rows, the first of which is row 1, but no test row.",
         changed("y", 1, "c", y=["a", "b"] * 20, b=["train", "train", "test", "test"] * 10), split="b"),
    case("t.csv: column 'b' has no value in row 2 (1 in all); a task has one in every row.", changed("b", 2, ""),
         task="b"),
]  # fmt: skip

IN_TIME = [
    case("t.csv: column 't' is not sorted: 4 in row 6 comes after 7; tasks by time need rows in the order of time.",
         changed("t", 5, 7).replace("\n5,", "\n4,"), 2, time="t"),
    case("t.csv: column 't' is not sorted: 2023-12-31 in row 3 comes after 2024-01-01; tasks by time need rows in the "
         "order of time.", changed("t", 3, "2023-12-31", t=["2024-01-01"] * N), 2, time="t"),
    case("t.csv: column 't' has no value in row 3 (1 in all); a time has one in every row.", changed("t", 3, "NA"), 2,
         time="t"),
    case("t.csv: column 't' holds 'u' in row 1. Allowed in a column of time: numbers, or times such as 2024-01-31 and "
         "2024-01-31 12:30.", table(t=["u"] * N), 2, time="t"),
    case("t.csv: column 't' has 2 different times in 40 rows, which make no 3 blocks; rows of one time stay together.",
         table(t=[1] * 20 + [2] * 20), 3, time="t"),
    case("t.csv: block 0 (rows 1 to 20) has its last fifth at its first time, 1, in column 't', which leaves no "
         "earlier row to train on; give fewer blocks.", table(t=[1] * 20 + [2] * 20), 2, time="t"),
    case("t.csv: column 't' has no row before -1, so that block 0 is empty.", table(), (-1.0, 20.0), time="t"),
    case("t.csv: column 't' has no row at 3.1 or later and before 3.2, so that block 1 is empty.", table(), (3.1, 3.2),
         time="t"),
    case("t.csv: column 't' has no row at 40 or later, so that block 1 is empty.", table(), (40.0,), time="t"),
    case("stream.tasks.changes: 10 comes after 20; changes ascend.", table(), (20.0, 10.0), time="t"),
    case("stream.tasks.changes: got '2024-01-31', and the column of time holds numbers.", table(), ("2024-01-31",),
         time="t"),
    case("stream.tasks.changes: got 3, and the column of time holds times: '2024-01-31'.", table(t=["2024-01-01"] * N),
         (3.0,), time="t"),
    case("stream.tasks.changes: got 'May'. Allowed: times such as '2024-01-31 12:30'.", table(t=["2024-01-01"] * N),
         ("May",), time="t"),
    case("t.csv: column 'y': class 'c' has test rows of task 1, the first of which is row 40, but no training row "
         "there; give fewer blocks, or other changes.",
         changed("y", 40, "c", y=["a", "b", "c", "b", *(["a", "b"] * 6), "c", *(["a", "b"] * 11), "b"]), 2, time="t"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "blocks", "columns", "message"), [*FILES, *FEATURES, *TARGETS, *PARTS, *IN_TIME])
def test_a_mistake_in_a_file(text: str, blocks: Any, columns: dict[str, Any], message: str) -> None:
    Path("t.csv").write_text(text)
    for read in (load.facts, load.load):
        with pytest.raises(UserError) as caught:
            read("csv:t.csv", table=Table(Columns.model_validate(columns), blocks))
        assert caught.value.problems == (message,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,y\n1,\xff\xfe\n", "t.csv: no text in UTF-8, after row 0 (invalid start byte)."),
        (b'a,y\n1,0\n2,"1\n', "t.csv: row 2 (line 3): unexpected end of data."),
    ],
)
def test_a_damaged_file(content: bytes, message: str) -> None:
    Path("t.csv").write_bytes(content)
    with pytest.raises(UserError) as caught:
        load.load("csv:t.csv", table=Table(Columns(target="y")))
    assert caught.value.problems == (message,)


def test_a_file_that_is_no_file() -> None:
    Path("t.csv.gz").write_bytes(b"plain")
    for name, start in (("csv:t.csv.gz", "t.csv.gz: cannot be read"), ("csv:x.csv", "'csv:x.csv': no such file.")):
        with pytest.raises(UserError, match=start):
            load.facts(name, table=Table(Columns(target="y")))


# ------------------------------------------------------------------------------------------------ keys of a stream
TEXT = """\
id: mine
stream:
  {}
  setting: {}
model: {{name: mlp, hidden: [8]}}
training: {{iterations: 3, batch_size: 8, optimizer: {{name: sgd, lr: 0.1}}}}
"""


def section(message: str, *lines: str, setting: str = "domain") -> Any:
    return pytest.param(TEXT.format("\n  ".join(lines), setting), message, id=message[:60])


IN_FILE, TASKS = "data: csv:t.csv", "tasks: {by: time, count: 2}"
KINDS = "csv:, parquet:, hf:, gapminder"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        section("stream.columns: required for the table 'csv:t.csv', but not given: {target: COLUMN}.", IN_FILE,
                "tasks: {by: classes, count: 2}", setting="class"),
        section(f"stream.columns: is for tables ({KINDS}), not for 'digits'; null unsets it.", "data: digits",
                "columns: {target: y}", "tasks: {by: classes, count: 2}", setting="class"),
        section(f"stream.tasks.by: got 'time', which needs a table ({KINDS}), not 'digits'.", "data: digits", TASKS),
        section("stream.data: 'csv:t.csv' is a table; a list of data sets needs images.", "data: [digits, csv:t.csv]",
                "tasks: {by: given}"),
        section("stream.columns.time: required with tasks by time, but not given.", IN_FILE, "columns: {target: y}",
                TASKS),
        section("stream.columns.time: is for tasks by time, not by classes; null unsets it.", IN_FILE,
                "columns: {target: y, time: t}", "tasks: {by: classes, count: 2}", setting="class"),
        section("stream.columns.split: leave it out; tasks by time are blocks, the last fifth of each for testing.",
                IN_FILE, "columns: {target: y, time: t, split: b}", TASKS),
        section("stream.setting: got 'class'. Allowed where numbers are predicted: domain.", IN_FILE,
                "columns: {target: y, target_kind: number, time: t}", TASKS, setting="class"),
        section("stream.columns: column 'y' has two roles. Allowed: one.", IN_FILE, "columns: {target: y, task: y}",
                "tasks: {by: given}"),
        section("stream.columns.features: 'y' is the target already.", IN_FILE, "columns: {target: y, features: [y]}",
                "tasks: {by: given}"),
        section("stream.columns.features: 'a' is listed twice.", IN_FILE, "columns: {target: y, features: [a, a]}",
                "tasks: {by: given}"),
        section("stream.columns.target: got a list. Allowed: one column, or several with target_kind: number.", IN_FILE,
                "columns: {target: [y, a]}", "tasks: {by: given}"),
        section("stream.columns.target_scale: is for target_kind: number.", IN_FILE,
                "columns: {target: y, target_scale: standard}", "tasks: {by: given}"),
        section("stream.columns.ignore: leave it out; 'features' lists the columns already.", IN_FILE,
                "columns: {target: y, features: [a], ignore: [b]}", "tasks: {by: given}"),
        section("stream.columns.categorical: 'b' is no feature.", IN_FILE,
                "columns: {target: y, features: [a], categorical: [b]}", "tasks: {by: given}"),
        section("stream.columns.tme: unknown key. Did you mean 'time'? Allowed: target, target_kind, target_scale, "
                "features, ignore, categorical, time, task, split, missing, separator.", IN_FILE,
                "columns: {target: y, tme: t}", TASKS),
        section("stream.tasks: needs 'count' or 'changes'.", IN_FILE, "columns: {target: y, time: t}",
                "tasks: {by: time}"),
        section("stream.tasks.changes: got numbers and texts. Allowed: one of the two, as the time column has.",
                IN_FILE, "columns: {target: y, time: t}", "tasks: {by: time, changes: [3, '2024-01-01']}"),
        section("stream.tasks.by: got 'given', but 'csv:t.csv' has no tasks; a file gives them by train_task and "
                "test_task, a table by columns.task.", IN_FILE, "columns: {target: y}", "tasks: {by: given}"),
        section("stream.data: t.csv: no column 'z' (stream.columns.target). Its columns: t, a, b, y.", IN_FILE,
                "columns: {target: z}", "tasks: {by: given}"),
        section("stream.data: 'csv:t.csv' has one class; no answer can be wrong.", IN_FILE,
                "columns: {target: one, features: [a]}", "tasks: {by: classes, count: 1}", setting="class"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_keys(text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("t.csv").write_text(table(one=[3] * N) if "target: one" in text else table())
    Path("mine.yaml").write_text(text)
    assert main(["validate", "mine.yaml"]) == 2
    assert message in capsys.readouterr().err.splitlines()[0]


def test_a_block_of_one_class(capsys: pytest.CaptureFixture[str]) -> None:
    """Only the samples show it, before training."""
    Path("t.csv").write_text(table(y=["a"] * 20 + ["a", "b"] * 10))
    Path("mine.yaml").write_text(
        TEXT.format(f"{IN_FILE}\n  columns: {{target: y, time: t}}\n  {TASKS}", "domain") + "strategy: {name: naive}\n"
    )
    assert main(["run", "mine.yaml"]) == 2
    assert (
        "stream.tasks: block 0 has one class, 0 ('a'), in its 16 training rows, so that one constant answer is right; "
        "give fewer blocks, or other changes." in capsys.readouterr().err
    )


def test_a_kind_that_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find: Callable[..., Any] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "pyarrow" else find(name, *a))
    Path("t.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError) as caught:
        load.facts("parquet:t.parquet", table=Table(Columns(target="y")))
    assert caught.value.problems == (
        "'parquet:t.parquet': needs pyarrow, which is not installed: pip install 'clbench[tables]'.",
    )
