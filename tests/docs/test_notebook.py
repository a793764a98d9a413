"""The notebook is executed from its first cell to its last."""

from __future__ import annotations

from pathlib import Path

import pytest

import checkout

NOTEBOOK = checkout.ROOT / "docs" / "tutorials" / "first_steps.ipynb"


def test_it_is_committed_without_outputs() -> None:
    nbformat = pytest.importorskip("nbformat")
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in book.cells)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Jupyter
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("MPLBACKEND", "agg")
    book = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        book, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    printed = ["".join(o.get("text", "") for o in cell.outputs) for cell in book.cells if cell.cell_type == "code"]
    assert printed[0].splitlines()[0] == "(0,) (0, 1) 289"
    assert "naive" in printed[1]
    assert "er" in printed[1]
