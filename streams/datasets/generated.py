"""Data sets that are functions of their parameters: `data: NAME` with the parameters under the key NAME."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clbench.dataset import Facts
from clbench.streams.datasets import concepts, embedded, glyphs, grid_load, link_load
from clbench.streams.datasets.sources import Arrays
from clbench.streams.datasets.synthetic import SyntheticData

Generated = SyntheticData | glyphs.GlyphsData | link_load.LinkLoadData | grid_load.GridLoadData | concepts.ConceptsData
"""Parameters of one of them."""


@dataclass(frozen=True)
class _Source:
    """A generated data set."""

    parameters: Callable[[], Any]
    make: Callable[[Any], Arrays]
    facts: Callable[[Any], Facts]
    check: Callable[[], None] = lambda: None
    """Raises where a file that it needs is missing."""


def _of_numbers(parameters: Any) -> Facts:
    return Facts(1, False, tasks=parameters.tasks, numbers=True)


_SOURCES = {
    "synthetic": _Source(SyntheticData, embedded.synthetic, lambda p: Facts(p.classes, False)),
    "glyphs": _Source(glyphs.GlyphsData, glyphs.glyphs, lambda p: Facts(p.classes, True)),
    "link_load": _Source(link_load.LinkLoadData, link_load.link_load, _of_numbers),
    "grid_load": _Source(grid_load.GridLoadData, grid_load.grid_load, _of_numbers, grid_load.check),
    "concepts": _Source(concepts.ConceptsData, concepts.concepts, _of_numbers),
}
NAMES = tuple(_SOURCES)
FACTS = {
    "synthetic": Facts(10, False, "Gaussian classes of any size, from a seed; nothing to download"),
    "glyphs": Facts(20, True, "images of invented characters, from a seed; nothing to download"),
    "concepts": Facts(1, False, "a number by another function of the inputs in each task, from a seed", numbers=True),
    "link_load": Facts(1, False, "forecasts: loads of a network's links through failures, from a seed", numbers=True),
    "grid_load": Facts(
        1, False, "forecasts: flows of a power grid through outages; needs grid2op's files", numbers=True
    ),
}
"""For lists of data sets."""


def settled(name: str, parameters: Generated | None) -> Any:
    """The parameters of a generated data set, by default its default ones."""
    return _SOURCES[name].parameters() if parameters is None else parameters


def facts(name: str, parameters: Generated | None) -> Facts:
    """Facts of a generated data set."""
    return _SOURCES[name].facts(settled(name, parameters))


def check(name: str) -> None:
    """
    Raises:
        UserError: a generated data set needs files that are not on this machine.
    """
    _SOURCES[name].check()


def make(name: str, parameters: Generated | None) -> Arrays:
    """A generated data set.

    Raises:
        UserError: it cannot be made by these parameters.
    """
    return _SOURCES[name].make(settled(name, parameters))
