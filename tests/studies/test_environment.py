"""Environment of processes that train: threads that wait for each other sleep, unless the user says otherwise."""

from __future__ import annotations

import subprocess
import sys

import pytest

from clbench.studies.engines.environment import thread_variables, waiting

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_threads_wait_passively_in_every_engine() -> None:
    assert waiting() == {"OMP_WAIT_POLICY": "PASSIVE"}
    assert thread_variables(3) == {
        "OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3", "OMP_WAIT_POLICY": "PASSIVE",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_what_the_user_sets_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "5")
    assert waiting() == {}
    assert set(thread_variables(1)).isdisjoint({*NAMES} - {name})


def test_the_command_sets_it_before_torch_is_imported() -> None:
    script = (
        "import os, sys\n"
        "from clbench.cli import main\n"
        "assert 'OMP_WAIT_POLICY' not in os.environ\n"
        "main(['list', 'models'])\n"
        "assert 'torch' not in sys.modules\n"
        "assert os.environ['OMP_WAIT_POLICY'] == 'PASSIVE'\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
