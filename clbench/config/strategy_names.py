"""Names of strategies and of compositions, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


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


def as_mapping(given: Any) -> Any:
    """A list of strategies, or the name of one, as the mapping that it stands for; anything else as it is.

    >>> as_mapping("er")
    {'name': 'er'}
    >>> as_mapping(["er", {"name": "ewc", "strength": 2}])
    {'name': 'er+ewc', 'er': {}, 'ewc': {'strength': 2}}
    """
    if isinstance(given, str):
        return {"name": given}
    if not isinstance(given, list):
        return given
    parts = [{"name": part} if isinstance(part, str) else part for part in given]
    if not parts or not all(isinstance(part, dict) and isinstance(part.get("name"), str) for part in parts):
        return given  # the check of its type says what is wrong
    if len(parts) == 1:
        return parts[0]
    below = {key_of(part["name"]): {k: v for k, v in part.items() if k != "name"} for part in parts}
    return {"name": "+".join(part["name"] for part in parts), **below}
