"""Inputs that stay on the disk: the same samples, runs and messages as from memory, read once and not held."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch

from clbench import dataset, errors, on_disk, resolve, run_config
from clbench.avalanche.benchmark import benchmark as as_avalanche
from clbench.errors import UserError
from clbench.rng import global_state
from clbench.runner.run import execute
from clbench.streams.compile import compile_stream
from clbench.streams.datasets import finish, load, outline_cache
from clbench.testing.resume import check_resume
from clbench.testing.states import assert_same
from support import assembled

TRAIN, TEST = 60, 24


def arrays(shape: tuple[int, ...] = (6, 5), dtype: Any = np.uint8, **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (TRAIN + TEST, *shape)).astype(dtype)
    return {
        "train_x": x[:TRAIN], "train_y": np.arange(TRAIN) % 4, "test_x": x[TRAIN:], "test_y": np.arange(TEST) % 4,
        **changes,
    }  # fmt: skip


def write(folder: Path, **held: Any) -> str:
    """The arrays as a file and as a folder; the folder's name as a data set."""
    np.savez(folder / "held.npz", **held)
    (folder / "held").mkdir(exist_ok=True)
    for name, array in held.items():
        np.save(folder / "held" / f"{name}.npy", array)
    return f"npy:{folder / 'held'}"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of one's own, and the folder of outlines in it."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "clbench" / "outlines"


MODULE = """
    import random
    import numpy as np, torch
    from PIL import Image
    from torch.utils.data import Dataset

    class Stored(Dataset):
        def __init__(self, train=True, kind="array", targets=True):
            held, part = np.load({path!r}), "train" if train else "test"
            self.x, self.y, self.kind = held[part + "_x"], held[part + "_y"], kind
            if targets:
                self.targets = self.y.tolist()
        def __len__(self):
            return len(self.x)
        def __getitem__(self, i):
            random.random(), np.random.random(), torch.rand(())
            made = {{"array": np.array, "tensor": torch.tensor, "image": Image.fromarray}}[self.kind]
            return made(self.x[i]), int(self.y[i])

    def as_images():
        return Stored(True, "image"), Stored(False, "image")

    def without_targets():
        return [Stored(True, targets=False), Stored(False, "tensor", False)]

    def undivided():
        return Stored()

    class Moody(Stored):
        def __getitem__(self, i):
            return self.x[i] ^ np.uint8(random.getrandbits(8)), int(self.y[i])

    class Broken(Stored):
        def __getitem__(self, i):
            return (self.x[i], int(self.y[i])) if i != 37 else 1 / 0

    class Uneven(Stored):
        def __getitem__(self, i):
            return (self.x[i] if i != 37 else self.x[i, 1:]), int(self.y[i])

    class Infinite(Stored):
        def __getitem__(self, i):
            return np.float32(self.x[i]) + (0 if i != 37 else np.inf), int(self.y[i])

    class Needs(Dataset):
        def __init__(self, path): ...

    def needs(path): ...

    def nothing():
        return None

    def three():
        return [Stored()] * 3

    class Empty(Stored):
        def __len__(self):
            return 0

    word = "word"
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's own over the arrays of `write`; the beginning of the names in it."""
    write(tmp_path, **arrays())
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "held_lab.py").write_text(dedent(MODULE).format(path=str(tmp_path / "held.npz")))
    monkeypatch.delitem(sys.modules, "held_lab", raising=False)
    return "lazy:held_lab:"


def same(one: dataset.DataSet, other: dataset.DataSet) -> None:
    """Equal but for name and origin; the inputs sample by sample, in any order."""
    for field in fields(dataset.DataSet):
        if field.name not in ("name", "origin", "train_x", "test_x"):
            assert_same(getattr(one, field.name), getattr(other, field.name), field.name)
    for x, held in ((one.train_x, other.train_x), (one.test_x, other.test_x)):
        assert isinstance(x, on_disk.OnDisk)
        assert isinstance(held, np.ndarray)
        assert (x.shape, x.dtype, len(x), x.ndim, x.nbytes) == (
            held.shape,
            held.dtype,
            len(held),
            held.ndim,
            held.nbytes,
        )
        rows = np.random.default_rng(1).permutation(len(held))[:10]
        assert_same(x.read(rows), held[rows])
        assert_same(np.stack(list(x)), held)
        for found, expected in zip(
            x.in_turn([rows[:3], rows[3:3], rows[2:]]), (rows[:3], rows[3:3], rows[2:]), strict=True
        ):
            assert_same(found, held[expected])


