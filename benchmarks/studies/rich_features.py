"""Do the features of several networks side by side serve later classes better? benchmarks/results/rich_features.md.

    python benchmarks/studies/rich_features.py            # trains, extracts, writes the page's tables; resumes
    python benchmarks/studies/rich_features.py --quick    # one repetition of a few updates, printed

Zhang and Bottou (2023, "Learning useful representations for shifting tasks and distributions", ICML): networks of one
configuration that differ in their seeds find different features, of which each network keeps those alone that its own
training set rewards; where the distribution changes, the concatenation of several has more of what is needed than one
network of the same size. Here four small networks learn the first half of the classes of the digits; frozen, their
features (the inputs of the last layers) serve a ridge regression, a logistic regression and the nearest class mean on
the second half, on all classes, and on all classes of the inverted digits. Beside them: one such network, one trained
four times as long, one with as many features and one with as many parameters as all four, and the four before they have
learnt anything.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pages import Line, Place, interval, percent, read, write
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from clbench.extraction.extract import extract
from clbench.extraction.settings import Extraction, data_of, networks_of
from clbench.resolve import make_run
from clbench.results import files
from clbench.runner.run import execute
from clbench.streams.datasets import load

ROOT = Path(__file__).resolve().parent.parent.parent
VALUES = ROOT / "benchmarks" / "results" / "rich_features.csv"
PAGE = Place(
    ROOT / "benchmarks" / "results" / "rich_features.md",
    "<!-- tables: written by benchmarks/studies/rich_features.py -->",
    "<!-- end of tables -->",
)

NETWORKS = 4
CHANNELS, HIDDEN = [4, 8], 32
UPDATES = 600
REPETITIONS = range(10)
COLUMNS = ["features", "repetition", "parameters", "width", "target", "head", "accuracy"]
ROWS = (
    "one network", "one network, 4 x the updates", "one network, 4 x the hidden units",
    "one network, 4 x the parameters", "4 networks after one update", "4 networks side by side",
)  # fmt: skip
TARGETS = ("old classes", "new classes", "all classes", "inverted, all classes")
HEADS: dict[str, Callable[[], Any]] = {
    "ridge": lambda: make_pipeline(StandardScaler(), RidgeClassifierCV(alphas=np.logspace(-2, 4, 13))),
    "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
    "class means": NearestCentroid,
}
"""Linear heads. The strength of the ridge is chosen on the training features (leave one out)."""


# ------------------------------------------------------------------------------------------------ networks
def parameters(channels: list[int], hidden: int, outputs: int = 5) -> int:
    """Number of parameters of the network `cnn` for 8x8 grey images."""
    first, second = channels
    flat = second * 2 * 2
    return 10 * first + (9 * first + 1) * second + (flat + 1) * hidden + (hidden + 1) * outputs


def wide() -> tuple[list[int], int]:
    """Channels and hidden units of one network with the parameters of all of them: channels by the root of their
    number, hidden units to the nearest total."""
    channels, wanted = [2 * c for c in CHANNELS], NETWORKS * parameters(CHANNELS, HIDDEN)
    return channels, min(range(1, 1000), key=lambda hidden: abs(parameters(channels, hidden) - wanted))


@dataclass(frozen=True)
class Row:
    """Features that are compared: the networks that they come from."""

    name: str
    channels: list[int]
    hidden: int
    seeds: tuple[int, ...]
    updates: int

    @property
    def model(self) -> str:
        return f"{{name: cnn, channels: {self.channels}, hidden: {self.hidden}}}"


def rows(repetition: int, updates: int) -> list[Row]:
    """All rows of a repetition, whose networks have seeds that no other repetition has."""
    seeds = tuple(range(NETWORKS * repetition, NETWORKS * (repetition + 1)))
    channels, hidden = wide()
    return [
        Row(ROWS[0], CHANNELS, HIDDEN, seeds[:1], updates),
        Row(ROWS[1], CHANNELS, HIDDEN, seeds[:1], NETWORKS * updates),
        Row(ROWS[2], CHANNELS, NETWORKS * HIDDEN, seeds[:1], updates),
        Row(ROWS[3], channels, hidden, seeds[:1], updates),
        Row(ROWS[4], CHANNELS, HIDDEN, seeds, 1),
        Row(ROWS[5], CHANNELS, HIDDEN, seeds, updates),
    ]


def first_half(folder: Path) -> str:
    """The digits 0 to 4, as a data set."""
    data = load.load("digits")
    arrays: dict[str, NDArray[Any]] = {}
    for part, x, y in (("train", data.train_x, data.train_y), ("test", data.test_x, data.test_y)):
        arrays[f"{part}_x"], arrays[f"{part}_y"] = np.asarray(x)[y < 5, 0], y[y < 5]
        arrays[f"{part}_x"] = np.rint(arrays[f"{part}_x"] * (255 / 16)).astype(np.uint8)
    path = folder / "half.npz"
    files.write_arrays(path, arrays)
    return f"npz:{path}"


def trained(row: Row, seed: int, data: str, folder: Path) -> str:
    """The file of a network's weights, trained by the suite; one that is there is not trained again."""
    overrides = [
        f"stream.data={data}", "stream.tasks={by: classes, count: 1, order: natural}", f"model={row.model}",
        f"training={{iterations: {row.updates}, epochs: null}}", "evaluation.every=0",
        "training.optimizer={name: sgd, lr: 0.05, momentum: 0.9}",
    ]  # fmt: skip
    outcome = execute(
        make_run("split_digits-v1", strategy="naive", seed=seed, overrides=overrides), folder, keep=["weights"]
    )
    return str(outcome.directory / files.WEIGHTS)


