"""The HTML report: its aggregation by hand, its sections from files, names that are hostile, the same bytes."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clbench.cli import main
from clbench.reports.front import non_dominated
from clbench.reports.html import page, sources
from clbench.reports.html.boards import boards
from clbench.reports.html.curves import Band, after_boundaries, align
from clbench.reports.html.digest import Digest
from clbench.reports.html.sections import accuracy, costs, differences, gaps, libraries, matrices, streams, unfinished
from clbench.reports.html.sections.progress import Progress, Row
from clbench.results import files
from clbench.testing.runs import write_run
from clbench.testing.traces import make_trace
from support import CrashAt, execute, make_run

NAN = np.nan
BENCHMARK = "split_synthetic-v1"
SCRIPT = "<script>alert(1)</script>"


def two_tasks(lowest: float = 0.3) -> np.ndarray[Any, Any]:
    """Two experiences of two updates: 0.9 falls and comes back to 0.8 while the second task is learnt."""
    return np.array(
        [[[0.0, NAN], [0.5, NAN], [0.9, NAN], [0.9, NAN]], [[0.9, 0.1], [lowest, 0.6], [0.8, 0.7], [0.8, 0.7]]]
    )


def digest(lowest: float = 0.3) -> Digest:
    return Digest.of(make_trace(two_tasks(lowest)), "class")


def folder(out: Path, strategies: tuple[str, ...] = ("naive", "er"), seeds: int = 2) -> Path:
    """Runs of two tasks; the fall of each strategy and seed is another one."""
    for i, strategy in enumerate(strategies):
        for seed in range(seeds):
            trace = make_trace(two_tasks(0.3 + 0.1 * i + 0.02 * seed))
            run = make_run(strategy, benchmark=BENCHMARK, seed=seed)
            write_run(out, run, trace, costs={"train_s": 1.0 + i}, memory_bytes=1000 * i)
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("runs") / "out")


def read(*paths: Path) -> list[sources.Source]:
    return sources.Reader().read(paths)[0]


# ------------------------------------------------------------------------------------------------ curves
def test_mean_over_the_tasks_so_far_and_its_band() -> None:
    aligned = align([digest(0.3), digest(0.5)])
    assert aligned.boundaries.tolist() == [0, 2, 4]
    band = aligned.so_far()
    assert band.x.tolist() == [0, 1, 2, 2, 2, 3, 4, 4]
    np.testing.assert_allclose(band.mean, [0, 0.5, 0.9, 0.9, 0.5, 0.5, 0.75, 0.75])
    np.testing.assert_allclose(band.low, [0, 0.5, 0.9, 0.9, 0.5, 0.45, 0.75, 0.75])
    np.testing.assert_allclose(band.high, [0, 0.5, 0.9, 0.9, 0.5, 0.55, 0.75, 0.75])
    np.testing.assert_array_equal(np.isnan(aligned.task(1).mean), [True] * 4 + [False] * 4)


def test_the_order_of_runs_does_not_matter() -> None:
    runs = [digest(0.1 * i) for i in range(7)]
    one, other = (align(some).so_far() for some in (runs, runs[::-1]))
    assert one.mean.tobytes() == other.mean.tobytes()


def test_runs_of_unequal_length_are_aligned_at_boundaries() -> None:
    """Experiences of two updates, and of three: cut to two, and the boundary is at the same place."""
    longer = np.insert(two_tasks(0.5), 3, [[0.9, NAN], [0.8, 0.7]], axis=1)
    aligned = align([digest(0.3), Digest.of(make_trace(longer), "class")])
    assert aligned.cut
    assert aligned.boundaries.tolist() == [0, 2, 4]
    assert aligned.x.tolist() == [0, 1, 2, 2, 3, 4]
    np.testing.assert_allclose(aligned.task(0).mean, [0, 0.5, 0.9, 0.9, 0.4, 0.8])


def test_evaluations_apart_are_interpolated() -> None:
    sparse = make_trace(two_tasks()[:, [0, 2, 3]], every=2)
    aligned = align([Digest.of(sparse, "class"), digest()])
    assert aligned.x.tolist() == [0, 1, 2, 2, 3, 4]
    np.testing.assert_allclose(aligned.accuracy[0, :, 0], [0, 0.45, 0.9, 0.9, 0.85, 0.8])


def test_the_mean_gap_after_a_boundary() -> None:
    after = after_boundaries(digest(0.3))
    assert after is not None
    x, y = after
    assert x.tolist() == [0, 1, 2]
    np.testing.assert_allclose(y, [0, -0.6, -0.1])
    assert after_boundaries(Digest.of(make_trace(two_tasks()[:1]), "class")) is None


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(5, 60))
def test_no_minimum_is_lost_by_thinning(seed: int, runs: int, columns: int) -> None:
    points = 5000
    curves = np.random.default_rng(seed).random((runs, points))
    curves[:, ::97] = NAN
    whole = Band.over(np.arange(points), curves)
    thin = whole.thinned(columns, points)
    assert len(thin.x) <= 8 * columns + 4 * len(range(0, points, 97))
    for name in ("mean", "low"):
        assert np.nanmin(getattr(thin, name)) == np.nanmin(getattr(whole, name))
    assert np.nanmax(thin.high) == np.nanmax(whole.high)
    column = np.arange(points) * columns // points
    for c in (0, columns // 2, columns - 1):
        inside = thin.x * columns // points == c
        assert np.nanmin(thin.mean[inside]) == np.nanmin(whole.mean[column == c])


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=8))
def test_the_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    def dominated(i: int) -> bool:
        cost, worth = points[i]
        return any(c <= cost and w >= worth and (c, w) != (cost, worth) for c, w in points)

    front = non_dominated([float(c) for c, _ in points], [float(w) for _, w in points])
    assert sorted(front) == [i for i in range(len(points)) if not dominated(i)]
    assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)


# ------------------------------------------------------------------------------------------------ sections
def test_values_of_the_sections(runs: Path) -> None:
    [board] = boards(read(runs))
    names = [method.name for method in board.methods]
    assert sorted(names) == ["er", "naive"]
    er, naive = names.index("er"), names.index("naive")
    drawn = accuracy.section(board, 100)
    assert drawn is not None
    assert [choice["key"] for choice in drawn["choices"]] == ["mean", "0", "1"]
    assert drawn["data"]["boundaries"] == [0, 2, 4]
    curve = next(c for c in drawn["data"]["curves"]["0"] if c["method"] == er)
    whole = np.frombuffer(base64.b64decode(curve["y"]), "<u2") / 10_000 - 2
    np.testing.assert_allclose(whole, [0, 0.5, 0.9, 0.9, 0.9, 0.41, 0.8, 0.8])
    assert np.frombuffer(base64.b64decode(curve["x"]), "<u4").tolist() == [0, 1, 2, 2, 2, 3, 4, 4]

    table = gaps.section(board, 100)
    assert table is not None
    depth = {row["name"]: row["cells"][0]["text"] for row in table["rows"]}
    assert depth == {"er": "49.00", "naive": "59.00"}, "0.9 - 0.41, 0.9 - 0.31"
    assert {row["name"]: row["bar"]["permanent"] for row in table["rows"]} == {"er": 16.95, "naive": 16.95}

    heat = matrices.section(board)
    assert heat is not None
    assert [m["cells"] for m in heat["maps"]] == [[[90.0, None], [80.0, 70.0]]] * 2

    compared = differences.section(board)
    assert compared is not None
    [pair] = compared["data"]["pairs"]
    min_acc = pair["metrics"][board.metrics.index("min_acc")]
    sign = 1 if pair["a"] == er else -1
    assert (min_acc["mean"], min_acc["verdict"], min_acc["better"]) == (sign * 10.0, sign, 2 if sign == 1 else 0)

    spent = costs.section(board)
    assert spent is not None
    front = {choice["key"]: choice["names"] for choice in spent["choices"]}
    assert front["train_s"] == ["naive"], "as good at the end, and cheaper"
    assert front["peak_rss_bytes"] == [board.methods[i].name for i in sorted((er, naive))], "equal points"

    others = libraries.section(board)
    assert others is not None
    forgetting = others["tables"][1]
    assert forgetting["quantity"] == "forgetting"
    assert {column["users"][0]: cell["text"] for column, cell in zip(
        forgetting["columns"], forgetting["rows"][0]["cells"], strict=True)} == {
        "Avalanche 0.6: StreamForgetting": "10.00 %", "Mammoth: forgetting": "10.00 %",
        "FACIL: TAg forg, TAw forg": "10.00 %", "Continuum 1.2.7: forgetting": "0.00 %",
        "LibContinual a399ed4: Frgt": "0.00 %",
    }  # fmt: skip


def test_the_picture_of_the_stream_is_of_the_runs_own(runs: Path, tmp_path: Path) -> None:
    [board] = boards(read(runs))
    picture = streams.section(board)
    assert picture is not None
    assert picture["of"] == "samples"
    assert sum(v or 0 for row in picture["data"]["cells"] for v in row) == board.methods[0].row["stream_samples"]

    other = folder(tmp_path / "other", ("naive",), 1)
    record = json.loads((path := next(other.rglob("run.json"))).read_text())
    record["stream"]["instance_hash"] = "0" * 64
    files.write_json(path, record)
    [board] = boards(read(other))
    picture = streams.section(board)
    assert picture is not None
    assert (picture["of"], picture["data"]["cells"]) == ("visits", [[1.0, None], [None, 1.0]])


def test_runs_without_traces_have_tables(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs, tmp_path / "out")
    for path in (tmp_path / "out").rglob("trace.npz"):
        path.unlink()
    [board] = boards(read(tmp_path / "out"))
    assert accuracy.section(board, 100) is None
    assert matrices.section(board) is None
    assert libraries.section(board) is None
    table = gaps.section(board, 100)
    assert table is not None
    assert table["data"] is None
    assert differences.section(board) is not None
    assert costs.section(board) is not None
    text = built(tmp_path / "out").decode()
    assert "need the file trace.npz of a run. No run of these has it here: er, naive." in text
    assert "without-result" not in text


def test_failed_unfinished_and_damaged_runs_are_named(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_run(out, make_run("er"), None, failure="the loss became NaN at iteration 3")
    write_run(out, make_run("er", seed=1), None)
    write_run(out, make_run("er", seed=2), make_trace(two_tasks()))
    broken = write_run(out, make_run("er", seed=3), make_trace(two_tasks())) / "trace.npz"
    broken.write_bytes(broken.read_bytes()[:100])
    (write_run(out, make_run("er", seed=4), None) / "run.json").write_text("{")
    some, excluded = sources.Reader().read([out])
    section = unfinished.section(boards(some), excluded)
    assert section is not None
    assert [(row["seed"], row["reason"]) for row in section["failed"]] == [(0, "the loss became NaN at iteration 3")]
    assert [(row["seed"], row["reason"]) for row in section["unfinished"]] == [(1, "unfinished")]
    [damaged] = section["unreadable"]
    assert damaged["seed"] == 3
    assert "trace.npz: damaged or truncated" in damaged["reason"]
    assert len(section["excluded"]) == 1
    assert "seed-4" in section["excluded"][0]


def test_an_unfinished_run_is_drawn_where_no_other_is(tmp_path: Path) -> None:
    run = make_run("naive", "stream.tasks.count=2", iterations=5)
    with pytest.raises(KeyboardInterrupt):
        execute(run, tmp_path / "out", progress=CrashAt(7))
    [board] = boards(read(tmp_path / "out"))
    [method] = board.methods
    assert method.is_unfinished
    drawn = accuracy.section(board, 100)
    assert drawn is not None
    assert (drawn["data"]["end"], drawn["data"]["boundaries"]) == (7, [0, 5, 7])
    section = unfinished.section([board], [])
    assert section is not None
    assert [row["updates"] for row in section["unfinished"]] == [7]
    assert matrices.section(board) is None
    assert libraries.section(board) is None

    write_run(tmp_path / "out", run.model_copy(update={"seed": 1}), make_trace(two_tasks()))
    both = boards(read(tmp_path / "out"))
    [method] = [m for board in both for m in board.methods if m.completed]
    assert not method.is_unfinished
    assert [len(digest.iteration) for digest in method.digests] == [8]


# ------------------------------------------------------------------------------------------------ the page
def built(*paths: Path, **more: Any) -> bytes:
    some, excluded = sources.Reader().read(paths)
    return page.build(page.Contents("runs", some, excluded, **more))


class Parsed(html.parser.HTMLParser):
    """Elements, attributes, and the text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attributes]
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data


