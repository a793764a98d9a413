"""Tables as data frames: CSV, Parquet, folders that Hugging Face's `datasets` saved, tables inside packages.

Only the columns with a role are read. Rows are counted from 1 below the header, in messages.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import hashlib
import importlib.util
import io
import json
import lzma
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from clbench.errors import UserError, hint
from clbench.streams.datasets.columns import Columns

if TYPE_CHECKING:
    import pandas as pd

_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_NEED = "needs pyarrow, which is not installed: pip install 'clbench[tables]'"
_PARTS = ("train", "test")
_GAPMINDER = "189b327ad4f9cc1437b54a6e03a22c4c915772236373cf01df56fa8ca50d183a"
"""Of the first six columns in plotly 6.0.0, 6.3.0 and 7.1.0."""


@dataclass(frozen=True)
class Frame:
    """A table as its file has it.

    Attributes:
        where: the file, with which messages begin.
        data: its columns with a role, rows in the file's order.
        features: the input columns, in their order.
        class_names: of columns whose values are class numbers with names.
        images: columns of encoded images.
        part: `train` or `test` of each row, where the file has these parts; else None.
    """

    where: str
    data: pd.DataFrame
    features: list[str]
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    images: tuple[str, ...] = ()
    part: list[str] | None = None


def path_of(name: str) -> Path:
    """The file or folder of a table.

    Raises:
        UserError: it does not exist, or the package that holds it is not installed.
    """
    if name == "gapminder":
        return _gapminder()
    kind, _, rest = name.partition(":")
    path = Path(rest).expanduser()
    if kind == "hf":
        if not path.is_dir():
            raise UserError(f"'{name}': no such folder.")
    elif not path.is_file():
        raise UserError(f"'{name}': no such file.")
    return path


def read(name: str, columns: Columns) -> Frame:
    """A table by name.

    Raises:
        UserError: it is missing, damaged or empty, or lacks a column; the message names the file and the mistake.
    """
    path = path_of(name)
    if name == "gapminder":
        text = _gapminder_text(path)
        return _csv(name, lambda: io.StringIO(text), columns)
    if name.startswith("csv:"):
        return _csv(str(path), lambda: _open(path), columns)
    if importlib.util.find_spec("pyarrow") is None:
        raise UserError(f"'{name}': {_NEED}.")
    return _parquet(path, columns) if name.startswith("parquet:") else _hugging_face(path, columns)


def _gapminder() -> Path:
    """Plotly's copy of the table of gapminder.org: 142 countries, every fifth year from 1952 to 2007."""
    spec = importlib.util.find_spec("plotly")
    path = Path((spec.origin if spec else None) or "").parent / "package_data" / "datasets" / "gapminder.csv.gz"
    if not path.is_file():
        raise UserError("data set 'gapminder': not in the installed plotly; version 6 and later have it.")
    return path


def _gapminder_text(path: Path) -> str:
    """The six columns that every version of plotly has, in the order of years, as CSV."""
    with _open(path) as file:
        header, *rows = [row[:6] for row in csv.reader(file)]
    sha256 = hashlib.sha256("\n".join(",".join(row) for row in (header, *rows)).encode()).hexdigest()
    if sha256 != _GAPMINDER:
        raise UserError(f"{path}: not the table that 'gapminder' stands for (SHA-256 {sha256[:16]}...).")
    text = io.StringIO()
    csv.writer(text).writerows([header, *sorted(rows, key=lambda row: row[2])])  # stable: countries keep their order
    return text.getvalue()


