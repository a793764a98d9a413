"""Names of configurations that stand side by side: each by its strategy and the settings in which it differs.

One place for every table, message, progress line and figure, so that two rows never look alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Settings = Mapping[str, Any]

_DETAILS = "tuning_protocol"
"""Setting that is told only where no other one differs."""


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run's configuration beside its benchmark, strategy and seed.

    Args:
        config: as in run.json.

    >>> settings({"strategy": {"name": "er", "memory": 5}, "seed": 1, "numerics": {"threads": 2}, "tuning": None})
    {'memory': 5, 'seeds': None, 'numerics': {'threads': 2}, 'watch': None, 'tuning': None, 'tuning_protocol': None}
    """
    tuning = config.get("tuning")
    return {
        **{key: value for key, value in config["strategy"].items() if key != "name"},
        **{key: config.get(key) for key in ("seeds", "numerics", "watch")},
        "tuning": tuning["by"] if tuning else None,
        _DETAILS: tuning,
    }


class Labels:
    """Names for some configurations and for others like them.

    Args:
        among: strategy and settings of each; a setting without a value is as good as none.

    >>> labels = Labels([("er", {"memory": 500}), ("er", {"memory": 200}), ("naive", {"memory": 3})])
    >>> labels("er", {"memory": 500}), labels("naive", {"memory": 3})
    ('er (memory 500)', 'naive')
    """

    def __init__(self, among: Iterable[tuple[str, Settings]]) -> None:
        flat: dict[str, list[dict[str, Any]]] = {}
        for name, of in among:
            flat.setdefault(name, []).append(dict(_flat(of)))
        self._keys = {name: _short(_differing(several)) for name, several in flat.items()}

    def __call__(self, name: str, of: Settings) -> str:
        """The strategy, and in brackets its values of the settings in which those of its name differ."""
        flat = dict(_flat(of))
        words = [f"{short} {_text(flat[key])}" for key, short in self._keys.get(name, {}).items() if key in flat]
        return f"{name} ({', '.join(words)})" if words else name


def distinguished(rows: Iterable[tuple[str, Settings]]) -> list[str]:
    """A name for each of some strategies with settings; equal only where both are.

    >>> distinguished([("er", {"memory": 5, "lr": 1}), ("er", {"memory": 5, "lr": None}), ("ewc", {"lr": 3})])
    ['er (lr 1)', 'er', 'ewc']
    """
    rows = list(rows)
    labels = Labels(rows)
    return [labels(*row) for row in rows]


def _flat(value: Settings, above: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Dotted keys with values, those without a value left out."""
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, (*above, key))
        elif item is not None:
            yield ".".join((*above, key)), item


def _differing(several: list[dict[str, Any]]) -> list[str]:
    keys = [
        key for key in dict.fromkeys(key for one in several for key in one) if _several(one.get(key) for one in several)
    ]
    brief = [key for key in keys if not key.startswith(f"{_DETAILS}.")]
    shown = {tuple(_text(one.get(key)) for key in brief) for one in several}
    whole = {tuple(_text(one.get(key)) for key in keys) for one in several}
    return brief if len(shown) == len(whole) else keys


def _several(values: Iterable[Any]) -> bool:
    """True if not all values are equal."""
    return len({_text(value) for value in values}) > 1


def _short(keys: list[str]) -> dict[str, str]:
    """Dotted keys with their shortest ends that none of the others has.

    >>> _short(["optimizer.lr", "head.lr", "numerics.threads"])
    {'optimizer.lr': 'optimizer.lr', 'head.lr': 'head.lr', 'numerics.threads': 'threads'}
    """

    def end(key: str, parts: int) -> str:
        return ".".join(key.split(".")[-parts:])

    out = {}
    for key in keys:
        parts = 1
        while sum(end(other, parts) == end(key, parts) for other in keys) > 1:
            parts += 1
        out[key] = end(key, parts)
    return out


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