def hostile(out: Path) -> Path:
    """Runs whose every name is a script, under a folder with such a name."""
    for seed in range(2):
        for i, name in enumerate((SCRIPT, "</script><img src=x onerror=alert(2)>", "{{ 7 * 7 }} & %{x}")):
            run = make_run("er", f"strategy.memory={10 + i}", seed=seed)
            config = run.model_dump(mode="json")
            config["strategy"] = {"name": name, "memory": "<b>10</b>"}
            changes = {"config": config, "config_hash": f"{i:064x}", "run_id": f"{10 * i + seed:064x}"}
            write_run(out / "<i>&'\"", run, make_trace(two_tasks()), benchmark=f"<u>{SCRIPT}", **changes)
    write_run(out / "<i>&'\"", make_run("naive"), None, failure=f"no {SCRIPT} luck", benchmark=f"<u>{SCRIPT}")
    return out


def test_every_name_is_text(tmp_path: Path) -> None:
    text = built(hostile(tmp_path / "hostile"))
    parsed, harmless = Parsed(text.decode()), Parsed(built(folder(tmp_path / "other")).decode())
    assert set(parsed.tags) <= set(harmless.tags) | {"h3"}
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]
    for name in (SCRIPT, "</script><img src=x onerror=alert(2)>", "{{ 7 * 7 }} & %{x}", f"no {SCRIPT} luck"):
        assert name in parsed.text
    assert "<i>&'\"" in parsed.text
    data = [json.loads(script) for script in parsed.scripts[:-2]]
    assert SCRIPT in [method["name"] for block in data if "shown" in block for method in block["methods"]]


