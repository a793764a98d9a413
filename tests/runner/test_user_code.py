"""The user's code in a run: every import is followed, every edit is noticed, and nothing else counts."""

from __future__ import annotations

import importlib
import linecache
import os
import shutil
import subprocess
import sys
import textwrap
import types
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clbench.results import files, provenance
from clbench.runner import user_code
from clbench.runner.checkpoint import Every
from clbench.runner.signals import Interrupted
from support import CrashAt, execute, make_run

Write = Callable[..., None]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes modules of a user, which are imported anew after that."""
    folder = tmp_path / "lab"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))

    def forget() -> None:
        for name in [name for name in sys.modules if name.startswith("lab_")]:
            del sys.modules[name]
        importlib.invalidate_caches()

    def write(packaged: dict[str, str] | None = None, **sources: str) -> None:
        for name, text in {**(packaged or {}), **sources}.items():
            path = folder / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        forget()

    yield write
    forget()


def digests(*paths: str) -> dict[str, str | None]:
    return user_code.of_paths(paths).modules


# ------------------------------------------------------------------------------------------------ imports
IMPORTS = {
    "import": ("import lab_helper", "lab_helper"),
    "import as": ("import lab_helper as h, os", "lab_helper"),
    "from": ("from lab_helper import VALUE", "lab_helper"),
    "in a function": ("def f():\n    from lab_helper import VALUE", "lab_helper"),
    "under a condition": ("try:\n    import no_such_module\nexcept ImportError:\n    import lab_helper", "lab_helper"),
    "by a call": ("import importlib\nh = importlib.import_module('lab_helper')", "lab_helper"),
    "by the built-in": ("h = __import__('lab_helper')", "lab_helper"),
    "through another": ("import lab_between", "lab_helper"),
    "submodule": ("import lab_pack.deep.leaf", "lab_pack.deep.leaf"),
    "submodule's package": ("import lab_pack.deep.leaf", "lab_pack"),
    "package between": ("import lab_pack.deep.leaf", "lab_pack.deep"),
    "submodule by from": ("from lab_pack.deep import leaf", "lab_pack.deep.leaf"),
    "relative import inside": ("import lab_pack.deep.leaf", "lab_pack.sibling"),
    "relative name inside": ("import lab_pack.deep.leaf", "lab_pack.deep.twin"),
    "star": ("from lab_pack import *", "lab_pack.starred"),
    "star of a module": ("from lab_helper import *", "lab_helper"),
    "folder without __init__": ("import lab_space.member", "lab_space.member"),
}


@pytest.mark.parametrize("form", IMPORTS)
@pytest.mark.parametrize("loaded", [False, True])
def test_every_import_is_followed_and_every_edit_noticed(
    form: str, loaded: bool, lab: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement, module = IMPORTS[form]
    sources = {
        "lab_helper": "VALUE = 1\n",
        "lab_between": "import lab_helper\n",
        "lab_pack/__init__": "__all__ = ['starred']\n",
        "lab_pack/starred": "",
        "lab_pack/sibling": "",
        "lab_pack/deep/__init__": "",
        "lab_pack/deep/leaf": "from ..sibling import *\nfrom . import twin\n",
        "lab_pack/deep/twin": "",
        "lab_pack/unused": "",
        "lab_space/member": "",
        "lab_unused": "",
    }
    named = {name.removesuffix("/__init__").replace("/", "."): name for name in sources}
    lab(sources, lab_method=statement + "\ndef Mine(): pass\n")

    def seen() -> dict[str, str | None]:
        if loaded:
            importlib.import_module("lab_method")
        return digests("lab_method:Mine")

    before = seen()
    assert before.keys() <= {*named, "lab_method"}
    assert not {"lab_unused", "lab_pack.unused"} & before.keys()
    lab({named[module]: sources[named[module]] + "# edited\n"})
    after = seen()
    assert {name for name in after if after[name] != before[name]} == {module}
    lab({"lab_pack/unused": "# edited\n"}, lab_unused="# edited\n")
    assert seen() == after
    monkeypatch.chdir("/")
    copied = shutil.copytree(tmp_path / "lab", tmp_path / "copy")
    monkeypatch.setattr(sys, "path", [str(copied), *(p for p in sys.path if p != str(tmp_path / "lab"))])
    lab()
    assert seen() == after, "the folder does not count"


def test_a_computed_import_counts_all_modules_beside(lab: Write) -> None:
    lab(lab_method="import importlib\nm = importlib.import_module('lab_' + 'helper')\n", lab_helper="", lab_other="")
    assert digests("lab_method:m").keys() == {"lab_method", "lab_helper", "lab_other"}
    computed = "import importlib\nimportlib.import_module(str())\n"
    lab({"lab_pack/__init__": "", "lab_pack/deep/a": "", "lab_pack/b": computed})
    assert digests("lab_pack.b:x").keys() == {"lab_pack", "lab_pack.b", "lab_pack.deep.a"}


def test_the_order_of_paths_and_of_imports_does_not_count(lab: Write) -> None:
    lab(lab_a="", lab_b="", lab_c="import lab_a")
    assert digests("lab_a:x", "lab_b:x") == digests("lab_b:x", "lab_a:x")
    alone = digests("lab_c:x")
    importlib.import_module("lab_b")
    assert digests("lab_c:x") == alone


def test_what_imports_itself_or_cannot_be_parsed_ends_the_search(lab: Write) -> None:
    lab(lab_a="import lab_b", lab_b="import lab_a, lab_broken", lab_broken="def (:\n")
    assert digests("lab_a:x").keys() == {"lab_a", "lab_b", "lab_broken"}


def test_an_archive_counts_as_files_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lab: Write) -> None:
    lab(lab_helper="VALUE = 1\n", lab_method="import lab_helper\n")
    expected = digests("lab_method:x")
    with zipfile.ZipFile(tmp_path / "lab.zip", "w") as archive:
        for path in (tmp_path / "lab").glob("*.py"):
            archive.write(path, path.name)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "lab.zip"), *(p for p in sys.path if p != str(tmp_path / "lab"))])
    assert digests("lab_method:x") == expected


def test_installed_packages_count_only_where_the_configuration_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lab: Write
) -> None:
    package = tmp_path / "site-packages" / "lab_installed"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text("")
    monkeypatch.syspath_prepend(str(package.parent))
    lab(lab_method="import lab_installed.inner, torch, json, clbench.strategy\n")
    assert digests("lab_method:x").keys() == {"lab_method"}
    before = digests("lab_installed.inner:x")
    assert before.keys() == {"lab_installed"}
    (package / "__init__.py").write_text("# edited\n")
    assert digests("lab_installed.inner:x")["lab_installed"] != before["lab_installed"]
    names = ["avalanche.training.supervised:Naive", "torchvision.models:resnet18", "clbench.strategies.er:Er"]
    assert digests(*names) == {}


def test_a_module_edited_after_its_import_is_what_was_imported(lab: Write, tmp_path: Path) -> None:
    lab(lab_method="VALUE = 1\n")
    module = importlib.import_module("lab_method")
    before = user_code.of_paths(["lab_method:x"])
    assert before.stale == ()
    (tmp_path / "lab" / "lab_method.py").write_text("VALUE = 22\n")
    assert user_code.of_paths(["lab_method:x"]) == user_code.UserCode(before.modules, ("lab_method",))
    anew = user_code.of_paths(["lab_method:x"], as_imported=False).modules
    assert anew != before.modules
    importlib.reload(module)
    assert user_code.of_paths(["lab_method:x"]) == user_code.UserCode(anew)


# ------------------------------------------------------------------------------------------------ without a file
def cells(monkeypatch: pytest.MonkeyPatch, *sources: str) -> dict[str, str | None]:
    """The code of `Mine` in a notebook with these cells, run one after the other."""
    notebook = types.ModuleType("a_notebook")
    monkeypatch.setitem(sys.modules, "a_notebook", notebook)
    for number, text in enumerate(sources):
        name = f"<cell {number} {hash(text)}>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        exec(compile(text, name, "exec"), vars(notebook))
    return digests("a_notebook:Mine")


MINE = "class Mine:\n    def loss(self, batch):\n        return factor * helper(batch)\n"
HELPER = "import math\ndef helper(x):\n    return math.sqrt(x)\n"


def test_cells_of_a_notebook_count_as_far_as_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    first = cells(monkeypatch, "factor = 2\n", HELPER, MINE)
    assert None not in first.values()
    assert cells(monkeypatch, "factor = 2\n", HELPER, MINE) == first
    assert cells(monkeypatch, "factor = 2\n", HELPER, MINE, "print('unused')\n", "unused = object()\n") == first
    assert cells(monkeypatch, "factor = 2\n", HELPER, MINE.replace("factor", "3 * factor"), MINE) != {}
    others = {
        "the class": ("factor = 2\n", HELPER, MINE.replace("factor *", "factor +")),
        "redefined": ("factor = 2\n", HELPER, MINE, MINE.replace("factor *", "factor +")),
        "a function": ("factor = 2\n", HELPER.replace("sqrt", "exp"), MINE),
        "a number": ("factor = 3\n", HELPER, MINE),
    }
    for what, sources in others.items():
        assert cells(monkeypatch, *sources) != first, what


@pytest.mark.parametrize("sources", [("factor = object()\n", HELPER, MINE), ("class Mine:\n    strength = 3\n",)])
def test_what_has_no_source_equals_nothing(sources: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    modules = cells(monkeypatch, *sources)
    assert modules == {"a_notebook": None}
    assert provenance.code_sha256(modules) is None
    assert user_code.change({"code_sha256": None, "user_code": modules}, modules, None) == (
        "user",
        "the source of a_notebook is not available",
    )


def test_a_script_counts_with_what_it_imports(tmp_path: Path) -> None:
    (tmp_path / "lab_helper.py").write_text("")
    script = tmp_path / "script.py"
    script.write_text(
        "import lab_helper\nfrom clbench.runner import user_code\n"
        "print(sorted(user_code.of_paths(['__main__:x']).modules.items()))\n"
    )

    def printed() -> str:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, str(script)], cwd="/", capture_output=True, text=True, check=True, env=environment
        ).stdout

    first = printed()
    assert first.count("'") == 8  # two names, two digests
    (tmp_path / "lab_helper.py").write_text("# edited\n")
    assert printed() != first


# ------------------------------------------------------------------------------------------------ configurations
def test_every_part_of_a_configuration_that_names_code_counts() -> None:
    run = make_run("naive", "model={name: imported, factory: 'nets:net'}", "title='a:b'")
    assert user_code.paths_in(run) == {"nets:net"}
    strategy = run.strategy.model_copy(
        update={"name": "er+lab:Mine", "plugins": [{"name": "lab.plugins:One", "inner": {"name": "lab.two:Two"}}]}
    )
    stream = run.benchmark.stream.model_copy(
        update={"data": ["lazy:lab.data:Set", "npz:folder", "npy:folder", "digits"]}
    )
    run = run.model_copy(
        update={"strategy": strategy, "benchmark": run.benchmark.model_copy(update={"stream": stream})}
    )
    assert user_code.paths_in(run) == {"nets:net", "lab:Mine", "lab.plugins:One", "lab.two:Two", "lab.data:Set"}


def test_nothing_of_a_users_leaves_the_digest_as_it_was() -> None:
    assert user_code.of(make_run("er")).modules == {}
    assert provenance.code_sha256({}) == provenance.code_sha256()
    assert provenance.code_sha256({"lab": "0" * 64}) not in (None, provenance.code_sha256())


# ------------------------------------------------------------------------------------------------ runs
METHOD = """
import lab_helper
from clbench.strategy import Strategy
class Mine(Strategy):
    def loss(self, batch):
        return lab_helper.factor * super().loss(batch)
