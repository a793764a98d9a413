"""Values inside an HTML page: JSON that ends no script, arrays as text, and a policy that allows our scripts alone."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from clbench.errors import UserError
from clbench.measures import Measure
from clbench.reports.html.curves import Band

NOT_A_NUMBER = 65535
"""Stands for NaN in `parts_per_10000`."""


def json_block(value: Any) -> Markup:
    """JSON for the inside of a script element: `<`, `>` and `&` are escaped, and all that is not ASCII.

    >>> print(json_block({"name": "</script><b>"}))
    {"name":"\\u003c/script\\u003e\\u003cb\\u003e"}
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def whole_numbers(values: NDArray[np.int64]) -> str:
    """Whole numbers from 0 to 2**32 - 1 as base64 of little-endian uint32."""
    return base64.b64encode(values.astype("<u4").tobytes()).decode()


def parts_per_10000(values: NDArray[np.float64]) -> str:
    """Numbers in [-2, 4.5] in steps of 0.0001, as base64 of little-endian uint16 of 10,000 (value + 2); NaN is 65535.

    >>> base64.b64decode(parts_per_10000(np.array([-2.0, 0.5, np.nan]))).hex(" ", 2)
    '0000 a861 ffff'
    """
    scaled = np.rint((values + 2) * 10_000)
    return base64.b64encode(np.where(np.isnan(scaled), NOT_A_NUMBER, scaled).astype("<u2").tobytes()).decode()


def curve(method: int, band: Band, scale: float | None = None) -> dict[str, Any]:
    """A method's curve, with its band where there are several runs.

    Args:
        method: its number.
        band: of accuracies, or of a measure.
        scale: of a measure, the size of 1 in its numbers; None of accuracies.
    """
    unit = 1.0 if scale is None else scale
    out = {"method": method, "x": whole_numbers(band.x), "y": parts_per_10000(band.mean / unit), "runs": band.runs}
    if band.runs > 1:
        out |= {"low": parts_per_10000(band.low / unit), "high": parts_per_10000(band.high / unit)}
    return out if scale is None else out | {"scale": scale}


def scale_of(bands: Iterable[Band], measure: Measure | None) -> float | None:
    """The largest number of some curves of a measure, for `curve`; None of accuracies."""
    if measure is None:
        return None
    ends = [np.abs(part[np.isfinite(part)]).max(initial=0.0) for band in bands for part in (band.low, band.high)]
    return float(max(ends, default=0.0)) or 1.0


def words_of(measure: Measure | None, axis: str | None = None) -> dict[str, Any]:
    """Unit and axis of a measure's figure, for its script; empty of accuracies, which are in percent.

    >>> from clbench.measures import MEASURES
    >>> words_of(MEASURES["log_loss"], "change")
    {'unit': 'nats', 'axis': 'change (nats)'}
    """
    if measure is None:
        return {}
    return {"unit": measure.unit, "axis": f"{axis or measure.title} ({measure.unit})"}


def plotting_library() -> str:
    """The script of plotly.js, from the Python package plotly, which is not imported.

    Raises:
        UserError: the package is not installed, or has no such file.
    """
    spec = importlib.util.find_spec("plotly")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(place) / "package_data" / "plotly.min.js"
        if path.is_file():
            return inline_script(path.read_text(encoding="utf-8"))
    raise UserError("the report needs the package plotly with its plotly.min.js; `pip install plotly` installs it.")


def inline_script(text: str) -> str:
    """A script as an HTML parser reads it, so that its hash is that of the page.

    Raises:
        ValueError: it would end its element, or begin a comment.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "</script" in text.lower() or "<!--" in text:
        raise ValueError("a script that ends its own element")
    return text


def content_security_policy(scripts: Iterable[str]) -> str:
    """A policy for the page: no request at all, and no script but these, by their SHA-256."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{each}'" for each in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
