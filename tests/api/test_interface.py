"""The names that `import clbench` offers: lazily imported, the same for Python, type checkers and editors."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys

import pytest

import clbench
from clbench.source import PACKAGE


def test_the_import_alone_is_light() -> None:
    code = (
        "import sys, clbench; dir(clbench), clbench.available, clbench.load_benchmark\n"
        "sys.exit('\\n'.join({'torch', 'pandas', 'matplotlib', 'avalanche'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""
    code = "import sys, clbench; sys.exit('\\n'.join(m for m in sys.modules if m in ('numpy', 'pydantic', 'torch')))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr.strip() == ""


def test_type_checkers_and_python_see_the_same_names() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    typed = {alias.name: node.module for node in imports for alias in node.names}
    assert sorted(typed) == clbench.__all__ == sorted(clbench.__all__)
    for name, module in typed.items():
        assert getattr(clbench, name) is getattr(importlib.import_module(str(module)), name)
        assert (getattr(clbench, name).__doc__ or "").strip()
        assert name in dir(clbench)


def test_other_names_are_missing_as_ever() -> None:
    with pytest.raises(AttributeError, match=r"^module 'clbench' has no attribute 'nothing'$"):
        _ = clbench.nothing  # type: ignore[attr-defined]
    assert importlib.import_module("clbench.results").read_run, "modules beside them are modules as before"
