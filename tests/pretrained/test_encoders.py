"""Pretrained encoders with random weights: what they compute, by a few lines by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.errors import UserError
from clbench.evaluation.inputs import TestInputs
from clbench.evaluation.passes import Passes
from clbench.evaluation.reduced_precision import Reduced
from clbench.pretrained import efficientnet_lite0, images, minilm, vit_s14
from clbench.streams.compile import compile_stream
from clbench.streams.definition import StreamConfig
from clbench.training.inputs import InputTransform
from clbench.training.transformers import encoder_of

EXACT = {"rtol": 0.0, "atol": 1e-12}
"""Float64: the order of sums alone differs, of a few hundred terms of size one."""


def randomised(encoder: nn.Module) -> nn.Module:
    """In float64, with weights that leave no term out."""
    generator = torch.Generator().manual_seed(0)
    encoder.double()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 2)
    return encoder.eval()


@pytest.fixture
def text() -> Any:
    return randomised(minilm.Encoder(8, 2, 2, 30))


@pytest.fixture
def vision() -> Any:
    encoder: Any = randomised(vit_s14.Encoder(28, 8, 2, 2))
    with torch.no_grad():
        encoder.position[:, 1:] = encoder.position[:, 1:2]  # resampling leaves what is constant as it is
    return encoder


IDS = torch.tensor([[11, 4, 7, 12], [11, 29, 12, 0], [11, 12, 0, 0]]).double()


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(math.prod(shape)), dtype=torch.float64)


def attention(block: Any, x: Tensor, extra: tuple[Tensor, Tensor] | None) -> Tensor:
    """Of one sample's tokens (T, width), which also attend to `extra` keys and values (M, width): head by head."""
    width = x.shape[1]
    q, k, v = (block.qkv(x)[:, i * width : (i + 1) * width] for i in range(3))
    if extra is not None:
        k, v = torch.cat([extra[0], k]), torch.cat([extra[1], v])
    size, outs = width // block.heads, []
    for h in range(block.heads):
        of = slice(h * size, (h + 1) * size)
        outs.append(torch.softmax(q[:, of] @ k[:, of].T / math.sqrt(size), 1) @ v[:, of])
    return torch.cat(outs, 1)


def text_by_hand(
    encoder: Any, ids: Tensor, prompts: Tensor | None, prefixes: dict[int, tuple[Tensor, Tensor]]
) -> Tensor:
    """Row by row, of the tokens that are there alone."""
    rows = []
    for row in ids:
        tokens = row[row != 0].long()
        x = encoder.norm(encoder.word[tokens] + encoder.position[: len(tokens)] + encoder.segment[0])
        x = x if prompts is None else torch.cat([prompts, x])
        for i, block in enumerate(encoder.blocks):
            x = block.norm1(x + block.out(attention(block, x, prefixes.get(i))))
            x = block.norm2(x + block.fc2(F.gelu(block.fc1(x))))
        rows.append(x[-len(tokens) :].mean(0))
    return torch.stack(rows)


def vision_by_hand(
    encoder: Any, x: Tensor, prompts: Tensor | None, prefixes: dict[int, tuple[Tensor, Tensor]]
) -> Tensor:
    """Image by image, patch by patch; the images have the size of the encoder's input."""
    mean, std = (
        torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (images.IMAGENET_MEAN, images.IMAGENET_STD)
    )
    weight, rows = encoder.embed.weight.flatten(1), []
    for image in (x - mean) / std:
        patches = [image[:, a : a + 14, b : b + 14].flatten() for a in (0, 14) for b in (0, 14)]
        tokens = torch.stack(patches) @ weight.T + encoder.embed.bias + encoder.position[0, 1]
        first = (encoder.token + encoder.position[:, :1])[0]
        z = torch.cat([first, *([] if prompts is None else [prompts]), tokens])
        for i, block in enumerate(encoder.blocks):
            z = z + block.scale1 * block.out(attention(block, block.norm1(z), prefixes.get(i)))
            z = z + block.scale2 * block.fc2(F.gelu(block.fc1(block.norm2(z))))
        rows.append(encoder.norm(z[0]))
    return torch.stack(rows)