# ------------------------------------------------------------------------------------------------ the same data
@pytest.mark.parametrize("dtype", ["u1", "<f4", ">f4", "f8", "f2"])
@pytest.mark.parametrize("shape", [(7,), (6, 5), (6, 5, 3)])
def test_a_folder_is_the_same_data_as_a_file(
    tmp_path: Path, shape: tuple[int, ...], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_disk, "_VALUES", 200)  # several parts
    name = write(tmp_path, **arrays(shape, np.dtype(dtype)))
    data = load.load(name)
    same(data, load.load(f"npz:{tmp_path / 'held.npz'}"))
    same(load.load(name), load.load(f"npz:{tmp_path / 'held.npz'}"))  # what was kept
    assert load.facts(name) == load.facts(f"npz:{tmp_path / 'held.npz'}")


def test_tasks_other_orders_and_undivided_data(tmp_path: Path) -> None:
    task = {"train_task": np.arange(TRAIN) // 4 % 2, "test_task": np.arange(TEST) // 4 % 2}
    found = arrays((6, 5, 3), **task)
    name = write(tmp_path, **{**found, "train_x": np.asfortranarray(found["train_x"])})
    same(load.load(name), load.load(f"npz:{tmp_path / 'held.npz'}"))
    assert load.facts(name).tasks == 2
    (tmp_path / "other").mkdir()
    whole = write(tmp_path / "other", x=found["train_x"], y=found["train_y"], task=found["train_task"])
    same(load.load(whole), load.load(f"npz:{tmp_path / 'other' / 'held.npz'}"))


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("name", ["Stored", "as_images", "without_targets"])
def test_items_are_the_same_data_as_their_arrays(
    lab: str, tmp_path: Path, name: str, workers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLBENCH_WORKERS", workers)
    monkeypatch.setattr(on_disk, "_VALUES", 200)
    before = global_state()
    data = load.load(f"{lab}{name}")
    same(data, load.load(f"npz:{tmp_path / 'held.npz'}"))
    assert_same(global_state(), before)


def test_an_undivided_data_set_is_divided(lab: str, tmp_path: Path) -> None:
    held = arrays()
    np.savez(tmp_path / "whole.npz", x=held["train_x"], y=held["train_y"])
    same(load.load(f"{lab}undivided"), load.load(f"npz:{tmp_path / 'whole.npz'}"))


def test_a_pass_that_is_left_does_not_disturb_the_next(lab: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLBENCH_WORKERS", "2")
    x = load.load(f"{lab}Stored").train_x
    assert isinstance(x, on_disk.OnDisk)
    lists = [np.arange(a, a + 5) for a in range(0, TRAIN, 5)]
    for taken in (1, 3):
        left = x.in_turn(lists)
        for rows, _ in zip(lists, range(taken), strict=False):
            assert_same(next(left), x.read(rows))
    for rows, found in zip(lists[::-1], x.in_turn(lists[::-1]), strict=True):
        assert_same(found, x.read(rows))


# ------------------------------------------------------------------------------------------------ the same runs
def plan(data: str, strategy: str, *overrides: str) -> run_config.RunConfig:
    return resolve.make_run(
        "split_digits-v1",
        strategy=strategy,
        overrides=[
            "id=held-v1",
            f"stream.data={data}",
            "stream.normalise=standard",
            "training.iterations=null",
            "training.epochs=2",
            "training.batch_size=7",
            "evaluation.every=1",
            "model={name: mlp, hidden: [8]}",
            *(overrides or ["stream.tasks.count=2"]),
        ],
        threads=1,
    )


def outcome(folder: Path, run: run_config.RunConfig) -> tuple[Any, ...]:
    done = execute(run, folder)
    with np.load(done.directory / "trace.npz") as trace:
        record = {name: trace[name] for name in trace.files}
    return done.record["weights_sha256"], {**done.record["stream"], "definition_hash": None}, record


@pytest.mark.parametrize(
    ("strategy", "overrides"),
    [
        ("naive", []),
        ("er", ["stream.tasks.count=2", "training.augmentation=[{name: random_crop}, {name: horizontal_flip}]"]),
        ("cumulative", []),
        ("er", ["stream.tasks={by: transforms, transforms: [{rotation: 30}, {noise: 0.1}]}", "stream.setting=domain"]),
        ("er", ["stream.tasks.count=2", "stream.online=5"]),
        ("avalanche.training.supervised:Replay", ["stream.tasks.count=2", "strategy.mem_size=20"]),
    ],
    ids=["naive", "augmented", "cumulative", "domains", "online", "hosted"],
)
def test_runs_are_the_same(
    lab: str, tmp_path: Path, strategy: str, overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = outcome(tmp_path / "out", plan(f"npz:{tmp_path / 'held.npz'}", strategy, *overrides))
    for name, workers in ((f"npy:{tmp_path / 'held'}", "0"), (f"{lab}Stored", "0"), (f"{lab}as_images", "2")):
        monkeypatch.setenv("CLBENCH_WORKERS", workers)
        assert_same(outcome(tmp_path / "out", plan(name, strategy, *overrides)), expected)


def test_test_inputs_that_are_not_kept(lab: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for constant in ("READY_BYTES", "READ_BYTES"):
        monkeypatch.setattr(f"clbench.evaluation.inputs.{constant}", 0)
    expected = outcome(tmp_path / "out", plan(f"npz:{tmp_path / 'held.npz'}", "naive"))
    for name in (f"npy:{tmp_path / 'held'}", f"{lab}Stored"):
        assert_same(outcome(tmp_path / "out", plan(name, "naive")), expected)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_runs_resume(lab: str, workers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLBENCH_WORKERS", workers)
    check_resume(plan(f"{lab}Stored", "er"))


def test_the_fence_holds(lab: str) -> None:
    run = plan(f"{lab}Stored", "naive")
    bench = assembled(run)
    rows = torch.from_numpy(bench.stream.experiences[1].index)
    with pytest.raises(errors.RunFailed, match="no experience has brought"):
        next(bench.samples.in_turn(rows, 1, [(0, 5)]))


# ------------------------------------------------------------------------------------------------ read once
@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Number of times that contents were read through since the last call."""
    count, original = [0], finish.read_through

    def counted(data: dataset.DataSet, basis: int | None = None) -> dataset.DataSet:
        count[0] += 1
        return original(data)

    monkeypatch.setattr(finish, "read_through", counted)

    def since() -> int:
        found, count[0] = count[0], 0
        return found

    return since


def test_a_folder_is_read_through_once(tmp_path: Path, reads: Callable[[], int]) -> None:
    name, held = write(tmp_path, **arrays()), arrays()
    first = load.load(name)
    assert reads() == 1
    assert load.load(name).sha256 == load.outline(name).sha256 == first.sha256
    assert reads() == 0
    held["train_x"][3] ^= 1
    write(tmp_path, **held)
    os.utime(tmp_path / "held" / "train_x.npy", ns=(1, 1))
    assert load.load(name).sha256 != first.sha256
    assert reads() == 1


def test_items_are_read_through_once(lab: str, tmp_path: Path, reads: Callable[[], int]) -> None:
    first = load.load(f"{lab}Stored")
    assert reads() == 1
    assert load.load(f"{lab}Stored").sha256 == first.sha256
    assert reads() == 0
    held = arrays()
    held["test_x"][5] ^= 1  # of so few items each is probed
    write(tmp_path, **held)
    assert load.load(f"{lab}Stored").sha256 != first.sha256
    assert reads() == 1
    os.utime(tmp_path / "held_lab.py", ns=(1, 1))
    load.load(f"{lab}Stored")
    assert reads() == 1


def test_files_that_change_while_they_are_read_are_not_kept(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, original = write(tmp_path, **arrays()), finish.read_through

    def changes(data: dataset.DataSet) -> dataset.DataSet:
        os.utime(tmp_path / "held" / "train_x.npy", ns=(1, 1))
        return original(data)

    monkeypatch.setattr(finish, "read_through", changes)
    load.load(name)
    assert not list(cache.glob("*"))


def test_damaged_contents_count_as_absent(tmp_path: Path, cache: Path, reads: Callable[[], int]) -> None:
    name = write(tmp_path, **arrays())
    first = load.load(name)
    for path in cache.glob("*.npz"):
        path.write_bytes(path.read_bytes()[:-30])
    assert load.load(name).sha256 == first.sha256
    assert reads() == 2


def test_contents_come_back_exactly(cache: Path) -> None:
    name, mean, std = outline_cache.key("contents", 1), (1 / 3, 0.1), (2**-30, 7.0)
    outline_cache.keep(name, "abc", mean, std)
    assert outline_cache.recall(name) == {"sha256": "abc", "mean": mean, "std": std}
    assert outline_cache.read(name) is None


LARGE = """
    import resource, sys
    from pathlib import Path
    import torch
    from clbench import resolve
    from clbench.runner.run import execute

    def peak(*data):  # in MiB, after a run
        execute(resolve.make_run("split_digits-v1", strategy="er", threads=1, overrides=[
            "id=held-v1", "stream.tasks.count=2", "training.iterations=5", "stream.normalise=standard",
            "evaluation.every=0", "model={name: mlp, hidden: [8]}", *data]), Path(sys.argv[2]))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

    print(-peak() + peak("stream.data=npy:" + sys.argv[1]))  # the first one imports
"""


@pytest.mark.skipif(sys.platform != "linux", reason="files with holes, and peaks in KiB")
def test_a_map_is_not_held(tmp_path: Path) -> None:
    """256 MiB, all of which is read to know its contents: the peak grows by less than a quarter of that."""
    folder, n = tmp_path / "large", 1 << 16
    folder.mkdir()
    x = np.lib.format.open_memmap(folder / "train_x.npy", mode="w+", dtype=np.uint8, shape=(n, 64, 64))
    assert x.nbytes == 256 << 20
    x[::100] = 7
    del x
    held = {"train_y": np.arange(n) % 4, "test_x": np.ones((8, 64, 64), np.uint8), "test_y": np.arange(8) % 4}
    for name, array in held.items():
        np.save(folder / f"{name}.npy", array)
    done = subprocess.run(
        [sys.executable, "-c", dedent(LARGE), str(folder), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64


# ------------------------------------------------------------------------------------------------ mistakes
PAIR = "a data set of PyTorch with __len__ and __getitem__, or a pair of them for training and testing"


def refused(name: str, **more: Any) -> str:
    with pytest.raises(UserError) as caught:
        load.load(name, **more)
    return str(caught.value)


def test_wrong_arrays_are_named_as_in_a_file(tmp_path: Path) -> None:
    """The same sentence but for the file, whatever is wrong."""
    floats = arrays((6, 5), np.float32)["train_x"]
    floats[41, 2, 2] = np.nan
    five = np.zeros((TRAIN, 2, 2, 2, 2), np.uint8)
    cases: list[dict[str, Any]] = [
        arrays(train_x=floats), arrays(test_x=floats[36:]), arrays(train_x=np.zeros((TRAIN, 6, 5), np.int32)),
        arrays(train_x=five), arrays(train_x=np.zeros((0, 6, 5), np.uint8), train_y=np.zeros(0, int)),
        arrays(train_x=np.zeros((TRAIN, 6, 4), np.uint8)), arrays(train_y=np.arange(TRAIN)[1:] % 4),
        arrays(test_y=np.arange(TEST) % 5), arrays(train_task=np.zeros(TRAIN, int), test_task=np.ones(TEST, int)),
        {"x": floats, "y": np.arange(TRAIN) % 4}, {"x": floats[:8], "y": np.arange(8) % 4},
    ]  # fmt: skip
    for number, held in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        name = write(folder, **held)
        in_file = refused(f"npz:{folder / 'held.npz'}")
        assert refused(name) == in_file.replace(str(folder / "held.npz"), str(folder / "held"))


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    assert refused(f"npy:{tmp_path / 'no'}") == f"'npy:{tmp_path / 'no'}': no such folder."
    name, folder = write(tmp_path, **arrays()), tmp_path / "held"
    (folder / "test_y.npy").rename(folder / "test_z.npy")
    assert refused(name) == (
        f"{folder}: array 'test_y' is missing; the folder holds test_x, test_z, train_x, train_y, and needs train_x, "
        "train_y, test_x, test_y."
    )
    (folder / "test_z.npy").rename(folder / "test_y.npy")
    for file in ("train_x", "train_y"):
        whole = (folder / f"{file}.npy").read_bytes()
        for content in (whole[:-9], whole[:20], b"", b"PK\3\4" + whole):
            (folder / f"{file}.npy").write_bytes(content)
            said = refused(name)
            assert said.startswith(f"{folder / f'{file}.npy'}: damaged or truncated, not readable as npy (")
            assert said.count("\n") == 0
        (folder / f"{file}.npy").write_bytes(whole)
    load.load(name)


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Moody", ": item 0 differs each time it is read; random changes belong to training.augmentation."),
        ("Broken", " fails at item 37: {file}, line 35: ZeroDivisionError: division by zero."),
        ("Uneven", ": item 0 is uint8 of shape (6, 5), item 37 uint8 of shape (5, 5); all must be alike."),
        ("Needs", f": needs the argument 'path'; name a user-defined function that passes it and returns {PAIR}."),
        ("needs", ": needs the argument 'path'. Allowed: none."),
        ("nothing", f": returned type NoneType. Allowed: {PAIR}."),
        ("three", f": returned type list with 3 members. Allowed: {PAIR}."),
        ("Empty", ": holds no sample."),
        (
            "word",
            ": is of type str. Allowed: a class that derives from torch.utils.data.Dataset, or a function without "
            f"required arguments that returns {PAIR}.",
        ),
    ],
)
def test_what_is_wrong_with_items(
    lab: str, tmp_path: Path, name: str, said: str, workers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLBENCH_WORKERS", workers)
    monkeypatch.setattr("clbench.streams.datasets.items.PROBES", 2)  # so that a worker meets the item first
    assert refused(lab + name) == f"data set '{lab}{name}'" + said.format(file=tmp_path / "held_lab.py")


def test_what_does_not_stay_on_the_disk(lab: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"npy:{tmp_path / 'held'}"
    for each in (name, f"{lab}Stored"):
        assert refused(each, size=8) == f"data set '{each}' stays on the disk as it is; a size needs images in memory."
        assert refused(["digits", each]) == (  # type: ignore[arg-type]
            f"data set '{each}' stays on the disk as it is; a list needs images in memory."
        )
    assert refused(f"{lab}Stord") == (
        "data set 'held_lab:Stord' does not import: module 'held_lab' has no 'Stord'. Did you mean 'Stored'?"
    )
    assert refused(f"{lab}Infinite") == f"{lab}Infinite: train_x holds NaN or infinity, first in sample 37."
    for given in ("many", "-1", "1.5"):
        monkeypatch.setenv("CLBENCH_WORKERS", given)
        assert refused(f"{lab}Stored") == f"CLBENCH_WORKERS: got '{given}'. Allowed: a whole number, 0 or more."


def test_an_avalanche_benchmark_of_what_stays_on_the_disk(tmp_path: Path) -> None:
    folder = write(tmp_path, **arrays())
    found = []
    for data in (f"npz:{tmp_path / 'held.npz'}", folder):
        stream = compile_stream(plan(data, "naive").benchmark.stream, 0)
        benchmark = as_avalanche(stream)
        samples = [e.dataset[i] for s in (benchmark.train_stream, benchmark.test_stream) for e in s for i in (0, -1)]
        found.append([[torch.as_tensor(v) for v in sample] for sample in samples])
    assert_same(*found)