# ------------------------------------------------------------------------------------------------ columns
def chosen(where: str, held: Sequence[str], columns: Columns) -> list[str]:
    """The features of a table.

    Args:
        where: the file.
        held: the names of its columns.
        columns: the settings.

    Raises:
        UserError: a column that the file does not have, or no feature.
    """
    named = [(column, "target") for column in columns.targets]
    named += [(column, key) for key in ("time", "task", "split") if (column := getattr(columns, key)) is not None]
    for key in ("features", "ignore", "categorical"):
        named += [(column, key) for column in ([] if getattr(columns, key) == "all" else getattr(columns, key))]
    for column, key in named:
        if column not in held:
            listed = ", ".join(held[:20]) + (f", ... ({len(held)} in all)" if len(held) > 20 else "")
            guess = hint(column, held)
            raise UserError(f"{where}: no column '{column}' (stream.columns.{key}).{guess} Its columns: {listed}.")
    if columns.features != "all":
        return list(columns.features)
    features = [column for column in held if column not in columns.roles and column not in columns.ignore]
    if not features:
        raise UserError(f"{where}: no column is left for a feature; its columns: {', '.join(held)}.")
    if "" in features:
        raise UserError(
            f"{where}: column {list(held).index('') + 1} has no name; name it in the header, or list the features. (An "
            "index that pandas wrote is left out by to_csv(index=False).)"
        )
    if stray := [c for c in columns.categorical if c not in features]:
        raise UserError(f"{where}: column '{stray[0]}' is the {columns.roles[stray[0]]}, no feature (categorical).")
    return features


def _wanted(held: Sequence[str], features: Sequence[str], columns: Columns) -> list[str]:
    needed = {*features, *columns.roles}
    return [column for column in held if column in needed]


# ------------------------------------------------------------------------------------------------ CSV
def _csv(where: str, opened: Callable[[], IO[str]], columns: Columns) -> Frame:
    import pandas as pd

    header = _checked_header(where, opened, columns)
    features = chosen(where, header, columns)
    text = {*columns.categorical, *(c for c in (columns.task, columns.split) if c is not None)}
    if columns.target_kind == "class":
        text |= {*columns.targets}
    with opened() as file:
        try:
            data = pd.read_csv(
                cast(Any, file), sep=columns.separator, usecols=_wanted(header, features, columns), low_memory=False,
                dtype=dict.fromkeys(text & set(header), "str"), keep_default_na=False, na_values=columns.missing,
                index_col=False, **_exact(pd.__version__),
            )  # fmt: skip
        except (ValueError, OSError) as error:
            raise UserError(f"{where}: not readable as CSV ({str(error).strip()}).") from None
    return Frame(where, data, features)


def _exact(version: str) -> dict[str, Any]:
    """The setting by which pandas reads the nearest number; from 3.1 on it does so without."""
    major, minor = map(int, version.split(".")[:2])
    return {} if (major, minor) >= (3, 1) else {"float_precision": "round_trip"}


def _open(path: Path) -> IO[str]:
    opener = _OPENERS.get(path.suffix, open)
    return cast(IO[str], opener(path, "rt", encoding="utf-8-sig", newline=""))


def _checked_header(where: str, opened: Callable[[], IO[str]], columns: Columns) -> list[str]:
    """The names of the columns of a CSV file, every row of which has as many values.

    pandas fills short rows with missing values, which would go unnoticed.
    """
    rows = 0
    with opened() as file:
        reader = csv.reader(file, delimiter=columns.separator, strict=True)
        try:
            header = next((row for row in reader if row), None)
            if header is None:
                raise UserError(f"{where}: empty; the first line of a table names its columns.")
            _check_names(where, header, columns)
            for row in reader:
                if not row:
                    continue
                rows += 1
                if len(row) != len(header):
                    raise UserError(
                        f"{where}: row {rows} (line {reader.line_num}) has {len(row)} "
                        f"value{'s' * (len(row) != 1)}, and the header names {len(header)} columns."
                    )
        except csv.Error as error:
            raise UserError(f"{where}: row {rows + 1} (line {reader.line_num}): {error}.") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{where}: no text in UTF-8, after row {rows} ({error.reason}).") from None
        except (OSError, EOFError, lzma.LZMAError) as error:
            raise UserError(f"{where}: cannot be read ({error}).") from None
    if not rows:
        raise UserError(f"{where}: has no row below its header.")
    return header


