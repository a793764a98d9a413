"""`clbench list`: names of streams, strategies, data sets, models and metrics."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from clbench.cli.catalogue import KINDS, catalogue

if TYPE_CHECKING:
    from clbench.cli.arguments import Verbs


def add(verbs: Verbs) -> None:
    """The verb."""
    listing = verbs.add_parser("list", help="names of streams, strategies, data sets, models, metrics")
    listing.add_argument("kind", choices=KINDS, metavar="|".join(KINDS))
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(act=_list)


def _list(options: argparse.Namespace) -> int:
    names = catalogue(options.kind)
    if options.json:
        print(json.dumps(names, indent=1))
    else:
        width = max(map(len, names))
        for name, summary in names.items():
            print(f"{name.ljust(width)}  {summary}".rstrip())
    return 0
