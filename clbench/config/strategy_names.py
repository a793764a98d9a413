"""Names of strategies and of compositions, as text."""

from __future__ import annotations

from typing import Any


def key_of(name: str) -> str:
    """The key of a part's hyper-parameters.

    >>> key_of("er"), key_of("my_lab.methods:Mine")
    ('er', 'Mine')
    """
    return name.rpartition(":")[2]


def parts_of(name: str) -> list[str]:
    """
    >>> parts_of("er+ewc"), parts_of("er")
    (['er', 'ewc'], ['er'])
    """
    return name.split("+")


def as_mapping(value: Any) -> Any:
    """The mapping equivalent to a list of strategies or to a name; any other value unchanged.

    >>> as_mapping("er")
    {'name': 'er'}
    >>> as_mapping(["er", {"name": "ewc", "strength": 2}])
    {'name': 'er+ewc', 'er': {}, 'ewc': {'strength': 2}}
    """
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, list):
        return value
    parts = [{"name": part} if isinstance(part, str) else part for part in value]
    if not parts or not all(isinstance(part, dict) and isinstance(part.get("name"), str) for part in parts):
        return value  # the check of its type reports the mistake
    if len(parts) == 1:
        return parts[0]
    below = {key_of(part["name"]): {k: v for k, v in part.items() if k != "name"} for part in parts}
    return {"name": "+".join(part["name"] for part in parts), **below}
