"""Features of frozen networks as data sets: equal to a plain loop, the same bytes after interruptions, refusals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clbench import resolve
from clbench.cli import main, status
from clbench.config.networks import Network
from clbench.errors import UserError
from clbench.extraction import extract as module
from clbench.extraction.extract import extract
from clbench.extraction.settings import Extraction, data_of, network_of, networks_of
from clbench.runner.lock import Lock
from clbench.runner.signals import Interrupted
from clbench.streams.compile import compile_stream
from clbench.streams.datasets import load
from clbench.streams.datasets.resized import resized_in_batches
from clbench.training import models
from clbench.training.inputs import InputTransform

CNN = "{name: cnn, channels: [4], hidden: 7}"
FACTORY = """
import os, signal
import torch

class Counting(torch.nn.Flatten):
    calls, at, number = 0, None, None
    def forward(self, x):
        Counting.calls += len(x) > 1
        if Counting.calls == Counting.at:
            os.kill(os.getpid(), Counting.number)
        return super().forward(x)

def network(shape, outputs):
    return torch.nn.Sequential(Counting(), torch.nn.Linear(64, 5), torch.nn.Linear(5, outputs))
"""


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def save(path: str, model: str = CNN, seed: int = 0, shape: tuple[int, ...] = (1, 8, 8), outputs: int = 3) -> nn.Module:
    """Writes weights of a network with random ones, of fewer outputs than the data have classes."""
    torch.manual_seed(seed)
    raw: Network = network_of(model, __file__)  # a file that exists; it is not read
    network = models.build(raw.model_copy(update={"weights": None}), shape, outputs)
    torch.save(network.state_dict(), path)
    return network


def of(data: str, *weights: str, size: int | None = None, normalise: str | None = None, **more: Any) -> Extraction:
    return Extraction(data_of(data, size, normalise), networks_of([CNN], weights) if weights else (), **more)


def arrays(path: str | Path) -> dict[str, np.ndarray[Any, Any]]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def by_hand(network: nn.Module, stored: np.ndarray[Any, Any], batch: int, normal: Callable[[Tensor], Tensor]) -> Tensor:
    """Inputs of the last layer, batch by batch."""
    network.eval()
    with torch.inference_mode():
        batches = [normal(torch.from_numpy(stored[a : a + batch])) for a in range(0, len(stored), batch)]
        out: Tensor = torch.cat([network[:-1](x) for x in batches])  # type: ignore[index]
    return out


# ------------------------------------------------------------------------------------------------ values
@pytest.mark.parametrize("normalise", ["unit", "standard"])
def test_features_are_those_of_a_plain_loop(normalise: str) -> None:
    network, data = save("a.pt"), load.load("digits")
    extract(of("digits", "a.pt", normalise=normalise, batch_size=100), Path("f.npz"))
    mean, std = (data.mean[0], data.std[0]) if normalise == "standard" else (0.0, 1.0)
    held = arrays("f.npz")
    for part, x in (("train", data.train_x), ("test", data.test_x)):
        expected = by_hand(network, np.asarray(x), 100, lambda stored: (stored.float() / 16 - mean) / std)
        assert held[f"{part}_x"].dtype == np.float32
        # Of mean and deviation the transform takes the float32, Python's scalars are float64: one rounding apart.
        np.testing.assert_allclose(held[f"{part}_x"], expected.numpy(), rtol=0, atol=2e-6)
        assert np.array_equal(held[f"{part}_y"], getattr(data, f"{part}_y"))


def test_resized_images_are_those_of_a_stream_with_a_size() -> None:
    whole, batched = load.load("digits", size=12), resized_in_batches(load.load("digits"), 12)
    assert (batched.sha256, batched.mean, batched.std, batched.top) == (whole.sha256, whole.mean, whole.std, whole.top)
    network = save("a.pt", shape=(1, 12, 12))
    extract(of("digits", "a.pt", size=12, normalise="standard", batch_size=64), Path("f.npz"))
    overrides = ["stream.size=12", "stream.normalise=standard"]
    config = resolve.make_run("split_digits-v1", strategy="naive", overrides=overrides).benchmark.stream
    transform = InputTransform(compile_stream(config, 0, whole), torch.device("cpu"))
    expected = by_hand(network, np.asarray(whole.test_x), 64, lambda stored: transform(stored, 0))
    assert np.array_equal(arrays("f.npz")["test_x"], expected.numpy())


def test_several_networks_are_side_by_side_in_their_order() -> None:
    save("a.pt", seed=0), save("b.pt", seed=1)
    for name in ("a", "b"):
        extract(of("digits", f"{name}.pt"), Path(f"{name}.npz"))
    both = extract(of("digits", "b.pt", "a.pt"), Path("ba.npz"))
    joined = np.concatenate([arrays("b.npz")["train_x"], arrays("a.npz")["train_x"]], 1)
    assert np.array_equal(arrays("ba.npz")["train_x"], joined)
    told = [json.loads(str(arrays(f"{n}.npz")["provenance"]))["features"][0] for n in ("b", "a")]
    assert both["features"] == told
    extract(of("digits", "a.pt", beside=(Path("b.npz"),)), Path("again.npz"))
    extract(of("digits", beside=(Path("b.npz"), Path("a.npz"))), Path("files.npz"))
    assert Path("again.npz").read_bytes() == Path("files.npz").read_bytes() == Path("ba.npz").read_bytes()


def test_half_precision_is_the_rounded_single() -> None:
    save("a.pt")
    for dtype in ("float32", "float16"):
        extract(of("digits", "a.pt", dtype=dtype), Path(f"{dtype}.npz"))
    half = arrays("float16.npz")["train_x"]
    assert half.dtype == np.float16
    assert np.array_equal(half, arrays("float32.npz")["train_x"].astype(np.float16))


# ------------------------------------------------------------------------------------------------ as a data set
def test_labels_tasks_and_names_go_along() -> None:
    save("a.pt")
    source = load.load(["digits", "digits_inverted"], labels="own")
    extract(of("{data: [digits, digits_inverted], labels: own}", "a.pt"), Path("f.npz"))
    data = load.load("npz:f.npz")
    assert (data.shape, data.classes, data.class_names) == ((7,), source.classes, source.class_names)
    for name in ("train_y", "test_y", "train_task", "test_task"):
        assert np.array_equal(getattr(data, name), getattr(source, name))


def test_a_file_names_its_classes_all_of_them_or_none() -> None:
    x, y = np.zeros((20, 4), np.float32), np.arange(20) % 2
    for texts, names in ((["cat", "dog"], ("cat", "dog")), ([1, 2], ())):
        np.savez("named.npz", x=x, y=y, class_names=np.array(texts))
        assert load.load("npz:named.npz").class_names == names
    np.savez("named.npz", x=x, y=y, class_names=np.array(["cat", "dog", "fox"]))
    with pytest.raises(UserError) as refused:
        load.load("npz:named.npz")
    assert str(refused.value) == "named.npz: class_names has 3 names; the data have 2."


def test_numbers_to_predict_go_along() -> None:
    source = load.load("concepts")
    model = "{name: mlp, hidden: [6]}"
    save("a.pt", model, shape=source.shape, outputs=1)
    extract(Extraction(data_of("concepts"), networks_of([model], ["a.pt"])), Path("f.npz"))
    data = load.load("npz:f.npz")
    assert data.train_target is not None
    assert np.array_equal(data.train_target, source.train_target)
    assert np.array_equal(data.test_task, source.test_task)  # type: ignore[arg-type]


def test_the_instance_hash_covers_network_and_transform() -> None:
    """It is over the features, which weights and transform change; the name of the weights' file changes nothing."""
    save("a.pt", seed=0), save("same.pt", seed=0), save("b.pt", seed=1)
    cases = {
        "a": of("digits", "a.pt"), "same": of("digits", "same.pt"), "b": of("digits", "b.pt"),
        "standard": of("digits", "a.pt", normalise="standard"), "ab": of("digits", "a.pt", "b.pt"),
    }  # fmt: skip
    hashes = {}
    for name, extraction in cases.items():
        extract(extraction, Path(f"{name}.npz"))
        run = resolve.make_run("split_digits-v1", strategy="naive", overrides=[f"stream.data=npz:{name}.npz"])
        hashes[name] = compile_stream(run.benchmark.stream, 0).instance_hash
    assert hashes["same"] == hashes["a"]
    assert len(set(hashes.values())) == len(cases) - 1