PROMPTS = [None, random(3, 8)]
PREFIXES = [
    {},
    {1: (random(2, 8), random(1, 2, 8)[0])},
    {0: (random(1, 8), random(8, 1).T), 1: (random(4, 8), random(4, 8) + 1)},
]


@pytest.mark.parametrize("prompts", PROMPTS)
@pytest.mark.parametrize("prefixes", PREFIXES)
def test_text_features_are_those_by_hand(text: Any, prompts: Tensor | None, prefixes: Any) -> None:
    torch.testing.assert_close(text(IDS, prompts, prefixes), text_by_hand(text, IDS, prompts, prefixes), **EXACT)


@pytest.mark.parametrize("prompts", PROMPTS)
@pytest.mark.parametrize("prefixes", PREFIXES)
def test_image_features_are_those_by_hand(vision: Any, prompts: Tensor | None, prefixes: Any) -> None:
    x = random(2, 3, 28, 28).sigmoid()
    torch.testing.assert_close(vision(x, prompts, prefixes), vision_by_hand(vision, x, prompts, prefixes), **EXACT)


def test_padding_changes_no_feature(text: Any) -> None:
    padded = F.pad(IDS, (0, 5))
    prefixes = {0: (random(2, 8), random(2, 8))}
    torch.testing.assert_close(text(padded), text(IDS), **EXACT)
    torch.testing.assert_close(text(padded, random(3, 8), prefixes), text(IDS, random(3, 8), prefixes), **EXACT)


def test_a_sample_has_prompts_and_prefixes_of_its_own(text: Any) -> None:
    prompts, keys, values = random(3, 2, 8), random(3, 4, 8), random(3, 4, 8)
    together = text(IDS, prompts, {1: (keys, values)})
    alone = [text(IDS[i : i + 1], prompts[i], {1: (keys[i], values[i])}) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), **EXACT)


def test_a_text_of_padding_alone_has_finite_features(text: Any) -> None:
    assert text(torch.zeros(2, 4).double()).isfinite().all()


def test_ids_that_are_not_whole_are_refused(text: Any) -> None:
    with pytest.raises(UserError) as caught:
        text(IDS + 0.5)
    assert str(caught.value) == (
        "model.factory: MiniLM reads ids of tokens, and got numbers that are not whole. "
        "Allowed: inputs of clbench.pretrained.minilm:tokenise, and `stream.normalise: unit`."
    )


def test_methods_with_prompts_take_these_encoders(text: Any, vision: Any) -> None:
    for encoder in (text, vision):
        taken = encoder_of(nn.Sequential(encoder, nn.Linear(8, 2)), "l2p")
        assert (taken.width, taken.depth) == (8, 2)


# ------------------------------------------------------------------------------------------------ images
def test_images_become_the_size_and_range_of_the_network() -> None:
    scaling = images.Scaling(4, (0.5, 0.25, 0.0), (1.0, 2.0, 4.0))
    grey = torch.tensor([[0.0, 1.0], [0.5, 0.25]])[None, None]
    out = scaling(grey)
    assert out.shape == (1, 3, 4, 4)
    share = torch.tensor([[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]])  # bilinear, between centres
    enlarged = share @ grey[0, 0] @ share.T
    for channel, (mean, std) in enumerate(zip(scaling.mean, scaling.std, strict=True)):
        torch.testing.assert_close(out[0, channel], (enlarged - mean) / std)
    with pytest.raises(UserError) as caught:
        scaling(grey * 2 - 1)
    assert str(caught.value) == (
        "model.factory: a pretrained network normalises its images itself, and got values from -1.00 to 1.00. "
        "Allowed: 0 to 1, which `stream.normalise: unit` gives of uint8."
    )