# ------------------------------------------------------------------------------------------------ measurement
def targets(features: dict[str, Any]) -> Iterator[tuple[str, tuple[NDArray[Any], ...]]]:
    """Training and test features and labels of each target."""
    digits, inverted = features["digits"], features["digits_inverted"]
    for name, data, classes in zip(
        TARGETS,
        (digits, digits, digits, inverted),
        (range(5), range(5, 10), range(10), range(10)),
        strict=True,
    ):
        arrays: list[NDArray[Any]] = []
        for x, y in ((data.train_x, data.train_y), (data.test_x, data.test_y)):
            wanted = np.isin(y, list(classes))
            arrays += [np.asarray(x)[wanted], y[wanted]]
        yield name, tuple(arrays)


def measured(repetition: int, updates: int, folder: Path) -> Iterator[Line]:
    """Test accuracy of all heads on all targets, for the features of all rows."""
    half = first_half(folder)
    for row in rows(repetition, updates):
        weights = [trained(row, seed, half, folder) for seed in row.seeds]
        features = {}
        for data in ("digits", "digits_inverted"):
            path = folder / "features" / f"{data}-{repetition}-{ROWS.index(row.name)}-{updates}.npz"
            extract(Extraction(data_of(data), networks_of([row.model], weights)), path)
            features[data] = load.load(f"npz:{path}")
        size = len(row.seeds) * parameters(row.channels, row.hidden)
        width = features["digits"].shape[0]
        for target, (train_x, train_y, test_x, test_y) in targets(features):
            for head, make in HEADS.items():
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of solvers that stop at their limit of iterations
                    accuracy = make().fit(train_x, train_y).score(test_x, test_y)
                yield {
                    "features": row.name, "repetition": str(repetition), "parameters": str(size), "width": str(width),
                    "target": target, "head": head, "accuracy": f"{100 * accuracy:.4f}",
                }  # fmt: skip


# ------------------------------------------------------------------------------------------------ tables
def values(lines: list[Line], row: str, target: str, head: str) -> dict[str, float]:
    """Accuracy in percent of each repetition."""
    key = (row, target, head)
    return {x["repetition"]: float(x["accuracy"]) for x in lines if (x["features"], x["target"], x["head"]) == key}


def tables(lines: list[Line]) -> str:
    """A table for each head, and the differences of the four networks to each other row within repetitions."""
    out: list[str] = []
    for head in HEADS:
        out += [f"**{head}**", "", f"| features | parameters | width | {' | '.join(TARGETS)} |"]
        out.append("|---|---:|---:|" + "---:|" * len(TARGETS))
        for row in ROWS:
            one = next(x for x in lines if x["features"] == row)
            cells = [percent(*interval(list(values(lines, row, target, head).values()))) for target in TARGETS]
            out.append(f"| {row} | {int(one['parameters']):,} | {one['width']} | {' | '.join(cells)} |")
        for row in ROWS[:-1]:
            cells = []
            for target in TARGETS:
                many, other = (values(lines, name, target, head) for name in (ROWS[-1], row))
                cells.append(percent(*interval([many[r] - other[r] for r in many]), sign="+"))
            out.append(f"| *side by side, less {row}* | | | {' | '.join(cells)} |")
        out.append("")
    return "\n".join(out[:-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one repetition of a few updates, printed")
    parser.add_argument("--out", type=Path, help="folder of weights and features; default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        if options.quick:
            print(tables(list(measured(0, 5, folder))))
            return 0
        lines = read(VALUES)
        for repetition in REPETITIONS:
            if str(repetition) not in {line["repetition"] for line in lines}:
                lines += measured(repetition, UPDATES, folder)
                write(VALUES, COLUMNS, lines)
    PAGE.write(f"\n{tables(lines)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
