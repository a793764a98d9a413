"""YAML as people expect it, against the scalars of YAML 1.2 and against JSON, which is a part of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clbench.config import strict_yaml
from clbench.errors import UserError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # YAML 1.2.2, section 10.3.2, table 10.5
        ("null", None), ("Null", None), ("NULL", None), ("~", None), ("", None),
        ("true", True), ("True", True), ("TRUE", True), ("false", False), ("False", False), ("FALSE", False),
        ("0", 0), ("-19", -19), ("+7", 7), ("010", 10), ("-010", -10), ("0o17", 15), ("0x3A", 58), ("0xff", 255),
        ("0.", 0.0), ("-0.0", -0.0), (".5", 0.5), ("+12e03", 12000.0), ("-2E+05", -200000.0), ("1e-3", 0.001),
        ("1E3", 1000.0), ("6.02e23", 6.02e23), (".inf", math.inf), ("-.Inf", -math.inf), ("+.INF", math.inf),
        # words, whatever YAML 1.1 took them for
        ("no", "no"), ("No", "No"), ("off", "off"), ("yes", "yes"), ("on", "on"), ("y", "y"), ("n", "n"),
        ("1_000", "1_000"), ("1:30", "1:30"), ("190:20:30.15", "190:20:30.15"), ("0b11", "0b11"), ("0o8", "0o8"),
        ("-0x1", "-0x1"), ("2020-01-01", "2020-01-01"), ("=", "="), ("<<", "<<"), ("nULL", "nULL"), ("1e", "1e"),
        (".", "."), ("-", "-"), ("+", "+"), ("inf", "inf"), ("nan", "nan"), ("+.nan", "+.nan"), ("1.2.3", "1.2.3"),
        ("'1'", "1"), ('"null"', "null"),
    ],
)  # fmt: skip
def test_scalars_of_yaml_1_2(text: str, value: Any) -> None:
    if text == "-":  # a list of nothing where it stands alone
        text = "'-'"
    found = strict_yaml.parse(text, "test")
    assert type(found) is type(value)
    assert found == value
    assert math.copysign(1, found) == math.copysign(1, value) if isinstance(value, float) else True


def test_not_a_number() -> None:
    for text in (".nan", ".NaN", ".NAN"):
        assert math.isnan(strict_yaml.parse(text, "test"))


@given(st.integers(min_value=-(10**40), max_value=10**40), st.integers(0, 5))
def test_integers_are_decimal_whatever_zeros_stand_before_them(number: int, zeros: int) -> None:
    sign, digits = ("-" if number < 0 else ""), str(abs(number))
    assert strict_yaml.parse(f"{sign}{'0' * zeros}{digits}", "test") == number


@given(st.integers(min_value=0))
def test_octal_and_hexadecimal(number: int) -> None:
    assert strict_yaml.parse(f"0o{number:o}", "test") == number
    assert strict_yaml.parse(f"0x{number:x}", "test") == number
    assert strict_yaml.parse(f"0x{number:X}", "test") == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_as_python_and_c_write_them(number: float) -> None:
    for text in (repr(number), f"{number:.17g}", f"{number:.17e}", f"{number:.17E}"):
        assert float(strict_yaml.parse(text, "test")) == number


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(min_codepoint=32, max_codepoint=126)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(categories=["L", "N"]), max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(_JSON, st.sampled_from([None, 2]))
def test_json_means_in_yaml_what_it_means_in_json(value: Any, indent: int | None) -> None:
    assert strict_yaml.parse(json.dumps(value, ensure_ascii=False, indent=indent), "test") == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 1", "t: line 2, column 1: key 'a' is given twice, on lines 1 and 2."),
        ("x: {a: 1, 'a': 2}", "t: line 1, column 11: key 'a' is given twice, on lines 1 and 1."),
        ("null: 1", "t: line 1, column 1: the key null is not a word."),
        ("true: 1", "t: line 1, column 1: the key true is not a word."),
        ("? [a]\n: 3", "t: line 1, column 3: the key ['a'] is not a word."),
        ("a: !!int 3", "t: line 1, column 4: the tag '!!int' is not allowed; give a plain value."),
        ("!!map {}", "t: line 1, column 1: the tag '!!map' is not allowed; give a plain value."),
        ("a: &a [*a]", "t: line 1, column 4: found unconstructable recursive node."),
        ("a: *b", "t: line 1, column 4: found undefined alias 'b'."),
        ("a: " + "9" * 5000, "t: line 1, column 4: a number of 5000 digits is too long."),
        ("[\n" * 20000, "t: lists and mappings are nested too deeply."),
        ("a: \x07", "t: not a text file; it holds the character #x0007."),
        ("a:\n\t- b", "t: line 2, column 1: found character '\\t' that cannot start any token; "
         "YAML is indented by spaces, not by tabs."),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        strict_yaml.parse(text, "t")
    assert str(caught.value) == message


def test_a_merge_key_is_a_key_like_any_other() -> None:
    assert strict_yaml.parse("a: &a {x: 1}\nb: {<<: *a}", "t") == {"a": {"x": 1}, "b": {"<<": {"x": 1}}}


def test_windows_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: x\r\n")
    assert strict_yaml.parse_file(path) == {"a": 1, "b": "x"}


def test_file_name_in_messages(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    with pytest.raises(UserError, match=r"a\.yaml: no such file\.$"):
        strict_yaml.parse_file(path)
    path.write_text("3")
    with pytest.raises(UserError, match=r"^mine: expected keys and values"):
        strict_yaml.parse_file(path, "mine")
