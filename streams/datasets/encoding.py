"""Columns of a table as numbers, by rules whose statistics come from chosen rows alone.

    numbers       as they are; true and false are 1 and 0
    times         seven numbers: days since the earliest, and sine and cosine of the time of day, of week and of year
    categories    one column for each different value, in ascending order, 1 where the row has it, else 0; a missing
                  value is one more category. A value that the statistics' rows do not have is 0 in all of them
    missing       numbers and times: the median, and a column after them that is 1 where the value was missing

The median, the earliest time, the categories, and whether a column has missing values are those of the statistics'
rows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clbench.errors import UserError, shown

if TYPE_CHECKING:
    import pandas as pd

Mask = NDArray[np.bool_]

MOST_CATEGORIES = 1000
"""Different values of a categorical column."""

_DAY = 86_400_000_000
"""Microseconds."""
_CYCLES = (1.0, 7.0, 365.2425)
"""Days."""
_ISO = re.compile(r"\d{4}-\d{2}(-\d{2}([T ]\d{2}(:?\d{2}(:?\d{2}([.,]\d+)?)?)?\s*(Z|[+-]\d{2}(:?\d{2})?)?)?)?$")


def encode(where: str, data: pd.DataFrame, features: Sequence[str], categorical: Sequence[str], basis: Mask) -> Any:
    """The features of all rows.

    Args:
        where: the file, for messages.
        data: the table.
        features: its input columns.
        categorical: those that are categories whatever they hold.
        basis: rows whose statistics are used, bool (N,).

    Returns:
        float32 (N, F).

    Raises:
        UserError: a column that mixes numbers or times with other text, an infinite number, no value in the
            statistics' rows, or more than `MOST_CATEGORIES`.
    """
    blocks = []
    for column in features:
        kind, values = typed(where, column, data[column], column in categorical)
        blocks.append(_ENCODERS[kind](where, column, values, basis))
    return np.concatenate(blocks, axis=1, dtype=np.float32)


def typed(where: str, column: str, values: pd.Series[Any], categorical: bool = False) -> tuple[str, Any]:
    """The kind of a column, and its values.

    Returns:
        "number" and float64 (N,), NaN where missing; "time" and int64 microseconds since 1970 in UTC, NaT where
        missing, as datetime64[us]; or "category" and Python strings, None where missing.

    Raises:
        UserError: it mixes numbers or times with other text, or holds something else.
    """
    import pandas as pd

    if categorical:
        return "category", _texts(values)
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return "time", _times(values)
    if pd.api.types.is_bool_dtype(values.dtype) or pd.api.types.is_numeric_dtype(values.dtype):
        if values.dtype.kind == "c":
            raise UserError(f"{where}: column '{column}' holds complex numbers. Allowed: numbers, text, times.")
        return "number", values.to_numpy(np.float64, na_value=np.nan)
    texts = _texts(values)
    held = [i for i, text in enumerate(texts) if text is not None]
    if not held:
        return "number", np.full(len(texts), np.nan)
    present = values.iloc[held]
    if all(isinstance(value, (bool, np.bool_)) for value in present.tolist()):
        return "number", np.array([math.nan if text is None else float(text == "True") for text in texts])
    for kind, mask in (("number", _are_numbers(present)), ("time", [bool(_ISO.match(texts[i] or "")) for i in held])):
        if all(mask):
            return (kind, _numbers(values)) if kind == "number" else (kind, _parsed(where, column, values))
        if any(mask):
            _refuse_mixed(where, column, kind, [(i, texts[i] or "", fits) for i, fits in zip(held, mask, strict=True)])
    return "category", texts


def _refuse_mixed(where: str, column: str, kind: str, values: list[tuple[int, str, bool]]) -> None:
    """A mixture is a mistake of the file, or a column of categories, some of which look like numbers."""
    plural = {"number": "numbers", "time": "times"}[kind]
    row, text, _ = next(value for value in values if not value[2])
    fitting = sum(fits for *_, fits in values)
    raise UserError(
        f"{where}: column '{column}' holds {plural} in {fitting:,} rows, but {shown(text)} in row {row + 1}. A text "
        f"for missing values belongs to stream.columns.missing, a column of categories to stream.columns.categorical."
    )


# ------------------------------------------------------------------------------------------------ values
def _texts(values: pd.Series[Any]) -> list[str | None]:
    missing = values.isna().tolist()
    return [None if gone else str(value) for value, gone in zip(values.tolist(), missing, strict=True)]


def _are_numbers(values: pd.Series[Any]) -> list[bool]:
    import pandas as pd

    return [bool(b) for b in pd.to_numeric(values.astype("str"), errors="coerce").notna().tolist()]


def _numbers(values: pd.Series[Any]) -> NDArray[np.float64]:
    import pandas as pd

    held = values.astype("object").where(values.notna(), None)
    return pd.to_numeric(held.map(lambda v: "" if v is None else str(v)), errors="coerce").to_numpy(np.float64)


def _parsed(where: str, column: str, values: pd.Series[Any]) -> NDArray[np.datetime64]:
    import pandas as pd

    times = pd.to_datetime(values, format="ISO8601", errors="coerce", utc=True)
    if (bad := (times.isna() & values.notna()).to_numpy()).any():
        at = int(np.flatnonzero(bad)[0])
        raise UserError(f"{where}: column '{column}' holds {shown(str(values.iloc[at]))} in row {at + 1}, no time.")
    return _times(times)


def _times(values: pd.Series[Any]) -> NDArray[np.datetime64]:
    """In UTC; times without a zone are taken as UTC."""
    if getattr(values.dtype, "tz", None) is not None:
        values = values.dt.tz_convert("UTC").dt.tz_localize(None)
    return values.to_numpy().astype("datetime64[us]")


# ------------------------------------------------------------------------------------------------ encoders
def _with_indicator(numbers: NDArray[np.float64], missing: Mask, basis: Mask) -> NDArray[np.float64]:
    columns = numbers.reshape(len(missing), -1)
    return np.column_stack([columns, missing]) if missing[basis].any() else columns


def _no_value(where: str, column: str) -> UserError:
    return UserError(
        f"{where}: column '{column}' has no value in the training rows whose statistics are used; leave it out "
        "(stream.columns.ignore)."
    )


def _encode_numbers(where: str, column: str, values: NDArray[np.float64], basis: Mask) -> NDArray[np.float64]:
    missing = np.isnan(values)
    check_finite(where, column, values, missing)
    known = values[basis & ~missing]
    if not len(known):
        raise _no_value(where, column)
    return _with_indicator(np.where(missing, np.median(known), values), missing, basis)


def check_finite(where: str, column: str, values: NDArray[np.float64], missing: Mask) -> None:
    """Checks that numbers are finite as float32, but for missing ones.

    Raises:
        UserError: one is not.
    """
    wrong = ~missing & ~(np.abs(values) <= np.finfo(np.float32).max)
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise UserError(f"{where}: column '{column}' holds {values[at]} in row {at + 1}. Allowed: finite float32.")


def _encode_times(where: str, column: str, values: NDArray[np.datetime64], basis: Mask) -> NDArray[np.float64]:
    missing = np.isnat(values)
    micro = values.astype(np.int64)
    known = micro[basis & ~missing]
    if not len(known):
        raise _no_value(where, column)
    micro = np.where(missing, np.sort(known)[(len(known) - 1) // 2], micro)
    columns = [(micro - known.min()) / _DAY]
    for days in _CYCLES:
        angle = 2 * math.pi * ((micro / _DAY) % days) / days
        # Rounded, so that the last bit of a machine's sine does not change the data.
        columns += [np.rint(wave * 1024) / 1024 for wave in (np.sin(angle), np.cos(angle))]
    return _with_indicator(np.column_stack(columns), missing, basis)


def _encode_categories(where: str, column: str, values: list[str | None], basis: Mask) -> NDArray[np.float32]:
    known = {value for value, counts in zip(values, basis.tolist(), strict=True) if counts}
    categories: list[str | None] = [*sorted(value for value in known if value is not None)]
    categories += [None] * (None in known)
    if len(categories) > MOST_CATEGORIES:
        raise UserError(
            f"{where}: column '{column}' has {len(categories):,} different texts in {int(basis.sum()):,} rows. "
            f"Allowed: {MOST_CATEGORIES:,} categories; leave it out (stream.columns.ignore)."
        )
    number = {value: c for c, value in enumerate(categories)}
    codes = np.array([number.get(value, -1) for value in values])
    return np.asarray(codes[:, None] == np.arange(len(categories)), np.float32)


_ENCODERS: dict[str, Any] = {"number": _encode_numbers, "time": _encode_times, "category": _encode_categories}
