"""Lines of a user's files in the message of an error."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from clbench.tracebacks import described, user_frames


def error_of(call: Any) -> Exception:
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError


def test_lines_of_python_and_of_packages_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "site-packages" / "of_a_package.py"
    installed.parent.mkdir()
    installed.write_text("def call(function):\n    return function('{')\n")
    monkeypatch.syspath_prepend(str(installed.parent))
    of_a_package = __import__("of_a_package")
    [line] = user_frames(error_of(lambda: of_a_package.call(json.loads)))[1:]
    assert line.startswith("test_tracebacks.py line ")
    assert line.endswith(", in <lambda>: [line] = user_frames(error_of(lambda: of_a_package.call(json.loads)))[1:]")
    sys.modules.pop("of_a_package")


def test_of_many_lines_the_ends_are_kept() -> None:
    def deeper(n: int) -> None:
        if not n:
            raise ValueError("first line\nsecond line")
        deeper(n - 1)

    frames = user_frames(error_of(lambda: deeper(20)))
    assert [frame.partition(", in ")[2] for frame in frames] == [
        "error_of",
        "",
        "deeper",
        "deeper",
        'deeper: raise ValueError("first line\\nsecond line")',
    ]
    assert frames[1] == "..."


def test_an_error_that_was_not_raised_has_no_lines() -> None:
    assert described(KeyError("a")) == "KeyError: 'a'"
    assert described(ValueError()) == "ValueError"