def _check_names(where: str, header: list[str], columns: Columns) -> None:
    twice = next((column for column in header if header.count(column) > 1), None)
    if twice is not None:
        raise UserError(f"{where}: two columns have the name '{twice}'; roles need names that differ.")
    other = next((mark for mark in ";\t,|" if mark in header[0]), None)
    if len(header) == 1 and other is not None and columns.targets[0] not in header:
        raise UserError(
            f"{where}: one column, '{header[0]}'; its values look separated by {other!r}: "
            f'stream.columns.separator: "{other.encode("unicode_escape").decode()}".'
        )


# ------------------------------------------------------------------------------------------------ Parquet, Hugging Face
def _parquet(path: Path, columns: Columns) -> Frame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    where = str(path)
    try:
        held = list(pq.read_schema(path).names)
        features = chosen(where, held, columns)
        table = pq.read_table(path, columns=_wanted(held, features, columns))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{where}: not readable as Parquet ({_line(error)}).") from None
    return Frame(where, _to_frame(where, table), features)


def _hugging_face(folder: Path, columns: Columns) -> Frame:
    """A folder of `Dataset.save_to_disk` or `DatasetDict.save_to_disk`, of which `train` and `test` are read."""
    import pyarrow as pa

    where = str(folder)
    parts: dict[str, Path] = {"": folder}
    if (folder / "dataset_dict.json").is_file():
        names = _json(folder / "dataset_dict.json").get("splits", [])
        if "train" not in names:
            raise UserError(f"{where}: has the parts {', '.join(names)}. Allowed: train, and test where there is one.")
        parts = {name: folder / name for name in _PARTS if name in names}
    tables = {name: _arrow(path) for name, path in parts.items()}
    held = list(next(iter(tables.values())).column_names)
    features = chosen(where, held, columns)
    kinds = _json(next(iter(parts.values())) / "dataset_info.json").get("features") or {}
    wanted = _wanted(held, features, columns)
    try:
        table = pa.concat_tables([each.select(wanted) for each in tables.values()])
    except (pa.ArrowException, KeyError) as error:
        raise UserError(f"{where}: its parts differ in columns or their types ({_line(error)}).") from None
    if not len(table):
        raise UserError(f"{where}: has no row.")
    images = tuple(c for c in wanted if isinstance(kinds.get(c), dict) and kinds[c].get("_type") == "Image")
    named = {
        c: tuple(map(str, kinds[c].get("names", [])))
        for c in wanted
        if isinstance(kinds.get(c), dict) and kinds[c].get("_type") == "ClassLabel"
    }
    part = None if len(tables) < 2 else [name for name, each in tables.items() for _ in range(len(each))]
    return Frame(where, _to_frame(where, table, images), features, named, images, part)


def _arrow(folder: Path) -> Any:
    """The rows of one saved part."""
    import pyarrow as pa

    files = [folder / entry["filename"] for entry in _json(folder / "state.json").get("_data_files", [])]
    if not files:
        raise UserError(f"{folder}: state.json lists no file of data.")
    tables = []
    for path in files:
        try:
            with pa.memory_map(str(path)) as source:
                tables.append(pa.ipc.open_stream(source).read_all())
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path}: not readable as Arrow ({_line(error)}).") from None
    return pa.concat_tables(tables)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path.parent}: no {path.name}; save_to_disk of Hugging Face's datasets writes one.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({_line(error)}).") from None
    return content if isinstance(content, dict) else {}


def _to_frame(where: str, table: Any, images: tuple[str, ...] = ()) -> pd.DataFrame:
    """An Arrow table as a frame: dictionaries become their values, dates times, decimals floats."""
    import pyarrow as pa

    if not len(table):
        raise UserError(f"{where}: has no row.")
    for at, column in enumerate(table.schema):
        kind = column.type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if pa.types.is_date(kind):
            kind = pa.timestamp("us")
        elif pa.types.is_decimal(kind):
            kind = pa.float64()
        elif pa.types.is_nested(kind) and column.name not in images:
            raise UserError(f"{where}: column '{column.name}' holds {kind}. Allowed: numbers, text, times.")
        if kind != column.type:
            table = table.set_column(at, column.name, table.column(at).cast(kind))
    return cast("pd.DataFrame", table.to_pandas(ignore_metadata=True))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
