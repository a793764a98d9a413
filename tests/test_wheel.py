"""The wheel: one name in site-packages, complete without the checkout, and the code of the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

import checkout
import clbench
from clbench import registry, source
from clbench.metrics import METRICS, metrics_of
from clbench.results.provenance import code_sha256

ROOT = checkout.ROOT
pytestmark = pytest.mark.xdist_group("wheel")  # what its tests share is made once
VERSION = clbench.__version__


@pytest.fixture(scope="module")
def wheel(repository_files: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make dist` makes it, of a copy: an older build folder would leave its files in it."""
    folder = tmp_path_factory.mktemp("source")
    needed = [name for name in repository_files if not name.startswith(("results/", "benchmarks/"))]
    checkout.copy(needed, folder, installed=False)
    built = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = (folder / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel, and with other packages from the one that tests run in.

    Of that one a path alone is taken over, so that hooks of its editable installation are not run.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    interpreter = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", interpreter, "install", "--quiet", "--no-deps", "--no-index", wheel],
        check=True,
    )
    others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site_packages,) = {path.parent.parent for path in folder.rglob("clbench/__init__.py")}
    (site_packages / "other_packages.pth").write_text("\n".join(others), encoding="utf-8")
    return interpreter


def run(python: Path, folder: Path, *arguments: str) -> str:
    """Output of Python in a folder that has nothing to do with the checkout."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [python, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ------------------------------------------------------------------------------------------------ what is in it
def test_one_name_in_site_packages(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {"clbench", f"clbench-{VERSION}.dist-info"}


def test_every_file_of_the_package_is_in_it(wheel: Path, repository_files: list[str]) -> None:
    """Also what setuptools must be told of: its list of packages, and files that are no modules."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("clbench/")}
    modules = {label for label, _ in source.files()}
    benchmarks = {f"clbench/streams/benchmarks/{file}" for file in registry.benchmarks().values()}
    page = source.PACKAGE / "reports" / "html"
    parts = {f"clbench/reports/html/{path.relative_to(page).as_posix()}" for path in page.glob("*/*.*")}
    beside = {part for part in parts if not part.endswith((".py", ".pyc"))}
    assert {"clbench/reports/html/static/report.css", "clbench/reports/html/templates/page.html"} <= beside
    assert names == modules | benchmarks | beside | {"clbench/py.typed"}
    assert {"README.md", "LICENSE"} <= set(repository_files)


def test_the_version_is_in_one_place() -> None:
    assert VERSION not in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------------------ what it does
def test_the_command_line(python: Path, tmp_path: Path) -> None:
    assert run(python, tmp_path, "-m", "clbench", "--version") == f"clbench {VERSION}\n"
    metrics = {*METRICS, *metrics_of("domain:squared_error")}
    for kind, names in (
        ("streams", registry.benchmarks()), ("strategies", registry.strategies()), ("metrics", metrics)
    ):  # fmt: skip
        listed = json.loads(run(python, tmp_path, "-m", "clbench", "list", kind, "--json"))
        assert set(listed) == set(names)
    assert "Experience replay" in run(python, tmp_path, "-m", "clbench", "show", "er")
    assert "definition" in run(python, tmp_path, "-m", "clbench", "show", "split_digits-v1")
    valid = run(python, tmp_path, "-m", "clbench", "validate", *registry.benchmarks())
    assert valid == "".join(f"{name}: ok\n" for name in registry.benchmarks())


def test_a_study(python: Path, tmp_path: Path) -> None:
    """The reference study, cut down."""
    study = yaml.safe_load((ROOT / "results" / "reference" / "study.yaml").read_text(encoding="utf-8"))
    study |= {"streams": ["split_synthetic-v1"], "strategies": ["naive", {"name": "er", "memory": 100}], "seeds": 1}
    study["changes"] = {"training": {"iterations": 3, "epochs": None}, "evaluation": {"every": 0, "dense": 0}}
    del study["tuning"]
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    run(python, tmp_path, "-m", "clbench", "grid", "study.yaml", "--quiet", "--processes", "1", "--out", "out")
    assert len((tmp_path / "out" / "leaderboard.csv").read_text(encoding="utf-8").splitlines()) == 1 + 2


def test_it_is_the_code_of_the_checkout(python: Path, tmp_path: Path) -> None:
    """The same files, though they lie elsewhere: results of both can be compared."""
    code = (
        "from clbench import source\nfrom clbench.results.provenance import code_sha256\n"
        "print(source.PACKAGE, source.folder('strategies'), code_sha256())"
    )
    package, strategies, digest = run(python, tmp_path, "-c", code).split()
    assert Path(strategies) == Path(package) / "strategies"
    assert not Path(package).is_relative_to(ROOT)
    assert digest == code_sha256()


def test_a_users_own_folders_stay_theirs(python: Path, tmp_path: Path) -> None:
    for name in source.PARTS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("OWNER = 'user'\n")
    (tmp_path / "mine.py").write_text(
        "import strategies, streams\nimport clbench.strategies as ours, clbench.streams\n"
        "print(strategies.OWNER, streams.OWNER, 'er' in ours.STRATEGIES, len(clbench.streams.BENCHMARKS))\n"
    )
    assert run(python, tmp_path, "mine.py") == f"user user True {len(registry.benchmarks())}\n"
    assert "er" in run(python, tmp_path, "-m", "clbench", "list", "strategies")