"""
NET = """
import lab_helper
from torch import nn
def net(shape, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0], 8), nn.ReLU(), nn.Linear(8, outputs))
"""
DATA = """
import numpy as np
def data():
    x = np.random.default_rng(0).random((400, 4), np.float32)
    return {"x": x, "y": np.arange(400) % 4}
"""
OWN_DATA = ["id=split_mine-v1", "stream.data=lab_data:data", "stream.synthetic=null", "stream.tasks.count=2"]
PLUGINS = "strategy.plugins=[{name: 'lab_plugin:Idle'}]"
PLUGIN = "from avalanche.core import SupervisedPlugin\nclass Idle(SupervisedPlugin):\n    pass\n"
HOSTED = "avalanche.training.supervised:Naive"
FACTORY = """
from avalanche.training.supervised import Naive
def make(model, optimizer, criterion, **more):
    return Naive(model=model, optimizer=optimizer, criterion=criterion, **more)
"""

KINDS: dict[str, tuple[str, list[str], str]] = {
    "a strategy": ("lab_method:Mine", [], "lab_method"),
    "a strategy's helper": ("lab_method:Mine", [], "lab_helper"),
    "a part of a composition": ("er+lab_terms:Term", [], "lab_terms"),
    "a network": ("naive", ["model={name: imported, factory: 'lab_net:net'}"], "lab_net"),
    "a network's helper": ("naive", ["model={name: imported, factory: 'lab_net:net'}"], "lab_helper"),
    "a data set": ("naive", OWN_DATA, "lab_data"),
    "a plugin": (HOSTED, [PLUGINS], "lab_plugin"),
    "a hosted factory": ("lab_factory:make", [], "lab_factory"),
}


@pytest.fixture
def everything(lab: Write) -> Write:
    lab(
        lab_helper="factor = 1.0\n",
        lab_method=METHOD,
        lab_terms="from clbench.strategy import Strategy\nclass Term(Strategy):\n    pass\n",
        lab_net=NET,
        lab_data=DATA,
        lab_plugin=PLUGIN,
        lab_factory=FACTORY,
    )
    return lab


@pytest.mark.parametrize("kind", KINDS)
def test_a_finished_run_of_edited_code_is_done_again_and_kept(kind: str, everything: Write, tmp_path: Path) -> None:
    strategy, overrides, module = KINDS[kind]
    run = make_run(strategy, *overrides, "evaluation.every=0")
    lines: list[str] = []

    def again(**options: Any) -> Any:
        lines.clear()
        return execute(run, tmp_path / "out", warn=lines.append, **options)

    first = again()
    assert first.record["status"] == "completed", first.record["failure"]
    assert module in first.record["provenance"]["user_code"]
    assert (again().skipped, lines) == (True, [])
    before = {path.name: path.read_bytes() for path in first.directory.iterdir()}
    path = tmp_path / "lab" / f"{module}.py"
    everything(**{module: path.read_text() + "\n# edited\n"})
    kept = again(other_code="keep")
    assert (kept.skipped, kept.other_code, kept.difference) == (True, "user", f"{module} changed")
    second = again()
    [line] = lines
    place = first.directory / files.SUPERSEDED
    assert line == (
        f"finished earlier with other code ({module} changed); it is done again, the earlier result is kept in {place}"
    )
    assert not second.skipped
    assert {path.name: path.read_bytes() for path in (place / "1").iterdir()} == before
    assert second.record["provenance"]["code_sha256"] != first.record["provenance"]["code_sha256"]
    assert (again().skipped, lines) == (True, [])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("a plugin", "a hosted factory")])
def test_a_checkpoint_of_edited_code_is_not_used(kind: str, everything: Write, tmp_path: Path) -> None:
    strategy, overrides, module = KINDS[kind]
    run = make_run(strategy, *overrides, "evaluation.every=0")
    with pytest.raises(Interrupted):
        execute(run, tmp_path / "out", every=Every(0, 3), progress=CrashAt(7))
    lines: list[str] = []
    everything(**{module: (tmp_path / "lab" / f"{module}.py").read_text() + "\n# edited\n"})
    outcome = execute(run, tmp_path / "out", warn=lines.append)
    expected = [f"checkpoint at update {n} cannot be used: made by other code ({module} changed)" for n in (6, 3)]
    assert lines == expected
    assert outcome.record["costs"]["resumed_at"] == []


def test_what_only_clbench_changed_is_kept_and_what_is_unknown_too(
    everything: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [make_run(strategy, "evaluation.every=0") for strategy in ("naive", "lab_method:Mine")]
    first = [execute(run, tmp_path / "out") for run in runs]

    def kinds(**options: Any) -> list[tuple[bool, str]]:
        outcomes = [execute(run, tmp_path / "out", **options) for run in runs]
        return [(outcome.skipped, outcome.other_code) for outcome in outcomes]

    assert kinds() == [(True, "none")] * 2
    monkeypatch.setattr(provenance, "code_sha256", lambda user=None: "0" * 64)
    assert kinds() == [(True, "suite")] * 2
    for outcome in first:  # an earlier version did not record it
        record = files.read_run(outcome.directory)
        del record["provenance"]["user_code"]
        files.write_json(outcome.directory / "run.json", record)
    assert kinds() == [(True, "suite"), (True, "unknown")], "of a shipped strategy there is nothing to know"
    assert kinds(other_code="again") == [(False, "none")] * 2
    assert kinds(other_code="again") == [(True, "none")] * 2, "a command that was stopped does not start over"


def test_a_run_without_source_is_done_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clbench.strategy import Strategy

    notebook = types.ModuleType("a_notebook")
    vars(notebook)["Strategy"] = Strategy
    exec("class Mine(Strategy):\n    pass\n", vars(notebook))
    monkeypatch.setitem(sys.modules, "a_notebook", notebook)
    run = make_run("a_notebook:Mine", "evaluation.every=0")
    lines: list[str] = []
    for _ in range(2):
        outcome = execute(run, tmp_path / "out", warn=lines.append)
        assert not outcome.skipped
    assert outcome.record["provenance"]["user_code"] == {"a_notebook": None}
    assert outcome.record["provenance"]["code_sha256"] is None
    assert [line.partition(";")[0] for line in lines] == [
        "finished earlier with other code (the source of a_notebook is not available)"
    ]


EDITS = """
from pathlib import Path
from clbench.strategy import Strategy
class Mine(Strategy):
    def step(self, batch):
        helper = Path(__file__).with_name("lab_helper.py")
        if "edited" not in helper.read_text():
            helper.write_text("factor = 2.0  # edited")
        import lab_helper
        return lab_helper.factor * super().step(batch)
"""


def test_code_that_is_edited_during_a_run_and_imported_then_is_unknown(lab: Write, tmp_path: Path) -> None:
    lab(lab_helper="factor = 1.0\n", lab_method=EDITS)
    lines: list[str] = []
    run = make_run("lab_method:Mine", "evaluation.every=0")
    outcome = execute(run, tmp_path / "out", warn=lines.append)
    assert lines == ["code edited during the run (lab_helper changed); the result counts as one of unknown code"]
    code = outcome.record["provenance"]
    assert (code["code_sha256"], code["user_code"]["lab_helper"]) == (None, None)
    assert files.read_run(outcome.directory)["provenance"]["user_code"] == code["user_code"]
    assert code["user_code"]["lab_method"] is not None
    assert not execute(run, tmp_path / "out").skipped
    assert execute(run, tmp_path / "out").skipped
