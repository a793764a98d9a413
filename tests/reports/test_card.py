"""The card and the picture of a stream: their numbers, worked out otherwise; what the verbs answer; nothing heavy.

Training samples of each class of digits, by hand: UCI's counts 178, 182, 177, 183, 181, 182, 181, 179, 174, 180, less
every fifth of a class.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from clbench import messages, registry
from clbench.cli import main
from clbench.formatting import ranges
from clbench.reports import stream_card
from clbench.reports.figures import stream_figure
from clbench.stream import Stream
from clbench.streams import definition
from clbench.streams.compile import compile_stream
from clbench.streams.datasets import load

TRAIN = (143, 146, 142, 147, 145, 146, 145, 144, 140, 144)
"""Of classes 0 to 9; 1,442 in all."""
SPLIT = {"by": "classes", "count": 5, "order": "natural"}
TRAINING = {"epochs": 1, "batch_size": 10, "optimizer": {"name": "sgd", "lr": 0.1}}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLBENCH_OFFLINE", "1")
    if request.node.get_closest_marker("needs") is None:
        monkeypatch.setenv("CLBENCH_DATA", "data")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Path("data").mkdir()


def write(stream: dict[str, Any], **others: Any) -> str:
    """A benchmark's file."""
    whole = {"data": "digits", "tasks": SPLIT, "setting": "class", **stream}
    content = {"id": "mine-v1", "stream": whole, "model": {"name": "linear"}, "training": TRAINING, **others}
    Path("mine.yaml").write_text(yaml.safe_dump(content))
    return "mine.yaml"


