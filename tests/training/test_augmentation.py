"""Augmentation: with given parameters what torchvision makes of an image, parameters by their laws, its own chance.

Statistics are of fixed seeds, so that a test passes or fails for ever; limits are exceeded by one seed in 1,000.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms.v2 import functional as theirs

from clbench import messages
from clbench.config import benchmark
from clbench.config.augmentation import (
    Augmentation,
    ColorJitter,
    HorizontalFlip,
    RandomCrop,
    Rotation,
    augmentation_mistakes,
)
from clbench.config.training import Training
from clbench.errors import RunFailed, UserError
from clbench.resolve import make_run
from clbench.rng import ROLES, Chance, Generator
from clbench.run_config import RunConfig
from clbench.streams.compile import compile_stream
from clbench.training import augmentation
from clbench.training.augmentation import Augmenter
from clbench.training.inputs import InputTransform
from clbench.training.training_set import TrainingSet

CPU = torch.device("cpu")
COLORS = ("brightness", "contrast", "saturation", "hue")
ALPHA = 0.001
EVERYTHING: list[dict[str, Any]] = [
    {"name": "random_crop", "padding": 3},
    {"name": "horizontal_flip", "probability": 0.3},
    {"name": "rotation", "degrees": 40},
    {"name": "color_jitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
]


def images(n: int, channels: int = 3, height: int = 12, width: int = 12, seed: int = 0) -> Tensor:
    """uint8: noise, with whole images of grey, black and white pixels among it."""
    x = np.random.default_rng(seed).integers(0, 256, (n, channels, height, width), dtype=np.uint8)
    x[1], x[2] = 0, 255
    x[3] = x[3, :1]
    x[4, :, : height // 2] = x[4, :1, : height // 2]
    return torch.from_numpy(x)


def parts_of(said: Any) -> list[Augmentation]:
    training = {"epochs": 1, "batch_size": 1, "optimizer": {"name": "sgd", "lr": 1}, "augmentation": said}
    found, problems = messages.check_section("here", "training", Training, training, [])
    if problems:
        raise UserError(*problems)
    parts: list[Augmentation] = found.augmentation
    return parts


def augmenter(said: Any, seed: int = 0, shape: tuple[int, ...] = (3, 12, 12), top: float = 255.0) -> Augmenter:
    return Augmenter(parts_of(said), Generator(seed, "augmentation"), shape, top, CPU)


def jitter(**spread: float) -> ColorJitter:
    return ColorJitter(name="color_jitter", **spread)


# ------------------------------------------------------------------------------------------------ given parameters
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(("channels", "height", "width"), [(3, 12, 12), (1, 7, 10)])
def test_crop_and_flip_are_torchvisions(dtype: torch.dtype, channels: int, height: int, width: int) -> None:
    padding = 3
    offsets = list(itertools.product(range(2 * padding + 1), repeat=2))
    x = images(len(offsets), channels, height, width).to(dtype)
    top, left = torch.tensor(offsets).unbind(1)
    wanted = [
        theirs.crop(theirs.pad(image, [padding] * 4), t, s, height, width)
        for image, (t, s) in zip(x, offsets, strict=True)
    ]
    found = augmentation.crop(x, top, left, padding)
    assert found.dtype == dtype
    assert torch.equal(found, torch.stack(wanted))
    flipped = torch.arange(len(x)) % 3 == 0
    wanted = [theirs.horizontal_flip(i) if f else i for i, f in zip(x, flipped, strict=True)]
    assert torch.equal(augmentation.flip(x, flipped), torch.stack(wanted))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(("channels", "height", "width"), [(3, 32, 32), (1, 9, 14)])
def test_rotation_is_torchvisions(dtype: torch.dtype, channels: int, height: int, width: int) -> None:
    """Every pixel, but where a place lies within 1e-4 pixels of the middle between two: another processor may round
    it to the other one. These are fewer than one in 100; of 2,003 angles of 32 x 32 pixels one pixel was another."""
    degrees = np.concatenate([Generator(1).uniform(200) * 360 - 180, [0.0, 15, 45]])
    x = images(len(degrees), channels, height, width).to(dtype)
    found = augmentation.rotate(x, torch.from_numpy(degrees))
    wanted = torch.stack([theirs.rotate(i, float(a), fill=0) for i, a in zip(x, degrees, strict=True)])
    angle = np.deg2rad(degrees)[:, None, None]
    across, down = np.arange(width) - (width - 1) / 2, (np.arange(height) - (height - 1) / 2)[:, None]
    ties = np.zeros((len(x), height, width), np.bool_)
    for place, size in (
        (across * np.cos(angle) - down * np.sin(angle), width),
        (across * np.sin(angle) + down * np.cos(angle), height),
    ):
        ties |= np.abs((place + size / 2) % 1 - np.round((place + size / 2) % 1)) < 1e-4
    ties[degrees == 0] = False
    clear = torch.from_numpy(~ties).unsqueeze(1).expand_as(x)
    assert ties[:200].mean() < 0.01
    assert found.dtype == dtype
    assert torch.equal(found[clear], wanted[clear])


@pytest.mark.parametrize("degrees", [0, 90, 180, 270, -90, 360])
def test_right_angles_turn_square_images_exactly(degrees: int) -> None:
    for size in (8, 9):
        x = images(5, 3, size, size)
        found = augmentation.rotate(x, torch.full((5,), float(degrees), dtype=torch.float64))
        assert torch.equal(found, torch.rot90(x, degrees // 90, (2, 3)))


@pytest.mark.parametrize(("name", "channels"), [*((name, 3) for name in COLORS), ("brightness", 1), ("contrast", 1)])
def test_colours_are_torchvisions(name: str, channels: int) -> None:
    """Whole numbers within one level: brightness exactly; the others round in another order than torchvision, and what
    lies at a whole number falls to this side of it or that. Fractions within 2e-6: a hue in sixths, below 8, is
    rounded by up to 2^-22 in each of a few steps."""
    x = images(64, channels)
    factor = torch.from_numpy(Generator(2).uniform(64)) * (1 if name == "hue" else 2) - (name == "hue") * 0.5
    factor[:2] = torch.tensor([-0.5, 0.5] if name == "hue" else [0, 2])
    change, adjust = augmentation.COLORS[name], getattr(theirs, f"adjust_{name}")
    for stored, top, limit in ((x, 255.0, 0 if name == "brightness" else 1), (x / 255, 1.0, 2e-6)):
        found = change(stored, factor, top)
        wanted = torch.stack([adjust(i, f) for i, f in zip(stored, factor.tolist(), strict=True)])
        difference = (found.double() - wanted.double()).abs()
        assert found.dtype == stored.dtype
        assert difference.max() <= limit
        assert (difference > 0).double().mean() < 0.01 or top == 1.0


def test_the_top_of_the_data_takes_the_place_of_255() -> None:
    x = images(20) % 17  # 0..16, as scikit-learn's digits
    factor = torch.full((20,), 1.7)
    assert augmentation.brightness(x, factor, 16.0).max() == 16
    for name in ("contrast", "saturation"):
        assert augmentation.COLORS[name](x, factor, 16.0).max() == 16
    turned = torch.stack([theirs.adjust_hue(i, 0.2) for i in x / 16])
    difference = augmentation.hue(x, torch.full((20,), 0.2), 16.0) - turned * 16
    assert (difference > -1).all()
    assert (difference < 0.999).all(), "rounded down, from up to 16.999 as torchvision does"


@pytest.mark.parametrize("asked", [("brightness",), ("contrast", "hue"), COLORS])
def test_each_sample_has_changes_in_its_own_order(asked: tuple[str, ...]) -> None:
    """In fractions, where nothing is rounded between two changes. Contrasts up to 1.4 magnify an error of 2e-6."""
    x = images(60) / 255
    factors, order = augmentation.draw_jitter(Generator(3), 60, jitter(**dict.fromkeys(asked, 0.4)))
    assert list(factors) == [name for name in COLORS if name in asked]
    found = augmentation.color_jitter(x, {k: torch.from_numpy(v) for k, v in factors.items()}, order, 1.0)
    for i, image in enumerate(x):
        for number in order[i]:
            name = list(factors)[number]
            image = getattr(theirs, f"adjust_{name}")(image, float(factors[name][i]))
        assert torch.allclose(found[i], image, rtol=0, atol=1e-5), i
    assert len({tuple(o) for o in order.tolist()}) >= [0, 1, 2, 6, 18][len(asked)]


@pytest.mark.parametrize("said", [EVERYTHING, EVERYTHING[::-1], [EVERYTHING[2], EVERYTHING[0], EVERYTHING[2]]])
def test_parts_apply_in_their_order_with_draws_in_that_order(said: list[dict[str, Any]]) -> None:
    """70 images: rotation makes two pieces of them."""
    x, generator = images(70) / 255, Generator(4, "augmentation")
    wanted = list(x)
    for part in parts_of(said):
        if isinstance(part, RandomCrop):
            top, left = augmentation.draw_crop(generator, 70, 3)
            padded = [theirs.pad(i, [3] * 4) for i in wanted]
            wanted = [theirs.crop(i, int(t), int(s), 12, 12) for i, t, s in zip(padded, top, left, strict=True)]
        elif isinstance(part, HorizontalFlip):
            flips = augmentation.draw_flip(generator, 70, 0.3)
            wanted = [i.flip(-1) if f else i for i, f in zip(wanted, flips, strict=True)]
        elif isinstance(part, Rotation):
            degrees = augmentation.draw_degrees(generator, 70, 40)
            wanted = [theirs.rotate(i, float(d), fill=0) for i, d in zip(wanted, degrees, strict=True)]
        else:
            factors, order = augmentation.draw_jitter(generator, 70, part)
            for i, numbers in enumerate(order):
                for name in (COLORS[k] for k in numbers):
                    wanted[i] = getattr(theirs, f"adjust_{name}")(wanted[i], float(factors[name][i]))
    found = augmenter(said, 4, top=1.0)(x)
    assert torch.allclose(found, torch.stack(wanted), rtol=0, atol=1e-5)


# ------------------------------------------------------------------------------------------------ laws of parameters
DRAWS = 10_000


def test_offsets_of_crops_are_uniform_and_independent() -> None:
    top, left = augmentation.draw_crop(Generator(5), DRAWS, 4)
    counts = np.bincount(9 * top + left, minlength=81)
    assert len(counts) == 81
    assert stats.chisquare(counts).pvalue > ALPHA


@pytest.mark.parametrize("probability", [0.3, 1.0])
def test_flips_have_their_probability(probability: float) -> None:
    flips = int(augmentation.draw_flip(Generator(6), DRAWS, probability).sum())
    assert stats.binomtest(flips, DRAWS, probability).pvalue > ALPHA


def test_angles_are_uniform() -> None:
    drawn = augmentation.draw_degrees(Generator(7), DRAWS, 15)
    assert stats.kstest(drawn, stats.uniform(-15, 30).cdf).pvalue > ALPHA


def test_factors_are_uniform_and_independent() -> None:
    spread = {"brightness": 0.3, "contrast": 1.5, "saturation": 1.0, "hue": 0.2}
    limits = {"brightness": (0.7, 1.3), "contrast": (0, 2.5), "saturation": (0, 2), "hue": (-0.2, 0.2)}
    factors, _ = augmentation.draw_jitter(Generator(8), DRAWS, jitter(**spread))
    for name, (low, high) in limits.items():
        assert stats.kstest(factors[name], stats.uniform(low, high - low).cdf).pvalue > ALPHA, name
    for a, b in itertools.combinations(factors.values(), 2):
        assert stats.pearsonr(a, b).pvalue > ALPHA


@pytest.mark.parametrize("asked", [("contrast", "hue"), COLORS])
def test_orders_are_uniform(asked: tuple[str, ...]) -> None:
    _, order = augmentation.draw_jitter(Generator(9), DRAWS, jitter(**dict.fromkeys(asked, 0.1)))
    counts = Counter(map(tuple, order.tolist()))
    orders = list(itertools.permutations(range(len(asked))))
    assert set(counts) == set(orders)
    assert stats.chisquare([counts[o] for o in orders]).pvalue > ALPHA


@pytest.mark.parametrize("part", EVERYTHING, ids=lambda part: str(part["name"]))
def test_samples_of_a_batch_have_draws_of_their_own(part: dict[str, Any]) -> None:
    """One image 200 times. Two flips look alike, everything else seldom: 49 crops, and angles that move a pixel."""
    once = images(6, seed=1)[:1]
    found = augmenter([part])(once.expand(200, -1, -1, -1))
    distinct = len({image.numpy().tobytes() for image in found})
    assert distinct == 2 if part["name"] == "horizontal_flip" else distinct > 40


# ------------------------------------------------------------------------------------------------ the augmenter
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_one_seed_one_augmentation_and_a_state_continues(dtype: torch.dtype) -> None:
    x = images(30).to(dtype)
    before = x.clone()
    one, same, other = augmenter(EVERYTHING), augmenter(EVERYTHING), augmenter(EVERYTHING, seed=1)
    first = one(x)
    assert torch.equal(x, before), "what was given is left as it is"
    assert (first.shape, first.dtype) == (x.shape, dtype)
    assert torch.equal(first, same(x))
    assert not torch.equal(first, other(x))
    second = one(x)
    assert not torch.equal(first, second), "drawn anew each time"
    again = augmenter(EVERYTHING, seed=2)
    again.load_state_dict(same.state_dict())
    assert torch.equal(again(x), second)


def test_global_generators_are_left_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    augmenter(EVERYTHING)(images(9))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


@pytest.mark.parametrize("n", [0, 1])
def test_small_batches(n: int) -> None:
    x = images(5)[:n]
    assert augmenter(EVERYTHING)(x).shape == x.shape


# ------------------------------------------------------------------------------------------------ what is refused
@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            [{"name": "random_crp"}],
            "[0].name: got 'random_crp'. Did you mean 'random_crop'? "
            "Allowed: random_crop, horizontal_flip, rotation, color_jitter.",
        ),
        (["rotation"], "[0]: got 'rotation'. Did you mean {name: rotation}? Allowed: keys and values."),
        ({"name": "rotation"}, ": got {name: 'rotation'}. Allowed: a list of mappings."),
        ([EVERYTHING[1], {"name": "random_crop", "padding": 0}], "[1].padding: got 0. Allowed: an integer >= 1."),
        (
            [{"name": "horizontal_flip", "probability": 1.5}],
            "[0].probability: got 1.5. Allowed: a number > 0 and <= 1.",
        ),
        ([{"name": "rotation", "degrees": 181}], "[0].degrees: got 181. Allowed: a number > 0 and <= 180."),
        ([{"name": "color_jitter", "hue": 0.6}], "[0].hue: got 0.6. Allowed: a number from 0 to 0.5."),
        (
            [{"name": "color_jitter"}],
            "[0]: needs 'brightness', 'contrast', 'saturation' or 'hue' above 0.",
        ),
    ],
)  # fmt: skip
def test_mistakes_have_one_sentence(said: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parts_of(said)
    assert caught.value.problems == (f"here: training.augmentation{message}",)


@pytest.mark.parametrize(
    ("shape", "problems"),
    [
        ((64,), ["training.augmentation: needs images, and the data set holds vectors."]),
        (
            (1, 8, 8),
            [
                f"training.augmentation[3].{key}: needs images of 3 channels, and the data set has 1."
                for key in ("saturation", "hue")
            ],
        ),
        ((4, 8, 8), ["training.augmentation[3]: needs images of 1 or 3 channels, and the data set has 4."]),
        ((3, 8, 8), []),
    ],
)
def test_data_that_cannot_be_augmented_is_refused(shape: tuple[int, ...], problems: list[str]) -> None:
    if problems:
        with pytest.raises(UserError) as caught:
            augmenter(EVERYTHING, shape=shape)
        assert list(caught.value.problems) == problems
    else:
        augmenter(EVERYTHING, shape=shape)
    augmenter([], shape=shape)
    assert len(augmentation_mistakes(parts_of(EVERYTHING), "'x'", len(shape) == 3)) == (len(shape) == 1)


# ------------------------------------------------------------------------------------------------ identity
BEFORE = {
    "split_digits-v1": (
        "ae7eed042626fe3a5b8bc929bd1d0e8f35e7fd176f22f51e716db2c0747b435d",
        "87f1f8cd26805ea8312b844d43c0ad70810d59a3e45e34f02b598243155cc028",
    ),
    "split_cifar10-v1": (
        "bf6d3c2dee30081f07c6bafdea26eeb6a8358675d3ef817bc59c134ff3c5359b",
        "dc6d819521e35193aecea103273fee91ce8e8b2cfb663f5715727b79a839c8c4",
    ),
    "scole_digits-v1": (
        "4af5a70d6d3637166250e0313921c4b18e2f7aea6a1ba184e8f64eefdc6f7bdf",
        "1d2fcebc5bdb8d1500a4ed8bcb26a7520d3464aeae34c32654d14d772e4c623b",
    ),
}


@pytest.mark.parametrize("name", BEFORE)
def test_benchmarks_and_runs_without_augmentation_are_who_they_were(name: str) -> None:
    run = make_run(name, strategy="er", seed=3)
    assert (run.definition_hash, run.run_id) == BEFORE[name]
    empty = make_run(name, strategy="er", seed=3, overrides=["training.augmentation=[]"])
    assert empty.run_id == run.run_id
    crop = make_run(name, strategy="er", seed=3, overrides=["training.augmentation=[{name: random_crop}]"])
    assert crop.definition_hash != run.definition_hash
    seeded = make_run(name, strategy="er", seed=3, overrides=["seeds.augmentation=3"])
    assert seeded.definition_hash == run.definition_hash
    assert seeded.run_id != run.run_id


def test_order_of_parts_is_part_of_the_definition_and_survives_a_record() -> None:
    runs = [
        make_run("split_cifar10-v1", strategy="er", overrides=[f"training.augmentation={said}"])
        for said in ("[{name: random_crop}, {name: rotation}]", "[{name: rotation}, {name: random_crop, padding: 4}]")
    ]
    assert runs[0].definition_hash != runs[1].definition_hash
    assert RunConfig.model_validate(runs[0].model_dump(mode="json")) == runs[0]


def test_records_from_before_have_no_seed_of_this_axis() -> None:
    run = make_run("split_digits-v1", strategy="er")
    old = run.model_dump(mode="json")
    del old["seeds"]["augmentation"], old["benchmark"]["training"]["augmentation"]
    assert RunConfig.model_validate(old) == run


def test_the_axis_has_a_seed_of_its_own() -> None:
    assert set(benchmark.Seeds.model_fields) == set(ROLES)
    plain, moved = Chance(3), Chance(3, {"augmentation": 7})
    for role in ROLES:
        keys = [c.generator(role).state_dict()["key"] for c in (plain, moved)]
        assert (keys[0] == keys[1]) == (role != "augmentation"), role


# ------------------------------------------------------------------------------------------------ in the store
CROP = [{"name": "random_crop", "padding": 2}]


def store() -> tuple[TrainingSet, Any]:
    stream = compile_stream(make_run("split_digits-v1", strategy="er").benchmark.stream, 0)
    return TrainingSet(stream, InputTransform(stream, CPU), CPU), stream


def for_digits(seed: int) -> Augmenter:
    return augmenter(CROP, seed, shape=(1, 8, 8), top=16.0)


def test_samples_are_augmented_as_stored_and_then_transformed() -> None:
    samples, stream = store()
    index = torch.arange(50)
    plain_x, plain_y = samples.fetch(index, 0)
    view = samples.augmented(for_digits(0))
    x, y = view.fetch(index, 0)
    augmented = for_digits(0)(torch.from_numpy(stream.data.train_x[:50]))
    assert torch.equal(x, InputTransform(stream, CPU)(augmented, 0, index))
    assert not torch.equal(x, plain_x)
    assert torch.equal(y, plain_y)
    assert torch.equal(view.fetch(index, 0, plain=True)[0], plain_x)
    assert torch.equal(samples.fetch(index, 0)[0], plain_x), "who has no augmenter fetches what is stored"


def test_who_replays_does_not_move_the_stream() -> None:
    """Law 2: the batches' view draws the same, whatever a strategy's view and plain fetches draw between."""

    def batches(disturbed: bool) -> list[Tensor]:
        samples, _ = store()
        of_stream, of_strategy = samples.augmented(for_digits(0)), samples.augmented(for_digits(1))
        found = []
        for start in range(0, 100, 20):
            if disturbed:
                of_strategy.fetch(torch.arange(7), 0)
                of_stream.fetch(torch.arange(7), 0, plain=True)
            found.append(of_stream.fetch(torch.arange(start, start + 20), 0)[0])
        return found

    assert all(map(torch.equal, batches(False), batches(True)))


@pytest.mark.parametrize("fenced", ["before", "after", "through the view"])
def test_views_share_the_fence(fenced: str) -> None:
    samples, stream = store()
    if fenced == "before":
        samples.fence()
    view = samples.augmented(for_digits(0))
    if fenced != "before":
        (samples if fenced == "after" else view).fence()
    experience = stream.experiences[0]
    index = torch.from_numpy(experience.index[:5])
    for each in (samples, view):
        with pytest.raises(RunFailed, match="no experience has brought"):
            each.fetch(index, experience.tasks[0])
    samples.admit(experience)
    for each in (samples, view):
        assert len(each.fetch(index, experience.tasks[0])[0]) == 5


def test_vectors_are_refused_before_anything_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from clbench import cli

    (tmp_path / "a.yaml").write_text(
        "base: split_synthetic-v1\nid: a-v1\ntraining: {augmentation: [{name: random_crop}]}\n"
    )
    assert cli.main(["validate", str(tmp_path / "a.yaml")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told == [f"{tmp_path / 'a.yaml'}: training.augmentation: needs images, and 'synthetic' holds vectors."]
