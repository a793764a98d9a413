"""Names as people type them: `ER`, `Er-Ace`, `CIFAR-10` are `er`, `er_ace`, `cifar10`."""

from __future__ import annotations

import re
from collections.abc import Iterable


def folded(name: str) -> str:
    """A name without what people vary: its case, and `-`, `_` and spaces; a `+` reads as the letter p.

    >>> folded("ER-ACE"), folded("DER++"), folded("Fashion MNIST")
    ('erace', 'derpp', 'fashionmnist')
    """
    return re.sub(r"[-_ ]", "", name.casefold()).replace("+", "p")


def match(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed name that a name stands for: itself, else the only one that is folded to the same; None for none.

    >>> match("ER", ["er", "er_ace"]), match("er-ace", ["er", "er_ace"]), match("Er", ["ER", "er"])
    ('er', 'er_ace', None)
    """
    words = list(allowed)
    if name in words:
        return name
    alike = [word for word in words if folded(word) == folded(name)]
    return alike[0] if len(alike) == 1 else None


def split(composition: str) -> list[str]:
    """The names that `+` joins; `++` is the end of a name, as of `DER++`.

    >>> split("er+ewc"), split("DER++"), split("DER+++EWC"), split("er+")
    (['er', 'ewc'], ['DER++'], ['DER++', 'EWC'], ['er', ''])
    """
    parts = re.findall(r"[^+]+(?:\+\+(?=\+|$))?", composition)
    return parts if "+".join(parts) == composition else composition.split("+")