def answered(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Output of a verb."""
    assert main(list(arguments)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence of a mistake."""
    assert main(list(arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def rows(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[dict[str, str], list[list[str]]]:
    """The card's rows, and its table of experiences, from its Markdown."""
    lines = answered(capsys, "show", *arguments, "--markdown").replace("\\", "").splitlines()
    cells = [line[2:-2].split(" | ") for line in lines if line.startswith("| ") and line != "| | |"]
    head = next((i for i, c in enumerate(cells) if c[0] == "experience"), len(cells))
    return {label: text for label, text in cells[:head]}, cells[head:]


# ------------------------------------------------------------------------------------------------ exact numbers
def test_split_digits_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    found, table = rows(capsys, write({}, title="a|b\nc", source="somebody"))
    data, stream = load.load("digits"), compile_stream(stream_config({}), 0)
    assert found == {
        "source": "somebody",
        "data set": f"digits, from scikit-learn, sha256 {data.sha256[:16]}",
        "data": "1,442 training samples, 355 test samples, 10 classes",
        "shape": "1x8x8 (channels x height x width)",
        "setting": "class-incremental (all logits are active at test time)",
        "tasks": "5, with 2 classes each",
        "experiences": "5",
        "samples per experience": "min 284, median 289, mean 288.4, max 291, total 1,442",
        "coverage": "1,442 of 1,442 (100 %) training samples occur",
        "occurrences per sample": "1 each",
        "classes per experience": "2 each",
        "visits per task": "1 each",
        "return times": "none; there are no two visits to one task",
        "overlap": "0.000, mean Jaccard index (common / all) of the classes of successive experiences",
        # 110 / (10 x 1442), by ranks of the ten counts
        "imbalance": "Gini coefficient 0.008 over 10 classes of the occurrences of their samples; "
        "largest to smallest 147 : 140 = 1.05",
        "protocol": "available: task labels in training, boundaries of experiences; denied: task labels at test time",
        "updates per experience": "min 29, median 29, mean 29.2, max 30, total 146 "
        "(passes over its own samples; as many for a strategy that trains on more)",
        "definition hash": stream.definition_hash,
        "instance hash, seed 0": stream.instance_hash,
    }
    assert table == [
        ["experience", "tasks", "samples", "classes", "updates"],
        ["0", "0", "289", "0, 1", "29"],
        ["1", "1", "289", "2, 3", "29"],
        ["2", "2", "291", "4, 5", "30"],
        ["3", "3", "289", "6, 7", "29"],
        ["4", "4", "284", "8, 9", "29"],
    ]


def stream_config(changes: dict[str, Any]) -> definition.StreamConfig:
    whole = {"data": "digits", "tasks": SPLIT, "setting": "class", **changes}
    found, problems = messages.check_section("test", "stream", definition.StreamConfig, whole, {})
    assert not problems
    return found


def test_returns_overlap_lost_and_repeated_samples(capsys: pytest.CaptureFixture[str]) -> None:
    """Visits to task 0 at 0, 2, 3 and to task 1 at 1, 2: returns after 2, 1, 1. Other classes have no task."""
    lessons = [{"tasks": [0]}, {"tasks": [1]}, {"tasks": [0, 1]}, {"tasks": [0]}]
    found, table = rows(
        capsys,
        write(
            {
                "tasks": {"by": "classes", "blocks": [[0, 1], [2]]},
                "schedule": {"by": "explicit", "experiences": lessons},
            }
        ),
    )
    assert found["tasks"] == "2, with 1 to 2 classes"
    assert found["samples per experience"] == "min 142, median 289, mean 287.75, max 431, total 1,151"
    assert found["coverage"] == "431 of 1,442 (29.9 %) training samples occur; 1,011 never do"
    # 289 samples three times, 142 twice
    assert found["occurrences per sample"] == "min 2, median 3, mean 2.67, max 3; 431 of 431 (100 %) more than once"
    assert found["classes per experience"] == "min 1, median 2, mean 2, max 3"
    assert found["visits per task"] == "min 2, median 2.5, mean 2.5, max 3"
    assert found["return times"] == (
        "3, min 1, quartiles 1, 1, 1.5, max 2; distances between two visits to one task, 1 where they are successive"
    )
    assert found["overlap"].startswith("0.333, "), "the mean of 0/3, 1/3 and 2/3"
    # 284, 429 and 438 samples that come: (2 x 438 - 2 x 284) / (3 x 1151)
    assert found["imbalance"].startswith("Gini coefficient 0.089 over 3 classes ")
    assert found["imbalance"].endswith("largest to smallest 438 : 284 = 1.54")
    assert [line[1:4] for line in table[1:]] == [
        ["0", "289", "0, 1"], ["1", "142", "2"], ["0, 1", "431", "0-2"], ["0", "289", "0, 1"],
    ]  # fmt: skip


def test_classes_that_never_come_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    schedule = {"by": "random_subsets", "experiences": 1, "size": 2, "samples": 2}
    path = write({"tasks": {"by": "classes", "count": 2}, "schedule": schedule})
    found, table = rows(capsys, path)
    there = [int(c) for c in table[1][3].split(", ")]
    assert found["never occur"] == f"class {ranges(c for c in range(10) if c not in there)}"
    assert found["imbalance"].endswith(" : 0")
    assert "overlap" not in found, "there is no pair of experiences"


ONE_LOGIT = "one active logit, so that the loss of its samples is 0"


@pytest.mark.parametrize(
    ("blocks", "active", "right", "nothing"),
    [
        ([[0, 1], [2, 3]], "seen", None, None),
        ([[0], [1, 2]], "seen", "after experience 0 in the class view, until a second class comes; in the task view of "
         "task 0, of one class", "0"),
        ([[0, 1], [2], [3]], "seen", "in the task view of task 1, 2, of one class", None),
        ([[0, 1], [2], [3]], "task", "in the task view of task 1, 2, of one class", "1, 2"),
        ([[0, 1], [2], [3]], "batch", "in the task view of task 1, 2, of one class", "1, 2"),
        ([[0, 1], [2], [3]], "all", "in the task view of task 1, 2, of one class", None),
    ],
)  # fmt: skip
def test_a_class_that_competes_with_none(
    capsys: pytest.CaptureFixture[str], blocks: list[list[int]], active: str, right: str | None, nothing: str | None
) -> None:
    """Evaluations that cannot be wrong, and experiences whose cross-entropy is 0."""
    stream = {"tasks": {"by": "classes", "blocks": blocks}}
    training = {**TRAINING, "active_outputs": active}
    card, _ = rows(capsys, write(stream, training=training))
    assert card.get("always right") == right
    assert card.get("learns nothing from") == (nothing and f"experience {nothing}: {ONE_LOGIT}")
    card, _ = rows(
        capsys, write(stream, training={**training, "loss": "squared_error"}, evaluation={"views": ["class"]})
    )
    assert card.get("always right") == (right.split("; ")[0] if right and right.startswith("after") else None)
    assert "learns nothing from" not in card


def test_missing_and_wrong_labels(capsys: pytest.CaptureFixture[str]) -> None:
    """A tenth of each class is 14 or 15 samples; a fifth of those is 3."""
    found, table = rows(capsys, write({"supervision": {"labelled": 0.1, "noise": {"rate": 0.2}}}))
    tenth = [int(n / 10 + 0.5) for n in TRAIN]
    assert (sum(tenth), set(tenth)) == (145, {14, 15})
    assert found["labelled"] == "145 of 1,442 (10.1 %) occurring training samples"
    assert found["labelled per experience"].endswith("total 145")
    assert found["unlabelled per experience"].endswith("total 1,297")
    assert found["wrong labels"] == "30 of 145 (20.7 %) occurring labelled training samples"
    assert found["coverage"] == "1,442 of 1,442 (100 %) training samples occur"
    assert table[0] == ["experience", "tasks", "samples", "unlabelled", "classes", "updates"]
    assert table[1] == ["0", "0", str(tenth[0] + tenth[1]), str(289 - tenth[0] - tenth[1]), "0, 1", "3"]


def test_sub_experiences(capsys: pytest.CaptureFixture[str]) -> None:
    """289, 289, 291, 289 and 284 samples by tens: 29 + 29 + 30 + 29 + 29 pieces, the third one's last holds one."""
    found, table = rows(capsys, write({"online": 10}))
    assert found["experiences"] == "146 sub-experiences of up to 10 samples, cut from 5 experiences"
    assert found["samples per experience"] == "min 1, median 10, mean 9.88, max 10, total 1,442"
    assert found["visits per task"] == "1 each", "pieces are parts of one visit"
    assert found["updates per experience"].startswith("1 each, total 146 (passes over its own samples")
    assert table == [], "too many for a line each"
    assert len(rows(capsys, write({"online": 73}))[1]) == 1 + 20
    assert rows(capsys, write({"online": 73}))[1][0][:2] == ["experience", "visit"]


def test_drift_and_rehearsal(capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = rows(capsys, "drift_digits-v1")
    assert found["tasks"] == "5, with 10 classes each; samples have 72 transforms between theirs"
    assert found["experiences"] == "72, sub-experiences of 5 experiences"
    assert found["visits per task"] == "1 each"
    found, table = rows(capsys, "power_law_digits-v1")
    assert found["visits per task"] == "1 each"
    assert found["return times"] == "none; there are no two visits to one task"
    # every earlier task comes along in each phase: 9 + 8 + ... + 0 times
    assert found["encounters per task"].startswith("min 1, median 5.5, mean 5.5, max 10; ")
    assert found["times between them"].startswith("45, min 1, quartiles 1, 1, 1, max 1; ")
    assert table[0][:4] == ["experience", "tasks", "also", "samples"]
    assert table[4][:4] == ["3", "3", "0-2", "750"]
    found, _ = rows(capsys, "split_mnist_task-v1")
    assert found["protocol"].endswith("boundaries of experiences, task labels at test time; denied: nothing")


def test_a_budget_of_the_stream_is_shared_out(capsys: pytest.CaptureFixture[str]) -> None:
    training = {"iterations": 100, "budget": "stream", "batch_size": 10, "optimizer": {"name": "sgd", "lr": 0.1}}
    found, _ = rows(capsys, write({}, training=training))
    assert found["updates per experience"].endswith("total 100")
    path = write({}, training={**training, "iterations": 4})
    assert main(["show", path, "--markdown"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "mine.yaml: training: 4 updates for the whole stream are fewer than its 5 experiences.\n"


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(any))
def test_gini_is_the_mean_difference(counts: list[int]) -> None:
    x = np.array(counts)
    other = np.abs(x[:, None] - x).sum() / (2 * len(x) ** 2 * x.mean())
    assert stream_card.gini(x) == pytest.approx(other, abs=1e-12)


def test_counting_agrees_with_a_plain_loop() -> None:
    changes = {"schedule": {"by": "random_subsets", "experiences": 40, "size": 2, "samples": 20}}
    stream = compile_stream(stream_config({**changes, "supervision": {"labelled": 0.5}}), 1)
    found = stream_card.count(stream)
    classes, tasks = np.zeros((40, 10), int), np.zeros((40, 5), int)
    times = dict.fromkeys(range(1442), 0)
    for v, experience in enumerate(stream.experiences):
        for t, part in (*experience.parts, *experience.unlabelled):
            for row in part.tolist():
                classes[v, stream.data.train_y[row]] += 1
                tasks[v, t] += 1
                times[row] += 1
    np.testing.assert_array_equal(found.classes, classes)
    np.testing.assert_array_equal(found.tasks, tasks)
    assert found.times.tolist() == list(times.values())
    assert (found.labelled < found.classes.sum(1)).all()


def test_the_seed_is_that_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    changes = {"tasks": {"by": "classes", "count": 5}}
    found, _ = rows(capsys, write(changes), "--seed", "3")
    expected = compile_stream(stream_config(changes), 3).instance_hash
    assert found["instance hash, seed 3"] == expected
    found, _ = rows(capsys, write(changes, seeds={"stream": 3}), "--seed", "8")
    assert found["instance hash, seed 3"] == expected, "an axis seed goes over the run's"


# ------------------------------------------------------------------------------------------------ duplicates
def save(path: str, **arrays: Any) -> None:
    np.savez(path, **arrays)


def images(*values: int) -> Any:
    return np.array(values, np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)


def test_leakage_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    """Training: 1 twice with one label, 2 with both labels, 3 once. Test: 1 and 2 leak, 2 with another label."""
    save(
        "data/twins.npz", train_x=images(1, 1, 2, 2, 3), train_y=np.array([0, 0, 0, 1, 1]),
        test_x=images(1, 2, 9, 8), test_y=np.array([0, 1, 0, 1]),
    )  # fmt: skip
    path = write({"data": "twins", "tasks": {"by": "classes", "count": 2}})
    found, _ = rows(capsys, path, "--deep")
    assert found["leakage"] == (
        "2 of 4 (50 %) test samples are also in the training set, byte for byte; 1 of them with another label"
    )
    assert found["duplicates"] == ("2 of 5 (40 %) training samples repeat an earlier one; 1 of them with another label")
    assert "leakage" not in rows(capsys, path)[0]


@pytest.mark.needs("cifar100")
def test_cifar100_has_ten_known_duplicates(real_data: Path) -> None:
    """Barz and Denzler 2020 (ciFAIR), who count exact duplicates among others."""
    with np.load(real_data / "cifar100.npz") as arrays:
        found = stream_card.leakage(_Arrays(**{n: arrays[n] for n in ("train_x", "train_y", "test_x", "test_y")}))  # type: ignore[arg-type]
    assert found.leaked == 10


class _Arrays:
    def __init__(self, **arrays: Any) -> None:
        self.__dict__.update(arrays)


# ------------------------------------------------------------------------------------------------ show
@pytest.mark.parametrize("name", ["split_digits-v1", "scole_digits-v1", "mine.yaml"])
def test_what_is_printed_is_a_file_that_prints_the_same(capsys: pytest.CaptureFixture[str], name: str) -> None:
    write({"tasks": {"by": "classes", "count": 5}}, seeds={"stream": 3})
    printed = answered(capsys, "show", name)
    Path("again.yaml").write_text(printed)
    assert answered(capsys, "show", "again.yaml") == printed
    head, _, tail = printed.partition("# stream definition hash ")
    assert yaml.safe_load(head)["id"] == name.replace(".yaml", "-v1")
    assert all(line.startswith("#") or not line for line in tail.splitlines()[1:])
    assert max(map(len, tail.splitlines())) <= 120


def test_text_that_markdown_would_read_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    out = answered(capsys, "show", write({}, title="a|b\n<c> *d*", source="x_y"), "--markdown")
    assert out.splitlines()[0] == r"# mine-v1: a\|b &lt;c&gt; \*d\*"
    assert r"| source | x\_y |" in out
    text = answered(capsys, "show", "mine.yaml")
    assert "\n# mine-v1: a|b <c> *d*\n" in text


def test_every_shipped_stream_whose_data_is_here_has_a_card_and_a_picture(capsys: pytest.CaptureFixture[str]) -> None:
    names = [n for n in registry.benchmarks() if "digits" in n or "synthetic" in n]
    names.remove("domains_shared_digits-v1")  # of MNIST too
    assert len(names) > 10
    for name in names:
        found, _ = rows(capsys, name)
        assert {"samples per experience", "labelled per experience"} & set(found), name
        assert answered(capsys, "plot", name) == f"{name}.png\n"
        assert Path(f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_missing_data_leaves_the_yaml_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    out = answered(capsys, "show", "split_mnist-v1")
    yaml_, _, tail = out.partition("# stream definition hash ")
    assert yaml.safe_load(yaml_)["stream"]["data"] == "mnist"
    hash_, reason = tail.splitlines()
    assert len(hash_) == 64
    assert reason.startswith("# no card: data set 'mnist' is not in data and cannot be downloaded from here. ")
    found, table = rows(capsys, "split_mnist-v1")
    assert found["definition hash"] == hash_
    assert found["no card"].startswith("data set 'mnist' is not in data")
    assert table == []
    assert told(capsys, "plot", "split_mnist-v1").startswith("split_mnist-v1: stream.data: data set 'mnist' is not in")
    assert not list(Path().glob("*.png"))


def test_damaged_data_is_no_card_or_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    """The labels tell how many classes there are, so that damage to inputs alone shows only when they are read."""
    x = np.random.default_rng(0).integers(0, 255, (40, 64, 64)).astype(np.uint8)
    save("data/own.npz", train_x=x, train_y=np.arange(40) % 2, test_x=x, test_y=np.arange(40) % 2)
    path = write({"data": "own", "tasks": {"by": "classes", "count": 2}})
    assert rows(capsys, path)[0]["data"].startswith("40 training samples, 40 test")
    content = bytearray(Path("data/own.npz").read_bytes())
    with zipfile.ZipFile(io.BytesIO(bytes(content))) as archive:
        start = archive.getinfo("train_x.npy").header_offset
    content[start + 40 * 64 * 64] ^= 0xFF
    Path("data/own.npz").write_bytes(bytes(content))
    out = answered(capsys, "show", path)
    assert out.splitlines()[-1].startswith("# no card: data/own.npz: array 'train_x' is damaged (")
    Path("data/own.npz").write_bytes(b"PK")
    assert "damaged or truncated" in told(capsys, "show", path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "er", "--deep"], "--deep is for streams, and 'er' is none; see `clbench list streams`."),
        (["show", "er", "--seed", "0"], "--seed is for streams, and 'er' is none; see `clbench list streams`."),
        (["show", "no.yaml"], "no.yaml: no such file."),
        (["plot", "no.yaml"], "no.yaml: no such file."),
        (["plot", "split_digit-v1"],
         "split_digit-v1: no such folder, and no benchmark. Did you mean 'split_digits-v1'?"),
        (["plot", "split_digits-v1", "iid_digits-v1"],
         "split_digits-v1: a picture of a stream shows this one alone; got 2 names."),
        (["plot", "split_digits-v1", "--loss"], "--loss is for pictures of runs, and split_digits-v1 is a stream."),
        (["plot", "split_digits-v1", "--view", "class"],
         "--view is for pictures of runs, and split_digits-v1 is a stream."),
        (["plot", "split_digits-v1", "--out", "a.jpg"],
         "--out a.jpg: got the suffix '.jpg'. Allowed: .png, .svg, .pdf."),
        (["plot", "data", "--seed", "1"], "--seed is for pictures of streams; a run has its own."),
    ],
)  # fmt: skip
def test_mistakes(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert told(capsys, *arguments) == message


def test_what_the_data_does_not_hold_is_said_with_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    path = write({"supervision": {"shots": 1000}})
    expected = "mine.yaml: stream.supervision.shots: got 1000, but class 2 has 142 training samples in task 1."
    assert told(capsys, "show", path) == expected
    assert told(capsys, "plot", path) == expected


def test_a_folder_of_a_benchmarks_name_is_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    """As in `results/`."""
    Path("split_digits-v1").mkdir()
    assert told(capsys, "plot", "split_digits-v1") == "split_digits-v1: no run.json there or below."


def test_nothing_heavy_is_imported() -> None:
    """Once the outline is kept."""
    load.load("digits")
    code = (
        "import json, sys; from clbench.cli import main; status = main(json.loads(sys.argv[1])); "
        "heavy = {'torch', 'torchvision', 'pandas', 'sklearn', 'scipy', 'avalanche', 'matplotlib.pyplot'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); "
        "assert ('matplotlib' in sys.modules) == (sys.argv[2] == 'plot'); sys.exit(status)"
    )
    for verb in ("show", "plot"):
        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps([verb, "split_digits-v1"]), verb],
            capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------------------------ plot
def compiled(**changes: Any) -> Stream:
    return compile_stream(stream_config(changes), 0)


def test_rows_are_classes_in_their_order_of_entry() -> None:
    order = [3, 1, 0, 2, 4, 5, 6, 7, 9, 8]
    drawn = stream_figure.grid(compiled(tasks={"by": "classes", "count": 5, "order": order}))
    assert (drawn.rows, drawn.ids) == ("class", tuple(order))
    assert drawn.blocks == tuple((t, 2) for t in range(5))
    expected = np.zeros((10, 5))
    for r, c in enumerate(order):
        expected[r, r // 2] = TRAIN[c]
    np.testing.assert_array_equal(drawn.samples, expected)


def test_rows_are_tasks_where_they_share_their_classes() -> None:
    drawn = stream_figure.grid(compiled(tasks={"by": "permutations", "count": 3}, setting="domain"))
    assert (drawn.rows, drawn.ids, drawn.blocks) == ("task", (0, 1, 2), ())
    np.testing.assert_array_equal(drawn.samples, 1442 * np.eye(3))
    turning = {"by": "rotations", "degrees": [0, 90]}
    drawn = stream_figure.grid(compiled(tasks=turning, schedule={"by": "drift", "experiences": 4}, setting="domain"))
    np.testing.assert_array_equal(drawn.samples, [[361, 361, 0, 0], [0, 0, 360, 360]])


def test_blocks_of_experiences_lose_nothing() -> None:
    subsets = compiled(schedule={"by": "random_subsets", "experiences": 1001, "size": 1})
    drawn = stream_figure.grid(subsets)
    assert (drawn.samples.shape, drawn.experiences) == ((10, 501), 2)
    sizes = np.array([2] * 500 + [1])
    assert (drawn.samples * sizes).sum() == sum(v.samples for v in subsets.experiences)
    drawn = stream_figure.grid(subsets, columns=1, rows=1)
    assert drawn.samples.shape == (1, 1)
    assert drawn.samples[0, 0] * 10 * 1001 == pytest.approx(sum(v.samples for v in subsets.experiences), rel=1e-12)


def test_every_cell_is_a_block_of_equal_pixels() -> None:
    """500 columns of two pixels: white exactly where no sample comes."""
    from matplotlib.image import imread

    stream = compile_stream(stream_config({"schedule": {"by": "random_subsets", "experiences": 500, "size": 1}}), 0)
    drawn = stream_figure.grid(stream)
    pixels = imread(io.BytesIO(stream_figure.draw("a-v1", stream, ".png")))[:, :, :3]
    left, top, across, down = 98, 93, 2, 30
    for row in range(10):
        line = top + row * down + down // 3
        cells = pixels[line, left : left + across * 500].reshape(500, across, 3)
        np.testing.assert_array_equal(cells[2:, 0], cells[2:, 1])  # the frame covers half of the first
        np.testing.assert_array_equal((cells[2:, 0] == 1).all(1), drawn.samples[row, 2:] == 0)


def test_darker_is_more_also_in_grey() -> None:
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("samples", stream_figure._SHADES)(np.linspace(0, 1, 100))[:, :3]
    grey = shades @ [0.299, 0.587, 0.114]
    assert (np.diff(grey) < 0).all()
    assert grey[0] < 0.93, "the lightest is not white"


def test_title_names_the_stream_and_nothing_leaves_the_picture() -> None:
    long = "a" * 77 + "-v1"
    for name in ("mine-v1", long):
        stream = compiled(supervision={"labelled": 0.5})
        whole = stream_figure.figure(name, stream)
        axes = whole.axes[0]
        assert axes.get_title(loc="left") == f"{name}, seed 0: samples of each class in each experience"
        words = [text.get_text() for text in axes.texts]
        hashes = f"definition {stream.definition_hash[:12]}, instance {stream.instance_hash[:12]}, data digits"
        assert f"{hashes}, with and without a label" in words
        assert {"143", "146", "task 0", "task 4"} <= set(words)
        box, frame = whole.get_tightbbox(), whole.get_size_inches()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= frame[0]
        assert box.y1 <= frame[1]


def test_files_are_the_same_each_time_in_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".PDF", b"%PDF")):
        out = f"new/a{suffix}"
        assert answered(capsys, "plot", "split_digits-v1", "--seed", "2", "--out", out) == f"{out}\n"
        first = Path(out).read_bytes()
        assert first.startswith(start)
        assert answered(capsys, "plot", "split_digits-v1", "--seed", "2", "--out", out)
        assert Path(out).read_bytes() == first
    assert answered(capsys, "plot", write({})) == "mine-v1.png\n"