def test_only_our_scripts_are_allowed_and_no_request(runs: Path) -> None:
    parsed = Parsed(built(runs).decode())
    [policy] = [value for name, value in parsed.attributes if name == "content" and "default-src" in value]
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in parsed.scripts[-2:]]
    allowed = " ".join(f"'sha256-{each}'" for each in sorted(hashes, key=policy.index))
    assert policy == (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    links = [value for name, value in parsed.attributes if name in ("src", "href") and not value.startswith("#")]
    assert links == ["data:,"]


def test_the_same_runs_are_the_same_bytes(runs: Path, tmp_path: Path) -> None:
    text = built(runs)
    assert text == built(runs)
    directories = [path.parent for path in runs.rglob("run.json")]
    assert built(*directories[::-1]) == built(*directories)
    assert not re.search(rb"started_utc|20\d\d-\d\d-\d\dT", re.sub(rb'id="plotly">.*?</script>', b"", text, flags=re.S))


def test_a_link_leads_to_each_section(runs: Path) -> None:
    parsed = Parsed(built(runs).decode())
    ids = {value for name, value in parsed.attributes if name == "id"}
    links = {value[1:] for name, value in parsed.attributes if name == "href" and value.startswith("#")}
    assert links <= ids
    assert {f"board-0-{key}" for key in (
        "ranking", "accuracy", "gaps", "matrices", "stream", "differences", "costs", "libraries"
    )} <= links  # fmt: skip
    described = {value for name, value in parsed.attributes if name == "aria-describedby"}
    assert described <= ids, "each metric has its definition"
    assert "metric-average_accuracy" in described


# ------------------------------------------------------------------------------------------------ the verb
def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["report", *arguments]) == 2
    return capsys.readouterr().err


