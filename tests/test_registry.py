"""Names to objects: the tables, and import paths checked without importing."""

from __future__ import annotations

import importlib
import json
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clbench import import_paths, messages, registry, source
from clbench.errors import UserError
from clbench.streams import definition, schedules, tasks
from clbench.streams.families import Schedule, TaskFamily


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that Python imports from as it would from the console script."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    import_paths.add_working_directory()
    return tmp_path


def refused(path: str) -> str:
    with pytest.raises(UserError) as caught:
        import_paths.check(path)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------ tables
@pytest.mark.parametrize("name", sorted(registry.strategies()))
def test_every_strategy_of_the_table(name: str) -> None:
    from clbench.strategy import Strategy

    found = registry.strategy(name)
    assert issubclass(found, Strategy)
    assert registry.strategy_config(name) is found.Config


def test_every_benchmark_of_the_table_and_no_other_file() -> None:
    for name, file in registry.benchmarks().items():
        path = registry.benchmark_path(name)
        assert path is not None
        assert path.is_file()
        assert file == f"{name}.yaml"
    found = {p.name for p in (source.folder("streams") / "benchmarks").glob("*.yaml")}
    assert found == set(registry.benchmarks().values())
    assert registry.benchmark_path("no such") is None


@pytest.mark.parametrize(
    ("package", "section", "base"),
    [(tasks, definition.Tasks, TaskFamily), (schedules, definition.AnySchedule, Schedule)],
)
def test_every_family_of_the_folder_may_be_said_and_names_itself(package: Any, section: Any, base: type) -> None:
    models = messages.member_models(section)
    words = [word for model in models for word in messages.tags(model)]
    assert len(set(words)) == len(words)
    in_folder = set()
    for file in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(file.name)
        in_folder |= {c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__}
    assert set(models) == {c for c in in_folder if issubclass(c, base)}


