"""Two backbone networks: nodes, links and traffic of nodes, as a small table.

Facts from SNDlib (Orlowski, Wessäly, Pióro and Tomaszewski 2010, Networks 55): `abilene`, 12 nodes and 15 links, and
`geant`, 22 nodes and 36 links. The share of a node is that of its row and column in the network's demand matrix, in
thousandths of all; the hours are those of the node's winter time from UTC.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Topology:
    """A network.

    Attributes:
        nodes: names.
        shares: of traffic that begins or ends at each node, in thousandths.
        hours: local time minus UTC.
        links: the two nodes of each, the smaller number first, and its length in units of 100 m.
    """

    nodes: tuple[str, ...]
    shares: tuple[int, ...]
    hours: tuple[int, ...]
    links: tuple[tuple[int, int, int], ...]

    @property
    def link_names(self) -> tuple[str, ...]:
        """
        >>> TOPOLOGIES["abilene"].link_names[0]
        'ATLAM5-ATLAng'
        """
        return tuple(f"{self.nodes[a]}-{self.nodes[b]}" for a, b, _ in self.links)


TOPOLOGIES = {
    "abilene": Topology(
        nodes=(
            "ATLAM5", "ATLAng", "CHINng", "DNVRng", "HSTNng", "IPLSng", "KSCYng", "LOSAng", "NYCMng", "SNVAng",
            "STTLng", "WASHng",
        ),
        shares=(5, 68, 262, 32, 122, 38, 20, 233, 73, 23, 45, 78),
        hours=(-5, -5, -6, -7, -6, -5, -6, -8, -5, -8, -8, -5),
        links=(
            (0, 1, 1324), (1, 4, 10795), (1, 5, 5902), (1, 11, 8995), (2, 5, 2592), (2, 8, 11452), (3, 6, 7442),
            (3, 9, 15144), (3, 10, 15714), (4, 6, 10271), (4, 7, 21936), (5, 6, 9015), (7, 9, 5038), (8, 11, 3351),
            (9, 10, 11363),
        ),
    ),
    "geant": Topology(
        nodes=(
            "at1", "be1", "ch1", "cz1", "de1", "es1", "fr1", "gr1", "hr1", "hu1", "ie1", "il1", "it1", "lu1", "nl1",
            "ny1", "pl1", "pt1", "se1", "si1", "sk1", "uk1",
        ),
        shares=(70, 98, 202, 20, 107, 23, 79, 12, 28, 31, 13, 5, 20, 5, 30, 57, 17, 22, 71, 19, 24, 47),
        hours=(1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 0, 2, 1, 1, 1, -5, 1, 0, 1, 1, 1, 0),
        links=(
            (0, 2, 8040), (0, 4, 5976), (0, 9, 2179), (0, 15, 67972), (0, 19, 2776), (1, 6, 2638), (1, 13, 1868),
            (1, 14, 1692), (2, 6, 4098), (2, 12, 2503), (3, 4, 4108), (3, 16, 3089), (3, 20, 2900), (4, 6, 4783),
            (4, 7, 17933), (4, 10, 10878), (4, 12, 5184), (4, 14, 3584), (4, 18, 11836), (5, 6, 10536),
            (5, 12, 11885), (5, 17, 5031), (6, 13, 2869), (6, 21, 3437), (7, 12, 14528), (8, 9, 3040), (8, 19, 1155),
            (9, 20, 1638), (10, 21, 4629), (11, 12, 26564), (11, 14, 32938), (14, 21, 3592), (15, 21, 55708),
            (16, 18, 7772), (17, 21, 15870), (18, 21, 14252),
        ),
    ),
}  # fmt: skip