def test_a_run_on_features_is_one_on_any_data() -> None:
    save("a.pt")
    extract(of("digits", "a.pt"), Path("f.npz"))
    command = ["run", "split_digits-v1", "--strategy", "naive", "--quiet", "-o", "stream.data=npz:f.npz"]
    assert main([*command, "-o", "model={name: linear}", "-o", "training={iterations: 2, epochs: null}"]) == status.DONE


# ------------------------------------------------------------------------------------------------ interruptions
@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_an_interrupted_extraction_resumes_to_the_same_bytes(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of single batches, and one part that is written at the interruption."""
    monkeypatch.setattr(module, "_PART_S", seconds)
    save("a.pt")
    extraction = of("digits", "a.pt", batch_size=100)
    extract(extraction, Path("whole.npz"))
    passes: list[int] = []
    forward, stop_at = nn.Conv2d.forward, [5, 9, 17]

    def counted(self: nn.Conv2d, x: Tensor) -> Tensor:
        passes.append(len(x))
        if len(x) > 1 and sum(n > 1 for n in passes) in stop_at:
            signal.raise_signal(signal.SIGINT)
        return forward(self, x)

    monkeypatch.setattr(nn.Conv2d, "forward", counted)
    for reached in (500, 900, 1642):
        with pytest.raises(Interrupted) as stopped:
            extract(extraction, Path("f.npz"))
        sentence = f"f.npz: interrupted at {reached:,} of 1,797 samples; the same command resumes."
        assert str(stopped.value) == sentence
    extract(extraction, Path("f.npz"))
    assert Path("f.npz").read_bytes() == Path("whole.npz").read_bytes()
    assert sum(n for n in passes if n > 1) == 1797  # nothing is computed twice
    assert not Path("f.npz.parts").exists()


def test_a_killed_extraction_resumes_to_the_same_bytes_and_recomputes_what_is_damaged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("killed.py").write_text(FACTORY)
    script = (
        "import sys, killed\n"
        "from clbench.cli import main\n"
        "from clbench.extraction import extract\n"
        "extract._PART_S = 0\n"
        "killed.Counting.at, killed.Counting.number = 6, 9\n"
        "main(['features', 'digits', '--model', 'killed:network', '--batch-size', '200', '--threads', '1', '-o', "
        "'f.npz'])\n"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == -signal.SIGKILL
    parts = sorted(Path("f.npz.parts").glob("train-*.npy"))
    assert len(parts) == 5
    content = bytearray(parts[2].read_bytes())
    content[-1] ^= 1
    parts[2].write_bytes(content)
    monkeypatch.syspath_prepend(Path.cwd())
    extraction = Extraction(data_of("digits"), networks_of(["killed:network"], []), batch_size=200)
    for output in ("f.npz", "whole.npz"):
        extract(extraction, Path(output))
    assert Path("f.npz").read_bytes() == Path("whole.npz").read_bytes()


def test_a_finished_file_is_left_and_another_one_kept() -> None:
    save("a.pt", seed=0), save("b.pt", seed=1)
    extract(of("digits", "a.pt"), Path("f.npz"))
    before = Path("f.npz").stat().st_mtime_ns
    extract(of("digits", "a.pt"), Path("f.npz"))
    assert Path("f.npz").stat().st_mtime_ns == before
    with pytest.raises(UserError) as refused:
        extract(of("digits", "b.pt"), Path("f.npz"))
    assert str(refused.value) == (
        "-o f.npz: holds other data (they differ in features[0].tensors_sha256); --force replaces the file."
    )
    extract(of("digits", "b.pt"), Path("f.npz"), force=True)
    assert arrays("f.npz")["train_x"].tobytes() != b""
    assert Path("f.npz").stat().st_mtime_ns != before


def test_parts_of_another_network_are_not_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    save("a.pt", seed=0), save("b.pt", seed=1)
    with monkeypatch.context() as patched:
        patched.setattr(module, "_write", lambda *rest: (_ for _ in ()).throw(Interrupted("stopped")))
        with pytest.raises(Interrupted):
            extract(of("digits", "a.pt"), Path("f.npz"))
    with pytest.raises(UserError) as refused:
        extract(of("digits", "b.pt"), Path("f.npz"))
    assert str(refused.value) == (
        "f.npz.parts: holds parts of an unfinished extraction that differs in provenance.features[0].tensors_sha256; "
        "remove the folder, or write to another file."
    )


# ------------------------------------------------------------------------------------------------ mistakes
def test_features_of_other_data_are_refused() -> None:
    save("a.pt", seed=0), save("b.pt", seed=1), save("v.pt", "{name: mlp, hidden: [7]}")
    extract(of("digits", "a.pt"), Path("a.npz"))
    with pytest.raises(UserError) as refused:
        extract(of("digits_inverted", "b.pt", beside=(Path("a.npz"),)), Path("f.npz"))
    hashes = [load.load(name).sha256[:16] for name in ("digits", "digits_inverted")]
    assert str(refused.value) == (
        "--beside a.npz: features of 'digits' do not go with 'digits_inverted': SHA-256 "
        f"{hashes[0]}... and {hashes[1]}... of the data sets."
    )
    x, y = np.zeros((20, 8, 8), np.uint8), np.arange(20) % 2
    np.savez("few.npz", train_x=x, train_y=y, test_x=x, test_y=y)
    with pytest.raises(UserError) as refused:
        extract(of("npz:few.npz", "b.pt", beside=(Path("a.npz"),)), Path("f.npz"))
    assert str(refused.value) == (
        "--beside a.npz: features of 'digits' do not go with 'npz:few.npz': 1,442 training and 355 test samples and "
        "20 training and 20 test samples."
    )
    with pytest.raises(UserError) as refused:
        extract(of("npz:few.npz", "b.pt", beside=(Path("few.npz"),)), Path("f.npz"))
    assert str(refused.value) == ("--beside few.npz: no features by `clbench features`; its provenance is missing.")
    assert not Path("f.npz").exists()


def test_a_network_twice_and_a_list_of_different_networks_are_refused() -> None:
    save("a.pt", seed=0), save("again.pt", seed=0), save("b.pt", seed=1)
    with pytest.raises(UserError) as refused:
        extract(of("digits", "a.pt", "again.pt"), Path("f.npz"))
    told = extract(of("digits", "a.pt"), Path("a.npz"))["features"][0]["tensors_sha256"]
    assert str(refused.value) == (
        f"--weights: features 0 and 1 are of one network, cnn {told[:16]}...; side by side they would be twice the "
        "same."
    )
    extract(of("digits_inverted", "a.pt", normalise="unit"), Path("other.npz"))
    assert load.load(["npz:a.npz", "npz:other.npz"]).train_task is not None
    second = extract(of("digits_inverted", "b.pt"), Path("b.npz"))["features"][0]["tensors_sha256"]
    with pytest.raises(UserError) as refused:
        load.load(["npz:a.npz", "npz:b.npz"])
    assert str(refused.value) == (
        f"data set 'npz:b.npz' holds features of cnn {second[:8]} (7), 'npz:a.npz' of cnn {told[:8]} (7); a list of "
        "data sets needs features of the same networks and transforms."
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["digits", "--model", "cnn"], "--weights: 'cnn' begins with random weights; give the file of trained ones."),
        (["digits"], "--model: required, but not given; or name files of features by --beside."),
        (
            ["digits", "--model", "cnn", "--model", "mlp", "--weights", "a", "--weights", "b", "--weights", "c"],
            "--model: 2 networks for 3 files of weights. Allowed: one network for all of them, or one for each.",
        ),
        (
            ["digits", "--model", "{name: cnn, hiden: 7}", "--weights", "a.pt"],
            "--model: model.hiden: unknown key. Did you mean 'hidden'? Allowed: name, channels, hidden, weights, "
            "weights_sha256, tensors_sha256, head.",
        ),
        (
            ["digits", "--model", CNN, "--weights", "a.pt", "--size", "6"],
            "model.weights: '4.weight' of a.pt has the shape (7, 64) and the network's (7, 36).",
        ),
        (
            ["concepts", "--model", CNN, "--weights", "a.pt", "--size", "6"],
            "data set 'concepts' holds vectors; only images have a size.",
        ),
        (
            ["{data: digits, colums: {}}", "--model", CNN, "--weights", "a.pt"],
            "DATA: colums: unknown key. Did you mean 'columns'? Allowed: data, labels, columns, size, normalise, "
            "tasks, synthetic, concepts, link_load, grid_load.",
        ),
        (
            ["digits", "--model", CNN, "--weights", "a.pt", "-o", "f.pt"],
            "-o f.pt: features are written as an npz file, such as f.npz.",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    save("a.pt")
    assert main(["features", "-o", "f.npz", *arguments]) == status.MISTAKE
    assert capsys.readouterr().err == f"{sentence}\n"
    assert not Path("f.npz").exists()


def test_one_process_at_a_time_and_a_folder_that_cannot_be_made() -> None:
    save("a.pt")
    with Lock(Path("f.npz.parts")), pytest.raises(UserError) as refused:
        extract(of("digits", "a.pt"), Path("f.npz"))
    assert str(refused.value).startswith("f.npz.parts: process ")
    assert str(refused.value).endswith(" is already running this extraction.")
    with pytest.raises(UserError) as refused:
        extract(of("digits", "a.pt"), Path("a.pt/f.npz"))
    assert str(refused.value) == "a.pt/f.npz.parts: cannot be made a folder: Not a directory."


def test_what_is_not_finite_is_refused() -> None:
    network = save("a.pt")
    state = network.state_dict()
    state["4.bias"] += 1e5  # above the largest float16, 65,504
    torch.save(state, "a.pt")
    with pytest.raises(UserError) as refused:
        extract(of("digits", "a.pt", dtype="float16"), Path("f.npz"))
    assert str(refused.value) == "features of train sample 0 of 'digits' are not finite in float16."
    assert not Path("f.npz.parts").exists()
    extract(of("digits", "a.pt", dtype="float32"), Path("f.npz"))  # the first attempt left nothing in its way


def test_the_command_says_what_it_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    save("a.pt", seed=0), save("b.pt", seed=1)
    command = ["features", "digits", "--model", CNN, "--weights", "a.pt", "--weights", "b.pt", "-o", "f.npz"]
    assert main([*command, "--threads", "1"]) == status.DONE
    told = capsys.readouterr()
    assert told.out == "f.npz: 14 features of 1,442 training and 355 test samples\n"
    assert told.err == ""  # no bar where nobody looks
