"""Run directories: paths, writers and readers of a run's files.

    OUT/<benchmark id>/<strategy>/<config hash>/seed-<n>/
        run.json      configuration, hashes, metrics, costs, provenance, status
        trace.npz     the whole trace, at the end
        predictions.npz  its predicted outputs
        weights.pt    with --keep weights: the final state dictionary
        strategy.pt   with --keep weights: the state of the strategy beside it
        trace/        chunks of it, during the run
        checkpoint/   the state that an unfinished run resumes from
        superseded/   1/, 2/, ...: files of finished runs that other code, other data or --force replaced
        .lock         while a process is running

Every file is written under a temporary name in its folder, flushed to the disk, and renamed; a reader sees the old
file or the new one, never half of one.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import re
import secrets
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from clbench.errors import UserError

SCHEMA = 1
"""Version of run.json."""

_KEYS = {
    "run_id", "status", "failure", "benchmark", "modified", "config", "definition_hash", "config_hash", "stream",
    "metrics", "primary_view", "weights_sha256", "memory", "access", "parameters", "costs", "provenance",
}  # fmt: skip

_BUSY_FILES = os.name == "nt"
"""True if a file cannot be replaced while another process has it open."""

_WAITS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Waiting times between attempts to replace a file that another process has open."""


def write_bytes(path: Path, *pieces: bytes | memoryview) -> None:
    """Writes a file whole or not at all.

    Raises:
        UserError: the folder cannot be written to, or the disk is full; an older file is unchanged.
    """
    with writing(path) as stream:
        for piece in pieces:
            stream.write(piece)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """An open file, which takes its name when the block ends; an older file stays as it is if the block fails.

    Raises:
        UserError: as `write_bytes`.
    """
    if path.is_dir():
        raise UserError(f"{path}: cannot be written: it is a folder.")
    # The token: containers that share a file system may both be process 1.
    temporary = path.absolute().with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        _replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise UserError(f"{path}: cannot be written: {error.strerror}.") from None


def _replace(temporary: Path, path: Path) -> None:
    """Replaces a file, on Windows once no process reads the older one."""
    for wait_s in _WAITS_S if _BUSY_FILES else ():
        try:
            os.replace(temporary, path)
        except PermissionError:
            time.sleep(wait_s)
        else:
            return
    os.replace(temporary, path)


def sweep(folder: Path) -> None:
    """Removes temporary files of killed processes below a folder that no other process uses."""
    for path in folder.rglob(".*.tmp"):
        with contextlib.suppress(OSError):
            path.unlink()


def write_json(path: Path, value: Any) -> None:
    """JSON with sorted keys; NaN is refused."""
    write_bytes(path, (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


def write_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> str:
    """A compressed npz whose bytes depend on the arrays alone (no time stamps). Returns their SHA-256."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(arrays):
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asanyarray(arrays[name]), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, member.getvalue(), compresslevel=6)
    write_bytes(path, buffer.getbuffer())
    return hashlib.sha256(buffer.getbuffer()).hexdigest()


def read_arrays(path: Path, without: tuple[str, ...] = ()) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file, nothing unpickled.

    Args:
        path: the file.
        without: arrays whose names begin so are not read.

    Raises:
        UserError: missing, damaged or truncated; the message names the file and the mistake.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            names = [name for name in archive.files if not name.startswith(without)]
            return {name: archive[name] for name in names}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: damaged or truncated ({error}).") from None


def read_run(directory: Path) -> dict[str, Any]:
    """A run.json.

    Raises:
        UserError: missing, damaged, or of a schema version that this program does not read.
    """
    path = directory / "run.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: damaged or truncated ({error}).") from None
    except RecursionError:
        raise UserError(f"{path}: damaged; nested too deeply.") from None
    if not isinstance(record, dict) or "schema_version" not in record:
        raise UserError(f"{path}: not a run of clbench; 'schema_version' is missing.")
    if record["schema_version"] != SCHEMA:
        raise UserError(f"{path}: schema version {record['schema_version']}, this program reads {SCHEMA}.")
    absent = sorted(_KEYS - record.keys())
    if absent:
        raise UserError(f"{path}: damaged; '{absent[0]}' is missing.")
    return record


PREDICTIONS = "predictions.npz"
"""File of the outputs predicted at the ends of experiences."""

WEIGHTS, STRATEGY = "weights.pt", "strategy.pt"
"""Files of final weights and of the state of the strategy."""

TRIALS = "trials"
"""Folder of the trials of hyper-parameter tuning."""


SUPERSEDED = "superseded"
"""Folder, in a run's own, of results that were replaced."""


def find_runs(root: Path, superseded: list[Path] | None = None) -> Iterator[Path]:
    """Directories of runs under a folder, ordered by name.

    Args:
        root: the folder. Trials, and results that were replaced, are left out unless it is one of theirs.
        superseded: directories of results that were replaced are added to it.
    """
    for path in sorted(root.rglob("run.json")):
        parts = path.relative_to(root).parts
        if SUPERSEDED in parts:
            if superseded is not None and TRIALS not in parts:
                superseded.append(path.parent)
        elif TRIALS not in parts:
            yield path.parent


OF_A_RUN = {
    "run.json", "trace.npz", PREDICTIONS, WEIGHTS, STRATEGY, "trace", "checkpoint", "accuracy.png", "tensorboard",
    "wandb",
}  # fmt: skip
"""Files and folders that clbench writes into a run's folder, beside replaced results and the lock."""


def checkpoint_updates(directory: Path) -> int | None:
    """Updates done before the newest checkpoint of an unfinished run; None where it has none."""
    names = (re.fullmatch(r"([0-9]{12})\.state", path.name) for path in (directory / "checkpoint").glob("*.state"))
    return max((int(name[1]) for name in names if name), default=None)


def supersede(directory: Path) -> Path:
    """Moves the files of a finished run to a new folder `superseded/<n>`; returns that.

    Moving run.json decides: a process that is killed before has changed nothing, and after one that is killed later
    `finish_superseding` moves the rest. Call it with the run's lock.

    Raises:
        UserError: the folder cannot be written to.
    """
    numbers = itertools.count(1)
    place = next(p for n in numbers if not (p := directory / SUPERSEDED / str(n)).joinpath("run.json").exists())
    try:
        place.mkdir(parents=True, exist_ok=True)
        _replace(directory / "run.json", place / "run.json")
    except OSError as error:
        raise UserError(f"{place}: cannot be written: {error.strerror}.") from None
    finish_superseding(directory)
    return place


_OF_THE_FOLDER = {SUPERSEDED, "checkpoint", "trace", ".lock"}
"""Entries of a run's folder that are not results."""


def finish_superseding(directory: Path) -> None:
    """Moves what is left of results whose run.json was moved already, if there is any.

    Raises:
        UserError: the folder cannot be written to.
    """
    moved = [p.parent for p in (directory / SUPERSEDED).glob("*/run.json") if p.parent.name.isdigit()]
    if (directory / "run.json").exists() or not moved:
        return
    place = max(moved, key=lambda path: int(path.name))
    for path in sorted(directory.iterdir()):
        if path.name in _OF_THE_FOLDER or path.name.endswith(".tmp") or (place / path.name).exists():
            continue
        try:
            _replace(path, place / path.name)
        except OSError as error:
            raise UserError(f"{place / path.name}: cannot be written: {error.strerror}.") from None