def test_what_the_verb_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused(capsys) == "results: no such folder; runs are written there by `clbench run`.\n"
    (tmp_path / "results").mkdir()
    assert refused(capsys) == "results: no run.json there or below.\n"
    assert (
        refused(capsys, "a.yaml", "b.yaml")
        == "b.yaml: a second study; a report is about one study, or about folders.\n"
    )
    (tmp_path / "more").mkdir()
    assert refused(capsys, "a.yaml", "results", "more") == (
        "more: a second folder; the runs of a study are in one folder.\n"
    )
    assert (
        refused(capsys, "results/run.json")
        == "results/run.json: no such folder; runs are written there by `clbench run`.\n"
    )
    assert not (tmp_path / "report.html").exists()


def test_the_verb(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.html"
    assert main(["report", str(runs), "-o", str(out), "--metric", "sessions.final"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    parsed = Parsed(out.read_text(encoding="utf-8"))
    assert "4 runs on 1 board: 4 completed." in " ".join(parsed.text.split())
    assert '"reload_s":null' in out.read_text(encoding="utf-8")
    assert ("data-tip", "metric-sessions.final") in parsed.attributes
    assert ("data-tip", "metric-min_acc") not in parsed.attributes


# ------------------------------------------------------------------------------------------------ studies
STUDY = f"""
id: tiny
title: A <tiny> study
streams: [{BENCHMARK}]
strategies: [naive, er]
seeds: 2
budget: {{iterations: 5}}
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(STUDY)
    return tmp_path / "tiny.yaml"


def planned(study: Path) -> list[Any]:
    from clbench.studies.study import read as read_study

    checked = read_study(study)
    return [p.run for j in range(2) for p in checked.runs(0, j, *checked.combinations(j)[0])]


def test_a_study_shows_its_runs_and_those_that_are_missing(study: Path, tmp_path: Path) -> None:
    out = folder(tmp_path / "results", ("lwf",), 1)  # no run of the study
    for run in planned(study)[:3]:
        write_run(out, run, make_trace(two_tasks()))
    report = tmp_path / "report.html"
    assert main(["report", str(study), str(out), "-o", str(report)]) == 0
    text = " ".join(Parsed(report.read_text(encoding="utf-8")).text.split())
    assert "A <tiny> study" in text
    assert "3 of 4 runs completed." in text
    assert "split_synthetic-v1 er1 completed, 1 missing" in text.replace(" er ", " er")
    assert "lwf" not in text
    assert "seeds: 2 budget: {iterations: 5}" in text, "the study's file"


def test_a_study_whose_data_are_not_here_is_not_downloaded(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its runs are shown all the same, and the page says why their state is unknown."""
    monkeypatch.delenv("CLBENCH_OFFLINE")
    monkeypatch.setenv("CLBENCH_DATA", str(tmp_path / "no_data"))
    study.write_text(STUDY.replace(BENCHMARK, "split_mnist-v1"))
    out, report = folder(tmp_path / "results", ("er",), 1), tmp_path / "report.html"
    assert main(["report", str(study), str(out), "-o", str(report)]) == 0
    text = " ".join(Parsed(report.read_text(encoding="utf-8")).text.split())
    assert "The state of the study is unknown: split_mnist-v1: stream.data: data set 'mnist'" in text
    assert "1 run on 1 board: 1 completed." in text
    assert "CLBENCH_OFFLINE" not in os.environ


def test_progress_by_hand() -> None:
    progress = Progress([Row("a", {"completed": 2, "missing": 1}), Row("b", {"missing": 5}, trial=True)], unknown=2)
    assert (progress.total, progress.count("completed"), progress.has_ended) == (5, 2, False)
    assert Progress([Row("a", {"completed": 2, "failed": 1})]).has_ended
    assert not Progress([Row("a", {"completed": 2}), Row("b", {"missing": 1}, trial=True)]).has_ended


def test_following_ends_with_the_study(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written when a run has come, not when nothing changed; the last file does not load itself again."""
    out, report = tmp_path / "results", tmp_path / "report.html"
    coming, seen, stamps = planned(study), list[str](), list[int]()

    def sleep(seconds: float) -> None:
        assert seconds >= 3
        stamps.append(report.stat().st_mtime_ns)
        text = report.read_text(encoding="utf-8")
        seen.append(
            re.search(r"(\d) of 4 runs completed", text).group(1) + re.search(r'"reload_s":(\w+)', text).group(1)
        )  # type: ignore[union-attr]
        if len(seen) % 2 == 0:
            write_run(out, coming.pop(0), make_trace(two_tasks()))

    monkeypatch.setattr(time, "sleep", sleep)
    assert main(["report", str(study), str(out), "-o", str(report), "--follow"]) == 0
    assert seen == ["05", "05", "15", "15", "25", "25", "35", "35"]
    assert [stamps[i] == stamps[i + 1] for i in range(0, 8, 2)] == [True] * 4
    text = report.read_text(encoding="utf-8")
    assert "4 of 4 runs completed" in text
    assert '"reload_s":null' in text


def test_following_ends_with_ctrl_c(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = tmp_path / "report.html"

    def sleep(seconds: float) -> None:
        assert '"reload_s":5' in report.read_text(encoding="utf-8")
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    assert main(["report", str(runs), "-o", str(report), "--follow"]) == 0
    assert '"reload_s":null' in report.read_text(encoding="utf-8")


def test_files_that_did_not_change_are_not_read_again(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(runs, tmp_path / "out")
    reader = sources.Reader()
    first = {s.directory: s.digest for s in reader.read([tmp_path / "out"])[0]}
    changed = sorted(first)[0]
    write_run(tmp_path / "out", make_run("er", seed=0), make_trace(two_tasks(0.1)))
    before = sources.state([tmp_path / "out"])
    again = {s.directory: s.digest for s in reader.read([tmp_path / "out"])[0]}
    same = [directory for directory in first if again[directory] is first[directory]]
    assert changed not in same
    assert len(same) == len(first) - 1
    assert sources.state([tmp_path / "out"]) == before