@pytest.mark.parametrize(
    "command", [["-m", "clbench"], ["-c", "from clbench.cli import main; raise SystemExit(main())"]]
)
def test_a_users_own_folders_of_these_names_stay_theirs(command: list[str], tmp_path: Path) -> None:
    for name in ("strategies", "streams"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("OWNER = 'user'\n")
    (tmp_path / "mine.py").write_text("import strategies, streams\nprint(strategies.OWNER, streams.OWNER)\n")
    listed = subprocess.run(
        [sys.executable, *command, "list", "strategies", "--json"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(listed.stdout).keys() == registry.strategies().keys()
    done = subprocess.run([sys.executable, "mine.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "user user\n"


def test_nothing_but_clbench_is_installed() -> None:
    """The folders of a checkout are no packages of their own: names as common as these belong to users."""
    code = "from importlib.util import find_spec; print(find_spec('strategies'), find_spec('streams'))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "None None\n"


def test_a_part_of_the_package_is_an_import_path_before_it_is_imported() -> None:
    """An editable installation finds `clbench.strategies` by a finder of its own, not below `clbench`."""
    code = (
        "import sys\nfrom clbench import import_paths\n"
        "import_paths.check('clbench.strategies.linear_probe:LinearProbe')\n"
        "assert not [name for name in sys.modules if name.startswith('clbench.strategies')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_part_of_another_checkout_is_an_error(tmp_path: Path) -> None:
    """A copy of the package comes first on the path, and the installation maps its parts to another folder."""
    shutil.copytree(source.PACKAGE, tmp_path / "clbench", ignore=shutil.ignore_patterns("__pycache__", *source.PARTS))
    done = subprocess.run(
        [sys.executable, "-m", "clbench", "list", "strategies"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    here, there = tmp_path.resolve(), source.folder("strategies")
    assert done.stderr == (
        f"clbench was imported from {here / 'clbench'} and clbench.strategies from {there}, not from "
        f"{here / 'strategies'}. Install the checkout that is meant: pip install --editable .\n"
    )


# ------------------------------------------------------------------------------------------------ import paths
@pytest.mark.parametrize(
    "path",
    [
        "avalanche.training.supervised:MIR",  # bound by a star import
        "avalanche.training.supervised:Naive",
        "avalanche.training.plugins:EWCPlugin",
        "torch.nn:Linear",
        "json:dumps",
        "os.path:join",
        "math:sqrt",  # built in: nothing to read
        "clbench.strategies.er:ExperienceReplay",
    ],
)
def test_import_paths_that_lead_somewhere(path: str) -> None:
    import_paths.check(path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("json:dump_", "'json:dump_' does not import: module 'json' has no 'dump_'. Did you mean 'dump'?"),
        ("avalanche.training.supervised:MIRR", "'avalanche.training.supervised:MIRR' does not import: module "
         "'avalanche.training.supervised' has no 'MIRR'. Did you mean 'MIR'?"),
        ("no_such_module:X", "'no_such_module:X' does not import: no module named 'no_such_module'."),
        ("avalanche.no.such:X", "'avalanche.no.such:X' does not import: no module named 'avalanche.no'."),
        ("json.decoder.x:X", "'json.decoder.x:X' does not import: no module named 'json.decoder.x'."),
        ("json.decodr:X", "'json.decodr:X' does not import: no module named 'json.decodr'. Did you mean 'decoder'?"),
        *((p, f"'{p}' is no import path; expected package.module:Name.")
          for p in ("a", "a:", ":a", "a:b:c", "a b:c", "a.:c", ".a:c", "a/b:c", "")),
    ],
)  # fmt: skip
def test_import_paths_that_do_not(path: str, message: str) -> None:
    assert refused(path) == message


def test_checking_does_not_import() -> None:
    code = (
        "import sys\nfrom clbench import import_paths\n"
        "import_paths.check('avalanche.training.supervised:MIR')\n"
        "assert not {'avalanche', 'torch'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_names_are_read_from_the_source(folder: Path) -> None:
    (folder / "lab_names.py").write_text(
        "import os.path\nimport json as j\nfrom math import sqrt as root\nfrom lab_star import *\n"
        "a = b = 1\nc, (d, *e) = 1, (2, 3)\nf: int = 1\n"
        "if a:\n    g = 1\nelse:\n    h = 1\ntry:\n    i = 1\nexcept ValueError:\n    k = 1\nfor m in []:\n    pass\n"
        "with open('x') as n:\n    pass\nclass O:\n    hidden = 1\ndef p():\n    hidden = 1\n"
    )
    (folder / "lab_star.py").write_text("from lab_more import *\nclass Star: ...\n")
    (folder / "lab_more.py").write_text("class More: ...\n")
    for name in (
        "os",
        "j",
        "root",
        "a",
        "b",
        "c",
        "d",
        "e",
        "f",
        "g",
        "h",
        "i",
        "k",
        "m",
        "n",
        "O",
        "p",
        "Star",
        "More",
    ):
        import_paths.check(f"lab_names:{name}")
    assert refused("lab_names:hidden").startswith("'lab_names:hidden' does not import: module 'lab_names' has no")


def test_where_the_source_does_not_tell_the_import_decides(folder: Path) -> None:
    (folder / "lab_lazy.py").write_text("def __getattr__(name): raise AttributeError(name)\n")
    (folder / "lab_unclear.py").write_text("from no_such_module_at_all import *\n")
    import_paths.check("lab_unclear:X")
    import_paths.check("lab_lazy:X")
    with pytest.raises(UserError, match=r"^strategy 'lab_lazy:X' does not import: module 'lab_lazy' has no 'X'\.$"):
        registry.strategy("lab_lazy:X")


def test_a_folder_without_init(folder: Path) -> None:
    (folder / "lab_folder").mkdir()
    (folder / "lab_folder" / "methods.py").write_text("class Mine: ...\n")
    import_paths.check("lab_folder.methods:Mine")
    assert refused("lab_folder:Mine") == "'lab_folder:Mine' does not import: module 'lab_folder' has no 'Mine'."


def test_a_module_that_breaks_when_imported(folder: Path) -> None:
    (folder / "lab_zero.py").write_text("class Mine: ...\n1 / 0\n")
    (folder / "lab_needs.py").write_text("import no_such_module\nclass Mine: ...\n")
    (folder / "lab_syntax.py").write_text("class Mine: ...\ndef f(:\n")
    with pytest.raises(UserError) as caught:
        registry.strategy("lab_zero:Mine")
    assert str(caught.value) == (
        f"strategy 'lab_zero:Mine' does not import: {folder / 'lab_zero.py'}, line 2: "
        "ZeroDivisionError: division by zero."
    )
    with pytest.raises(UserError) as caught:
        registry.strategy("lab_needs:Mine")
    assert str(caught.value) == (
        f"strategy 'lab_needs:Mine' does not import: {folder / 'lab_needs.py'}, line 1: "
        "ModuleNotFoundError: No module named 'no_such_module'."
    )
    assert refused("lab_syntax:Mine") == (
        f"'lab_syntax:Mine' does not import: {folder / 'lab_syntax.py'}, line 2: invalid syntax."
    )


# ------------------------------------------------------------------------------------------------ the working directory
def test_a_module_of_the_users_own_is_found_from_the_console_script(tmp_path: Path) -> None:
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "helpers.py").write_text("RATE = 1\n")
    (tmp_path / "my_lab" / "methods.py").write_text(
        "from clbench.strategy import Strategy\nfrom my_lab.helpers import RATE\n"
        "class MyStrategy(Strategy):\n    '''Mine.'''\n"
    )
    (tmp_path / "mine.yaml").write_text("base: split_synthetic-v1\nstrategy: {name: 'my_lab.methods:MyStrategy'}\n")
    command = Path(sys.executable).with_name("clbench")
    done = subprocess.run(
        [command, "run", "mine.yaml", "-o", "training.iterations=1", "-o", "evaluation.every=0", "--quiet"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("split_synthetic-v1 my_lab.methods:MyStrategy seed 0: ACC ")


def test_the_working_directory_shadows_nothing(folder: Path) -> None:
    (folder / "json").mkdir()
    (folder / "json" / "__init__.py").write_text("class Fake: ...\n")
    (folder / "streams").mkdir()
    (folder / "streams" / "__init__.py").write_text("BENCHMARKS = {}\n")
    assert refused("json:Fake") == "'json:Fake' does not import: module 'json' has no 'Fake'."
    assert sys.path[-1] == str(folder)
    import_paths.add_working_directory()
    assert sys.path.count(str(folder)) == 1
    assert registry.benchmarks()


def test_checking_an_import_path_leaves_the_places_of_modules_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    before = list(sys.path)
    import_paths.check("json:JSONDecoder")
    refused("lab_elsewhere:Mine")
    assert sys.path == before


@pytest.mark.parametrize("verb", ["validate", "show", "grid"])
def test_every_verb_imports_from_the_working_directory(verb: str, tmp_path: Path) -> None:
    """Of `run`: test_a_module_of_the_users_own_is_found_from_the_console_script."""
    (tmp_path / "my_lab.py").write_text(
        "from clbench.strategy import Strategy\nclass MyStrategy(Strategy):\n    '''Mine.'''\n"
    )
    short = "training: {iterations: 1}\nevaluation: {every: 0}\n"
    (tmp_path / "mine.yaml").write_text(f"base: split_synthetic-v1\n{short}strategy: {{name: 'my_lab:MyStrategy'}}\n")
    (tmp_path / "study.yaml").write_text(
        "id: s\nstreams: [split_synthetic-v1]\nseeds: 1\nstrategies: ['my_lab:MyStrategy']\n"
        "changes: {training: {iterations: 1}, evaluation: {every: 0}}\n"
    )
    arguments = {"validate": "mine.yaml", "show": "my_lab:MyStrategy", "grid": "study.yaml"}
    done = subprocess.run(
        [Path(sys.executable).with_name("clbench"), verb, arguments[verb]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_removed_working_directory_is_no_place_to_import_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def getcwd() -> str:
        raise FileNotFoundError

    monkeypatch.setattr("os.getcwd", getcwd)
    before = list(sys.path)
    import_paths.add_working_directory()
    assert sys.path == before
