"""Strict YAML: scalars of YAML 1.2, no duplicate keys, no tags.

PyYAML alone reads `1e-3` as a string, `no` as False and `010` as 8, and keeps the last of two equal keys in silence.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from clbench.errors import UserError, shown


class _Loader(yaml.SafeLoader):
    """A SafeLoader with the core schema of YAML 1.2, for which every explicit tag is a mistake."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        tag = getattr(event, "tag", None)
        if tag is not None:
            short = tag.replace("tag:yaml.org,2002:", "!!")
            raise ComposerError(None, None, f"the tag '{short}' is not allowed; give a plain value", event.start_mark)
        return super().compose_node(parent, index)


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
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"\A(?:{_pattern})\Z"), _first)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)  # `010` is ten
    try:
        return int(text[2:] if base != 10 else text, base)
    except ValueError:  # Python reads decimal numbers up to some thousand digits
        raise ConstructorError(None, None, f"a number of {len(text)} digits is too long", node.start_mark) from None


def _mapping(loader: _Loader, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:
    # Not the SafeLoader's own: it would apply `<<`, which YAML 1.2 does not have.
    value: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if type(key) is int and isinstance(value_node, yaml.MappingNode):
            key = str(key)  # the number of an experience
        if not isinstance(key, str):
            raise ConstructorError(None, None, f"the key {shown(key)} is not a word", key_node.start_mark)
        if key in lines:
            text = f"key '{key}' is given twice, on lines {lines[key]} and {line}"
            raise ConstructorError(None, None, text, key_node.start_mark)
        lines[key] = line
        value[key] = loader.construct_object(value_node, deep=True)
    return value


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def parse(text: str, source: str) -> Any:
    """The value of a YAML text.

    Args:
        text: one YAML document.
        source: its origin, for messages.

    Raises:
        UserError: not YAML, a duplicate key, a key that is no word, or a tag.

    >>> parse("lr: 1e-3\\non: no\\nn: 010", "doctest")
    {'lr': 0.001, 'on': 'no', 'n': 10}
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - _Loader is a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = error.problem or error.context or ""
        if problem.startswith("but "):  # "expected a single document in the stream", "but found another document"
            problem = f"{error.context}, {problem}"
        if r"'\t'" in problem:
            problem += "; YAML is indented by spaces, not by tabs"
        raise UserError(f"{source}: {where}{problem}.") from None
    except yaml.reader.ReaderError as error:
        raise UserError(f"{source}: not a text file; it holds the character #x{error.character:04x}.") from None
    except RecursionError:
        raise UserError(f"{source}: lists and mappings are nested too deeply.") from None


def parse_file(path: Path, source: str | None = None) -> dict[str, Any]:
    """The mapping in a YAML file.

    Args:
        path: the file.
        source: its name in messages; default: the path.

    Raises:
        UserError: the file cannot be read, is no YAML, or holds something else than keys and values.
    """
    name = source or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{name}: no such file.") from None
    except IsADirectoryError:
        raise UserError(f"{name}: a folder, not a file.") from None
    except UnicodeDecodeError:
        raise UserError(f"{name}: not a text file in UTF-8.") from None
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {error.strerror}.") from None
    value = parse(text, name)
    if not isinstance(value, dict):
        kind = "empty" if value is None else "a list" if isinstance(value, list) else "a single value"
        raise UserError(f"{name}: expected keys and values (a mapping), but the file is {kind}.")
    return value
