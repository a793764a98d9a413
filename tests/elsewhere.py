"""The tests that a machine could decide, as on other machines: `make test-elsewhere`.

Other kernels of OpenBLAS and MKL, narrower instructions, other numbers of threads, hash seeds, locale, time zone, user
and folder, each by itself and with nothing to install. What is compared across machines is exact (metrics, statistics,
index lists, hashes); the last bits of weights differ between instruction sets, and tests compare those within one
machine only.

    python tests/elsewhere.py [NAME ...] [--all] [--jobs 2]     # NAME: settings; --all: the whole suite

In the two settings that need a copy of the checkout, another folder and another user, `--all` changes nothing: the
whole suite wants the copy installed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import checkout

SENSITIVE = (
    "config", "doctests", "failures", "numbers", "numerics", "oracle_of_losses", "reference", "reference_results",
    "rescore", "results", "score", "statistics", "streams", "strict_yaml", "supervision", "traces_of_measures",
    "verify",
)  # fmt: skip
"""Names of test files: hashes, index lists, metrics, files, and a row that is trained again."""

NOBODY = 65534


@dataclass(frozen=True)
class Setting:
    """A machine that is imitated.

    Attributes:
        variables: of the environment.
        blank: whether the suite lies in a folder with a blank in its name, laid out as installed.
        nobody: whether another user than root runs it.
    """

    variables: dict[str, str] = field(default_factory=dict)
    blank: bool = False
    nobody: bool = False


def settings() -> dict[str, Setting]:
    """All settings by name; those that this machine cannot imitate are left out by `obstacle`."""
    wide = " ".join(np.show_config(mode="dicts")["SIMD Extensions"].get("found", []))
    cores = ("Prescott", "Haswell", "Zen", "SkylakeX", "Cooperlake")
    made = {f"OpenBLAS {core}": Setting({"OPENBLAS_CORETYPE": core}) for core in cores}
    made |= {"NumPy without wide instructions": Setting({"NPY_DISABLE_CPU_FEATURES": wide})}
    made |= {f"torch {level}": Setting({"ATEN_CPU_CAPABILITY": level}) for level in ("avx2", "default")}
    made |= {"MKL compatible": Setting({"MKL_CBWR": "COMPATIBLE"})}
    made |= {"MKL without wide instructions": Setting({"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"})}
    made |= {f"threads {n}": Setting({"OMP_NUM_THREADS": n, "OPENBLAS_NUM_THREADS": n}) for n in ("1", "2")}
    made |= {f"hash seed {n}": Setting({"PYTHONHASHSEED": n}) for n in ("0", "1", "2")}
    other = {"LC_ALL": _locale(), "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TZ": "Asia/Kathmandu"}
    return made | {
        "locale and time zone": Setting(other),
        "folder with a blank": Setting(blank=True),
        "another user": Setting(nobody=True),
    }


def _locale() -> str:
    """One whose encoding is not UTF-8 if there is one; `C` reads ASCII here, since its coercion is switched off."""
    listed = subprocess.run(["locale", "-a"], capture_output=True, text=True, check=False).stdout.split()
    return next((name for name in listed if "8859" in name or "iso" in name.lower()), "C")


def obstacle(setting: Setting) -> str | None:
    """Why a setting cannot be imitated here; None where it can."""
    if not setting.nobody:
        return None
    if os.name != "posix" or os.geteuid() != 0:
        return "only root can become another user, and the suite is not run by root anyway"
    try:
        subprocess.run([sys.executable, "-c", "import pytest"], user=NOBODY, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return "another user cannot read this interpreter"
    return None


def run(name: str, setting: Setting, everything: bool) -> tuple[str, bool]:
    """A line on the tests under one setting, and whether all passed."""
    reason = obstacle(setting)
    if reason is not None:
        return f"{name:34} skipped: {reason}", True
    with tempfile.TemporaryDirectory(prefix="clbench-elsewhere-") as folder:
        home, environment = checkout.ROOT, {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE",)}
        if setting.blank or setting.nobody:
            home = Path(folder, "a folder" if setting.blank else "checkout")
            checkout.copy(checkout.files(), home, installed=True)
            environment |= {"PYTHONPATH": str(home)}
        if setting.nobody:
            environment |= {"HOME": folder, "TMPDIR": folder, "MPLCONFIGDIR": folder}
            for path in (Path(folder), *Path(folder).rglob("*")):
                os.chown(path, NOBODY, NOBODY)
        chosen = ["tests"]
        if not everything or home != checkout.ROOT:
            chosen = sorted(str(p.relative_to(home)) for n in SENSITIVE for p in home.glob(f"tests/**/test_{n}.py"))
        begin = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", *chosen],
            cwd=home, env=environment | setting.variables, user=NOBODY if setting.nobody else None,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        line = done.stdout.rstrip().rpartition("\n")[2] or done.stderr.rstrip().rpartition("\n")[2]
        if done.returncode:
            print(f"--- {name}\n{done.stdout[-6000:]}{done.stderr[-2000:]}", file=sys.stderr)
        return f"{name:34} {time.monotonic() - begin:5.0f} s   {line}", done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description="The tests as on other machines.")
    parser.add_argument("names", nargs="*", help="settings; default: all")
    parser.add_argument("--all", action="store_true", help="the whole suite under each: minutes each")
    parser.add_argument("--jobs", type=int, default=2, help="settings at a time; default 2")
    options = parser.parse_args()
    known = settings()
    unknown = sorted(set(options.names) - set(known))
    if unknown:
        parser.error(f"no setting {', '.join(unknown)}; allowed: {', '.join(known)}")
    passed = []
    with ThreadPoolExecutor(options.jobs) as pool:
        jobs = [pool.submit(run, name, known[name], options.all) for name in options.names or known]
        for job in jobs:
            line, good = job.result()
            print(line, flush=True)
            passed.append(good)
    return int(not all(passed))


if __name__ == "__main__":
    raise SystemExit(main())
