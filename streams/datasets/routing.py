"""Shortest paths in a small network with failed links."""

from __future__ import annotations

import heapq
from collections.abc import Collection
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from clbench.streams.datasets.topologies import Topology

Path = tuple[int, ...]


def shortest_paths(topology: Topology, source: int, failed: Collection[int] = ()) -> dict[int, Path]:
    """Shortest paths to all nodes within reach (Dijkstra 1959); of equal lengths the first by node numbers.

    Args:
        topology: the network.
        source: a node.
        failed: numbers of links that carry nothing.

    Returns:
        The nodes of the path to each node, both ends included; that to `source` is `(source,)`.

    >>> from clbench.streams.datasets.topologies import TOPOLOGIES
    >>> shortest_paths(TOPOLOGIES["abilene"], 0)[11], shortest_paths(TOPOLOGIES["abilene"], 0, failed=[3])[11]
    ((0, 1, 11), (0, 1, 5, 2, 8, 11))
    """
    neighbours: dict[int, list[tuple[int, int]]] = {node: [] for node in range(len(topology.nodes))}
    for number, (a, b, length) in enumerate(topology.links):
        if number not in failed:
            neighbours[a].append((b, length))
            neighbours[b].append((a, length))
    paths: dict[int, Path] = {}
    waiting: list[tuple[int, Path]] = [(0, (source,))]
    while waiting:
        distance, path = heapq.heappop(waiting)
        if path[-1] in paths:
            continue
        paths[path[-1]] = path
        for node, length in neighbours[path[-1]]:
            if node not in paths:
                heapq.heappush(waiting, (distance + length, (*path, node)))
    return paths


def pairs(topology: Topology) -> list[tuple[int, int]]:
    """Ordered pairs of different nodes: the demands, in the order of their numbers."""
    nodes = range(len(topology.nodes))
    return [(a, b) for a in nodes for b in nodes if a != b]


def routing(topology: Topology, failed: Collection[int] = ()) -> NDArray[np.bool_] | None:
    """Which demand uses which link, bool (pairs, links); None where a pair is cut off.

    Args:
        topology, failed: see `shortest_paths`.
    """
    number = {(a, b): i for i, (a, b, _) in enumerate(topology.links)}
    uses = np.zeros((len(pairs(topology)), len(topology.links)), np.bool_)
    paths = [shortest_paths(topology, source, failed) for source in range(len(topology.nodes))]
    for row, (a, b) in enumerate(pairs(topology)):
        if b not in paths[a]:
            return None
        path = paths[a][b]
        uses[row, [number[min(ends), max(ends)] for ends in pairwise(path)]] = True
    return uses