@pytest.mark.parametrize("size", [5, 6, 7])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 2), (1, 1)])
def test_the_odd_pixel_of_the_padding_comes_last(size: int, kernel: int, stride: int) -> None:
    convolution = efficientnet_lite0.Convolution(1, 1, kernel, stride).double()
    x = random(1, 1, size, size)
    weight, outputs = convolution.weight[0, 0], -(-size // stride)
    before = max((outputs - 1) * stride + kernel - size, 0) // 2
    by_hand = torch.zeros(outputs, outputs).double()
    for i in range(outputs):
        for j in range(outputs):
            for a in range(kernel):
                for b in range(kernel):
                    row, column = i * stride + a - before, j * stride + b - before
                    if 0 <= row < size and 0 <= column < size:
                        by_hand[i, j] += weight[a, b] * x[0, 0, row, column]
    torch.testing.assert_close(convolution(x)[0, 0], by_hand, **EXACT)


def test_features_of_an_image_depend_on_it_alone() -> None:
    encoder = randomised(efficientnet_lite0.Encoder(32))
    x = random(2, 3, 16, 16).sigmoid()
    together, alone = encoder(x), torch.cat([encoder(x[:1]), encoder(x[1:])])
    scale = float(together.detach().abs().max())
    torch.testing.assert_close(together / scale, alone / scale, **EXACT)


# ------------------------------------------------------------------------------------------------ the tokeniser
def test_pieces_are_the_longest_from_the_left() -> None:
    pieces = ["un", "##aff", "##able", "##a", "una", "##ffable", "!", "run"]
    words = minilm.WordPiece({piece: 200 + i for i, piece in enumerate(pieces)})
    assert words.pieces("unaffable") == [204, 205]
    assert words.encode("Run,  UNAFFABLE!\n", 20) == [101, 207, 100, 204, 205, 206, 102]
    assert words.encode("run run run run", 4) == [101, 207, 207, 102]
    assert words.encode("", 4) == [101, 102]
    assert words.pieces("a" * 101) == [100]


def test_words_lose_case_accents_and_control_characters() -> None:
    words = list(minilm.split_words("Ça va—bien?\x00 naïve\u200b 中文x$y"))
    assert words == ["ca", "va", "—", "bien", "?", "naive", "中", "文", "x", "$", "y"]


# ------------------------------------------------------------------------------------------------ ids of tokens
def test_ids_pass_through_the_data_path_as_they_are(tmp_path: Path) -> None:
    ids = np.arange(minilm.VOCABULARY, dtype=np.float32).reshape(-1, 6)
    np.savez(tmp_path / "t.npz", x=ids, y=np.arange(len(ids)) % 2)
    config = {"data": f"npz:{tmp_path / 't.npz'}", "tasks": {"by": "classes", "count": 2}, "setting": "class"}
    stream = compile_stream(StreamConfig.model_validate(config), 0)
    transform = InputTransform(stream, torch.device("cpu"))
    seen = [transform(torch.from_numpy(np.asarray(x)), 0).long() for x in (stream.data.train_x, stream.data.test_x)]
    assert torch.cat(seen).flatten().sort().values.tolist() == list(range(minilm.VOCABULARY))


def test_evaluation_in_bfloat16_does_not_round_ids() -> None:
    """Rounded to bfloat16, 257 and 258 are one token, and the scores of one sample those of another."""
    torch.manual_seed(0)
    model = nn.Sequential(minilm.Encoder(8, 1, 2, 1000), nn.Linear(8, 2)).eval()
    with torch.no_grad():
        model[0].word.normal_()
    x = torch.arange(900.0, 964.0)[:, None].repeat(1, 2)
    way = Reduced()
    with torch.inference_mode():
        way.begin(model, x, True, 1)
        low = way._scores((0, 64), Passes(TestInputs(x), torch.device("cpu"), 64), False)
        exact = model(x)
    assert (low - exact).abs().max() < 0.1 * exact.std()  # of about 2^-8 a product
