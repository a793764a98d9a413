"""`clbench features`: features of a data set by frozen networks, once, as a data set."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clbench.cli import status
from clbench.cli.arguments import integer
from clbench.cli.progress import bar
from clbench.errors import UserError
from clbench.studies.engines.local import cores

if TYPE_CHECKING:
    from clbench.cli.arguments import Verbs


def add(verbs: Verbs) -> None:
    """The verb."""
    features = verbs.add_parser("features", help="compute features of a data set by frozen networks, as a data set")
    features.add_argument(
        "data", metavar="DATA",
        help="a name (see `clbench list datasets`), npz:PATH or another path, a list [A, B], or keys of `stream:`, "
        "{data: csv:PATH, columns: {target: COLUMN}}",
    )  # fmt: skip
    features.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the npz file to write")
    features.add_argument(
        "--model", action="append", default=[], metavar="MODEL",
        help="a name (see `clbench list models`), an import path of a factory, or keys of `model:`, "
        "'{name: cnn, hidden: 64}'; repeat for several networks side by side",
    )  # fmt: skip
    features.add_argument(
        "--weights", action="append", default=[], metavar="FILE",
        help="of the network; repeat for several, of one --model or of as many",
    )  # fmt: skip
    features.add_argument(
        "--beside", action="append", default=[], type=Path, metavar="FILE",
        help="features of the same data set, whose columns come first; repeatable",
    )  # fmt: skip
    features.add_argument("--size", type=integer(2, 1024), metavar="N", help="height and width to resize images to")
    features.add_argument(
        "--normalise", choices=("unit", "standard"), help="of inputs, as `stream.normalise`; default: unit"
    )
    features.add_argument("--batch-size", type=integer(1, 1_000_000), default=256, metavar="N", help="default 256")
    features.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="of stored features")
    features.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    features.add_argument("--threads", type=integer(1, 1024), metavar="N", help="default: the machine's cores")
    features.add_argument("--force", action="store_true", help="replace a file of other features")
    features.add_argument("--quiet", action="store_true", help="no progress")
    features.set_defaults(act=_features)


def _features(options: argparse.Namespace) -> int:
    from clbench.config.benchmark import Numerics
    from clbench.extraction.settings import Extraction, data_of, networks_of

    problems: list[str] = []
    checked: list[Any] = []
    for check in (
        lambda: data_of(options.data, options.size, options.normalise),
        lambda: networks_of(options.model, options.weights),
    ):
        try:
            checked.append(check())
        except UserError as error:
            problems += error.problems
    if problems:  # all of them, before torch is imported
        raise UserError(*problems)

    import torch

    from clbench.extraction.extract import extract

    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    extraction = Extraction(
        data=checked[0], networks=checked[1], beside=tuple(options.beside), batch_size=options.batch_size,
        dtype=options.dtype, numerics=Numerics(threads=options.threads or cores(), device=device),
    )  # fmt: skip
    with contextlib.redirect_stdout(sys.stderr):  # of downloads and user-defined code
        provenance = extract(
            extraction, options.output, force=options.force, progress=_Bar(options.output.name, options.quiet)
        )
    data, width = provenance["data"], sum(entry["features"] for entry in provenance["features"])
    print(f"{options.output}: {width:,} features of {data['train']:,} training and {data['test']:,} test samples")
    return status.DONE


class _Bar:
    """A bar of samples with an ETA, on a terminal."""

    def __init__(self, label: str, quiet: bool) -> None:
        self._label, self._shown = label, False if quiet else None
        self._bar: Any = None

    def start(self, total: int, done: int) -> None:
        self._bar = bar(self._shown, total=total, initial=done, desc=self._label, unit="sample")

    def update(self, done: int) -> None:
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
