"""Shared by all tests: no network, one thread, and real data only where CLBENCH_DATA holds it."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import checkout

os.environ["CLBENCH_OFFLINE"] = "1"
os.environ.setdefault("MPLCONFIGDIR", str(Path.home() / ".cache" / "matplotlib"))  # its list of fonts takes seconds
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="clbench-tests-")  # outlines of data sets, never the user's
settings.register_profile("clbench", deadline=None)  # how fast a machine is decides no test
settings.load_profile("clbench")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it, and so would ours
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Two threads round differently from one; golden bytes are those of one."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _import_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line adds the working directory, which is another one in each test."""
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture(autouse=True, scope="session")
def _provenance_asked_once() -> None:
    """Which commit it is costs three processes a run; packages and the list of source files a third of a small one."""
    from clbench import source
    from clbench.results import provenance

    provenance._git = functools.cache(provenance._git)
    provenance.packages, source.files = _once(provenance.packages, dict), _once(source.files, tuple)


@pytest.fixture(autouse=True, scope="session")
def _short_estimates() -> None:
    """An estimate takes half a second of each run that speaks, and says the same after less."""
    from clbench.runner import estimate

    estimate._PROBE_S = 0.01


def _once(ask: Callable[[], Any], copied: type) -> Callable[[], Any]:
    """A function that asks at its first call, and returns a copy at each."""
    asked = functools.cache(lambda: copied(ask()))
    return lambda: copied(asked())


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Callable[[type], str]:
    """Makes a class importable, as a user's own is; returns its import path."""
    from support import user_module

    return lambda kind: f"{user_module(monkeypatch, kind)}:{kind.__name__}"


@pytest.fixture
def real_data(request: pytest.FixtureRequest) -> Path:
    """The data root, where it holds the sets that `@pytest.mark.needs("mnist")` names; else the test is skipped."""
    marker = request.node.get_closest_marker("needs")
    root = os.environ.get("CLBENCH_DATA", "")
    absent = [n for n in (marker.args if marker else ()) if not root or not (Path(root) / f"{n}.npz").is_file()]
    if absent:
        pytest.skip(f"needs {', '.join(absent)} in CLBENCH_DATA")
    return Path(root)


@pytest.fixture(scope="session")
def repository_files() -> list[str]:
    """See `checkout.files`."""
    return checkout.files()
