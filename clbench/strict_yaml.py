"""YAML as people expect it: scalars of YAML 1.2, no duplicate keys, no tags that build objects.

PyYAML alone reads `1e-3` as a string, `no` as False and `010` as 8, and keeps the last of two equal keys in silence.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from clbench.errors import UserError


class _Loader(yaml.SafeLoader):
    """A SafeLoader with the core schema of YAML 1.2."""


_Loader.yaml_implicit_resolvers = {}
_CORE_SCHEMA = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)
for _name, _pattern, _first in _CORE_SCHEMA:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), _first)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    if text.startswith("0o"):
        return int(text[2:], 8)
    if text.startswith("0x"):
        return int(text[2:], 16)
    return int(text)  # `010` is ten


def _mapping(loader: _Loader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: dict[Any, int] = {}
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not a word", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"key '{key}' is given twice, on lines {seen[key]} and {line}", key_node.start_mark
            )
        seen[key] = line
    # Not the SafeLoader's own: it would apply `<<`, which YAML 1.2 does not have.
    return {
        loader.construct_object(key, deep=True): loader.construct_object(value, deep=True) for key, value in node.value
    }


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def parse(text: str, source: str) -> Any:
    """The value of a YAML text.

    Args:
        text: one YAML document.
        source: where it comes from, for messages.

    Raises:
        UserError: not YAML, a duplicate key, a key that is no word, or a tag that would build an object.

    >>> parse("lr: 1e-3\\non: no\\nn: 010", "doctest")
    {'lr': 0.001, 'on': 'no', 'n': 10}
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - _Loader is a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UserError(f"{source}: {where}{error.problem or error.context}.") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{source}: not readable as YAML: {str(error).splitlines()[0]}.") from None


def parse_file(path: Path, source: str | None = None) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        UserError: the file cannot be read, is no YAML, or holds something else than keys and values.
    """
    name = source or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{name}: no such file.") from None
    except UnicodeDecodeError:
        raise UserError(f"{name}: not a text file in UTF-8.") from None
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {error.strerror}.") from None
    value = parse(text, name)
    if not isinstance(value, dict):
        kind = {list: "a list", type(None): "empty"}.get(type(value), f"a {type(value).__name__}")
        raise UserError(f"{name}: expected keys and values (a mapping), but the file is {kind}.")
    return value
